"""Convolutional networks: a small one to compare filters with, and a deep one."""

import functools

import keras

from keras_deeplstm import validation
from keras_deeplstm.models.budget import Design, budgeted
from keras_deeplstm.models.connected import Stack
from keras_deeplstm.models.readout import Readout, check_images, with_noise


@budgeted
def cnn_classifier(
    input_shape,
    num_classes,
    *,
    filters=None,
    kernel_size=None,
    units=None,
    parameters=None,
    connection=None,
    depth=None,
    dropout=None,
    input_noise=0.0,
    name=None,
    **block_options,
):
    """A convolutional network: a small one, to compare filters with; or, with `connection`, a deep.

    The small one is that of TensorFlow's old tutorial "Deep MNIST for Experts": two 5 x 5
    convolutions with relu and 2 x 2 max pooling, a dense layer, dropout, a readout.

    The deep one has two 3 x 3 convolutions of stride 2, `depth` of relu and a 3 x 3 convolution,
    connected along depth by an LSTM or by what it is compared with, the mean over the image, and a
    readout.

    Args:
        input_shape: `(height, width, channels)`.
        num_classes: Number of classes.
        filters: Of the small network: number of filters of each convolution, (32, 64) by default.
        kernel_size: Height and width of the filters; 5, and 3 of the deep network.
        units: Size of the dense layer, 1024 by default; of the deep network, number of filters of
            each convolution, 100 by default.
        parameters: Instead of `units`: the largest number of parameters.
        connection: None for the small network; "lstm" (`layers.DepthLSTM`), "residual" (pre-norm),
            "post-norm", "rezero", "scaled" (`layers.Residual`) or "highway" (`layers.Highway`).
        depth: Of the deep network: number of connected convolutions, 10 by default.
        dropout: Fraction that is set to zero in training: of the outputs of the dense layer, 0.5 by
            default; of the deep network, of what each convolution returns, 0 by default.
        input_noise: As for `classifier`.
        name: Name of the model.
        **block_options: Of the deep network: further arguments of the layer that connects, such as
            `tied=True`.

    Returns:
        A `keras.Model` from images to logits `(batch, num_classes)`.

    Raises:
        ValueError: An argument is out of its range or unknown to the layer that connects, or no
            `units` fit the budget.

    Example:

    >>> from keras_deeplstm import models
    >>> models.cnn_classifier((28, 28, 1), 10).count_params()
    3274634
    >>> deep = models.cnn_classifier((28, 28, 1), 10, connection="lstm", depth=30, units=16)
    >>> deep.get_layer("block").depth, deep.count_params()
    (30, 136602)
    """
    validation.positive_integer("num_classes", num_classes)
    check_images(input_shape)
    readout, ends = Readout(num_classes, "logits"), (input_shape, input_noise, name)
    usual_size, usual_dropout = (5, 0.5) if connection is None else (3, 0.0)
    kernel_size = usual_size if kernel_size is None else kernel_size
    kernel_size = validation.positive_integer("kernel_size", kernel_size)
    dropout = usual_dropout if dropout is None else dropout
    if connection is None:
        if depth is not None or block_options:
            given = block_options if depth is None else {"depth": depth, **block_options}
            raise ValueError(
                "Only a deep network, with `connection`, has further options. "
                f"Received: {validation.shown(given)}"
            )
        return _small(ends, readout, filters or (32, 64), kernel_size, dropout)
    if filters is not None:
        raise ValueError(
            "Only the small network, without `connection`, has `filters`; those of a deep one are "
            f"its `units`. Received: filters={validation.shown(filters)}, connection={connection!r}"
        )
    depth = validation.positive_integer("depth", 10 if depth is None else depth)
    options = {"dropout": dropout, **block_options}
    return _deep(ends, readout, kernel_size, connection, depth, options)


def _small(ends, readout, filters, kernel_size, dropout):
    (*size, channels), noise, name = ends
    dropout = validation.fraction("dropout", dropout)

    def total(units):
        count, features = 0, channels
        height, width = size
        for wanted in filters:
            count += (kernel_size**2 * features + 1) * wanted
            features, height, width = wanted, -(-height // 2), -(-width // 2)
        return count + (height * width * features + 1) * units + readout.count(units)

    def build(units):
        inputs = keras.Input((*size, channels))
        x = with_noise(inputs, noise)
        for count in filters:
            x = keras.layers.Conv2D(count, kernel_size, padding="same", activation="relu")(x)
            x = keras.layers.MaxPooling2D(padding="same")(x)
        x = keras.layers.Dense(units, activation="relu")(keras.layers.Flatten()(x))
        x = keras.layers.Dropout(dropout)(x)
        return keras.Model(inputs, readout.layer()(x), name=name)

    return Design(total, build, default_units=1024)


def _deep(ends, readout, kernel_size, connection, depth, options):
    shape, noise, name = ends
    tied = validation.boolean("tied", options.pop("tied", False))
    conv = functools.partial(keras.layers.Conv2D, kernel_size=kernel_size, padding="same")

    def layer(units, step):
        return keras.Sequential([keras.layers.ReLU(), conv(units)])

    connected = Stack(connection, layer, depth, tied, options)

    def total(units):
        def convolution(features):
            return (kernel_size**2 * features + 1) * units

        count = convolution(shape[-1]) + (2 if tied else 1 + depth) * convolution(units)
        return count + connected.count(units) + readout.count(units)

    def build(units):
        inputs = keras.Input(shape)
        x = with_noise(inputs, noise)
        for activation in ("relu", None):
            x = conv(units, strides=2, activation=activation)(x)
        for part in connected.layers(units):
            x = part(x)
        x = keras.layers.GlobalAveragePooling2D()(x)
        return keras.Model(inputs, readout.layer()(x), name=name)

    return Design(total, build)
