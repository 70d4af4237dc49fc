"""Model builders: plain `keras.Model`s around the blocks of `keras_deeplstm.layers`."""

import keras

from keras_deeplstm import validation
from keras_deeplstm.layers import DenseStack, UnfoldedLSTMBlock

BLOCKS = {"unfolded_lstm": UnfoldedLSTMBlock, "dense": DenseStack}


def classifier(
    input_shape,
    num_classes,
    block="unfolded_lstm",
    *,
    depth=10,
    units=100,
    name=None,
    **block_options,
):
    """A classifier of feature vectors or images: flatten, one block over depth, a dense readout.

    Args:
        input_shape: Shape of one sample, e.g. `(28, 28, 1)` or `(64,)`.
        num_classes: Number of classes.
        block: Name of the block, "unfolded_lstm" or "dense", or a layer class called like one.
        depth: Number of depth steps.
        units: Size of each step.
        name: Name of the model.
        **block_options: Further arguments of the block, e.g. `tied=True`.

    Returns:
        A `keras.Model`, not compiled, from `(batch, *input_shape)` to logits
        `(batch, num_classes)`: use a loss with `from_logits=True`.

    Raises:
        ValueError: An argument is out of its range or unknown to the block.

    Example:

    >>> from keras_deeplstm import models
    >>> model = models.classifier((28, 28, 1), 10, depth=20, units=100)
    >>> model.output_shape
    (None, 10)
    """
    validation.positive_integer("num_classes", num_classes)
    if isinstance(block, str):
        block = BLOCKS[validation.one_of("block", block, tuple(BLOCKS))]
    inputs = keras.Input(input_shape)
    x = keras.layers.Flatten()(inputs) if len(input_shape) > 1 else inputs
    x = block(units=units, depth=depth, name="block", **block_options)(x)
    outputs = keras.layers.Dense(num_classes, name="logits")(x)
    return keras.Model(inputs, outputs, name=name)
