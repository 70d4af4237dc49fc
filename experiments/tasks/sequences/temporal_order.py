"""Temporal order: in which order did the relevant symbols come?"""

from dataclasses import dataclass
from functools import partial
from typing import Annotated, ClassVar

import numpy as np

from keras_deeplstm import validation
from keras_deeplstm.experiments.tasks.sequences import task
from keras_deeplstm.experiments.tasks.sequences.task import Batch, Criterion, SequenceTask

SYMBOLS = "abcdXYEB"


@dataclass(frozen=True)
class TemporalOrder(SequenceTask):
    """Tell in which order X and Y came among many symbols that mean nothing.

    A sequence begins with E, ends with B, has 100 to 110 symbols, and is filled with a, b, c and d
    at random. Either X or Y, at random, stands at each of two places, 10 to 20 and 50 to 60, or
    three, 10 to 20, 33 to 43 and 66 to 76: bounds included, E at place 1. The inputs are a, b, c,
    d, X, Y, E, B; the classes XX, XY, YX, YY (Q, R, S, U) or XXX, XXY, ... YYY (Q, R, S, U, V, A,
    B, C) in this order. The class is told at the end. A sequence is right if all absolute errors of
    its outputs are below 0.3; their mean is its error.

    Args:
        symbols: Number of X and Y in a sequence, 2 (6a) or 3 (6b).

    Example:

    >>> import numpy as np
    >>> from keras_deeplstm.experiments.tasks.sequences.temporal_order import TemporalOrder
    >>> batch = TemporalOrder().sample(np.random.default_rng(0), 32)
    >>> batch.x.shape, batch.y.shape
    ((32, 110, 8), (32, 4))
    """

    name: ClassVar = "temporal-order"
    source: ClassVar = "Hochreiter & Schmidhuber 1997, experiments 6a and 6b, Table 9"
    description = property(
        lambda self: f"Temporal order: of {self.symbols} symbols X or Y among 100 to 110"
    )
    readout: ClassVar = "softmax"
    features: ClassVar = len(SYMBOLS)
    outputs = property(lambda self: 2**self.symbols)
    steps: ClassVar = 110
    places: ClassVar = {2: ((10, 20), (50, 60)), 3: ((10, 20), (33, 43), (66, 76))}
    criterion: ClassVar = Criterion(2000, wrong=0, error=0.1)
    reported: ClassVar = {(2,): 31_390, (3,): 571_100}

    symbols: Annotated[int, partial(validation.integer, at_least=2, at_most=3)] = 2

    def sample(self, generator: np.random.Generator, count: int) -> Batch:
        lengths = generator.integers(100, 110, size=count, endpoint=True)
        mask = task.mask_of(lengths, self.steps)
        codes = generator.integers(4, size=mask.shape)
        rows, kind = np.arange(count), np.zeros(count, int)
        for low, high in self.places[self.symbols]:
            place = generator.integers(low, high, size=count, endpoint=True)
            symbol = generator.integers(2, size=count)
            codes[rows, place - 1] = SYMBOLS.index("X") + symbol
            kind = 2 * kind + symbol
        codes[:, 0] = SYMBOLS.index("E")
        codes[rows, lengths - 1] = SYMBOLS.index("B")
        x = task.one_hot(codes, self.features, mask)
        return Batch(x, task.one_hot(kind, self.outputs), mask, None)

    def judge(self, outputs: np.ndarray, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
        errors = np.abs(outputs - batch.y)
        return errors.max(axis=1) < 0.3, errors.mean(axis=1)
