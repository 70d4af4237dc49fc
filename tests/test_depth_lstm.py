"""DepthLSTM against NumPy, against UnfoldedLSTMBlock, and as a layer round layers of the user."""

import json

import keras
import numpy as np
import pytest
import reference
from keras import ops
from layer_stacks import DEPTH, ROWS, TIME, UNITS, dense, inputs, numpy_of, randomized

from keras_deeplstm.callbacks import GradientFlow
from keras_deeplstm.diagnostics import (
    SignalProbe,
    float64,
    gradient_check,
    signals,
    state_gradients,
)
from keras_deeplstm.layers import DepthLSTM, UnfoldedLSTMBlock

pytestmark = pytest.mark.backends

BACKEND = keras.backend.backend()


def convolution(step=None):
    return keras.layers.Conv1D(UNITS, 3, padding="same", activation="tanh")


def own_weights(layer):
    """The weights of the LSTM and of its normalizations, by name; stacked if they are tied."""
    values = {name: numpy_of(getattr(layer, name)) for name in layer.weight_shapes(UNITS)}
    return {k: np.stack([v] * layer.depth) if layer.tied else v for k, v in values.items()}


def attention(step=None, **options):
    return keras.layers.MultiHeadAttention(2, 3, **options)


def numpy_layers(layer):
    """What Dense layers with tanh compute, as functions."""

    def function(nested):
        kernel, bias = map(numpy_of, nested.weights)
        return lambda x: np.tanh(x @ kernel + bias)

    return [function(each) for each in layer.layers] * (layer.depth if layer.tied else 1)


# The equation.


@pytest.mark.parametrize("dtype, tolerance", [("float32", 1e-5), ("float64", 1e-12)])
@pytest.mark.parametrize(
    "options",
    [
        {"normalization": None},
        {"normalization": "layer", "memory": "input"},
        {"normalization": "rms", "memory_normalization": "layer", "tied": True},
        {"normalization": None, "memory_normalization": "rms"},
    ],
    ids=str,
)
def test_equals_numpy_reference(options, dtype, tolerance):
    norms = {None: None, "layer": reference.layer_norm, "rms": reference.rms_norm}

    def normalized(kind, name):
        if kind is None:
            return None
        names = [f"{name}_scale", f"{name}_offset"][: 2 if kind == "layer" else 1]
        return lambda h, step: norms[kind](h, *(w[each][step] for each in names))

    with float64():
        layer = DepthLSTM(
            lambda step: keras.layers.Dense(UNITS, "tanh", dtype=dtype),
            DEPTH,
            return_state=True,
            dtype=dtype,
            **options,
        )
        x = inputs(dtype=dtype)
        randomized(layer, x.shape)
        output, h, c = map(numpy_of, layer(x))
        w = own_weights(layer)
        hidden, memory = reference.depth_lstm(
            x,
            numpy_layers(layer),
            w,
            c0=x if options.get("memory") == "input" else None,
            norm=normalized(options["normalization"], "norm"),
            memory_norm=normalized(options.get("memory_normalization"), "memory"),
        )
    np.testing.assert_allclose(h, hidden[-1], atol=tolerance)
    np.testing.assert_allclose(c, memory[-1], atol=tolerance)
    np.testing.assert_array_equal(output, h)


def test_attention_equals_numpy_reference_with_the_masks_that_are_passed_on():
    """A causal mask, a mask of padding and an `attention_mask` reach each layer."""
    layer = DepthLSTM([attention() for _ in range(DEPTH)])
    x = inputs()
    randomized(layer, x.shape)
    valid = np.array([[True] * TIME, [True] * 3 + [False] * 2])
    seen = np.random.default_rng(0).uniform(size=(ROWS, TIME, TIME)) < 0.7
    seen |= np.eye(TIME, dtype=bool)
    causal = np.tril(np.ones((TIME, TIME), bool))
    w = own_weights(layer)

    def expected(mask):
        layers = [
            lambda h, each=each: reference.attention(h, [*map(numpy_of, each.weights)], mask)
            for each in layer.layers
        ]
        hidden, _ = reference.depth_lstm(
            x,
            layers,
            w,
            norm=lambda h, step: reference.layer_norm(
                h, w["norm_scale"][step], w["norm_offset"][step]
            ),
        )
        return hidden[-1]

    np.testing.assert_allclose(numpy_of(layer(x)), expected(None), atol=1e-5)
    found = numpy_of(layer(x, use_causal_mask=True))
    np.testing.assert_allclose(found, expected(np.stack([causal] * ROWS)), atol=1e-5)
    found = numpy_of(layer(x, attention_mask=seen, use_causal_mask=True))
    np.testing.assert_allclose(found, expected(seen & causal), atol=1e-5)
    padded = numpy_of(layer(x, mask=valid, use_causal_mask=True))
    both = expected(causal & valid[:, None])
    np.testing.assert_allclose(padded[valid], both[valid], atol=1e-5)


@pytest.mark.parametrize(
    "make, options",
    [
        (convolution, {"memory": "input", "output": "both"}),
        (dense, {"tied": True, "memory_normalization": "layer"}),
        (dense, {"tied": True, "unroll": False}),
        pytest.param(dense, {"normalization": "rms"}, marks=pytest.mark.long),
        pytest.param(dense, {"memory_normalization": "rms"}, marks=pytest.mark.long),
        pytest.param(convolution, {"normalization": None, "tied": True}, marks=pytest.mark.long),
        pytest.param(convolution, {"use_bias": False, "dropout": 0.5}, marks=pytest.mark.long),
    ],
)
def test_gradients_equal_finite_differences(make, options):
    """Not of attention: on JAX that of Keras computes its softmax in float32 in any case."""
    layer = DepthLSTM(make, DEPTH, **options)
    table = gradient_check(randomized(layer, (ROWS, 3, UNITS)), inputs(ROWS, 3, UNITS), entries=4)
    assert (table.relative_error < 1e-6).all(), table
    assert len(table) == len(layer.trainable_weights) + 1


def test_without_what_the_layers_add_it_is_an_unfolded_lstm():
    """W reads h itself: with the input as first state, the block's U is W + U."""
    x = inputs(ROWS, UNITS)
    options = {"input_gate_bias": "depth", "bias_initializer": "random_normal"}
    for memory in ("zeros", "input"):
        layer = DepthLSTM(
            [keras.layers.Identity() for _ in range(DEPTH)],
            normalization=None,
            memory=memory,
            return_state=True,
            **options,
        )
        layer.build(x.shape)
        block = UnfoldedLSTMBlock(UNITS, DEPTH, input_mode="state", return_state=True, **options)
        block.build(x.shape)
        block.set_weights(
            [
                np.eye(UNITS),
                np.eye(UNITS) * (memory == "input"),
                np.zeros(UNITS),
                np.zeros(UNITS),
                numpy_of(layer.kernel) + numpy_of(layer.recurrent_kernel),
                numpy_of(layer.bias),
            ]
        )
        for found, expected in zip(layer(x), block(x), strict=True):
            np.testing.assert_allclose(numpy_of(found), numpy_of(expected), atol=1e-6)
    # The same biases of the gates at first.
    again = [each.__class__.from_config(each.get_config()) for each in (layer, block)]
    for each in again:
        each.build(x.shape)
    i, f = (slice(k * UNITS, (k + 1) * UNITS) for k in (0, 1))
    for gate in (i, f):
        np.testing.assert_array_equal(
            numpy_of(again[0].bias)[:, gate], numpy_of(again[1].bias)[:, gate]
        )


def test_a_step_has_the_parameters_of_the_feedforward_part():
    """Attention and LSTM have as many as attention and the layers d -> 4 d -> d; biases differ."""
    layer = DepthLSTM([attention() for _ in range(DEPTH)], use_bias=False, normalization=None)
    layer.build((None, None, UNITS))
    ffn = keras.Sequential([keras.layers.Dense(4 * UNITS, use_bias=False)])
    ffn.add(keras.layers.Dense(UNITS, use_bias=False))
    ffn.build((None, UNITS))
    one = attention()
    one.build((None, None, UNITS), (None, None, UNITS))
    assert layer.count_params() == DEPTH * (one.count_params() + ffn.count_params())


def test_tied_weights_are_one_set():
    x = inputs()
    tied = DepthLSTM(dense(), DEPTH, tied=True)
    randomized(tied, x.shape)
    assert len(tied.layers) == 1 and tuple(tied.kernel.shape) == (UNITS, 4 * UNITS)
    untied = DepthLSTM(dense, DEPTH)
    untied.build(x.shape)
    for name in tied.weight_shapes(UNITS):
        getattr(untied, name).assign(np.stack([numpy_of(getattr(tied, name))] * DEPTH))
    for layer in untied.layers:
        layer.set_weights(tied.layers[0].get_weights())
    np.testing.assert_allclose(numpy_of(tied(x)), numpy_of(untied(x)), atol=1e-6)


@pytest.mark.parametrize("output", ["hidden", "both"])
def test_output_and_states(output):
    layer = DepthLSTM(dense, DEPTH, output=output, return_state=True)
    x = inputs()
    y, h, c = map(numpy_of, layer(x))
    expected = np.concatenate([h, c], axis=-1) if output == "both" else h
    np.testing.assert_array_equal(y, expected)
    assert np.abs(h - c).max() > 0.01
    shapes = layer.compute_output_shape(x.shape)
    assert shapes == [y.shape, h.shape, c.shape]
    assert [tuple(each.shape) for each in layer(keras.KerasTensor(x.shape))] == shapes


# Loops.


class Counting(keras.layers.Layer):
    """Counts how often it is called: once for each step, or as part of a loop."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = keras.layers.Dense(UNITS, "tanh")
        self.calls = 0

    def build(self, shape):
        self.dense.build(shape)

    def call(self, x):
        self.calls += 1
        return self.dense(x)


def test_a_tied_layer_without_state_runs_in_a_loop_where_it_is_asked_for():
    x, depth, results = inputs(), 12, []
    for unroll in (True, False):
        layer = DepthLSTM(Counting(), depth, tied=True, unroll=unroll)
        model = keras.Sequential([keras.Input(x.shape[1:]), layer])
        for weight in layer.weights:
            weight.assign(inputs(*weight.shape, seed=len(weight.shape)) / 3)
        model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=BACKEND != "torch")
        (nested,) = layer.layers
        nested.calls = 0
        loss = model.train_on_batch(x, np.zeros_like(x))
        in_loop = not unroll and BACKEND != "torch"
        assert layer.used_kernel == ("loop" if in_loop else "written out")
        assert (nested.calls < depth) == in_loop
        results.append([loss, *model.get_weights()])
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize(
    "nested",
    [
        lambda: keras.Sequential([dense(), keras.layers.Dropout(0.5)]),
        keras.layers.BatchNormalization,
    ],
    ids=["seed", "moving averages"],
)
def test_a_loop_is_refused_where_state_would_leak(nested):
    layer = DepthLSTM(nested(), 12, tied=True, unroll=False)
    with pytest.raises(ValueError, match="needs a layer without state, seed"):
        layer.build((None, UNITS))


@pytest.mark.parametrize("tied", [False, True])
def test_layers_with_state_and_seed_train(tied):
    """As a Python loop they keep what belongs to them, also in a compiled step."""

    def make(step):
        return keras.Sequential(
            [dense(), keras.layers.BatchNormalization(momentum=0.5), keras.layers.Dropout(0.2)]
        )

    layer = DepthLSTM(make, 2, tied=tied)
    model = keras.Sequential([keras.Input((UNITS,)), layer])
    model.compile("sgd", "mse")
    x = inputs(16, UNITS)
    model.fit(x, np.zeros_like(x), verbose=0)
    for nested in layer.layers:
        mean = numpy_of(nested.layers[1].moving_mean)
        assert np.abs(mean).max() > 1e-3 and np.isfinite(mean).all()
    one, other = (numpy_of(layer(x, training=True)) for _ in range(2))
    assert np.abs(one - other).max() > 1e-3


# Layers of the user.


@keras.saving.register_keras_serializable(package="test_depth_lstm")
class Masked(keras.layers.Layer):
    """A layer of the user: other arguments of its call, a layer inside, a mask, `training`."""

    def __init__(self, size, **kwargs):
        super().__init__(**kwargs)
        self.size = size
        self.dense = keras.layers.Dense(size)
        self.seen = []
        self.supports_masking = True

    def build(self, shape):
        self.dense.build(shape)

    def call(self, x, factor=None, training=None, mask=None):
        self.seen.append((training, mask is not None, factor is not None))
        x = self.dense(x)
        x = x if mask is None else ops.where(ops.expand_dims(mask, -1), x, 0.0)
        return x if factor is None else x * factor

    def get_config(self):
        return {**super().get_config(), "size": self.size}


def test_call_arguments_reach_the_layers_that_take_them():
    layer = DepthLSTM([Masked(UNITS), dense(), Masked(UNITS)])
    x = inputs()
    layer.build(x.shape)
    mask = np.array([[True] * 4 + [False]] * ROWS)
    first = layer.layers[0]
    first.seen.clear()
    plain = numpy_of(layer(x))
    masked = numpy_of(layer(x, mask=mask, training=True))
    factor = inputs(ROWS, TIME, 1)
    scaled = numpy_of(layer(x, factor=factor))
    assert [tuple(map(bool, seen)) for seen in first.seen] == [
        (False, False, False),
        (True, True, False),
        (False, False, True),
    ]
    assert np.abs(plain - masked)[:, -1].max() > 1e-3
    np.testing.assert_allclose(masked[:, :-1], plain[:, :-1], atol=1e-6)
    assert np.abs(plain - scaled).max() > 1e-3
    with pytest.raises(ValueError) as error:
        layer(x, facter=factor)
    assert "takes the call argument `facter`. Did you mean 'factor'?" in str(error.value)


def test_a_value_of_the_users_own_reaches_attention():
    layer = DepthLSTM([attention(), dense()], normalization=None)
    x, memory = inputs(), inputs(ROWS, 7, UNITS)
    plain = numpy_of(layer(x))
    first, second = (numpy_of(layer(x, value=value)) for value in (memory, 2 * memory))
    assert np.abs(first - plain).max() > 1e-3 and np.abs(first - second).max() > 1e-3
    np.testing.assert_allclose(numpy_of(layer(x, value=x)), plain, atol=1e-6)
    masked = numpy_of(layer(x, value=memory, mask=np.ones((ROWS, TIME), bool)))
    np.testing.assert_allclose(masked, first, atol=1e-6)


def test_masks_of_other_layers_come_in_and_go_on():
    """Of an embedding, also beside another tensor; and to the layer that follows."""
    tokens = keras.Input((TIME,), dtype="int32")
    pairs = keras.Input((TIME, TIME), dtype="bool")
    embedding = keras.layers.Embedding(9, UNITS, mask_zero=True)
    x = embedding(tokens)
    layer = DepthLSTM([attention() for _ in range(2)])
    plain = layer(x)
    with_pairs = layer(x, attention_mask=pairs)
    ends = [keras.layers.LSTM(4, return_sequences=True), keras.layers.GlobalAveragePooling1D()]
    model = keras.Model([tokens, pairs], [plain, with_pairs, ends[1](ends[0](plain))])
    ids = np.array([[3, 5, 2, 0, 0], [1, 4, 7, 8, 2]])
    everything = np.ones((2, TIME, TIME), bool)
    one, other, pooled = model.predict_on_batch([ids, everything])
    np.testing.assert_allclose(one, other, atol=1e-6)
    rows = numpy_of(embedding(ids))
    np.testing.assert_allclose(one[1], numpy_of(layer(rows))[1], atol=1e-5)  # nothing is masked
    short = numpy_of(layer(rows[:1, :3]))
    np.testing.assert_allclose(one[0, :3], short[0], atol=1e-5)
    np.testing.assert_allclose(pooled[0], numpy_of(ops.mean(ends[0](short), axis=1))[0], atol=1e-5)


@pytest.mark.parametrize("tied", [False, True])
def test_a_file_brings_the_layers_back(tied, tmp_path):
    def nested(step):
        return keras.Sequential([Masked(UNITS, name=f"of_{step}"), keras.layers.Activation("tanh")])

    layer = DepthLSTM(nested, DEPTH, tied=tied, memory="input", name="depth")
    model = keras.Sequential([keras.Input((None, UNITS)), layer])
    for weight in model.weights:
        weight.assign(inputs(*weight.shape, seed=weight.shape[-1]))
    x = inputs()
    expected = model.predict_on_batch(x)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict_on_batch(x), expected)
    again = loaded.get_layer("depth")
    assert json.dumps(again.get_config()) == json.dumps(layer.get_config())
    assert [each.layers[0].name for each in again.layers] == [
        f"of_{step}" for step in range(1, len(layer.layers) + 1)
    ]
    model.save_weights(tmp_path / "a.weights.h5")
    clone = keras.models.clone_model(model)
    clone.load_weights(tmp_path / "a.weights.h5")
    np.testing.assert_array_equal(clone.predict_on_batch(x), expected)
    other = keras.Sequential(
        [keras.Input((None, UNITS)), DepthLSTM(nested, 2, tied=tied, name="depth")]
    )
    if not tied:
        with pytest.raises(ValueError, match="do not fit layer 'depth' with depth=2: they have"):
            other.load_weights(tmp_path / "a.weights.h5")


@pytest.mark.parametrize(
    "make, shape",
    [
        (lambda step: keras.layers.Conv2D(UNITS, 3, padding="same"), (4, 5, UNITS)),
        (lambda step: keras.layers.LSTM(UNITS, return_sequences=True), (TIME, UNITS)),
        (lambda step: keras.layers.GroupQueryAttention(3, 4, 2), (TIME, UNITS)),
        (lambda step: UnfoldedLSTMBlock(UNITS, 2), (UNITS,)),
        (lambda step: DepthLSTM(dense, 2), (TIME, UNITS)),
    ],
    ids=["convolution", "recurrent", "grouped attention", "a block", "itself"],
)
def test_layers_of_many_kinds(make, shape):
    """Positions are rows: each is the LSTM of what its layer returns there."""
    layer = DepthLSTM(make, 2, normalization=None)
    x = inputs(ROWS, *shape)
    found = numpy_of(layer(x))
    assert found.shape == x.shape
    nested = [
        lambda h, each=each: numpy_of(
            each(h, value=h) if isinstance(each, keras.layers.GroupQueryAttention) else each(h)
        )
        for each in layer.layers
    ]
    hidden, _ = reference.depth_lstm(x, nested, own_weights(layer))
    np.testing.assert_allclose(found, hidden[-1], atol=1e-5)


# As a Keras layer.


def language_model(layer):
    tokens = keras.Input((None,), dtype="int32")
    x = keras.layers.Embedding(7, UNITS)(tokens)
    x = layer(x, use_causal_mask=True)
    return keras.Model(tokens, keras.layers.Dense(7)(x))


@pytest.mark.long  # test_contract trains it compiled, with unknown shapes
def test_compiled_training_with_unknown_lengths():
    """Of a causal model, with XLA and without; then with another batch and length."""
    results = []
    for jit in (False, True) if BACKEND != "torch" else (False,):
        keras.utils.set_random_seed(0)
        layer = DepthLSTM(lambda step: attention(dropout=0.0), DEPTH)
        model = language_model(layer)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.SGD(0.1), loss, jit_compile=jit)
        tokens = np.random.default_rng(0).integers(0, 7, size=(4, TIME + 1))
        losses = [model.train_on_batch(tokens[:, :-1], tokens[:, 1:]) for _ in range(3)]
        losses.append(model.train_on_batch(tokens[:3, :3], tokens[:3, 1:4]))
        results.append([np.array(losses), *model.get_weights()])
        assert losses[2] < losses[0]
    for one, other in zip(*results[:1], results[-1], strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.skipif(BACKEND == "torch", reason="SavedModel is promised for TensorFlow and JAX")
def test_export(tmp_path):
    import tensorflow as tf

    model = language_model(DepthLSTM(attention, 2))
    tokens = np.random.default_rng(0).integers(0, 7, size=(3, TIME)).astype("int32")
    model.export(str(tmp_path), verbose=False)
    exported = tf.saved_model.load(str(tmp_path))
    for part in (tokens, tokens[:2, :4]):
        found = exported.serve(part).numpy()
        np.testing.assert_allclose(found, model.predict_on_batch(part), atol=1e-5)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16", "float16"])
def test_precision(policy):
    """The layers may have a type of their own; what they return is taken in that of the stack."""
    layer = DepthLSTM([keras.layers.Dense(UNITS, dtype=policy), dense()], dtype=policy)
    x = inputs()
    y = layer(x, training=True)
    expected = policy.removeprefix("mixed_")
    assert keras.backend.standardize_dtype(y.dtype) == expected
    assert keras.backend.standardize_dtype(layer.kernel.dtype) == layer.variable_dtype
    wide = DepthLSTM([dense(), dense()])
    wide.layers[0].activation = keras.activations.linear
    wide.build(x.shape)
    wide.set_weights([numpy_of(ops.cast(w, "float32")) for w in layer.weights])
    np.testing.assert_allclose(
        numpy_of(ops.cast(y, "float32")), numpy_of(wide(x)), atol=2e-2 if "b" in policy else 4e-3
    )


def test_dropout_hits_what_the_layers_return():
    layer = DepthLSTM([keras.layers.Identity()], normalization=None, dropout=0.5, seed=1)
    layer.build((None, UNITS))
    layer.recurrent_kernel.assign(np.zeros((1, UNITS, 4 * UNITS)))
    # W reads nothing but the first unit, into the candidates of all: z is 2 x_1 or 0.
    kernel = np.zeros((1, UNITS, 4 * UNITS))
    kernel[0, 0, 2 * UNITS : 3 * UNITS] = 1
    layer.kernel.assign(kernel)
    layer.bias.assign(np.zeros((1, 4 * UNITS)))
    x = np.ones((400, UNITS), "float32")
    h = numpy_of(layer(x, training=True))
    kept = h[:, 0] != 0
    np.testing.assert_allclose(h[kept], 0.5 * np.tanh(0.5 * np.tanh(2.0)), rtol=1e-5)
    assert 0.4 < kept.mean() < 0.6 and (h[~kept] == 0).all()
    assert np.abs(numpy_of(layer(x)) - 0.5 * np.tanh(0.5 * np.tanh(1.0))).max() < 1e-6
    assert np.abs(numpy_of(layer(x, training=True)) - h).max() > 0.1


def test_regularizers_and_constraints_see_each_step():
    layer = DepthLSTM(
        dense,
        DEPTH,
        kernel_regularizer=keras.regularizers.L2(1.0),
        recurrent_constraint=keras.constraints.UnitNorm(axis=0),
    )
    layer.build((None, UNITS))
    expected = np.sum(numpy_of(layer.kernel) ** 2)
    np.testing.assert_allclose(numpy_of(sum(layer.losses)), expected, rtol=1e-5)
    constrained = numpy_of(layer.recurrent_kernel.constraint(3 * layer.recurrent_kernel))
    np.testing.assert_allclose(np.linalg.norm(constrained, axis=1), 1, rtol=1e-5)


def test_frozen_with_its_layers():
    layer = DepthLSTM(dense, 2)
    layer.build((None, UNITS))
    layer.trainable = False
    assert layer.trainable_weights == [] and len(layer.non_trainable_weights) == 5 + 4


# Diagnostics.


def regression(layer, shape=(UNITS,)):
    model = keras.Sequential([keras.Input(shape), layer, keras.layers.Dense(2)])
    model.compile("sgd", "mse")
    return model


def curve(frame, state, path):
    found = frame[(frame.state == state) & (frame.path == path)].sort_values("depth")
    return found.value.to_numpy()


def test_three_curves_of_the_states_against_finite_differences():
    """The path through c alone has h as it was, that through h alone has c as it was."""
    x, y = inputs(ROWS, 3, UNITS), inputs(ROWS, 3, 2, seed=4)
    layer = DepthLSTM(dense, DEPTH, normalization=None)
    model = regression(layer, (3, UNITS))
    for weight in model.weights:
        weight.assign(inputs(*weight.shape, seed=weight.shape[-1]) / 2)
    frame = state_gradients(model, x, y)
    w, functions = own_weights(layer), numpy_layers(layer)
    w = {name: value.astype("float64") for name, value in w.items()}
    readout, bias = (each.astype("float64") for each in model.layers[-1].get_weights())

    def run(h, c, steps, recorded=None, path="total"):
        states = []
        for step in steps:
            if states and path == "memory":
                h = recorded[0][step - 1]
            if states and path == "hidden":
                c = recorded[1][step - 1]
            part = {name: value[step : step + 1] for name, value in w.items()}
            (h,), (c,) = reference.depth_lstm(h, functions[step : step + 1], part, c0=c)
            states.append((h, c))
        return states

    def loss(h):
        return np.mean((h @ readout + bias - y) ** 2)

    wide = x.astype("float64")
    recorded = [*zip(*run(wide, np.zeros_like(wide), range(DEPTH)), strict=True)]

    def after(step, by_h, by_c, path):
        """The loss if h and c of a step are shifted: c within it, where h is made of it."""
        before = (wide, 0 * wide) if step == 0 else (recorded[0][step - 1], recorded[1][step - 1])
        part = {name: value[step] for name, value in w.items()}
        z = functions[step](before[0]) @ part["kernel"] + before[0] @ part["recurrent_kernel"]
        o = reference.sigmoid((z + part["bias"])[..., 3 * UNITS :])
        c = recorded[1][step] + by_c
        h = o * np.tanh(c) + by_h
        if step == DEPTH - 1:
            return loss(h)
        # Through one path alone, the other state enters the next step as it was.
        start = (recorded[0][step] if path == "memory" else h, c)
        start = (start[0], recorded[1][step]) if path == "hidden" else start
        return loss(run(*start, range(step + 1, DEPTH), recorded, path)[-1][0])

    for state, path in (("h", "total"), ("c", "total"), ("h", "hidden"), ("c", "memory")):
        norms = []
        for step in range(DEPTH):
            gradient = np.zeros(x.shape)
            for entry in np.ndindex(x.shape):
                sides = []
                for sign in (1e-5, -1e-5):
                    shift = np.zeros(x.shape)
                    shift[entry] = sign
                    shifts = (shift, 0) if state == "h" else (0, shift)
                    sides.append(after(step, *shifts, path))
                gradient[entry] = (sides[0] - sides[1]) / 2e-5
            norms.append(np.linalg.norm(gradient))
        np.testing.assert_allclose(curve(frame, state, path), norms, rtol=1e-4)
    assert set(frame.direction) == {"depth"} and len(frame) == 4 * DEPTH


def test_the_curves_of_an_unfolded_lstm():
    """The same three curves, where the two layers are the same; here in a loop, too."""
    x, y = inputs(ROWS, UNITS), inputs(ROWS, 2, seed=4)
    block = UnfoldedLSTMBlock(UNITS, 12, tied=True, input_mode="state", name="block")
    models = [regression(block)]
    for unroll in (True, False):
        layer = DepthLSTM(
            keras.layers.Identity(), 12, tied=True, normalization=None, unroll=unroll, name="depth"
        )
        models.append(regression(layer))
        layer.kernel.assign(np.zeros((UNITS, 4 * UNITS)))
        layer.recurrent_kernel.assign(block.recurrent_kernel)
        layer.bias.assign(block.bias)
        models[-1].layers[-1].set_weights(models[0].layers[-1].get_weights())
    zeros = np.zeros((UNITS, UNITS)), np.zeros(UNITS)
    block.set_weights([np.eye(UNITS), zeros[0], zeros[1], zeros[1], *block.get_weights()[4:]])
    expected, *found = (state_gradients(model, x, y) for model in models)
    for frame in found:
        np.testing.assert_allclose(frame.value, expected.value, rtol=1e-4)
        assert frame[["state", "path", "depth"]].equals(expected[["state", "path", "depth"]])


def test_signals_of_each_step_and_none_of_the_layers_inside():
    x = inputs()
    layer = DepthLSTM([dense(), UnfoldedLSTMBlock(UNITS, 4)], normalization=None, name="depth")
    model = keras.Sequential([keras.Input(x.shape[1:]), layer])
    frame = SignalProbe(model, x).measure()
    assert set(frame.layer) == {"depth"} and set(frame.depth.dropna()) == {1, 2}
    assert set(frame[frame.direction == "depth"].signal) == {"h", "c", *signals.GATES}
    nested = [lambda h, each=each: numpy_of(each(h.astype("float32"))) for each in layer.layers]
    states = reference.depth_lstm(x, nested, own_weights(layer))
    for signal, expected in zip("hc", states, strict=True):
        rows = frame[(frame.signal == signal) & (frame.statistic == "norm")].sort_values("depth")
        norms = np.linalg.norm(expected, axis=-1).mean(axis=(1, 2))
        np.testing.assert_allclose(rows.value, norms, rtol=1e-4)


def test_gradient_flow_and_summary_show_the_steps():
    layer = DepthLSTM([dense() for _ in range(DEPTH)], name="depth")
    model = regression(layer)
    flow = GradientFlow()
    x = inputs(4, UNITS)
    model.fit(x, np.zeros((4, 2)), verbose=0, callbacks=[flow])
    frame = flow.to_frame()
    for weight in ("kernel", "recurrent_kernel", "bias", "norm_scale"):
        found = frame[(frame.layer == "depth") & (frame.weight == weight)]
        assert found.depth.tolist() == [1, 2, 3] and (found.value > 0).all()
    inside = frame[frame.layer.str.startswith("depth/")]
    assert inside.layer.nunique() == DEPTH and inside.depth.isna().all()
    assert "gradient" in flow.verdict()
    lines = []
    model.summary(print_fn=lines.append, expand_nested=True, line_length=120)
    text = "\n".join(map(str, lines))
    own = UNITS * 4 * UNITS * 2 + 4 * UNITS + 2 * UNITS
    count = DEPTH * (own + UNITS * UNITS + UNITS) + 2 * UNITS + 2
    assert f"{count:,}" in text and layer.layers[0].name in text


# Wrong arguments.

LAYERS = [keras.layers.Dense(UNITS, name=f"wrong_{i}") for i in range(3)]
WRONG = [
    (dict(layers=LAYERS[0]), "One layer for all steps needs `tied=True`"),
    (dict(layers=LAYERS[0], tied=True), "`depth` must be given with"),
    (dict(layers=dense), "`depth` must be given with a function"),
    (dict(layers=LAYERS, depth=2), "Received: depth=2, with 3 layers"),
    (dict(layers=LAYERS, depth=3, tied=True), "With `tied=True` all steps use one layer."),
    (dict(layers=[]), "Argument `layers` must be a list of Keras layers"),
    (dict(layers="dense"), "or, with `tied=True` and `depth`, one layer. Received: layers='dense'"),
    (dict(layers=keras.layers.Dense, depth=2), "Argument `layers` must be a list of Keras layers"),
    (dict(layers=[LAYERS[0], 3]), "Received: layers[1]=3 (of type <class 'int'>)"),
    (dict(layers=lambda step: None, depth=2), "Received: layers[0]=None (of type"),
    (dict(layers=[LAYERS[0]] * 2), "for one that all steps share pass it with `tied=True`"),
    (dict(layers=LAYERS, depth=0), "Argument `depth` must be a positive integer. Received: dep"),
    (dict(layers=LAYERS[0], depth=10**9, tied=True), "Argument `depth` must be at most 10000."),
    (dict(layers=LAYERS, tied=1), "Argument `tied` must be True or False. Received: tied=1"),
    (dict(layers=LAYERS, unroll=False), "`unroll=False` needs `tied=True`"),
    (dict(layers=LAYERS, normalization="batch"), "one of [None, 'layer', 'rms']"),
    (dict(layers=LAYERS, memory_normalization="l"), "`memory_normalization` must be one of"),
    (dict(layers=LAYERS, memory="zero"), "Received: memory='zero'. Did you mean 'zeros'?"),
    (dict(layers=LAYERS, output="c"), "`output` must be one of ['hidden', 'both']"),
    (dict(layers=LAYERS, return_state="h"), "Argument `return_state` must be True or False."),
    (dict(layers=LAYERS, dropout=1.0), "Argument `dropout` must be a float in the range [0, 1)."),
    (dict(layers=LAYERS, forget_bias="deep"), "must be a number, 'depth' or None."),
    (dict(layers=LAYERS, input_gate_bias=np.inf), "Argument `input_gate_bias` must be a finite"),
    (dict(layers=LAYERS, activation="tahn"), "Did you mean 'tanh'?"),
    (dict(layers=LAYERS, seed=-1), "Argument `seed` must be an integer in [0, 4294967295]."),
    (dict(layers=LAYERS, unit=3), "Unrecognized keyword arguments passed to DepthLSTM"),
]  # fmt: skip


@pytest.mark.parametrize("options, message", WRONG, ids=[wrong[-1] for wrong in WRONG])
def test_wrong_arguments_are_refused_by_the_constructor(options, message):
    with pytest.raises(ValueError) as error:
        DepthLSTM(**options)
    assert message in str(error.value), str(error.value)


class Crossed(keras.layers.Layer):
    def call(self, x, context):
        return x + context


def test_a_layer_that_needs_more_is_refused():
    with pytest.raises(ValueError) as error:
        DepthLSTM([Crossed(name="crossed")])
    assert "Layer 'crossed' must be callable with one input" in str(error.value)
    assert "whose `call` needs ['context'] as well" in str(error.value)


@pytest.mark.parametrize(
    "layer, shape",
    [
        (keras.layers.Dense(5, name="narrow"), "which makes (None, 4, 5) of (None, 4, 6)"),
        (keras.layers.Flatten(name="narrow"), "which makes (None, 24) of (None, 4, 6)"),
        (
            keras.layers.LSTM(6, return_state=True, return_sequences=True, name="narrow"),
            "which makes ((None, 4, 6), (None, 6), (None, 6)) of (None, 4, 6)",
        ),
    ],
    ids=["units", "rank", "several"],
)
def test_a_layer_that_does_not_preserve_the_shape(layer, shape):
    block = DepthLSTM([dense(), layer])
    with pytest.raises(ValueError) as error:
        block.build((None, 4, UNITS))
    assert f"layer 2 of 2, 'narrow' (of type {type(layer).__name__})" in str(error.value)
    assert shape in str(error.value)


def test_wrong_inputs_and_masks():
    layer = DepthLSTM(dense, 2)
    with pytest.raises(ValueError, match="last dimension of the inputs to `DepthLSTM`"):
        layer.build((None, None))
    layer(inputs())
    with pytest.raises(ValueError, match="expected axis -1"):
        layer(inputs(2, 5))
    with pytest.raises(ValueError, match=r"`mask` must have shape \(batch, ...\)=\(2, 5\)"):
        layer(inputs(), mask=np.ones((2, 4), bool))
