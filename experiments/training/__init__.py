"""Training: the one front door for runs of all kinds."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from keras_deeplstm.experiments.settings import Settings
from keras_deeplstm.experiments.training import classifiers, sequences, session, text
from keras_deeplstm.experiments.training.session import CHECKPOINT_SHARE

__all__ = ["prepare", "train"]

KINDS: dict[str, Callable[[Any, Path | None], session.Training]] = {
    "run": classifiers.Training,
    "train-text": text.Training,
    "solve": sequences.training_of,
}


def prepare(config: Settings, data_dir: Path | None = None) -> session.Training:
    """Read the data of a run, or raise a DataError; what is returned knows the model's size."""
    return KINDS[config.command](config, data_dir)


def train(
    config: Settings,
    folder: Path,
    *,
    data_dir: Path | None = None,
    command: str = "",
    overwrite: bool = False,
    checkpoint_share: float = CHECKPOINT_SHARE,
    devices: str = "one",
    tensorboard: bool = False,
    beside: Path | None = None,
    on_epoch: Callable[[dict[str, Any]], None] | None = None,
    on_step: Callable[[int, int | None, float], None] | None = None,
    on_message: Callable[[str], None] = warnings.warn,
) -> dict[str, Any]:
    """Train, evaluate and record one run of any kind; go on with it if it was interrupted.

    Args:
        config: The settings.
        folder: The run's folder.
        data_dir: Folder with data sets; None leaves the place to the task.
        command: How the run was started, for the record.
        overwrite: Replace the run that is in `folder`.
        checkpoint_share: After an epoch, or what is reported in its place, a checkpoint is written
            unless checkpoints have taken more than this share of the time so far. With 1 there is
            one after every epoch.
        devices: "one", or for a `RunConfig` "all" of this machine, each with its part of every
            batch.
        tensorboard: Also write the rows of `metrics.csv`, and what `gradient_flow.csv` holds, to
            the folder `tensorboard` in that of the run.
        beside: Folder of a finished run with which this one is to be compared; it must have had the
            same data.
        on_epoch: Called after each of them with its row of `metrics.csv`. That of a text also has
            the "sample" that was drawn, "" if there is none.
        on_step: Called some times a second, within an epoch or what is reported in its place, with
            the number of training steps done, that of all or None, and the mean loss of these.
        on_message: Called with what the user should know: where the run goes on, and which
            checkpoints are damaged.

    Returns:
        What `result.json` holds. A run that is finished already is not trained again. One on a
        sequence task that diverges is finished: it has not solved the task.

    Raises:
        DataError: The data are absent, damaged or too few; no folder is made.
        ConfigError: The model refuses an option or does not fit its budget, or the batch size does
            not suit the devices; no folder is made.
        RunExistsError: Another process trains this run, the folder holds something else, or the
            data are no longer those with which the run was started, or those of the one `beside`.
        CheckpointError: There are checkpoints, but all are damaged.
        DivergedError: The loss became NaN or infinite, now or when the run was last started;
            `result.json` says so.
        Interrupted: SIGINT or SIGTERM came; the last checkpoint is where the run will go on.
        OSError: Something could not be written. `result.json` says so, if that can be written.

    Example:

    >>> import pathlib, tempfile
    >>> from keras_deeplstm.experiments import ModelConfig, RunConfig, runs, training
    >>> model = ModelConfig("dense", depth=2, units=4)
    >>> folder = pathlib.Path(tempfile.mkdtemp(), "first")
    >>> result = training.train(RunConfig("digits", model, epochs=1, batch_size=512), folder)
    >>> result["state"], result["parameters"], 0 < result["test_accuracy"] < 1
    ('finished', 330, True)
    >>> len(runs.load(folder).metrics), (folder / "model.keras").exists()
    (1, True)
    """
    return session.train(
        prepare(config, data_dir),
        config,
        folder,
        command=command,
        overwrite=overwrite,
        checkpoint_share=checkpoint_share,
        devices=devices,
        tensorboard=tensorboard,
        beside=beside,
        on_epoch=on_epoch,
        on_step=on_step,
        on_message=on_message,
    )
