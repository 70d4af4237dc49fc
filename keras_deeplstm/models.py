"""Model builders: plain `keras.Model`s around the blocks, with a parameter budget if wanted.

Every builder takes the block by name, its `depth`, either `units` or `parameters`, and passes
further keyword arguments on to the block. With `parameters=500_000` it chooses the largest `units`
(up to 65,536) with which the whole model has at most that many parameters, so that a comparison at
equal parameters is one argument. Models are not compiled. Classifiers and language models return
logits: use a loss with `from_logits=True`.
"""

import contextvars
import math

import keras

from keras_deeplstm import validation
from keras_deeplstm.layers import (
    DenseStack,
    GridLSTM2D,
    HighwayBlock,
    ResidualBlock,
    UnfoldedLSTMBlock,
)
from keras_deeplstm.layers.depth_layer import MAX_UNITS

BLOCKS = {
    "unfolded_lstm": UnfoldedLSTMBlock,
    "dense": DenseStack,
    "highway": HighwayBlock,
    "residual": ResidualBlock,
}
SEQUENCE_BLOCKS = ("grid_lstm", "lstm")
DEFAULT_UNITS = 100

_only_count = contextvars.ContextVar("only_count", default=False)


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
        input_shape, num_classes, "logits", block, depth, units, parameters, output, input_noise,
        name, block_options,
    )  # fmt: skip


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
        input_shape, num_outputs, "outputs", block, depth, units, parameters, output, input_noise,
        name, block_options, output_range,
    )  # fmt: skip


def cnn_classifier(
    input_shape,
    num_classes,
    *,
    filters=(32, 64),
    kernel_size=5,
    units=1024,
    dropout=0.5,
    input_noise=0.0,
    name=None,
):
    """A small convolutional network, to compare filters with.

    The defaults are those of TensorFlow's old tutorial "Deep MNIST for Experts": two 5 x 5
    convolutions with relu and 2 x 2 max pooling, a dense layer, dropout, a readout.

    Args:
        input_shape: `(height, width, channels)`.
        num_classes: Number of classes.
        filters: Number of filters of each convolution.
        kernel_size: Height and width of the filters.
        units: Size of the dense layer.
        dropout: Fraction of its outputs set to zero in training.
        input_noise: As for `classifier`.
        name: Name of the model.

    Returns:
        A `keras.Model` from images to logits `(batch, num_classes)`.

    Raises:
        ValueError: An argument is out of its range.

    Example:

    >>> from keras_deeplstm import models
    >>> models.cnn_classifier((28, 28, 1), 10).count_params()
    3274634
    """
    validation.positive_integer("num_classes", num_classes)
    if len(input_shape) != 3:
        raise ValueError(
            "Argument `input_shape` must be (height, width, channels). "
            f"Received: input_shape={input_shape}"
        )
    inputs = keras.Input(input_shape)
    x = _with_noise(inputs, input_noise)
    for count in filters:
        x = keras.layers.Conv2D(count, kernel_size, padding="same", activation="relu")(x)
        x = keras.layers.MaxPooling2D(padding="same")(x)
    x = keras.layers.Dense(units, activation="relu")(keras.layers.Flatten()(x))
    x = keras.layers.Dropout(validation.fraction("dropout", dropout))(x)
    return keras.Model(inputs, keras.layers.Dense(num_classes, name="logits")(x), name=name)


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
    return _read_out(
        features, num_classes, "logits", block, depth, units, parameters, mask_value, name,
        block_options,
    )  # fmt: skip


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
        features, num_outputs, "outputs", block, depth, units, parameters, mask_value, name,
        block_options, output_range, input_noise, return_sequences, skip,
    )  # fmt: skip


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
    model = _read_out(
        features, horizon * features, "outputs", block, depth, units, parameters, None, name,
        block_options,
    )  # fmt: skip
    outputs = keras.layers.Reshape((horizon, features))(model.output)
    return keras.Model(model.input, outputs, name=name)


def character_language_model(
    vocabulary_size,
    block="grid_lstm",
    *,
    depth=2,
    units=None,
    parameters=None,
    batch_size=None,
    stateful=False,
    dropout=0.0,
    name=None,
    **block_options,
):
    """A language model: embedding, sequence block, dropout, a readout for each time step.

    The embedding has the size of the block's layers, so that "grid_lstm" needs no projection of
    its inputs (`project_inputs=None`, unless given).

    Args:
        vocabulary_size: Number of different symbols.
        block, depth, units, parameters, name, **block_options: As for `sequence_classifier`.
        batch_size: Number of sequences in a batch; needed with `stateful`.
        stateful: Carry the state of each row from batch to batch. On JAX only with "grid_lstm":
            there `keras.layers.LSTM` loses its states; `states.CarriedStates` carries them.
        dropout: On the outputs of layers, between them and before the readout.

    Returns:
        A `keras.Model` from integers `(batch, time)` to logits `(batch, time, vocabulary_size)`.

    Raises:
        ValueError: As for `classifier`; `stateful` without `batch_size`, or with "lstm" on JAX.

    Example:

    >>> from keras_deeplstm import models
    >>> models.character_language_model(65, depth=3, units=32).output_shape
    (None, None, 65)
    """
    validation.positive_integer("vocabulary_size", vocabulary_size)
    if stateful and batch_size is None:
        raise ValueError("With `stateful=True` the `batch_size` must be given. Received: None")
    if stateful and block == "lstm" and keras.backend.backend() == "jax":
        # Its states are none of the variables that a compiled step updates.
        raise ValueError(
            "On JAX keras.layers.LSTM begins every batch with the same state, so that "
            "`stateful=True` needs block='grid_lstm', or `states.CarriedStates` around a model "
            "that is not stateful. Received: block='lstm'"
        )
    options = {"stateful": stateful, "dropout": dropout, **block_options}
    if block == "grid_lstm":
        options.setdefault("project_inputs", None)

    def make(units):
        return _sequence_layers(block, units, depth, options, return_sequences=True)

    def total(units):
        size, read_out = _count_sequence(make(units), units)
        return size + vocabulary_size * units + (read_out + 1) * vocabulary_size

    units = _choose_units(units, parameters, total)
    inputs = keras.Input((None,), batch_size=batch_size, dtype="int32")
    x = keras.layers.Embedding(vocabulary_size, units, name="embedding")(inputs)
    for layer in make(units):
        x = layer(x)
    x = keras.layers.Dropout(dropout)(x)
    return keras.Model(inputs, keras.layers.Dense(vocabulary_size, name="logits")(x), name=name)


def count_parameters(builder, *arguments, **options):
    """The number of parameters of a model, trainable or not, before it is built.

    That of a model without a block, such as `cnn_classifier`, is counted after it.

    Args:
        builder: A function of this module.
        *arguments: Its positional arguments.
        **options: Its keyword arguments.

    Returns:
        The number, an int of any size.

    Raises:
        ValueError: As the builder.

    Example:

    >>> from keras_deeplstm import models
    >>> models.count_parameters(models.classifier, (28, 28, 1), 10, depth=10_000, units=1000)
    40039146010
    """
    token = _only_count.set(True)
    try:
        return builder(*arguments, **options).count_params()
    except _Counted as counted:
        return counted.parameters
    finally:
        _only_count.reset(token)


class _Counted(Exception):
    def __init__(self, parameters):
        super().__init__(parameters)
        self.parameters = parameters


# What the builders share.


def _with_noise(x, stddev):
    return keras.layers.GaussianNoise(stddev)(x) if stddev else x


def _over_depth(
    input_shape, size, readout, block, depth, units, parameters, output, input_noise, name,
    block_options, output_range=None,
):  # fmt: skip
    validation.one_of("block", block, tuple(BLOCKS))
    both = validation.one_of("output", output, ("hidden", "both")) == "both"
    if both:
        if block != "unfolded_lstm":
            raise ValueError(f"`output='both'` is of block 'unfolded_lstm'. Received: {block!r}")
        block_options = {**block_options, "return_state": True}
    features = math.prod(input_shape)

    def make(units):
        return BLOCKS[block](units=units, depth=depth, name="block", **block_options)

    def total(units):
        return _count(make(units), features) + ((2 if both else 1) * units + 1) * size

    bounded = _Bounded(output_range)
    units = _choose_units(units, parameters, total)
    inputs = keras.Input(input_shape)
    x = _with_noise(inputs, input_noise)
    if len(input_shape) > 1:
        x = keras.layers.Flatten()(x)
    # Made before the block: the order of the layers decides which weights a seed gives, and with
    # it every published number.
    outputs = keras.layers.Dense(size, activation=bounded.activation, name=readout)
    x = make(units)(x)
    if both:
        x = keras.layers.Concatenate()(x[1:])
    return keras.Model(inputs, bounded(outputs(x)), name=name)


class _Bounded:
    """The activation and the scaling that keep outputs in a range, or none."""

    def __init__(self, output_range):
        self.activation, self.bounds = None, None
        if output_range is not None:
            is_pair = hasattr(output_range, "__len__") and len(output_range) == 2
            bounds = [validation.finite("output_range", b) for b in output_range] if is_pair else []
            if not bounds or not bounds[0] < bounds[1]:
                raise ValueError(
                    "Argument `output_range` must be (low, high) with low < high. "
                    f"Received: output_range={output_range}"
                )
            self.activation, self.bounds = "sigmoid", bounds

    def __call__(self, x):
        if self.bounds is None:
            return x
        low, high = self.bounds
        return keras.layers.Rescaling(high - low, offset=low)(x)


def _read_out(
    features, size, readout, block, depth, units, parameters, mask_value, name, options,
    output_range=None, input_noise=0.0, return_sequences=False, skip=False,
):  # fmt: skip
    validation.positive_integer("features", features)
    bounded = _Bounded(output_range)
    if skip and not return_sequences:
        raise ValueError("`skip=True` needs `return_sequences=True`: an input belongs to its step")

    def make(units):
        return _sequence_layers(block, units, depth, options, return_sequences)

    def total(units):
        count, read_out = _count_sequence(make(units), features)
        return count + (read_out + (features if skip else 0) + 1) * size

    units = _choose_units(units, parameters, total)
    x = inputs = keras.Input((None, features))
    if mask_value is not None:
        x = keras.layers.Masking(mask_value)(x)
    x = seen = _with_noise(x, input_noise)
    for layer in make(units):
        x = layer(x)
    if skip:
        x = keras.layers.Concatenate()([x, seen])
    outputs = keras.layers.Dense(size, activation=bounded.activation, name=readout)(x)
    return keras.Model(inputs, bounded(outputs), name=name)


def _sequence_layers(block, units, depth, options, return_sequences):
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


def _count_sequence(layers, features):
    """Number of parameters of these layers, and number of features of the last one's output."""
    count = 0
    for layer in layers:
        if isinstance(layer, GridLSTM2D):
            count += _count(layer, features)
        else:
            bias = 1 if layer.use_bias else 0
            count += 4 * layer.units * (features + layer.units + bias)
        features = layer.compute_output_shape((None, None, features))[-1]
    return count, features


def _count(layer, features):
    return sum(math.prod(shape) for shape in layer.weight_shapes(features).values())


def _choose_units(units, parameters, total):
    """`units`, or the largest units with which `total(units)` is at most `parameters`."""
    units = _fitting_units(units, parameters, total)
    if _only_count.get():
        raise _Counted(total(units))
    return units


def _fitting_units(units, parameters, total):
    if parameters is None:
        return validation.positive_integer("units", DEFAULT_UNITS if units is None else units)
    if units is not None:
        raise ValueError(
            f"Pass either `units` or `parameters`. Received: units={units}, parameters={parameters}"
        )
    budget = validation.positive_integer("parameters", parameters)
    if total(1) > budget:
        raise ValueError(
            f"No `units` fit the budget: one unit needs {total(1)} parameters. "
            f"Received: parameters={budget}"
        )
    # Beyond MAX_UNITS the blocks refuse `units`, which the caller has not given.
    fits, too_many = 1, 2
    while too_many <= MAX_UNITS and total(too_many) <= budget:
        fits, too_many = too_many, 2 * too_many
    too_many = min(too_many, MAX_UNITS + 1)
    while too_many - fits > 1:
        middle = (fits + too_many) // 2
        fits, too_many = (middle, too_many) if total(middle) <= budget else (fits, middle)
    return fits
