"""Tasks: data, loss, metric and success criterion."""

import dataclasses
import hashlib
import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from keras_deeplstm import validation
from keras_deeplstm.experiments.tasks.measures import Direction, Measure

SPLIT_SEED = 0  # whatever the seed of a run
LARGEST = 8 * 2**30  # bytes of data
LEAST = 10  # examples of each class, so that a part of a tenth has one


class DataError(Exception):
    """A data set that is absent, damaged or not what it should be."""


def check_memory(source: Path, size: int) -> None:
    """Raise `DataError` if data that take `size` bytes as float32 are more than can be meant."""
    if size > LARGEST:
        raise DataError(
            f"'{source}' needs {size / 1e9:.1f} GB of memory; data of at most "
            f"{LARGEST / 1e9:.1f} GB are loaded"
        )


def numbered(labels: np.ndarray, source: object, least: int = LEAST, hint: str = ""):
    """The number of each label's class, from 0 in their sorted order; and the classes.

    A `DataError` names the source if there is one class only, or one with fewer than `least`.
    """
    classes, numbers, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if len(classes) < 2:
        raise DataError(f"'{source}' has one class only, {classes[0].item()!r}")
    if counts.min() < least:
        raise DataError(
            f"Class {classes[counts.argmin()].item()!r} of '{source}' has {counts.min()} of the "
            f"examples to be split; each class needs at least {least}{hint}"
        )
    return numbers.astype(np.int64), classes


Pair = tuple[np.ndarray, np.ndarray]  # inputs and targets


def holds_classes(y: np.ndarray) -> bool:
    """Whether targets are numbers of classes, `(n,)`, of which each part gets its share."""
    return y.ndim == 1 and y.dtype.kind in "iub"


def part(x: np.ndarray, y: np.ndarray, count: int) -> tuple[Pair, Pair]:
    """Part examples in two, always in the same way; `count` of them are in the second part.

    Each part has its share of every class, if the targets are classes.
    """
    # The command's help does not wait for scikit-learn.
    from sklearn.model_selection import train_test_split

    x, x_part, y, y_part = train_test_split(
        x, y, test_size=count, stratify=y if holds_classes(y) else None, random_state=SPLIT_SEED
    )
    return (x, y), (x_part, y_part)


def parted(y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The rows of training, validation and test data, 70, 10 and 20 %; always the same."""
    (rest, y_rest), (test, _) = part(np.arange(len(y)), y, math.ceil(len(y) / 5))
    (train, _), (validation, _) = part(rest, y_rest, math.ceil(len(y) / 10))
    return train, validation, test


@dataclass(frozen=True)
class Splits:
    """Training, validation and test data, each a pair of inputs and targets.

    Iterating over it yields these three.

    Args:
        train, validation, test: `(x, y)`: float32 `(n, *input_shape)`, and integer classes `(n,)`
            or float32 numbers `(n,)` or `(n, outputs)`; `(n, steps, outputs)` of a task with a
            target for each step of a model over depth.
        notes: What the user should know of the data.
        classes: Names of the classes, in their order, for reports; none: their numbers.
        anew: Of data that are prepared by their training part, as by its mean: a function that
            makes the splits whose training and validation data are those of these numbers, counted
            from 0 through both. Folds are made by it.

    Example:

    >>> import numpy as np
    >>> from keras_deeplstm.experiments import Splits
    >>> splits = Splits.of(np.zeros((50, 3), "float32"), np.arange(50) % 2)
    >>> [len(y) for _, y in splits]
    [35, 5, 10]
    >>> [len(y) for _, y in splits.fold(1, folds=4)]
    [30, 10, 10]
    """

    train: Pair
    validation: Pair
    test: Pair
    notes: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    anew: Callable[[np.ndarray, np.ndarray], "Splits"] | None = None

    def __iter__(self) -> Iterator[Pair]:
        return iter((self.train, self.validation, self.test))

    @classmethod
    def of(cls, x: np.ndarray, y: np.ndarray, classes: tuple[str, ...] = ()) -> "Splits":
        """70 % of the examples for training, 10 % for validation, 20 % for testing.

        Each part has its share of every class; which examples it has is always the same.

        Args:
            x: Inputs, `(n, ...)`.
            y: Classes, `(n,)`, or numbers.
            classes: Their names.

        Returns:
            The splits.

        Raises:
            ValueError: There are too few examples of a class, or fewer than classes in a part.
        """
        train, validation, test = ((x[rows], y[rows]) for rows in parted(y))
        return cls(train, validation, test, classes=classes)

    def digest(self) -> str:
        """Return a checksum: 16 hexadecimal digits that change with any value of the data."""
        found = hashlib.sha256()
        for array in map(np.ascontiguousarray, itertools.chain(*self)):
            found.update(f"{array.dtype.str}{array.shape}".encode())
            found.update(array.data)
        return found.hexdigest()[:16]

    def fold(self, number: int, folds: int) -> "Splits":
        """Training and validation data parted anew for cross-validation; the test data stay.

        Args:
            number: The fold that validates, from 1.
            folds: Number of folds, each with the same share of every class. They depend on nothing
                else, not on the seed of a run either.

        Returns:
            The new splits.

        Raises:
            ValueError: There are fewer than 2 folds, or fewer examples of every class than folds,
                or `number` is none of them.
        """
        # The command's help does not wait for scikit-learn.
        from sklearn.model_selection import KFold, StratifiedKFold

        if not 1 <= number <= folds:
            raise ValueError(
                f"Argument `number` must be from 1 to {folds}. Received: number={number}"
            )
        x, y = map(np.concatenate, zip(self.train, self.validation, strict=True))
        kind = StratifiedKFold if holds_classes(y) else KFold
        splitter = kind(folds, shuffle=True, random_state=SPLIT_SEED)
        train, validation = list(splitter.split(x, y))[number - 1]
        if self.anew is not None:
            return self.anew(train, validation)
        return dataclasses.replace(
            self, train=(x[train], y[train]), validation=(x[validation], y[validation])
        )


@dataclass(frozen=True)
class Task:
    """A data set together with what it means to solve it.

    Raises:
        ValueError: The metric is unknown to Keras, or a class of your own that is not registered
            with it; nobody knows whether more of it is better; the form cannot write a number.

    Example:

    >>> import numpy as np
    >>> from keras_deeplstm.experiments import Splits, Task
    >>> def load(data_dir=None):
    ...     x = np.random.default_rng(0).integers(0, 2, (1000, 6)).astype("float32")
    ...     return Splits.of(x, x.sum(axis=1).astype("int64") % 2)
    >>> task = Task("parity", "is the number of ones odd?", None, None, load, criterion=0.95)
    >>> task.sizes(task.load())
    ((6,), 2)
    >>> task.solved(0.96), task.solved(0.94)
    (True, False)
    """

    name: str
    """Under which it is registered; part of the names of its runs."""
    description: str
    """One line for `deeplstm list tasks`."""
    input_shape: tuple[int, ...] | None
    """Shape of one input; None if only the data tell."""
    num_classes: int | None
    """Number of classes, or of numbers to predict, at each step if there are several; None if only
    the data tell."""
    load: Callable[[Path | None], Splits]
    """Reads the data; the argument is a folder given by the user, or None."""
    criterion: float | None = None
    """The task counts as solved from this value of the metric on; None if nobody can say."""
    loss: Any = field(
        default_factory=lambda: {
            "class_name": "SparseCategoricalCrossentropy",
            "config": {"from_logits": True},
        }
    )
    """Keras loss: its name, config or an object. Models of classes return logits."""
    metric: Any = "accuracy"
    """Keras metric whose value on the test data is the result of a run: its name, config, an object
    or a function. It is kept as its config and made anew for each run, so that a class or function
    of your own must be registered with Keras. Or a `Measure`, which says all of it."""
    direction: Direction | None = None
    """Whether a higher metric is better, "max", or a lower one, "min"; None for one of Keras' own,
    of which that is known."""
    form: str | None = None
    """How a value of the metric is written, for `format`: ".3f"; None writes shares in percent and
    all others with four digits."""
    output_range: tuple[float, float] | None = None
    """The numbers to predict lie between these two, so that a model's outputs do, too."""
    remark: str = ""
    """A line that the command prints first."""

    def __post_init__(self):
        _ = self.measure  # raises for a metric that cannot be used
        if self.criterion is not None:
            validation.finite("criterion", self.criterion)

    @cached_property
    def measure(self) -> Measure:
        """The metric, its direction and how it is written."""
        if isinstance(self.metric, Measure):
            return self.metric
        return Measure.of(self.metric, self.direction, self.form)

    def solved(self, value: float) -> bool | None:
        """Whether a value of the metric is good enough; None if nobody can say.

        Args:
            value: The metric on the test data.

        Returns:
            True, False or None.
        """
        return None if self.criterion is None else self.measure.reached(value, self.criterion)

    @property
    def about(self) -> str:
        """What is to be predicted, and from when on it counts as solved."""
        if self.criterion is None:
            return f"{self.description}."
        measure = self.measure
        criterion, words = measure.text(self.criterion), f"test {measure.words}"
        if measure.direction == "min":
            return f"{self.description}. It counts as solved with a {words} of {criterion} or less."
        return f"{self.description}. It counts as solved from {criterion} {words} on."

    def sizes(self, data: Splits) -> tuple[tuple[int, ...], int]:
        """Input shape and number of outputs: what the task says, else what its data have.

        Args:
            data: What `load` has returned.

        Returns:
            `(input_shape, num_classes)`.
        """
        x, y = data.train
        outputs = self.num_classes
        if outputs is None and holds_classes(y):
            outputs = 1 + max(int(part.max()) for _, part in data)
        elif outputs is None:
            outputs = y.shape[-1] if y.ndim > 1 else 1
        return self.input_shape or x.shape[1:], outputs
