"""Handwritten digits of scikit-learn: 1,797 images of 8 x 8 pixels, installed with scikit-learn.

The split is stratified by class and always the same (split seed 0, whatever the seed of the run):
1,257 images for training, 180 for validation, 360 for testing. Pixels are scaled from 0..16 to
[0, 1].
"""

from pathlib import Path

import numpy as np

from keras_deeplstm.experiments.tasks.task import Splits, Task

SPLIT_SEED = 0
TEST_IMAGES = 360
VALIDATION_IMAGES = 180


def load(data_dir: Path | None = None) -> Splits:
    """Return the three splits, images of shape (n, 8, 8, 1); `data_dir` is not needed."""
    # Imported here, so that the command's help need not wait for scikit-learn.
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype("float32").reshape(-1, 8, 8, 1)
    y = y.astype(np.int64)
    x, x_test, y, y_test = train_test_split(
        x, y, test_size=TEST_IMAGES, stratify=y, random_state=SPLIT_SEED
    )
    x, x_validation, y, y_validation = train_test_split(
        x, y, test_size=VALIDATION_IMAGES, stratify=y, random_state=SPLIT_SEED
    )
    return Splits((x, y), (x_validation, y_validation), (x_test, y_test))


digits = Task(
    name="digits",
    description="scikit-learn's 1,797 handwritten digits, 8 x 8 pixels",
    input_shape=(8, 8, 1),
    num_classes=10,
    load=load,
    criterion=0.9,
)
