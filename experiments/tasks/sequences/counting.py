"""Counting languages, and bits that come again with a period."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from keras_deeplstm import validation
from keras_deeplstm.experiments.tasks.sequences import task
from keras_deeplstm.experiments.tasks.sequences.task import Batch, Count, Criterion, SequenceTask


@dataclass(frozen=True)
class Counting(SequenceTask):
    """Predict which symbols may follow in strings a^n b^n or a^n b^n c^n, n being at least 1.

    The inputs are S, which begins each string, a, b (and c); the outputs a, b (and c) and T, which
    ends it. The targets are 1 for all symbols that may follow: after S a; after any a both a and b;
    later only one symbol, which counting tells. A string is right if at each step the outputs of
    the symbols that may follow are above 0.5 and all others below; its error is the fraction of
    steps where that fails.

    Args:
        letters: `"ab"` or `"abc"`.
        largest: The largest n to train with; every n from 1 on is equally likely.

    Example:

    >>> import numpy as np
    >>> from keras_deeplstm.experiments.tasks.sequences.counting import Counting
    >>> batch = Counting("abc").sample(np.random.default_rng(0), 32)
    >>> batch.x.shape, batch.y.shape
    ((32, 31, 4), (32, 31, 4))
    >>> Counting().of_length(2).y[0].astype(int).tolist()  # of S a a b b; a, b and T may follow
    [[1, 0, 0], [1, 1, 0], [1, 1, 0], [0, 1, 0], [0, 0, 1]]
    """

    name: ClassVar = "counting"
    source: ClassVar = "Gers & Schmidhuber 2001"
    _language = property(lambda self: " ".join(f"{letter}^n" for letter in self.letters))
    description = property(
        lambda self: f"Counting: what may follow in {self._language}, n = 1 ... {self.largest}"
    )
    readout: ClassVar = "sigmoid"
    features = outputs = property(lambda self: len(self.letters) + 1)
    steps = property(lambda self: 1 + len(self.letters) * self.largest)
    # All strings that were trained. How far it goes on from there: `reach`.
    criterion = property(lambda self: Criterion(self.largest, wrong=0, of="strings"))
    fixed_test: ClassVar = True
    farthest: ClassVar = "n up to 1000 and more, trained with a Kalman filter"  # said at ICANN 2002
    paper = property(lambda self: self.farthest if self == Counting("abc", largest=10) else None)

    letters: Literal["ab", "abc"] = "ab"
    largest: Count = 10

    def strings(self, n: Sequence[int] | np.ndarray, steps: int = 0) -> Batch:
        """One string for each n, padded to the longest of them, and to `steps` at least."""
        counts = np.asarray(n)
        letters = len(self.letters)
        mask = task.mask_of(1 + letters * counts, max(steps, 1 + letters * counts.max()))
        # Of each step, how many letters came before, which letter it is and its place among its n.
        # The step of S, which has none before, is the place before the first letter.
        before = np.arange(mask.shape[1]) - 1
        letter, place = np.divmod(before, counts[:, None])
        follows = letter + (place == counts[:, None] - 1)
        x = task.one_hot(letter + 1, self.features, mask)
        y = task.one_hot(follows, self.outputs, mask)
        y[..., :2][letter == 0] = 1  # after an a, both a and b
        return Batch(x, y, mask, mask.astype("float32"))

    def of_length(self, n: int) -> Batch:
        """The string of one n, which may be larger than any trained."""
        return self.strings([validation.positive_integer("n", n)])

    def sample(self, generator: np.random.Generator, count: int) -> Batch:
        return self.strings(generator.integers(1, self.largest + 1, size=count), self.steps)

    def test(self, generator: np.random.Generator, count: int) -> Batch:
        """All strings trained, in the order of n; nothing is drawn, `count` is not used."""
        return self.strings(range(1, self.largest + 1), self.steps)

    def reach(self, predict: Callable[[np.ndarray], np.ndarray], up_to: int = 1000) -> int:
        """The largest n such that all strings up to it are right, `up_to` at most."""
        right = 0
        while right < validation.positive_integer("up_to", up_to):
            last = min(up_to, max(self.largest, 2 * right))
            batch = self.strings(range(right + 1, last + 1))
            correct, _ = self.score(predict(batch.x), batch)
            if not correct.all():
                return right + int(correct.argmin())
            right = last
        return right

    def judge(self, outputs: np.ndarray, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
        return task.judge_steps((np.abs(outputs - batch.y) < 0.5).all(axis=-1), batch)


@dataclass(frozen=True)
class PeriodicBits(SequenceTask):
    """Predict the next bit of 1 0 0 0 1 0 0 0 ..., which begins anywhere in its period.

    Only what follows the first period can be told, and only that counts. A sequence is right if all
    its outputs there are on the right side of 0.5; its error is their mean absolute error.

    Args:
        period: Distance of the ones, at least 2.
        length: Number of bits that are read, at least `period`.

    Example:

    >>> import numpy as np
    >>> from keras_deeplstm.experiments.tasks.sequences.counting import PeriodicBits
    >>> batch = PeriodicBits(length=9).sample(np.random.default_rng(0), 32)
    >>> batch.x.shape, batch.y.shape
    ((32, 9, 1), (32, 9, 1))
    """

    name: ClassVar = "periodic-bits"
    source: ClassVar = "a question often asked: why does my LSTM not learn 1 0 0 0 1 0 0 0?"
    readout: ClassVar = "sigmoid"
    features = outputs = 1
    steps = property(lambda self: self.length)
    criterion = property(lambda self: Criterion(self.period, wrong=0, of="places to begin"))
    fixed_test: ClassVar = True  # one sequence for each place to begin

    period: task.AtLeastTwo = 4
    length: Count = 32

    @property
    def description(self) -> str:
        return f"Periodic bits: the next of {self.length} bits, a 1 every {self.period} of them"

    def __post_init__(self):
        super().__post_init__()
        validation.integer("length", self.length, at_least=self.period)

    def sample(self, generator: np.random.Generator, count: int) -> Batch:
        return self._beginning_at(generator.integers(self.period, size=count))

    def test(self, generator: np.random.Generator, count: int) -> Batch:
        """Every sequence there is; nothing is drawn, `count` is not used."""
        return self._beginning_at(np.arange(self.period))

    def _beginning_at(self, place):
        bits = (place[:, None] + np.arange(self.length + 1)) % self.period == 0
        bits = bits.astype("float32")[..., None]
        weight = np.zeros((len(place), self.length), "float32")
        weight[:, self.period - 1 :] = 1
        return Batch(bits[:, :-1], bits[:, 1:], None, weight)

    def judge(self, outputs: np.ndarray, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
        errors = np.abs(outputs - batch.y)[:, self.period - 1 :, 0]
        return (errors < 0.5).all(axis=1), errors.mean(axis=1)
