"""The embedded Reber grammar: predict what may come next, and recall the second symbol."""

import functools
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

SYMBOLS = "BTPSXVE"
STRINGS = 256  # in each of the two sets
# Reber's graph after its first symbol B: of each node, the two edges that leave it.
GRAPH = (
    (("T", 1), ("P", 2)),
    (("S", 1), ("X", 3)),
    (("T", 2), ("V", 4)),
    (("X", 2), ("S", 5)),
    (("P", 3), ("V", 5)),
)
END = len(GRAPH)  # from here only E leads on


@dataclass(frozen=True)
class Reber(SequenceTask):
    """Strings of the embedded Reber grammar, 256 to train with and 256 others to test with.

    A string is B, T or P, a string of Reber's grammar, the same T or P again, and E. Every edge is
    taken with probability 0.5. At every step the next symbol is predicted, and only memory of the
    second one tells the last but one.

    The paper does not say whether a set may hold a string twice. Here all 512 are different: they
    are drawn until there are enough, then dealt at random, so that neither set gets the rare ones.

    Args:
        data: Seed of the two sets; the paper has three of them.

    `truth` says which symbols may follow, `(count, steps, 7)`, bool. A string is right if at every
    step all symbols that may follow are more active than all others; its error is the fraction of
    steps where that fails.

    Example:

    >>> import numpy as np
    >>> from keras_deeplstm.experiments.tasks.sequences.reber import Reber
    >>> batch = Reber().sample(np.random.default_rng(0), 32)
    >>> batch.x.shape == batch.y.shape == batch.truth.shape == (32, Reber().steps, 7)
    True
    """

    name: ClassVar = "reber"
    source: ClassVar = "Hochreiter & Schmidhuber 1997, experiment 1, Table 1"
    readout: ClassVar = "softmax"
    fixed_test: ClassVar = True
    features: ClassVar = len(SYMBOLS)
    outputs: ClassVar = len(SYMBOLS)
    paper_sequences: ClassVar = 8_440
    description: ClassVar = "Embedded Reber grammar: the next symbol of 256 + 256 strings"
    criterion: ClassVar = Criterion(2 * STRINGS, wrong=0, error=None, of="strings of both sets")

    data: int = 0

    def __post_init__(self):
        validation.integer("data", self.data, at_least=0)

    @property
    def steps(self) -> int:
        """One less than the longest string has symbols."""
        return _batch(self.data).x.shape[1]

    def strings(self) -> tuple[list[str], list[str]]:
        """The strings to train with and the strings to test with."""
        found = _strings(self.data)
        return list(found[:STRINGS]), list(found[STRINGS:])

    def sample(self, generator: np.random.Generator, count: int) -> Batch:
        """Draw `count` of the 256 strings to train with; one may come twice."""
        return self._take(generator.integers(STRINGS, size=count))

    def test(self, generator: np.random.Generator, count: int) -> Batch:
        """All 512 strings, those to train with first; nothing is drawn, `count` is not used."""
        return self._take(np.arange(2 * STRINGS))

    def _take(self, rows):
        return Batch(*(part[rows] for part in _batch(self.data)))

    def judge(self, outputs: np.ndarray, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
        """See the class."""
        assert batch.truth is not None and batch.mask is not None
        least = np.where(batch.truth, outputs, np.inf).min(axis=-1)
        most = np.where(batch.truth, -np.inf, outputs).max(axis=-1)
        wrong = ~(least > most) & batch.mask  # so that NaN is wrong
        return ~wrong.any(axis=1), wrong.sum(axis=1) / batch.mask.sum(axis=1)


@functools.cache
def _strings(seed):
    generator = np.random.default_rng(seed)
    found = {}  # a dict, because a set has no order
    while len(found) < 2 * STRINGS:
        found[_draw(generator)] = None
    found = list(found)
    return tuple(found[row] for row in generator.permutation(len(found)))


def _draw(generator):
    second = "TP"[generator.integers(2)]
    inner, node = "", 0
    while node != END:
        symbol, node = GRAPH[node][generator.integers(2)]
        inner += symbol
    return f"B{second}B{inner}E{second}E"


@functools.cache
def _batch(seed):
    """All strings of both sets as one batch."""
    strings = _strings(seed)
    lengths = np.array([len(string) for string in strings]) - 1
    mask = mask_of(lengths, lengths.max())
    codes = np.full((len(strings), lengths.max() + 1), len(SYMBOLS))
    truth = np.zeros((*mask.shape, len(SYMBOLS)), bool)
    for row, string in enumerate(strings):
        codes[row, : len(string)] = [SYMBOLS.index(symbol) for symbol in string]
        for step, symbols in enumerate(_followers(string)):
            truth[row, step, [SYMBOLS.index(symbol) for symbol in symbols]] = True
    x = one_hot(np.where(mask, codes[:, :-1], len(SYMBOLS)), len(SYMBOLS))
    y = one_hot(codes[:, 1:], len(SYMBOLS))
    return Batch(x, y, mask, mask.astype("float32"), truth)


def _followers(string):
    """The symbols that may follow each symbol of a string but the last one."""
    found, node = ["TP", "B"], 0
    for symbol in string[3:-3]:
        edges = dict(GRAPH[node])
        found.append("".join(edges))
        node = edges[symbol]
    return [*found, "E", string[1], "E"]
