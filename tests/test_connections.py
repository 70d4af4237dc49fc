"""Residual and Highway: their formulas, and that they are called as DepthLSTM is."""

import json

import keras
import numpy as np
import pytest
import reference
from layer_stacks import DEPTH, ROWS, TIME, UNITS, dense, inputs, numpy_of, randomized

from keras_deeplstm.callbacks import GradientFlow
from keras_deeplstm.diagnostics import float64, gradient_check, state_gradients
from keras_deeplstm.layers import DepthLSTM, Highway, HighwayBlock, Residual, ResidualBlock

pytestmark = pytest.mark.backends

KINDS = ("pre", "post", "rezero", "scaled")
CONNECTIONS = {"lstm": DepthLSTM, "highway": Highway}
CONNECTIONS |= {
    kind: lambda layers, kind=kind, **options: Residual(layers, kind=kind, **options)
    for kind in KINDS
}
SKIPS = ("highway", *KINDS)


def own_weights(layer):
    """The weights of the connection, by name; stacked if they are tied."""
    values = {name: numpy_of(getattr(layer, name)) for name in layer.weight_shapes(UNITS)}
    tied = {k: np.stack([v] * layer.depth) for k, v in values.items() if "output" not in k}
    return values | tied if layer.tied else values


def numpy_layers(layer):
    def function(nested):
        kernel, bias = map(numpy_of, nested.weights)
        return lambda x: np.tanh(x @ kernel + bias)

    return [function(each) for each in layer.layers] * (layer.depth if layer.tied else 1)


@pytest.mark.parametrize("dtype, tolerance", [("float32", 1e-5), ("float64", 1e-12)])
@pytest.mark.parametrize("kind", SKIPS)
@pytest.mark.parametrize("tied", [False, True])
def test_equals_numpy_reference(kind, tied, dtype, tolerance):
    with float64():
        layer = CONNECTIONS[kind](
            lambda step: keras.layers.Dense(UNITS, "tanh", dtype=dtype),
            depth=DEPTH,
            tied=tied,
            dtype=dtype,
        )
        x = inputs(dtype=dtype)
        randomized(layer, x.shape)
        expected = reference.connected(kind, x, numpy_layers(layer), own_weights(layer))
        np.testing.assert_allclose(numpy_of(layer(x)), expected, atol=tolerance)


@pytest.mark.parametrize(
    "kind",
    [k if k in ("scaled", "highway") else pytest.param(k, marks=pytest.mark.long) for k in SKIPS],
)
def test_gradients_equal_finite_differences(kind):
    layer = CONNECTIONS[kind](dense, depth=DEPTH)
    table = gradient_check(randomized(layer, (ROWS, UNITS)), inputs(ROWS, UNITS), entries=4)
    assert (table.relative_error < 1e-6).all(), table
    assert len(table) == len(layer.trainable_weights) + 1


def test_weights_at_first():
    """The identity, or close to it, where the source starts there."""
    x = inputs()
    rezero = Residual(dense, depth=DEPTH, kind="rezero")
    np.testing.assert_array_equal(numpy_of(rezero(x)), x)
    assert rezero.weight_shapes(UNITS) == {"residual_weight": (DEPTH, 1)}
    highway = Highway(dense, depth=DEPTH, transform_bias=-20.0)
    np.testing.assert_allclose(numpy_of(highway(x)), x, atol=1e-6)
    np.testing.assert_array_equal(numpy_of(highway.bias), np.full((DEPTH, UNITS), -20.0))
    pre = Residual([keras.layers.Dense(UNITS, kernel_initializer="zeros")])
    norm = keras.layers.LayerNormalization()
    np.testing.assert_allclose(numpy_of(pre(x)), numpy_of(norm(x)), atol=1e-6)
    assert list(pre.weight_shapes(UNITS)) == [
        *("norm_scale", "norm_offset", "output_norm_scale", "output_norm_offset")
    ]


def test_the_residual_block_of_the_same_weights():
    """`ResidualBlock` is `Residual` of pairs of Dense layers, behind a projection."""
    block = ResidualBlock(UNITS, DEPTH + 1)
    randomized(block, (None, UNITS))
    x = inputs(ROWS, UNITS)
    pairs = [keras.Sequential([dense(), keras.layers.Dense(UNITS)]) for _ in range(DEPTH)]
    layer = Residual(pairs)
    layer.build(x.shape)
    for name in layer.weight_shapes(UNITS):
        getattr(layer, name).assign(getattr(block, name))
    w = {weight.name: numpy_of(weight) for weight in block.weights}
    for step, pair in enumerate(pairs):
        names = ("recurrent_kernel", "bias", "output_kernel", "output_bias")
        pair.set_weights([w[name][step] for name in names])
    projected = x @ w["kernel"] + w["input_bias"]
    np.testing.assert_allclose(numpy_of(layer(projected)), numpy_of(block(x)), atol=1e-5)


def test_the_highway_block_of_the_same_weights():
    block = HighwayBlock(UNITS, DEPTH + 1)
    randomized(block, (None, UNITS))
    x = inputs(ROWS, UNITS)
    layer = Highway([dense() for _ in range(DEPTH)], normalization=None)
    layer.build(x.shape)
    w = {weight.name: numpy_of(weight) for weight in block.weights}
    kernels, biases = (np.split(w[name], 2, axis=-1) for name in ("recurrent_kernel", "bias"))
    layer.recurrent_kernel.assign(kernels[1])
    layer.bias.assign(biases[1])
    for step, nested in enumerate(layer.layers):
        nested.set_weights([kernels[0][step], biases[0][step]])
    first = np.tanh(x @ w["kernel"] + w["input_bias"])
    np.testing.assert_allclose(numpy_of(layer(first)), numpy_of(block(x)), atol=1e-5)


def test_normalization():
    """ "auto" is that of the source; where another is given, it is that one."""
    assert [Residual(dense, depth=2, kind=kind).normalization for kind in KINDS] == [
        *("layer", "layer", None, "layer")
    ]
    x = inputs(ROWS, UNITS)
    identity = [keras.layers.Identity()]
    plain = Residual(identity, normalization=None)
    np.testing.assert_array_equal(numpy_of(plain(x)), 2 * x)
    rezero = Residual(identity, kind="rezero", normalization="rms")
    rezero.build(x.shape)
    rezero.residual_weight.assign([[1.0]])
    expected = x + reference.rms_norm(x, 1.0)
    np.testing.assert_allclose(numpy_of(rezero(x)), expected, atol=1e-5)


@pytest.mark.parametrize("unroll", [True, False])
def test_dropout_hits_what_is_added(unroll):
    """x is kept; what the layer returns, x again, is doubled or dropped, anew in each step."""
    layer = Residual(
        keras.layers.Identity(),
        depth=9,
        tied=True,
        normalization=None,
        dropout=0.5,
        unroll=unroll,
        seed=1,
    )
    x = np.ones((50, UNITS), "float32")
    y = numpy_of(layer(x, training=True))
    powers = np.log(y) / np.log(3)  # each step multiplies with 1 or 3
    np.testing.assert_allclose(powers, powers.round(), atol=1e-4)
    assert 4 < powers.mean() < 5 and powers.std() > 1
    np.testing.assert_array_equal(numpy_of(layer(x)), 2.0**9 * x)


# One calling form.


LONG = ("pre", "post", "scaled", "highway", "lstm")  # one line of each table stays in `make test`


@pytest.mark.parametrize(
    "kind",
    [pytest.param(k, marks=pytest.mark.long) if k in LONG else k for k in CONNECTIONS],
)
def test_a_study_changes_one_word(kind, tmp_path):
    """A causal model of each: it trains, does not see what comes, and survives a file."""
    tokens = keras.Input((None,), dtype="int32")
    block = CONNECTIONS[kind](
        lambda step: keras.layers.MultiHeadAttention(2, 3),
        depth=2,
        tied=False,
        normalization="layer",
        dropout=0.1,
        seed=1,
        name="block",
    )
    x = keras.layers.Embedding(7, UNITS)(tokens)
    x = block(x, use_causal_mask=True)
    model = keras.Model(tokens, keras.layers.Dense(7)(x))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-2), loss)
    ids = np.random.default_rng(0).integers(0, 7, size=(8, TIME + 1)).astype("int32")
    flow = GradientFlow()
    settings = {"epochs": 8, "verbose": 0, "callbacks": [flow]}
    losses = model.fit(ids[:, :-1], ids[:, 1:], **settings).history["loss"]
    assert losses[-1] < losses[0]
    stacked = flow.to_frame().query("layer == 'block'")
    assert set(stacked[~stacked.weight.str.startswith("output")].depth) == {1, 2}
    found = model.predict_on_batch(ids)
    later = ids.copy()
    later[:, 3:] = 0
    np.testing.assert_allclose(model.predict_on_batch(later)[:, :3], found[:, :3], atol=1e-5)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict_on_batch(ids), found)
    again = loaded.get_layer("block")
    assert json.dumps(again.get_config()) == json.dumps(block.get_config())


@pytest.mark.parametrize("kind", SKIPS)
def test_gradients_of_the_states_by_step(kind):
    """Without a memory there is one path: of h alone, against finite differences at each step."""
    layer = CONNECTIONS[kind](dense, depth=DEPTH)
    model = keras.Sequential([keras.Input((UNITS,)), layer, keras.layers.Dense(2)])
    model.compile("sgd", "mse")
    randomized(layer, (None, UNITS))
    x, y = inputs(ROWS, UNITS), inputs(ROWS, 2, seed=4)
    frame = state_gradients(model, x, y)
    assert set(frame.state) == {"h"} and set(frame.path) == {"total"}
    assert frame.depth.tolist() == [1, 2, 3]
    functions, w = numpy_layers(layer), own_weights(layer)
    w = {name: value.astype("float64") for name, value in w.items()}
    readout, bias = (each.astype("float64") for each in model.layers[-1].get_weights())
    shrunk = kind == "scaled"  # by the number of the step, counted from the first

    def loss(h, step):
        rest = {k: v if "output" in k else v[step:] for k, v in w.items()}
        if shrunk:
            # The reference starts to count again: what it divides by is put into the scale.
            ratio = np.sqrt(np.arange(1, DEPTH - step + 1) / np.arange(step + 1, DEPTH + 1))
            rest["norm_scale"] = rest["norm_scale"] * ratio[:, None]
            rest["norm_offset"] = rest["norm_offset"] * ratio[:, None]
        h = reference.connected(kind, h, functions[step:], rest)
        return np.mean((h @ readout + bias - y) ** 2)

    h, norms = x.astype("float64"), []
    plain = {k: v for k, v in w.items() if "output" not in k}
    for step in range(1, DEPTH + 1):
        h = reference.connected(kind, x, functions[:step], {k: v[:step] for k, v in plain.items()})
        gradient = np.zeros(h.shape)
        for entry in np.ndindex(h.shape):
            shift = np.zeros(h.shape)
            shift[entry] = 1e-5
            gradient[entry] = (loss(h + shift, step) - loss(h - shift, step)) / 2e-5
        norms.append(np.linalg.norm(gradient))
    np.testing.assert_allclose(frame.value, norms, rtol=1e-3)


WRONG = [
    (Residual, {"kind": "prenorm"}, "Received: kind='prenorm'"),
    (Residual, {"normalization": "batch"}, "one of ['auto', None, 'layer', 'rms']"),
    (Residual, {"dropout": 1}, "Argument `dropout` must be a float in the range [0, 1)."),
    (Residual, {"depth": None}, "`depth` must be given with a function that makes layers"),
    (Highway, {"transform_bias": np.nan}, "Argument `transform_bias` must be a finite number"),
    (Highway, {"recurrent_initializer": "glorot"}, "Did you mean 'glorot_normal'?"),
    (Highway, {"normalization": "auto"}, "Argument `normalization` must be one of"),
    (Highway, {"memory": "zeros"}, "Unrecognized keyword arguments passed to Highway"),
]


@pytest.mark.parametrize("layer, options, message", WRONG, ids=[wrong[-1] for wrong in WRONG])
def test_wrong_arguments_are_refused_by_the_constructor(layer, options, message):
    with pytest.raises(ValueError) as error:
        layer(**{"layers": dense, "depth": 2, **options})
    assert message in str(error.value), str(error.value)
