"""Counting languages, and bits that come again with a period."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from keras_deeplstm import validation
from keras_deeplstm.experiments.tasks.sequences.task import (
    Batch,
    Criterion,
    SequenceTask,
    mask_of,
    one_hot,
)


@dataclass(frozen=True)
class Counting(SequenceTask):
    """Predict which symbols may follow in strings a^n b^n or a^n b^n c^n, n being at least 1.

    The inputs are S, which begins each string, a, b (and c); the outputs a, b (and c) and T, which
    ends it. The targets are 1 for all symbols that may follow: after S a; after any a both a and b;
    later only one symbol, which counting tells.

    Args:
        letters: `"ab"` or `"abc"`.
        largest: The largest n to train with; every n from 1 on is equally likely.

    A string is right if at each step the outputs of the symbols that may follow are above 0.5, and
    all others below; its error is the fraction of steps where that fails.

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
    readout: ClassVar = "sigmoid"
    fixed_test: ClassVar = True

    letters: str = "ab"
    largest: int = 10

    def __post_init__(self):
        validation.one_of("letters", self.letters, ("ab", "abc"))
        validation.positive_integer("largest", self.largest)

    @property
    def features(self) -> int:
        """S and the letters."""
        return len(self.letters) + 1

    @property
    def outputs(self) -> int:
        """The letters and T."""
        return len(self.letters) + 1

    @property
    def steps(self) -> int:
        """Of the longest string to train with."""
        return 1 + len(self.letters) * self.largest

    @property
    def description(self) -> str:
        """See `SequenceTask`."""
        language = " ".join(f"{letter}^n" for letter in self.letters)
        return f"Counting: what may follow in {language}, n = 1 ... {self.largest}"

    @property
    def criterion(self) -> Criterion:
        """All strings that were trained. How far it goes on from there: `reach`."""
        return Criterion(self.largest, wrong=0, error=None, of="strings")

    @property
    def paper(self) -> str | None:
        """What the same authors report in the abstract of their paper at ICANN 2002."""
        if (self.letters, self.largest) == ("abc", 10):
            return "n up to 1000 and more, trained with a Kalman filter"
        return None

    def strings(self, n: Sequence[int] | np.ndarray, steps: int = 0) -> Batch:
        """One string for each n, padded to the longest of them, and to `steps` at least."""
        counts = np.asarray(n)
        letters = len(self.letters)
        mask = mask_of(1 + letters * counts, max(steps, 1 + letters * counts.max()))
        # Of each step, how many letters came before, which letter it is and its place among its n.
        # The step of S, which has none before, is the place before the first letter.
        before = np.arange(mask.shape[1]) - 1
        letter, place = np.divmod(before, counts[:, None])
        follows = letter + (place == counts[:, None] - 1)
        padding = letters + 1
        x = one_hot(np.where(mask, letter + 1, padding), padding)
        y = one_hot(np.where(mask, follows, padding), padding)
        y[..., :2][letter == 0] = 1  # after an a, both a and b
        return Batch(x, y, mask, mask.astype("float32"))

    def of_length(self, n: int) -> Batch:
        """The string of one n, which may be larger than any trained."""
        return self.strings([validation.positive_integer("n", n)])

    def sample(self, generator: np.random.Generator, count: int) -> Batch:
        """See the class."""
        n = generator.integers(1, self.largest, size=count, endpoint=True)
        return self.strings(n, self.steps)

    def test(self, generator: np.random.Generator, count: int) -> Batch:
        """All strings trained, in the order of n; nothing is drawn, `count` is not used."""
        return self.strings(range(1, self.largest + 1), self.steps)

    def reach(self, predict: Callable[[np.ndarray], np.ndarray], up_to: int = 1000) -> int:
        """The largest n such that all strings up to it are right, `up_to` at most.

        Args:
            predict: Gives the outputs for inputs `(count, steps, features)`. It need not know of
                the padding, which stands at the end.
            up_to: The largest n that is tried.
        """
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
        """See the class."""
        assert batch.mask is not None
        right = (np.abs(outputs - batch.y) < 0.5).all(axis=-1)
        wrong = ~right & batch.mask
        return ~wrong.any(axis=1), wrong.sum(axis=1) / batch.mask.sum(axis=1)


@dataclass(frozen=True)
class PeriodicBits(SequenceTask):
    """Predict the next bit of 1 0 0 0 1 0 0 0 ..., which begins anywhere in its period.

    Only what follows the first period can be told from what came before, and only that counts.

    Args:
        period: Distance of the ones, at least 2.
        length: Number of bits that are read, at least `period`.

    A sequence is right if all outputs that count are on the right side of 0.5; its error is their
    mean absolute error.

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
    fixed_test: ClassVar = True
    features: ClassVar = 1
    outputs: ClassVar = 1

    period: int = 4
    length: int = 32

    def __post_init__(self):
        validation.integer("period", self.period, at_least=2)
        validation.integer("length", self.length, at_least=self.period)

    @property
    def steps(self) -> int:
        """Number of bits that are read."""
        return self.length

    @property
    def description(self) -> str:
        """See `SequenceTask`."""
        return f"Periodic bits: the next of {self.length} bits, a 1 every {self.period} of them"

    @property
    def criterion(self) -> Criterion:
        """There are no more different sequences than places to begin."""
        return Criterion(self.period, wrong=0, error=None, of="places to begin")

    def sample(self, generator: np.random.Generator, count: int) -> Batch:
        """See the class."""
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
        """See the class."""
        errors = np.abs(outputs - batch.y)[:, self.period - 1 :, 0]
        return (errors < 0.5).all(axis=1), errors.mean(axis=1)
