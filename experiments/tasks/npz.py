"""Arrays of the user's own from an `.npz` file, which may come from a stranger.

A file says how large its arrays are. It is asked before anything is allocated, and nothing that
needs pickle is read, so a file can neither fill the memory nor execute anything.
"""

import math
import zipfile
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from keras_deeplstm.experiments.tasks.task import DataError, check_memory

WHOLE = {"x", "y"}
SPLIT = {"x_train", "y_train", "x_test", "y_test"}
VALIDATION = {"x_validation", "y_validation"}
HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def read(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays by their names: those of `WHOLE`, or those of `SPLIT` and `VALIDATION`.

    If the file holds anything else, or more than fits into memory, that is a `DataError`.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = {entry.filename.removesuffix(".npy"): entry for entry in archive.infolist()}
            _check_names(path, members)
            check_memory(path, sum(_size(path, archive, entry) for entry in members.values()))
            return {name: _array(archive, entry) for name, entry in members.items()}
    except FileNotFoundError:
        raise DataError(f"'{path}' does not exist") from None
    except DataError:
        raise
    # zipfile, its decompressors and numpy have a dozen ways to report a torn or foreign file.
    except Exception as error:
        raise DataError(f"'{path}' is damaged or not an .npz file: {error}") from None


def _check_names(path, members):
    if set(members) not in (WHOLE, SPLIT, SPLIT | VALIDATION):
        names = ", ".join(sorted(members)[:20]) or "nothing"
        raise DataError(
            f"'{path}' must hold the arrays x and y, or x_train, y_train, x_test, y_test and, if "
            f"you like, x_validation, y_validation. It holds {names}"
        )


def _size(path, archive, entry):
    """Bytes that an array takes, as it is or as float32."""
    with archive.open(entry) as file:
        shape, _, dtype = HEADERS[npy.read_magic(file)](file)
        if dtype.hasobject:
            raise DataError(
                f"'{path}' contains Python objects; refusing to load them (allow_pickle=False)"
            )
        size = math.prod(shape) * dtype.itemsize
        if file.tell() + size != entry.file_size:
            raise ValueError(f"{entry.filename} is not as long as its header says")
    return max(size, 4 * math.prod(shape))


def _array(archive, entry):
    with archive.open(entry) as file:
        return npy.read_array(file, allow_pickle=False)
