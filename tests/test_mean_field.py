import keras
import numpy as np
import pytest

from keras_deeplstm import models
from keras_deeplstm.diagnostics import mean_field_gradients, state_gradients
from keras_deeplstm.layers import DenseStack, UnfoldedLSTMBlock

CHRONO = {"input_gate_bias": "depth"}


def predicted(layer, x, state):
    table = mean_field_gradients(layer, x)
    assert table[table["state"] == state]["depth"].tolist() == list(range(1, layer.depth + 1))
    return table[table["state"] == state]["value"].to_numpy()


@pytest.mark.backends
@pytest.mark.parametrize(
    "biases",
    [{}, CHRONO, pytest.param({"forget_bias": 1.0}, marks=pytest.mark.long)],
    ids=["default", "chrono", "1"],
)
def test_the_gradient_of_a_wide_layer_is_as_predicted(biases):
    """The norms of one draw of 200 units, step by step, over up to four powers of ten."""
    keras.utils.set_random_seed(0)
    model = models.classifier((64,), 10, depth=30, units=200, **biases)
    model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    rng = np.random.default_rng(0)
    x, y = rng.uniform(size=(16, 64)), rng.integers(0, 10, 16)
    measured = state_gradients(model, x, y).query("path == 'total'")
    last = measured.query("state == 'h'")["value"].iloc[-1]
    for state in "hc":
        norms = measured[measured["state"] == state]["value"].to_numpy() / last
        np.testing.assert_allclose(norms, predicted(model.get_layer("block"), x, state), rtol=0.1)


def test_without_recurrence_the_gradient_shrinks_by_the_forget_gate():
    block = UnfoldedLSTMBlock(3, 6, recurrent_initializer="zeros", forget_bias=0.5)
    block.build((None, 2))
    x = np.random.default_rng(0).normal(size=(4, 2))
    c = predicted(block, x, "c")
    # z of the first step is drawn; from the second on every gate is what its bias makes it.
    np.testing.assert_allclose(c[:-2] / c[1:-1], 1 / (1 + np.exp(-0.5)), rtol=1e-2)
    np.testing.assert_array_equal(predicted(block, x, "h"), [0, 0, 0, 0, 0, 1])


def test_one_step_has_the_gradient_through_its_output_gate():
    block = UnfoldedLSTMBlock(3, 1, kernel_initializer="zeros")
    block.build((None, 2))
    x = np.ones((4, 2))
    np.testing.assert_array_equal(predicted(block, x, "h"), [1])
    # Of a memory of 0: the output gate 1/2, the slope of tanh 1, of 4,000 normal numbers.
    np.testing.assert_allclose(predicted(block, x, "c"), [0.5], rtol=0.05)


@pytest.mark.parametrize(
    "layer, message",
    [
        (UnfoldedLSTMBlock(3, 2, tied=True), "for `tied=False`. Received: True"),
        (UnfoldedLSTMBlock(3, 2, normalization="layer"), "for `normalization=None`"),
        (UnfoldedLSTMBlock(3, 2, activation="relu"), "the activations tanh and sigmoid"),
        (DenseStack(3, 2), "must be an UnfoldedLSTMBlock that is built"),
    ],
    ids=["tied", "normalization", "activation", "another layer"],
)
def test_what_it_cannot_predict(layer, message):
    layer.build((None, 2))
    with pytest.raises(ValueError, match=message):
        mean_field_gradients(layer, np.ones((4, 2)))


def test_a_batch_of_another_shape():
    block = UnfoldedLSTMBlock(3, 2)
    with pytest.raises(ValueError, match="is built"):
        mean_field_gradients(block, np.ones((4, 2)))
    block.build((None, 2))
    with pytest.raises(ValueError, match=r"`x` must be a batch of shape \(batch, features\)"):
        mean_field_gradients(block, np.ones((4, 2, 2)))
