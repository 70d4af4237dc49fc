"""Data of the user's own: a path to an `.npz` file or a folder of images in place of a task's name.

Images of type uint8 are scaled to [0, 1]; floats are taken as they are. Labels are integers or
strings; the classes are numbered in their sorted order. Data that are not split are split here:
70 % for training, 10 % for validation, 20 % for testing. If only the validation data are missing,
they are 10 % of the training data. Each part gets its share of every class, and always the same
examples.
"""

import functools
import math
import os
import re
from pathlib import Path, PureWindowsPath

import numpy as np

from keras_deeplstm.experiments.tasks import image_folders as images
from keras_deeplstm.experiments.tasks import npz
from keras_deeplstm.experiments.tasks.task import LEAST, DataError, Splits, Task, numbered, part


def is_path(name: str) -> bool:
    """Whether `name` is meant as a path: by its form, or because there is such a folder."""
    return name.lower().endswith(".npz") or any(c in name for c in r"\/") or os.path.isdir(name)


def task(path: str) -> Task:
    """The task that a path stands for, called like it. It need not exist before data are loaded."""
    # A report that was written on another system has that system's paths.
    stem = re.sub(r"\.npz$", "", PureWindowsPath(path).name, flags=re.IGNORECASE)
    return Task(
        # As it becomes part of the names of runs, it has no other characters than they may have.
        name=re.sub(r"[^A-Za-z0-9._-]+", "_", stem)[:40].strip("._-") or "data",
        description=f"the data in '{path}'",
        input_shape=None,
        num_classes=None,
        load=functools.partial(load, Path(path)),
    )


def load(path: Path, data_dir: Path | None = None) -> Splits:
    """Return the splits of a file or folder; `data_dir` is not needed.

    Inputs are float32, `(n, height, width, channels)` or `(n, features)`; targets are int64. A
    `DataError` says why what is there cannot be used.
    """
    try:
        arrays = images.read(path) if path.is_dir() else npz.read(path)
    except OSError as error:
        raise DataError(f"'{error.filename or path}' cannot be read: {error.strerror}") from None
    return splits(path, arrays)


def splits(source: Path, arrays: dict[str, np.ndarray]) -> Splits:
    """Check arrays, and make splits of them; a `DataError` names their source.

    They are `x` and `y`; or `x_train`, `y_train`, `x_test`, `y_test` and perhaps `x_validation`,
    `y_validation`.
    """
    data = {name[1:]: _pair(source, arrays, name[1:]) for name in arrays if name.startswith("x")}
    _check_alike(source, data)
    data, classes = _with_classes(source, data)
    if "" in data:
        x, y = data[""]
        return Splits.of(x, y, classes)
    if "_validation" not in data:
        x, y = data["_train"]
        data["_train"], data["_validation"] = part(x, y, math.ceil(len(x) / 10))
    return Splits(data["_train"], data["_validation"], data["_test"], classes=classes)


def _pair(source, arrays, suffix):
    """Inputs and labels whose names end with "_train" and so on, or with nothing."""
    x = _inputs(source, f"x{suffix}", arrays[f"x{suffix}"])
    y = _labels(source, f"y{suffix}", arrays[f"y{suffix}"])
    if len(x) != len(y):
        raise DataError(
            f"x{suffix} and y{suffix} of '{source}' differ in length: {len(x)} and {len(y)}"
        )
    return x, y


def _inputs(source, name, x):
    if x.dtype != np.uint8 and x.dtype.kind != "f":
        raise DataError(
            f"{name} of '{source}' must be uint8, which is scaled to [0, 1], or floats, which are "
            f"taken as they are. Received: {x.dtype}"
        )
    if x.ndim not in (2, 3, 4) or 0 in x.shape:
        raise DataError(
            f"{name} of '{source}' must have shape (n, features), (n, height, width) or "
            f"(n, height, width, channels). Received: {x.shape}"
        )
    largest = 255 if x.dtype == np.uint8 else 1
    with np.errstate(over="ignore"):  # what becomes infinite is found below
        x = x.astype("float32")
    x /= largest
    wrong = np.argwhere(~np.isfinite(x))
    if len(wrong):
        raise DataError(
            f"'{source}' has {len(wrong)} values that are NaN or infinite as float32, the first at "
            f"{name}[{', '.join(map(str, wrong[0]))}]"
        )
    return x[..., np.newaxis] if x.ndim == 3 else x


def _labels(source, name, y):
    if y.ndim == 2 and y.shape[1] == 1:  # as Keras has them for CIFAR
        y = y[:, 0]
    if y.ndim != 1 or y.dtype.kind not in "iuU":
        raise DataError(
            f"{name} of '{source}' must hold an integer or a string for each example, shape (n,). "
            f"Received: {y.dtype} of shape {y.shape}"
        )
    return y


def _check_alike(source, data):
    """Raise unless all inputs have one shape and all labels are of one kind."""
    (first, (x, y)), *others = data.items()
    for suffix, (other_x, other_y) in others:
        if other_x.shape[1:] != x.shape[1:]:
            raise DataError(
                f"x{first} of '{source}' has inputs of shape {x.shape[1:]}, x{suffix} of "
                f"{other_x.shape[1:]}"
            )
        if (other_y.dtype.kind == "U") != (y.dtype.kind == "U"):
            raise DataError(
                f"y{first} of '{source}' is {y.dtype}, y{suffix} is {other_y.dtype}; use one kind"
            )


def _with_classes(source, data):
    """The data with the numbers of the classes, from 0, in place of the labels; and these."""
    _, y = data.get("") or data["_train"]
    _, labels = numbered(y, source, least=1 if "_validation" in data else LEAST)
    for suffix, (x, y) in data.items():
        if len(unknown := np.setdiff1d(y, labels)):
            raise DataError(
                f"y{suffix} of '{source}' has the class {unknown[0].item()!r}, y_train has not"
            )
        data[suffix] = x, np.searchsorted(labels, y).astype(np.int64)
    return data, tuple(map(str, labels))
