"""How published data are found, and known by their content, however the files are packed."""

import functools
import gzip
import hashlib
import os
import zipfile
from pathlib import Path

import numpy as np

from keras_deeplstm.experiments.tasks.task import DataError, Splits

DEBIAN = Path("/usr/share/datasets")  # where Debian's packages put data sets
KERAS = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/"
VALIDATION_IMAGES = 5_000


def named_folder(data_dir: Path | None) -> Path | None:
    """The folder with data sets that the user has named; None if there is none."""
    folder = data_dir or os.environ.get("DEEPLSTM_DATA")
    return Path(folder) if folder else None


def load(name, files, url, cached, read, data_dir):
    """Return what `read` makes of a file of the data set `name`.

    The file is one of `files` in the folder that the user has named. If none is named, it is one of
    them in Debian's folder, else `cached` in Keras' cache, into which Keras downloads it from
    `url`. `read` takes a path, and raises `DataError` unless the content is the published one.
    """
    named = named_folder(data_dir)
    for path in ((named or DEBIAN) / file for file in files):
        if path.is_file():
            return read(path)
    if named:
        raise DataError(
            f"Dataset {name!r} is not in '{named}': none of {', '.join(files)} is there"
        )
    # Imported here, so that the command's help need not wait for Keras.
    import keras

    folder, file = os.path.split(os.path.join("datasets", cached))
    get_file = functools.partial(keras.utils.get_file, file, url, cache_subdir=folder)
    try:
        try:
            return read(Path(get_file()))
        except DataError:  # perhaps a download that broke off has left a part in the cache
            return read(Path(get_file(force_download=True)))
    except Exception as error:  # Keras raises a bare Exception when a download fails
        cache = Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser() / "datasets"
        raise DataError(
            f"Dataset {name!r} is not in the cache '{cache}' and could not be downloaded: {error}. "
            f"Pass --data-dir or set DEEPLSTM_DATA to a folder that holds {cached}"
        ) from error


def content(path, name, size, checksum):
    """Return what a file holds, packed or not; raise `DataError` if it is not what is published."""
    try:
        found = _unpacked(path, size + 1)  # enough to see that it is too long
    except Exception as error:  # gzip and zipfile report a torn or foreign file in many ways
        raise DataError(f"'{path}' is damaged: {error}") from None
    if len(found) != size:
        has = "more" if len(found) > size else f"{len(found):,}"
        raise DataError(f"'{path}' is not {name}, which has {size:,} bytes: it has {has}")
    compare(path, name, "its", found, checksum)
    return found


def _unpacked(path, limit):
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive, archive.open(path.stem) as file:
            return file.read(limit)
    with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
        return file.read(limit)


def compare(path, name, whose, found, checksum):
    """Raise `DataError` if bytes that were found at a path have not the published checksum."""
    algorithm = "md5" if len(checksum) == 32 else "sha256"
    digest = hashlib.new(algorithm, found, usedforsecurity=False).hexdigest()
    if digest != checksum:
        raise DataError(
            f"'{path}' is damaged: {whose} {algorithm} is {digest[:12]}..., not "
            f"{checksum[:12]}... as published for {name}"
        )


def splits(x_train, y_train, x_test, y_test):
    """Splits of grey images, uint8 `(n, height, width)`, which are scaled to [0, 1].

    The last 5,000 training images serve for validation.
    """
    x, x_test = ((x.astype("float32") / 255)[..., np.newaxis] for x in (x_train, x_test))
    y, y_test = (y.astype(np.int64) for y in (y_train, y_test))
    end = -VALIDATION_IMAGES
    return Splits((x[:end], y[:end]), (x[end:], y[end:]), (x_test, y_test))
