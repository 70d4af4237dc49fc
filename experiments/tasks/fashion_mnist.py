"""Fashion-MNIST: 70,000 images of ten kinds of clothes, 28 x 28 pixels (arXiv 1708.07747).

The data are the four files that Zalando Research has published. They come from a folder
(`--data-dir` or the environment variable DEEPLSTM_DATA) that holds them, itself or in
`fashion-mnist` or `fashion_mnist`, else from Keras' cache, which Keras fills by a download.
Wherever they come from, they are compared with the published checksums. The last 5,000 training
images serve for validation, all 10,000 test images for testing. Pixels are scaled to [0, 1].
"""

import gzip
import hashlib
import os
from pathlib import Path

import numpy as np

from keras_deeplstm.experiments.tasks import published
from keras_deeplstm.experiments.tasks.task import DataError, Splits, Task

ORIGIN = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/"  # as in keras.datasets
FILES = {  # name: md5, from https://github.com/zalandoresearch/fashion-mnist
    "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
}
PLACES = ("fashion-mnist", "fashion_mnist", "")


def load(data_dir: Path | None = None) -> Splits:
    """Return the three splits, images of shape (n, 28, 28, 1).

    Raises:
        DataError: the data are absent and cannot be downloaded, or are not Fashion-MNIST.
    """
    folder = published.named_folder(data_dir)
    paths = _find(folder) if folder else _download()
    x_train, y_train, x_test, y_test = map(_read, paths)
    return published.splits(
        x_train.reshape(-1, 28, 28), y_train, x_test.reshape(-1, 28, 28), y_test
    )


def _find(folder):
    for place in PLACES:
        paths = [folder / place / name for name in FILES]
        if any(path.exists() for path in paths):
            return paths
    raise DataError(
        f"Dataset 'fashion-mnist' is not in '{folder}': neither there nor in "
        f"{' or '.join(place for place in PLACES if place)} is {next(iter(FILES))}"
    )


def _download():
    # Imported here, so that the command's help need not wait for Keras.
    import keras

    subfolder = os.path.join("datasets", "fashion-mnist")
    try:
        return [
            Path(keras.utils.get_file(name, ORIGIN + name, cache_subdir=subfolder, md5_hash=md5))
            for name, md5 in FILES.items()
        ]
    except Exception as error:  # Keras raises a bare Exception when a download fails
        raise published.not_downloaded("fashion-mnist", "the four .gz files", error) from error


def _read(path):
    """The bytes after the header: 4 bytes that say what it is, and 4 for each dimension."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"Dataset 'fashion-mnist' cannot be read: {error}") from None
    expected = FILES[path.name]
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != expected:
        raise DataError(
            f"'{path}' is damaged or not Fashion-MNIST: its md5 is {found[:12]}..., "
            f"not {expected[:12]}... as published"
        )
    header = 16 if "images" in path.name else 8
    return np.frombuffer(gzip.decompress(content), np.uint8, offset=header)


fashion_mnist = Task(
    name="fashion-mnist",
    description="60,000 + 10,000 images of ten kinds of clothes, 28 x 28 pixels",
    input_shape=(28, 28, 1),
    num_classes=10,
    load=load,
    criterion=0.85,
)
