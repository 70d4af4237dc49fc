"""Models of sequences."""

import keras

from keras_deeplstm import validation
from keras_deeplstm.layers import GridLSTM2D
from keras_deeplstm.models.budget import Design, budgeted, count_weights
from keras_deeplstm.models.readout import Readout, with_noise

SEQUENCE_BLOCKS = ("grid_lstm", "lstm")


@budgeted
def sequence_classifier(
    features,
    num_classes,
    block="grid_lstm",
    *,
    depth=2,
    units=None,
    parameters=None,
    mask_value=None,
    name=None,
    **block_options,
):
    """A classifier of sequences: a sequence block, its last output, a dense readout.

    Args:
        features: Number of features of a time step.
        num_classes: Number of classes.
        block: "grid_lstm", or "lstm" for stacked `keras.layers.LSTM`.
        depth: Number of layers.
        units: Size of each layer; 100 by default.
        parameters: Instead of `units`: the largest number of parameters.
        mask_value: Time steps with all features equal to it are masked; None masks nothing.
        name: Name of the model.
        **block_options: Further arguments of the block.

    Returns:
        A `keras.Model` from `(batch, time, features)` to logits `(batch, num_classes)`.

    Raises:
        ValueError: As for `classifier`.

    Example:

    >>> from keras_deeplstm import models
    >>> models.sequence_classifier(3, 5, depth=4, units=16).output_shape
    (None, 5)
    """
    validation.positive_integer("num_classes", num_classes)
    readout = Readout(num_classes, "logits")
    return _read_out(features, readout, block, depth, block_options, mask_value, name=name)


@budgeted
def sequence_regressor(
    features,
    num_outputs=1,
    block="grid_lstm",
    *,
    depth=2,
    units=None,
    parameters=None,
    output_range=None,
    mask_value=None,
    input_noise=0.0,
    return_sequences=False,
    skip=False,
    name=None,
    **block_options,
):
    """A regressor of sequences: as `sequence_classifier`, with real numbers for logits.

    Args:
        features, block, depth, units, parameters, mask_value, name, **block_options: As for
            `sequence_classifier`.
        num_outputs: Number of real outputs.
        output_range: `(low, high)` bounds the outputs by a sigmoid scaled to that range; None
            leaves them unbounded.
        input_noise: Standard deviation of normal noise that is added to the inputs in training.
        return_sequences: Read out each time step, not only the last one.
        skip: The readout sees the inputs of its step beside the outputs of the block, so that the
            block is left what the inputs alone do not tell; needs `return_sequences`. Some networks
            of Hochreiter & Schmidhuber (1997) have such connections.

    Returns:
        A `keras.Model` from `(batch, time, features)` to `(batch, num_outputs)`, or with
        `return_sequences` to `(batch, time, num_outputs)`.

    Raises:
        ValueError: As for `classifier`; `output_range` is no pair of finite numbers low < high;
            `skip` without `return_sequences`.

    Example:

    >>> from keras_deeplstm import models
    >>> models.sequence_regressor(2, output_range=(0, 100), units=8).output_shape
    (None, 1)
    """
    validation.positive_integer("num_outputs", num_outputs)
    return _read_out(
        features,
        Readout(num_outputs, "outputs", output_range),
        block,
        depth,
        block_options,
        mask_value,
        input_noise=input_noise,
        return_sequences=return_sequences,
        skip=skip,
        name=name,
    )


@budgeted
def forecaster(
    horizon,
    features=1,
    block="grid_lstm",
    *,
    depth=2,
    units=None,
    parameters=None,
    name=None,
    **block_options,
):
    """A forecaster: from n past time steps to the next `horizon` ones, all at once.

    Args:
        horizon: Number of future time steps.
        features: Number of series.
        block, depth, units, parameters, name, **block_options: As for `sequence_classifier`.

    Returns:
        A `keras.Model` from `(batch, n, features)` to `(batch, horizon, features)`.

    Raises:
        ValueError: As for `classifier`.

    Example:

    >>> from keras_deeplstm import models
    >>> models.forecaster(50, block="lstm", depth=4, units=32).output_shape
    (None, 50, 1)
    """
    validation.positive_integer("horizon", horizon)
    readout = Readout(horizon * features, "outputs")
    design = _read_out(features, readout, block, depth, block_options)

    def build(units):
        model = design.build(units)
        outputs = keras.layers.Reshape((horizon, features))(model.output)
        return keras.Model(model.input, outputs, name=name)

    return Design(design.total, build)


def _read_out(
    features,
    readout,
    block,
    depth,
    options,
    mask_value=None,
    *,
    input_noise=0.0,
    return_sequences=False,
    skip=False,
    name=None,
):
    validation.positive_integer("features", features)
    if skip and not return_sequences:
        raise ValueError("`skip=True` needs `return_sequences=True`: an input belongs to its step")

    def make(units):
        return layers_of(block, units, depth, options, return_sequences)

    def total(units):
        count, size = count_layers(make(units), features)
        return count + readout.count(size + (features if skip else 0))

    def build(units):
        x = inputs = keras.Input((None, features))
        if mask_value is not None:
            x = keras.layers.Masking(mask_value)(x)
        x = seen = with_noise(x, input_noise)
        for layer in make(units):
            x = layer(x)
        if skip:
            x = keras.layers.Concatenate()([x, seen])
        return keras.Model(inputs, readout.scaled(readout.layer()(x)), name=name)

    return Design(total, build)


def layers_of(block, units, depth, options, return_sequences):
    """The layers of a sequence block, in order."""
    validation.one_of("block", block, SEQUENCE_BLOCKS)
    if block == "grid_lstm":
        options = {**options, "return_sequences": return_sequences}
        return [GridLSTM2D(units=units, depth=depth, name="block", **options)]
    validation.positive_integer("depth", depth)
    # Keras' LSTM drops its inputs, GridLSTM2D what passes between layers: the first keeps all.
    dropout = {"dropout": validation.fraction("dropout", options.get("dropout", 0.0))}
    options = {key: value for key, value in options.items() if key != "dropout"}
    return [
        keras.layers.LSTM(
            units,
            return_sequences=return_sequences or layer < depth,
            name=f"block_{layer}",
            **options,
            **(dropout if layer > 1 else {}),
        )
        for layer in range(1, depth + 1)
    ]


def count_layers(layers, features):
    """Number of parameters of these layers, and number of features of the last one's output."""
    count = 0
    for layer in layers:
        if isinstance(layer, GridLSTM2D):
            count += count_weights(layer, features)
        else:
            bias = 1 if layer.use_bias else 0
            count += 4 * layer.units * (features + layer.units + bias)
        features = layer.compute_output_shape((None, None, features))[-1]
    return count, features
