"""What the published image sets share: where they lie, and how they are split and scaled."""

import os
from pathlib import Path

import numpy as np

from keras_deeplstm.experiments.tasks.task import DataError, Splits

VALIDATION_IMAGES = 5_000


def named_folder(data_dir: Path | None) -> Path | None:
    """The folder with data sets that the user has named; None stands for Keras' cache."""
    folder = data_dir or os.environ.get("DEEPLSTM_DATA")
    return Path(folder) if folder else None


def cache() -> Path:
    """Keras' cache of data sets."""
    return Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser() / "datasets"


def not_downloaded(name: str, files: str, error: Exception) -> DataError:
    """The error to raise when Keras could neither find nor download a data set."""
    return DataError(
        f"Dataset {name!r} is not in the cache '{cache()}' and could not be downloaded: {error}. "
        f"Pass --data-dir or set DEEPLSTM_DATA to a folder that holds {files}"
    )


def splits(
    x_train: np.ndarray, y_train: np.ndarray, x_test: np.ndarray, y_test: np.ndarray
) -> Splits:
    """The last 5,000 training images serve for validation; uint8 pixels become floats in [0, 1].

    Args:
        x_train, x_test: Grey images, `(n, height, width)`.
        y_train, y_test: Classes, `(n,)`.
    """
    x, x_test = ((x.astype("float32") / 255)[..., np.newaxis] for x in (x_train, x_test))
    y, y_test = (y.astype(np.int64) for y in (y_train, y_test))
    return Splits(
        (x[:-VALIDATION_IMAGES], y[:-VALIDATION_IMAGES]),
        (x[-VALIDATION_IMAGES:], y[-VALIDATION_IMAGES:]),
        (x_test, y_test),
    )
