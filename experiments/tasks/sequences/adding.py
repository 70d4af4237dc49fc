"""Add or multiply the two numbers of a long sequence that are marked."""

from dataclasses import dataclass
from functools import partial
from typing import Annotated, ClassVar, Literal

import numpy as np

from keras_deeplstm import validation
from keras_deeplstm.experiments.tasks.sequences import task
from keras_deeplstm.experiments.tasks.sequences.task import Batch, Criterion, SequenceTask

Length = Annotated[int, partial(validation.integer, at_least=4)]


@dataclass(frozen=True)
class Adding(SequenceTask):
    """Add the two marked numbers of a sequence of pairs, a number and its mark.

    With the paper's target the numbers are uniform in [-1, 1) and the length is random, T to 1.1 T.
    One of the first ten pairs is marked 1.0 (of the first T/2, if that is less), then one of the
    first T/2 - 1 pairs that are still unmarked. The first and the last pair have the mark -1.0, all
    others 0. The target is 0.5 + (X1 + X2) / 4. If one of the two is the first pair, its mark stays
    -1.0 and 0 takes the place of its number: the paper says so of X1, and here it goes for X2 too.

    The modern form, as in github.com/amarshah/complex_RNN, has numbers uniform in [0, 1), T pairs,
    and a mark 1.0 in each half; all other marks are 0. Its target is the mean or the sum of the
    two. Who always says the mean of all targets has a mean squared error of 1/24 or 1/6.

    Right is an absolute error below 0.04. The error is absolute, in the modern form squared.

    Args:
        length: Least length T, in pairs, at least 4.
        target: `"paper"`, `"mean"` or `"sum"`.

    Example:

    >>> import numpy as np
    >>> from keras_deeplstm.experiments.tasks.sequences.adding import Adding
    >>> batch = Adding().sample(np.random.default_rng(0), 32)
    >>> batch.x.shape, batch.y.shape
    ((32, 110, 2), (32, 1))
    >>> Adding(target="mean").criterion.words
    'mean error of 2,000 fresh sequences below 0.0005'
    """

    name: ClassVar = "adding"
    source: ClassVar = "Hochreiter & Schmidhuber 1997, experiment 4, Table 7"
    readout: ClassVar = "linear"
    features: ClassVar = 2
    outputs: ClassVar = 1
    _paper = property(lambda self: self.target == "paper")
    steps = property(lambda self: task.longest(self.length) if self._paper else self.length)
    tolerance: ClassVar = 0.04
    # The paper's; of the modern form, an error of about 1 % of the trivial one. A sum is twice a
    # mean, hence its squared error four times as large.
    criteria: ClassVar = {
        "paper": Criterion(2000, wrong=0, error=0.01),
        "mean": Criterion(2000, error=0.0005),
        "sum": Criterion(2000, error=0.002),
    }
    criterion = property(lambda self: self.criteria[self.target])
    reported: ClassVar = {(100, "paper"): 74_000, (500, "paper"): 209_000, (1000, "paper"): 853_000}

    length: Length = 100
    target: Literal["paper", "mean", "sum"] = "paper"

    @property
    def description(self) -> str:
        pairs = f"{self.length} to {self.steps}" if self._paper else f"{self.length}"
        what = "mean" if self.target == "mean" else "sum"
        return f"Adding: the {what} of the two marked numbers of {pairs}"

    def sample(self, generator: np.random.Generator, count: int) -> Batch:
        if self._paper:
            x, mask, (first, second) = _paper_pairs(generator, count, self.length, -1, neutral=0)
            return Batch(x, (0.5 + (first + second) / 4)[:, None], mask, None)
        x = np.zeros((count, self.length, 2), "float32")
        x[..., 0] = generator.random(x.shape[:2], "float32")
        half, rows = self.length // 2, np.arange(count)
        marked = generator.integers([[0], [half]], [[half], [self.length]], size=(2, count))
        x[rows, marked, 1] = 1
        numbers = x[rows, marked, 0]
        y = numbers.mean(axis=0) if self.target == "mean" else numbers.sum(axis=0)
        return Batch(x, y[:, None], None, None)

    def judge(self, outputs: np.ndarray, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
        right, error = super().judge(outputs, batch)
        return right, error if self._paper else error**2


@dataclass(frozen=True)
class Multiplication(SequenceTask):
    """Multiply the two marked numbers: `Adding` as in the paper, but for numbers and target.

    The numbers are uniform in [0, 1), the target is X1 X2, and 1 takes the place of the number if
    the first pair is marked. The error is the absolute one; wrong is more than 0.04.

    Args:
        length: Least length T, in pairs, at least 4.
        n_seq: Fewer than so many of 2,000 sequences may be wrong; 140 and 13 in the paper.

    Example:

    >>> import numpy as np
    >>> from keras_deeplstm.experiments.tasks.sequences.adding import Multiplication
    >>> batch = Multiplication().sample(np.random.default_rng(0), 32)
    >>> batch.x.shape, batch.y.shape
    ((32, 110, 2), (32, 1))
    >>> Multiplication().criterion.words
    'at most 139 of 2,000 fresh sequences wrong'
    """

    name: ClassVar = "multiplication"
    source: ClassVar = "Hochreiter & Schmidhuber 1997, experiment 5, Table 8"
    description = property(
        lambda self: f"Multiplication: of the two marked numbers of {self.length} to {self.steps}"
    )
    readout: ClassVar = "linear"
    features: ClassVar = 2
    outputs: ClassVar = 1
    steps = property(lambda self: task.longest(self.length))
    tolerance: ClassVar = 0.04
    criterion = property(lambda self: Criterion(2000, wrong=self.n_seq - 1))
    reported: ClassVar = {(100, 140): 482_000, (100, 13): 1_273_000}

    length: Length = 100
    n_seq: Annotated[int, partial(validation.positive_integer, at_most=2000)] = 140

    def sample(self, generator: np.random.Generator, count: int) -> Batch:
        x, mask, (first, second) = _paper_pairs(generator, count, self.length, 0, neutral=1)
        return Batch(x, (first * second)[:, None], mask, None)

    def judge(self, outputs: np.ndarray, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
        _, error = super().judge(outputs, batch)
        return error <= self.tolerance, error


def _paper_pairs(generator, count, length, low, neutral):
    """Pairs as in experiments 4 and 5, their mask, and the numbers X1 and X2, `(2, count)`."""
    lengths = task.random_lengths(generator, count, length)
    mask = task.mask_of(lengths, task.longest(length))
    half, rows = length // 2, np.arange(count)
    one = generator.integers(min(10, half), size=count)
    other = generator.integers(half - 1, size=count)
    other += other >= one  # the unmarked pairs, numbered without the marked one
    marked = np.stack([one, other])
    x = np.zeros((*mask.shape, 2), "float32")
    x[..., 0] = (low + (1 - low) * generator.random(mask.shape, "float32")) * mask
    x[rows, marked, 1] = 1
    x[:, 0, 1] = x[rows, lengths - 1, 1] = -1
    return x, mask, np.where(marked == 0, np.float32(neutral), x[rows, marked, 0])
