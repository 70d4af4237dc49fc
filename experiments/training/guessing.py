"""Random weight guessing: how easy is a task, if no learning at all may solve it?

Hochreiter & Schmidhuber (1996, NIPS 9: LSTM can solve hard long time lag problems) drew the weights
of small recurrent networks at random until one of them solved the task, to show which of the usual
tasks need no long memory to be learned.
"""

import time

import numpy as np
import pandas as pd

from keras_deeplstm.experiments.runs import files
from keras_deeplstm.experiments.tasks.sequences.task import activated
from keras_deeplstm.experiments.training import examinations
from keras_deeplstm.experiments.training.examinations import EVALUATION, PADDING, UNTESTED

RANGE = 100.0  # weights are uniform in [-RANGE, RANGE]
TRIALS = 64  # networks that are tried at once
LOOK = 16  # sequences that a network has to get right before it is examined


class Guessing:
    """Guessing in place of training, begun anew if it was interrupted; see `session.Training`."""

    parallel = False

    def __init__(self, config, data_dir):
        self.config, self.task = config, config.make_task().reading(data_dir)
        self.digest = self.task.checksum

    def design(self):
        """There is no builder."""

    def build(self):
        """There is no model."""

    def work(self, session):
        """Draw weights until they solve the task or all sequences are used up."""
        config, task = self.config, self.task
        generator = np.random.default_rng([config.seed, EVALUATION])
        units = config.model.build_arguments()["units"]
        found, seen, parameters, seconds = search(
            task, units, config.sequences, config.seed,
            lambda guess: examinations.examine(_predictor(guess), task, generator),
            session.check_signals,
        )  # fmt: skip
        test = UNTESTED
        if found is not None:
            test = examinations.test(_predictor(found), task)
            path = session.folder / "weights.npz"
            with files.atomic(path) as temporary, open(temporary, "wb") as file:
                np.savez(file, **found.weights)
        row = {"epoch": 1, "sequences": seen, **test, "seconds": round(seconds, 2)}
        table = pd.DataFrame([row]).to_csv(index=False)
        files.write_text(session.folder / "metrics.csv", table)
        session.log_row(row)
        if session.on_epoch:
            session.on_epoch(row)
        return {
            "solved": found is not None,
            "sequences": seen if found is not None else None,
            "diverged": None,
            "trained_sequences": seen,
            "test_wrong": test["wrong"],
            "test_error": test["error"],
            "test_sequences": test["seen"],
            "reach": None,
            "parameters": parameters,
            "units": units,
            "seconds": round(seconds, 2),
            "resumed_after_steps": [],
        }


def _predictor(guess):
    return lambda x: guess.predict(x, x[..., 0] != PADDING)[0]


class Guess:
    """Networks with one layer of tanh units, h = tanh(x W + h U + b), and outputs h V + c."""

    def __init__(self, task, units, trials, generator):
        shapes = {
            "kernel": (task.features, units),
            "recurrent_kernel": (units, units),
            "bias": (1, units),
            "output_kernel": (units, task.outputs),
            "output_bias": (1, task.outputs),
        }
        self.weights = {
            name: generator.uniform(-RANGE, RANGE, size=(trials, *shape))
            for name, shape in shapes.items()
        }
        self.each_step = task.sample(np.random.default_rng(0), 1).y.ndim == 3

    @property
    def parameters(self) -> int:
        """Number of weights of one network."""
        return sum(weights[0].size for weights in self.weights.values())

    def alone(self, trial: int) -> "Guess":
        """One of the networks."""
        guess = object.__new__(Guess)
        guess.weights = {name: some[trial : trial + 1] for name, some in self.weights.items()}
        guess.each_step = self.each_step
        return guess

    def predict(self, x: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
        """Linear outputs of all networks, `(trials, count, ...)`; a mask keeps the last state."""
        w = self.weights
        state = np.zeros((len(w["bias"]), len(x), w["bias"].shape[-1]))
        steps = []
        for step in range(x.shape[1]):
            new = np.tanh(x[:, step] @ w["kernel"] + state @ w["recurrent_kernel"] + w["bias"])
            state = new if mask is None else np.where(mask[:, step, None], new, state)
            if self.each_step:
                steps.append(state)
        if not self.each_step:
            return state @ w["output_kernel"] + w["output_bias"]
        outputs = [some @ w["output_kernel"] + w["output_bias"] for some in steps]
        return np.stack(outputs, axis=2)


def search(task, units, sequences, seed, examine, check_signals):
    """Draw networks until one solves the task, or they have seen so many sequences.

    Args:
        examine: Tells of a network whether the criterion holds.

    Returns:
        The network that solves the task, or None; the sequences seen until then; the number of
        parameters; the seconds it took.
    """
    begin = time.perf_counter()
    trials = np.random.default_rng([seed, 0])
    seen = 0
    while True:
        check_signals()
        guess = Guess(task, units, TRIALS, trials)
        batch = task.sample(trials, LOOK)
        outputs = activated(guess.predict(batch.x, batch.mask), task.readout)
        for trial in range(TRIALS):
            seen += LOOK
            if task.score(outputs[trial], batch)[0].all() and examine(guess.alone(trial))["solved"]:
                return guess.alone(trial), seen, guess.parameters, time.perf_counter() - begin
            if seen + LOOK > sequences:
                return None, seen, guess.parameters, time.perf_counter() - begin
