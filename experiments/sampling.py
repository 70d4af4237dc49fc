"""The finished, or half finished, model of a run: what it came to, and text from it.

Nothing here imports Keras before it is needed: the command checks its arguments first.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from keras_deeplstm import validation
from keras_deeplstm.experiments import runs
from keras_deeplstm.experiments.runs import files
from keras_deeplstm.experiments.settings.base import ConfigError
from keras_deeplstm.experiments.tasks import DataError
from keras_deeplstm.experiments.tasks.text.sources import opening_of

if TYPE_CHECKING:
    from keras_deeplstm.text import Sampler


def check_sampled(folder: Path) -> None:
    """Raise `ConfigError` unless `folder` is a run with a model that can write text."""
    if not (folder / "config.json").exists():
        raise ConfigError(f"'{folder}' is not the folder of a run")
    run = runs.load(folder)
    if run.config is None:
        raise ConfigError(f"Run '{run.name}' is damaged: {run.reason}")
    if run.config.command != "train-text":
        raise ConfigError(
            f"Run '{run.name}' is one of task {run.config.subject!r}. Only runs of "
            f"`deeplstm train-text` can write text"
        )
    if not (folder / "best.keras").exists():
        raise ConfigError(
            f"Run '{run.name}' has no model yet: the first one is kept after the first evaluation"
        )


def load_sampler(folder: Path) -> tuple["Sampler", str | bytes]:
    """The sampler with the best model of a run, see `check_sampled`, and its `opening_of`."""
    from keras_deeplstm.text import Sampler, Vocabulary

    check_sampled(folder)
    try:
        known = files.read_json(folder / "vocabulary.json")
        Vocabulary.from_config(known)
        opening = opening_of(known)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"'{folder / 'vocabulary.json'}' is damaged: {error}") from None
    path = folder / "best.keras"
    try:
        return Sampler.load(folder), opening
    except Exception as error:  # zipfile, HDF5, JSON and Keras each have errors of their own
        # Keras quotes the whole config of the model before it says why.
        reason = str(error).rpartition("Exception encountered: ")[2]
        raise DataError(
            f"'{path}' is damaged, or not of this run: {validation.shown(reason)}"
        ) from None
