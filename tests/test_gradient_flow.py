import copy
import math

import keras
import matplotlib
import numpy as np
import pandas as pd
import pytest
from keras import ops

from keras_deeplstm.callbacks import (
    DivergenceGuard,
    GradientFlow,
    first_last_ratio,
    gradient_plots,
    verdict,
)
from keras_deeplstm.callbacks.gradient_flow import STATISTICS
from keras_deeplstm.callbacks.gradient_statistics import HISTOGRAM_EDGES, measure
from keras_deeplstm.diagnostics import SignalProbe
from keras_deeplstm.diagnostics.autodiff import compiled
from keras_deeplstm.layers import DenseStack, UnfoldedLSTMBlock

pytestmark = pytest.mark.backends

BACKEND = keras.backend.backend()
ON_TENSORFLOW = pytest.mark.skipif(BACKEND != "tensorflow", reason="about TensorFlow")
RNG = np.random.default_rng(0)
X = RNG.normal(size=(24, 6)).astype("float32")
Y = RNG.normal(size=(24, 2)).astype("float32")
IDS = RNG.integers(0, 5, size=(24, 6))


def chain():
    return [keras.Input((6,)), keras.layers.Dense(5, activation="tanh"), keras.layers.Dense(2)]


def unfolded(**options):
    return [keras.Input((6,)), UnfoldedLSTMBlock(4, 5, **options), keras.layers.Dense(2)]


MODELS = {
    "chain": chain,
    "unfolded": unfolded,
    "tied": lambda: unfolded(tied=True, normalization="layer"),
    "stack": lambda: [keras.Input((6,)), DenseStack(4, 5), keras.layers.Dense(2)],
    "lstm": lambda: [
        keras.Input((6,)),
        keras.layers.Reshape((3, 2)),
        keras.layers.LSTM(4),
        keras.layers.Dense(2),
    ],
    "embedding": lambda: [
        keras.Input((6,), dtype="int32"),
        keras.layers.Embedding(5, 3),
        keras.layers.Flatten(),
        keras.layers.Dense(2),
    ],
    "conv": lambda: [
        keras.Input((6,)),
        keras.layers.Reshape((2, 3, 1)),
        keras.layers.Conv2D(3, 2),
        keras.layers.Flatten(),
        keras.layers.Dense(2),
    ],
}


def build(name, optimizer=None, **options):
    keras.utils.set_random_seed(1)
    model = keras.Sequential(MODELS[name]())
    model.compile(optimizer or keras.optimizers.SGD(0.1), "mse", **options)
    return model


def data_of(name):
    return IDS if name == "embedding" else X


def expected_norms(model, x, y):
    """Norms by the backend's own autodiff, one for each variable or depth step."""
    loss = compiled(
        lambda: ops.mean(ops.square(ops.subtract(model(x, training=True), y))),
        model.trainable_variables,
        gradients="all",
    )
    norms = []
    for variable, gradient in zip(model.trainable_variables, loss()[1], strict=True):
        steps = getattr(variable, "depth_steps", None)
        parts = [gradient] if steps is None else gradient
        norms += [np.linalg.norm(part) for part in parts]
    return norms


def traces_of_the_tap(model):
    patched = {"train_step", "make_train_function", "train_on_batch", "_keras_deeplstm_tap"} & set(
        model.__dict__
    )
    return patched | ({"apply", "stateless_apply"} & set(model.optimizer.__dict__))


def fit(model, name="chain", callbacks=(), **options):
    options = {"batch_size": 24, "epochs": 1, "shuffle": False, "verbose": 0, **options}
    return model.fit(data_of(name), Y, callbacks=list(callbacks), **options)


def under_xla():
    for name in MODELS:
        repeats = [] if name in ("unfolded", "embedding") else [pytest.mark.long]
        yield pytest.param(name, True, marks=[ON_TENSORFLOW, *repeats])


@pytest.mark.parametrize("name, jit_compile", [*((name, False) for name in MODELS), *under_xla()])
def test_norms_equal_the_backends_own_autodiff(name, jit_compile):
    model = build(name, jit_compile=jit_compile if BACKEND == "tensorflow" else "auto")
    expected = expected_norms(model, data_of(name), Y)
    flow = GradientFlow()
    fit(model, name, [flow])
    frame = flow.to_frame()
    assert list(frame.columns) == ["step", "layer", "weight", "depth", "statistic", "value"]
    np.testing.assert_allclose(frame.value, expected, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize(
    "name, optimizer",
    [
        ("embedding", "adam"),
        pytest.param("unfolded", "sgd", marks=pytest.mark.long),
        pytest.param("unfolded", "adam", marks=pytest.mark.long),
        pytest.param("embedding", "sgd", marks=pytest.mark.long),
    ],
)
def test_trained_weights_are_bitwise_the_same(name, optimizer):
    weights = []
    flows = GradientFlow(statistics=STATISTICS), GradientFlow(every=3)
    for callbacks in ([], [GradientFlow(every=2)], [*flows], [DivergenceGuard()]):
        model = build(name, optimizer)
        history = fit(model, name, callbacks, batch_size=8, epochs=3)
        assert list(history.history) == ["loss"]
        weights.append(model.get_weights())
    for other in weights[1:]:
        for one, two in zip(weights[0], other, strict=True):
            np.testing.assert_array_equal(one, two)


def test_frame_names_layers_weights_and_depth_steps():
    model = build("unfolded")
    flow = GradientFlow()
    fit(model, callbacks=[flow])
    frame = flow.to_frame()
    block = model.layers[0].name
    kernel = frame[(frame.layer == block) & (frame.weight == "recurrent_kernel")]
    assert kernel.depth.tolist() == [2, 3, 4, 5]
    assert frame[(frame.layer == block) & (frame.weight == "bias")].depth.tolist() == [
        1,
        2,
        3,
        4,
        5,
    ]
    assert frame[frame.weight == "kernel"].depth.isna().all()
    assert set(frame.statistic) == {"norm"}


def test_schedule_counts_over_epochs_and_fits():
    """The count of steps goes on in a second `fit`."""
    model = build("chain")
    flow = GradientFlow(every=4)
    fit(model, callbacks=[flow], batch_size=8, epochs=3)  # 9 steps
    assert flow.to_frame().step.unique().tolist() == [1, 4, 8]
    fit(model, callbacks=[flow], batch_size=8, epochs=1)
    assert flow.to_frame().step.unique().tolist() == [1, 4, 8, 10, 12]


def test_a_step_that_is_not_recorded_measures_nothing():
    class Counting(GradientFlow):
        measured = 0

        def summarize(self, *arguments):
            self.measured += 1
            return super().summarize(*arguments)

    flow = Counting(every=3)
    fit(build("chain", run_eagerly=True), callbacks=[flow], batch_size=8, epochs=2)  # 6 steps
    assert flow.to_frame().step.unique().tolist() == [1, 3, 6]
    assert flow.measured == 3


def test_an_epoch_that_was_stopped_counts_the_steps_that_it_ran():
    model, flow = build("chain"), GradientFlow()
    stop = keras.callbacks.Callback()
    stop.on_train_batch_end = lambda batch, logs=None: setattr(model, "stop_training", batch == 1)
    fit(model, callbacks=[flow, stop], batch_size=4)  # two of six steps
    fit(model, callbacks=[flow], batch_size=12)
    assert flow.to_frame().step.unique().tolist() == [1, 2, 3, 4]
    assert int(ops.convert_to_numpy(model.optimizer.iterations)) == 4


def of_unknown_length(batch_size):
    """X and Y in batches, as a data set of which Keras cannot tell how long it is."""
    import tensorflow as tf

    signature = tf.TensorSpec((None, 6)), tf.TensorSpec((None, 2))

    def batches():
        for start in range(0, len(X), batch_size):
            yield X[start : start + batch_size], Y[start : start + batch_size]

    return tf.data.Dataset.from_generator(batches, output_signature=signature)


@pytest.mark.skipif(BACKEND == "torch", reason="Keras on torch has no steps_per_execution")
@pytest.mark.filterwarnings("ignore:Your input ran out of data")
@pytest.mark.parametrize("known", [True, False])
def test_steps_per_execution_records_the_last_step_of_each_call(known):
    """Several steps in one call are supported."""
    model = build("chain", steps_per_execution=4)
    flow = GradientFlow()
    if known:
        fit(model, callbacks=[flow], batch_size=4, epochs=2)  # 6 steps an epoch: calls of 4 and 2
    else:
        model.fit(of_unknown_length(4), epochs=2, verbose=0, callbacks=[flow])
    assert int(ops.convert_to_numpy(model.optimizer.iterations)) == 12
    every = build("chain")
    reference = GradientFlow()
    fit(every, callbacks=[reference], batch_size=4, epochs=2)
    frame, reference = flow.to_frame(), reference.to_frame()
    assert frame.step.unique().tolist() == [4, 6, 10, 12]
    same = reference[reference.step.isin([4, 6, 10, 12])]
    np.testing.assert_allclose(frame.value, same.value, rtol=1e-5)


@pytest.mark.parametrize("params", [{}, {"steps": 3, "epochs": 1}], ids=str)
@pytest.mark.parametrize("begun", [True, False])
def test_a_loop_of_ones_own(params, begun, recwarn):
    model, flow, guard = build("chain"), GradientFlow(), DivergenceGuard()
    callbacks = keras.callbacks.CallbackList([flow, guard], model=model, **params)
    callbacks.on_train_begin()
    for epoch in range(2):
        callbacks.on_epoch_begin(epoch)
        for batch in range(3):
            if begun:
                callbacks.on_train_batch_begin(batch)
            model.train_on_batch(X, Y)
            callbacks.on_train_batch_end(batch)
        callbacks.on_epoch_end(epoch)
    callbacks.on_train_end()
    said = [str(one.message) for one in recwarn if "has seen no training step" in str(one.message)]
    assert flow.to_frame().step.unique().tolist() == ([1, 2, 3, 4, 5, 6] if begun else [])
    assert [one.partition(" ")[0] for one in said] == (
        [] if begun else ["GradientFlow", "DivergenceGuard"]
    )
    assert not traces_of_the_tap(model)


def test_values_are_before_clipping_and_without_the_loss_scale():
    plain = GradientFlow()
    fit(build("chain"), callbacks=[plain])
    for options in (
        {"clipnorm": 1e-3},
        {"loss_scale_factor": 64.0},
        {"gradient_accumulation_steps": 2},
    ):
        flow = GradientFlow()
        fit(build("chain", keras.optimizers.SGD(0.1, **options)), callbacks=[flow])
        np.testing.assert_allclose(flow.to_frame().value, plain.to_frame().value, rtol=1e-5)
    flow = GradientFlow()
    scaled = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1), initial_scale=1024.0)
    fit(build("chain", scaled), callbacks=[flow], batch_size=12, epochs=2)
    plain = GradientFlow()
    fit(build("chain"), callbacks=[plain], batch_size=12, epochs=2)
    np.testing.assert_allclose(flow.to_frame().value, plain.to_frame().value, rtol=1e-4)


def test_mixed_precision_gives_finite_norms_near_float32():
    frames = []
    for policy in ("float32", "mixed_bfloat16"):
        keras.utils.set_random_seed(1)
        model = keras.Sequential(
            [keras.Input((6,)), UnfoldedLSTMBlock(4, 5, dtype=policy), keras.layers.Dense(2)]
        )
        model.compile("sgd", "mse")
        flow = GradientFlow()
        fit(model, callbacks=[flow])
        frames.append(flow.to_frame().value)
    np.testing.assert_allclose(frames[1], frames[0], rtol=0.1)


def test_subclassed_model_that_is_built_in_fit():
    """The callback supports a model whose weights do not exist before `fit`."""

    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.block = UnfoldedLSTMBlock(4, 3)
            self.readout = keras.layers.Dense(2)

        def call(self, x):
            return self.readout(self.block(x))

    model = Subclassed()
    model.compile("sgd", "mse")
    flow = GradientFlow()
    fit(model, callbacks=[flow])
    assert len(flow.to_frame()) == 1 + 2 + 3 + 2


def test_frozen_and_unused_weights_have_no_rows():
    model = build("chain")
    model.layers[0].trainable = False
    model.compile("sgd", "mse")
    flow = GradientFlow()
    fit(model, callbacks=[flow])
    assert set(flow.to_frame().layer) == {model.layers[1].name}


def test_nothing_is_left_on_the_model_and_checkpoints_load_cleanly(tmp_path, recwarn):
    model = build("chain", "adam")
    path = tmp_path / "model.keras"
    fit(model, callbacks=[GradientFlow(), keras.callbacks.ModelCheckpoint(path)], epochs=2)
    assert not traces_of_the_tap(model)
    loaded = keras.models.load_model(path)
    assert len(loaded.optimizer.variables) == len(model.optimizer.variables)
    assert not [w for w in recwarn if "optimizer" in str(w.message)]


class Interrupted(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        raise KeyboardInterrupt


def test_after_a_fit_that_raised():
    model = build("chain")
    flow = GradientFlow()
    with pytest.raises(KeyboardInterrupt):
        fit(model, callbacks=[flow, Interrupted()])
    assert list(fit(model).history) == ["loss"]  # without the callback
    fit(model, callbacks=[flow])
    expected = GradientFlow()
    model.compile("sgd", "mse")
    assert list(fit(model).history) == ["loss"]
    fit(model, callbacks=[expected])
    assert len(expected.to_frame()) == 4
    assert not traces_of_the_tap(model)


@pytest.mark.parametrize("when", ["on_train_batch_begin", "on_train_batch_end"])
def test_a_fit_that_raised_leaves_no_watcher_behind(when):
    """A later `fit` without the callbacks adds no record and is stopped by no guard."""
    interrupted = keras.callbacks.Callback()

    def interrupt(batch, logs=None):
        if batch == 1:
            raise KeyboardInterrupt

    setattr(interrupted, when, interrupt)
    model = build("chain")
    flow, guard = GradientFlow(), DivergenceGuard(factor=2.0)
    with pytest.raises(KeyboardInterrupt):
        fit(model, callbacks=[flow, guard, interrupted], batch_size=4)
    steps = flow.to_frame().step.unique().tolist()
    assert steps == ([1] if when == "on_train_batch_begin" else [1, 2])
    model.set_weights([100 * w for w in model.get_weights()])  # a loss far above the first
    model.optimizer.learning_rate = 0.0
    history = fit(model, batch_size=4, epochs=2)
    model.train_on_batch(X, Y)
    assert len(history.epoch) == 2 and history.history["loss"][0] > 100
    assert flow.to_frame().step.unique().tolist() == steps and not guard.diverged
    # Called again, it goes on.
    fit(model, callbacks=[flow], batch_size=12)
    assert flow.to_frame().step.unique().tolist() == [*steps, len(steps) + 1, len(steps) + 2]


def test_evaluate_and_predict_take_no_notice():
    model = build("chain")
    flow = GradientFlow()
    model.evaluate(X, Y, callbacks=[flow], verbose=0)
    model.predict(X, callbacks=[flow], verbose=0)
    assert not traces_of_the_tap(model) and flow.to_frame().empty
    fit(model, callbacks=[flow], validation_data=(X, Y), epochs=2)
    assert flow.to_frame().step.unique().tolist() == [1, 2]


def test_a_train_step_that_hides_its_gradients_is_refused():
    class Hiding(keras.Sequential):
        def train_step(self, *args):
            if BACKEND == "jax":
                return {"loss": ops.zeros(())}, args[0]
            return {"loss": ops.zeros(())}

    model = Hiding([keras.Input((6,)), keras.layers.Dense(2)])
    model.compile("sgd", "mse")
    with pytest.raises(RuntimeError, match=r"did not call `self\.optimizer"):
        fit(model, callbacks=[GradientFlow()])


def test_wrong_use():
    """A wrong `every`, a model that is not compiled and an unknown plot are refused."""
    for every in (0, -1, 0.5, True):
        with pytest.raises(ValueError, match="`every` must be a positive integer"):
            GradientFlow(every=every)
    model = keras.Sequential(chain())
    with pytest.raises(ValueError, match=r"call `compile\(\)` first"):
        GradientFlow().set_model(model)
    with pytest.raises(ValueError, match="Did you mean 'ratio'"):
        GradientFlow().plot("ration")


def test_deep_copy_as_keras_tuner_makes_them():
    flow = copy.deepcopy(GradientFlow(every=2))
    fit(build("chain"), callbacks=[flow])
    assert flow.every == 2 and len(flow.to_frame()) == 4


@pytest.mark.parametrize("kind", [GradientFlow, DivergenceGuard])
def test_deep_copy_after_a_fit_that_raised(kind):
    """Nothing of the traced step is kept, and nothing of torch's graph."""
    callback = kind()
    model = build("chain")
    with pytest.raises(KeyboardInterrupt):
        fit(model, callbacks=[callback, Interrupted()])
    copied = copy.deepcopy(callback)
    fit(build("chain"), callbacks=[copied])
    if kind is GradientFlow:
        assert copied.to_frame().step.tolist() == [1] * 4 + [2] * 4
        assert callback.to_frame().step.tolist() == [1] * 4
    else:
        assert not copied.diverged


def gradients_and_weights(model, x, y):
    loss = compiled(
        lambda: ops.mean(ops.square(ops.subtract(model(x, training=True), y))),
        model.trainable_variables,
        gradients="all",
    )
    return loss()[1], [np.array(ops.convert_to_numpy(v)) for v in model.trainable_variables]


ALL = ("norm", "mean_abs", "max_abs", "zero_fraction", "ratio", "histogram")


def test_every_statistic_equals_numpy_by_weight_and_by_layer():
    model = build("unfolded")
    gradients, weights = gradients_and_weights(model, X, Y)
    flow = GradientFlow(statistics=ALL)
    fit(model, callbacks=[flow])
    frame = flow.to_frame().set_index(["layer", "weight", "statistic"]).sort_index()
    block, readout = (layer.name for layer in model.layers)
    kernel = frame.loc[(block, "recurrent_kernel")]
    g, w = gradients[1], weights[1]  # (4, 4, 16): steps 2 ... 5
    axes = (1, 2)
    norm = np.sqrt((g**2).sum(axis=axes))
    expected = {
        "norm": norm,
        "mean_abs": np.abs(g).mean(axis=axes),
        "max_abs": np.abs(g).max(axis=axes),
        "zero_fraction": np.zeros(4),
        "ratio": norm / np.sqrt((w**2).sum(axis=axes)),
    }
    for statistic, values in expected.items():
        np.testing.assert_allclose(kernel.loc[statistic].value, values, rtol=1e-5, atol=1e-8)
    assert "histogram" not in frame.index.get_level_values("statistic")

    layers = flow.to_frame(by="layer").set_index(["layer", "statistic"]).value
    both = np.concatenate([gradients[3].ravel(), gradients[4].ravel()])
    np.testing.assert_allclose(layers[readout, "norm"], np.linalg.norm(both), rtol=1e-5)
    np.testing.assert_allclose(layers[readout, "mean_abs"], np.abs(both).mean(), rtol=1e-5)
    np.testing.assert_allclose(layers[readout, "max_abs"], np.abs(both).max(), rtol=1e-5)
    whole = np.concatenate([g.ravel() for g in gradients[:3]])
    np.testing.assert_allclose(layers[block, "norm"], np.linalg.norm(whole), rtol=1e-5)
    np.testing.assert_allclose(layers[block, "mean_abs"], np.abs(whole).mean(), rtol=1e-5)
    np.testing.assert_allclose(layers[block, "zero_fraction"], (whole == 0).mean(), atol=1e-6)
    lengths = [np.linalg.norm(np.concatenate([a.ravel() for a in each[:3]]))
               for each in (gradients, weights)]  # fmt: skip
    np.testing.assert_allclose(layers[block, "ratio"], lengths[0] / lengths[1], rtol=1e-5)


def test_histograms_equal_numpy():
    model = build("chain")
    gradients, _ = gradients_and_weights(model, X, Y)
    flow = GradientFlow(statistics="histogram")
    fit(model, callbacks=[flow])
    histograms = flow.histograms()
    for name, gradient in zip(("kernel", "bias"), gradients[:2], strict=True):
        layer = model.layers[0].name
        one = histograms[(histograms.layer == layer) & (histograms.weight == name)]
        logs = np.log10(np.abs(gradient.ravel()))
        expected = [
            ((logs >= low) & (logs < high)).mean() for low, high in one[["low", "high"]].to_numpy()
        ]
        np.testing.assert_allclose(one.share, expected, atol=1e-6)
        np.testing.assert_allclose(one.share.sum(), 1.0, atol=1e-6)
    ax = flow.plot("histogram")
    np.testing.assert_allclose(ax.collections[0].get_array().sum(), 1.0, atol=1e-5)
    matplotlib.pyplot.close("all")


def test_histograms_of_large_weights_are_sampled_evenly():
    gradient = np.ones((3, 100, 400), "float32")  # three depth steps
    gradient[:, :, 300:] = 1e-3  # a quarter of the columns
    gradient[2] = 0.0
    shares = ops.convert_to_numpy(measure("histogram", ops.convert_to_tensor(gradient), (1, 2)))
    edges = np.array([-np.inf, *HISTOGRAM_EDGES])
    np.testing.assert_allclose(shares[edges == 0.0][0], [0.75, 0.75, 0.0], atol=0.01)
    np.testing.assert_allclose(shares[edges == -3.0][0], [0.25, 0.25, 0.0], atol=0.01)
    np.testing.assert_allclose(shares[0], [0.0, 0.0, 1.0])
    np.testing.assert_allclose(shares.sum(axis=0), 1.0, atol=1e-6)


def test_schedules():
    model = build("chain")
    by_epoch, by_function = (
        GradientFlow(every="epoch"),
        GradientFlow(every=lambda step: step in (2, 7)),
    )
    fit(model, callbacks=[by_epoch, by_function], batch_size=8, epochs=3)  # 3 steps an epoch
    assert by_epoch.to_frame().step.unique().tolist() == [1, 4, 7]
    assert by_function.to_frame().step.unique().tolist() == [2, 7]


def test_chosen_layers_csv_and_tensorboard(tmp_path):
    model = build("chain")
    layer = model.layers[1].name
    flow = GradientFlow(
        layers=[layer], csv=tmp_path / "new" / "flow.csv", tensorboard=tmp_path / "board",
        statistics=("norm", "histogram"),
    )  # fmt: skip
    fit(model, callbacks=[flow], batch_size=8)
    frame = flow.to_frame()
    assert set(frame.layer) == {layer} and len(frame) == 3 * 2
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "new" / "flow.csv"), frame)

    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    board = EventAccumulator(str(tmp_path / "board"), size_guidance={"tensors": 0})
    board.Reload()
    tags = board.Tags()["tensors"]
    assert f"gradient_norm/{layer}/kernel" in tags and f"gradient_log10/{layer}/kernel" in tags
    events = board.Tensors(f"gradient_norm/{layer}/kernel")
    assert [event.step for event in events] == [1, 2, 3]
    values = [float(make_ndarray(event.tensor_proto)) for event in events]
    np.testing.assert_allclose(values, frame[frame.weight == "kernel"].value, rtol=1e-6)
    with pytest.raises(ValueError, match="No trainable variable matches layers="):
        fit(model, callbacks=[GradientFlow(layers=["lstm_9"])])
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError):
        fit(model, callbacks=[GradientFlow(csv=tmp_path / "file" / "flow.csv")])


def test_gradients_of_a_linear_recurrence_follow_the_spectral_radius():
    """h_t = r h_{t-1} + x_t: known answer for dLoss/dU, and for norms along a chain."""
    for radius in (0.5, 0.9, 1.0, 1.1):
        depth = 12
        block = DenseStack(3, depth, activation="linear", use_bias=False)
        model = keras.Sequential([keras.Input((3,)), block])
        model.compile(keras.optimizers.SGD(0.0), "mse")
        block.kernel.assign(np.eye(3))
        block.recurrent_kernel.assign(np.stack([radius * np.eye(3)] * (depth - 1)))
        flow = GradientFlow()
        # dLoss/dU_l = h_{l-1}^T dLoss/dh_l: radius^(l-2) forward times radius^(depth-l) backward,
        # the same for all l. dLoss/dW, before them, has one more factor.
        model.fit(X[:, :3], Y[:, [0, 1, 1]], batch_size=24, verbose=0, callbacks=[flow])
        frame = flow.to_frame()
        norms = frame[frame.weight == "recurrent_kernel"].value
        np.testing.assert_allclose(norms, norms.iloc[0], rtol=1e-4)
        first = frame[frame.weight == "kernel"].value.iloc[0]
        np.testing.assert_allclose(first / norms.iloc[0], radius, rtol=1e-4)


def test_applying_gradients_twice_is_refused():
    class Twice(keras.Sequential):
        def train_step(self, *args):
            super().train_step(*args)
            return super().train_step(*args)

    model = Twice([keras.Input((6,)), keras.layers.Dense(2)])
    model.compile("sgd", "mse")
    with pytest.raises(RuntimeError, match="applies gradients more than once"):
        fit(model, callbacks=[GradientFlow()])


def test_a_custom_train_step_that_uses_the_optimizer_is_supported():
    if BACKEND == "tensorflow":
        import tensorflow as tf

        class Custom(keras.Sequential):
            def train_step(self, data):
                x, y = data
                with tf.GradientTape() as tape:
                    loss = self.compute_loss(x, y, self(x, training=True))
                gradients = tape.gradient(loss, self.trainable_variables)
                pairs = zip(gradients, self.trainable_variables, strict=True)
                self.optimizer.apply_gradients(pairs)
                return {"mine": loss}
    else:

        class Custom(keras.Sequential):
            def train_step(self, *args):
                return super().train_step(*args)

    keras.utils.set_random_seed(1)
    model = Custom(MODELS["chain"]())
    model.compile(keras.optimizers.SGD(0.1), "mse")
    flow, expected = GradientFlow(), GradientFlow()
    fit(model, callbacks=[flow])
    fit(build("chain"), callbacks=[expected])
    np.testing.assert_allclose(flow.to_frame().value, expected.to_frame().value, rtol=1e-5)


def test_shared_layers_have_the_sum_of_their_gradients():
    keras.utils.set_random_seed(1)
    inputs, shared = keras.Input((6,)), keras.layers.Dense(6, activation="tanh")
    model = keras.Model(inputs, keras.layers.Dense(2)(shared(shared(inputs))))
    model.compile("sgd", "mse")
    expected = expected_norms(model, X, Y)
    flow = GradientFlow()
    fit(model, callbacks=[flow])
    np.testing.assert_allclose(flow.to_frame().value, expected, rtol=1e-5)


def test_python_data_sets():
    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 3

        def __getitem__(self, i):
            return X[8 * i : 8 * i + 8], Y[8 * i : 8 * i + 8]

    flow, expected = GradientFlow(), GradientFlow()
    build("chain").fit(Batches(), verbose=0, callbacks=[flow], shuffle=False)
    fit(build("chain"), callbacks=[expected], batch_size=8)
    np.testing.assert_allclose(flow.to_frame().value, expected.to_frame().value, rtol=1e-5)


def test_a_model_without_trainable_variables_trains_with_a_warning():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Activation("linear")])
    model.compile("sgd", "mse")
    flow = GradientFlow()
    with pytest.warns(UserWarning, match="has no trainable variables"):
        model.fit(Y, Y, verbose=0, callbacks=[flow])
    assert flow.to_frame().empty and not traces_of_the_tap(model)


def test_gradients_that_are_not_finite_are_recorded_as_they_are():
    model = build("chain")
    flow = GradientFlow(statistics=("norm", "max_abs"))
    model.fit(X, np.full_like(Y, np.nan), verbose=0, callbacks=[flow])
    assert flow.to_frame().value.isna().all() and len(flow.to_frame()) == 8
    flow.plot()
    flow.plot("heatmap")
    matplotlib.pyplot.close("all")
    assert flow.verdict() == (
        "The gradient is not a number (NaN) at 2 of 2 depth steps in the last recorded step."
    )


def test_one_callback_watches_one_model_after_another():
    """The first model is as it was before."""
    flow = GradientFlow()
    first, second = build("chain"), build("chain")
    with pytest.raises(KeyboardInterrupt):
        fit(first, callbacks=[flow, Interrupted()])
    fit(second, callbacks=[flow])
    assert not traces_of_the_tap(first) and not traces_of_the_tap(second)
    assert flow.to_frame().step.tolist() == [1] * 4 + [2] * 4


@pytest.mark.long
def test_sixty_fits_do_not_grow_because_of_the_callback():
    """Growth of the process over the last 40 fits, with callbacks and without."""
    code = """
import gc, resource, sys
import keras, numpy as np
from keras_deeplstm.callbacks import DivergenceGuard, GradientFlow
x = np.ones((32, 8), "float32")
model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(8), keras.layers.Dense(1)])
model.compile("sgd", "mse")
page = resource.getpagesize()
sizes = []
for number in range(60):
    callbacks = [GradientFlow(every=2), DivergenceGuard()] if sys.argv[1] == "on" else []
    # Without callbacks Keras compiles once; with them each fit compiles anew, so both do here.
    model.train_function = None
    model.fit(x, x[:, :1], batch_size=8, verbose=0, callbacks=callbacks)
    gc.collect()
    if number >= 20:
        sizes.append(int(open("/proc/self/statm").read().split()[1]) * page)
print(np.polyfit(range(40), sizes, 1)[0])
"""
    import subprocess
    import sys

    slopes = {}
    for switch in ("off", "on"):
        result = subprocess.run(
            [sys.executable, "-c", code, switch], capture_output=True, text=True, check=True
        )
        slopes[switch] = float(result.stdout.split()[-1])
    print(slopes)
    # Two compiled functions a fit with the callbacks (with and without the tap), one without.
    assert slopes["on"] - 3 * max(slopes["off"], 0.0) < 20_000, slopes


def test_verdicts():
    def words(norms):
        return verdict(frame_of({1: dict(enumerate(norms, 2))}))

    assert words([1e-6, 1e-3, 1.0]) == (
        "The gradient vanishes: at depth step 2 it is 10^-6.0 times that at depth step 4."
    )
    said = "The gradient {}: at depth step 2 it is {} times that at depth step 3."
    assert words([0.5, 1.0]) == said.format("arrives", "0.5")
    assert words([6.3, 1.0]) == said.format("arrives", "6.3")
    assert words([1e-2, 1.0]) == said.format("falls", "0.01")
    assert words([24.0, 1.0]) == said.format("grows", "24")
    assert words([1e5, 1.0]) == said.format("explodes", "10^5.0")
    assert words([0.0, 1.0]) == said.format("vanishes", "0")
    assert words([1.0, 0.0]) == said.format("explodes", "inf")
    assert words([0.0, 0.5, 0.0]) == "The gradient is zero at depth step 4 and at depth step 2."
    assert verdict(frame_of({})) == "No gradients against depth were recorded."


def stacks_of(ratios, depths=(1, 2, 3), steps=6):
    """A frame of a grid: of each kernel the norm grows, or falls, from the first depth on."""
    rows = [
        (step, "grid", weight, float(depth), "norm", ratio ** (1 - (depth - 1) / (len(depths) - 1)))
        for step in range(1, steps + 1)
        for depth in depths
        for weight, ratio in ratios.items()
    ]
    return pd.DataFrame(rows, columns=["step", "layer", "weight", "depth", "statistic", "value"])


def test_each_stack_of_matrices_has_a_ratio_of_its_own():
    """A grid has several, and further kernels: neither are they one chain, nor is one hidden."""
    ratios = {"time_recurrent_kernel": 1e-4, "depth_recurrent_kernel": 0.5, "time_kernel": 1e9}
    frame = stacks_of(ratios)
    found = first_last_ratio(frame)
    assert len(found) == 2 * 6 and set(found.layer) == {"grid"}
    for weight, rows in found.groupby("weight"):
        np.testing.assert_allclose(rows.ratio, ratios[weight], rtol=1e-6)
    assert verdict(frame) == (
        "The gradient of grid/time_recurrent_kernel vanishes: at depth step 1 it is 10^-4.0 times "
        "that at depth step 3; that of another arrives."
    )
    ax = gradient_plots.plot_depth(frame)  # the first of them
    assert ax.lines[0].get_xdata().tolist() == [1, 2, 3]
    assert ax.lines[0].get_ydata()[0] == pytest.approx(1e-4)
    ax = gradient_plots.plot_ratio(frame)
    assert [line.get_label() for line in ax.lines] == [
        "grid/depth_recurrent_kernel",
        "grid/time_recurrent_kernel",
    ]
    matplotlib.pyplot.close("all")


def test_layers_with_two_kernels_are_one_chain():
    """Such as separable convolutions: the last kernel's gradient against the first one's."""
    rows = [
        (1, f"layer_{number}", weight, math.nan, "norm", 10.0**number)
        for number in range(4)
        for weight in ("depthwise_kernel", "pointwise_kernel", "bias")
    ]
    columns = ["step", "layer", "weight", "depth", "statistic", "value"]
    frame = pd.DataFrame(rows, columns=columns)
    assert first_last_ratio(frame).values.tolist() == [[1, "model", "kernel", 1e-3]]
    assert verdict(frame).endswith("at depth step 1 it is 0.001 times that at depth step 8.")


def test_the_verdict_on_gradients_that_are_not_finite():
    nan, inf = math.nan, math.inf

    def words(*steps):
        return verdict(frame_of({i: dict(enumerate(one, 2)) for i, one in enumerate(steps, 1)}))

    said = "The gradient is {} at {} of 4 depth steps in the last recorded step."
    assert words([nan, nan, 1.0, 1.0]) == said.format("not a number (NaN)", 2)
    assert words([1.0, nan, 1.0, 1.0]) == said.format("not a number (NaN)", 1)
    assert words([1.0, 1.0, 1.0, inf]) == said.format("infinite", 1)
    assert words([inf, inf, inf, 1.0]) == said.format("infinite", 3)
    assert words([1.0] * 4, [nan, inf, 1.0, 1.0]) == said.format("not a number (NaN)", 2)
    # A step that dynamic loss scaling skips spoils nothing.
    assert words([inf] * 4, *[[1e-2, 0.1, 0.1, 1.0]] * 19).startswith("The gradient falls: ")
    late = [[1e-2, 1.0]] * 28 + [[nan, inf], [1e-2, 1.0]]
    assert words(*late).startswith("The gradient falls: at depth step 2 it is 0.01 times")


def frame_of(values):
    """A frame with norms `values[step][depth]` of one stacked kernel."""
    rows = [
        (step, "block", "recurrent_kernel", float(depth), "norm", value)
        for step, by_depth in values.items()
        for depth, value in by_depth.items()
    ]
    return pd.DataFrame(rows, columns=["step", "layer", "weight", "depth", "statistic", "value"])


def test_first_last_ratio():
    frame = frame_of({1: {2: 1e-6, 3: 1e-3, 4: 1.0}, 10: {4: 0.5, 2: 1.0}, 20: {2: 1.0, 4: 0.0}})
    ratio = first_last_ratio(frame)
    assert ratio.ratio.tolist() == [1e-6, 2.0, math.inf]
    broken = first_last_ratio(frame_of({1: {2: math.nan, 3: 1.0}, 2: {2: 1.0, 3: math.nan}}))
    assert broken.ratio.isna().tolist() == [True, True]
    chain = frame.assign(
        depth=np.nan, layer=[f"dense_{d:.0f}" for d in frame.depth], weight="kernel"
    )
    assert first_last_ratio(chain[chain.step == 1]).ratio.tolist() == [1e-6]


def bands_of(ax):
    """The bands behind the lines, by their labels."""
    return {
        band.get_label(): (band.get_y(), band.get_y() + band.get_height()) for band in ax.patches
    }


def test_plots_show_the_numbers():
    frame = frame_of(
        {step: {d: 10.0**-d for d in range(2, 31)} for step in (1, 10, 20, 30, 40, 50)}
    )
    ax = gradient_plots.plot_depth(frame)
    assert ax.get_yscale() == "log" and 1 < len(ax.lines) <= 5
    np.testing.assert_allclose(ax.lines[0].get_ydata(), [10.0**-d for d in range(2, 31)])
    np.testing.assert_allclose(ax.lines[0].get_xdata(), range(2, 31))
    assert ax.get_legend().texts[0].get_text() == "training step 1"
    ax = gradient_plots.plot_heatmap(frame)
    np.testing.assert_allclose(ax.collections[0].get_array().data[0], [1e-2] * 6)
    ax = gradient_plots.plot_ratio(frame)
    np.testing.assert_allclose(ax.lines[0].get_ydata(), 1e28)
    assert bands_of(ax) == {"arrives": pytest.approx((0.1, 10))}
    ax = gradient_plots.plot_depth(frame)  # of the last step: within 10 times 1e-30
    assert bands_of(ax) == {"arrives, at step 50": pytest.approx((1e-31, 1e-29), rel=1e-6, abs=0)}
    updates = frame.assign(statistic="update_ratio", weight="kernel")
    ax = gradient_plots.plot_updates(updates)
    np.testing.assert_allclose(ax.lines[0].get_ydata(), [1e-16] * 6)  # the median over depth
    assert bands_of(ax) == {"usual": pytest.approx((1e-4, 1e-2))}
    assert not gradient_plots.plot_updates(frame).lines
    matplotlib.pyplot.close("all")
    # Nothing recorded and zero gradients are pictures too, not errors.
    for empty in (frame.iloc[:0], frame.assign(value=0.0), frame.assign(value=np.nan)):
        for plot in (
            gradient_plots.plot_depth,
            gradient_plots.plot_heatmap,
            gradient_plots.plot_ratio,
            gradient_plots.plot_updates,
        ):
            plot(empty)
    matplotlib.pyplot.close("all")


def test_what_a_fit_that_failed_has_left_is_gone_in_the_next():
    model = build("chain")
    with pytest.raises(ValueError, match="No trainable variable matches"):
        fit(model, callbacks=[GradientFlow(layers="dens")])
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            fit(model, callbacks=[GradientFlow(), DivergenceGuard(), Interrupted()])
    flow = GradientFlow(layers=model.layers[0].name)
    fit(model, callbacks=[flow])
    assert flow.to_frame().weight.tolist() == ["kernel", "bias"]
    assert not traces_of_the_tap(model)


def test_methods_of_the_users_own_come_back():
    model, calls = build("chain"), []
    original = model.train_step

    def counted(*args, **kwargs):
        calls.append(1)
        return original(*args, **kwargs)

    object.__setattr__(model, "train_step", counted)
    fit(model, callbacks=[GradientFlow()])
    assert model.train_step is counted and calls
    probe = SignalProbe(model, X)
    layer = model.layers[0]
    before = layer.call
    object.__setattr__(layer, "call", lambda x, **options: before(x, **options) * 0)
    own = layer.call
    assert probe.measure().value[0] == 0 and layer.call is own


def test_evaluation_within_a_fit_leaves_its_step_alone():
    class Evaluation(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.evaluate(X, Y, verbose=0, callbacks=[GradientFlow()])

    model, flow = build("chain"), GradientFlow()
    fit(model, callbacks=[flow, Evaluation()], epochs=3)
    assert flow.to_frame().step.unique().tolist() == [1, 2, 3]
    assert not traces_of_the_tap(model)
    compiled_step = model.train_function = object()
    model.evaluate(X, Y, verbose=0, callbacks=[flow])
    assert model.train_function is compiled_step


@pytest.mark.parametrize("others", [[], [keras.layers.Dense(2, name="head")]], ids=len)
def test_a_layer_with_the_name_of_its_model(others):
    inputs = x = keras.Input((6,))
    for layer in [keras.layers.Dense(3, name="net"), *others]:
        x = layer(x)
    model = keras.Model(inputs, x, name="net")
    model.compile("sgd", "mse")
    flow = GradientFlow(layers="net")
    model.fit(X, X[:, : x.shape[-1]], verbose=0, callbacks=[flow])
    assert set(flow.to_frame().layer) == {"net"}
