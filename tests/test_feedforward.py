import keras
import numpy as np
import pytest
import reference
from keras import ops

from keras_deeplstm.diagnostics import gradient_check
from keras_deeplstm.layers import DenseStack

pytestmark = pytest.mark.backends


def test_dense_stack_equals_numpy_reference():
    layer = DenseStack(4, 5, return_all_steps=True, bias_initializer="random_normal")
    x = np.random.default_rng(0).normal(size=(6, 3)).astype("float32")
    output = ops.convert_to_numpy(layer(x))
    weights = {w.name: ops.convert_to_numpy(w) for w in layer.weights}
    expected = reference.dense_stack(x, weights, depth=5, activation=np.tanh)
    np.testing.assert_allclose(output, expected, atol=1e-5)


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


@pytest.mark.parametrize("tied", [False, True])
def test_dense_stack_gradients(tied):
    layer = DenseStack(3, 4, tied=tied, bias_initializer="random_normal")
    table = gradient_check(layer, np.random.default_rng(1).normal(size=(5, 2)))
    assert (table.relative_error < 1e-6).all(), table


@pytest.mark.parametrize("depth", [1, 2])
def test_dense_stack_config_round_trip_and_counts(depth):
    layer = DenseStack(4, depth, dropout=0.2, seed=3, recurrent_initializer="orthogonal")
    again = DenseStack.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    layer(np.zeros((2, 3), "float32"), training=True)
    assert layer.count_params() == 3 * 4 + 4 + (depth - 1) * (4 * 4 + 4)
    assert layer.weight_shapes(3) == {w.name: tuple(w.shape) for w in layer.weights}
