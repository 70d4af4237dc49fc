"""Train the model of one run and leave its results in the run's folder."""

import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import pandas as pd

from keras_deeplstm.callbacks import FilterImages, GradientFlow
from keras_deeplstm.callbacks.gradient_plots import first_last_ratio
from keras_deeplstm.experiments import runs
from keras_deeplstm.experiments.config import ConfigError, RunConfig
from keras_deeplstm.experiments.tasks import get_task
from keras_deeplstm.models import classifier


class _EpochLog(keras.callbacks.Callback):
    """Writes `metrics.csv` after each epoch, stops a run whose loss is no longer a number."""

    def __init__(self, path, on_epoch):
        super().__init__()
        self.path = path
        self.on_epoch = on_epoch
        self.rows = []

    def on_epoch_begin(self, epoch, logs=None):
        self.started = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        seconds = round(time.perf_counter() - self.started, 3)
        row = {"epoch": epoch + 1, "loss": logs["loss"], **logs, "seconds": seconds}
        self.rows.append(row)
        runs.write_text(self.path, pd.DataFrame(self.rows).to_csv(index=False))
        if not math.isfinite(row["loss"]):
            raise FloatingPointError(f"The loss became {row['loss']} in epoch {epoch + 1}")
        if self.on_epoch is not None:
            self.on_epoch(row)


def train(
    config: RunConfig,
    folder: Path,
    *,
    data_dir: Path | None = None,
    command: str = "",
    on_epoch: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Train, evaluate and record one run.

    Args:
        config: The settings.
        folder: The run's folder. A run that is already there is replaced.
        data_dir: Folder with data sets; None leaves the place to the task.
        command: How the run was started, for the record.
        on_epoch: Called after each epoch with its row of `metrics.csv`.

    Returns:
        What `result.json` holds.

    Raises:
        DataError: The task's data are absent or damaged; no folder is made.
        ConfigError: The model refuses an option; no folder is made.
        FloatingPointError: The loss became NaN or infinite; `result.json` says so.
    """
    task = get_task(config.task)
    data = task.load(data_dir)
    keras.backend.clear_session()
    keras.utils.set_random_seed(config.seed)
    try:
        model = classifier(task.input_shape, task.num_classes, **config.model.build_arguments())
    except ValueError as error:
        raise ConfigError(str(error)) from error
    settings = {"learning_rate": config.learning_rate, "clipnorm": config.clipnorm}
    optimizer = keras.optimizers.get({"class_name": config.optimizer, "config": settings})
    model.compile(optimizer, loss=keras.losses.get(task.loss), metrics=[task.metric])

    runs.start(folder, config, command)
    gradients = GradientFlow(every=config.gradient_every)
    epochs = _EpochLog(folder / "metrics.csv", on_epoch)
    started = time.perf_counter()
    try:
        model.fit(
            *data.train,
            validation_data=data.validation,
            epochs=config.epochs,
            batch_size=config.batch_size,
            verbose=0,
            callbacks=[
                gradients,
                FilterImages(folder / "filters", every=config.epochs),
                epochs,
            ],
        )
        test = model.evaluate(*data.test, verbose=0, return_dict=True)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"[:1000]
        runs.write_json(folder / "result.json", {"state": "failed", "reason": reason})
        raise
    seconds = time.perf_counter() - started

    frame = gradients.to_frame()
    runs.write_text(folder / "gradient_flow.csv", frame.to_csv(index=False))
    with runs.atomic(folder / "model.keras") as path:
        model.save(path)
    # Without the weights that are not stacked over depth: a tied model has no ratio.
    ratios = first_last_ratio(frame[frame["depth"].notna()])["ratio"]
    # Single batches differ much once the loss is small.
    late = ratios.tail(max(1, len(ratios) // 10))
    later = [row["seconds"] for row in epochs.rows[1:]]  # the first epoch compiles
    result = {
        "state": "finished",
        "test_accuracy": test[task.metric],
        "test_loss": test["loss"],
        "parameters": model.count_params(),
        "epochs": config.epochs,
        "seconds": round(seconds, 2),
        "seconds_per_epoch": statistics.median(later) if later else None,
        "gradient_ratio_start": _finite(ratios.head(1).median()),
        "gradient_ratio_end": _finite(late.median()),
    }
    runs.write_json(folder / "result.json", result)
    return result


def _finite(value):
    return float(value) if math.isfinite(value) else None
