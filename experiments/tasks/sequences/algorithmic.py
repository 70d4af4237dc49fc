"""The algorithmic tasks of the paper on Grid LSTM: parity, addition and memorization."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from keras_deeplstm.experiments.tasks.sequences import task
from keras_deeplstm.experiments.tasks.sequences.task import Batch, Count, Criterion, SequenceTask

PAPER = "Kalchbrenner, Danihelka & Graves 2016, Grid Long Short-Term Memory, arXiv 1507.01526"


@dataclass(frozen=True)
class Parity(SequenceTask):
    """Tell whether the number of ones among bits is odd; all bits are seen at once.

    The bits are random, 0 and 1 equally likely; the inputs are -1 and 1. The task has no time: it
    is for depth. The answer is right if the output is on the right side of 0.5; its error is the
    absolute one. The criterion is the project's own.

    Args:
        bits: Number of bits.
        curriculum: In training, show only m of the bits, anywhere, and 0 for the others; for one
            half of the sequences all m are equally likely, for the other half m is drawn with a
            probability proportional to 1 / m. Test sequences show all bits.

    The curriculum hides a multiple of four of the bits, so that the answer is the same function of
    the inputs' sum in training and in the test: (m + sum) / 2 of m bits are ones. With any other m
    the same sum would stand for odd and for even. If the number of bits is even, then sums are, and
    m may also be 1, 5, 9, ..., whose sums are odd; training begins best with one bit alone. Up to
    four standard deviations of the test, all sums are equally likely: no rare one stays unknown.

    Example:

    >>> import numpy as np
    >>> from keras_deeplstm.experiments.tasks.sequences.algorithmic import Parity
    >>> batch = Parity().sample(np.random.default_rng(0), 32)
    >>> batch.x.shape, batch.y.shape
    ((32, 8), (32, 1))
    """

    name: ClassVar = "parity"
    source: ClassVar = f"{PAPER}, abstract of version 1"
    description = property(lambda self: f"Parity: of {self.bits} bits seen at once")
    readout: ClassVar = "sigmoid"
    features = property(lambda self: self.bits)
    outputs: ClassVar = 1
    steps: ClassVar = None
    tolerance: ClassVar = 0.5
    criterion: ClassVar = Criterion(1000, wrong=0)
    paper = property(lambda self: "the most bits that are learned" if self.bits == 250 else None)

    bits: Count = 8
    curriculum: bool = False

    def sample(self, generator: np.random.Generator, count: int) -> Batch:
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
        return self._batch(generator.permuted(x, axis=1))

    def test(self, generator: np.random.Generator, count: int) -> Batch:
        return self._batch(2 * generator.integers(2, size=(count, self.bits)) - 1)

    def _batch(self, x):
        odd = np.sum(x == 1, axis=1, keepdims=True) % 2
        return Batch(x.astype("float32"), odd.astype("float32"), None, None)


class _Answering(SequenceTask):
    """Says its answer at the last steps; all of it must be right."""

    readout: ClassVar = "softmax"
    criterion: ClassVar = Criterion(100, wrong=0)

    def _batch(self, codes, answer):
        before = self.steps - answer.shape[1]
        answering = np.tile(np.arange(self.steps) >= before, (len(codes), 1))
        y = task.one_hot(np.pad(answer, ((0, 0), (before, 0))), self.outputs, answering)
        return Batch(task.one_hot(codes, self.features), y, None, answering.astype("float32"))

    def judge(self, outputs: np.ndarray, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
        # An output that is not the largest of its step, or not a number, is wrong.
        said = (outputs * batch.y).sum(axis=-1)
        others = np.where(batch.y > 0, -np.inf, outputs).max(axis=-1)
        return task.judge_steps(said > others, batch)


@dataclass(frozen=True)
class Addition(_Answering):
    """Add two numbers that are read digit by digit, the highest first.

    The inputs are the digits of the first number, the delimiter -, the digits of the second, and -
    from there on. At the first of these the answer begins, at one digit a step; it has one digit
    more than the numbers, or as many and a - at its end, and a further - ends any answer. Thus
    12 + 95 reads `12-95----` and is answered by `107-` at the last four steps. The prediction of a
    digit is not fed back. Inputs and outputs are 0, 1, ... 9, -.

    No number begins with 0; all others are equally likely. An answer is right if the largest output
    is the right one at each of its steps; its error is the fraction of steps where it is not. The
    paper tests with 100 numbers not seen in training.

    Args:
        digits: Number of digits of both numbers.

    Example:

    >>> import numpy as np
    >>> from keras_deeplstm.experiments.tasks.sequences.algorithmic import Addition
    >>> batch = Addition().sample(np.random.default_rng(0), 32)
    >>> batch.x.shape, batch.y.shape
    ((32, 48, 11), (32, 48, 11))
    """

    name: ClassVar = "addition"
    source: ClassVar = f"{PAPER}, 15-digit addition"
    description = property(
        lambda self: f"Addition: of two numbers of {self.digits} digits, one digit a step"
    )
    features = outputs = 11
    steps = property(lambda self: 3 * self.digits + 3)  # with the delimiter and the answer's end

    digits: Count = 15

    def sample(self, generator: np.random.Generator, count: int) -> Batch:
        digits, delimiter = self.digits, 10
        numbers = generator.integers(10, size=(2, count, digits))
        numbers[..., 0] = generator.integers(1, 10, size=(2, count))
        answer = np.full((count, digits + 3), delimiter)
        answer[:, 0], answer[:, 1 : digits + 1] = 0, numbers.sum(axis=0)
        for place in range(digits, 0, -1):  # by hand: integers end at 18 digits
            carry, answer[:, place] = np.divmod(answer[:, place], 10)
            answer[:, place - 1] += carry
        answer = np.where(answer[:, :1] == 0, answer[:, 1:], answer[:, :-1])  # begins with no 0
        codes = np.full((count, self.steps), delimiter)
        codes[:, :digits] = numbers[0]
        codes[:, digits + 1 : 2 * digits + 1] = numbers[1]
        return self._batch(codes, answer)


@dataclass(frozen=True)
class Memorization(_Answering):
    """Read random symbols, then say them again in the same order.

    All symbols are equally likely and may come more than once. When the last one has been read, the
    delimiter comes, at every step of the answer, which begins with it. The inputs are the symbols
    and the delimiter, the outputs the symbols. Right, error and criterion are those of `Addition`.

    Args:
        length: Number of symbols to remember.
        vocabulary: Number of different symbols, at least 2.

    Example:

    >>> import numpy as np
    >>> from keras_deeplstm.experiments.tasks.sequences.algorithmic import Memorization
    >>> batch = Memorization().sample(np.random.default_rng(0), 32)
    >>> batch.x.shape, batch.y.shape
    ((32, 40, 65), (32, 40, 64))
    """

    name: ClassVar = "memorization"
    source: ClassVar = f"{PAPER}, sequence memorization"
    description = property(
        lambda self: f"Memorization: of {self.length} symbols out of {self.vocabulary}"
    )
    features = property(lambda self: self.vocabulary + 1)
    outputs = property(lambda self: self.vocabulary)
    steps = property(lambda self: 2 * self.length)

    length: Count = 20
    vocabulary: task.AtLeastTwo = 64

    def sample(self, generator: np.random.Generator, count: int) -> Batch:
        codes = np.full((count, self.steps), self.vocabulary)
        codes[:, : self.length] = generator.integers(self.vocabulary, size=(count, self.length))
        return self._batch(codes, codes[:, : self.length])
