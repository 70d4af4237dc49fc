"""MNIST: 70,000 handwritten digits of 28 x 28 pixels.

The data come from a folder (`--data-dir` or the environment variable DEEPLSTM_DATA) that holds
`mnist/mnist.npz` or `mnist.npz`, else from Keras' cache, which Keras fills by a download. Wherever
they come from, the arrays are compared with the published ones; the file itself may be encoded
differently. The last 5,000 training images serve for validation, all 10,000 test images for
testing. Pixels are scaled to [0, 1].
"""

import hashlib
import zipfile
import zlib
from pathlib import Path

import numpy as np

from keras_deeplstm.experiments.tasks import published
from keras_deeplstm.experiments.tasks.task import DataError, Splits, Task

ARRAYS = {  # key: shape and sha256 of the uint8 array's bytes in C order
    "x_train": (
        (60_000, 28, 28),
        "741c988805d008ac6e4c904b69001ba184c24b2c540a4ef403f4c71b676cf757",
    ),
    "y_train": (
        (60_000,),
        "1feba77c54802fa5339a11837ea4b2866434b83314ec45192930f1df69120c13",
    ),
    "x_test": (
        (10_000, 28, 28),
        "6d87418db22cc8025d05968bec9bd5c3932904b23485740db143a061a2c9d161",
    ),
    "y_test": (
        (10_000,),
        "ddeff807876a9661a1110d45c266c86239a3a1b7d37da0c3716a7a683c852ff5",
    ),
}


def load(data_dir: Path | None = None) -> Splits:
    """Return the three splits, images of shape (n, 28, 28, 1).

    Raises:
        DataError: the data are absent and cannot be downloaded, or are not MNIST.
    """
    folder = published.named_folder(data_dir)
    source, arrays = _read_folder(folder) if folder else _read_cache()
    for key, (shape, sha256) in ARRAYS.items():
        array = arrays[key]
        if array.dtype != np.uint8 or array.shape != shape:
            raise DataError(
                f"'{source}' is not MNIST: {key} must be uint8 of shape {shape}. "
                f"Received: {array.dtype} of shape {array.shape}"
            )
        found = hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()
        if found != sha256:
            raise DataError(
                f"'{source}' is damaged: sha256 of {key} is {found[:12]}..., "
                f"not {sha256[:12]}... as published"
            )
    return published.splits(**arrays)


def _read_folder(folder):
    path = folder / "mnist" / "mnist.npz"
    if not path.exists():
        path = folder / "mnist.npz"
    try:
        with np.load(path, allow_pickle=False) as file:
            return path, {key: file[key] for key in ARRAYS}
    except FileNotFoundError:
        raise DataError(
            f"Dataset 'mnist' is not in '{folder}': neither mnist/mnist.npz nor mnist.npz is there"
        ) from None
    # All the ways in which numpy and zipfile report a torn or foreign file.
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"'{path}' is damaged or not MNIST: {error}") from None


def _read_cache():
    # Imported here, so that the command's help need not wait for Keras.
    import keras

    try:
        (x_train, y_train), (x_test, y_test) = keras.datasets.mnist.load_data()
    except Exception as error:  # Keras raises a bare Exception when a download fails
        raise published.not_downloaded("mnist", "mnist.npz", error) from error
    arrays = {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}
    return published.cache() / "mnist.npz", arrays


mnist = Task(
    name="mnist",
    description="60,000 + 10,000 handwritten digits, 28 x 28 pixels",
    input_shape=(28, 28, 1),
    num_classes=10,
    load=load,
    criterion=0.94,
)
