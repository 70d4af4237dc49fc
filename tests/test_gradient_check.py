import keras
import numpy as np
import pytest
from keras import ops

from keras_deeplstm import models
from keras_deeplstm.diagnostics import float64, gradient_check
from keras_deeplstm.layers import GridLSTM2D

pytestmark = pytest.mark.backends


@keras.saving.register_keras_serializable(package="tests")
class WrongGradient(keras.layers.Layer):
    """y = sum of w^2 x, with a gradient that takes w^2 for w."""

    def build(self, shape):
        self.w = self.add_weight(shape=(), initializer="ones", name="w")

    def call(self, x):
        squared = ops.square(self.w)
        return x * (self.w + ops.stop_gradient(squared - self.w))


def test_right_gradients_pass_and_wrong_ones_show():
    x = np.random.default_rng(0).normal(size=(4, 3))
    assert (gradient_check(keras.layers.Dense(2, activation="tanh"), x).relative_error < 1e-8).all()
    table = gradient_check(WrongGradient(), x).set_index("weight")
    assert table.relative_error["wrong_gradient/w"] == pytest.approx(0.5, abs=0.01)
    assert table.relative_error["input"] < 1e-8


def test_a_model_with_two_inputs_is_checked_and_left_alone():
    a, b = keras.Input((3,)), keras.Input((2,))
    merged = keras.layers.Concatenate()([keras.layers.Dense(4, activation="tanh")(a), b])
    model = keras.Model([a, b], keras.layers.Dense(2)(merged))
    before = [w.copy() for w in model.get_weights()]
    rng = np.random.default_rng(0)
    x, y = [rng.normal(size=(5, 3)), rng.normal(size=(5, 2))], rng.normal(size=(5, 2))
    table = gradient_check(model, x, y)
    assert list(table.weight)[-2:] == ["input 0", "input 1"] and len(table) == 6
    assert (table.relative_error < 1e-8).all(), table
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert model.dtype == "float32"


def test_tokens_have_no_gradient():
    model = models.character_language_model(7, depth=1, units=3)
    tokens = np.random.default_rng(0).integers(0, 7, (2, 4))
    table = gradient_check(model, tokens)
    assert len(table) == len(model.trainable_variables) and "input" not in set(table.weight)
    assert (table.relative_error < 1e-6).all(), table


def test_the_weights_of_a_built_layer_are_those_checked():
    layer = keras.layers.Dense(1, use_bias=False)
    layer.build((None, 1))
    layer.set_weights([np.array([[3.0]])])
    # loss = mean((3 x - y)^2) / 2, so that d/dw = mean(x (3 x - y)) = (3 + 2 * 4) / 2
    table = gradient_check(layer, np.array([[1.0], [2.0]]), y=np.array([[0.0], [2.0]]))
    assert table.largest_gradient[0] == pytest.approx((1 * 3 + 2 * 4) / 2)


def test_float64_is_real_and_ends():
    x = np.full((1, 1), 1 / 3)
    with float64():
        y = keras.layers.Dense(1, kernel_initializer="ones", dtype="float64")(x)
        assert float(ops.convert_to_numpy(y)[0, 0]) == 1 / 3
    expected = "float64" if keras.backend.backend() == "tensorflow" else "float32"
    assert keras.backend.result_type("float64", "float64") == expected


def test_wrong_arguments():
    with pytest.raises(ValueError, match="`entries` must be a positive integer"):
        gradient_check(keras.layers.Dense(1), np.ones((1, 1)), entries=0)
    with pytest.raises(ValueError, match="`step` must be a positive number"):
        gradient_check(keras.layers.Dense(1), np.ones((1, 1)), step=0.0)


def test_states_that_a_call_carries_on_change_no_other_call():
    grid = GridLSTM2D(3, 2, stateful=True)
    table = gradient_check(grid, np.random.default_rng(0).normal(size=(2, 4, 3)))
    assert table.relative_error.max() < 1e-6
