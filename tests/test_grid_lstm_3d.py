"""GridLSTM3D against a reference that walks cell by cell, and what is its own."""

import math
import random

import image_grid_reference
import keras
import numpy as np
import pytest
from keras import ops

from keras_deeplstm import diagnostics
from keras_deeplstm.diagnostics import float64, gradient_check
from keras_deeplstm.diagnostics.autodiff import compiled
from keras_deeplstm.layers import GridLSTM3D, grid_lstm_3d
from keras_deeplstm.layers.image_grid import (
    CORNERS,
    apart,
    images_in_a_row,
    side_by_side,
    skewed,
    unskewed,
)

pytestmark = pytest.mark.backends

BACKEND = keras.backend.backend()
BATCH, HEIGHT, WIDTH, CHANNELS, UNITS, DEPTH = 4, 4, 6, 3, 4, 3
ALL = tuple(CORNERS)

# Images of different size, one with holes, one of which nothing is seen.
MASK = np.zeros((BATCH, HEIGHT, WIDTH), bool)
MASK[0] = True
MASK[1, :2, :4] = True
MASK[2] = np.random.default_rng(0).random((HEIGHT, WIDTH)) < 0.5


@pytest.fixture
def in_float64():
    with float64():
        yield


def images(*shape, dtype="float32"):
    shape = shape or (BATCH, HEIGHT, WIDTH, CHANNELS)
    return np.random.default_rng(1).normal(size=shape).astype(dtype)


def numpy_of(tensor):
    return np.array(ops.convert_to_numpy(tensor))


def grid(units=UNITS, depth=DEPTH, **options):
    """A layer in which no bias is the same as another."""
    biases = {"forget_bias": None, "depth_forget_bias": None, "bias_initializer": "random_normal"}
    return GridLSTM3D(units, depth, **{"seed": 0, **biases, **options})


def expected_of(layer, x, mask=None):
    """The output of the reference."""
    weights = {weight.name: numpy_of(weight).astype("float64") for weight in layer.weights}
    names = ("units", "depth", "tied", "priority", "project_inputs", "patches")
    options = {name: getattr(layer, name) for name in (*names, "directions", "combine")}
    h, c, lasts = image_grid_reference.image_grid(x, weights, mask=mask, **options)
    output = np.concatenate([h, c], axis=-1) if layer.read_out == "both" else h
    if not layer.return_sequences:
        last = np.zeros((*output.shape[:2], output.shape[-1]))
        for (network, row), place in zip(np.ndindex(output.shape[:2]), lasts, strict=True):
            if place is not None:
                last[network, row] = output[(network, row, *place)]
        output = last
    return output.sum(axis=0) if layer.combine == "sum" else np.concatenate(list(output), axis=-1)


OPTIONS = {
    "tied": [False, "depth", True],
    "priority": ["depth", None],
    "project_inputs": ["hidden", "both", None],
    "output": ["hidden", "both"],
    "patches": [(1, 1), (2, 1), (2, 3)],
    "directions": [*((corner,) for corner in ALL), ("top_right", "bottom_left"), ALL],
    "combine": ["concat", "sum", "turns"],
    "return_sequences": [False, True],
    "use_bias": [True, False],
}
FAST = [
    {"return_sequences": True},
    {"priority": None, "project_inputs": "both", "output": "both", "directions": ("bottom_left",)},
    {"tied": True, "patches": (2, 3), "directions": ALL},
    {"tied": "depth", "directions": ALL, "combine": "turns", "return_sequences": True},
    {"directions": ("top_right", "bottom_right"), "combine": "sum", "use_bias": False},
]
DRAW = random.Random(0)
LONG = [{name: DRAW.choice(values) for name, values in OPTIONS.items()} for _ in range(60)]


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    "options", [*FAST, *(pytest.param(o, marks=pytest.mark.long) for o in LONG)], ids=str
)
def test_equals_a_walk_from_cell_to_cell(options, masked):
    layer = grid(**options)
    high, wide = layer.patches
    channels = CHANNELS
    if layer.project_inputs is None:
        layer = grid(units := 6, **options)
        channels = units // (high * wide)
    x = images(BATCH, HEIGHT, WIDTH, channels)
    mask = MASK[:, : HEIGHT // high, : WIDTH // wide] if masked else None
    output = layer(x, mask=mask)
    np.testing.assert_allclose(numpy_of(output), expected_of(layer, x, mask), atol=1e-5)
    assert tuple(output.shape) == layer.compute_output_shape(x.shape)


@pytest.mark.parametrize(
    "options",
    [
        FAST[2],
        *(
            pytest.param(options, marks=pytest.mark.long)
            for options in (*FAST[:2], *FAST[3:], {"unroll": True, "project_inputs": None})
        ),
    ],
    ids=str,
)
def test_gradients_equal_finite_differences(options):
    options = {**options, "patches": (1, 1)}
    layer = grid(3, 2, **options)
    table = gradient_check(layer, images(2, 3, 4, 3), entries=3)
    names = [path.rpartition("/")[2] for path in table.weight]
    assert names == [*layer.weight_shapes(3), "input"]
    assert (table.relative_error < 1e-5).all(), table


@pytest.mark.long
@pytest.mark.parametrize("mask", [None, MASK], ids=["plain", "masked"])
def test_gradients_of_the_loop_and_written_out_agree(mask, in_float64):
    """Nine diagonals are a loop, the reference of whose gradient is the graph without one."""
    x = images(BATCH, 4, 6, CHANNELS, dtype="float64")
    options = {"directions": ALL, "combine": "turns", "output": "both", "dtype": "float64"}
    layers = [grid(depth=2, unroll=unroll, **options) for unroll in (False, True)]
    for layer in layers:
        layer.build(x.shape)
    layers[1].set_weights(layers[0].get_weights())
    gradients = [gradient_of(layer, x, mask) for layer in layers]
    np.testing.assert_allclose(gradients[0], gradients[1], atol=1e-12)
    if mask is not None:
        assert not gradients[0][~mask].any()
        assert gradients[0][:2][mask[:2]].all()  # of the third image one cell stands alone


def gradient_of(layer, x, mask):
    def loss(x):
        return ops.sum(ops.square(layer(x, mask=mask)))

    return compiled(loss, layer.trainable_variables, gradients="all")(x)[2][0]


def test_one_row_without_cross_kernels_is_keras_lstm():
    """The states of columns are those of Keras' LSTM, the output the depth gates applied to them.

    With a depth LSTM whose gates i and o are open (0.5 of each, no weights), tanh of the candidate
    alone is left: h_D = 0.5 tanh(0.5 tanh(W'' h_C)).
    """
    x = images(BATCH, 1, WIDTH, UNITS)
    layer = grid(depth=1, project_inputs=None, return_sequences=True)
    layer.build(x.shape)
    lstm = keras.layers.LSTM(UNITS, return_sequences=True)
    lstm.build(x[:, 0].shape)
    names = ("column_kernel", "column_recurrent_kernel", "column_bias")
    lstm.set_weights([numpy_of(getattr(layer, name))[0] for name in names])
    for name in ("row_cross_kernel", "column_cross_kernel", "depth_recurrent_kernel", "depth_bias"):
        getattr(layer, name).assign(np.zeros(getattr(layer, name).shape))
    kernel = np.zeros((1, 2 * UNITS, 4 * UNITS), "float32")
    kernel[0, UNITS:, 2 * UNITS : 3 * UNITS] = np.eye(UNITS)
    layer.depth_kernel.assign(kernel)
    h_C = numpy_of(lstm(x[:, 0]))
    np.testing.assert_allclose(
        numpy_of(layer(x))[:, 0], 0.5 * np.tanh(0.5 * np.tanh(h_C)), atol=1e-6
    )


def test_the_column_memory_is_that_of_keras_lstm(monkeypatch):
    """c_C of the last cell, where the scan computes it."""
    x = images(BATCH, 1, WIDTH, UNITS)
    lstm = keras.layers.LSTM(UNITS, return_state=True)
    lstm.build(x[:, 0].shape)
    layer = grid(depth=1, project_inputs=None, unroll=True)
    layer.build(x.shape)
    layer.column_cross_kernel.assign(np.zeros((1, UNITS, 4 * UNITS)))
    for weight, name in zip(lstm.weights, ("kernel", "recurrent_kernel", "bias"), strict=True):
        getattr(layer, f"column_{name}").assign(numpy_of(weight)[None])
    states = []

    def gates(*arguments):
        states.append(original(*arguments))
        return states[-1]

    original = grid_lstm_3d.gates
    monkeypatch.setattr(grid_lstm_3d, "gates", gates)
    layer(x)
    assert len(states) == WIDTH
    _, h, c = lstm(x[:, 0])
    for found, expected in zip(states[-1], (h, c), strict=True):
        found = numpy_of(found)[0, 0, :, UNITS:]  # (networks, rows, batch, 2 * units)
        np.testing.assert_allclose(found, numpy_of(expected), atol=1e-6)


def test_images_side_by_side():
    x = np.arange(2 * 3 * 5 * 6, dtype="float32").reshape(1, 2, 3, 5 * 6, 1)
    row = numpy_of(side_by_side(ops.convert_to_tensor(x), 5))
    np.testing.assert_array_equal(row[:, :, 3:6], x[:, :, :, 6:12])  # the second six images
    np.testing.assert_array_equal(numpy_of(apart(ops.convert_to_tensor(row), 5)), x)
    sizes = [(14, 8), (14, 7), (14, 64), (14, 66), (1, 64), (1, 224), (7, 0)]
    assert [images_in_a_row(*size) for size in sizes] == [2, 1, 4, 2, 1, 4, 1]


@pytest.mark.parametrize(
    ("options", "masked"),
    [
        ({"directions": ALL, "combine": "turns", "output": "both", "dropout": 0.5}, True),
        pytest.param({"directions": ALL, "priority": None}, False, marks=pytest.mark.long),
        pytest.param({"return_sequences": True}, True, marks=pytest.mark.long),
    ],
)
def test_images_do_not_see_those_beside_them(options, masked):
    """Of a batch that has four images in each row, against one image after the other."""
    layer, x = grid(depth=2, **options), images(32, 7, 3, CHANNELS)
    assert images_in_a_row(7, 32) == 4
    mask = np.random.default_rng(5).random((32, 7, 3)) < 0.7 if masked else None
    together = numpy_of(layer(x, mask=mask))
    for i in range(0, 32, 5):
        alone = layer(x[i : i + 1], mask=mask[i : i + 1] if masked else None)
        np.testing.assert_allclose(together[i : i + 1], numpy_of(alone), atol=1e-6)
    np.testing.assert_allclose(
        gradient_of(layer, x, mask)[:3],
        gradient_of(layer, x[:3], None if mask is None else mask[:3]),
        atol=1e-5,
    )


@pytest.mark.skipif(BACKEND != "tensorflow", reason="the others know the size of a batch")
@pytest.mark.parametrize("jit_compile", [pytest.param(False, marks=pytest.mark.long), True])
def test_a_batch_of_unknown_size_has_images_side_by_side(jit_compile):
    import tensorflow as tf

    layer = grid(depth=1, directions=ALL)
    unknown = [tf.TensorSpec((None, 7, 3, CHANNELS))]
    call = tf.function(layer, jit_compile=jit_compile, input_signature=unknown)
    for batch in (32, 16, 3):
        x = images(batch, 7, 3, CHANNELS)
        np.testing.assert_allclose(call(x).numpy(), numpy_of(layer(x)), atol=1e-6)


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (1, 5), (5, 1), (3, 4), (4, 3)])
def test_diagonals(rows, columns):
    x = np.arange(2 * rows * columns * 3, dtype="float32").reshape(2, rows, columns, 1, 3) + 1
    diagonals = numpy_of(skewed(ops.convert_to_tensor(x)))
    assert diagonals.shape == (2, rows + columns - 1, rows, 1, 3)
    for d, i in np.ndindex(rows + columns - 1, rows):
        expected = x[:, i, d - i] if 0 <= d - i < columns else np.zeros((2, 1, 3))
        np.testing.assert_array_equal(diagonals[:, d, i], expected)
    np.testing.assert_array_equal(numpy_of(unskewed(ops.convert_to_tensor(diagonals))), x)


@pytest.mark.skipif(BACKEND == "torch", reason="a loop in Python there")
def test_the_program_does_not_grow_with_the_size():
    def size(rows, columns):
        layer, x = grid(directions=ALL, combine="turns"), images(2, rows, columns, CHANNELS)
        layer.build(x.shape)
        if BACKEND == "jax":
            import jax

            return len(str(jax.make_jaxpr(layer)(x)).splitlines())
        import tensorflow as tf

        graph = tf.function(layer).get_concrete_function(tf.TensorSpec(x.shape)).graph
        graph = graph.as_graph_def()
        return len(graph.node) + sum(len(function.node_def) for function in graph.library.function)

    # Sizes with as many digits: JAX breaks its lines where they become long.
    assert size(40, 50) == size(60, 70)


# Masks.


@pytest.mark.parametrize("directions", [(corner,) for corner in ALL], ids=str)
def test_padding_does_not_matter(directions):
    """An image of 2 x 4 gives the same in a batch with larger ones, whatever stands beside it."""
    layer = grid(directions=directions, return_sequences=True)
    last = grid(directions=directions)
    alone = images(1, 2, 4, CHANNELS)
    padded = np.full((1, HEIGHT, WIDTH, CHANNELS), np.nan, "float32")
    padded[:, :2, :4] = alone
    mask = ~np.isnan(padded[..., 0])
    padded[~mask] = 1e3
    output = numpy_of(layer(padded, mask=mask))
    np.testing.assert_allclose(output[:, :2, :4], numpy_of(layer(alone)), atol=1e-6)
    assert not output[~mask].any()
    last.build(alone.shape)
    last.set_weights(layer.get_weights())
    np.testing.assert_allclose(numpy_of(last(padded, mask=mask)), numpy_of(last(alone)), atol=1e-6)


def test_masks_travel_on():
    x, mask = images(), ops.convert_to_tensor(MASK)
    assert grid(return_sequences=True).compute_mask(x, mask) is mask
    assert grid().compute_mask(x, mask) is None


# Weights.


def test_weights_of_networks_side_by_side():
    layer = grid(directions=ALL, tied="depth", project_inputs="both")
    layer.build((None, None, None, CHANNELS))
    shapes = {weight.name: tuple(weight.shape) for weight in layer.weights}
    assert shapes == layer.weight_shapes(CHANNELS)
    assert shapes["hidden_kernel"] == (4, CHANNELS, UNITS)
    assert shapes["row_cross_kernel"] == (DEPTH, 4, UNITS, 4 * UNITS)
    assert shapes["depth_kernel"] == (4, 2 * UNITS, 4 * UNITS)
    assert layer.row_kernel.depth_steps == range(1, DEPTH + 1)
    assert layer.depth_kernel.depth_steps is None
    for block in np.split(numpy_of(layer.column_recurrent_kernel), 4, axis=-1):
        for one in block.reshape(-1, UNITS, UNITS):
            np.testing.assert_allclose(one @ one.T, np.eye(UNITS), atol=1e-5)
    kernels = numpy_of(layer.row_kernel).reshape(DEPTH * 4, -1)
    assert len(np.unique(kernels.round(6), axis=0)) == DEPTH * 4


def test_parameters_of_the_paper():
    """A core of a tied 3-LSTM has 36 d^2 + 12 d, of which the projections are no part."""
    layer = GridLSTM3D(100, 4, tied=True, project_inputs=None)
    shapes = layer.weight_shapes(100)
    assert sum(map(math.prod, shapes.values())) == 36 * 100**2 + 12 * 100


def test_biases_of_gates():
    layer = GridLSTM3D(UNITS, 5, forget_bias=2.0, input_gate_bias=-2.0)
    layer.build((None, 4, 4, CHANNELS))
    both = np.repeat([-2.0, 2.0, 0.0, 0.0], UNITS)
    for name in ("row_bias", "column_bias"):
        np.testing.assert_array_equal(numpy_of(getattr(layer, name)), np.tile(both, (5, 1)))
    depth = np.repeat([0.0, math.log(5), 0.0, 0.0], UNITS)
    np.testing.assert_allclose(numpy_of(layer.depth_bias), np.tile(depth, (5, 1)), rtol=1e-6)


def test_regularizers_and_constraints_see_one_layer_of_one_network_at_a_time():
    layer = grid(
        directions=("top_left", "bottom_right"),
        kernel_regularizer=keras.regularizers.OrthogonalRegularizer(1.0),
        kernel_constraint=keras.constraints.MaxNorm(0.1, axis=0),
    )
    layer.build((None, 4, 4, CHANNELS))
    kernels = numpy_of(layer.row_kernel).reshape(-1, UNITS, 4 * UNITS)
    assert len(kernels) == 2 * DEPTH
    losses = dict(zip([w.name for w in layer.weights if w.regularizer], layer.losses, strict=True))
    one_by_one = sum(float(numpy_of(layer.kernel_regularizer(k))) for k in kernels)
    assert float(numpy_of(losses["row_kernel"])) == pytest.approx(one_by_one, rel=1e-5)
    constrained = numpy_of(layer.row_kernel.constraint(layer.row_kernel.value))
    expected = [numpy_of(layer.kernel_constraint(k)) for k in kernels]
    np.testing.assert_allclose(constrained.reshape(kernels.shape), expected, atol=1e-6)


# Dropout.


def test_dropout_falls_on_h_between_layers_only():
    x = images()
    one = grid(depth=1, dropout=0.9)
    np.testing.assert_array_equal(numpy_of(one(x, training=True)), numpy_of(one(x)))
    layer = grid(dropout=0.5, return_sequences=True)
    dropped, plain = numpy_of(layer(x, training=True)), numpy_of(layer(x))
    assert not np.allclose(dropped, plain)
    np.testing.assert_array_equal(numpy_of(layer(x, training=False)), plain)


def test_recurrent_dropout_is_one_mask_for_all_positions():
    """Of all h_R and h_C dropped nothing is left of the cells above and to the left."""
    layer = grid(1, 1, recurrent_dropout=0.999, return_sequences=True)
    x = np.tile(images(1, 1, 1, CHANNELS), (8, 3, 3, 1))
    layer.build(x.shape)
    # Without the memory, which is not dropped: forget gates that are shut.
    for name in ("row_bias", "column_bias"):
        getattr(layer, name).assign([[0.0, -50.0, 0.0, 0.0]])
    output = numpy_of(layer(x, training=True))
    np.testing.assert_allclose(output, np.broadcast_to(output[:, :1, :1], output.shape), atol=1e-6)
    assert not np.allclose(numpy_of(layer(x)), output)


# Diagnostics.


def test_gradients_of_states_by_layer(eager):
    """Measured through offsets; those of the last layer's h_D are known."""
    model = keras.Sequential(
        [keras.Input((4, 4, 1)), grid(directions=ALL, combine="sum", patches=(2, 2))]
    )
    model.compile(loss="mse")
    x, y = images(5, 4, 4, 1), np.zeros((5, UNITS), "float32")
    table = diagnostics.state_gradients(model, x, y)
    assert set(table.direction) == {"depth"} and table.time.isna().all()
    assert table.groupby(["state", "path"]).size().to_dict() == {
        **{("h", path): DEPTH for path in ("total", "hidden")},
        **{("c", path): DEPTH for path in ("total", "memory")},
    }
    table = table.set_index(["state", "path", "depth"]).value
    output = model.predict_on_batch(x)
    # Four networks, whose outputs are added, have the same gradient, each at its last position.
    expected = 2 * np.linalg.norm(2 * output / output.size)
    assert table["h", "total", DEPTH] == pytest.approx(expected, rel=1e-4)
    assert 0 < table["c", "memory", 1] < table["c", "total", 1] * 2


# Shapes, files, errors.


def test_shapes_that_are_not_known():
    for options in ({}, {"return_sequences": True, "directions": ALL, "output": "both"}):
        layer = grid(patches=(2, 1), **options)
        symbolic = layer(keras.Input((None, None, CHANNELS)))
        expected = layer.compute_output_shape((None, None, None, CHANNELS))
        assert tuple(symbolic.shape) == expected
        assert tuple(layer(images()).shape) == layer.compute_output_shape(images().shape)


def test_config_and_file(tmp_path):
    layer = grid(directions=["top_right", "top_left"], patches=[2, 2], output="both", dropout=0.1)
    assert layer.directions == ("top_right", "top_left") and layer.patches == (2, 2)
    again = GridLSTM3D.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    model = keras.Sequential([keras.Input((HEIGHT, WIDTH, CHANNELS)), layer])
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(
        loaded.predict_on_batch(images()), model.predict_on_batch(images())
    )


def test_half_precision():
    exact = grid(return_sequences=True)
    expected = numpy_of(exact(images(), mask=MASK))
    half = grid(return_sequences=True, dtype="mixed_bfloat16")
    half.build(images().shape)
    half.set_weights(exact.get_weights())
    output = half(images(), mask=MASK)
    assert keras.backend.standardize_dtype(output.dtype) == "bfloat16"
    np.testing.assert_allclose(numpy_of(ops.cast(output, "float32")), expected, atol=5e-2)


WRONG = [
    ({"patches": 2}, "Argument `patches` must be two positive integers, (height, width)."),
    ({"patches": (2, 0)}, "Argument `patches` must be a positive integer. Received: patches=0"),
    ({"directions": "top_left"}, "Argument `directions` must be different corners, of 'top_left'"),
    ({"directions": ("top_left", "top_left")}, "must be different corners"),
    ({"directions": ()}, "must be different corners"),
    ({"directions": ("left",)}, "must be different corners"),
    ({"directions": ([],)}, "must be different corners"),
    ({"combine": "add"}, "Argument `combine` must be one of ['concat', 'sum', 'turns']."),
    ({"priority": "time"}, "Argument `priority` must be one of ['depth', None]."),
    ({"recurrent_dropout": 1}, "Argument `recurrent_dropout` must be a float in the range [0, 1)."),
    ({"forget_bias": "depth"}, "Argument `forget_bias` must be a number or None."),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG, ids=str)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError) as error:
        GridLSTM3D(UNITS, DEPTH, **arguments)
    assert message in str(error.value)


def test_wrong_calls():
    def refused(message, x, **arguments):
        with pytest.raises(ValueError) as error:
            GridLSTM3D(UNITS, 2, patches=(2, 3))(x, **arguments)
        assert message in str(error.value)

    multiples = "Height and width of the images must be multiples of those of `patches`=(2, 3)"
    refused(multiples, images(2, 5, 6, 1))
    refused(multiples, images(2, 0, 6, 1))
    refused("expected ndim=4, found ndim=3", images(2, 4, 6))
    refused("must have shape (batch, rows, columns)=(2, 2, 2)", images(2, 4, 6, 1), mask=MASK[:2])
    with pytest.raises(ValueError, match="a patch must have `units` numbers"):
        GridLSTM3D(UNITS, 2, project_inputs=None)(images())
    with pytest.raises(ValueError, match="Cannot unroll over images of a size"):
        GridLSTM3D(UNITS, 2, unroll=True).call(keras.KerasTensor((2, None, 4, 3)))


@pytest.mark.long
@pytest.mark.skipif(BACKEND == "torch", reason="SavedModel is promised for TensorFlow and JAX")
def test_export_to_saved_model(tmp_path):
    import tensorflow as tf

    model = keras.Sequential(
        [keras.Input((HEIGHT, WIDTH, CHANNELS)), grid(depth=1, directions=ALL, patches=(2, 1))]
    )
    model.export(str(tmp_path), verbose=False)
    exported = tf.saved_model.load(str(tmp_path))
    for x in (images(), images()[:1]):
        np.testing.assert_allclose(exported.serve(x).numpy(), model.predict_on_batch(x), atol=1e-6)
