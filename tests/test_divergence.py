import contextlib
import itertools

import keras
import numpy as np
import pytest

from keras_deeplstm.callbacks import DivergenceGuard

pytestmark = pytest.mark.backends

X = np.ones((12, 3), "float32")
Y = np.ones((12, 1), "float32")


def build(learning_rate=0.01):
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(learning_rate), "mse")
    return model


def fit(model, guard, x=X, y=Y, epochs=4, callbacks=(), **options):
    return model.fit(
        x, y, batch_size=4, epochs=epochs, shuffle=False, verbose=0,
        callbacks=[guard, *callbacks], **options,
    )  # fmt: skip


def test_a_good_run_is_left_alone():
    plain, guarded, guard = build(), build(), DivergenceGuard()
    plain.fit(X, Y, batch_size=4, epochs=4, shuffle=False, verbose=0)
    fit(guarded, guard)
    assert not guard.diverged and guard.step is None and guard.reason == ""
    for one, other in zip(plain.get_weights(), guarded.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def batches(bad_step, value):
    for step in itertools.count(1):
        yield X[:4], np.full((4, 1), value, "float32") if step == bad_step else Y[:4]


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("bad_step", [2, 5])
def test_averages_of_the_optimizer_do_not_take_the_place_of_the_weights(bad_step, scaled):
    """At the end of a `fit` Keras puts them there."""
    weights = []
    for use_ema in (False, True):
        model, guard = build(), DivergenceGuard()
        optimizer = keras.optimizers.SGD(0.01, momentum=0.9, use_ema=use_ema)
        if scaled:
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=2.0)
        model.compile(optimizer, "mse")
        start = model.get_weights()
        with pytest.warns(UserWarning, match=f"in step {bad_step}: the loss is"):
            data = batches(bad_step, np.nan)
            model.fit(data, steps_per_epoch=3, epochs=9, verbose=0, callbacks=[guard])
        weights.append(model.get_weights())
    for plain, averaged, first in zip(*weights, start, strict=True):
        np.testing.assert_array_equal(averaged, plain)
        assert np.array_equal(plain, first) == (bad_step == 2)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_stops_and_the_weights_of_the_last_good_epoch_come_back(value, tmp_path):
    good = build()
    good.fit(X, Y, batch_size=4, epochs=1, shuffle=False, verbose=0)
    model, guard = build(), DivergenceGuard()
    path = tmp_path / "model.weights.h5"
    saving = keras.callbacks.ModelCheckpoint(path, save_weights_only=True)
    with pytest.warns(UserWarning, match=r"in step 5: .* weights are those of the last good epoch"):
        history = model.fit(
            batches(5, value), steps_per_epoch=3, epochs=9, verbose=0, callbacks=[guard, saving]
        )
    assert guard.diverged and guard.step == 5 and len(history.history["loss"]) == 2
    assert guard.reason.startswith("the loss is")
    for one, other in zip(good.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)
    assert int(keras.ops.convert_to_numpy(model.optimizer.iterations)) == 3
    saved = build()
    saved.load_weights(path)
    for one, other in zip(saved.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_loss_far_above_the_first_stops():
    model, guard = build(learning_rate=10.0), DivergenceGuard(factor=5)
    before = model.get_weights()
    with pytest.warns(UserWarning, match="is above 5 x.* those from before the first epoch"):
        fit(model, guard)
    assert guard.diverged and guard.step in (1, 2, 3)
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_divergence_in_the_first_epoch_resets_the_optimizer_too():
    """TensorFlow builds it in the first step only."""
    model, guard = build(), DivergenceGuard()
    model.compile("adam", "mse")
    before = model.get_weights()
    with pytest.warns(UserWarning, match="those from before the first epoch"):
        model.fit(batches(2, np.nan), steps_per_epoch=3, epochs=9, verbose=0, callbacks=[guard])
    assert guard.step == 2
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    values = {v.name: keras.ops.convert_to_numpy(v) for v in model.optimizer.variables}
    assert values.pop("learning_rate") == np.float32(0.001)
    assert len(values) == 5  # iterations, two moments of two weights
    for value in values.values():
        np.testing.assert_array_equal(value, np.zeros_like(value))


def test_a_first_loss_of_zero_is_no_reference():
    for last, diverges in ((2.0, False), (4.0, True)):
        model, guard = build(learning_rate=1e-9), DivergenceGuard(factor=5)
        model.layers[0].set_weights([np.zeros((3, 1)), np.zeros(1)])
        y = np.repeat(np.array([[0.0], [1.0], [last]], "float32"), 4, axis=0)
        # Means of the epoch so far: 0, 1/2, (1 + last^2) / 3, which is 1.67 or 5.67.
        with pytest.warns() if diverges else contextlib.nullcontext():
            fit(model, guard, y=y, epochs=1)
        assert guard.diverged == diverges
    assert guard.step == 3 and guard.reason == "the loss 5.667 is above 5 x 0.5"


def test_the_reference_of_a_negative_loss_is_its_size():
    for last, diverges in ((30.0, False), (34.0, True)):
        model, guard = build(), DivergenceGuard(factor=5)
        loss = lambda truth, output: keras.ops.mean(truth * output)  # noqa: E731
        model.compile(keras.optimizers.SGD(1e-9), loss)
        model.layers[0].set_weights([np.zeros((3, 1)), np.ones(1)])
        y = np.repeat(np.array([[-2.0], [1.0], [last]], "float32"), 4, axis=0)
        # Means of the epoch so far: -2, -1/2, (-1 + last) / 3, which is 9.67 or 11.
        with pytest.warns() if diverges else contextlib.nullcontext():
            fit(model, guard, y=y, epochs=1)
        assert guard.diverged == diverges
    assert guard.step == 3 and guard.reason == "the loss 11 is above 5 x 2"


def test_a_gradient_that_is_not_finite_stops():
    class Root(keras.layers.Layer):
        def call(self, x):
            return keras.ops.sqrt(keras.ops.abs(x))  # infinite slope at 0

    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1), Root()])
    model.compile("sgd", "mse")
    model.layers[0].set_weights([np.zeros((3, 1)), np.zeros(1)])
    guard = DivergenceGuard()
    with pytest.warns(UserWarning, match="is not finite"):
        fit(model, guard)
    assert (guard.step, guard.layer) == (1, model.layers[0].name)
    np.testing.assert_array_equal(model.layers[0].get_weights()[0], np.zeros((3, 1)))


class Log(keras.layers.Layer):
    def call(self, x):
        return keras.ops.log(x)  # NaN below 0


@pytest.mark.parametrize("jit_compile", [False, True])
def test_the_layer_that_went_wrong_first(jit_compile):
    if keras.backend.backend() == "torch" and jit_compile:
        pytest.skip("Keras does not compile the training step of torch here")
    inner = keras.Sequential([keras.layers.Dense(3, use_bias=False, name="below"), Log(name="log")])
    layers = [inner, keras.layers.Dense(3, name="above"), keras.layers.Dense(1, name="last")]
    model = keras.Sequential([keras.Input((3,)), *layers])
    model.compile(keras.optimizers.SGD(1e-6), "mse", jit_compile=jit_compile)
    inner.layers[0].set_weights([np.eye(3)])
    guard = DivergenceGuard()
    for x, y, layer, reason in (
        (-X[:4], Y[:4], "log", "and layer 'log' the first whose output is not finite"),
        (np.nan * X[:4], Y[:4], None, "and the inputs are not finite"),
        (X[:4], np.nan * Y[:4], None, "though all layers return finite values"),
    ):
        data = [np.concatenate([good, bad]) for good, bad in ((X[:8], x), (Y[:8], y))]
        with pytest.warns(UserWarning, match=f"in step 3: the loss is nan.*{reason}"):
            fit(model, guard, *data)
        assert (guard.step, guard.layer) == (3, layer) and guard.reason.endswith(reason)


def test_wrong_use():
    for factor in (1.0, 0.5, -1, float("nan"), "10"):
        with pytest.raises(ValueError, match="`factor` must be"):
            DivergenceGuard(factor)


def test_a_variable_of_the_model_itself_is_no_layer():
    class Scaled(keras.Model):
        def __init__(self):
            super().__init__()
            self.scale = keras.Variable(np.zeros(1, "float32"), name="scale")

        def call(self, x):
            # Its derivative is infinity times 0.
            return x * (1 + keras.ops.sqrt(keras.ops.square(self.scale)))

    model, guard = Scaled(), DivergenceGuard()
    model.compile("sgd", "mse")
    with pytest.warns(UserWarning, match="the gradient of scale is not finite"):
        fit(model, guard, y=2 * X)
    assert guard.diverged and guard.layer is None
