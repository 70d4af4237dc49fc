"""What goes wrong in a network raises its alert and no other; a healthy one raises none."""

import keras
import numpy as np
import pandas as pd
import pytest
from keras import ops

from keras_deeplstm import models
from keras_deeplstm.callbacks import Alert, Alerts, GradientFlow, SignalFlow
from keras_deeplstm.callbacks.gradient_records import COLUMNS
from keras_deeplstm.experiments import get_task
from keras_deeplstm.initializers import GateBias
from keras_deeplstm.layers import DenseStack, UnfoldedLSTMBlock

pytestmark = pytest.mark.backends

RNG = np.random.default_rng(0)
X = RNG.normal(size=(32, 6)).astype("float32")
Y = RNG.normal(size=(32, 2)).astype("float32")
STATISTICS = ("norm", "update_ratio")


class Recorded:
    """A recorder that has recorded a frame."""

    def __init__(self, frame):
        self.to_frame = lambda: frame


def alerts_of(*layers, epochs=1):
    """The alerts of a training, and those that `Alerts` with other thresholds would give."""
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((6,)), *layers, keras.layers.Dense(2, name="readout")])
    model.compile(keras.optimizers.Adam(1e-3), "mse")
    recorders = GradientFlow(statistics=STATISTICS), SignalFlow(X[:16])
    found = []
    alerts = Alerts(*recorders, action=found.append)
    model.fit(X, Y, batch_size=16, epochs=epochs, verbose=0, callbacks=[*recorders, alerts])
    assert alerts.found == found and all(isinstance(alert, Alert) for alert in found)

    def with_thresholds(**thresholds):
        other = Alerts(*recorders, action=lambda alert: None, **thresholds)
        other.on_epoch_end(0)
        return other.found

    return found, with_thresholds


def kinds(found):
    return [(alert.kind, alert.layer) for alert in found]


def test_a_gradient_that_vanishes(eager):
    """Once, not in each epoch anew."""
    found, _ = alerts_of(DenseStack(8, 20, activation="sigmoid", name="deep"), epochs=3)
    assert kinds(found) == [("vanishing", "deep")]
    said = "The gradient of deep/recurrent_kernel vanishes: at the first depth step it is "
    assert found[0].message.startswith(said)
    assert found[0].step == 2


def test_a_gradient_that_explodes(eager):
    gain = keras.initializers.Orthogonal(gain=4.0, seed=1)
    stack = DenseStack(32, 30, activation="tanh", recurrent_initializer=gain, name="deep")
    assert kinds(alerts_of(stack)[0]) == [("exploding", "deep")]


def test_steps_that_only_accumulate_are_no_small_updates():
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(2, name="dense")])
    model.compile(keras.optimizers.SGD(0.1, gradient_accumulation_steps=4), "mse")
    flow = GradientFlow(statistics=STATISTICS)
    alerts = Alerts(flow, action=lambda alert: None)
    model.fit(X, Y, batch_size=4, verbose=0, callbacks=[flow, alerts])
    frame = flow.to_frame()
    kernel = frame[(frame.statistic == "update_ratio") & (frame.weight == "kernel")]
    assert np.isnan(kernel.value).tolist() == [True, True, True, False] * 2
    assert alerts.found == []


def test_of_several_blocks_the_one_that_vanishes_is_named(eager):
    layers = [
        DenseStack(8, 20, activation="sigmoid", name="bad"),
        UnfoldedLSTMBlock(8, 20, input_gate_bias="depth", name="good"),
    ]
    found = [layer for kind, layer in kinds(alerts_of(*layers)[0]) if kind == "vanishing"]
    assert found == ["bad"]


def test_dead_units(eager):
    def some_low(shape, dtype=None):
        return ops.where(ops.arange(shape[0]) < 6, -100.0, 0.5)

    layer = keras.layers.Dense(8, "relu", bias_initializer=some_low, name="low")
    found, with_thresholds = alerts_of(layer)
    assert kinds(found) == [("dead", "low")]
    assert found[0].message == ("In layer 'low' 75% of the units are dead: 0 for every example.")
    assert with_thresholds(dead=0.8) == []


def test_saturated_gates(eager):
    biases = {"bias_initializer": GateBias(0, 1, 0, 9), "forget_bias": None}
    found, with_thresholds = alerts_of(UnfoldedLSTMBlock(8, 3, name="block", **biases))
    assert kinds(found) == [("saturated", "block")]
    assert found[0].message == "In layer 'block', depth 1, 100% of the output gates are open."
    assert with_thresholds(saturated=1.0) == []


def test_the_layer_below_which_a_gradient_is_nan(eager):
    class Root(keras.layers.Layer):
        def call(self, x):
            return 1 + ops.sqrt(0 * ops.square(x))  # its derivative is infinity times 0

    layers = [keras.layers.Dense(4, name=name) for name in ("first", "below", "above")]
    found, _ = alerts_of(layers[0], layers[1], Root(), layers[2])
    assert {alert.kind for alert in found} == {"not finite"}
    assert found[0].layer == "below" and "gradient" in found[0].message


class Log(keras.layers.Layer):
    def call(self, x):
        return ops.log(x)


def test_the_step_and_the_layer_where_a_nan_appears():
    """On the way forward, at step 7: all that follows from it is no alert of its own."""
    layers = [keras.layers.Dense(6, "relu", name="below"), Log(name="log")]
    model = keras.Sequential([keras.Input((6,)), *layers, keras.layers.Dense(2, name="readout")])
    model.compile("sgd", "mse")
    x = np.ones((20, 6), "float32")
    x[12, 0] = -9  # relu(-9) = 0, log(0) = -infinity
    model.layers[0].set_weights([np.eye(6), np.zeros(6)])
    recorders = GradientFlow(keep=50), SignalFlow(keep=50), SignalFlow(x[:2], keep=50)
    alerts = Alerts(*recorders, action=lambda alert: None, keep=3)
    fit = {"batch_size": 2, "shuffle": False, "verbose": 0}
    model.fit(x, np.zeros((20, 2)), callbacks=[*recorders, alerts], **fit)
    (alert,) = alerts.found
    assert alert == ("not finite", "log", 7, "The signal of layer 'log' is not finite.")
    assert [frame.step.unique().tolist() for frame in alerts.kept[alert]] == [[5, 6, 7]] * 3
    assert {"norm", "dead"} <= set(alerts.kept[alert][1].statistic)


def test_recorders_that_keep_the_last_steps():
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(2)])
    model.compile("sgd", "mse")
    recorders = [GradientFlow(keep=3), SignalFlow(keep=3), SignalFlow(X[:2], every=4, keep=3)]
    model.fit(X, Y, batch_size=4, epochs=2, verbose=0, callbacks=recorders)
    steps = [recorder.to_frame().step.unique().tolist() for recorder in recorders]
    assert steps == [[14, 15, 16], [14, 15, 16], [8, 12, 16]]
    for recorder in (GradientFlow, SignalFlow):
        with pytest.raises(ValueError, match="`keep` must be a positive integer"):
            recorder(keep=0)


def test_steps_that_are_too_large_or_too_small():
    """Of kernels, by the median of the epoch: biases start at 0."""
    rows = [
        (step, layer, weight, np.nan, "update_ratio", value)
        for step, factor in ((1, 1.0), (2, 1.0), (3, 1000.0))
        for layer, weight, value in (
            ("large", "kernel", 0.4 * factor),
            ("small", "recurrent_kernel", 1e-8 * factor),
            ("small", "bias", np.inf),
            ("good", "kernel", 1e-3 * factor),
            ("good", "bias", 5.0),
        )
    ]
    recorded = Recorded(pd.DataFrame(rows, columns=COLUMNS))
    alerts = Alerts(recorded, action=lambda alert: None)
    alerts.on_epoch_end(0)
    assert kinds(alerts.found) == [("update", "large"), ("update", "small")]
    assert [alert.message for alert in alerts.found] == [
        "A step changes layer 'large' by 4.0e-01 of its norm, more than 0.3.",
        "A step changes layer 'small' by 1.0e-08 of its norm, less than 1e-07.",
    ]
    alerts = Alerts(recorded, largest_update=0.5, smallest_update=1e-9)
    alerts.on_epoch_end(0)
    assert alerts.found == []


def test_a_healthy_network_raises_none(recwarn):
    digits = get_task("digits").load(None)
    keras.utils.set_random_seed(0)
    model = models.classifier((8, 8, 1), 10, depth=30, units=32)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-3, clipnorm=1.0), loss)
    x, y = digits.train
    recorders = GradientFlow(statistics=STATISTICS, every=5), SignalFlow(x[:64], every=10)
    alerts = Alerts(*recorders)
    model.fit(x[:640], y[:640], batch_size=64, epochs=2, verbose=0, callbacks=[*recorders, alerts])
    assert alerts.found == []
    assert not [w for w in recwarn if str(w.message).startswith("Training step")]


def test_warnings_and_wrong_use():
    rows = [(7, "deep", "recurrent_kernel", d, "norm", v) for d, v in ((2, 1e-5), (9, 1.0))]
    flow = Recorded(pd.DataFrame(rows, columns=COLUMNS))
    with pytest.warns(UserWarning, match="step 7: The gradient of deep/recurrent_kernel vanishes"):
        Alerts(flow).on_epoch_end(0)
    with pytest.raises(ValueError, match="Pass the GradientFlow or SignalFlow callbacks"):
        Alerts()
    with pytest.raises(ValueError, match="Expected a GradientFlow or a SignalFlow"):
        Alerts("flow")
    with pytest.raises(ValueError, match="`action` must be 'warn' or a function"):
        Alerts(flow, action="shout")
    with pytest.raises(ValueError, match="Did you mean 'dead'"):
        Alerts(flow, daed=0.5)
    with pytest.raises(ValueError, match="dead"):
        Alerts(flow, dead=-1)
