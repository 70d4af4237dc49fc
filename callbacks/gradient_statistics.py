"""What can be measured of a gradient inside the compiled step."""

import itertools
import math

import keras
from keras import ops

from keras_deeplstm.callbacks.tapped_step import inner_optimizer

# Edges of the histograms of log10 |g|: a bin for each half decade, and one at either end.
HISTOGRAM_EDGES = [exponent / 2 for exponent in range(-24, 9)]
HISTOGRAM_SAMPLE = 16_384


def measure(statistic, gradient, axes):
    """One statistic of a gradient, reduced over `axes` (None: all).

    Args:
        statistic: "norm" (L2), "mean_abs", "max_abs", "zero_fraction" or "histogram" (share of
            entries in each bin of log10 |g|, from an even sample of up to 16,384 entries).
        gradient: Gradient of a weight.
        axes: The axes to reduce; all but the first for weights stacked over depth.

    Returns:
        A tensor with the axes that are not reduced; "histogram" has the bins as a further, first
        axis.
    """
    # In half precision the squares of small gradients would vanish.
    wide = ops.cast(gradient, keras.backend.result_type(gradient.dtype, "float32"))
    if statistic == "norm":
        return ops.sqrt(_sum_of_squares(wide, axes))
    size = ops.abs(wide)
    if statistic == "mean_abs":
        return ops.mean(size, axis=axes)
    if statistic == "max_abs":
        return ops.max(size, axis=axes)
    if statistic == "zero_fraction":
        return ops.mean(ops.cast(size == 0, wide.dtype), axis=axes)
    size = _sample(size, axes)
    axes = None if axes is None else -1
    # Shares above each edge, then differences. Zeros and what is below fall into the first bin.
    above = [ops.mean(ops.cast(size >= 10.0**e, wide.dtype), axis=axes) for e in HISTOGRAM_EDGES]
    above = [ops.ones_like(above[0]), *above, ops.zeros_like(above[0])]
    return ops.stack([low - high for low, high in itertools.pairwise(above)])


def clipping(step):
    """What the optimizer clips of a `TappedStep`, and what that is then.

    Returns:
        Two lists of tensors: the gradients, or with gradient accumulation the mean of those that
        the step applies and zeros where it applies none; and these clipped.
    """
    optimizer = inner_optimizer(step.optimizer)
    gradients, every = step.gradients, optimizer.gradient_accumulation_steps
    # Private names: of neither the sums nor the clipping does a public one tell.
    if every:
        if not optimizer.built:
            raise ValueError(
                'The statistic "clipped" needs a model that is built, since the optimizer '
                "accumulates gradients: give it a keras.Input, or call its `build`"
            )
        with step.scope():
            sums = [
                ops.convert_to_tensor(
                    optimizer._accumulated_gradients[optimizer._get_variable_index(variable)]
                )
                for variable in step.variables
            ]
        gradients = [
            ops.where(step.applied, (gradient + total) / every, ops.zeros_like(gradient))
            for gradient, total in zip(gradients, sums, strict=True)
        ]
    return gradients, optimizer._clip_gradients(gradients)


def _sum_of_squares(x, axes):
    if axes is None and keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return 2 * tf.nn.l2_loss(x)  # unlike the sum below it writes no squares to memory
    return ops.sum(ops.square(x), axis=axes)


def _sample(entries, axes):
    """An even sample of the entries, so that a histogram costs little however large the weight."""
    steps = 1 if axes is None else entries.shape[0]
    entries = ops.reshape(entries, (steps, -1))
    stride = max(1, math.ceil(entries.shape[1] * steps / HISTOGRAM_SAMPLE))
    # Prime to the number of columns, or whole units would be left out.
    while stride > 1 and math.gcd(stride, entries.shape[1]) > 1:
        stride += 1
    entries = entries[:, ::stride]
    return entries[0] if axes is None else entries
