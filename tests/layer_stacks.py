"""Small layers, and inputs for them, with which DepthLSTM, Residual and Highway are tested."""

import keras
import numpy as np
from keras import ops

ROWS, TIME, UNITS, DEPTH = 2, 5, 6, 3


def inputs(*shape, seed=1, dtype="float32"):
    return np.random.default_rng(seed).normal(size=shape or (ROWS, TIME, UNITS)).astype(dtype)


def numpy_of(tensor):
    return np.array(ops.convert_to_numpy(tensor))


def randomized(layer, shape, seed=2):
    """The layer, built if it is not, with all weights drawn, so that none is zero or one."""
    if not layer.built:
        layer.build(shape)
    rng = np.random.default_rng(seed)
    for weight in layer.weights:
        weight.assign(rng.uniform(0.2, 0.6, weight.shape) * rng.choice([-1, 1], weight.shape))
    return layer


def dense(step=None):
    return keras.layers.Dense(UNITS, "tanh")
