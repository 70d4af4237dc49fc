"""MNIST: 70,000 handwritten digits of 28 x 28 pixels.

The data are `mnist.npz`, in the folder of data sets or in its folder `mnist`, else in Keras' cache,
which Keras fills by a download. The arrays are compared with the published ones; the file itself
may be encoded differently. The last 5,000 training images serve for validation, all 10,000 test
images for testing. Pixels are scaled to [0, 1].
"""

from pathlib import Path

import numpy as np

from keras_deeplstm.experiments.tasks import published
from keras_deeplstm.experiments.tasks.task import DataError, Splits, Task

ARRAYS = {  # key: number of examples, and sha256 of the uint8 array's bytes in C order
    "x_train": (60_000, "741c988805d008ac6e4c904b69001ba184c24b2c540a4ef403f4c71b676cf757"),
    "y_train": (60_000, "1feba77c54802fa5339a11837ea4b2866434b83314ec45192930f1df69120c13"),
    "x_test": (10_000, "6d87418db22cc8025d05968bec9bd5c3932904b23485740db143a061a2c9d161"),
    "y_test": (10_000, "ddeff807876a9661a1110d45c266c86239a3a1b7d37da0c3716a7a683c852ff5"),
}
LARGEST = 60_000_000  # bytes; the arrays have 54,950,000


def load(data_dir: Path | None = None) -> Splits:
    """Return the three splits, images of shape (n, 28, 28, 1); `DataError` if absent or damaged."""
    files = ("mnist/mnist.npz", "mnist.npz")
    url = f"{published.KERAS}mnist.npz"
    return published.splits(**published.load("mnist", files, url, "mnist.npz", _read, data_dir))


def _read(path):
    try:
        with np.load(path, allow_pickle=False) as file:
            if sum(entry.file_size for entry in file.zip.infolist()) > LARGEST:
                raise ValueError("it holds too much")
            arrays = {key: file[key] for key in ARRAYS}
    except Exception as error:  # numpy and zipfile report a torn or foreign file in many ways
        raise DataError(f"'{path}' is damaged or not MNIST: {error}") from None
    for key, (count, sha256) in ARRAYS.items():
        array = arrays[key]
        shape = (count, 28, 28) if key.startswith("x") else (count,)
        if array.dtype != np.uint8 or array.shape != shape:
            raise DataError(
                f"'{path}' is not MNIST: {key} must be uint8 of shape {shape}. "
                f"Received: {array.dtype} of shape {array.shape}"
            )
        published.compare(path, "MNIST", f"{key}'s", np.ascontiguousarray(array), sha256)
    return arrays


mnist = Task(
    name="mnist",
    description="60,000 + 10,000 handwritten digits, 28 x 28 pixels",
    input_shape=(28, 28, 1),
    num_classes=10,
    load=load,
    criterion=0.94,
)
