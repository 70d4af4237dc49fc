"""Recall the first symbol after a long time: without noise, with noise, and after a trigger."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from keras_deeplstm.experiments.tasks.sequences import task
from keras_deeplstm.experiments.tasks.sequences.task import Batch, Count, Criterion, SequenceTask


@dataclass(frozen=True)
class NoiseFree(SequenceTask):
    """The first symbol, x or y, comes again as the last one, p steps later.

    Between them come a1, a2, ... in their order, or without local regularities p - 1 of these
    symbols at random. x and y are equally likely. The next symbol is predicted, and trained, at
    every step. The inputs are a1, a2, ..., x, y in this order, without the last symbol.

    In the loss the last step has the weight of p others: with equal weights, and the mean over all
    steps that Keras' losses take, the only thing to remember has one part in p of the gradient. At
    random it has the weight of 10 p others, which teach only that all symbols are equally likely.

    The error of a sequence is its largest absolute error, over all outputs and steps (2a) or over
    the outputs of the last step (2b). It is right if that is below 0.25.

    Args:
        p: Time lag, in steps, and number of symbols without y, at least 2.
        regular: Whether the symbols between come in their order (2a) or at random (2b).

    Example:

    >>> import numpy as np
    >>> from keras_deeplstm.experiments.tasks.sequences.long_lags import NoiseFree
    >>> batch = NoiseFree(p=5).sample(np.random.default_rng(0), 32)
    >>> batch.x.shape, batch.y.shape
    ((32, 5, 6), (32, 5, 6))
    >>> batch.x[0].argmax(axis=-1), batch.y[0].argmax(axis=-1)
    (array([5, 0, 1, 2, 3]), array([0, 1, 2, 3, 5]))
    """

    name: ClassVar = "noise-free"
    source: ClassVar = "Hochreiter & Schmidhuber 1997, experiments 2a and 2b, Table 2"
    readout: ClassVar = "softmax"
    features = outputs = property(lambda self: self.p + 1)
    steps = property(lambda self: self.p)
    tolerance: ClassVar = 0.25
    criterion: ClassVar = Criterion(10_000, wrong=0)
    reported: ClassVar = {(100, True): 5_040, (100, False): 5_680}

    p: task.AtLeastTwo = 100
    regular: bool = True

    @property
    def description(self) -> str:
        order = "in order" if self.regular else "at random"
        return f"Noise-free: the first symbol after {self.p - 1} others that come {order}"

    def sample(self, generator: np.random.Generator, count: int) -> Batch:
        codes = np.empty((count, self.p + 1), int)
        codes[:, 0] = codes[:, -1] = generator.integers(self.p - 1, self.p + 1, size=count)
        codes[:, 1:-1] = np.arange(self.p - 1)
        if not self.regular:
            codes[:, 1:-1] = generator.integers(self.p - 1, size=(count, self.p - 1))
        symbols = task.one_hot(codes, self.p + 1)
        weight = np.ones((count, self.p), "float32")
        weight[:, -1] = self.p if self.regular else 10 * self.p
        return Batch(symbols[:, :-1], symbols[:, 1:], None, weight)

    def judge(self, outputs: np.ndarray, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
        counted = slice(None) if self.regular else slice(-1, None)
        return super().judge(outputs[:, counted], batch._replace(y=batch.y[:, counted]))


@dataclass(frozen=True)
class LongLag(SequenceTask):
    """The second symbol, x or y, is recalled when a trigger comes, at least q + 1 steps later.

    A sequence is b, y or x, then q and k further distractors, the trigger e, and y or x again,
    which is to be predicted: each further symbol is a distractor with probability 9/10 and e with
    1/10. x and y are equally likely, and so are all distractors. The inputs are the p distractors,
    e, b, x and y in this order, each sequence without its last symbol; the outputs are x and y.

    k has no bound. Here it has: 197, which fewer than one of 10^9 sequences would exceed. The error
    is the largest of the two absolute errors; right is below 0.2.

    Args:
        p: Number of distractors.
        q: Number of distractors, at least, between what is to be remembered and the trigger.

    Example:

    >>> import numpy as np
    >>> from keras_deeplstm.experiments.tasks.sequences.long_lags import LongLag
    >>> batch = LongLag().sample(np.random.default_rng(0), 32)
    >>> batch.x.shape, batch.y.shape
    ((32, 300, 104), (32, 2))
    """

    name: ClassVar = "long-lag"
    source: ClassVar = "Hochreiter & Schmidhuber 1997, experiment 2c, Table 3"
    description = property(
        lambda self: f"Long lag: the second symbol after {self.q} or more of {self.p} distractors"
    )
    readout: ClassVar = "softmax"
    further: ClassVar = 197  # the largest k: the smallest one with 0.9**k < 1e-9
    features = property(lambda self: self.p + 4)
    outputs: ClassVar = 2
    steps = property(lambda self: self.q + self.further + 3)
    tolerance: ClassVar = 0.2
    criterion: ClassVar = Criterion(10_000, wrong=0)
    reported: ClassVar = {
        (50, 50): 30_000, (100, 100): 31_000, (200, 200): 33_000, (500, 500): 38_000,
        (1000, 1000): 49_000, (500, 1000): 49_000, (200, 1000): 75_000,
        (100, 1000): 135_000, (50, 1000): 203_000,
    }  # fmt: skip

    p: Count = 100
    q: Count = 100

    def sample(self, generator: np.random.Generator, count: int) -> Batch:
        trigger, begin, first = self.p, self.p + 1, self.p + 2
        k = np.minimum(generator.geometric(0.1, size=count) - 1, self.further)
        which = generator.integers(2, size=count)
        mask = task.mask_of(self.q + k + 3, self.steps)
        codes = generator.integers(self.p, size=mask.shape)
        codes[:, 0] = begin
        codes[:, 1] = first + which
        codes[np.arange(count), self.q + k + 2] = trigger
        return Batch(task.one_hot(codes, self.features, mask), task.one_hot(which, 2), mask, None)
