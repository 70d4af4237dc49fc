"""How far a step moves the weights, and what clipping does to it, as seen from outside."""

import itertools

import keras
import numpy as np
import pytest
from keras import ops

from keras_deeplstm.callbacks import GradientFlow, gradient_tables
from keras_deeplstm.layers import UnfoldedLSTMBlock

pytestmark = pytest.mark.backends

BACKEND = keras.backend.backend()
RNG = np.random.default_rng(0)
X = RNG.normal(size=(8, 6)).astype("float32")
Y = RNG.normal(size=(8, 2)).astype("float32")
STEPS = 4


def build(optimizer, **options):
    keras.utils.set_random_seed(1)
    layers = [keras.layers.Dense(5, "tanh", kernel_constraint="max_norm"), UnfoldedLSTMBlock(4, 3)]
    model = keras.Sequential([keras.Input((6,)), *layers, keras.layers.Dense(2)])
    model.compile(optimizer, "mse", **options)
    return model


class Weights(keras.callbacks.Callback):
    """The trainable weights before the first step and after each."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_train_begin(self, logs=None):
        self._see()

    def on_train_batch_end(self, batch, logs=None):
        self._see()

    def _see(self):
        self.seen.append([ops.convert_to_numpy(w).copy() for w in self.model.trainable_weights])


def fit(model, *callbacks):
    x, y = np.tile(X, (STEPS, 1)), np.tile(Y, (STEPS, 1))
    x[:8] *= 3  # the first gradient is the largest
    model.fit(x, y, batch_size=8, shuffle=False, verbose=0, callbacks=list(callbacks))


def from_outside(model, seen):
    """|w1 - w0| / |w0| of each weight and depth step, for each training step."""
    ratios = []
    for before, after in itertools.pairwise(seen):
        for variable, w0, w1 in zip(model.trainable_variables, before, after, strict=True):
            steps = getattr(variable, "depth_steps", None)
            pairs = [(w0, w1)] if steps is None else zip(w0, w1, strict=True)
            with np.errstate(divide="ignore", invalid="ignore"):
                ratios += [np.linalg.norm(b - a) / np.linalg.norm(a) for a, b in pairs]
    return ratios


def recorded(flow, statistic):
    frame = flow.to_frame()
    return frame[frame.statistic == statistic].value.to_numpy()


OPTIMIZERS = {
    "sgd": lambda **options: keras.optimizers.SGD(0.1, momentum=0.9, **options),
    "adam": lambda **options: keras.optimizers.Adam(0.01, **options),
    "adamw": lambda **options: keras.optimizers.AdamW(0.01, **options),
    "lion": lambda **options: keras.optimizers.Lion(0.001, **options),
    "muon": lambda **options: keras.optimizers.Muon(0.01, **options),
}
OPTIONS = {
    "plain": {},
    "clipnorm": {"clipnorm": 0.1, "weight_decay": 0.01},
    "global_clipnorm": {"global_clipnorm": 0.2},
    "clipvalue": {"clipvalue": 0.01},
    "ema": {"use_ema": True, "ema_momentum": 0.5},
    "accumulated": {"gradient_accumulation_steps": 2, "clipnorm": 0.1},
}
FAST = {("adamw", "clipnorm")}


@pytest.mark.parametrize(
    "optimizer, options",
    [
        pytest.param(*pair, marks=[] if pair in FAST else [pytest.mark.long])
        for pair in ((optimizer, options) for optimizer in OPTIMIZERS for options in OPTIONS)
    ],
)
def test_update_ratios_are_those_seen_from_outside(optimizer, options):
    model = build(OPTIMIZERS[optimizer](**OPTIONS[options]))
    flow, weights = GradientFlow(statistics=("norm", "update_ratio")), Weights()
    fit(model, flow, weights)
    expected = np.reshape(from_outside(model, weights.seen), (STEPS, -1))
    if options == "accumulated":
        assert np.nan_to_num(expected[::2]).max() < 1e-6  # it only accumulates
        expected[::2] = np.nan
    found = recorded(flow, "update_ratio").reshape(STEPS, -1)
    # Biases are 0 before the first step, and float32 knows no smaller change of a weight.
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=1e-6)
    untouched = build(OPTIMIZERS[optimizer](**OPTIONS[options]))
    fit(untouched)
    for one, other in zip(model.get_weights(), untouched.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_averages_that_take_the_place_of_weights_are_no_update():
    """The optimizer puts them there at the third step; the step itself is that of one without."""
    ratios = []
    for frequency in (None, 3):
        optimizer = keras.optimizers.SGD(0.1, use_ema=True, ema_overwrite_frequency=frequency)
        model, flow, weights = build(optimizer), GradientFlow(statistics="update_ratio"), Weights()
        fit(model, flow, weights)
        ratios.append(recorded(flow, "update_ratio"))
        until = 3 * len(ratios[0]) // STEPS
    np.testing.assert_allclose(ratios[1][:until], ratios[0][:until], rtol=1e-5)
    seen = np.array(from_outside(model, weights.seen))[:until]
    finite = np.isfinite(seen)  # biases are 0 before the first step
    assert np.abs(seen - ratios[0][:until])[finite].max() > 1e-3


def test_a_step_that_dynamic_loss_scaling_skips_moves_nothing():
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1), initial_scale=2.0)
    model, flow = build(optimizer), GradientFlow(statistics="update_ratio")
    x, y = np.tile(X, (2, 1)), np.tile(Y, (2, 1))
    y[0] = np.inf
    model.fit(x, y, batch_size=8, shuffle=False, verbose=0, callbacks=[flow])
    first, second = np.split(recorded(flow, "update_ratio"), 2)
    assert np.nan_to_num(first).max() < 1e-6 < 1e-4 < np.nanmin(second)


@pytest.mark.parametrize("limit", [0.2, 1e3])
def test_global_clipping_is_one_factor_for_all(limit):
    model = build(keras.optimizers.SGD(0.01, global_clipnorm=limit))
    flow = GradientFlow(statistics=("norm", "clipped"))
    fit(model, flow)
    norms = recorded(flow, "norm").reshape(STEPS, -1)
    factors = np.minimum(1, limit / np.linalg.norm(norms, axis=1, keepdims=True))
    found = recorded(flow, "clipped").reshape(STEPS, -1)
    np.testing.assert_allclose(found, np.broadcast_to(factors, norms.shape), rtol=1e-5)
    table = gradient_tables.clipping(flow.to_frame())
    assert (table.share == (1.0 if limit < 1 else 0.0)).all()
    by_layer = flow.to_frame(by="layer")
    by_layer = by_layer[by_layer.statistic == "clipped"].value.to_numpy().reshape(STEPS, -1)
    np.testing.assert_allclose(by_layer, np.broadcast_to(factors, by_layer.shape), rtol=1e-5)


@pytest.mark.parametrize("name, limit", [("clipnorm", 0.01), ("clipvalue", 0.001)])
def test_clipping_by_variable_and_by_value(name, limit):
    model = build(keras.optimizers.SGD(0.1, **{name: limit}))
    flow, weights = GradientFlow(statistics=("norm", "clipped")), Weights()
    fit(model, flow, weights)
    # The readout has no constraint: SGD moves its kernel by the clipped gradient.
    layer = model.layers[-1].name
    frame = flow.to_frame()
    frame = frame[(frame.layer == layer) & (frame.weight == "kernel")]
    norm, clipped = (frame[frame.statistic == s].value.to_numpy() for s in ("norm", "clipped"))
    seen = [step[-2] for step in weights.seen]
    moved = [np.linalg.norm(b - a) / 0.1 for a, b in itertools.pairwise(seen)]
    np.testing.assert_allclose(clipped, moved / norm, rtol=1e-3)
    assert (clipped < 0.9).any()
    if name == "clipnorm":
        np.testing.assert_allclose(clipped, np.minimum(1, limit / norm), rtol=1e-5)


def test_while_gradients_are_accumulated_nothing_is_clipped():
    optimizer = keras.optimizers.SGD(0.1, clipnorm=0.01, gradient_accumulation_steps=2)
    model, flow, weights = build(optimizer), GradientFlow(statistics="clipped"), Weights()
    fit(model, flow, weights)
    frame = flow.to_frame()
    assert frame[frame.step % 2 == 1].value.isna().all()
    # The readout's kernel moves by the clipped mean of two gradients.
    moved = np.linalg.norm(weights.seen[4][-2] - weights.seen[3][-2]) / 0.1
    assert moved == pytest.approx(0.01, rel=1e-3)
    readout = frame[(frame.layer == model.layers[-1].name) & (frame.weight == "kernel")]
    assert 0 < readout[readout.step == 4].value.item() < 1
    assert (gradient_tables.clipping(readout).share == 1).all()
