"""Classifiers that read an image as a grid of patches."""

import math

import keras

from keras_deeplstm import validation
from keras_deeplstm.layers import GridLSTM3D
from keras_deeplstm.models.budget import Design, budgeted, count_weights
from keras_deeplstm.models.readout import Readout, check_images, with_noise


@budgeted
def image_grid_classifier(
    input_shape,
    num_classes,
    *,
    depth=2,
    units=None,
    parameters=None,
    patches=(2, 2),
    hidden_units=None,
    hidden_dropout=0.0,
    dropout=0.0,
    input_noise=0.0,
    name=None,
    **block_options,
):
    """A classifier of images that are read by LSTMs along rows, columns and depth.

    `layers.GridLSTM3D`, a layer of relu if wanted, a readout. The classifier of digits of Grid LSTM
    (arXiv 1507.01526, appendix) is, as far as it is described, `depth=4, units=100, patches=(2, 2)`
    or `(4, 4)`, `hidden_units=4096, directions=("top_left", "top_right", "bottom_left",
    "bottom_right"), combine="turns", project_inputs="both", output="both", return_sequences=True`.

    Args:
        input_shape: `(height, width, channels)`; height and width are multiples of a patch's.
        num_classes: Number of classes.
        depth: Number of layers of the grid.
        units: Size of its states, 100 by default.
        parameters: Instead of `units`: the largest number of parameters.
        patches: `(height, width)` of the patches that are its cells.
        hidden_units: Of a layer of relu before the readout; None for no such layer.
        hidden_dropout: Fraction of its outputs that is set to zero in training.
        dropout: Of the grid, between its layers.
        input_noise: As for `classifier`.
        name: Name of the model.
        **block_options: Further arguments of `layers.GridLSTM3D`, such as `tied`, `directions`.
            With `return_sequences=True` all positions are read out, else the last.

    Returns:
        A `keras.Model` from images to logits `(batch, num_classes)`.

    Raises:
        ValueError: An argument is out of its range or unknown to the layer, or no `units` fit the
            budget.

    Example:

    >>> from keras_deeplstm import models
    >>> model = models.image_grid_classifier((28, 28, 1), 10, units=32, directions=["top_left"])
    >>> model.get_layer("block").patches, model.count_params(), model.output_shape
    ((2, 2), 74986, (None, 10))
    """
    validation.positive_integer("num_classes", num_classes)
    check_images(input_shape)
    hidden_dropout = validation.fraction("hidden_dropout", hidden_dropout)
    if hidden_units is not None:
        validation.positive_integer("hidden_units", hidden_units)
    elif hidden_dropout:
        raise ValueError("Argument `hidden_dropout` has no meaning without `hidden_units`.")
    readout = Readout(num_classes, "logits")

    def block(units):
        options = {"patches": patches, "dropout": dropout, **block_options}
        return GridLSTM3D(units, depth, name="block", **options)

    def total(units):
        layer = block(units)
        _, *sizes = layer.compute_output_shape((None, *input_shape))
        features, count = math.prod(sizes), count_weights(layer, input_shape[-1])
        if hidden_units is not None:
            features, count = hidden_units, count + (features + 1) * hidden_units
        return count + readout.count(features)

    def build(units):
        inputs = keras.Input(input_shape)
        x = keras.layers.Flatten()(block(units)(with_noise(inputs, input_noise)))
        if hidden_units is not None:
            x = keras.layers.Dense(hidden_units, activation="relu")(x)
            x = keras.layers.Dropout(hidden_dropout)(x) if hidden_dropout else x
        return keras.Model(inputs, readout.layer()(x), name=name)

    return Design(total, build)
