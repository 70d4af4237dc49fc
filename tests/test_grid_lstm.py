import itertools
import math
import random

import grid_reference
import keras
import numpy as np
import pytest
from keras import ops

from keras_deeplstm.diagnostics import float64, gradient_check
from keras_deeplstm.diagnostics.autodiff import compiled
from keras_deeplstm.initializers import GateBias
from keras_deeplstm.layers import GridLSTM2D, kernels
from keras_deeplstm.layers.probes import Probe, probing

pytestmark = pytest.mark.backends

ROWS, TIME, FEATURES, UNITS, DEPTH = 6, 5, 3, 4, 3
BACKEND = keras.backend.backend()

# One row for each kind of mask: none, right, left, interior, all but one, all.
MASK = np.array(
    [
        [1, 1, 1, 1, 1],
        [1, 1, 1, 0, 0],
        [0, 0, 1, 1, 1],
        [1, 0, 0, 1, 1],
        [0, 0, 1, 0, 0],
        [0, 0, 0, 0, 0],
    ],
    bool,
)


def inputs(*shape, seed=1, dtype="float32"):
    shape = shape or (ROWS, TIME, FEATURES)
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


@pytest.fixture
def in_float64():
    with float64():
        yield


def states(rows=ROWS, units=UNITS, depth=DEPTH, dtype="float32"):
    return list(inputs(2 * depth, rows, units, seed=2, dtype=dtype))


def numpy_of(tensor):
    return np.array(ops.convert_to_numpy(tensor))


def weights_of(layer):
    return {w.name: numpy_of(w) for w in layer.weights}


def grid(units=UNITS, depth=DEPTH, **options):
    """A layer in which no bias is the same as another."""
    options = {"forget_bias": None, "depth_forget_bias": None, **options}
    return GridLSTM2D(units, depth, bias_initializer="random_normal", **options)


def draw_peepholes(layer, shape):
    """Build the layer, and give those that it has, which are 0 at first, other values."""
    layer.build(shape)
    for weight in layer.weights:
        if weight.name.endswith("peephole"):
            weight.assign(inputs(*weight.shape))


def expected_of(layer, x, mask=None, initial_state=None):
    """What the reference says that the layer returns: `(output, states)`."""
    h, c, states = grid_reference.grid_lstm(
        x, weights_of(layer), units=layer.units, depth=layer.depth, tied=layer.tied,
        priority=layer.priority, project_inputs=layer.project_inputs, mask=mask,
        initial_state=initial_state, go_backwards=layer.go_backwards,
    )  # fmt: skip
    output = np.concatenate([h, c], axis=-1) if layer.get_config()["output"] == "both" else h
    return (output if layer.return_sequences else output[:, -1]), states


def pairwise(options):
    """Configs in which each pair of values of two options occurs."""
    draw, configs = random.Random(0), []
    names = list(options)
    missing = {
        frozenset([(a, i), (b, j)])
        for a, b in itertools.combinations(names, 2)
        for i in range(len(options[a]))
        for j in range(len(options[b]))
    }

    def pairs(choice):
        return {frozenset(pair) for pair in itertools.combinations(choice.items(), 2)}

    while missing:
        tries = [{n: draw.randrange(len(options[n])) for n in names} for _ in range(100)]
        best = max(tries, key=lambda choice: len(pairs(choice) & missing))
        missing -= pairs(best)
        configs.append({name: options[name][index] for name, index in best.items()})
    return configs


CONFIGS = pairwise(
    {
        "depth": [1, 3],
        "tied": [False, "depth", True],
        "priority": ["depth", None],
        "project_inputs": ["hidden", "both", None],
        "output": ["hidden", "both"],
        "normalization": [None, "layer"],
        "peepholes": [False, True],
        "use_bias": [True, False],
        "return_sequences": [True, False],
        "go_backwards": [False, True],
        "masked": [False, True],
        "with_state": [False, True],
        "dtype": ["float32", "float64"],
    }
)


# Elsewhere the first of them, in which each value of each option occurs; the others take long.
@pytest.mark.parametrize(
    "config",
    [
        pytest.param(config, marks=[pytest.mark.long] * (BACKEND != "tensorflow" and number > 3))
        for number, config in enumerate(CONFIGS)
    ],
    ids=lambda config: " ".join(map(str, config.values())),
)
def test_forward_equals_numpy_reference(config, in_float64):
    config = dict(config)
    masked, with_state, dtype = (config.pop(k) for k in ("masked", "with_state", "dtype"))
    features = UNITS if config["project_inputs"] is None else FEATURES
    layer = grid(return_state=True, dtype=dtype, **config)
    x = inputs(ROWS, TIME, features, dtype=dtype)
    draw_peepholes(layer, x.shape)
    mask = MASK if masked else None
    state = states(depth=layer.depth, dtype=dtype) if with_state else None
    output, *last = layer(x, initial_state=state, mask=mask)
    expected, expected_last = expected_of(layer, x, mask, state)
    tolerance = {"float32": 1e-5, "float64": 1e-10}[dtype]
    np.testing.assert_allclose(numpy_of(output), expected, atol=tolerance)
    assert len(last) == 2 * layer.depth
    np.testing.assert_allclose([numpy_of(s) for s in last], expected_last, atol=tolerance)


@pytest.mark.parametrize("with_state", [True, False])
@pytest.mark.parametrize("go_backwards", [True, False])
def test_masks(with_state, go_backwards):
    x, state = inputs(), states() if with_state else None
    for return_sequences, return_state in ((False, False), (False, True), (True, False)):
        options = {"return_sequences": return_sequences, "return_state": return_state}
        layer = grid(go_backwards=go_backwards, **options)
        result = layer(x, initial_state=state, mask=MASK)
        output, *last = result if return_state else [result]
        expected, expected_last = expected_of(layer, x, MASK, state)
        np.testing.assert_allclose(numpy_of(output), expected, atol=1e-5)
        for a, b in zip(last, expected_last if return_state else [], strict=True):
            np.testing.assert_allclose(numpy_of(a), b, atol=1e-5)
        assert not numpy_of(output)[-1].any()
    layer = grid(go_backwards=go_backwards, return_sequences=True, return_state=True)
    output, *last = layer(x, initial_state=state, mask=MASK)
    expected, expected_last = expected_of(layer, x, MASK, state)
    np.testing.assert_allclose(numpy_of(output), expected, atol=1e-5)
    np.testing.assert_allclose([numpy_of(s) for s in last], expected_last, atol=1e-5)
    before = np.zeros((2 * DEPTH, UNITS)) if state is None else np.array(state)[:, -1]
    np.testing.assert_array_equal([numpy_of(s)[-1] for s in last], before)
    assert not numpy_of(output)[-1].any()
    # What counts is the sequence without its masked times.
    for row, valid in enumerate(MASK[:-1]):
        own = None if state is None else [s[row : row + 1] for s in state]
        shorter, *shorter_last = layer(x[row : row + 1, valid], initial_state=own)
        kept = numpy_of(output)[row][valid[::-1] if go_backwards else valid]
        np.testing.assert_allclose(kept, numpy_of(shorter)[0], atol=1e-6)
        for a, b in zip(last, shorter_last, strict=True):
            np.testing.assert_allclose(numpy_of(a)[row], numpy_of(b)[0], atol=1e-6)


def test_backwards_the_mask_is_in_the_order_of_the_output(eager):
    """Unlike that of keras.layers.LSTM, whose masked mean here is one of padding alone."""
    layer = grid(go_backwards=True, return_sequences=True)
    steps = keras.Input((TIME, FEATURES))
    output = layer(keras.layers.Masking()(steps))
    model = keras.Model(steps, [output, keras.layers.GlobalAveragePooling1D()(output)])
    x = inputs() * MASK[..., None]
    output, mean = model.predict(x[:5], verbose=0)
    seen = MASK[:5, ::-1, None]
    np.testing.assert_allclose(mean, (output * seen).sum(1) / seen.sum(1), atol=1e-6)
    # Row 1 ends with two masked times, which are read first, when there is no output yet.
    np.testing.assert_allclose(mean[1], output[1, 2:].mean(0), atol=1e-6)
    np.testing.assert_array_equal(numpy_of(layer.compute_mask(x, MASK)), MASK[:, ::-1])


@pytest.mark.parametrize("dtype", ["bool", "int32", "float32"])
def test_a_mask_of_ones_changes_nothing(dtype):
    layer = grid(return_sequences=True, output="both")
    mask = np.ones((ROWS, TIME), dtype)
    masked, plain = layer(inputs(), mask=mask), layer(inputs())
    np.testing.assert_allclose(numpy_of(masked), numpy_of(plain), atol=1e-6)


def test_values_and_gradients_at_masked_times_do_not_matter():
    layer = grid(return_sequences=True)
    x = inputs()
    other = np.where(MASK[..., None], x, 1e3).astype("float32")
    np.testing.assert_array_equal(numpy_of(layer(x, mask=MASK)), numpy_of(layer(other, mask=MASK)))

    def loss(x):
        return ops.sum(ops.square(layer(x, mask=MASK)))

    _, by_weight, (by_input,) = compiled(loss, layer.trainable_variables, gradients="all")(x)
    assert not by_input[~MASK].any()
    assert by_input[MASK].all()
    assert all(np.isfinite(gradient).all() for gradient in by_weight)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("with_state", [False, True])
@pytest.mark.parametrize("go_backwards", [False, True])
def test_depth_one_equals_keras_lstm(masked, with_state, go_backwards):
    layer = grid(depth=1, project_inputs=None, return_state=True, go_backwards=go_backwards)
    lstm = keras.layers.LSTM(UNITS, return_state=True, go_backwards=go_backwards)
    x = inputs(ROWS, TIME, UNITS)
    layer.build(x.shape)
    lstm.build(x.shape)
    weights = weights_of(layer)
    lstm.set_weights(
        [weights[name][0] for name in ("time_kernel", "time_recurrent_kernel", "time_bias")]
    )
    # Keras' own backends disagree about rows that are masked throughout.
    mask = MASK.copy() if masked else None
    if masked:
        mask[-1] = True
    state = states(depth=1) if with_state else None
    _, h, c = layer(x, initial_state=state, mask=mask)
    _, expected_h, expected_c = lstm(x, initial_state=state, mask=mask)
    np.testing.assert_allclose(numpy_of(h), numpy_of(expected_h), atol=1e-6)
    np.testing.assert_allclose(numpy_of(c), numpy_of(expected_c), atol=1e-6)


def test_the_depth_memory_is_carried_upward():
    """With input and output gates shut in the layers 2 and 3, c_D of layer 1 arrives at the top."""
    layer = grid(project_inputs="both", output="both", return_sequences=True)
    first = grid(depth=1, project_inputs="both", output="both", return_sequences=True)
    x = inputs()
    layer.build(x.shape)
    first.build(x.shape)
    bias = numpy_of(layer.depth_bias)
    shut, opened = -100.0, 100.0
    bias[1:, :UNITS], bias[1:, UNITS : 2 * UNITS], bias[1:, 3 * UNITS :] = shut, opened, shut
    layer.depth_bias.assign(bias)
    weights = weights_of(layer)
    for weight in first.weights:
        stacked = weight.depth_steps is not None
        weight.assign(weights[weight.name][:1] if stacked else weights[weight.name])
    h_top, c_top = np.split(numpy_of(layer(x)), 2, axis=-1)
    _, c_first = np.split(numpy_of(first(x)), 2, axis=-1)
    assert np.abs(c_first).mean() > 0.05
    np.testing.assert_allclose(c_top, c_first, atol=1e-6)
    np.testing.assert_allclose(h_top, 0, atol=1e-6)


GRADIENT_CONFIGS = [
    {},
    {"tied": True, "project_inputs": "both", "output": "both", "return_sequences": True},
    {"tied": "depth", "priority": None, "normalization": "layer", "return_sequences": True}
    | {"peepholes": True, "use_bias": False, "output": "both"},
    {"project_inputs": None, "go_backwards": True, "unroll": True, "peepholes": True},
]


@pytest.mark.parametrize(
    "config",
    [
        *GRADIENT_CONFIGS[1:3],
        *(pytest.param(c, marks=pytest.mark.long) for c in GRADIENT_CONFIGS[::3]),
    ],
    ids=str,
)
def test_gradients_equal_finite_differences(config):
    layer = grid(3, 2, **config)
    draw_peepholes(layer, (3, 4, 3))
    table = gradient_check(layer, inputs(3, 4, 3), entries=5)
    names = [path.rpartition("/")[2] for path in table.weight]
    assert names == [*layer.weight_shapes(3), "input"]
    assert (table.relative_error < 1e-5).all(), table


def test_gradients_with_mask_and_state_equal_finite_differences(in_float64):
    layer = grid(3, 2, return_sequences=True, dtype="float64")
    x, state = inputs(6, 5, 3, dtype="float64"), states(6, 3, 2, dtype="float64")
    layer.build(x.shape)

    def loss(x, *state):
        return ops.sum(ops.square(layer(x, initial_state=list(state), mask=MASK)))

    check_along_random_directions(loss, layer.trainable_variables, [x, *state])


def check_along_random_directions(loss, variables, tensors):
    """Compare the gradients of `loss` with central differences; return value and gradients."""
    run, draw = compiled(loss, variables, gradients="all"), np.random.default_rng(0)
    value, by_variable, by_tensor = run(*tensors)
    for variable, gradient in zip(variables, by_variable, strict=True):
        start, direction, sides = numpy_of(variable), draw.normal(size=gradient.shape), []
        for step in (1e-5, -1e-5):
            variable.assign(start + step * direction)
            sides.append(run(*tensors)[0])
        variable.assign(start)
        slope = (sides[0] - sides[1]) / 2e-5
        assert slope == pytest.approx(np.sum(gradient * direction), rel=1e-6), variable.path
    for i, gradient in enumerate(by_tensor):
        direction, sides = draw.normal(size=gradient.shape), []
        for step in (1e-5, -1e-5):
            moved = tensors[i] + step * direction
            sides.append(run(*tensors[:i], moved, *tensors[i + 1 :])[0])
        slope = (sides[0] - sides[1]) / 2e-5
        assert slope == pytest.approx(np.sum(gradient * direction), rel=1e-6), i
    return value, by_tensor


def count(shapes):
    return sum(math.prod(shape) for shape in shapes.values())


def test_parameter_count_of_the_paper():
    """Tied 2-LSTM, 1000 units, 205 symbols into h and c and read from both: 16.8M."""
    layer = GridLSTM2D(1000, 6, tied=True, project_inputs="both", output="both")
    total = count(layer.weight_shapes(205)) + count({"kernel": (2000, 205), "bias": (205,)})
    assert not layer.built
    assert total == 16_830_205
    without_biases = 16 * 1000**2 + 8 * 1000 + 205 * 2000 + 2000 * 205
    assert total == without_biases + 2000 + 205  # of the projections and of the readout


@pytest.mark.parametrize("tied", [False, "depth", True])
@pytest.mark.parametrize("normalization", [None, "layer"])
@pytest.mark.parametrize("project_inputs", ["hidden", "both", None])
def test_weight_shapes_are_those_of_the_weights(tied, normalization, project_inputs):
    layer = GridLSTM2D(
        UNITS, DEPTH, tied=tied, normalization=normalization, project_inputs=project_inputs
    )
    shapes = layer.weight_shapes(UNITS)
    layer.build((None, None, UNITS))
    assert {w.name: tuple(w.shape) for w in layer.weights} == shapes
    assert layer.count_params() == count(shapes)
    for weight in layer.weights:
        stacked = weight.shape[0] == DEPTH
        assert weight.depth_steps == (range(1, DEPTH + 1) if stacked else None)


def test_initial_weights():
    layer = GridLSTM2D(UNITS, 20, project_inputs="both")
    layer.build((None, None, UNITS))
    for kernel in (layer.time_recurrent_kernel, layer.depth_recurrent_kernel):
        blocks = np.concatenate([np.split(k, 4, axis=-1) for k in numpy_of(kernel)])
        assert len(np.unique(blocks[:, 0, 0])) == len(blocks)
        for block in blocks:
            np.testing.assert_allclose(block @ block.T, np.eye(UNITS), atol=1e-5)
    kernel = numpy_of(layer.time_kernel)
    limit = math.sqrt(6 / (UNITS + 4 * UNITS))  # Glorot, for each layer
    assert 0.9 * limit < np.abs(kernel).max() <= limit
    for a, b in (("time", "depth"), ("hidden", "memory")):
        a, b = numpy_of(getattr(layer, f"{a}_kernel")), numpy_of(getattr(layer, f"{b}_kernel"))
        assert np.isclose(a, b).mean() < 0.01  # a pair may be close by chance
    for bias, forget in ((layer.time_bias, 1.0), (layer.depth_bias, math.log(20))):
        expected = np.repeat([0, forget, 0, 0], UNITS)
        np.testing.assert_allclose(numpy_of(bias), np.tile(expected, (20, 1)), rtol=1e-6)


def test_biases_for_a_long_memory():
    layer = GridLSTM2D(2, 3, forget_bias=4.0, input_gate_bias=-3.5)
    layer.build((None, None, 2))
    np.testing.assert_array_equal(numpy_of(layer.time_bias), [[-3.5, -3.5, 4, 4, 0, 0, 0, 0]] * 3)
    expected = [0, 0, math.log(3), math.log(3), 0, 0, 0, 0]
    np.testing.assert_allclose(numpy_of(layer.depth_bias), [expected] * 3, rtol=1e-6)


def test_gate_bias_as_initializer():
    initializer = GateBias(input=-1.0, forget=2.0, output=[0.0, -1.0])
    layer = GridLSTM2D(2, 3, bias_initializer=initializer, forget_bias=None, depth_forget_bias=None)
    layer.build((None, None, 2))
    expected = [-1, -1, 2, 2, 0, 0, 0, -1]
    np.testing.assert_array_equal(numpy_of(layer.time_bias), [expected] * 3)
    for name in ("forget_bias", "depth_forget_bias", "input_gate_bias"):
        options = {"forget_bias": None, "depth_forget_bias": None, name: 1.0}
        with pytest.raises(ValueError, match=f"pass `{name}=None`"):
            GridLSTM2D(2, 3, bias_initializer=initializer, **options)


def test_regularizers_and_constraints_see_one_layer_at_a_time():
    layer = grid(
        kernel_regularizer=keras.regularizers.OrthogonalRegularizer(1.0),
        recurrent_regularizer="l2",
        kernel_constraint=keras.constraints.MaxNorm(0.1, axis=0),
        recurrent_constraint="non_neg",
    )
    layer.build((None, None, FEATURES))
    kernel, recurrent = numpy_of(layer.time_kernel), numpy_of(layer.time_recurrent_kernel)
    losses = dict(zip([w.name for w in layer.weights if w.regularizer], layer.losses, strict=True))
    one_by_one = sum(float(numpy_of(layer.kernel_regularizer(k))) for k in kernel)
    assert float(numpy_of(losses["time_kernel"])) == pytest.approx(one_by_one, rel=1e-5)
    by_square = 0.01 * np.square(recurrent).sum()
    assert float(numpy_of(losses["time_recurrent_kernel"])) == pytest.approx(by_square, rel=1e-5)
    constrained = numpy_of(layer.time_kernel.constraint(layer.time_kernel.value))
    np.testing.assert_allclose(
        constrained, [numpy_of(layer.kernel_constraint(k)) for k in kernel], atol=1e-6
    )
    assert np.linalg.norm(constrained, axis=1).max() < 0.1 + 1e-5


def test_dropout_falls_on_h_between_layers_only():
    x = inputs()
    alone = grid(depth=1, dropout=0.5)
    np.testing.assert_array_equal(numpy_of(alone(x, training=True)), numpy_of(alone(x)))
    layer = grid(dropout=0.5, seed=3)
    twin = GridLSTM2D.from_config(layer.get_config())
    layer.build(x.shape)
    twin.build(x.shape)
    twin.set_weights(layer.get_weights())
    first, second = (numpy_of(layer(x, training=True)) for _ in range(2))
    assert np.abs(first - second).max() > 1e-3
    np.testing.assert_allclose(numpy_of(twin(x, training=True)), first, atol=1e-6)
    # c is never dropped: with all gates of the upper layers shut but the forget gates, what layer
    # 1 wrote arrives at the top.
    layer = grid(dropout=0.5, output="both")
    layer.build(x.shape)
    bias = numpy_of(layer.depth_bias)
    bias[1:, :UNITS], bias[1:, UNITS : 2 * UNITS] = -100, 100
    layer.depth_bias.assign(bias)
    c, c_training = (numpy_of(layer(x, training=on))[:, UNITS:] for on in (False, True))
    np.testing.assert_allclose(c, c_training, atol=1e-6)


def test_recurrent_dropout_is_one_mask_for_all_times():
    """With the forget and input gates open and a linear candidate, h_T shows what was dropped."""
    units = 50
    layer = GridLSTM2D(
        units, 1, project_inputs=None, recurrent_dropout=0.5, return_state=True, seed=1,
        kernel_initializer="zeros", recurrent_initializer="zeros", activation="linear",
        bias_initializer=GateBias(input=50.0, forget=-50.0, candidate=0.0, output=50.0),
        forget_bias=None, depth_forget_bias=None,
    )  # fmt: skip
    x = np.zeros((1, 4, units), "float32")
    layer.build(x.shape)
    recurrent = np.zeros((1, units, 4 * units))
    recurrent[0, :, 2 * units : 3 * units] = np.eye(units)
    layer.time_recurrent_kernel.assign(recurrent)
    start = [np.ones((1, units), "float32"), np.zeros((1, units), "float32")]
    _, h, _ = layer(x, initial_state=start, training=True)
    values = np.unique(numpy_of(h).round(4))
    np.testing.assert_allclose(values, [0, 16])  # 0, or 1 doubled at each of 4 times
    _, h, _ = layer(x, initial_state=start)
    np.testing.assert_allclose(numpy_of(h), 1)


def test_stateful_chunks_equal_the_whole_sequence():
    x = inputs(2, 6, FEATURES)
    layer = grid(stateful=True, return_sequences=True)
    model = keras.Sequential([keras.Input(batch_shape=(2, 3, FEATURES)), layer])
    whole = grid(return_sequences=True)
    whole.build(x.shape)
    whole.set_weights(layer.get_weights())
    expected = numpy_of(whole(x))
    for predict in (model, lambda chunk: model.predict(chunk, batch_size=2, verbose=0)):
        layer.reset_state()
        output = np.concatenate([numpy_of(predict(x[:, :3])), numpy_of(predict(x[:, 3:]))], axis=1)
        np.testing.assert_allclose(output, expected, atol=1e-6)
    # The state is no weight, and training keeps it too.
    assert len(layer.weights) == len(whole.weights)
    model.compile(optimizer=keras.optimizers.SGD(0.0), loss="mse")
    layer.reset_state()
    for chunk in (x[:, :3], x[:, 3:]):
        model.fit(chunk, np.zeros((2, 3, UNITS)), batch_size=2, shuffle=False, verbose=0)
    _, _, last = grid_reference.grid_lstm(x, weights_of(layer), units=UNITS, depth=DEPTH)
    np.testing.assert_allclose([numpy_of(s) for s in layer.states], last, atol=1e-5)
    with pytest.raises(ValueError, match="batch size must stay the same, 2"):
        layer(inputs())
    with pytest.raises(ValueError, match="batch size must be static"):
        grid(stateful=True).build((None, 3, FEATURES))


def test_stateful_in_a_model_that_fit_builds():
    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.layer = grid(stateful=True)

        def call(self, x):
            return self.layer(x)

    x = inputs(2, 6, FEATURES)
    model = Model()
    model.compile(optimizer=keras.optimizers.SGD(0.0), loss="mse")
    for chunk in (x[:, :3], x[:, 3:]):
        model.fit(chunk, np.zeros((2, UNITS)), batch_size=2, verbose=0)
    _, _, last = grid_reference.grid_lstm(x, weights_of(model.layer), units=UNITS, depth=DEPTH)
    np.testing.assert_allclose([numpy_of(s) for s in model.layer.states], last, atol=1e-5)
    assert [s.name for s in model.layer.states] == [f"state_{i}" for i in range(2 * DEPTH)]


@pytest.mark.parametrize("merge_mode", ["concat", None])
def test_bidirectional(merge_mode):
    options = {"return_sequences": True, "return_state": True, "output": "both"}
    both = keras.layers.Bidirectional(grid(**options), merge_mode=merge_mode)
    x, state = inputs(), states()
    backward_state = [-s for s in state]
    result = both(x, initial_state=[*state, *backward_state], mask=MASK)
    sequences, last = (result[:1], result[1:]) if merge_mode else (result[:2], result[2:])
    shapes = both.compute_output_shape(x.shape)
    assert [tuple(part.shape) for part in result] == [tuple(shape) for shape in shapes]
    forward, *forward_last = expected_of(both.forward_layer, x, MASK, state)
    backward, *backward_last = expected_of(both.backward_layer, x, MASK, backward_state)
    # Bidirectional shows 0 at masked times.
    forward, backward = forward * MASK[..., None], backward[:, ::-1] * MASK[..., None]
    expected = [np.concatenate([forward, backward], -1)] if merge_mode else [forward, backward]
    for part, expected_part in zip(sequences, expected, strict=True):
        np.testing.assert_allclose(numpy_of(part), expected_part, atol=1e-5)
    expected_last = np.concatenate([*forward_last, *backward_last])
    np.testing.assert_allclose([numpy_of(s) for s in last], expected_last, atol=1e-5)


def test_bidirectional_after_an_embedding_saves_and_loads(tmp_path, eager):
    model = keras.Sequential(
        [
            keras.Input((None,)),
            keras.layers.Embedding(7, FEATURES, mask_zero=True),
            keras.layers.Bidirectional(grid(return_sequences=True)),
            keras.layers.Bidirectional(grid(tied=True)),
        ]
    )
    x = np.array([[1, 2, 3, 0, 0], [4, 5, 0, 6, 1]])
    expected = model.predict(x, verbose=0)
    np.testing.assert_allclose(model.predict(x[:1, :3], verbose=0), expected[:1], atol=1e-6)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), expected)


def test_time_distributed():
    layer = grid()
    x = inputs(2, 3, TIME, FEATURES)
    mask = MASK[:6].reshape(2, 3, TIME)
    output = keras.layers.TimeDistributed(layer)(x, mask=mask)
    expected = layer(x.reshape(6, TIME, FEATURES), mask=MASK)
    np.testing.assert_allclose(numpy_of(output).reshape(6, UNITS), numpy_of(expected), atol=1e-6)


@pytest.mark.parametrize(
    "mask, config",
    [
        (None, {}),
        pytest.param(MASK, {"go_backwards": True}, marks=pytest.mark.long),
        pytest.param(MASK, {"normalization": "layer", "depth": 2}, marks=pytest.mark.long),
        pytest.param(MASK, {}, marks=pytest.mark.long),
        pytest.param(None, {"go_backwards": True}, marks=pytest.mark.long),
    ],
    ids=["plain", "masked-backwards", "masked-normalized", "masked", "backwards"],
)
def test_unrolled_equals_scanned(mask, config, in_float64):
    """On JAX the loop over time has a backward pass of its own, in `kernels.py`."""
    config = {"return_sequences": True, "return_state": True, "dtype": "float64", **config}
    layers = [grid(**config, unroll=unroll) for unroll in (False, True)]
    state = states(depth=layers[0].depth, dtype="float64")
    x, results = inputs(dtype="float64"), []
    for layer in layers:
        layer.build(x.shape)
        layer.set_weights(layers[0].get_weights())

        def loss(x, *state, layer=layer):
            output, *last = layer(x, initial_state=list(state), mask=mask)
            return sum((i + 1) * ops.sum(ops.square(y)) for i, y in enumerate([output, *last]))

        run = compiled(loss, layer.trainable_variables, gradients="all")
        value, by_weight, by_tensor = run(x, *state)
        results.append([value, *by_weight, *by_tensor])
    assert all(np.any(gradient) for gradient in results[0])
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.skipif(BACKEND != "jax", reason="only there")
def test_what_is_special_takes_the_loop_that_can_do_it(monkeypatch):
    loop = kernels._loop_jax

    def is_recurrence(probe=None, **options):
        calls, layer = [], grid(**options)
        monkeypatch.setattr(
            kernels, "_loop_jax", lambda *given: calls.append(given) or loop(*given)
        )
        with probing({layer: {"time": probe}} if probe else {}):
            layer(inputs(), training=True)
        return bool(calls)

    assert is_recurrence()
    assert is_recurrence(dropout=0.5, tied=True, priority=None)
    assert not is_recurrence(unroll=True)
    assert not is_recurrence(activation="relu")
    assert not is_recurrence(recurrent_activation="hard_sigmoid")
    assert not is_recurrence(normalization="layer")
    assert not is_recurrence(recurrent_dropout=0.5)
    assert not is_recurrence(Probe(cut="hidden"))
    zeros = ops.zeros((DEPTH, TIME, ROWS, UNITS))
    assert not is_recurrence(Probe((zeros, zeros)))


FULL_CONFIG = {
    "tied": "depth", "priority": None, "project_inputs": "both", "output": "both",
    "normalization": "layer", "peepholes": True, "dropout": 0.1, "recurrent_dropout": 0.2,
    "forget_bias": 0.5, "depth_forget_bias": 2.0, "input_gate_bias": -1.0,
    "activation": "relu", "recurrent_activation": "hard_sigmoid",
    "kernel_initializer": "he_normal", "recurrent_initializer": "glorot_uniform",
    "kernel_regularizer": "l2", "recurrent_regularizer": "l1", "bias_regularizer": "l2",
    "kernel_constraint": "unit_norm", "recurrent_constraint": "max_norm",
    "bias_constraint": "non_neg", "return_sequences": True, "return_state": True,
    "go_backwards": True, "seed": 5, "name": "grid",
}  # fmt: skip


def test_config_is_a_fixed_point():
    layer = GridLSTM2D(UNITS, DEPTH, **FULL_CONFIG)
    config = layer.get_config()
    assert config["output"] == "both"
    assert GridLSTM2D.from_config(config).get_config() == config
    serialized = keras.saving.serialize_keras_object(layer)
    assert serialized["registered_name"] == "keras_deeplstm>GridLSTM2D"
    again = keras.saving.deserialize_keras_object(serialized)
    assert keras.saving.serialize_keras_object(again) == serialized


def test_save_and_load(tmp_path, eager):
    sequences = keras.Input((None, FEATURES))
    output, *last = GridLSTM2D(UNITS, DEPTH, **FULL_CONFIG)(sequences)
    model = keras.Model(sequences, [output, *last])
    expected = model.predict(inputs(), verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for a, b in zip(loaded.predict(inputs(), verbose=0), expected, strict=True):
        np.testing.assert_array_equal(a, b)
    model.save_weights(tmp_path / "model.weights.h5")
    for weight in loaded.weights:
        weight.assign(np.zeros(weight.shape))
    loaded.load_weights(tmp_path / "model.weights.h5")
    for a, b in zip(loaded.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("return_sequences", [True, False])
@pytest.mark.parametrize("return_state", [True, False])
@pytest.mark.parametrize("output", ["hidden", "both"])
def test_shapes_and_masks_with_unknown_dimensions(return_sequences, return_state, output):
    options = {"return_sequences": return_sequences, "return_state": return_state}
    layer = grid(output=output, **options)
    size = 2 * UNITS if output == "both" else UNITS
    first = (None, None, size) if return_sequences else (None, size)
    expected = (first, *[(None, UNITS)] * 2 * DEPTH) if return_state else first
    assert layer.compute_output_shape((None, None, FEATURES)) == expected
    sequences = keras.Input((None, FEATURES))
    result = layer(keras.layers.Masking()(sequences))
    parts = result if return_state else [result]
    assert (getattr(parts[0], "_keras_mask", None) is not None) == return_sequences
    model = keras.Model(sequences, parts)
    for rows, time in ((2, 5), (3, 2), (1, 1)):
        x = inputs(rows, time, FEATURES)
        outputs = model(x)
        outputs = outputs if isinstance(outputs, list | tuple) else [outputs]
        shape = (rows, time, size) if return_sequences else (rows, size)
        assert tuple(outputs[0].shape) == shape
        np.testing.assert_allclose(numpy_of(outputs[0]), expected_of(layer, x)[0], atol=1e-5)


def test_an_empty_batch():
    layer = grid(return_sequences=True)
    assert tuple(layer(inputs(0, TIME, FEATURES)).shape) == (0, TIME, UNITS)
    masked = layer(inputs(0, TIME, FEATURES), mask=np.ones((0, TIME), bool))
    assert tuple(masked.shape) == (0, TIME, UNITS)


def test_one_bad_value_spoils_only_its_row_and_what_follows():
    layer = grid(return_sequences=True)
    x = inputs()
    x[2, 3, 0] = np.nan
    bad = np.isnan(numpy_of(layer(x))).any(axis=-1)
    expected = np.zeros((ROWS, TIME), bool)
    expected[2, 3:] = True
    np.testing.assert_array_equal(bad, expected)


@pytest.mark.long  # a plainer grid is in test_contract.py
@pytest.mark.skipif(BACKEND == "torch", reason="torch.compile is not promised")
def test_compiled_training_steps_agree_with_mask_and_normalization():
    results = []
    for jit in (True, False):
        keras.utils.set_random_seed(1)
        sequences = keras.Input((None, FEATURES))
        layer = grid(depth=2, normalization="layer", return_sequences=True)
        model = keras.Model(sequences, layer(keras.layers.Masking()(sequences)))
        model.compile(optimizer=keras.optimizers.SGD(0.1), loss="mse", jit_compile=jit)
        x, y = inputs() * MASK[..., None], inputs(ROWS, TIME, UNITS, seed=4)
        losses = [model.train_on_batch(x, y) for _ in range(3)]
        assert losses[-1] < losses[0]
        results.append([np.array(losses), *model.get_weights()])
    for with_jit, without in zip(*results, strict=True):
        np.testing.assert_allclose(with_jit, without, atol=1e-5)


def test_mixed_precision(eager):
    layer = grid(
        dtype="mixed_bfloat16", normalization="layer", return_sequences=True, return_state=True
    )
    exact = grid(normalization="layer", return_sequences=True, return_state=True)
    exact.build(inputs().shape)
    outputs = layer(inputs(), mask=MASK)
    exact.set_weights(layer.get_weights())
    for part, expected in zip(outputs, exact(inputs(), mask=MASK), strict=True):
        assert keras.backend.standardize_dtype(part.dtype) == "bfloat16"
        np.testing.assert_allclose(
            numpy_of(ops.cast(part, "float32")), numpy_of(expected), atol=5e-2
        )
    assert {keras.backend.standardize_dtype(w.dtype) for w in layer.weights} == {"float32"}
    sequences = keras.Input((TIME, FEATURES))
    model = keras.Model(sequences, grid(dtype="mixed_bfloat16", dropout=0.1)(sequences))
    model.compile(optimizer="adam", loss="mse")
    assert np.isfinite(model.train_on_batch(inputs(), np.zeros((ROWS, UNITS), "float32")))


def probed(layer, x, cut=None, mask=None):
    """A loss at the end of the sequence as a function of the offsets of h_T, c_T, h_D, c_D."""

    def loss(h_T, c_T, h_D, c_D):
        probe = {"time": Probe((h_T, c_T), cut), "depth": Probe((h_D, c_D), cut)}
        with probing({layer: probe}):
            return ops.sum(ops.square(layer(x, mask=mask)))

    shapes = layer.probe_shapes(x.shape)
    return loss, [np.zeros(shape) for names, shape in shapes.values() for _ in names]


@pytest.mark.parametrize("mask", [None, MASK], ids=["plain", "masked"])
def test_probes_give_the_gradients_of_states(mask, in_float64):
    layer = grid(dtype="float64")
    x = inputs(dtype="float64")
    output = numpy_of(layer(x, mask=mask))
    loss, zeros = probed(layer, x, mask=mask)
    value, gradients = check_along_random_directions(loss, [], zeros)
    assert value == pytest.approx(np.square(output).sum(), rel=1e-12)
    if mask is None:
        # Nothing lies between h_D of the top layer at the last time and the loss.
        np.testing.assert_allclose(gradients[2][-1, -1], 2 * output, atol=1e-10)


def test_cuts_stop_one_path_between_steps_and_layers(in_float64):
    layer = grid(dtype="float64")
    x = inputs(dtype="float64")
    layer.build(x.shape)
    values, gradients = {}, {}
    for cut in (None, "hidden", "memory"):
        loss, zeros = probed(layer, x, cut)
        values[cut], _, gradients[cut] = compiled(loss, [], gradients="all")(*zeros)
    assert values["hidden"] == values["memory"] == pytest.approx(values[None], rel=1e-12)
    # The loss is read from h_D of the top layer at the last time.
    h_T, c_T, h_D, c_D = gradients["hidden"]
    assert not h_D[:-1].any() and c_D[:, -1].all()
    assert h_T[:, -1].all() and not h_T[:, :-1].any() and c_T.all()
    # What is left of dLoss/dc goes through h = o tanh(c), and is smaller than dLoss/dh.
    h_T, c_T, h_D, c_D = gradients["memory"]
    assert h_D[:, -1].all() and h_T.all()
    assert (np.abs(c_T) < np.abs(h_T)).all()
    assert (np.abs(c_D[:, -1]) < np.abs(h_D[:, -1])).all()
    for part in ("hidden", "memory"):
        for cut, whole in zip(gradients[part], gradients[None], strict=True):
            assert not np.allclose(cut, whole)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"units": 0}, "Argument `units` must be a positive integer. Received: units=0"),
        ({"units": "8"}, "Argument `units` must be a positive integer. Received: units='8'"),
        ({"depth": 2.5}, "Argument `depth` must be a positive integer"),
        ({"depth": 10**9}, "Argument `depth` must be at most 10000"),
        ({"tied": "all"}, "`tied` must be one of [False, 'depth', True]. Received: tied='all'"),
        ({"tied": 1}, "Argument `tied` must be one of [False, 'depth', True]"),
        ({"priority": "dept"}, "Did you mean 'depth'?"),
        ({"project_inputs": "memory"}, "Argument `project_inputs` must be one of"),
        ({"output": "all"}, "Argument `output` must be one of ['hidden', 'both']"),
        ({"normalization": "batch"}, "Argument `normalization` must be one of [None, 'layer']"),
        ({"dropout": 1.7}, "Argument `dropout` must be a float in the range [0, 1)"),
        ({"recurrent_dropout": "0.2"}, "Argument `recurrent_dropout` must be a float"),
        ({"forget_bias": "depth"}, "Argument `forget_bias` must be a number or None"),
        ({"input_gate_bias": "depth"}, "Argument `input_gate_bias` must be a number or None"),
        ({"depth_forget_bias": "time"}, "must be a number, 'depth' or None"),
        ({"depth_forget_bias": math.inf}, "must be a finite number"),
        ({"stateful": 1}, "Argument `stateful` must be True or False"),
        ({"unit": 3}, "unit"),
    ],
    ids=str,
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError) as error:
        GridLSTM2D(**{"units": 4, "depth": 3, **arguments})
    assert message in str(error.value)


def test_wrong_calls():
    layer = grid()
    with pytest.raises(ValueError, match="expected ndim=3, found ndim=2"):
        grid()(inputs(6, 3))
    with pytest.raises(ValueError, match="last dimension of the inputs to `GridLSTM2D`"):
        grid().build((None, 5, None))
    with pytest.raises(ValueError, match=r"must have `units` features. Received: features=3"):
        grid(project_inputs=None)(inputs())
    with pytest.raises(ValueError, match=r"at least one time step.*\(2, 0, 3\)"):
        layer(inputs(2, 0, 3))
    with pytest.raises(ValueError, match=r"expected axis -1 of input shape to have value 3"):
        layer(inputs(2, 4, 5))
    with pytest.raises(ValueError, match=r"time\)=\(6, 5\). Received: mask.shape=\(6, 4\)"):
        layer(inputs(), mask=MASK[:, :4])
    with pytest.raises(ValueError, match=r"2\*depth=6 tensors. Received: 2"):
        layer(inputs(), initial_state=states()[:2])
    with pytest.raises(ValueError, match=r"initial_state\[1\] must have shape \(batch, 4\)"):
        wrong = states()
        wrong[1] = wrong[1][:, :2]
        layer(inputs(), initial_state=wrong)
    if BACKEND == "tensorflow":  # the others know the time when they run
        import tensorflow as tf

        with pytest.raises(ValueError, match="Cannot unroll"):
            tf.function(grid(unroll=True)).get_concrete_function(tf.TensorSpec((6, None, 3)))


@pytest.mark.long  # of the other layers in test_contract.py
@pytest.mark.skipif(BACKEND == "torch", reason="SavedModel is promised for TensorFlow and JAX")
def test_export_to_saved_model(tmp_path):
    import tensorflow as tf

    model = keras.Sequential(
        [keras.Input((None, FEATURES)), keras.layers.Masking(), grid(return_sequences=True)]
    )
    model.export(str(tmp_path / "exported"), verbose=False)
    exported = tf.saved_model.load(str(tmp_path / "exported"))
    x = inputs() * MASK[..., None]
    for part in (x, x[:2, :3]):
        np.testing.assert_allclose(
            exported.serve(part).numpy(), model.predict(part, verbose=0), atol=1e-6
        )


@pytest.mark.long
def test_three_layers_learn_text_faster_than_a_stacked_lstm_of_equal_size():
    """Next character on 12 kB of Python's own help, 25 epochs; the last tenth is held out."""
    from pydoc_data.topics import topics

    text = "\n".join(topics[name] for name in ("assignment", "for", "function", "with"))[:12_000]
    symbols = sorted(set(text))
    codes = np.array([symbols.index(character) for character in text])
    length = 50
    windows = codes[: (len(codes) - 1) // length * length].reshape(-1, length)
    targets = codes[1 : windows.size + 1].reshape(-1, length)
    held_out = len(windows) // 10
    train, test = (windows[:-held_out], targets[:-held_out]), (
        windows[-held_out:], targets[-held_out:]
    )  # fmt: skip
    losses, sizes = {}, {}
    stacks = {
        "grid": [GridLSTM2D(48, 3, return_sequences=True)],
        "stacked": [keras.layers.LSTM(72, return_sequences=True) for _ in range(3)],
    }
    for name, layers in stacks.items():
        embedding, readout = keras.layers.Embedding(len(symbols), 32), len(symbols)
        model = keras.Sequential([embedding, *layers, keras.layers.Dense(readout)])
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(3e-3, clipnorm=1.0), loss)
        model.fit(*train, batch_size=16, epochs=25, verbose=0)
        losses[name] = model.evaluate(*test, verbose=0)
        sizes[name] = model.count_params()
    print(losses, sizes)
    assert sizes["grid"] <= sizes["stacked"]
    assert losses["grid"] < losses["stacked"] - 0.3
    assert losses["grid"] < 2.4
