"""What can be measured of a gradient inside the compiled step."""

import itertools

import keras
from keras import ops

# Edges of the histograms of log10 |g|: a bin for each half decade, and one at either end.
HISTOGRAM_EDGES = [exponent / 2 for exponent in range(-24, 9)]


def measure(statistic, gradient, value, axes):
    """One statistic of a gradient, reduced over `axes` (None: all).

    Args:
        statistic: "norm" (L2), "mean_abs", "max_abs", "zero_fraction", "weight_norm" (L2 of the
            weight before the step) or "histogram" (share of entries in each bin of log10 |g|).
        gradient, value: Gradient of a weight, and the weight itself.
        axes: The axes to reduce; all but the first for weights stacked over depth.

    Returns:
        A tensor with the axes that are not reduced; "histogram" has the bins as a further, first
        axis.
    """
    if statistic == "weight_norm":
        gradient = ops.convert_to_tensor(value)
    # In half precision the squares of small gradients would vanish.
    wide = ops.cast(gradient, keras.backend.result_type(gradient.dtype, "float32"))
    if statistic in ("norm", "weight_norm"):
        return ops.sqrt(ops.sum(ops.square(wide), axis=axes))
    size = ops.abs(wide)
    if statistic == "mean_abs":
        return ops.mean(size, axis=axes)
    if statistic == "max_abs":
        return ops.max(size, axis=axes)
    if statistic == "zero_fraction":
        return ops.mean(ops.cast(size == 0, wide.dtype), axis=axes)
    # Shares above each edge, then differences. Zeros and what is below fall into the first bin.
    above = [ops.mean(ops.cast(size >= 10.0**e, wide.dtype), axis=axes) for e in HISTOGRAM_EDGES]
    above = [ops.ones_like(above[0]), *above, ops.zeros_like(above[0])]
    return ops.stack([low - high for low, high in itertools.pairwise(above)])
