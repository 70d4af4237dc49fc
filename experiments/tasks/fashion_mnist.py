"""Fashion-MNIST: 70,000 images of ten kinds of clothes, 28 x 28 pixels (arXiv 1708.07747).

The data are the four files of Zalando Research, packed (.gz) or not. They lie in the folder of data
sets, itself or in `fashion-mnist` or `fashion_mnist`; else where Debian's package
dataset-fashion-mnist puts them; else in Keras' cache, which Keras fills by a download. Their
content is compared with the published one. The last 5,000 training images serve for validation, all
10,000 test images for testing. Pixels are scaled to [0, 1].
"""

import dataclasses
import math
from pathlib import Path

import numpy as np

from keras_deeplstm.experiments.tasks import published
from keras_deeplstm.experiments.tasks.task import Splits, Task

FILES = {  # name: shape of the array in it, and md5 of the file when it is not packed
    "train-images-idx3-ubyte": ((60_000, 28, 28), "f4a8712d7a061bf5bd6d2ca38dc4d50a"),
    "train-labels-idx1-ubyte": ((60_000,), "9018921c3c673c538a1fc5bad174d6f9"),
    "t10k-images-idx3-ubyte": ((10_000, 28, 28), "8181f5470baa50b63fa0f6fddb340f0a"),
    "t10k-labels-idx1-ubyte": ((10_000,), "15d484375f8d13e6eb1aabb0c3f46965"),
}

CLASSES = (
    *("T-shirt/top", "trouser", "pullover", "dress", "coat"),
    *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
)


def load(data_dir: Path | None = None) -> Splits:
    """Return the three splits, images of shape (n, 28, 28, 1); `DataError` if absent or damaged."""
    data = published.splits(*(_array(name, data_dir) for name in FILES))
    return dataclasses.replace(data, classes=CLASSES)


def _array(name, data_dir):
    shape, md5 = FILES[name]
    header = 4 + 4 * len(shape)  # bytes that say what it is, and how large each dimension is
    size = header + math.prod(shape)
    places = ("fashion-mnist/", "fashion_mnist/", "")
    content = published.load(
        "fashion-mnist",
        files=[f"{place}{name}{end}" for place in places for end in (".gz", "")],
        url=f"{published.KERAS}{name}.gz",
        cached=f"fashion-mnist/{name}.gz",
        read=lambda path: published.content(path, f"{name} of Fashion-MNIST", size, md5),
        data_dir=data_dir,
    )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


fashion_mnist = Task(
    name="fashion-mnist",
    description="60,000 + 10,000 images of ten kinds of clothes, 28 x 28 pixels",
    input_shape=(28, 28, 1),
    num_classes=10,
    load=load,
    criterion=0.85,
)
