"""Normalization of pre-activations and memory cells, once for all layers."""

from typing import Any, NamedTuple

import keras
from keras import ops

EPSILON = 1e-3  # added to variances


class Norm(NamedTuple):
    """The weights of one normalization; without a scale it leaves its input alone."""

    scale: Any = None
    offset: Any = None
    mean: Any = None  # moving averages
    variance: Any = None

    @classmethod
    def of(cls, weights, name):
        """Those among `weights` whose names begin with `name`."""
        return cls(*(weights.get(f"{name}_{field}") for field in cls._fields))


def layer_norm(x, w, epsilon=EPSILON):
    """Layer normalization over the last axis."""
    return x if w.scale is None else ops.layer_normalization(x, w.scale, w.offset, epsilon=epsilon)


def rms_norm(x, w, epsilon=EPSILON):
    """Division by the root mean square of the last axis (arXiv 1910.07467)."""
    return x if w.scale is None else ops.rms_normalization(x, w.scale, epsilon=epsilon)


OF_ROWS = {None: layer_norm, "layer": layer_norm, "rms": rms_norm}  # those that see one row


def batch_norm(x, w, epsilon, moments=None):
    """Batch normalization with the moments of a batch, or with the moving averages."""
    # Half precision overflows in sums over a batch.
    mean, variance = map(_wide, (w.mean, w.variance) if moments is None else moments)
    y = (_wide(x) - mean) * ops.rsqrt(variance + epsilon)
    y = ops.cast(y, x.dtype) * w.scale
    return y if w.offset is None else y + w.offset


def batch_moments(x, row_mask=None):
    """Mean and variance over the rows of `x`, those of `row_mask`, `(rows, 1)`, if there is one."""
    x = _wide(x)
    if row_mask is None:
        return tuple(ops.moments(x, axes=[0]))
    # Not a product with the mask: 0 * NaN of a masked row would spoil all rows.
    count = ops.maximum(ops.sum(ops.cast(row_mask, x.dtype)), 1)
    mean = ops.sum(ops.where(row_mask, x, 0.0), axis=0) / count
    variance = ops.sum(ops.square(ops.where(row_mask, x - mean, 0.0)), axis=0) / count
    return mean, variance


def _wide(x):
    return ops.cast(x, keras.backend.result_type(x.dtype, "float32"))
