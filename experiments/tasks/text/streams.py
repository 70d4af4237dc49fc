"""A text in batches: streams that go on, or windows; and the plan of a training over it."""

import math
from typing import NamedTuple

import keras
import numpy as np


class Plan(NamedTuple):
    """A pass over the training text: an evaluation follows after `parts` parts of `steps` steps."""

    evaluations: int
    parts: int
    steps: int

    @property
    def parts_of_pass(self) -> int:
        """Number of parts of a pass."""
        return self.evaluations * self.parts


def plan(steps: int, evaluate_every: int, report_every: int) -> Plan:
    """Part the steps of a pass evenly, into parts as long as the two bounds allow.

    At most `evaluate_every` steps lie between evaluations; a part has at most `report_every`. The
    last steps that make no further step for each part are left out.
    """
    evaluations = math.ceil(steps / evaluate_every)
    parts = min(math.ceil(steps / (evaluations * report_every)), steps // evaluations)
    return Plan(evaluations, parts, steps // (evaluations * parts))


class Streams(keras.utils.PyDataset):
    """A text, given by the numbers of its symbols, as `batch_size` streams side by side.

    A batch has `length` symbols of each stream; its row i goes on where row i of the batch before
    has ended. Inputs are symbols and whether each row begins anew, as it does at the begin of a
    pass; targets are the symbols that follow. Symbols at the end that fill no step are left out.
    """

    def __init__(self, codes, batch_size, length):
        super().__init__()
        stream = (len(codes) - 1) // batch_size
        self.length = length
        self.inputs, self.targets = (
            codes[start : start + batch_size * stream].reshape(batch_size, stream)
            for start in (0, 1)
        )
        self.steps_of_pass = stream // length
        self.follow(1, self.steps_of_pass)

    def follow(self, parts: int, steps: int) -> None:
        """Let an epoch be a part of a pass, which has so many parts of so many steps."""
        self.parts, self.steps = parts, steps
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Go to the begin of this part, counted from 0 over all passes."""
        self.first = epoch % self.parts * self.steps

    def __len__(self):
        return self.steps

    def __getitem__(self, index):
        step = self.first + index
        columns = slice(step * self.length, (step + 1) * self.length)
        begins = np.full(len(self.inputs), step == 0)
        inputs, targets = (part[:, columns].astype("int32") for part in (self.inputs, self.targets))
        return (inputs, begins), targets


class Pieces(Streams):
    """The same for models without states: each row of a batch is a text of its own."""

    def __getitem__(self, index):
        (inputs, _), targets = super().__getitem__(index)
        return inputs, targets


class Windows(Pieces):
    """Random windows of a text: where they begin is a function of the seed and the step."""

    def __init__(self, codes, batch_size, length, seed):
        self.codes, self.seed = codes, seed
        super().__init__(codes, batch_size, length)

    def set_epoch(self, epoch: int) -> None:
        """Go to the begin of this part, counted from 0 over all passes."""
        self.first = epoch * self.steps

    def __getitem__(self, index):
        generator = np.random.default_rng([self.seed, self.first + index])
        begins = generator.integers(len(self.codes) - self.length, size=len(self.inputs))
        columns = begins[:, None] + np.arange(self.length)
        return self.codes[columns].astype("int32"), self.codes[columns + 1].astype("int32")
