"""Train the model of one run and leave its results in the run's folder.

A run that was interrupted goes on after its last checkpoint and ends, on the same machine and
backend, with the same bits as one that was not: weights, optimizer and the seeds of dropout are
restored, so is what the callbacks have recorded, and the order of the data depends on nothing but
the run's seed and the number of the epoch.
"""

import gc
import math
import statistics
import traceback
import warnings
from collections.abc import Callable
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import keras

from keras_deeplstm import models
from keras_deeplstm.experiments import runs
from keras_deeplstm.experiments.processes import signals
from keras_deeplstm.experiments.runs import (
    checkpoints,
    files,
)
from keras_deeplstm.experiments.settings import Config
from keras_deeplstm.experiments.settings.base import ConfigError
from keras_deeplstm.experiments.settings.classifiers import RunConfig
from keras_deeplstm.experiments.tasks import get_task
from keras_deeplstm.experiments.training import recorders
from keras_deeplstm.experiments.training.batches import Shuffled
from keras_deeplstm.experiments.training.devices import (
    even_parts,
    number_of_devices,
    using_devices,
)
from keras_deeplstm.experiments.training.journal import (
    DivergedError,
    Journal,
)

# The share of the training time that checkpoints may take; so long epochs all get one.
CHECKPOINT_SHARE = 0.02
EVALUATED = 32  # examples at a time, without gradients


def train(
    config: RunConfig,
    folder: Path,
    *,
    data_dir: Path | None = None,
    command: str = "",
    overwrite: bool = False,
    checkpoint_share: float = CHECKPOINT_SHARE,
    devices: str = "one",
    on_epoch: Callable[[dict[str, Any]], None] | None = None,
    on_message: Callable[[str], None] = warnings.warn,
) -> dict[str, Any]:
    """Train, evaluate and record one run; go on with it if it was interrupted.

    Args:
        config: The settings.
        folder: The run's folder.
        data_dir: Folder with data sets; None leaves the place to the task.
        command: How the run was started, for the record.
        overwrite: Replace the run that is in `folder`.
        checkpoint_share: After an epoch a checkpoint is written unless checkpoints have taken more
            than this share of the time so far. With 1 there is one after every epoch.
        devices: "one", or "all" of this machine, each with its part of every batch.
        on_epoch: Called after each epoch with its row of `metrics.csv`.
        on_message: Called with what the user should know: where the run goes on, and which
            checkpoints are damaged.

    Returns:
        What `result.json` holds. A run that is finished already is not trained again.

    Raises:
        DataError: The task's data are absent or damaged; no folder is made.
        ConfigError: The model refuses an option, or the batch size does not suit the devices; no
            folder is made.
        RunExistsError: Another process trains this run, the folder holds something else, or the
            data are no longer those with which the run was started.
        CheckpointError: There are checkpoints, but all are damaged.
        DivergedError: The loss became NaN or infinite, now or when the run was last started;
            `result.json` says so.
        Interrupted: SIGINT or SIGTERM came; the last checkpoint is where the run will go on.
        OSError: Something could not be written. `result.json` says so, if that can be written.

    Example:

    >>> import pathlib, tempfile
    >>> from keras_deeplstm.experiments import ModelConfig, RunConfig, runs
    >>> from keras_deeplstm.experiments.training import classifiers as training
    >>> model = ModelConfig("dense", depth=2, units=4)
    >>> folder = pathlib.Path(tempfile.mkdtemp(), "first")
    >>> result = training.train(RunConfig("digits", model, epochs=1, batch_size=512), folder)
    >>> result["state"], result["parameters"], 0 < result["test_accuracy"] < 1
    ('finished', 330, True)
    >>> len(runs.load(folder).metrics), (folder / "model.keras").exists()
    (1, True)
    """
    task = get_task(config.task)
    data = task.load(data_dir)
    digest = data.digest()
    keras.backend.clear_session()
    keras.utils.set_random_seed(config.seed)
    with using_devices(devices):
        try:
            if config.batch_size % number_of_devices():
                raise ValueError(
                    f"Argument `batch_size` must be a multiple of the number of devices, "
                    f"{number_of_devices()}. Received: batch_size={config.batch_size}"
                )
            if config.folds is not None:
                data = data.fold(config.fold, config.folds)
            build = getattr(models, config.model.builder)
            model = build(*task.sizes(data), **config.model.build_arguments())
        except ValueError as error:
            raise ConfigError(str(error)) from error
        optimizer = _optimizer(config, len(data.train[0]))
        optimizer.build(model.trainable_variables)
        model.compile(
            optimizer,
            loss=keras.losses.get(task.loss),
            metrics=[task.metric],
            jit_compile="auto" if config.jit_compile is None else config.jit_compile,
        )

        return attempt(
            lambda run: _fit(model, task, data, run, checkpoint_share, on_epoch, on_message),
            config,
            folder,
            command,
            overwrite,
            digest,
        )


def attempt(
    work: Callable[[runs.Run], dict[str, Any]],
    config: Config,
    folder: Path,
    command: str,
    overwrite: bool,
    data: str,
) -> dict[str, Any]:
    """Do the work of a run under its lock, unless it is finished, and record why it failed.

    Args:
        work: Trains; its argument is the run as found on disk.
        config, folder, command, overwrite: As for `train`.
        data: A checksum of the run's data.

    Returns:
        What `work` has returned, or the result of the finished run.

    Raises:
        RunExistsError: Another process trains this run, the folder holds something else, or the
            data are no longer those with which the run was started.
        DivergedError: The run has diverged when it was last started.
        Exception: What `work` raises; `result.json` says so, if that can be written.
    """
    with runs.lock(folder):
        run = runs.begin(folder, config, command, overwrite, data)
        if run.state == "finished":
            return run.result
        if run.state == "diverged":
            raise DivergedError(run.reason)
        try:
            result = work(run)
        except Exception as error:
            result = {"state": "failed", "reason": f"{type(error).__name__}: {error}"[:1000]}
            result["traceback"] = traceback.format_exc()
            if isinstance(error, DivergedError):
                result = {"state": "diverged", "reason": str(error)}
            with suppress(OSError):  # on a full disk; then the first error is the one to report
                files.write_json(folder / "result.json", result)
            raise
        with suppress(OSError):  # a finished run has not failed: it is tidied when next looked at
            runs.tidy(folder)
        return result


def _optimizer(config, examples):
    learning_rate = config.learning_rate
    if config.schedule == "cosine":
        steps = config.epochs * math.ceil(examples / config.batch_size)
        learning_rate = keras.optimizers.schedules.CosineDecay(learning_rate, steps)
    return optimizer_with(config, learning_rate)


def optimizer_with(
    config: Config, learning_rate: Any, **settings: Any
) -> keras.optimizers.Optimizer:
    """The optimizer of a run with its clipping, a learning rate or schedule, and other settings."""
    settings |= {
        "learning_rate": learning_rate,
        "clipnorm": config.clipnorm,
        "clipvalue": config.clipvalue,
    }
    return keras.optimizers.get({"class_name": config.optimizer, "config": settings})


def _fit(model, task, data, run, checkpoint_share, on_epoch, on_message):
    folder, config = run.folder, run.config
    samples = len(data.train[0])
    if config.batch_size > samples:
        on_message(f"batch_size={config.batch_size} exceeds {samples} samples; one batch per epoch")
    parts = number_of_devices()
    train_data = Shuffled(*data.train, config.batch_size, config.seed, parts)
    evaluated = EVALUATED // parts * parts or parts
    recording = recorders.make(config, model, data, folder)
    checkpoint = last_checkpoint(run, on_message, "epoch {}".format)

    with signals.delayed() as check_signals:
        journal = Journal(folder, train_data, recording, check_signals, on_epoch, checkpoint_share)
        journal.set_model(model)
        if checkpoint is not None:
            journal.restore(checkpoint)
            on_message(
                f"Run '{run.name}' goes on after epoch {checkpoint.epoch} of {config.epochs}"
            )
        with iterators_end_with_errors():
            model.fit(
                train_data,
                validation_data=even_parts(data.validation),
                validation_batch_size=evaluated,
                initial_epoch=checkpoint.epoch if checkpoint else 0,
                epochs=config.epochs,
                verbose=0,
                shuffle=False,
                callbacks=[*recording.values(), journal],
            )
        test = model.evaluate(
            *even_parts(data.test),
            batch_size=evaluated,
            verbose=0,
            return_dict=True,
            callbacks=[journal],
        )
        seconds = journal.elapsed()

        numbers = recorders.write(recording, config, folder)
        with files.atomic(folder / "model.keras") as path:
            model.save(path)
        later = [row["seconds"] for row in journal.rows[1:]]  # the first epoch compiles
        result = {
            "state": "finished",
            "test_accuracy": test[task.metric],
            "test_loss": test["loss"],
            "val_accuracy": journal.rows[-1][f"val_{task.metric}"],
            "parameters": model.count_params(),
            "epochs": config.epochs,
            "seconds": round(seconds, 2),
            "seconds_per_epoch": statistics.median(later) if later else None,
            **numbers,
            "resumed_after_epochs": journal.resumed_after,
        }
        files.write_json(folder / "result.json", result)
    return result


@contextmanager
def iterators_end_with_errors():
    """When an error ends `fit`, also end TensorFlow's thread that fetches the next batch.

    The frames of the error keep its iterator alive. If that lasted to the end of the process, the
    thread would wait for Python and Python for the thread, forever.
    """
    try:
        yield
    except BaseException as error:
        traceback.clear_frames(error.__traceback__)
        gc.collect()
        raise


def last_checkpoint(
    run: runs.Run, on_message: Callable[[str], None], epoch_name: Callable[[int], str]
) -> checkpoints.Checkpoint | None:
    """The newest intact checkpoint of a run, if it has one; says which ones are damaged."""
    checkpoint, damaged = checkpoints.newest(run.folder / "checkpoints")
    for epoch in damaged:
        on_message(f"The checkpoint after {epoch_name(epoch)} of run '{run.name}' is damaged")
    return checkpoint
