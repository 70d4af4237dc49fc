"""Signals and gates, against what NumPy computes from the outputs and the weights."""

import json

import keras
import numpy as np
import pandas as pd
import pytest
import reference
from keras import ops

from keras_deeplstm.callbacks import DivergenceGuard, GradientFlow, SignalFlow, signal_plots
from keras_deeplstm.callbacks.verdict import signal_verdict
from keras_deeplstm.diagnostics import SignalProbe, StateGradientProbe, gradient_check
from keras_deeplstm.layers import DenseStack, GridLSTM2D, UnfoldedLSTMBlock, kernels

pytestmark = pytest.mark.backends

BACKEND = keras.backend.backend()
RNG = np.random.default_rng(0)
X = RNG.normal(size=(6, 3)).astype("float32")
SEQUENCES = RNG.normal(size=(6, 5, 3)).astype("float32")
WIDE = keras.initializers.RandomNormal(stddev=3.0, seed=1)  # gates that are open and closed


def numpy_of(tensor):
    return ops.convert_to_numpy(tensor)


def measured(frame, layer, signal, statistic, direction="depth"):
    found = frame[(frame.layer == layer) & (frame.signal == signal)]
    found = found[found.statistic == statistic]
    along = found[found.direction == direction] if direction else found[found.direction.isna()]
    return along.sort_values("depth").value.to_numpy()


def statistics(x):
    """What is measured of entries `(rows, units)`."""
    norm = np.linalg.norm(x, axis=-1).mean()
    return {"norm": norm, "mean": x.mean(), "std": x.std(), "dead": (x == 0).all(axis=0).mean()}


def saturation(gate):
    return {"closed": (gate < 0.05).mean(), "open": (gate > 0.95).mean()}


def assert_equals(frame, layer, signal, by_step, direction="depth"):
    expected = (saturation if signal in "ifo" else statistics)(by_step[0])
    for statistic in expected:
        compute = saturation if signal in "ifo" else statistics
        values = [compute(np.asarray(one))[statistic] for one in by_step]
        found = measured(frame, layer, signal, statistic, direction)
        np.testing.assert_allclose(found, values, rtol=1e-4, atol=1e-5, err_msg=statistic)


@pytest.mark.parametrize(
    "depth, options", [(1, {}), (10, {}), (4, {"tied": True, "peepholes": True})], ids=str
)
def test_a_block_by_depth_step(depth, options):
    layer = UnfoldedLSTMBlock(8, depth, bias_initializer=WIDE, forget_bias=None, **options)
    model = keras.Sequential([keras.Input((3,)), layer])
    if options:
        layer.peephole.assign(RNG.normal(size=layer.peephole.shape))
    frame = SignalProbe(model, X).measure()
    w = {v.name: numpy_of(v) for v in layer.weights}
    h, c, gates, states = np.zeros((6, 8)), np.zeros((6, 8)), [], []
    for step in range(depth):
        tied = options.get("tied")
        z = w["bias"] if tied else w["bias"][step]
        z = z + (X @ w["kernel"] if step == 0 else 0)
        if step:
            z = z + h @ (w["recurrent_kernel"] if tied else w["recurrent_kernel"][step - 1])
        z_i, z_f, z_c, z_o = np.split(z, 4, axis=1)
        p_i, p_f, p_o = w.get("peephole", np.zeros((3, 8)))
        i, f = reference.sigmoid(z_i + p_i * c), reference.sigmoid(z_f + p_f * c)
        c = f * c + i * np.tanh(z_c)
        o = reference.sigmoid(z_o + p_o * c)
        h = o * np.tanh(c)
        gates.append((i, f, o))
        states.append((h, c))
    for signal, by_step in zip("ifo", zip(*gates, strict=True), strict=True):
        assert_equals(frame, layer.name, signal, by_step)
    for signal, by_step in zip("hc", zip(*states, strict=True), strict=True):
        assert_equals(frame, layer.name, signal, by_step)
    assert frame[frame.statistic == "closed"].value.max() > 0.1
    assert layer.used_kernel == "loop"
    np.testing.assert_allclose(numpy_of(model(X)), h, atol=1e-5)


@pytest.mark.parametrize("depth", [pytest.param(2, marks=pytest.mark.long), 10])
def test_a_grid_by_layer_along_both_directions(depth):
    layer = GridLSTM2D(4, depth, bias_initializer=WIDE, return_sequences=True)
    model = keras.Sequential([keras.Input((5, 3)), layer])
    frame = SignalProbe(model, SEQUENCES).measure()
    w = {v.name: numpy_of(v) for v in layer.weights}
    h_D = SEQUENCES @ w["hidden_kernel"] + w["hidden_bias"]
    c_D = np.zeros_like(h_D)

    def lstm(z, c):
        i, f, g, o = np.split(z, 4, axis=-1)
        i, f, o = map(reference.sigmoid, (i, f, o))
        c = f * c + i * np.tanh(g)
        return o * np.tanh(c), c, {"i": i, "f": f, "o": o}

    for number in range(depth):
        time = {key: w[f"time_{key}"][number] for key in ("kernel", "recurrent_kernel", "bias")}
        h, c, h_T, seen = np.zeros((6, 4)), np.zeros((6, 4)), [], []
        for t in range(5):
            z = h_D[:, t] @ time["kernel"] + h @ time["recurrent_kernel"] + time["bias"]
            h, c, gates = lstm(z, c)
            h_T.append(h)
            seen.append({**gates, "h": h, "c": c})
        deep = {key: w[f"depth_{key}"][number] for key in ("kernel", "recurrent_kernel", "bias")}
        z = np.stack(h_T, 1) @ deep["kernel"] + h_D @ deep["recurrent_kernel"] + deep["bias"]
        h_D, c_D, gates = lstm(z, c_D)
        for direction, signals in (
            ("time", {key: [one[key] for one in seen] for key in seen[0]}),
            ("depth", {key: [one] for key, one in {**gates, "h": h_D, "c": c_D}.items()}),
        ):
            for signal, times in signals.items():
                compute = saturation if signal in "ifo" else statistics
                all_times = [compute(one.reshape(-1, 4)) for one in times]
                for statistic in all_times[0]:
                    expected = np.mean([one[statistic] for one in all_times])
                    found = measured(frame, layer.name, signal, statistic, direction)[number]
                    assert found == pytest.approx(expected, rel=1e-3, abs=1e-4)
    np.testing.assert_allclose(numpy_of(model(SEQUENCES)), h_D, atol=1e-4)


def test_outputs_of_any_layers_and_dead_units():
    inner = keras.Sequential([keras.Input((4,)), keras.layers.Dense(7, "relu", name="inner")])
    stack = DenseStack(5, 3, activation="relu", return_all_steps=True, name="stack")
    x = inputs = keras.Input((3,))
    x = inner(keras.layers.Dense(4, name="first")(x))
    x = keras.layers.Lambda(lambda x: ops.cast(x > 0, "int32"), name="codes")(x)
    x = stack(x)
    x = keras.layers.Reshape((15,), name="flat")(x)
    model = keras.Model(inputs, keras.layers.Dense(2, name="last")(x))
    flat = keras.Model(inputs, x)
    kernel, bias = inner.layers[-1].get_weights()
    bias[2:4] = -100.0  # units that no example reaches
    inner.layers[-1].set_weights([kernel, bias])
    frame = SignalProbe(model, X).measure()
    first = numpy_of(model.get_layer("first")(X))
    for name, expected in (
        ("first", first),
        ("inner", numpy_of(inner(first))),
        ("last", numpy_of(model(X))),
    ):
        assert_equals(frame, name, "output", [expected], direction=None)
    assert measured(frame, "inner", "output", "dead", None) >= 2 / 7
    assert "codes" not in set(frame.layer)  # integers have no norm to speak of
    assert "flat" not in set(frame.layer)  # it is what it gets
    steps = numpy_of(flat(X)).reshape(6, 3, 5).swapaxes(0, 1)
    assert_equals(frame, "stack", "h", steps)
    only = SignalProbe(model, X, layers=["inner"]).measure()
    assert set(only.layer) == {"inner"}
    with pytest.raises(ValueError, match="`layers` must be one of"):
        SignalProbe(model, X, layers=["innner"])


def build():
    keras.utils.set_random_seed(1)
    layers = [UnfoldedLSTMBlock(4, 3, tied=True, name="block"), keras.layers.Dropout(0.5)]
    model = keras.Sequential([keras.Input((3,)), *layers, keras.layers.Dense(2)])
    model.compile(keras.optimizers.SGD(0.1), "mse")
    return model


def fit(model, *callbacks, **options):
    options = {"batch_size": 2, "epochs": 2, "verbose": 0, **options}
    return model.fit(X, X[:, :2], callbacks=list(callbacks), **options)


def test_training_is_the_same_and_keeps_its_kernel(monkeypatch):
    calls, fused = [], kernels.fused
    monkeypatch.setattr(kernels, "fused", lambda *given: calls.append(given) or fused(*given))
    weights, counts = [], []
    for callbacks in ([], [SignalFlow(X)]):
        model = build()
        calls.clear()
        history = fit(model, *callbacks)
        assert list(history.history) == ["loss"]
        counts.append(len(calls))
        weights.append(model.get_weights())
    assert counts == [6, 6] if BACKEND == "torch" else counts == [0, 0]
    for one, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_probes_of_a_model_in_training_see_its_present_weights():
    model = build()
    signals, gradients = SignalProbe(model, X), StateGradientProbe(model, X, X[:, :2])
    probes = [
        signals.measure,
        gradients.measure,
        lambda: gradient_check(model, X, X[:, :2], entries=1).drop(columns="weight"),
    ]
    for probe in probes:
        seen = []
        look = keras.callbacks.LambdaCallback(
            on_train_batch_end=lambda batch, logs, probe=probe, seen=seen: seen.append(probe())
        )
        fit(model, look, epochs=1)
        pd.testing.assert_frame_equal(seen[-1], probe())
        assert not seen[0].equals(seen[-1])


def test_each_record_is_of_the_weights_after_its_step(tmp_path):
    model, flow = build(), SignalFlow(X, every=2, csv=tmp_path / "signals.csv")
    probe, expected = SignalProbe(model, X), {}

    class Outside(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            expected[len(expected) + 1] = probe.measure()

    fit(model, flow, Outside(), GradientFlow())
    frame = flow.to_frame()
    assert frame.step.unique().tolist() == [1, 2, 4, 6]
    for step, one in frame.groupby("step"):
        pd.testing.assert_frame_equal(
            one.drop(columns="step").reset_index(drop=True), expected[step], rtol=1e-6
        )
    assert len(pd.read_csv(tmp_path / "signals.csv")) == len(frame)
    # A second fit goes on; a copy that was restored in between records the same.
    state = json.loads(json.dumps(flow.get_state()))
    restored = SignalFlow(X, every=2)
    restored.set_state(state)
    fit(model, flow, restored, epochs=1)
    assert flow.to_frame().step.unique().tolist() == [1, 2, 4, 6, 7, 8]
    assert restored.to_frame().step.unique().tolist() == [1, 2, 4, 6, 8]
    by_epoch = SignalFlow(X, every="epoch")
    fit(build(), by_epoch)
    assert by_epoch.to_frame().step.unique().tolist() == [1, 4]


def compiled(layers, jit_compile="auto"):
    model = keras.Sequential([keras.Input((3,)), *layers, keras.layers.Dense(2, name="readout")])
    model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=jit_compile)
    return model


@pytest.mark.parametrize("jit_compile", [False, pytest.param(True, marks=pytest.mark.long)])
def test_outputs_of_the_training_step_itself(jit_compile):
    if BACKEND == "torch" and jit_compile:
        pytest.skip("Keras does not compile the training step of torch on this machine")

    def make():
        keras.utils.set_random_seed(3)
        hidden = keras.layers.Dense(5, "relu", name="hidden")
        return compiled([hidden, UnfoldedLSTMBlock(4, 3, name="block")], jit_compile)

    expected = []

    class Outside(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            x = X[2 * batch : 2 * batch + 2]
            outputs = {}
            for layer in self.model.layers:
                x = layer(x)
                outputs[layer.name] = statistics(numpy_of(x))
            expected.append(outputs)

    flow, weights = SignalFlow(), []
    for callbacks in ([], [flow], [Outside()]):
        model = make()
        model.fit(X, X[:, :2], batch_size=2, shuffle=False, verbose=0, callbacks=callbacks)
        weights.append(model.get_weights())
    for one, other in zip(*weights[:2], strict=True):
        np.testing.assert_array_equal(one, other)
    frame = flow.to_frame()
    assert frame.layer.unique().tolist() == ["hidden", "block", "readout"]
    assert set(frame.signal) == {"output"} and frame.depth.isna().all()
    for step, outputs in enumerate(expected, start=1):
        for name, values in outputs.items():
            one = frame[(frame.step == step) & (frame.layer == name)].set_index("statistic").value
            assert one.to_dict() == pytest.approx(values, rel=1e-5, abs=1e-6)


def test_the_training_step_shows_its_dropout_and_chosen_layers_of_nested_models():
    inner = keras.Sequential([keras.layers.Dense(64, "sigmoid"), keras.layers.Dropout(0.5)])
    inner.layers[1].name = "dropped"
    flow = SignalFlow(every=2, layers=["dropped"], keep=2)
    model = compiled([inner])
    model.fit(X, X[:, :2], batch_size=1, epochs=2, verbose=0, callbacks=[flow])
    frame = flow.to_frame()
    assert frame.step.unique().tolist() == [10, 12] and set(frame.layer) == {"dropped"}
    dead = frame[frame.statistic == "dead"].value  # of one example: the share that is dropped
    assert dead.between(0.2, 0.8).all()
    assert "call" not in inner.layers[1].__dict__


class Looped(keras.layers.Layer):
    """Runs another layer in a loop of the backend."""

    def __init__(self):
        super().__init__()
        self.inner = keras.layers.Dense(3, name="inner")
        self.layers = [self.inner]  # as a model has, so that the layer is one to be watched

    def build(self, shape):
        self.inner.build(shape)

    def call(self, x):
        return ops.fori_loop(0, 2, lambda i, y: self.inner(y), x)


class WithLoop(keras.Model):
    def __init__(self):
        super().__init__()
        self.first, self.loop = keras.layers.Dense(3, name="first"), Looped()

    def call(self, x):
        return self.loop(self.first(x))


def test_layers_in_a_loop_or_rematerialized_are_left_out():
    with keras.RematScope(mode="full"):
        remat = keras.layers.Dense(3, name="inner")
    # On JAX `fori_loop` has no gradient, and Keras' rematerialization no Dense on TensorFlow.
    models = {
        "tensorflow": [WithLoop()],
        "jax": [keras.Sequential([keras.layers.Dense(3, name="first"), remat])],
    }
    for model in models.get(BACKEND, []):
        flow, guard = SignalFlow(), DivergenceGuard()
        model.compile("sgd", "mse", jit_compile=False)
        model.fit(X, X, verbose=0, callbacks=[flow, guard])
        assert not guard.diverged
        assert "inner" not in set(SignalProbe(model, X).measure().layer)
        names = set(flow.to_frame().layer)
        assert "first" in names and "inner" not in names
        for nothing in (SignalFlow(layers=["inner"]), SignalFlow(X, layers=["inner"])):
            model.fit(X, X, verbose=0, callbacks=[nothing])
            assert nothing.to_frame().empty


class OwnForward(keras.Model):
    """A model whose training step does not use Keras' function of the loss."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(3)

    def call(self, x):
        return self.dense(x)

    if BACKEND == "jax":

        def compute_loss_and_updates(self, trainable, others, x, y):
            y_pred, others = self.stateless_call(trainable, others, x)
            return ops.mean(ops.square(y - y_pred)), (y_pred, others)

        def train_step(self, state, data):
            import jax

            trainable, others, optimizer, metrics = state
            x, y = data
            compute = jax.value_and_grad(self.compute_loss_and_updates, has_aux=True)
            (loss, (_, others)), gradients = compute(trainable, others, x, y)
            applied = self.optimizer.stateless_apply(optimizer, gradients, trainable)
            return {"loss": loss}, (applied[0], others, applied[1], metrics)


def test_a_training_step_whose_forward_pass_cannot_be_seen():
    model, guard = OwnForward(), DivergenceGuard()
    model.compile("sgd", "mse")
    model.build((None, 3))
    model.fit(X, X, verbose=0, callbacks=[guard, SignalFlow(X)])
    assert not guard.diverged
    if BACKEND == "jax":
        with pytest.raises(RuntimeError, match="Pass a probe batch"):
            model.fit(X, X, verbose=0, callbacks=[SignalFlow()])


def test_tensorboard(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    flow = SignalFlow(X, tensorboard=tmp_path)
    fit(build(), flow, epochs=1)
    events = EventAccumulator(str(tmp_path), size_guidance={"tensors": 0}).Reload()
    tags = set(events.Tags()["tensors"])
    assert {"signal_norm/block/output", "signal_open/block/f/depth_003"} <= tags
    assert [event.step for event in events.Tensors("signal_open/block/f/depth_003")] == [1, 2, 3]


def test_wrong_names_and_pictures_of_nothing():
    with pytest.raises(ValueError, match="`layers` must be one of"):
        fit(build(), SignalFlow(X, layers=["blok"]))
    with pytest.raises(ValueError, match="`every` must be a positive integer"):
        SignalFlow(X, every=0)
    flow = SignalFlow(X)
    for kind in ("depth", "gates", "dead"):
        assert not flow.plot(kind).lines
    with pytest.raises(ValueError, match="`kind` must be one of"):
        flow.plot("depht")


def test_pictures_show_the_numbers():
    flow = SignalFlow(X)
    model = build()
    fit(model, flow)
    frame = flow.to_frame()
    last = frame[frame.step == 6]
    line = flow.plot().lines[-1]
    np.testing.assert_allclose(line.get_ydata(), measured(last, "block", "h", "norm"))
    low, high = flow.plot().get_ylim()
    assert high / low >= 99.9  # two decades, but for rounding
    labels = {line.get_label(): line for line in flow.plot("gates").lines}
    assert set(labels) == {
        f"{gate} gate, {what}"
        for gate in ("input", "forget", "output")
        for what in ("open", "closed")
    }
    expected = measured(last, "block", "f", "open")
    np.testing.assert_allclose(labels["forget gate, open"].get_ydata(), expected)
    assert not flow.plot("gates", direction="time").lines  # no grid
    assert flow.plot("gates", layer="block").lines
    (line,) = flow.plot("dead").lines  # lines at 0 would lie on each other
    assert line.get_label() == "no dead unit: 6 lines" and not line.get_ydata().any()
    dying = (frame.statistic == "dead") & (frame.depth == 3) & (frame.step == 6)
    died = frame.assign(value=frame.value.where(~dying, 0.5))
    labels = [line.get_label() for line in signal_plots.plot_dead(died).lines]
    assert labels == ["no dead unit: 5 lines", "block, depth 3"]
    norms = measured(last, "block", "h", "norm")
    sentence = flow.verdict()
    assert sentence.startswith(
        f"The signal at depth step 3 is {norms[-1] / norms[0]:.2g} times that at depth step 1; "
    )
    assert sentence.endswith("; no unit is dead.")
    stuck = (frame.signal == "f") & (frame.statistic == "closed") & (frame.depth == 2)
    worse = frame.assign(value=frame.value.where(~stuck, 0.97).where(~dying, 0.5))
    assert signal_verdict(worse).endswith(
        "; up to 97% of the forget gates are closed; up to 50% of the units of layer 'block' are "
        "dead."
    )
    bad = frame.assign(value=frame.value.where(~stuck, np.nan))
    assert signal_verdict(bad) == "The signal of layer 'block' is not finite."
    chain = frame[frame.direction.isna()]
    norms = chain[(chain.step == 6) & (chain.statistic == "norm")].value.to_list()
    names = [layer.name for layer in model.layers]
    assert signal_verdict(chain) == (
        f"The signal at layer '{names[-1]}' is {norms[-1] / norms[0]:.2g} times that at layer "
        f"'{names[0]}'; no unit is dead."
    )
    assert signal_verdict(frame[:0]) == "No signals were recorded."
    ticks = [tick.get_text() for tick in signal_plots.plot_depth(chain).get_xticklabels()]
    assert ticks == [layer.name for layer in model.layers]


def test_layers_of_one_name_in_two_models_are_two():
    def part(name):
        layers = [keras.Input((3,)), keras.layers.Dense(3, name="hidden")]
        return keras.Sequential(layers, name=name)

    model = keras.Sequential([keras.Input((3,)), part("enc"), part("dec")])
    model.compile("sgd", "mse")
    names = ["enc/hidden", "dec/hidden"]
    assert SignalProbe(model, X).measure().layer.unique().tolist() == names
    flow, guard = SignalFlow(layers=["dec/hidden"]), DivergenceGuard()
    model.fit(X, X, verbose=0, callbacks=[flow, guard])
    assert flow.to_frame().layer.unique().tolist() == ["dec/hidden"]
    assert guard._layers == names
    with pytest.raises(ValueError, match="must be one of \\['enc/hidden', 'dec/hidden'\\]"):
        SignalProbe(model, X, layers=["hidden"])


def test_layers_of_one_name_in_a_subclassed_model_are_two():
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.one, self.two = (keras.layers.Dense(3, name="hidden") for _ in range(2))

        def call(self, x):
            return self.two(self.one(x))

    model = Own()
    model(X)
    assert SignalProbe(model, X).measure().layer.unique().tolist() == ["hidden", "hidden#2"]


def test_a_layer_that_returns_a_number_shows_nothing():
    class Total(keras.layers.Layer):
        def call(self, x):
            return ops.sum(x)

    inputs = keras.Input((3,))
    model = keras.Model(inputs, Total()(keras.layers.Dense(2, name="dense")(inputs)))
    assert SignalProbe(model, X).measure().layer.unique().tolist() == ["dense"]
