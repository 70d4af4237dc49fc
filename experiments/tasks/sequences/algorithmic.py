"""The algorithmic tasks of the paper on Grid LSTM: parity, addition and memorization."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from keras_deeplstm import validation
from keras_deeplstm.experiments.tasks.sequences.task import Batch, Criterion, SequenceTask, one_hot

PAPER = "Kalchbrenner, Danihelka & Graves 2016, Grid Long Short-Term Memory, arXiv 1507.01526"


@dataclass(frozen=True)
class Parity(SequenceTask):
    """Tell whether the number of ones among bits is odd; all bits are seen at once.

    The bits are random, 0 and 1 equally likely; the inputs are -1 and 1. The task has no time: it
    is for depth.

    Args:
        bits: Number of bits.
        curriculum: In training, show only m of the bits, anywhere, and 0 for the others; for one
            half of the sequences all m are equally likely, for the other half m is drawn with a
            probability proportional to 1 / m. Test sequences show all bits.

    The curriculum hides a multiple of four of the bits, so that the answer is the same function of
    the sum of the inputs in each training sequence and in the test: (m + sum) / 2 of m bits are
    ones. With any other m the same sum would stand for odd and for even. If the number of bits is
    even, then sums are, and m may also be 1, 5, 9, ..., whose sums are odd; one bit alone is what
    training best begins with. Up to four standard deviations of the test all sums are equally
    likely, so that no rare one stays unknown.

    The answer is right if the output is on the right side of 0.5; its error is the absolute one.
    The criterion is the project's own.

    Example:

    >>> import numpy as np
    >>> from keras_deeplstm.experiments.tasks.sequences.algorithmic import Parity
    >>> batch = Parity().sample(np.random.default_rng(0), 32)
    >>> batch.x.shape, batch.y.shape
    ((32, 8), (32, 1))
    """

    name: ClassVar = "parity"
    source: ClassVar = f"{PAPER}, abstract of version 1"
    readout: ClassVar = "sigmoid"
    outputs: ClassVar = 1
    steps: ClassVar = None
    criterion: ClassVar = Criterion(1000, wrong=0, error=None)

    bits: int = 8
    curriculum: bool = False

    def __post_init__(self):
        validation.positive_integer("bits", self.bits)
        validation.boolean("curriculum", self.curriculum)

    @property
    def features(self) -> int:
        """Number of bits."""
        return self.bits

    @property
    def description(self) -> str:
        """See `SequenceTask`."""
        return f"Parity: of {self.bits} bits seen at once"

    @property
    def paper(self) -> str | None:
        """See `SequenceTask`."""
        return "the most bits that are learned" if self.bits == 250 else None

    def sample(self, generator: np.random.Generator, count: int) -> Batch:
        """See the class."""
        if not self.curriculum:
            return self.test(generator, count)
        sizes = np.arange(1, self.bits + 1)
        one_more = (self.bits % 2 == 0) & (sizes % 4 == 1)
        sizes = sizes[((self.bits - sizes) % 4 == 0) | one_more]
        chances = 0.5 / len(sizes) + 0.5 / sizes / np.sum(1 / sizes)
        m = generator.choice(sizes, size=(count, 1), p=chances)
        fewest = np.maximum(np.ceil(m / 2 - 2 * self.bits**0.5), 0).astype(int)
        ones = generator.integers(fewest, m - fewest, endpoint=True)
        place = np.arange(self.bits)
        x = np.where(place < ones, 1, np.where(place < m, -1, 0))
        return self._batch(generator.permuted(x, axis=1), ones)

    def test(self, generator: np.random.Generator, count: int) -> Batch:
        """See `SequenceTask`."""
        bits = generator.integers(2, size=(count, self.bits))
        return self._batch(2 * bits - 1, np.sum(bits, axis=1, keepdims=True))

    def _batch(self, x, ones):
        return Batch(x.astype("float32"), (ones % 2).astype("float32"), None, None)

    def judge(self, outputs: np.ndarray, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
        """See the class."""
        error = np.abs(outputs - batch.y)[:, 0]
        return error < 0.5, error


@dataclass(frozen=True)
class Addition(SequenceTask):
    """Add two numbers that are read digit by digit, the highest first.

    The inputs are the digits of the first number, the delimiter -, the digits of the second, and -
    from there on. At the first of these the answer begins, at one digit a step; it has one digit
    more than the numbers, or as many and a - at its end, and a further - ends any answer. Thus
    12 + 95 reads `12-95----` and is answered by `107-` at the last four steps. The prediction of a
    digit is not fed back. Inputs and outputs are 0, 1, ... 9, -.

    No number begins with 0; all others are equally likely.

    Args:
        digits: Number of digits of both numbers.

    An answer is right if the largest output is the right one at each of its steps; its error is the
    fraction of steps where it is not. The paper tests with 100 numbers not seen in training.

    Example:

    >>> import numpy as np
    >>> from keras_deeplstm.experiments.tasks.sequences.algorithmic import Addition
    >>> batch = Addition().sample(np.random.default_rng(0), 32)
    >>> batch.x.shape, batch.y.shape
    ((32, 48, 11), (32, 48, 11))
    """

    name: ClassVar = "addition"
    source: ClassVar = f"{PAPER}, 15-digit addition"
    readout: ClassVar = "softmax"
    features: ClassVar = 11
    outputs: ClassVar = 11
    criterion: ClassVar = Criterion(100, wrong=0, error=None)

    digits: int = 15

    def __post_init__(self):
        validation.positive_integer("digits", self.digits)

    @property
    def steps(self) -> int:
        """Both numbers, the delimiter between them, and the longest answer with its end."""
        return 3 * self.digits + 3

    @property
    def description(self) -> str:
        """See `SequenceTask`."""
        return f"Addition: of two numbers of {self.digits} digits, one digit a step"

    def sample(self, generator: np.random.Generator, count: int) -> Batch:
        """See the class."""
        digits, delimiter = self.digits, 10
        numbers = generator.integers(10, size=(2, count, digits))
        numbers[..., 0] = generator.integers(1, 10, size=(2, count))
        answer = np.full((count, digits + 3), delimiter)
        answer[:, 0], answer[:, 1 : digits + 1] = 0, numbers.sum(axis=0)
        for place in range(digits, 0, -1):  # by hand: integers end at 18 digits
            carry, answer[:, place] = np.divmod(answer[:, place], 10)
            answer[:, place - 1] += carry
        short = answer[:, :1] == 0
        answer = np.where(short, answer[:, 1:], answer[:, :-1])
        codes = np.full((count, self.steps), delimiter)
        codes[:, :digits] = numbers[0]
        codes[:, digits + 1 : 2 * digits + 1] = numbers[1]
        return _answered(one_hot(codes, 11), one_hot(answer, 11))

    def judge(self, outputs: np.ndarray, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
        """See the class."""
        return _whole_answers(outputs, batch)


@dataclass(frozen=True)
class Memorization(SequenceTask):
    """Read random symbols, then say them again in the same order.

    All symbols are equally likely and may come more than once. When the last one has been read, the
    delimiter comes, at every step of the answer, which begins with it. The inputs are the symbols
    and the delimiter, the outputs the symbols. The criterion is that of `Addition`.

    Args:
        length: Number of symbols to remember.
        vocabulary: Number of different symbols, at least 2.

    Right and error are those of `Addition`.

    Example:

    >>> import numpy as np
    >>> from keras_deeplstm.experiments.tasks.sequences.algorithmic import Memorization
    >>> batch = Memorization().sample(np.random.default_rng(0), 32)
    >>> batch.x.shape, batch.y.shape
    ((32, 40, 65), (32, 40, 64))
    """

    name: ClassVar = "memorization"
    source: ClassVar = f"{PAPER}, sequence memorization"
    readout: ClassVar = "softmax"
    criterion: ClassVar = Criterion(100, wrong=0, error=None)

    length: int = 20
    vocabulary: int = 64

    def __post_init__(self):
        validation.positive_integer("length", self.length)
        validation.integer("vocabulary", self.vocabulary, at_least=2)

    @property
    def features(self) -> int:
        """The symbols and the delimiter."""
        return self.vocabulary + 1

    @property
    def outputs(self) -> int:
        """The symbols."""
        return self.vocabulary

    @property
    def steps(self) -> int:
        """Reading and answering."""
        return 2 * self.length

    @property
    def description(self) -> str:
        """See `SequenceTask`."""
        return f"Memorization: of {self.length} symbols out of {self.vocabulary}"

    def sample(self, generator: np.random.Generator, count: int) -> Batch:
        """See the class."""
        codes = np.full((count, self.steps), self.vocabulary)
        codes[:, : self.length] = generator.integers(self.vocabulary, size=(count, self.length))
        answer = one_hot(codes[:, : self.length], self.vocabulary)
        return _answered(one_hot(codes, self.features), answer)

    def judge(self, outputs: np.ndarray, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
        """See the class."""
        return _whole_answers(outputs, batch)


def _answered(x, answer):
    """The batch whose targets are the answer at the last steps and 0 before them."""
    count, steps, _ = x.shape
    begin = steps - answer.shape[1]
    y = np.zeros((count, steps, answer.shape[2]), "float32")
    y[:, begin:] = answer
    weight = np.zeros((count, steps), "float32")
    weight[:, begin:] = 1
    return Batch(x, y, None, weight)


def _whole_answers(outputs, batch):
    # An output that is not the largest of its step, or not a number, is wrong.
    said = (outputs * batch.y).sum(axis=-1)
    others = np.where(batch.y > 0, -np.inf, outputs).max(axis=-1)
    wrong = ~(said > others) & (batch.weight > 0)
    return ~wrong.any(axis=1), wrong.sum(axis=1) / batch.weight.sum(axis=1)
