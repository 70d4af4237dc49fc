"""What every task has: data, loss, metric and success criterion."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np


class DataError(Exception):
    """A data set that is absent, damaged or not what it should be."""


class Splits(NamedTuple):
    """Training, validation and test data, each a pair of inputs and targets."""

    train: tuple[np.ndarray, np.ndarray]
    validation: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]

    def fold(self, number: int, folds: int) -> "Splits":
        """Training and validation data parted anew for cross-validation; the test data stay.

        Args:
            number: The fold that validates, from 1.
            folds: Number of folds, each with the same share of every class. They depend on nothing
                else, not on the seed of a run either.
        """
        # Imported here, so that the command's help need not wait for scikit-learn.
        from sklearn.model_selection import StratifiedKFold

        x, y = map(np.concatenate, zip(self.train, self.validation, strict=True))
        splitter = StratifiedKFold(folds, shuffle=True, random_state=0)
        train, validation = list(splitter.split(x, y))[number - 1]
        return Splits((x[train], y[train]), (x[validation], y[validation]), self.test)


@dataclass(frozen=True)
class Task:
    """A data set together with what it means to solve it."""

    name: str
    description: str
    input_shape: tuple[int, ...]
    num_classes: int
    load: Callable[[Path | None], Splits]
    """Reads the data; the argument is a folder given by the user, or None."""
    criterion: float
    """The task counts as solved from this value of the metric on."""
    loss: dict[str, Any] = field(
        default_factory=lambda: {
            "class_name": "SparseCategoricalCrossentropy",
            "config": {"from_logits": True},
        }
    )
    """Configuration of a Keras loss, for `keras.losses.get`. Models return logits."""
    metric: str = "accuracy"
    """Keras metric, better when higher; its value on the test data is the result of a run."""
