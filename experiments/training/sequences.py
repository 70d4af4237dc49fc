"""Train a run on a sequence task until it is solved, and leave its results in the run's folder.

The sequences of a step are drawn from a generator that is seeded with the run's seed and the number
of the step, those of an evaluation with that of the evaluation. An interrupted run therefore ends
with the same bits as one that was not, as `experiments.training` says of others.
"""

import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd

from keras_deeplstm import models
from keras_deeplstm.experiments.processes import signals
from keras_deeplstm.experiments.runs import files
from keras_deeplstm.experiments.settings.base import ConfigError
from keras_deeplstm.experiments.settings.sequences import (
    OVER_TIME,
    SequenceConfig,
)
from keras_deeplstm.experiments.tasks.sequences.task import (
    SequenceTask,
    activated,
)
from keras_deeplstm.experiments.training import guessing
from keras_deeplstm.experiments.training.classifiers import (
    CHECKPOINT_SHARE,
    attempt,
    iterators_end_with_errors,
    last_checkpoint,
    optimizer_with,
)
from keras_deeplstm.experiments.training.journal import (
    DivergedError,
    Journal,
)
from keras_deeplstm.initializers import GateBias

PADDING = -1000.0  # of all features of the steps after a sequence's end; no task has such inputs
TRAINING, EVALUATION, TEST = range(3)  # what a generator is for
AT_ONCE = 256  # sequences of an evaluation that are predicted together, or fewer that have so
NUMBERS = 2**25  # many numbers as inputs


def train(
    config: SequenceConfig,
    folder: Path,
    *,
    data_dir: Path | None = None,
    command: str = "",
    overwrite: bool = False,
    checkpoint_share: float = CHECKPOINT_SHARE,
    on_epoch: Callable[[dict[str, Any]], None] | None = None,
    on_message: Callable[[str], None] = warnings.warn,
) -> dict[str, Any]:
    """Train, evaluate and record one run; go on with it if it was interrupted.

    Args:
        config: The settings.
        folder: The run's folder.
        data_dir: Folder with data sets, for a task that reads any.
        command, overwrite, checkpoint_share, on_message: As for `experiments.training.train`.
        on_epoch: Called after each evaluation with its row of `metrics.csv`.

    Returns:
        What `result.json` holds. A run that is finished already is not trained again. One that
        diverges is finished: it has not solved the task.

    Raises:
        ConfigError: The model refuses an option, or does not fit the budget; no folder is made.
        DataError: The task's data are absent or damaged; no folder is made.
        RunExistsError, CheckpointError, Interrupted, OSError: As `experiments.training.train`.
    """
    keras.backend.clear_session()
    keras.utils.set_random_seed(config.seed)
    task = config.make_task().reading(data_dir)
    if config.model.block == "guess":
        return attempt(
            lambda run: _guess(task, run, on_epoch),
            config,
            folder,
            command,
            overwrite,
            task.checksum,
        )
    try:
        model = make_model(config, task)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    losses = {
        "softmax": keras.losses.CategoricalCrossentropy(from_logits=True),
        "sigmoid": keras.losses.BinaryCrossentropy(from_logits=True),
        "linear": keras.losses.MeanSquaredError(),
    }
    optimizer = make_optimizer(config)
    optimizer.build(model.trainable_variables)
    jit = "auto" if config.jit_compile is None else config.jit_compile
    model.compile(optimizer, losses[task.readout], jit_compile=jit)
    options = (checkpoint_share, on_epoch, on_message)
    return attempt(
        lambda run: _fit(model, task, run, *options),
        *(config, folder, command, overwrite, task.checksum),
    )


def make_model(config: SequenceConfig, task: SequenceTask) -> keras.Model:
    """The model with linear outputs, as `Batch.x` and `Batch.y` of the task need it."""
    arguments = config.model.build_arguments()
    if config.model.block not in OVER_TIME:
        return models.classifier(
            (task.features,), task.outputs, input_noise=config.input_noise, **arguments
        )
    if config.model.block == "lstm":  # as our layers do it by themselves
        biases = arguments.pop("input_gate_bias", 0.0), arguments.pop("forget_bias", 1.0)
        arguments["bias_initializer"] = GateBias(*biases)
        arguments["unit_forget_bias"] = False
    return models.sequence_regressor(
        task.features,
        task.outputs,
        mask_value=PADDING,
        input_noise=config.input_noise,
        return_sequences=task.sample(np.random.default_rng(0), 1).y.ndim == 3,
        **arguments,
    )


def make_optimizer(config: SequenceConfig) -> keras.optimizers.Optimizer:
    """The optimizer with its learning rate, whose schedule is a function of the step."""
    rate = config.learning_rate
    steps = config.parts * config.steps_of_part
    if config.schedule == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(rate, steps)
    elif config.schedule == "step":
        rate = keras.optimizers.schedules.ExponentialDecay(
            rate, max(1, config.decay_every // config.batch_size), config.decay, staircase=True
        )
    momentum = {"momentum": config.momentum} if config.momentum else {}
    return optimizer_with(config, rate, **momentum)


class Fresh(keras.utils.PyDataset):
    """New sequences of a task at each step.

    Args:
        config: The settings of a run.
        task: Its task.
    """

    def __init__(self, config, task):
        super().__init__()
        self.config, self.task = config, task
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Go to the begin of this part, counted from 0."""
        self.first = epoch * self.config.steps_of_part

    def __len__(self):
        return self.config.steps_of_part

    def __getitem__(self, index):
        generator = np.random.default_rng([self.config.seed, TRAINING, self.first + index])
        batch = self.task.sample(generator, self.config.batch_size)
        if batch.weight is None:
            return inputs_of(batch), batch.y
        return inputs_of(batch), batch.y, batch.weight


def inputs_of(batch) -> np.ndarray:
    """The inputs of a model of `make_model`: x, with padding after the ends of sequences."""
    if batch.mask is None:
        return batch.x
    return np.where(batch.mask[..., None], batch.x, np.float32(PADDING))


def examine(predict, task, generator, *, sequences=None) -> dict[str, Any]:
    """Compare a model with a task's criterion on test sequences.

    Args:
        predict: A function from inputs to linear outputs.
        task: The task.
        generator: Draws the sequences.
        sequences: Number of sequences; None for those of the criterion, and no more than it takes
            to see that it does not hold. A task with a fixed test set has these in both cases.

    Returns:
        Share of wrong sequences, mean error, number of sequences seen, and whether the criterion
        holds ("wrong", "error", "seen", "solved").
    """
    criterion = task.criterion
    total = criterion.sequences if sequences is None or task.fixed_test else sequences
    most = max(1, min(AT_ONCE, NUMBERS // (task.features * (task.steps or 1))))
    correct, error = np.zeros(0, bool), np.zeros(0)
    while len(correct) < total:
        batch = task.test(generator, total if task.fixed_test else min(most, total - len(correct)))
        found = task.score(activated(predict(inputs_of(batch)), task.readout), batch)
        correct = np.concatenate([correct, found[0]])
        error = np.concatenate([error, found[1]])
        failed = criterion.wrong is not None and np.sum(~correct) > criterion.wrong
        if failed and sequences is None:
            break
    complete = len(correct) == criterion.sequences
    return {
        "wrong": float(np.mean(~correct)),
        "error": float(np.mean(error)),
        "seen": len(correct),
        "solved": bool(complete and criterion.holds(correct, error)),
    }


class Examinations(keras.callbacks.Callback):
    """Looks whether the task is solved; adds to the logs, so it comes before the journal.

    Args:
        config: The settings of the run.
        task: Its task.
        check_signals: Called before each prediction; raises if a signal came.
    """

    def __init__(self, config, task, check_signals):
        super().__init__()
        self.config, self.task = config, task
        self.check_signals = check_signals
        self.solved_after = None  # sequences
        self.diverged = None  # why

    @property
    def ended(self):
        """Whether there is nothing more to train for."""
        solved = self.solved_after is not None and not self.config.full
        return solved or self.diverged is not None

    def get_state(self):
        """What a checkpoint has to hold."""
        return {"solved_after": self.solved_after, "diverged": self.diverged}

    def set_state(self, state):
        """The inverse of `get_state`."""
        self.solved_after, self.diverged = state["solved_after"], state["diverged"]

    def predict(self, x):
        """Linear outputs of the model."""
        self.check_signals()
        return self.model.predict_on_batch(x)

    def on_epoch_end(self, epoch, logs=None):
        """Complete the row, and end the training if the task is solved."""
        sequences = (epoch + 1) * self.config.steps_of_part * self.config.batch_size
        generator = np.random.default_rng([self.config.seed, EVALUATION, epoch])
        found = examine(self.predict, self.task, generator)
        if not math.isfinite(found["error"]):
            self.diverged = f"An output became NaN or infinite after {sequences} sequences"
        logs["sequences"] = sequences
        logs |= found
        if found["solved"] and self.solved_after is None:
            self.solved_after = sequences
        if self.ended:
            self.model.stop_training = True


def _fit(model, task, run, checkpoint_share, on_epoch, on_message):
    folder, config = run.folder, run.config
    data = Fresh(config, task)

    def step_name(part):
        return f"{part * config.steps_of_part * config.batch_size} sequences"

    checkpoint = last_checkpoint(run, on_message, step_name)
    with signals.delayed() as check_signals:
        examinations = Examinations(config, task, check_signals)
        recorders = {"examinations": examinations}
        journal = Journal(
            folder, data, recorders, check_signals, on_epoch, checkpoint_share, step_name
        )
        for callback in (examinations, journal):
            callback.set_model(model)
        if checkpoint is not None:
            journal.restore(checkpoint)
            on_message(
                f"Run '{run.name}' goes on after {step_name(checkpoint.epoch)} of "
                f"{step_name(config.parts)}"
            )
        test = {"wrong": None, "error": None, "seen": 0}
        try:
            if not examinations.ended:
                with iterators_end_with_errors():
                    model.fit(
                        data,
                        initial_epoch=checkpoint.epoch if checkpoint else 0,
                        epochs=config.parts,
                        verbose=0,
                        shuffle=False,
                        callbacks=[examinations, journal],
                    )
            else:
                journal.on_train_begin()
        except DivergedError as error:
            examinations.diverged = examinations.diverged or str(error)
        diverged = examinations.diverged
        solved_after = None if diverged else examinations.solved_after
        reach = None
        if not diverged:
            test = _tested(examinations.predict, task)
            reach = task.reach(lambda x: activated(examinations.predict(x), task.readout))
            _write_examples(folder, task, examinations.predict)
        result = {
            "state": "finished",
            "solved": solved_after is not None,
            "sequences": solved_after,
            "diverged": diverged,
            "trained_sequences": journal.rows[-1]["sequences"],
            "test_wrong": test["wrong"],
            "test_error": test["error"],
            "test_sequences": test["seen"],
            "reach": reach,
            "parameters": model.count_params(),
            "units": next(layer.units for layer in model.layers if layer.name.startswith("block")),
            "seconds": round(journal.elapsed(), 2),
            "resumed_after_steps": [config.steps_of_part * p for p in journal.resumed_after],
        }
        with files.atomic(folder / "model.keras") as path:
            model.save(path)
        files.write_json(folder / "result.json", result)
    return result


def _tested(predict, task):
    # The same sequences for all models and seeds.
    generator = np.random.default_rng([0, TEST])
    return examine(predict, task, generator, sequences=task.test_sequences)


def _write_examples(folder, task, predict):
    """`examples.csv`: what is read, what follows and what the model says, step by step."""
    frames = []
    for name, batch in task.examples().items():
        read, truth = batch.x[0, :, 0], batch.y[0]
        said = activated(predict(inputs_of(batch)), task.readout)[0]
        nothing = np.full(len(read), np.nan)
        values, forecast = np.concatenate([read, truth]), np.concatenate([nothing, said])
        columns = {"step": np.arange(len(values)), "value": values, "forecast": forecast}
        frames.append(pd.DataFrame({"example": name, **columns}))
    if frames:
        files.write_text(folder / "examples.csv", pd.concat(frames).to_csv(index=False))


def _guess(task, run, on_epoch):
    """Random weight guessing in place of training; begun anew if it was interrupted."""
    config, generator = run.config, np.random.default_rng([run.config.seed, EVALUATION])

    def examined(guess):
        return examine(lambda x: guess.predict(x, x[..., 0] != PADDING)[0], task, generator)

    with signals.delayed() as check_signals:
        found, seen, parameters, seconds = guessing.search(
            task, config.model.build_arguments()["units"], config.sequences, config.seed,
            examined, check_signals,
        )  # fmt: skip
        test = {"wrong": None, "error": None, "seen": 0}
        if found is not None:
            test = _tested(lambda x: found.predict(x, x[..., 0] != PADDING)[0], task)
            with files.atomic(run.folder / "weights.npz") as path, open(path, "wb") as file:
                np.savez(file, **found.weights)
        row = {"epoch": 1, "sequences": seen, **test, "seconds": round(seconds, 2)}
        files.write_text(run.folder / "metrics.csv", pd.DataFrame([row]).to_csv(index=False))
        if on_epoch:
            on_epoch(row)
        result = {
            "state": "finished",
            "solved": found is not None,
            "sequences": seen if found is not None else None,
            "diverged": None,
            "trained_sequences": seen,
            "test_wrong": test["wrong"],
            "test_error": test["error"],
            "test_sequences": test["seen"],
            "reach": None,
            "parameters": parameters,
            "units": config.model.build_arguments()["units"],
            "seconds": round(seconds, 2),
            "resumed_after_steps": [],
        }
        files.write_json(run.folder / "result.json", result)
    return result
