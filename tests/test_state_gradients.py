import json
import logging
import re

import keras
import matplotlib
import numpy as np
import pandas as pd
import pytest
import reference
from keras import ops

from keras_deeplstm import models
from keras_deeplstm.callbacks import StateGradients, verdict
from keras_deeplstm.callbacks.gradient_plots import plot_paths
from keras_deeplstm.callbacks.gradient_tables import path_ratios, state_profile, state_ratios
from keras_deeplstm.callbacks.verdict import state_verdict
from keras_deeplstm.diagnostics import StateGradientProbe, state_gradients
from keras_deeplstm.diagnostics.autodiff import compiled
from keras_deeplstm.layers import DenseStack, GridLSTM2D, UnfoldedLSTMBlock

pytestmark = pytest.mark.backends

RNG = np.random.default_rng(0)
X = RNG.normal(size=(8, 3)).astype("float32")
Y = RNG.normal(size=(8, 2)).astype("float32")


def build(*layers, shape=(3,)):
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input(shape), *layers, keras.layers.Dense(2)])
    model.compile("sgd", "mse")
    return model


def curve(frame, state, path):
    return frame[(frame.state == state) & (frame.path == path)].value.to_numpy()


def test_three_curves_of_the_depth_lstm_against_numpy_backpropagation():
    """Backpropagation by hand through h and c, each path alone and together, and peepholes."""
    block = UnfoldedLSTMBlock(4, 5, bias_initializer="random_normal", peepholes=True)
    model = build(block)
    block.peephole.assign(RNG.normal(size=(5, 3, 4)))
    frame = state_gradients(model, X, Y)
    w = {v.name: np.array(ops.convert_to_numpy(v), "float64") for v in block.weights}
    readout, bias = (np.array(v, "float64") for v in model.layers[-1].get_weights())

    z, h, c = [], [np.zeros((8, 4))], [np.zeros((8, 4))]
    for step in range(5):
        pre = w["bias"][step] + (
            X @ w["kernel"] if step == 0 else h[-1] @ w["recurrent_kernel"][step - 1]
        )
        i, f, g, o = np.split(pre, 4, axis=1)
        p_i, p_f, p_o = w["peephole"][step]
        i, f = i + p_i * c[-1], f + p_f * c[-1]
        c.append(reference.sigmoid(f) * c[-1] + reference.sigmoid(i) * np.tanh(g))
        o = o + p_o * c[-1]
        h.append(reference.sigmoid(o) * np.tanh(c[-1]))
        z.append((i, f, g, o))
    top = 2 * (h[-1] @ readout + bias - Y) / Y.size @ readout.T

    for path in ("total", "hidden", "memory"):
        dh, dc = top, np.zeros_like(top)
        by_h, by_c = [], []
        for step in reversed(range(5)):
            i, f, g, o = z[step]
            p_i, p_f, p_o = w["peephole"][step]
            s = reference.sigmoid
            do = dh * np.tanh(c[step + 1]) * s(o) * (1 - s(o))
            dc = dc + dh * s(o) * (1 - np.tanh(c[step + 1]) ** 2) + do * p_o
            by_h.insert(0, np.linalg.norm(dh))
            by_c.insert(0, np.linalg.norm(dc))
            di = dc * np.tanh(g) * s(i) * (1 - s(i))
            df = dc * c[step] * s(f) * (1 - s(f))
            dz = np.concatenate([di, df, dc * s(i) * (1 - np.tanh(g) ** 2), do], axis=1)
            through_h = dz @ w["recurrent_kernel"][step - 1].T if step else 0 * dh
            dh = through_h if path != "memory" else 0 * dh
            dc = dc * s(f) + di * p_i + df * p_f if path != "hidden" else 0 * dc
        if path != "memory":
            np.testing.assert_allclose(curve(frame, "h", path), by_h, rtol=1e-4)
        if path != "hidden":
            np.testing.assert_allclose(curve(frame, "c", path), by_c, rtol=1e-4)
    assert set(frame.direction) == {"depth"} and frame.depth.max() == 5
    assert len(frame) == 4 * 5


def test_a_stack_without_memory_has_one_path():
    frame = state_gradients(build(DenseStack(4, 6)), X, Y)
    assert set(frame.path) == {"total"} and set(frame.state) == {"h"} and len(frame) == 6


@pytest.mark.parametrize("options", [{}, {"return_sequences": True}], ids=str)
def test_other_layers_by_time_against_finite_differences(options):
    sequences = RNG.normal(size=(8, 4, 3)).astype("float32")
    keras.utils.set_random_seed(1)
    lstm = keras.layers.LSTM(5, **options)
    last = [keras.layers.Flatten()] if options else []
    model = build(lstm, *last, shape=(4, 3))
    frame = state_gradients(model, sequences, Y, layer=lstm.name)
    by_input = curve(frame, "input", "total")
    assert frame[frame.state == "input"].time.tolist() == [1, 2, 3, 4]
    assert len(frame) == 4 + (4 if options else 1)

    loss = compiled(lambda x: model.compute_loss(x=x, y=Y, y_pred=model(x)), model.variables)
    gradient = np.zeros((8, 3))
    for index in np.ndindex(8, 3):
        sides = []
        for shift in (0.01, -0.01):
            moved = sequences.copy()
            moved[index[0], 2, index[1]] += shift
            sides.append(float(loss(moved)))
        gradient[index] = (sides[0] - sides[1]) / 0.02
    np.testing.assert_allclose(by_input[2], np.linalg.norm(gradient), rtol=2e-3)


def test_the_grid_has_both_directions():
    sequences = RNG.normal(size=(8, 4, 3)).astype("float32")
    model = models.sequence_regressor(3, 2, depth=3, units=5)
    model.compile("sgd", "mse")
    frame = state_gradients(model, sequences, Y)
    time = frame[frame.direction == "time"]
    assert len(time) == 4 * 3 * 4  # total h and c, hidden h, memory c; 3 layers; 4 times
    # Only the last time of the top layer's depth LSTM is read out.
    depth = frame[(frame.direction == "depth") & (frame.state == "h") & (frame.path == "total")]
    top = depth[depth.depth == 3].set_index("time").value
    assert top[4] > 0 and (top[[1, 2, 3]] == 0).all()


def test_the_model_is_not_touched(eager):
    model = build(UnfoldedLSTMBlock(4, 5, dropout=0.5, normalization="batch", seed=1))
    before = [np.array(ops.convert_to_numpy(v)) for v in model.variables]
    StateGradientProbe(model, X, Y).measure()
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(variable), value)
    weights = []
    for callbacks in ([], [StateGradients(X, Y)]):
        model = build(UnfoldedLSTMBlock(4, 5, dropout=0.5, normalization="batch", seed=1))
        history = model.fit(X, Y, batch_size=4, epochs=2, verbose=0, callbacks=callbacks)
        assert list(history.history) == ["loss"]
        weights.append(model.get_weights())
    for one, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_callback_measures_by_epoch_with_present_weights():
    model = build(UnfoldedLSTMBlock(4, 5))
    states = StateGradients(X, Y, every=2)
    model.fit(X, Y, batch_size=4, epochs=3, verbose=0, callbacks=[states])
    frame = states.to_frame()
    assert sorted(frame.epoch.unique()) == [0, 2, 3]
    now = state_gradients(model, X, Y)
    np.testing.assert_allclose(frame[frame.epoch == 3].value, now.value, rtol=1e-5)
    ax = states.plot()
    assert len(ax.lines) == 4 and ax.get_yscale() == "log"
    np.testing.assert_allclose(ax.lines[0].get_ydata(), curve(now, "h", "total"), rtol=1e-5)
    plot_paths(now)
    # The beginning is drawn dashed.
    ax = plot_paths(frame, epochs=(0, 3))
    styles = [(line.get_linestyle(), line.get_label()) for line in ax.lines]
    assert styles[1] == ("-", "dL/dh, total") and styles[0][0] == "--" and len(styles) == 8
    before = curve(frame[frame.epoch == 0], "h", "total")
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), before)
    matplotlib.pyplot.close("all")


def test_a_continued_callback_measures_as_one_that_was_not_interrupted(eager):
    def fit(states, first, last):
        settings = {"batch_size": 8, "shuffle": False, "verbose": 0}
        model.fit(X, Y, initial_epoch=first, epochs=last, callbacks=[states], **settings)

    frames = []
    for interrupted in (False, True):
        keras.utils.set_random_seed(1)
        model = build(DenseStack(4, 5, name="block"))
        states = StateGradients(X, Y, every=3)
        if interrupted:
            fit(states, 0, 3)
            state = json.loads(json.dumps(states.get_state()))
            states = StateGradients(X, Y, every=3)
            states.set_state(state)
            fit(states, 3, 4)
            again = StateGradients(X, Y, every=3)
            again.set_state(states.get_state())
            fit(again, 4, 4)  # no epoch is left
            pd.testing.assert_frame_equal(again.to_frame(), states.to_frame())
        else:
            fit(states, 0, 4)
        frames.append(states.to_frame())
    assert frames[0].epoch.unique().tolist() == [0, 3, 4]
    pd.testing.assert_frame_equal(*frames, check_exact=True)


def test_a_second_fit_measures_anew(eager):
    states = StateGradients(X, Y, every=5)
    frames = []
    for seed, first, last in ((0, 0, 3), (1, 0, 2), (2, 2, 4)):
        keras.utils.set_random_seed(seed)
        model = keras.Sequential([keras.Input((3,)), DenseStack(4, 5), keras.layers.Dense(2)])
        model.compile("sgd", "mse")
        probe = StateGradientProbe(model, X, Y)
        before = probe.measure().value
        model.fit(X, Y, initial_epoch=first, epochs=last, verbose=0, callbacks=[states])
        frame = states.to_frame().set_index("epoch").value
        np.testing.assert_allclose(frame[first], before, rtol=1e-5)
        np.testing.assert_allclose(frame[last], probe.measure().value, rtol=1e-5)
        frames.append(frame)
    assert [frame.index.unique().tolist() for frame in frames] == [[0, 3], [0, 2], [0, 2, 4]]
    np.testing.assert_array_equal(frames[2][0], frames[1][0])
    assert (frames[1][0].to_numpy() != frames[0][0].to_numpy()).all()


def test_profile_and_ratios_of_states():
    """By hand: two depth steps, two times, a memory path that carries 3/5 at the first step."""
    rows = [
        (0, "depth", "c", "total", 1, 1, 3.0),
        (0, "depth", "c", "total", 1, 2, 4.0),
        (0, "depth", "c", "total", 2, 1, 2.0),
        (0, "depth", "c", "memory", 1, 1, 3.0),
        (0, "depth", "h", "total", 1, 1, 7.0),
        (0, "time", "c", "total", 1, 1, 9.0),
    ]
    columns = ["epoch", "direction", "state", "path", "depth", "time", "value"]
    frame = pd.DataFrame(rows, columns=columns)
    profile = state_profile(frame)
    assert profile.value.tolist() == [5.0, 2.0, 3.0, 7.0]
    ratios = state_ratios(frame)
    assert ratios.loc[0].tolist() == [2.5, 0.6]
    # NaN at one time is NaN of that depth step.
    rows[1] = (*rows[1][:-1], np.nan)
    broken = pd.DataFrame(rows, columns=columns)
    np.testing.assert_array_equal(state_profile(broken).value, [np.nan, 2.0, 3.0, 7.0])
    assert state_ratios(broken).isna().all(axis=None)
    # Without a memory cell: dLoss/dh, here of one step.
    ratios = state_ratios(frame[frame.state == "h"])
    assert ratios.first_last[0] == 1 and np.isnan(ratios.memory[0])


def test_the_verdict_names_the_paths(eager):
    model = build(UnfoldedLSTMBlock(4, 20, forget_bias=6.0))
    from keras_deeplstm.callbacks import GradientFlow

    flow = GradientFlow()
    model.fit(X, Y, verbose=0, callbacks=[flow])
    states = state_gradients(model, X, Y)
    sentence = verdict(flow.to_frame(), states)
    # The product of 19 forget gates near sigmoid(6) = 0.9975 is above 0.9.
    found = re.search(
        "; through the memory path alone ([0-9.]+) times; through the hidden", sentence
    )
    assert 0.9 < float(found[1]) <= 1, sentence
    assert "; through the hidden path alone 10^-" in sentence
    of_states = state_verdict(states)
    memory = states[(states.state == "c") & (states.path == "total")].sort_values("depth").value
    assert of_states.startswith("The gradient of c ")
    assert f"at depth step 1 it is {memory.iloc[0] / memory.iloc[-1]:.2g} times" in of_states
    assert of_states.endswith(sentence[sentence.index("; through the memory path") :])
    for value, words in ((np.nan, "is not finite"), (0.0, "is zero at depth step 20")):
        assert words in state_verdict(states.assign(value=value))
    assert state_verdict(states[:0]) == "No gradients of states against depth were measured."


def test_paths_that_are_not_finite_cannot_be_told():
    for values in ([np.nan, 1.0], [np.inf, 1.0], [1.0, np.inf]):
        states = pd.DataFrame(
            {"direction": "depth", "state": "c", "path": "memory", "depth": [1, 2], "value": values}
        )
        assert np.isnan(path_ratios(states)["memory"])


def test_wrong_use():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    with pytest.raises(ValueError, match="compile"):
        state_gradients(model, X, Y)
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="has states over depth; name one of its layers"):
        state_gradients(model, X, Y)
    with pytest.raises(ValueError, match="`layer` must be one of"):
        state_gradients(model, X, Y, layer="densf")
    with pytest.raises(ValueError, match="`every` must be a positive integer"):
        StateGradients(X, Y, every=0)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TensorFlow's own warning")
def test_no_warning_however_many_models_are_measured(monkeypatch):
    """TensorFlow takes the functions of several models for one that is traced again and again."""
    warnings = []
    handler = logging.Handler()
    handler.emit = warnings.append
    monkeypatch.setattr(logging.getLogger("tensorflow"), "handlers", [handler])
    x, y = np.ones((2, 4)), np.array([0, 1])
    for _ in range(6):  # called itself, the fifth would warn
        model = models.classifier((4,), 3, "dense", depth=2, units=2)
        model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        state_gradients(model, x, y)
    assert not warnings


def test_carried_states_and_metrics_are_left_alone(eager):
    """Each path starts from the same states, and the losses of several outputs are those of fit."""
    inputs = keras.Input((4, 3), batch_size=8)
    h = GridLSTM2D(4, 3, stateful=True, name="grid")(inputs)
    model = keras.Model(inputs, {name: keras.layers.Dense(2, name=name)(h) for name in "ab"})
    model.compile("sgd", {"a": "mse", "b": "mse"})
    x, y = RNG.normal(size=(8, 4, 3)).astype("float32"), {"a": Y, "b": Y}
    model.predict(x, batch_size=8, verbose=0)
    probe = StateGradientProbe(model, x, y)
    alone = [row[-1] for row in probe._measure_states("memory", "hidden")]
    found = probe.measure()
    np.testing.assert_allclose(found[found.path == "memory"].value, alone, rtol=1e-6)

    losses = []
    for callbacks in ([], [StateGradients(1e3 * x, y)]):
        keras.utils.set_random_seed(1)
        copy = keras.models.clone_model(model)
        copy.compile(keras.optimizers.SGD(0.0), {"a": "mse", "b": "mse"})
        copy.set_weights(model.get_weights())
        history = copy.fit(x, y, batch_size=8, epochs=2, verbose=0, callbacks=callbacks)
        losses.append(history.history["a_loss"])
    np.testing.assert_allclose(*losses, rtol=1e-5)


def test_a_layer_of_several_inputs_shows_the_first():
    inputs = keras.Input((3,))
    both = [keras.layers.Dense(4, name=name)(inputs) for name in ("one", "two")]
    model = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Add(name="add")(both)))
    model.compile("sgd", "mse")
    added = state_gradients(model, X, Y, layer="add").set_index("state").value
    first = state_gradients(model, X, Y, layer="one").set_index("state").value
    assert added["input"] == pytest.approx(first["output"], rel=1e-5)
    assert added["input"] == pytest.approx(added["output"], rel=1e-5)
