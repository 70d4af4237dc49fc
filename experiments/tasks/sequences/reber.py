"""The embedded Reber grammar: predict what may come next, and recall the second symbol."""

import functools
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np

from keras_deeplstm import validation
from keras_deeplstm.experiments.tasks.sequences import task
from keras_deeplstm.experiments.tasks.sequences.task import Batch, Criterion, SequenceTask

SYMBOLS = "BTPSXVE"
STRINGS = 256  # in each of the two sets
# Reber's graph after its first symbol B: of each node, the two symbols that leave it, and whereto.
GRAPH = ({"T": 1, "P": 2}, {"S": 1, "X": 3}, {"T": 2, "V": 4}, {"X": 2, "S": 5}, {"P": 3, "V": 5})
END = len(GRAPH)  # from here only E leads on


@functools.cache
def _strings(seed):
    """The strings of both sets, with the symbols that may follow each of their symbols."""
    generator = np.random.default_rng(seed)
    found = {}  # unlike a set, it has an order
    while len(found) < 2 * STRINGS:
        string, followers = _draw(generator)
        found[string] = followers
    strings = list(found)
    return {strings[row]: found[strings[row]] for row in generator.permutation(len(found))}


def _draw(generator):
    second = "TP"[generator.integers(2)]
    string, followers, node = f"B{second}B", ["TP", "B"], 0
    while node != END:
        symbols = list(GRAPH[node])
        symbol = symbols[generator.integers(2)]
        string += symbol
        followers.append(symbols)
        node = GRAPH[node][symbol]
    return f"{string}E{second}E", [*followers, "E", second, "E"]


@functools.cache
def _batch(seed):
    """All strings of both sets as one batch."""
    strings = _strings(seed)
    lengths = np.array([len(string) for string in strings]) - 1
    mask = task.mask_of(lengths, lengths.max())
    codes = np.zeros((len(strings), lengths.max() + 1), int)
    truth = np.zeros((*mask.shape, len(SYMBOLS)), bool)
    for row, (string, followers) in enumerate(strings.items()):
        codes[row, : len(string)] = [SYMBOLS.index(symbol) for symbol in string]
        truth[row, : len(followers)] = [[s in some for s in SYMBOLS] for some in followers]
    x = task.one_hot(codes[:, :-1], len(SYMBOLS), mask)
    y = task.one_hot(codes[:, 1:], len(SYMBOLS), mask)
    return Batch(x, y, mask, mask.astype("float32"), truth)


@dataclass(frozen=True)
class Reber(SequenceTask):
    """Strings of the embedded Reber grammar, 256 to train with and 256 others to test with.

    A string is B, T or P, a string of Reber's grammar, the same T or P again, and E. Every edge is
    taken with probability 0.5. At every step the next symbol is predicted, and only memory of the
    second one tells the last but one.

    The paper does not say whether a set may hold a string twice. Here all 512 are different: they
    are drawn until there are enough, then dealt at random, so that neither set gets the rare ones.

    `truth` says which symbols may follow, `(count, steps, 7)`, bool. A string is right if these are
    more active than all others at every step; its error is the fraction of the other steps.

    Args:
        data: Seed of the two sets; the paper has three of them.

    Example:

    >>> import numpy as np
    >>> from keras_deeplstm.experiments.tasks.sequences.reber import Reber
    >>> batch = Reber().sample(np.random.default_rng(0), 32)
    >>> batch.x.shape == batch.y.shape == batch.truth.shape == (32, Reber().steps, 7)
    True
    """

    name: ClassVar = "reber"
    source: ClassVar = "Hochreiter & Schmidhuber 1997, experiment 1, Table 1"
    description: ClassVar = "Embedded Reber grammar: the next symbol of 256 + 256 strings"
    readout: ClassVar = "softmax"
    features = outputs = len(SYMBOLS)
    steps = property(lambda self: _batch(self.data).x.shape[1])  # the longest string but its end
    criterion: ClassVar = Criterion(2 * STRINGS, wrong=0, of="strings of both sets")
    fixed_test: ClassVar = True
    paper_sequences: ClassVar = 8_440

    data: Annotated[int, functools.partial(validation.integer, at_least=0)] = 0

    def strings(self) -> tuple[list[str], list[str]]:
        """The strings to train with and the strings to test with."""
        found = list(_strings(self.data))
        return found[:STRINGS], found[STRINGS:]

    def sample(self, generator: np.random.Generator, count: int) -> Batch:
        """Draw `count` of the 256 strings to train with; one may come twice."""
        return self._take(generator.integers(STRINGS, size=count))

    def test(self, generator: np.random.Generator, count: int) -> Batch:
        """All 512 strings, those to train with first; nothing is drawn, `count` is not used."""
        return self._take(np.arange(2 * STRINGS))

    def _take(self, rows):
        return Batch(*(part[rows] for part in _batch(self.data)))

    def judge(self, outputs: np.ndarray, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
        assert batch.truth is not None
        least = np.where(batch.truth, outputs, np.inf).min(axis=-1)
        most = np.where(batch.truth, -np.inf, outputs).max(axis=-1)
        return task.judge_steps(least > most, batch)
