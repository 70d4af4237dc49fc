"""What every task has: data, loss, metric and success criterion."""

from collections.abc import Callable
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Task:
    """A data set together with what it means to solve it."""

    name: str
    description: str
    input_shape: tuple[int, ...]
    num_classes: int
    load: Callable[[Path | None], Splits]
    """Reads the data; the argument is a folder given by the user, or None."""
    loss: dict[str, Any]
    """Configuration of a Keras loss, for `keras.losses.get`."""
    metric: str
    """Keras metric, better when higher; its value on the test data is the result of a run."""
    criterion: float
    """The task counts as solved from this value of the metric on."""
