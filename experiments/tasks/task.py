"""What every task has: data, loss, metric and success criterion."""

import hashlib
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

SPLIT_SEED = 0  # whatever the seed of a run
LARGEST = 8 * 2**30  # bytes of data


class DataError(Exception):
    """A data set that is absent, damaged or not what it should be."""


def check_memory(source: Path, size: int) -> None:
    """Raise `DataError` if data that take `size` bytes as float32 are more than can be meant."""
    if size > LARGEST:
        raise DataError(
            f"'{source}' needs {size / 1e9:.1f} GB of memory; data of at most "
            f"{LARGEST / 1e9:.1f} GB are loaded"
        )


Pair = tuple[np.ndarray, np.ndarray]  # inputs and targets


def part(x: np.ndarray, y: np.ndarray, count: int) -> tuple[Pair, Pair]:
    """Part examples in two, each with its share of every class, the second with `count` of them.

    They are always parted in the same way.
    """
    # The command's help does not wait for scikit-learn.
    from sklearn.model_selection import train_test_split

    x, x_part, y, y_part = train_test_split(
        x, y, test_size=count, stratify=y, random_state=SPLIT_SEED
    )
    return (x, y), (x_part, y_part)


class Splits(NamedTuple):
    """Training, validation and test data, each a pair of inputs and targets.

    Args:
        train, validation, test: `(x, y)`: float32 `(n, *input_shape)` and integer classes `(n,)`.

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

    @classmethod
    def of(cls, x: np.ndarray, y: np.ndarray) -> "Splits":
        """70 % of the examples for training, 10 % for validation, 20 % for testing.

        Each part has its share of every class; which examples it has is always the same.

        Args:
            x: Inputs, `(n, ...)`.
            y: Classes, `(n,)`.

        Returns:
            The splits.

        Raises:
            ValueError: There are too few examples of a class, or fewer than classes in a part.
        """
        rest, test = part(x, y, math.ceil(len(x) / 5))
        return cls(*part(*rest, math.ceil(len(x) / 10)), test)

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
        # Imported here, so that the command's help need not wait for scikit-learn.
        from sklearn.model_selection import StratifiedKFold

        if not 1 <= number <= folds:
            raise ValueError(
                f"Argument `number` must be from 1 to {folds}. Received: number={number}"
            )
        x, y = map(np.concatenate, zip(self.train, self.validation, strict=True))
        splitter = StratifiedKFold(folds, shuffle=True, random_state=SPLIT_SEED)
        train, validation = list(splitter.split(x, y))[number - 1]
        return Splits((x[train], y[train]), (x[validation], y[validation]), self.test)


@dataclass(frozen=True)
class Task:
    """A data set together with what it means to solve it.

    Example:

    >>> import numpy as np
    >>> from keras_deeplstm.experiments import Splits, Task
    >>> def load(data_dir=None):
    ...     x = np.random.default_rng(0).integers(0, 2, (1000, 6)).astype("float32")
    ...     return Splits.of(x, x.sum(axis=1).astype("int64") % 2)
    >>> task = Task("parity", "is the number of ones odd?", None, None, load, criterion=0.95)
    >>> task.sizes(task.load())
    ((6,), 2)
    """

    name: str
    """Under which it is registered; part of the names of its runs."""
    description: str
    """One line for `deeplstm list tasks`."""
    input_shape: tuple[int, ...] | None
    """Shape of one input; None if only the data tell."""
    num_classes: int | None
    """Number of classes; None if only the data tell."""
    load: Callable[[Path | None], Splits]
    """Reads the data; the argument is a folder given by the user, or None."""
    criterion: float | None = None
    """The task counts as solved from this value of the metric on; None if nobody can say."""
    loss: dict[str, Any] = field(
        default_factory=lambda: {
            "class_name": "SparseCategoricalCrossentropy",
            "config": {"from_logits": True},
        }
    )
    """Configuration of a Keras loss, for `keras.losses.get`. Models return logits."""
    metric: str = "accuracy"
    """Keras metric, better when higher; its value on the test data is the result of a run."""

    def sizes(self, data: Splits) -> tuple[tuple[int, ...], int]:
        """Input shape and number of classes: what the task says, else what its data have.

        Args:
            data: What `load` has returned.

        Returns:
            `(input_shape, num_classes)`.
        """
        input_shape, num_classes = self.input_shape, self.num_classes
        if input_shape is None:
            input_shape = data.train[0].shape[1:]
        if num_classes is None:
            num_classes = 1 + max(int(y.max()) for _, y in data)
        return input_shape, num_classes
