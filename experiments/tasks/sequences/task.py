"""What every sequence task has: sequences drawn at random, a score and a criterion of success."""

import copy
import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np


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
        sequences: Number of test sequences.
        wrong: At most so many of them may be wrong; None: no matter.
        error: The mean of their errors must be below; None: no matter.
        of: What the sequences are.

    Example:

    >>> from keras_deeplstm.experiments.tasks.sequences.task import Criterion
    >>> Criterion(2000, wrong=0, error=0.01).words
    'all of 2,000 fresh sequences right, mean error below 0.01'
    """

    sequences: int
    wrong: int | None
    error: float | None
    of: str = "fresh sequences"

    def __post_init__(self):
        if self.wrong is None and self.error is None:
            raise ValueError("A criterion needs `wrong` or `error`. Received: None for both")

    @property
    def words(self) -> str:
        """The criterion as people say it."""
        tested = f"{self.sequences:,} {self.of}"
        if self.wrong is None:
            return f"mean error of {tested} below {self.error:g}"
        words = f"at most {self.wrong:,} of {tested} wrong"
        if self.wrong == 0:
            words = f"all of {tested} right"
        return words if self.error is None else f"{words}, mean error below {self.error:g}"

    def holds(self, correct: np.ndarray, error: np.ndarray) -> bool:
        """Whether sequences with this score are enough.

        Args:
            correct: Whether each sequence is right, `(sequences,)`.
            error: Their errors, `(sequences,)`. A single NaN is too large an error.

        Raises:
            ValueError: These are not as many sequences as the criterion asks for.
        """
        for name, values in (("correct", correct), ("error", error)):
            if np.shape(values) != (self.sequences,):
                raise ValueError(
                    f"Argument `{name}` must have the shape ({self.sequences},). "
                    f"Received: {name} of shape {np.shape(values)}"
                )
        few = self.wrong is None or np.count_nonzero(~np.asarray(correct, bool)) <= self.wrong
        return bool(few and (self.error is None or np.mean(error, dtype=float) < self.error))


class SequenceTask(ABC):
    """A task whose sequences are drawn at random; its fields are its parameters.

    The paper's values are the defaults. All that is drawn comes from the generator passed, so that
    equal generators draw equal batches.

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
    source: ClassVar[str]
    """Paper, and where in it the task is defined."""
    readout: ClassVar[Literal["softmax", "sigmoid", "linear"]]
    """What the outputs have gone through when they are scored. The loss follows from it: cross
    entropy over all outputs, cross entropy of each output, squared error."""
    fixed_test: ClassVar[bool] = False
    """Whether `test` returns the same sequences again and again, all that there are."""
    test_sequences: ClassVar[int] = 2560
    """How many sequences tell at the end how good a model is; as Hochreiter & Schmidhuber did."""
    data_dir: ClassVar[Path | None] = None
    """Folder with data sets, of a task that reads any; see `reading`."""

    @property
    def checksum(self) -> str:
        """Of the data of such a task."""
        return ""

    @property
    @abstractmethod
    def features(self) -> int:
        """Number of inputs, of each step if there are steps."""

    @property
    @abstractmethod
    def outputs(self) -> int:
        """Number of outputs."""

    @property
    @abstractmethod
    def steps(self) -> int | None:
        """Number of steps of a batch: the longest sequence; None of a task without time."""

    @property
    @abstractmethod
    def description(self) -> str:
        """What is to be learned, in one line."""

    @property
    @abstractmethod
    def criterion(self) -> Criterion:
        """When the task counts as solved.

        Where a paper looks at its last training sequences, fresh ones take their place: drawn
        on-line, each of the paper's was as new to its network.
        """

    @property
    def paper_sequences(self) -> int | None:
        """Training sequences until success in the paper, the mean of its best LSTM; None: unknown.

        It is what the paper reports for exactly these parameters.
        """
        return None

    @property
    def paper(self) -> str | None:
        """What the paper reports for exactly these parameters; None if it says nothing."""
        return None if self.paper_sequences is None else f"{self.paper_sequences:,} sequences"

    def reading(self, data_dir: Path | None) -> "SequenceTask":
        """The same task, with its data in this folder; None stands for the usual places."""
        task = copy.copy(self)
        object.__setattr__(task, "data_dir", data_dir)  # no parameter, and the class is frozen
        return task

    def examples(self) -> dict[str, Batch]:
        """Single sequences of a forecast that a report draws, by what they are."""
        return {}

    def reach(self, predict: Callable[[np.ndarray], np.ndarray]) -> int | None:
        """How far beyond its training a model is right; None if the task knows no such measure.

        Args:
            predict: Gives the outputs, after the readout, for inputs of any number of steps.
        """
        return None

    @abstractmethod
    def sample(self, generator: np.random.Generator, count: int) -> Batch:
        """Draw `count` sequences to train with."""

    def test(self, generator: np.random.Generator, count: int) -> Batch:
        """Draw `count` sequences to test with.

        Many long ones had better be drawn in parts: 10,000 sequences of 100 steps and 100 symbols
        take 0.8 GB.
        """
        return self.sample(generator, count)

    def score(self, outputs: np.ndarray, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
        """Tell which sequences are right.

        Args:
            outputs: What the network says, of the shape of `batch.y`, after the readout.
            batch: The sequences.

        Returns:
            Whether each sequence is right and its error, both `(count,)`.

        Raises:
            ValueError: The outputs have another shape.
        """
        outputs = np.asarray(outputs)
        if outputs.shape != batch.y.shape:
            raise ValueError(
                f"Argument `outputs` must have the shape of the targets, {batch.y.shape}. "
                f"Received: outputs of shape {outputs.shape}"
            )
        return self.judge(outputs, batch)

    @abstractmethod
    def judge(self, outputs: np.ndarray, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
        """Score outputs that are known to have the right shape; see `score`."""


def activated(outputs: np.ndarray, readout: str) -> np.ndarray:
    """Linear outputs after the activation of a task's readout."""
    # Imported here, so that the command's help need not wait for SciPy.
    from scipy import special

    if readout == "softmax":
        return special.softmax(outputs, axis=-1)
    return special.expit(outputs) if readout == "sigmoid" else outputs


def one_hot(codes: np.ndarray, symbols: int) -> np.ndarray:
    """Symbols numbered from 0 as vectors, float32; the number `symbols` is padding, all 0.

    Example:

    >>> import numpy as np
    >>> from keras_deeplstm.experiments.tasks.sequences.task import one_hot
    >>> one_hot(np.array([1, 0, 2]), 2).tolist()
    [[0.0, 1.0], [1.0, 0.0], [0.0, 0.0]]
    """
    return np.eye(symbols + 1, symbols, dtype="float32")[codes]


def random_lengths(generator: np.random.Generator, count: int, length: int) -> np.ndarray:
    """Lengths of the sequences of Hochreiter & Schmidhuber's experiments 3 to 5, `(count,)`.

    Any whole number from `length` to 1.1 times `length` is as likely as any other.
    """
    return generator.integers(length, longest(length), size=count, endpoint=True)


def longest(length: int) -> int:
    """The most that `random_lengths` draws."""
    return length + length // 10


def mask_of(lengths: np.ndarray, steps: int) -> np.ndarray:
    """The mask of sequences with these lengths, `(count, steps)`."""
    return np.arange(steps) < lengths[:, None]
