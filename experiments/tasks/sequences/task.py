"""What every sequence task has: sequences drawn at random, a score and a criterion of success."""

import copy
import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import numpy as np

from keras_deeplstm import validation

# What a parameter may be: `SequenceTask` calls the function with its name and value.
Count = Annotated[int, validation.positive_integer]
AtLeastTwo = Annotated[int, partial(validation.integer, at_least=2)]


class Batch(NamedTuple):
    """Sequences and their targets.

    All batches of a task have the same number of steps, whatever was drawn, so that a model is
    compiled once. Padding stands at the end and is 0 in all arrays.

    Example:

    >>> import numpy as np
    >>> from keras_deeplstm.experiments.tasks.sequences import parse
    >>> batch = parse("adding:length=5").sample(np.random.default_rng(0), 32)
    >>> batch.x.shape, batch.y.shape, batch.mask.shape, batch.weight
    ((32, 5, 2), (32, 1), (32, 5), None)
    """

    x: np.ndarray
    """`(count, steps, features)`, or `(count, features)` of a task without time; float32."""
    y: np.ndarray
    """`(count, outputs)` if only the end counts, else `(count, steps, outputs)`; float32."""
    mask: np.ndarray | None
    """`(count, steps)`, True within the sequence; None if all sequences have all steps."""
    weight: np.ndarray | None
    """`(count, steps)`, 0 where the output is not trained, else its weight in the loss, mostly 1;
    None if only the end counts."""
    truth: np.ndarray | None = None
    """What the score needs beyond `y`."""


@dataclass(frozen=True)
class Criterion:
    """When a task counts as solved: few sequences are wrong, or their mean error is small.

    Args:
        sequences: Number of sequences that are looked at.
        wrong: At most so many of them may be wrong; None: no matter how many.
        error: The mean of their errors must be below; None: no matter how large.
        of: What the sequences are.

    Example:

    >>> from keras_deeplstm.experiments.tasks.sequences.task import Criterion
    >>> Criterion(2000, wrong=0, error=0.01).words
    'all of 2,000 fresh sequences right, mean error below 0.01'
    """

    sequences: int
    wrong: int | None = None
    error: float | None = None
    of: str = "fresh sequences"

    def __post_init__(self):
        if self.wrong is None and self.error is None:
            raise ValueError("A criterion needs `wrong` or `error`. Received: None for both")

    @property
    def words(self) -> str:
        """The criterion as people say it."""
        them = f"{self.sequences:,} {self.of}"
        if self.wrong is None:
            return f"mean error of {them} below {self.error:g}"
        words = f"at most {self.wrong:,} of {them} wrong" if self.wrong else f"all of {them} right"
        return words if self.error is None else f"{words}, mean error below {self.error:g}"

    def holds(self, correct: np.ndarray, error: np.ndarray) -> bool:
        """Whether this score of as many sequences is enough; one NaN is too large an error."""
        _require("correct", correct, (self.sequences,))
        _require("error", error, (self.sequences,))
        few = self.wrong is None or np.count_nonzero(~np.asarray(correct, bool)) <= self.wrong
        return bool(few and (self.error is None or np.mean(error, dtype=float) < self.error))


class SequenceTask(ABC):
    """A task whose sequences are drawn at random; its fields are its parameters.

    The paper's values are the defaults; type hints say which values fields take. All that is drawn
    comes from the generator passed, so that equal generators draw equal batches. What follows from
    the parameters is a property, all else that a task says of itself a constant.

    Example:

    >>> import numpy as np
    >>> from keras_deeplstm.experiments.tasks.sequences import parse
    >>> task = parse("adding")
    >>> task.readout, task.features, task.outputs, task.steps
    ('linear', 2, 1, 110)
    >>> batch = task.sample(np.random.default_rng(0), 4)
    >>> correct, error = task.score(batch.y, batch)  # of a model that is always right
    >>> correct.tolist(), error.tolist()
    ([True, True, True, True], [0.0, 0.0, 0.0, 0.0])
    """

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]  # all tasks are dataclasses
    name: ClassVar[str]
    source: ClassVar[str]  # the paper, and where in it the task is defined
    # What the outputs have gone through when they are scored. The loss follows from it: cross
    # entropy over all outputs, cross entropy of each output, squared error.
    readout: ClassVar[Literal["softmax", "sigmoid", "linear"]]
    features: ClassVar[int]  # number of inputs, of each step if there are steps
    outputs: ClassVar[int]  # number of outputs
    steps: ClassVar[int | None]  # of a batch: the longest sequence; None of a task without time
    tolerance: ClassVar[float]  # of the absolute errors of a right sequence; see `judge`
    # When the task counts as solved. Where a paper looks at its last training sequences, fresh ones
    # take their place: drawn on-line, each of the paper's was as new to its network.
    criterion: ClassVar[Criterion]
    test_sequences: ClassVar[int] = 2560  # tell how good a model is; as Hochreiter & Schmidhuber's
    fixed_test: ClassVar[bool] = False  # `test` and `validation` always return all that there are
    reported: ClassVar[dict[tuple, int]] = {}  # `paper_sequences` by the values of all parameters
    data_dir: ClassVar[Path | None] = None  # with the data sets of a task that reads any
    checksum: ClassVar[str] = ""  # of the data of such a task

    def __post_init__(self):
        validation.fields(self)

    @property
    @abstractmethod
    def description(self) -> str:
        """What is to be learned, in one line."""

    @property
    def paper_sequences(self) -> int | None:
        """Training sequences until success in the paper, mean of its best LSTM; None: unknown."""
        return self.reported.get(dataclasses.astuple(self))

    @property
    def paper(self) -> str | None:
        """What the paper reports for exactly these parameters; None if it says nothing."""
        return None if self.paper_sequences is None else f"{self.paper_sequences:,} sequences"

    def reading(self, data_dir: Path | None) -> "SequenceTask":
        """The same task with its data in this folder; None stands for the usual places."""
        task = copy.copy(self)
        object.__setattr__(task, "data_dir", data_dir)  # no parameter, and the class is frozen
        return task

    def examples(self) -> dict[str, Batch]:
        """Single sequences of a forecast that a report draws, by what they are."""
        return {}

    def reach(self, predict: Callable[[np.ndarray], np.ndarray]) -> int | None:
        """How far beyond its training a model is right; None if the task knows no such measure.

        `predict` gives the outputs after the readout for inputs of any number of steps. It need not
        know of padding, which stands at the end.
        """
        return None

    @abstractmethod
    def sample(self, generator: np.random.Generator, count: int) -> Batch:
        """Draw `count` sequences to train with."""

    def test(self, generator: np.random.Generator, count: int) -> Batch:
        """Draw `count` sequences to test with; 10,000 of 100 steps and 100 symbols take 0.8 GB."""
        return self.sample(generator, count)

    def validation(self, generator: np.random.Generator, count: int) -> Batch:
        """Draw what the criterion looks at while a model trains; other than `test` if data end."""
        return self.test(generator, count)

    def score(self, outputs: np.ndarray, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
        """Whether each sequence is right, and its error, both `(count,)`.

        The outputs are those after the readout, of the shape of `batch.y`.
        """
        outputs = np.asarray(outputs)
        _require("outputs", outputs, batch.y.shape, "of the targets, ")
        return self.judge(outputs, batch)

    def judge(self, outputs: np.ndarray, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
        """Score outputs of the right shape; unless a task differs, by the worst one of each."""
        error = np.abs(outputs - batch.y).max(axis=tuple(range(1, batch.y.ndim)))
        return error < self.tolerance, error


def _require(name, values, shape, of=""):
    if np.shape(values) != shape:
        found = f"Received: {name} of shape {np.shape(values)}"
        raise ValueError(f"Argument `{name}` must have the shape {of}{shape}. {found}")


def judge_steps(right: np.ndarray, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
    """A score by steps: all that are trained must be right; the error is the share that is not."""
    assert batch.weight is not None
    counted: np.ndarray = batch.weight > 0
    wrong = ~right & counted
    return ~wrong.any(axis=1), wrong.sum(axis=1) / counted.sum(axis=1)


def activated(outputs: np.ndarray, readout: str) -> np.ndarray:
    """Linear outputs after the activation of a task's readout."""
    # Imported here, so that the command's help need not wait for SciPy.
    from scipy import special

    if readout == "softmax":
        return special.softmax(outputs, axis=-1)
    return special.expit(outputs) if readout == "sigmoid" else outputs


def one_hot(codes: np.ndarray, symbols: int, mask: np.ndarray | None = None) -> np.ndarray:
    """Symbols numbered from 0 as vectors, float32; all 0 where the mask is False.

    Example:

    >>> import numpy as np
    >>> from keras_deeplstm.experiments.tasks.sequences.task import one_hot
    >>> one_hot(np.array([1, 0, 7]), 2, np.array([True, True, False])).tolist()
    [[0.0, 1.0], [1.0, 0.0], [0.0, 0.0]]
    """
    vectors = np.eye(symbols + 1, symbols, dtype="float32")  # the last one is 0
    return vectors[codes if mask is None else np.where(mask, codes, symbols)]


def random_lengths(generator: np.random.Generator, count: int, length: int) -> np.ndarray:
    """Lengths as in Hochreiter & Schmidhuber's experiments 3 to 5, uniform from T to 1.1 T."""
    return generator.integers(length, longest(length), size=count, endpoint=True)


def longest(length: int) -> int:
    """The most that `random_lengths` draws."""
    return length + length // 10


def mask_of(lengths: np.ndarray, steps: int) -> np.ndarray:
    """The mask of sequences with these lengths, `(count, steps)`."""
    return np.arange(steps) < lengths[:, None]
