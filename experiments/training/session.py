"""What every training does, once: seed, devices, lock, resume, signals, checkpoints, result.

A run that was interrupted goes on after its last checkpoint and ends, on the same machine and
backend, with the same bits as one that was not: weights, optimizer and the seeds of dropout are
restored, so is what the callbacks have recorded, and the data of an epoch depend on nothing but the
run's seed and the number of the epoch.
"""

import gc
import math
import time
import traceback
from collections.abc import Callable
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import keras

from keras_deeplstm.callbacks.tensorboard import TensorBoardWriter
from keras_deeplstm.experiments import runs
from keras_deeplstm.experiments.processes import signals
from keras_deeplstm.experiments.runs import checkpoints, files
from keras_deeplstm.experiments.settings import ConfigError, Settings, config_errors
from keras_deeplstm.experiments.training.devices import using_devices
from keras_deeplstm.experiments.training.journal import DivergedError, Journal

# The share of the training time that checkpoints may take; so long epochs all get one.
CHECKPOINT_SHARE = 0.02
Row = dict[str, Any]  # of metrics.csv
OnStep = Callable[[int, int | None, float], None]
PAUSE = 0.2  # seconds between two calls


class Training(Protocol):
    """What a kind of run adds. It reads its data when it is made."""

    digest: str
    """A checksum of the data."""
    parallel: bool
    """Whether it can use several devices."""

    def design(self) -> Callable[[], keras.Model] | None:
        """The builder of the model with all of its arguments, for `models.count_parameters`."""

    def build(self) -> None:
        """Make and compile the model; a ValueError says what the settings have wrong."""

    def work(self, session: "Session") -> dict[str, Any]:
        """Train, evaluate, write files but `result.json`, and return what that is to hold."""


class Steps(keras.callbacks.Callback):
    """Calls `on_step` some times a second, and at the end of each epoch."""

    def __init__(self, on_step: OnStep):
        super().__init__()
        self.on_step, self.said = on_step, 0.0

    def on_train_batch_end(self, batch, logs=None):
        """Say where the epoch is."""
        steps, now = self.params.get("steps"), time.monotonic()
        if now - self.said > PAUSE or batch + 1 == steps:
            self.said = now
            self.on_step(batch + 1, steps, float((logs or {}).get("loss", math.nan)))


class Session:
    """One process at the work of a run, whose lock it holds."""

    journal: Journal  # since `resume`, as are these
    epochs: int

    def __init__(
        self,
        run: runs.Run,
        counted: str,
        share: float,
        on_epoch: Callable[[Row], None] | None,
        on_step: OnStep | None,
        on_message: Callable[[str], None],
        check_signals: Callable[[], None],
        log: Callable[[dict[str, float], int], None] | None,
    ):
        self.name, self.folder = run.name, run.folder
        self.log, self.counted = log, counted
        self.share, self.on_epoch = share, on_epoch
        self.watchers = [Steps(on_step)] if on_step else []
        self.on_message, self.check_signals = on_message, check_signals

    def resume(
        self,
        model: keras.Model,
        data: Any,
        recorders: dict[str, Any],
        epochs: int,
        epoch_name: Callable[[int], str] = "epoch {}".format,
        last: str = "",
    ) -> Journal:
        """Put back what the last intact checkpoint holds, if there is one.

        The data have `set_epoch(epoch)`; the recorders, callbacks in the order of `fit`, have
        `get_state` and `set_state`. `epoch_name(n)` and `last` are words for messages.
        """
        self.epochs, self.journal = epochs, Journal(self, data, recorders, epoch_name)
        self.journal.set_model(model)
        checkpoint, damaged = checkpoints.newest(self.folder / "checkpoints")
        for epoch in damaged:
            where = epoch_name(epoch)
            self.on_message(f"The checkpoint after {where} of run '{self.name}' is damaged")
        if checkpoint is not None:
            self.journal.restore(checkpoint)
            where = f"{epoch_name(checkpoint.epoch)} of {last or epochs}"
            self.on_message(f"Run '{self.name}' goes on after {where}")
        for row in self.journal.rows:
            self.log_row(row)
        return self.journal

    def log_row(self, row: Row) -> None:
        """Write the numbers of a row of `metrics.csv` for TensorBoard, if they are wanted."""
        if self.log is not None:
            step = row[self.counted]
            values = {k: v for k, v in row.items() if isinstance(v, float | int)}
            self.log({k: v for k, v in values.items() if k != self.counted}, step)

    def fit(self, **arguments: Any) -> None:
        """Train from there on; `arguments` are further ones of `fit`."""
        journal = self.journal
        with iterators_end_with_errors():
            journal.model.fit(
                journal.data,
                initial_epoch=journal.first,
                epochs=self.epochs,
                verbose=0,
                shuffle=False,
                callbacks=[*journal.recorders.values(), *self.watchers, journal],
                **arguments,
            )

    def save(self, model: keras.Model, name: str = "model.keras") -> None:
        """Write a model into the run's folder."""
        with files.atomic(self.folder / name) as path:
            model.save(path)


def train(
    training: Training,
    config: Settings,
    folder: Path,
    *,
    command: str,
    overwrite: bool,
    checkpoint_share: float,
    devices: str,
    tensorboard: bool,
    beside: Path | None,
    on_epoch: Callable[[Row], None] | None,
    on_step: OnStep | None,
    on_message: Callable[[str], None],
) -> dict[str, Any]:
    """Train, evaluate and record one run; see `experiments.training.train`."""
    if devices != "one" and not training.parallel:
        raise ConfigError(f"`deeplstm {config.command}` trains on one device")
    if beside is not None:
        runs.check_same_data(beside, training.digest)
    keras.backend.clear_session()
    keras.utils.set_random_seed(config.seed)
    with using_devices(devices):
        with config_errors():
            training.build()
        with runs.lock(folder):
            run = runs.begin(folder, config, command, overwrite, training.digest)
            if run.state == "finished":
                return run.result
            if run.state == "diverged":
                raise DivergedError(run.reason)
            with (
                _failures_recorded(folder),
                _event_files(folder / "tensorboard", tensorboard) as log,
                signals.delayed() as check_signals,
            ):
                session = Session(
                    run, config.COUNTED, checkpoint_share, on_epoch, on_step, on_message,
                    check_signals, log,
                )  # fmt: skip
                result = {"state": "finished", **training.work(session)}
                files.write_json(folder / "result.json", result)
            with suppress(OSError):  # a finished run has not failed: it is tidied when next seen
                runs.tidy(folder)
            return result


@contextmanager
def _event_files(folder, wanted):
    """Gives a function of scalars and their step, which writes them for TensorBoard; or None.

    The files of an earlier process are removed: they may go beyond its last checkpoint. `resume`
    writes again what that holds, so that no step is there twice.
    """
    if not wanted:
        yield None
        return
    runs.remove([folder])
    writer = TensorBoardWriter(folder)
    try:
        yield writer.scalars
    finally:
        writer.close()


@contextmanager
def _failures_recorded(folder):
    """Inside, an error is written to `result.json`, if anything can be written, and raised."""
    try:
        yield
    except Exception as error:
        result = {"state": "failed", "reason": f"{type(error).__name__}: {error}"[:1000]}
        result["traceback"] = traceback.format_exc()
        if isinstance(error, DivergedError):
            result = {"state": "diverged", "reason": str(error)}
        with suppress(OSError):  # on a full disk; then the first error is the one to report
            files.write_json(folder / "result.json", result)
        raise


def optimizer_of(
    config: Settings, steps: int, schedule: Any = None, *, warmup: Any = 0, **settings: Any
) -> keras.optimizers.Optimizer:
    """The optimizer of the settings for so many training steps, with its rate and clipping.

    `schedule` is the learning rate if its schedule is one that only this kind of run has; `warmup`
    are the first steps of a cosine, in which it rises.
    """
    rate = config.learning_rate if schedule is None else schedule
    if config.schedule == "cosine" and warmup:
        rate = keras.optimizers.schedules.CosineDecay(
            0.0, max(steps - warmup, 1), warmup_target=rate, warmup_steps=warmup
        )
    elif config.schedule == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(rate, steps)
    settings |= {"learning_rate": rate}
    settings |= {"clipnorm": config.clipnorm, "clipvalue": config.clipvalue}
    return keras.optimizers.get({"class_name": config.optimizer, "config": settings})


def compile_model(
    model: keras.Model, config: Settings, optimizer: Any, loss: Any, metrics: Any = None
) -> None:
    """Build the optimizer, so that a checkpoint can be restored before `fit`, and compile."""
    optimizer.build(model.trainable_variables)
    jit_compile = "auto" if config.jit_compile is None else config.jit_compile
    model.compile(optimizer, loss=loss, metrics=metrics, jit_compile=jit_compile)


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
