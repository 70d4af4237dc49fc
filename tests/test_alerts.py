"""What goes wrong in a network raises its alert and no other; a healthy one raises none."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_deeplstm import models
from keras_deeplstm.callbacks import Alert, Alerts, GradientFlow, SignalFlow
from keras_deeplstm.experiments import get_task
from keras_deeplstm.initializers import GateBias
from keras_deeplstm.layers import DenseStack, UnfoldedLSTMBlock

pytestmark = pytest.mark.backends

RNG = np.random.default_rng(0)
X = RNG.normal(size=(32, 6)).astype("float32")
Y = RNG.normal(size=(32, 2)).astype("float32")
STATISTICS = ("norm", "update_ratio")


def alerts_of(*layers, optimizer=None, epochs=2, **thresholds):
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((6,)), *layers, keras.layers.Dense(2, name="readout")])
    model.compile(optimizer or keras.optimizers.Adam(1e-3), "mse")
    recorders = GradientFlow(statistics=STATISTICS), SignalFlow(X[:16])
    found = []
    alerts = Alerts(*recorders, action=found.append, **thresholds)
    model.fit(X, Y, batch_size=8, epochs=epochs, verbose=0, callbacks=[*recorders, alerts])
    assert alerts.found == found and all(isinstance(alert, Alert) for alert in found)
    return found


def kinds(found):
    return [(alert.kind, alert.layer) for alert in found]


def test_a_gradient_that_vanishes():
    found = alerts_of(DenseStack(8, 20, activation="sigmoid", name="deep"))
    assert kinds(found) == [("vanishing", "")]
    assert found[0].message.startswith("The gradient vanishes: at the first depth step it is ")
    assert found[0].step == 4


def test_a_gradient_that_explodes():
    gain = keras.initializers.Orthogonal(gain=4.0, seed=1)
    stack = DenseStack(32, 30, activation="tanh", recurrent_initializer=gain, name="deep")
    assert kinds(alerts_of(stack)) == [("exploding", "")]


def test_dead_units():
    def some_low(shape, dtype=None):
        return ops.where(ops.arange(shape[0]) < 6, -100.0, 0.5)

    found = alerts_of(keras.layers.Dense(8, "relu", bias_initializer=some_low, name="low"))
    assert kinds(found) == [("dead", "low")]
    assert found[0].message == ("In layer 'low' 75% of the units are dead: 0 for every example.")
    assert alerts_of(keras.layers.Dense(8, "relu", bias_initializer=some_low), dead=0.8) == []


@pytest.mark.parametrize("biases, gate", [((9, 1, 0, 0), "input"), ((0, 1, 0, 9), "output")])
def test_saturated_gates(biases, gate):
    block = UnfoldedLSTMBlock(
        8, 3, bias_initializer=GateBias(*biases), forget_bias=None, name="block"
    )
    found = alerts_of(block)
    assert kinds(found) == [("saturated", "block")]
    assert found[0].message == f"In layer 'block', depth 1, 100% of the {gate} gates are open."


def test_the_layer_below_which_a_gradient_is_nan():
    class Root(keras.layers.Layer):
        def call(self, x):
            return 1 + ops.sqrt(0 * ops.square(x))  # its derivative is infinity times 0

    layers = [keras.layers.Dense(4, name=name) for name in ("first", "below", "above")]
    found = alerts_of(layers[0], layers[1], Root(), layers[2])
    assert {alert.kind for alert in found} == {"not finite"}
    assert found[0].layer == "below" and "gradient" in found[0].message


def test_steps_that_are_too_large_or_too_small():
    for rate, words in ((1.0, "more than 0.3"), (1e-12, "less than 1e-07")):
        optimizer = keras.optimizers.Adam(rate)
        found = alerts_of(keras.layers.Dense(4, name="first"), optimizer=optimizer)
        assert {alert.kind for alert in found} == {"update"}, found
        assert words in found[0].message


def test_a_healthy_network_raises_none_and_each_alert_is_given_once(recwarn):
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
    found = alerts_of(DenseStack(8, 20, activation="sigmoid"), epochs=4)
    assert kinds(found) == [("vanishing", "")]


def test_warnings_and_wrong_use():
    model = keras.Sequential([keras.Input((6,)), DenseStack(8, 20, activation="sigmoid")])
    model.compile("adam", "mse")
    flow = GradientFlow()
    with pytest.warns(UserWarning, match="Training step 1: The gradient vanishes"):
        model.fit(X, X[:, :1], verbose=0, callbacks=[flow, Alerts(flow)])
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
