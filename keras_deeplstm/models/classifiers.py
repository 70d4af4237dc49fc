"""Models of feature vectors and images."""

import math

import keras

from keras_deeplstm import validation
from keras_deeplstm.layers import DenseStack, HighwayBlock, ResidualBlock, UnfoldedLSTMBlock
from keras_deeplstm.models.budget import Design, budgeted, count_weights
from keras_deeplstm.models.readout import Readout, with_noise

BLOCKS = {
    "unfolded_lstm": UnfoldedLSTMBlock,
    "dense": DenseStack,
    "highway": HighwayBlock,
    "residual": ResidualBlock,
}


@budgeted
def classifier(
    input_shape,
    num_classes,
    block="unfolded_lstm",
    *,
    depth=10,
    units=None,
    parameters=None,
    output="hidden",
    input_noise=0.0,
    name=None,
    **block_options,
):
    """A classifier of feature vectors or images: flatten, one block over depth, a dense readout.

    Args:
        input_shape: Shape of one sample, e.g. `(28, 28, 1)` or `(64,)`.
        num_classes: Number of classes.
        block: "unfolded_lstm", "dense", "highway" or "residual".
        depth: Number of depth steps.
        units: Size of each step; 100 by default.
        parameters: Instead of `units`: the largest number of parameters.
        output: What the readout sees of an "unfolded_lstm": the last "hidden" state, or "both" it
            and the last memory cell, as in Grid LSTM (arXiv 1507.01526).
        input_noise: Standard deviation of normal noise that is added to the inputs in training.
        name: Name of the model.
        **block_options: Further arguments of the block, e.g. `tied=True`.

    Returns:
        A `keras.Model` from `(batch, *input_shape)` to logits `(batch, num_classes)`.

    Raises:
        ValueError: An argument is out of its range or unknown to the block, or no `units` fit the
            budget.

    Example:

    >>> from keras_deeplstm import models
    >>> model = models.classifier((28, 28, 1), 10, depth=20, parameters=500_000)
    >>> model.output_shape, model.count_params() <= 500_000
    ((None, 10), True)
    """
    validation.positive_integer("num_classes", num_classes)
    return _over_depth(
        input_shape,
        Readout(num_classes, "logits"),
        block,
        {"depth": depth, **block_options},
        output=output,
        input_noise=input_noise,
        name=name,
    )


@budgeted
def regressor(
    input_shape,
    num_outputs=1,
    block="unfolded_lstm",
    *,
    depth=10,
    units=None,
    parameters=None,
    output_range=None,
    output="hidden",
    input_noise=0.0,
    name=None,
    **block_options,
):
    """A regressor of feature vectors or images: as `classifier`, with real numbers for logits.

    Args:
        input_shape, block, depth, units, parameters, output, input_noise, name, **block_options: As
            for `classifier`.
        num_outputs: Number of real outputs.
        output_range: `(low, high)` bounds the outputs by a sigmoid scaled to that range; None
            leaves them unbounded.

    Returns:
        A `keras.Model` from `(batch, *input_shape)` to `(batch, num_outputs)`.

    Raises:
        ValueError: As for `classifier`; `output_range` is no pair of finite numbers low < high.

    Example:

    >>> from keras_deeplstm import models
    >>> model = models.regressor((13,), 2, depth=5, units=8, output_range=(0, 100))
    >>> model.output_shape, model.count_params()
    ((None, 2), 1618)
    """
    validation.positive_integer("num_outputs", num_outputs)
    return _over_depth(
        input_shape,
        Readout(num_outputs, "outputs", output_range),
        block,
        {"depth": depth, **block_options},
        output=output,
        input_noise=input_noise,
        name=name,
    )


def _over_depth(input_shape, readout, block, options, *, output, input_noise, name):
    validation.one_of("block", block, tuple(BLOCKS))
    both = validation.one_of("output", output, ("hidden", "both")) == "both"
    if both:
        if block != "unfolded_lstm":
            raise ValueError(f"`output='both'` is of block 'unfolded_lstm'. Received: {block!r}")
        options = {**options, "return_state": True}

    def make(units):
        return BLOCKS[block](units=units, name="block", **options)

    def total(units):
        features = math.prod(input_shape)
        return count_weights(make(units), features) + readout.count(2 * units if both else units)

    def build(units):
        inputs = keras.Input(input_shape)
        x = with_noise(inputs, input_noise)
        if len(input_shape) > 1:
            x = keras.layers.Flatten()(x)
        # Made before the block: the order of the layers decides which weights a seed gives, and
        # with it every published number.
        outputs = readout.layer()
        x = make(units)(x)
        if both:
            x = keras.layers.Concatenate()(x[1:])
        return keras.Model(inputs, readout.scaled(outputs(x)), name=name)

    return Design(total, build)
