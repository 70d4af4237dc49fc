"""Whether a model solves its sequence task: what it says of sequences, and the criterion."""

import math
from typing import Any

import keras
import numpy as np

from keras_deeplstm.experiments.tasks.sequences.task import activated

PADDING = -1000.0  # of all features of the steps after a sequence's end; no task has such inputs
TRAINING, EVALUATION, TEST = range(3)  # what a generator is for
AT_ONCE = 256  # sequences of an evaluation that are predicted together, or fewer that have so
NUMBERS = 2**25  # many numbers as inputs
UNTESTED = {"wrong": None, "error": None, "seen": 0}


def inputs_of(batch) -> np.ndarray:
    """The inputs of a model of `sequences.design`: x, with padding after sequences' ends."""
    if batch.mask is None:
        return batch.x
    return np.where(batch.mask[..., None], batch.x, np.float32(PADDING))


def examine(predict, task, generator, *, sequences=None) -> dict[str, Any]:
    """Compare a model, a function from inputs to linear outputs, with a task's criterion.

    Without a number of `sequences` they are those of the criterion, of `task.validation`, and no
    more than it takes to see that it does not hold. Of a task with fixed sets they are all that
    there are. Returns the share of wrong sequences, their mean error and number, and whether the
    criterion holds.
    """
    criterion, draw = task.criterion, task.validation if sequences is None else task.test
    total = criterion.sequences if sequences is None or task.fixed_test else sequences
    most = max(1, min(AT_ONCE, NUMBERS // (task.features * (task.steps or 1))))
    correct, error = np.zeros(0, bool), np.zeros(0)
    while len(correct) < total:
        batch = draw(generator, total if task.fixed_test else min(most, total - len(correct)))
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


def test(predict, task) -> dict[str, Any]:
    """`examine` on the same sequences for all models and seeds."""
    generator = np.random.default_rng([0, TEST])
    return examine(predict, task, generator, sequences=task.test_sequences)


class Examinations(keras.callbacks.Callback):
    """Looks whether the task is solved; adds to the logs, so it comes before the journal."""

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
