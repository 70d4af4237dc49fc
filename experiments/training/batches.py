"""Training data in batches."""

import math

import keras
import numpy as np


class Shuffled(keras.utils.PyDataset):
    """Batches whose order is a function of seed and epoch, unlike that of `fit(shuffle=True)`."""

    def __init__(self, x, y, batch_size, seed, parts=1):
        super().__init__()
        self.x, self.y, self.batch_size, self.seed = x, y, batch_size, seed
        # Several devices get equal parts, of the last batch as well: an epoch leaves out a few.
        self.examples = len(x) - len(x) % batch_size % parts
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Put the examples in the order of this epoch, from 0."""
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.x))
        self.order = order[: self.examples]

    def __len__(self):
        return math.ceil(self.examples / self.batch_size)

    def __getitem__(self, index):
        rows = self.order[index * self.batch_size : (index + 1) * self.batch_size]
        return self.x[rows], self.y[rows]
