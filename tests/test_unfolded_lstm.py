import itertools
import math

import keras
import numpy as np
import pytest
import reference
from keras import ops

from keras_deeplstm.diagnostics import float64, gradient_check
from keras_deeplstm.diagnostics.autodiff import compiled
from keras_deeplstm.initializers import GateBias, OrthogonalGates
from keras_deeplstm.layers import UnfoldedLSTMBlock
from keras_deeplstm.layers.probes import Probe, probing

pytestmark = pytest.mark.backends

FEATURES, UNITS, DEPTH, ROWS = 3, 4, 5, 6


def inputs(*shape, seed=1, dtype="float32"):
    return np.random.default_rng(seed).normal(size=shape or (ROWS, FEATURES)).astype(dtype)


def numpy_of(tensor):
    return np.array(ops.convert_to_numpy(tensor))


@pytest.fixture
def in_float64():
    with float64():
        yield


def gradients_of(function, variables=(), tensors=()):
    return compiled(function, variables, gradients="all")(*tensors)


def weights_of(layer):
    return {w.name: numpy_of(w) for w in layer.weights}


@pytest.mark.parametrize("dtype, tolerance", [("float32", 1e-5), ("float64", 1e-10)])
@pytest.mark.parametrize("mode", ["first", "every", "state"])
@pytest.mark.parametrize("tied", [False, True])
def test_forward_equals_numpy_reference(mode, tied, dtype, tolerance, in_float64):
    layer = UnfoldedLSTMBlock(
        UNITS, DEPTH, tied=tied, input_mode=mode, return_all_steps=True, return_state=True,
        bias_initializer="random_normal", dtype=dtype,
    )  # fmt: skip
    x = inputs(dtype=dtype)
    output, h, c = layer(x)
    expected, memory = reference.unfolded_lstm(
        x, weights_of(layer), units=UNITS, depth=DEPTH, input_mode=mode, tied=tied
    )
    assert output.shape == (ROWS, DEPTH, UNITS)
    np.testing.assert_allclose(numpy_of(output), expected, atol=tolerance)
    np.testing.assert_allclose(numpy_of(h), expected[:, -1], atol=tolerance)
    np.testing.assert_allclose(numpy_of(c), memory, atol=tolerance)


@pytest.mark.parametrize("tied", [False, True])
def test_peepholes_equal_numpy_reference(tied):
    layer = UnfoldedLSTMBlock(UNITS, DEPTH, tied=tied, peepholes=True, return_all_steps=True)
    plain = UnfoldedLSTMBlock(UNITS, DEPTH, tied=tied, return_all_steps=True)
    x = inputs()
    layer.build(x.shape)
    plain.build(x.shape)
    # They are the last of the weights, and 0 at first.
    assert layer.weights[-1].name == "peephole"
    plain.set_weights(layer.get_weights()[:-1])
    np.testing.assert_allclose(numpy_of(layer(x)), numpy_of(plain(x)), atol=1e-6)
    assert layer.used_kernel == "loop"
    layer.peephole.assign(inputs(*layer.peephole.shape))
    expected, _ = reference.unfolded_lstm(x, weights_of(layer), units=UNITS, depth=DEPTH, tied=tied)
    assert np.abs(expected - numpy_of(plain(x))).max() > 0.01
    np.testing.assert_allclose(numpy_of(layer(x)), expected, atol=1e-5)


def test_trainable_state_equals_numpy_reference():
    layer = UnfoldedLSTMBlock(
        UNITS, DEPTH, state_initializer=keras.initializers.RandomNormal(stddev=1.0)
    )
    x = inputs()
    output = layer(x)
    weights = weights_of(layer)
    assert weights["recurrent_kernel"].shape == (DEPTH, UNITS, 4 * UNITS)
    expected, _ = reference.unfolded_lstm(
        x, weights, units=UNITS, depth=DEPTH,
        h0=weights["initial_hidden_state"], c0=weights["initial_memory_cell"],
    )  # fmt: skip
    np.testing.assert_allclose(numpy_of(output), expected[:, -1], atol=1e-5)


def test_tied_with_input_at_every_step_equals_keras_lstm_over_the_repeated_input():
    block = UnfoldedLSTMBlock(UNITS, DEPTH, tied=True, input_mode="every", return_all_steps=True)
    lstm = keras.layers.LSTM(UNITS, return_sequences=True)
    x = inputs()
    sequence = np.repeat(x[:, None], DEPTH, axis=1)
    block.build(x.shape)
    lstm.build(sequence.shape)
    lstm.set_weights(
        [numpy_of(block.kernel), numpy_of(block.recurrent_kernel), numpy_of(block.bias)]
    )
    np.testing.assert_allclose(numpy_of(block(x)), numpy_of(lstm(sequence)), atol=1e-5)


CONFIGS = [
    {"input_mode": "first"},
    {"input_mode": "every", "normalization": "layer"},
    {"input_mode": "state", "tied": True, "peepholes": True},
    {"input_mode": "first", "normalization": "batch", "state_initializer": "random_normal"},
    {"input_mode": "state", "normalization": "layer", "peepholes": True, "return_all_steps": True},
    {"input_mode": "every", "tied": True, "state_initializer": "random_normal"},
    {"input_mode": "first", "use_bias": False, "recurrent_activation": "hard_sigmoid"},
]


MOVING = ("_mean", "_variance")


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_gradients_equal_finite_differences(config):
    layer = UnfoldedLSTMBlock(3, 4, **config)
    layer.build((None, FEATURES))
    rng = np.random.default_rng(2)
    for weight in layer.weights:  # of the order of 1, so that no gradient is close to nothing
        weight.assign(rng.uniform(0.5, 1.5, weight.shape) * rng.choice([-1, 1], weight.shape))
        if weight.name.endswith("_variance"):
            weight.assign(ops.abs(weight))
    table = gradient_check(layer, inputs(5, FEATURES), entries=6)
    checked = [name for name in layer.weight_shapes(FEATURES) if not name.endswith(MOVING)]
    assert [path.rpartition("/")[2] for path in table.weight] == [*checked, "input"]
    assert (table.relative_error < 1e-6).all(), table


def test_batch_statistics_in_training_have_right_gradients(in_float64):
    """Finite differences of the training-time loss, through mean and variance of the batch."""
    keras.utils.set_random_seed(3)
    layer = UnfoldedLSTMBlock(3, 3, normalization="batch", momentum=0.0, dtype="float64")
    x = inputs(5, FEATURES, dtype="float64")
    layer.build(x.shape)

    def loss():
        with keras.StatelessScope():  # the moving averages are not of interest
            return ops.sum(ops.square(layer(x, training=True)))

    variables = layer.trainable_variables
    gradients = gradients_of(lambda: ops.sum(ops.square(layer(x, training=True))), variables)[1]
    for variable, gradient in zip(variables, gradients, strict=True):
        value, direction = numpy_of(variable), np.random.default_rng(0).normal(size=variable.shape)
        sides = []
        for sign in (1, -1):
            variable.assign(value + sign * 1e-6 * direction)
            sides.append(float(numpy_of(loss())))
        variable.assign(value)
        expected = (sides[0] - sides[1]) / 2e-6
        np.testing.assert_allclose(np.sum(gradient * direction), expected, rtol=1e-6, atol=1e-8)


def test_batch_normalization_equals_numpy_and_ignores_masked_rows(in_float64):
    layer = UnfoldedLSTMBlock(2, 2, normalization="batch", momentum=0.5, dtype="float64")
    x = inputs(5, FEATURES, dtype="float64")
    mask = np.array([True, True, False, True, False])
    layer.build(x.shape)
    w = weights_of(layer)
    output = numpy_of(layer(x, mask=mask, training=True))

    def norm(value, scale):
        mean, variance = value[mask].mean(axis=0), value[mask].var(axis=0)
        return (value - mean) / np.sqrt(variance + 1e-3) * scale, mean, variance

    def step(z, c, number):
        i, f, g, o = np.split(z, 4, axis=1)
        c = reference.sigmoid(f) * c + reference.sigmoid(i) * np.tanh(g)
        seen, mean, variance = norm(c, w["memory_scale"][number])
        h = reference.sigmoid(o) * np.tanh(seen + w["memory_offset"][number])
        return h, c, mean, variance

    z, x_mean, _ = norm(x @ w["kernel"], w["input_scale"])
    h, c, _, _ = step(z + w["bias"][0], 0.0, 0)
    z, h_mean, h_variance = norm(h @ w["recurrent_kernel"][0], w["recurrent_scale"][0])
    h, c, c_mean, _ = step(z + w["bias"][1], c, 1)
    np.testing.assert_allclose(output, h, atol=1e-12)
    # Moving averages started at mean 0 and variance 1 and moved half the way.
    np.testing.assert_allclose(numpy_of(layer.input_mean), x_mean / 2, atol=1e-12)
    np.testing.assert_allclose(numpy_of(layer.recurrent_mean)[0], h_mean / 2, atol=1e-12)
    np.testing.assert_allclose(
        numpy_of(layer.recurrent_variance)[0], 0.5 + h_variance / 2, atol=1e-12
    )
    np.testing.assert_allclose(numpy_of(layer.memory_mean)[1], c_mean / 2, atol=1e-12)


def test_inference_uses_the_moving_averages():
    layer = UnfoldedLSTMBlock(2, 3, normalization="batch", momentum=0.0)
    x = inputs()
    trained = numpy_of(layer(x, training=True))
    # With momentum 0 the moving averages are the statistics of this batch.
    np.testing.assert_allclose(numpy_of(layer(x)), trained, atol=1e-6)
    np.testing.assert_allclose(numpy_of(layer(x[:2])), trained[:2], atol=1e-6)


def test_a_frozen_block_uses_its_moving_averages_and_keeps_them(eager):
    block = UnfoldedLSTMBlock(2, 3, normalization="batch", dropout=0.5, seed=0)
    batch_norm = keras.layers.BatchNormalization()
    model = keras.Sequential([keras.Input((FEATURES,)), block, batch_norm, keras.layers.Dense(1)])
    x = inputs()
    model.compile("sgd", "mse")
    model.fit(x, np.zeros((ROWS, 1)), verbose=0)  # away from mean 0 and variance 1
    block.trainable = batch_norm.trainable = False
    model.compile("sgd", "mse")
    before = weights_of(block) | weights_of(batch_norm)
    model.fit(x, np.zeros((ROWS, 1)), verbose=0)
    for name, value in (weights_of(block) | weights_of(batch_norm)).items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)
    assert np.any(numpy_of(block(x, training=True)) == 0)  # dropout stays on
    block.dropout = 0.0
    np.testing.assert_array_equal(numpy_of(block(x, training=True)), numpy_of(block(x)))


def test_a_masked_row_spoils_no_batch_statistics():
    block = UnfoldedLSTMBlock(2, 3, normalization="batch", momentum=0.5)
    x = inputs()
    mask = np.arange(ROWS) < ROWS - 1
    clean = numpy_of(block(x, mask=mask, training=True))
    averages = weights_of(block)
    assert not np.allclose(averages["input_mean"], 0)
    # Rows of nothing but padding have no statistics.
    block(x, mask=np.zeros(ROWS, bool), training=True)
    for name, value in weights_of(block).items():
        np.testing.assert_array_equal(value, averages[name], err_msg=name)
    x[-1] = np.nan
    output = numpy_of(block(x, mask=mask, training=True))
    np.testing.assert_array_equal(output[:-1], clean[:-1])
    assert np.all(np.isfinite(weights_of(block)["recurrent_variance"]))


def test_zero_state_untied_every_recurrent_matrix_gets_a_gradient():
    for mode in ("first", "every"):
        layer = UnfoldedLSTMBlock(UNITS, DEPTH, input_mode=mode)
        x = inputs()
        layer.build(x.shape)
        assert layer.recurrent_kernel.shape == (DEPTH - 1, UNITS, 4 * UNITS)
        assert layer.recurrent_kernel.depth_steps == range(2, DEPTH + 1)
        _, (gradient,), _ = gradients_of(
            lambda layer=layer, x=x: ops.sum(layer(x)), [layer.recurrent_kernel]
        )
        assert (np.linalg.norm(gradient, axis=(1, 2)) > 1e-6).all()


def test_recurrent_kernels_start_orthogonal_and_different():
    layer = UnfoldedLSTMBlock(UNITS, DEPTH, seed=1)
    layer.build((None, FEATURES))
    blocks = numpy_of(layer.recurrent_kernel).reshape(DEPTH - 1, UNITS, 4, UNITS)
    blocks = blocks.transpose(0, 2, 1, 3).reshape(-1, UNITS, UNITS)
    for block in blocks:
        np.testing.assert_allclose(block @ block.T, np.eye(UNITS), atol=1e-5)
    for one, other in itertools.combinations(blocks, 2):
        assert np.abs(one - other).max() > 1e-2


def test_initializer_with_seed_gives_the_same_weights_again():
    draw = []
    for _ in range(2):
        layer = UnfoldedLSTMBlock(
            UNITS, DEPTH, recurrent_initializer=keras.initializers.Orthogonal(seed=7)
        )
        layer.build((None, FEATURES))
        draw.append(numpy_of(layer.recurrent_kernel))
    np.testing.assert_array_equal(*draw)


def test_an_initializer_with_a_seed_that_is_no_argument_is_called_as_it_is():
    class Own(keras.initializers.Initializer):
        seed = 3

        def __call__(self, shape, dtype=None):
            return ops.ones(shape, dtype)

    layer = UnfoldedLSTMBlock(2, 3, kernel_initializer=Own(), recurrent_initializer=Own())
    layer.build((None, 4))
    assert numpy_of(layer.kernel).min() == numpy_of(layer.recurrent_kernel).min() == 1


@pytest.mark.parametrize(
    "forget_bias, depth, expected",
    [("depth", 2, 1.0), ("depth", 100, math.log(100)), (-2.5, 3, -2.5), (None, 3, 0.25)],
)
def test_forget_bias(forget_bias, depth, expected):
    layer = UnfoldedLSTMBlock(
        2, depth, forget_bias=forget_bias, bias_initializer=keras.initializers.Constant(0.25)
    )
    layer.build((None, 1))
    bias = numpy_of(layer.bias)
    np.testing.assert_allclose(bias[:, 2:4], expected, rtol=1e-6)
    np.testing.assert_allclose(bias[:, [0, 1, 4, 5, 6, 7]], 0.25)


@pytest.mark.parametrize(
    "input_gate_bias, depth, expected",
    [("depth", 1, 0.0), ("depth", 100, -math.log(100)), (-2.5, 3, -2.5), (None, 3, 0.25)],
)
def test_input_gate_bias(input_gate_bias, depth, expected):
    layer = UnfoldedLSTMBlock(
        2,
        depth,
        forget_bias=None,
        input_gate_bias=input_gate_bias,
        bias_initializer=keras.initializers.Constant(0.25),
    )
    layer.build((None, 1))
    bias = numpy_of(layer.bias)
    np.testing.assert_allclose(bias[:, :2], expected, rtol=1e-6)
    np.testing.assert_allclose(bias[:, 2:], 0.25)
    assert layer.get_config()["input_gate_bias"] == input_gate_bias


def test_orthogonal_gates():
    """Orthogonal for i, f and o, different at each step; 0.95 times the identity for c."""
    layer = UnfoldedLSTMBlock(4, 3, recurrent_initializer="keras_deeplstm>OrthogonalGates")
    layer.build((None, 5))
    blocks = np.stack(np.split(numpy_of(layer.recurrent_kernel), 4, axis=-1), axis=1)
    np.testing.assert_array_equal(blocks[:, 2], [0.95 * np.eye(4, dtype="float32")] * 2)
    others = blocks[:, [0, 1, 3]].reshape(-1, 4, 4)
    products = others @ others.swapaxes(1, 2)
    np.testing.assert_allclose(products, np.broadcast_to(np.eye(4), (6, 4, 4)), atol=1e-5)
    assert len(np.unique(others[:, 0, 0])) == 6
    initializer = OrthogonalGates(candidate=0.5, seed=3)
    again = OrthogonalGates.from_config(initializer.get_config())
    np.testing.assert_array_equal(numpy_of(again((2, 8))), numpy_of(initializer((2, 8))))
    # Without a seed a copy draws other values, as with Keras' initializers.
    clone = UnfoldedLSTMBlock.from_config(layer.get_config())
    clone.build((None, 5))
    assert clone.recurrent_initializer.get_config() == {"candidate": 0.95, "seed": None}
    assert np.abs(numpy_of(clone.recurrent_kernel) - numpy_of(layer.recurrent_kernel)).max() > 0.1
    with pytest.raises(ValueError, match=r"needs the shape \(units, 4 \* units\)"):
        initializer((3, 8))


def test_biases_of_projections_start_at_zero():
    layer = UnfoldedLSTMBlock(2, 3, input_mode="state", bias_initializer="ones", forget_bias=None)
    layer.build((None, 1))
    for bias, expected in ((layer.hidden_bias, 0), (layer.memory_bias, 0), (layer.bias, 1)):
        np.testing.assert_array_equal(numpy_of(bias), np.full(bias.shape, expected))


def test_gate_bias_sets_each_gate():
    bias = GateBias(input=[-1, -3], forget=2, output=-0.5)
    layer = UnfoldedLSTMBlock(2, 3, bias_initializer=bias, forget_bias=None)
    layer.build((None, 1))
    np.testing.assert_allclose(numpy_of(layer.bias), [[-1, -3, 2, 2, 0, 0, -0.5, -0.5]] * 3)
    with pytest.raises(ValueError, match="pass `forget_bias=None` with it"):
        UnfoldedLSTMBlock(2, 3, bias_initializer=bias)
    with pytest.raises(ValueError, match="pass `input_gate_bias=None` with it"):
        UnfoldedLSTMBlock(2, 3, bias_initializer=bias, forget_bias=None, input_gate_bias=-1)
    with pytest.raises(ValueError, match="4 \\* units"):
        UnfoldedLSTMBlock(5, 3, bias_initializer=bias, forget_bias=None).build((None, 1))


def test_leading_axes_are_flattened_and_the_mask_passes_through():
    layer = UnfoldedLSTMBlock(UNITS, DEPTH, return_all_steps=True)
    x = inputs(2, 7, FEATURES)
    output = numpy_of(layer(x))
    assert output.shape == (2, 7, DEPTH, UNITS)
    np.testing.assert_allclose(output[1], numpy_of(layer(x[1])), atol=1e-6)
    assert layer.compute_output_shape((None, None, FEATURES)) == (None, None, DEPTH, UNITS)
    sequence = keras.layers.Masking()(inputs(2, 7, FEATURES))
    masked = UnfoldedLSTMBlock(UNITS, DEPTH)(sequence)
    assert keras.src.backend.get_keras_mask(masked) is not None


def test_dropout_is_off_in_inference_and_hits_every_step_in_training():
    layer = UnfoldedLSTMBlock(50, 3, dropout=0.5, return_all_steps=True, seed=1)
    x = inputs(40, FEATURES)
    plain = UnfoldedLSTMBlock(50, 3, return_all_steps=True)
    plain.build(x.shape)
    layer.build(x.shape)
    plain.set_weights(layer.get_weights())
    np.testing.assert_allclose(numpy_of(layer(x)), numpy_of(plain(x)), atol=1e-7)
    dropped = numpy_of(layer(x, training=True))
    zeros = (dropped == 0).mean(axis=(0, 2))  # 2,000 draws a step: sd 0.011
    np.testing.assert_allclose(zeros, 0.5, atol=0.05)
    kept = dropped[:, 0] != 0  # what is kept of the first step is doubled
    np.testing.assert_allclose(dropped[:, 0][kept], 2 * numpy_of(plain(x))[:, 0][kept], rtol=1e-5)
    assert (numpy_of(layer(x, training=True)) != dropped).any()


def test_noise_state_is_redrawn_in_training_and_zero_in_inference():
    layer = UnfoldedLSTMBlock(UNITS, DEPTH, state_initializer="noise", seed=2)
    x = inputs()
    first, second = numpy_of(layer(x, training=True)), numpy_of(layer(x, training=True))
    assert np.abs(first - second).max() > 1e-4
    np.testing.assert_array_equal(numpy_of(layer(x)), numpy_of(layer(x)))


def test_regularizers_sum_over_steps_and_constraints_see_one_step():
    layer = UnfoldedLSTMBlock(
        UNITS, DEPTH, recurrent_regularizer=keras.regularizers.L2(0.1),
        recurrent_constraint=keras.constraints.MaxNorm(0.5, axis=0),
    )  # fmt: skip
    layer(inputs())
    kernel = numpy_of(layer.recurrent_kernel)
    np.testing.assert_allclose(float(numpy_of(layer.losses[0])), 0.1 * (kernel**2).sum(), rtol=1e-5)
    constrained = numpy_of(layer.recurrent_kernel.constraint(layer.recurrent_kernel))
    norms = np.linalg.norm(constrained, axis=1)  # over the units that feed each column
    np.testing.assert_allclose(norms, 0.5, rtol=1e-4)


def test_config_round_trip_and_saved_file(tmp_path):
    layer = UnfoldedLSTMBlock(
        UNITS, 3, tied=True, input_mode="every", normalization="batch", dropout=0.1,
        state_initializer=keras.initializers.RandomNormal(seed=1), forget_bias=2, seed=5,
        kernel_regularizer="l2", recurrent_constraint="unit_norm", bias_initializer="ones",
    )  # fmt: skip
    again = UnfoldedLSTMBlock.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    model = keras.Sequential([keras.Input((FEATURES,)), layer])
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    x = inputs()
    np.testing.assert_array_equal(model.predict(x, verbose=0), loaded.predict(x, verbose=0))


def test_weight_shapes_tell_the_parameters_before_building():
    layer = UnfoldedLSTMBlock(100, 30)
    shapes = layer.weight_shapes(784)
    layer.build((None, 784))
    assert shapes == {w.name: tuple(w.shape) for w in layer.weights}
    # 784 x 400 + 29 x 100 x 400 + 30 x 400
    assert layer.count_params() == sum(math.prod(s) for s in shapes.values()) == 1_485_600


def test_mixed_precision_keeps_float32_weights():
    layer = UnfoldedLSTMBlock(UNITS, DEPTH, normalization="batch", dtype="mixed_bfloat16")
    output = layer(inputs(), training=True)
    assert keras.backend.standardize_dtype(output.dtype) == "bfloat16"
    assert {keras.backend.standardize_dtype(w.dtype) for w in layer.weights} == {"float32"}
    exact = UnfoldedLSTMBlock(UNITS, DEPTH)
    rough = UnfoldedLSTMBlock(UNITS, DEPTH, dtype="mixed_bfloat16")
    exact.build((None, FEATURES))
    rough.build((None, FEATURES))
    rough.set_weights(exact.get_weights())
    both = [numpy_of(ops.cast(layer(inputs()), "float32")) for layer in (exact, rough)]
    np.testing.assert_allclose(*both, atol=0.02)


def probed_gradients(layer, x, cut):
    """dLoss/dh_l and dLoss/dc_l of the sum of the last h."""
    offsets = [np.zeros((layer.depth, len(x), layer.units)) for _ in range(2)]

    def loss(dh, dc):
        with probing({layer: {"depth": Probe((dh, dc), cut)}}):
            return ops.sum(layer(x))

    return gradients_of(loss, (), offsets)


def test_probe_offsets_give_state_gradients(in_float64):
    layer = UnfoldedLSTMBlock(2, 3, dtype="float64")
    x = inputs(2, FEATURES, dtype="float64")
    layer.build(x.shape)
    value, _, (by_h, by_c) = probed_gradients(layer, x, None)
    np.testing.assert_allclose(value, numpy_of(ops.sum(layer(x))), rtol=1e-12)
    np.testing.assert_allclose(by_h[-1], 1.0)  # the last h is the output
    assert (by_c[-1] > 0).all()  # h_L = o tanh(c_L)
    for which, gradient in enumerate((by_h, by_c)):
        offsets = [np.zeros((3, 2, 2)) for _ in range(2)]
        sides = []
        for shift in (1e-6, -1e-6):
            offsets[which][0, 1, 0] = shift
            probe = Probe(tuple(map(ops.convert_to_tensor, offsets)))
            with probing({layer: {"depth": probe}}):
                sides.append(float(numpy_of(ops.sum(layer(x)))))
        np.testing.assert_allclose(gradient[0, 1, 0], (sides[0] - sides[1]) / 2e-6, rtol=1e-6)


def test_probe_cut_leaves_one_path(in_float64):
    layer = UnfoldedLSTMBlock(2, 3, dtype="float64", bias_initializer="random_normal")
    x = inputs(2, FEATURES, dtype="float64")
    layer.build(x.shape)
    w = weights_of(layer)
    output = numpy_of(layer(x))

    value, _, (by_h, by_c) = probed_gradients(layer, x, "hidden")
    np.testing.assert_allclose(value, output.sum())  # a cut changes gradients only
    np.testing.assert_array_equal(by_h[:-1], 0.0)
    # Along the memory alone, dc_l/dc_{l-1} is the forget gate of step l.
    steps, _ = reference.unfolded_lstm(x, w, units=2, depth=3)
    forget = [
        reference.sigmoid(steps[:, step - 1] @ w["recurrent_kernel"][step - 1] + w["bias"][step])[
            :, 2:4
        ]
        for step in (1, 2)
    ]
    np.testing.assert_allclose(by_c[1], forget[1] * by_c[2], rtol=1e-10)
    np.testing.assert_allclose(by_c[0], forget[0] * forget[1] * by_c[2], rtol=1e-10)

    _, _, (by_h, by_c) = probed_gradients(layer, x, "memory")
    assert (np.abs(by_h) > 1e-9).all()
    # c_l then acts through its own h_l only.
    assert (np.sign(by_c) == np.sign(by_h)).all()


def test_float_and_integer_inputs_are_cast():
    layer = UnfoldedLSTMBlock(UNITS, 2)
    x = np.arange(6, dtype="uint8").reshape(2, 3)
    np.testing.assert_allclose(numpy_of(layer(x)), numpy_of(layer(x.astype("float32"))), atol=1e-7)


WRONG = [
    ({"units": 0}, "Argument `units` must be a positive integer. Received: units=0"),
    ({"units": "8"}, "Argument `units` must be a positive integer. Received: units='8' (of type"),
    ({"units": True}, "Argument `units` must be a positive integer. Received: units=True"),
    ({"depth": -1}, "Argument `depth` must be a positive integer. Received: depth=-1"),
    ({"depth": 2.5}, "Argument `depth` must be a positive integer. Received: depth=2.5"),
    ({"depth": 10**9}, "Argument `depth` must be at most 10000. Received: depth=1000000000"),
    ({"dropout": 1.7}, "Argument `dropout` must be a float in the range [0, 1)."),
    ({"dropout": math.nan}, "Argument `dropout` must be a float in the range [0, 1)."),
    ({"tied": "depth"}, "Argument `tied` must be True or False. Received: tied='depth'"),
    ({"input_mode": "evry"}, "Received: input_mode='evry'. Did you mean 'every'?"),
    ({"normalization": "group"}, "`normalization` must be one of [None, 'batch', 'layer']"),
    ({"forget_bias": "deep"}, "Argument `forget_bias` must be a number, 'depth' or None."),
    ({"input_gate_bias": "deep"}, "Argument `input_gate_bias` must be a number, 'depth' or None."),
    ({"forget_bias": math.inf}, "Argument `forget_bias` must be a finite number"),
    ({"activation": "tahn"}, "tahn"),
    ({"input_mode": "state", "state_initializer": "noise"}, "`state_initializer` must be left out"),
    ({"unit": 3}, "Unrecognized keyword arguments"),
]  # fmt: skip


@pytest.mark.parametrize("config, message", WRONG, ids=lambda v: str(v)[:30])
def test_wrong_arguments_are_refused_by_the_constructor(config, message):
    with pytest.raises(ValueError) as error:
        UnfoldedLSTMBlock(**{"units": 4, "depth": 3, **config})
    assert message in str(error.value)


def test_undefined_or_changed_feature_axis_is_refused():
    with pytest.raises(ValueError, match="last dimension of the inputs to `UnfoldedLSTMBlock`"):
        UnfoldedLSTMBlock(4, 3).build((None, None))
    layer = UnfoldedLSTMBlock(4, 3)
    layer(inputs(2, 3))
    with pytest.raises(ValueError, match="expected axis -1"):
        layer(inputs(2, 5))


@pytest.mark.parametrize(
    "options",
    [{}, pytest.param({"normalization": "batch", "dropout": 0.1}, marks=pytest.mark.long)],
    ids=str,
)
def test_depth_1000_trains_and_survives_a_file(options, tmp_path):
    model = keras.Sequential([keras.Input((FEATURES,)), UnfoldedLSTMBlock(2, 1000, **options)])
    model.compile("adam", "mse")
    before = model.get_weights()
    history = model.fit(inputs(), np.zeros((ROWS, 2)), verbose=0)
    assert np.isfinite(history.history["loss"][0])
    # Not all: without normalization the memory of so many steps can saturate tanh.
    assert any((a != b).any() for a, b in zip(before, model.get_weights(), strict=True))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    both = [each.predict(inputs(), verbose=0) for each in (model, loaded)]
    np.testing.assert_array_equal(*both)
