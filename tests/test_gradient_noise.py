"""The gradient noise scale, against NumPy and against a distribution whose noise is known."""

import json

import keras
import numpy as np
import pandas as pd
import pytest

from keras_deeplstm.callbacks import GradientFlow, GradientNoise
from keras_deeplstm.callbacks.gradient_tables import noise_scale
from keras_deeplstm.layers import UnfoldedLSTMBlock

pytestmark = pytest.mark.backends

RNG = np.random.default_rng(0)
X = RNG.normal(size=(10, 3)).astype("float32")
Y = RNG.normal(size=(10, 1)).astype("float32")


def linear(learning_rate=0.0):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, name="dense")])
    model.compile(keras.optimizers.SGD(learning_rate), "mse")
    model.set_weights([np.array([[1.0], [-2.0], [0.5]]), np.array([0.3])])
    return model


def fit(model, *callbacks, **options):
    options = {"batch_size": 4, "shuffle": False, "verbose": 0, **options}
    return model.fit(X, Y, callbacks=list(callbacks), **options)


def test_both_estimates_equal_numpy():
    """Batches of 4, 4 and 2 examples, whose gradients are known."""
    model, noise = linear(), GradientNoise()
    fit(model, noise)
    kernel, bias = model.get_weights()
    gradients = []
    for rows in (slice(0, 4), slice(4, 8), slice(8, 10)):
        slope = 2 * (X[rows] @ kernel + bias - Y[rows]) / len(X[rows])
        gradients.append({"kernel": X[rows].T @ slope, "bias": slope.sum(axis=0)})
    frame = noise.to_frame()
    assert set(frame.layer) == {"dense"} and frame.step.unique().tolist() == [2, 3]
    for step, share, first, second in ((2, 1 / 2, *gradients[:2]), (3, 3 / 4, *gradients[1:])):
        for weight, g1 in first.items():
            g2 = second[weight]
            found = frame[(frame.step == step) & (frame.weight == weight)]
            expected = {"signal": np.sum(g1 * g2), "noise": np.sum((g1 - g2) ** 2) / share}
            found = found.set_index("statistic").value.to_dict()
            assert found == pytest.approx(expected, rel=1e-4)


def test_of_equal_batches_all_is_signal_at_each_depth_step():
    model = keras.Sequential([keras.Input((3,)), UnfoldedLSTMBlock(4, 5), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.0), "mse")
    noise, flow = GradientNoise(), GradientFlow()
    x, y = np.tile(X[:4], (2, 1)), np.tile(Y[:4], (2, 1))
    model.fit(x, y, batch_size=4, shuffle=False, verbose=0, callbacks=[noise, flow])
    frame, norms = noise.to_frame(), flow.to_frame()
    norms = norms[norms.step == 2]
    assert (frame[frame.statistic == "noise"].value == 0).all()
    signal = frame[frame.statistic == "signal"]
    for column in ("layer", "weight"):
        assert signal[column].tolist() == norms[column].tolist()
    np.testing.assert_array_equal(signal.depth, norms.depth)
    np.testing.assert_allclose(signal.value, norms.value**2, rtol=1e-4)
    assert noise.noise_scale() == 0


def test_the_scale_of_a_known_distribution():
    """g = 2 (w - y) with y from N(0, 1) and w = 0.5: G = 1, the variance is 4."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    model.compile(keras.optimizers.SGD(0.0), "mse")
    model.set_weights([np.array([[0.5]])])
    y = np.random.default_rng(1).normal(size=(6400, 1))
    noise = GradientNoise()
    model.fit(np.ones((6400, 1)), y, batch_size=8, verbose=0, callbacks=[noise])
    frame = noise.to_frame()
    means = frame.groupby("statistic").value.mean()
    assert means.to_dict() == pytest.approx({"signal": 1, "noise": 4}, rel=0.15)
    assert len(frame) == 2 * 799 and 2 < noise.noise_scale() < 8
    line = noise.plot().lines[0]
    assert len(line.get_xdata()) == 10 and line.get_ydata()[-1] == noise.noise_scale()
    words = f"The gradient noise scale is {noise.noise_scale():.3g} examples, by 79 pairs of steps."
    assert noise.verdict() == words


def test_a_gradient_that_is_lost_in_its_noise():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    model.compile(keras.optimizers.SGD(0.0), "mse")
    model.set_weights([np.zeros((1, 1))])
    noise = GradientNoise()
    assert noise.verdict() == "No pairs of consecutive steps were recorded."
    assert np.isnan(noise.noise_scale()) and len(noise.plot().lines[0].get_xdata()) == 0
    model.fit(
        np.ones((2, 1)), np.array([[1.0], [-1.0]]), batch_size=1, verbose=0, callbacks=[noise]
    )
    assert np.isnan(noise.noise_scale())  # g1 . g2 = -4
    sentence = "The gradient is lost in its noise: by 1 pair of steps it is not above 0."
    assert noise.verdict() == sentence


def test_schedule_state_and_what_is_handed_on():
    weights = []
    logged = []
    noise = GradientNoise(every=4, log=lambda values, step: logged.append((step, values)))
    for callbacks in ([], [noise, GradientFlow()]):
        model = linear(0.1)
        fit(model, *callbacks, epochs=3)
        weights.append(model.get_weights())
    for one, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, other)
    frame = noise.to_frame()
    assert frame.step.unique().tolist() == [2, 5, 9]  # pairs that begin at 1, 4 and 8
    assert [step for step, _ in logged] == [2, 5, 9]
    assert logged[0][1]["gradient_noise/dense/kernel"] == frame.value.iloc[1]
    other = GradientNoise(every=4)
    state = noise.get_state()
    json.dumps(state["layouts"])
    other.set_state(state)
    fit(model, other)
    assert other.to_frame().step.unique().tolist() == [2, 5, 9]  # of 12 only the first step was run
    if keras.backend.backend() != "torch":  # where Keras itself refuses it
        model.compile("sgd", "mse", steps_per_execution=2)
        with pytest.raises(ValueError, match=r"consecutive steps.*steps_per_execution=2"):
            fit(model, GradientNoise())


@pytest.mark.parametrize(
    ("recorded", "parts", "expected"),
    [(9, 10, [9]), (19, 10, [19]), (25, 10, [13, 12]), (200, 10, [20] * 10), (200, 2, [100] * 2)],
)
def test_no_part_of_training_has_fewer_than_ten_pairs(recorded, parts, expected):
    steps = np.repeat(np.arange(recorded), 2)
    frame = pd.DataFrame({"step": steps, "statistic": ["signal", "noise"] * recorded})
    frame["value"] = np.tile([1.0, 3.0], recorded)
    scales = noise_scale(frame, parts)
    assert scales["pairs"].tolist() == expected
    assert scales["noise_scale"].tolist() == [3.0] * len(expected)
