"""The command `deeplstm`.

Keras, pandas and matplotlib take seconds to import. They are imported inside the commands that
need them, so that `deeplstm --help`, `deeplstm list` and a mistyped option answer at once.
"""

import os
import shlex
import sys
import traceback
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Annotated, Literal

import tyro

from keras_deeplstm.experiments import runs
from keras_deeplstm.experiments.config import ConfigError, RunConfig
from keras_deeplstm.experiments.studies import STUDIES, outcome, ratio_text, run_study
from keras_deeplstm.experiments.tasks import TASKS, DataError

DESCRIPTION = """Experiments with LSTMs along the depth of a network.

Every command explains its options with --help. --debug, anywhere, shows the full traceback of an
error. --version shows the version."""

EXIT_STATUS = {ConfigError: 2, runs.RunExistsError: 3, DataError: 4}

Folder = Annotated[Path | None, tyro.conf.arg(metavar="DIR")]


def run(
    config: Annotated[RunConfig, tyro.conf.arg(name="")],
    *,
    name: str | None = None,
    data_dir: Folder = None,
    runs_dir: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("runs"),
    overwrite: bool = False,
):
    """Train one model on one task.

    Args:
        config: The settings.
        name: Name of the run's folder; made from the settings if not given.
        data_dir: Folder with data sets; else DEEPLSTM_DATA, else Keras' cache.
        runs_dir: Where the run's folder is made.
        overwrite: Replace the run of that name.
    """
    folder = runs_dir / (runs.check_name(name) if name else runs.new_name(runs_dir, config))
    runs.check_free(folder, overwrite)
    with _quiet_import():
        from keras_deeplstm.experiments.training import train

    def show(row):
        print(
            f"epoch {row['epoch']} of {config.epochs}  loss {row['loss']:.4f}  "
            f"val_accuracy {row['val_accuracy']:.1%}  {row['seconds']:.1f} s",
            flush=True,
        )

    print(config.title, flush=True)
    result = train(config, folder, data_dir=data_dir, command=_command(), on_epoch=show)
    print(outcome(config, result))
    _report([folder])


