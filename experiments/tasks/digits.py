"""Handwritten digits of scikit-learn: 1,797 images of 8 x 8 pixels, installed with scikit-learn.

The split is stratified by class and always the same, whatever the seed of the run: 1,257 images for
training, 180 for validation, 360 for testing. Pixels are scaled from 0..16 to [0, 1].
"""

from pathlib import Path

import numpy as np

from keras_deeplstm.experiments.tasks.task import Splits, Task


def load(data_dir: Path | None = None) -> Splits:
    """Return the three splits, images of shape (n, 8, 8, 1); `data_dir` is not needed."""
    # Imported here, so that the command's help need not wait for scikit-learn.
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return Splits.of((x / 16).astype("float32").reshape(-1, 8, 8, 1), y.astype(np.int64))


digits = Task(
    name="digits",
    description="scikit-learn's 1,797 handwritten digits, 8 x 8 pixels",
    input_shape=(8, 8, 1),
    num_classes=10,
    load=load,
    criterion=0.9,
)
