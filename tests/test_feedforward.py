import keras
import numpy as np
import pytest
import reference
from keras import ops

from keras_deeplstm.diagnostics import float64, gradient_check
from keras_deeplstm.layers import DenseStack, HighwayBlock, ResidualBlock
from keras_deeplstm.layers.residual_block import KINDS

pytestmark = pytest.mark.backends

BLOCKS = {DenseStack: reference.dense_stack, HighwayBlock: reference.highway,
          ResidualBlock: reference.residual}  # fmt: skip
STEPS = 4
SHRUNK = 16**-0.25  # (4 * STEPS) ** -1/4


def randomized(layer, features, seed=2):
    """The layer, built, with all weights drawn, so that none is zero or one."""
    layer.build((None, features))
    rng = np.random.default_rng(seed)
    for weight in layer.weights:
        weight.assign(rng.uniform(0.3, 1.0, weight.shape) * rng.choice([-1, 1], weight.shape))
    return layer


def weights_of(layer):
    return {w.name: np.array(ops.convert_to_numpy(w)) for w in layer.weights}


@pytest.mark.parametrize("block", BLOCKS, ids=lambda b: b.__name__)
@pytest.mark.parametrize("dtype, tolerance", [("float32", 1e-5), ("float64", 1e-12)])
def test_block_equals_numpy_reference(block, dtype, tolerance):
    with float64():
        layer = block(4, 5, activation="tanh", return_all_steps=True, dtype=dtype)
        randomized(layer, 3)
        x = np.random.default_rng(0).normal(size=(6, 3)).astype(dtype)
        output = ops.convert_to_numpy(layer(x))
        options = {"activation": np.tanh} if block is DenseStack else {}
        expected = BLOCKS[block](x, weights_of(layer), depth=5, **options)
        np.testing.assert_allclose(output, expected, atol=tolerance)
        last = block.from_config({**layer.get_config(), "return_all_steps": False})
        last.build(x.shape)
        last.set_weights(layer.get_weights())
        np.testing.assert_allclose(ops.convert_to_numpy(last(x)), expected[:, -1], atol=tolerance)


def test_dense_stack_equals_a_chain_of_keras_dense():
    stack = DenseStack(4, 3, activation="relu", kernel_initializer="he_normal")
    x = np.random.default_rng(0).normal(size=(6, 3)).astype("float32")
    output = ops.convert_to_numpy(stack(x))
    kernels = [ops.convert_to_numpy(stack.kernel), *ops.convert_to_numpy(stack.recurrent_kernel)]
    for kernel, bias in zip(kernels, ops.convert_to_numpy(stack.bias), strict=True):
        dense = keras.layers.Dense(4, activation="relu")
        dense.build(x.shape)
        dense.set_weights([kernel, bias])
        x = ops.convert_to_numpy(dense(x))
    np.testing.assert_allclose(output, x, atol=1e-6)


def test_he_initialization_has_the_fan_of_one_layer():
    stack = DenseStack(100, 20, activation="relu", kernel_initializer="he_normal")
    stack.build((None, 50))
    kernels = ops.convert_to_numpy(stack.recurrent_kernel)
    # 10,000 draws a layer: the standard deviation of the estimate is 0.7 %.
    np.testing.assert_allclose(kernels.std(axis=(1, 2)), np.sqrt(2 / 100), rtol=0.05)
    assert np.abs(kernels[0] - kernels[1]).max() > 0.1


def test_each_regularizer_has_weights_of_its_own():
    """`kernel_regularizer` is of the first layer, `recurrent_regularizer` of the others."""
    for role, name in (("kernel", "kernel"), ("recurrent", "recurrent_kernel"), ("bias", "bias")):
        layer = DenseStack(3, 4, **{f"{role}_regularizer": keras.regularizers.L2(1.0)})
        randomized(layer, 2)
        expected = np.sum(weights_of(layer)[name] ** 2)
        np.testing.assert_allclose([float(loss) for loss in layer.losses], [expected], rtol=1e-6)


def test_highway_starts_nearly_as_the_identity():
    block = HighwayBlock(8, 30, transform_bias=-20.0, return_all_steps=True)
    steps = ops.convert_to_numpy(block(np.random.default_rng(0).normal(size=(5, 3))))
    np.testing.assert_allclose(steps[:, -1], steps[:, 0], atol=1e-6)
    bias = ops.convert_to_numpy(block.bias)
    np.testing.assert_array_equal(bias, [[0] * 8 + [-20] * 8] * 29)


@pytest.mark.parametrize("kind", KINDS[1:])
def test_kinds_of_residual_networks_equal_numpy_reference(kind):
    with float64():
        layer = ResidualBlock(4, 5, kind=kind, return_all_steps=True, dtype="float64")
        randomized(layer, 3)
        x = np.random.default_rng(0).normal(size=(6, 3))
        expected = reference.residual(x, weights_of(layer), depth=5, kind=kind)
        np.testing.assert_allclose(ops.convert_to_numpy(layer(x)), expected, atol=1e-12)


@pytest.mark.parametrize(
    "kind, kernel, output_kernel, weight",
    [
        ("pre", 1.0, 1.0, None),
        ("deepnorm", SHRUNK, SHRUNK, None),
        ("rezero", 1.0, 1.0, 0.0),
        ("skipinit", 1.0, 1.0, STEPS**-0.5),
        ("fixup", STEPS**-0.5, 0.0, 1.0),
    ],
)
@pytest.mark.parametrize("tied", [False, True])
def test_what_residual_networks_start_with(kind, kernel, output_kernel, weight, tied):
    """Sizes of the matrices, compared with those of He, and the number that weighs a step."""
    layer = ResidualBlock(
        *(100, STEPS + 1), kind=kind, kernel_initializer="he_normal", seed=1, tied=tied
    )
    layer.build((None, 3))
    w = weights_of(layer)
    for name, expected in (("recurrent_kernel", kernel), ("output_kernel", output_kernel)):
        size = w[name].std() / np.sqrt(2 / 100)  # of 10,000 draws: known to 0.7 %
        np.testing.assert_allclose(size, expected, rtol=0.03)
    assert ("residual_weight" in w) == (weight is not None)
    if weight is not None:
        expected = np.full((1,) if tied else (STEPS, 1), weight)
        np.testing.assert_allclose(w["residual_weight"], expected, rtol=1e-6)


@pytest.mark.parametrize("kind", ["rezero", "fixup"])
def test_residual_networks_that_start_as_the_identity(kind):
    block = ResidualBlock(8, 30, kind=kind, return_all_steps=True, activation="relu")
    steps = ops.convert_to_numpy(block(np.random.default_rng(0).normal(size=(5, 3))))
    np.testing.assert_array_equal(steps, np.repeat(steps[:, :1], 30, axis=1))


@pytest.mark.parametrize(
    "kind",
    [k if k in ("deepnorm", "four-layer") else pytest.param(k, marks=pytest.mark.long)
     for k in KINDS[1:]],
)  # fmt: skip
def test_gradients_of_residual_networks(kind):
    layer = randomized(ResidualBlock(3, 4, kind=kind, tied=kind == "four-layer"), 2)
    table = gradient_check(layer, np.random.default_rng(1).normal(size=(5, 2)), entries=6)
    assert (table.relative_error < 1e-6).all(), table


@pytest.mark.parametrize("block", BLOCKS, ids=lambda b: b.__name__)
@pytest.mark.parametrize("tied", [False, True])
def test_gradients_equal_finite_differences(block, tied):
    layer = randomized(block(3, 4, tied=tied), 2)
    table = gradient_check(layer, np.random.default_rng(1).normal(size=(5, 2)), entries=6)
    assert (table.relative_error < 1e-6).all(), table


@pytest.mark.parametrize("block", BLOCKS, ids=lambda b: b.__name__)
@pytest.mark.parametrize("depth", [1, 2, 4])
def test_config_counts_dropout_and_saved_file(block, depth, tmp_path):
    layer = block(4, depth, dropout=0.2, seed=3, recurrent_initializer="orthogonal")
    assert block.from_config(layer.get_config()).get_config() == layer.get_config()
    x = np.random.default_rng(0).normal(size=(6, 3)).astype("float32")
    model = keras.Sequential([keras.Input((3,)), layer])
    dropped = [ops.convert_to_numpy(layer(x, training=True)) for _ in range(2)]
    assert (block is ResidualBlock and depth == 1) or np.abs(dropped[0] - dropped[1]).max() > 1e-3
    assert layer.weight_shapes(3) == {w.name: tuple(w.shape) for w in layer.weights}
    per_step = {DenseStack: 4 * 4 + 4, HighwayBlock: 4 * 8 + 8, ResidualBlock: 2 * 4 * 4 + 4 * 4}
    output_norm = 8 if block is ResidualBlock else 0
    assert layer.count_params() == 3 * 4 + 4 + (depth - 1) * per_step[block] + output_norm
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(model.predict(x, verbose=0), loaded.predict(x, verbose=0))


def test_wrong_arguments():
    with pytest.raises(ValueError, match="`transform_bias` must be a finite number"):
        HighwayBlock(4, 3, transform_bias=float("nan"))
    with pytest.raises(ValueError, match="`epsilon` must be a positive number"):
        ResidualBlock(4, 3, epsilon=0.0)
    with pytest.raises(ValueError, match=r"`kind` must be one of .* Did you mean 'four-layer'"):
        ResidualBlock(4, 3, kind="layer")
    with pytest.raises(ValueError, match="Unrecognized keyword arguments"):
        HighwayBlock(4, 3, unit=3)
