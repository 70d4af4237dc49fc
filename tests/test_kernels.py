"""Which kernel has run, and that the fused one computes what the loop computes."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_deeplstm.diagnostics.autodiff import compiled
from keras_deeplstm.layers import GridLSTM2D, UnfoldedLSTMBlock, kernels
from keras_deeplstm.layers.gates import gates
from keras_deeplstm.layers.probes import Probe, probing

pytestmark = pytest.mark.backends

BACKEND = keras.backend.backend()
FASTEST = "fused" if BACKEND == "torch" else "loop"
ON_TORCH = pytest.mark.skipif(BACKEND != "torch", reason="only there is a fused kernel")
ROWS, TIME, UNITS, DEPTH = 4, 5, 3, 3
RIGHT_PADDED = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 0, 0, 0, 0], [0] * 5], bool)
X = np.random.default_rng(0).normal(size=(ROWS, TIME, UNITS)).astype("float32")
STATES = list(np.random.default_rng(1).normal(size=(2 * DEPTH, ROWS, UNITS)).astype("float32"))


def grid(**options):
    layer = GridLSTM2D(UNITS, DEPTH, bias_initializer="random_normal", seed=0, **options)
    layer.build(X.shape)
    return layer


def block(**options):
    options = {"tied": True, "bias_initializer": "random_normal", **options}
    layer = UnfoldedLSTMBlock(UNITS, 6, seed=0, **options)
    layer.build((ROWS, UNITS))
    return layer


def results(layer, x, **call):
    """Outputs, and gradients of their squares by the weights and the input."""

    def loss(x):
        parts = keras.tree.flatten(layer(x, **call))
        return sum((i + 1) * ops.sum(ops.square(part)) for i, part in enumerate(parts))

    _, by_weight, by_tensor = compiled(loss, layer.trainable_variables, gradients="all")(x)
    outputs = keras.tree.flatten(layer(x, **call))
    return [ops.convert_to_numpy(part) for part in outputs], [*by_weight, *by_tensor]


def assert_equals_the_loop(layer, x, monkeypatch, **call):
    def kernels_of(layer):
        return layer.used_kernel, getattr(layer, "used_depth_kernel", None)

    along_depth = ("fused", "products") if isinstance(layer, GridLSTM2D) else (None, None)
    outputs, gradients = results(layer, x, **call)
    assert kernels_of(layer) == ("fused", along_depth[0])
    monkeypatch.setattr(kernels, "can_be_fused", lambda *tensors: False)
    of_loop, gradients_of_loop = results(layer, x, **call)
    assert kernels_of(layer) == ("loop", along_depth[1])
    for one, other in zip(outputs, of_loop, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    for one, other in zip(gradients, gradients_of_loop, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5 * np.abs(other).max())


@ON_TORCH
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"tied": True, "priority": None, "return_sequences": True},
        {"tied": "depth", "project_inputs": "both", "output": "both", "return_state": True},
        {"go_backwards": True, "use_bias": False, "return_sequences": True, "return_state": True},
        {"project_inputs": None, "priority": None, "go_backwards": True},
    ],
    ids=str,
)
@pytest.mark.parametrize("with_state", [False, True])
def test_a_grid(options, with_state, monkeypatch):
    call = {"initial_state": STATES} if with_state else {}
    assert_equals_the_loop(grid(**options), X, monkeypatch, **call)


@ON_TORCH
@pytest.mark.parametrize("options", [{}, {"return_sequences": True, "priority": None}], ids=str)
def test_a_grid_with_right_padding(options, monkeypatch):
    assert_equals_the_loop(grid(**options), X, monkeypatch, mask=RIGHT_PADDED)


@ON_TORCH
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"return_state": True, "return_all_steps": True},
        {"input_mode": "every", "return_all_steps": True},
        {"input_mode": "state", "return_state": True, "use_bias": False},
        {"state_initializer": "random_normal", "return_state": True},
    ],
    ids=str,
)
def test_a_tied_block(options, monkeypatch):
    assert_equals_the_loop(block(**options), X[:, 0], monkeypatch)


def test_a_stateful_grid_goes_on():
    layer, whole = grid(stateful=True, return_sequences=True), grid(return_sequences=True)
    whole.set_weights(layer.get_weights())
    parts = [ops.convert_to_numpy(layer(X[:, part])) for part in (slice(2), slice(2, None))]
    assert layer.used_kernel == FASTEST
    expected = ops.convert_to_numpy(whole(X))
    np.testing.assert_allclose(np.concatenate(parts, axis=1), expected, atol=1e-5)


def used(layer, x=X, probe=None, **call):
    with probing({layer: probe} if probe else {}):
        layer(x, **call)
    return layer.used_kernel


def test_the_fastest_kernel_runs_where_nothing_special_is_asked():
    assert used(grid()) == used(grid(dropout=0.5), training=True) == FASTEST
    assert used(grid(), mask=RIGHT_PADDED) == FASTEST
    assert used(grid(recurrent_dropout=0.5)) == FASTEST  # none in inference
    assert used(block(), X[:, 0]) == used(block(dropout=0.5), X[:, 0]) == FASTEST


@pytest.mark.parametrize(
    "options",
    [
        {"unroll": True},
        {"activation": "relu"},
        {"recurrent_activation": "hard_sigmoid"},
        {"normalization": "layer"},
        {"peepholes": True},
        {"recurrent_dropout": 0.5},
        {"dtype": "float64"},
        {"dtype": "mixed_bfloat16"},
    ],
    ids=str,
)
def test_what_is_special_takes_the_loop(options):
    assert used(grid(**options), training=True) == "loop"
    options = {k: v for k, v in options.items() if k not in ("unroll", "recurrent_dropout")}
    assert used(block(**options or {"dropout": 0.5}), X[:, 0], training=True) == "loop"


def test_along_depth_less_is_special():
    def used_along_depth(layer, **call):
        used(layer, training=True, **call)
        return layer.used_depth_kernel

    fastest = "fused" if BACKEND == "torch" else "products"
    assert used_along_depth(grid(), mask=RIGHT_PADDED[:, ::-1]) == fastest
    assert used_along_depth(grid(dropout=0.5, recurrent_dropout=0.5, unroll=True)) == fastest
    assert used_along_depth(grid(), probe={"depth": Probe(cut="memory")}) == fastest
    for options in ({"activation": "relu"}, {"normalization": "layer"}, {"peepholes": True}):
        assert used_along_depth(grid(**options)) == "products"
    zeros = ops.zeros((DEPTH, TIME, ROWS, UNITS))
    assert used_along_depth(grid(), probe={"depth": Probe((zeros, zeros))}) == "products"


def test_probes_masks_and_untied_depth_take_the_loop():
    assert used(grid(), probe={"time": Probe(cut="hidden")}) == "loop"
    assert used(block(), X[:, 0], probe={"depth": Probe(cut="hidden")}) == "loop"
    assert used(grid(return_state=True), mask=RIGHT_PADDED) == "loop"
    assert used(grid(), mask=RIGHT_PADDED[:, ::-1]) == "loop"
    assert used(block(tied=False), X[:, 0]) == "loop"
    assert used(grid(), X[:0]) == "loop"


@ON_TORCH
def test_transforms_step_aside(monkeypatch):
    """As of `keras.layers.LSTM`, which has no fused kernel on a CPU."""
    import torch

    layer = grid()
    x = torch.tensor(X)

    def loss(x):
        return layer(x).square().sum()

    by_func = torch.func.grad(loss)(x)
    assert layer.used_kernel == "loop"
    leaf = x.clone().requires_grad_()
    loss(leaf).backward()
    assert layer.used_kernel == "fused"
    np.testing.assert_allclose(by_func.detach().numpy(), leaf.grad.numpy(), atol=1e-5)
    each = torch.func.vmap(lambda row: layer(row[None])[0])(x)
    assert layer.used_kernel == "loop"
    np.testing.assert_allclose(each.detach().numpy(), layer(x).detach().numpy(), atol=1e-5)
    # A second derivative goes through the fused kernel.
    (first,) = torch.autograd.grad(loss(leaf), leaf, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), leaf)
    monkeypatch.setattr(kernels, "can_be_fused", lambda *tensors: False)
    (first,) = torch.autograd.grad(loss(leaf), leaf, create_graph=True)
    (expected,) = torch.autograd.grad(first.square().sum(), leaf)
    np.testing.assert_allclose(second.numpy(), expected.numpy(), rtol=1e-4, atol=1e-6)


@pytest.mark.long
@pytest.mark.skipif(BACKEND != "tensorflow", reason="of XLA as TensorFlow compiles with it")
def test_the_gradient_of_steps_written_out_grows_with_the_depth_not_its_square():
    """XLA would compute the gradient of c anew for each gate of all the steps before."""
    import tensorflow as tf

    functions = keras.activations.tanh, keras.activations.sigmoid

    def products(depth, **options):
        @tf.function(jit_compile=True)
        def gradient(x, kernels):
            with tf.GradientTape() as tape:
                tape.watch((x, kernels))
                h = c = x
                for kernel in kernels:
                    h, c = gates(ops.matmul(h, kernel), c, *functions, **options)
            return tape.gradient(h, (x, kernels))

        tensors = tf.ones((4, 8)), [tf.ones((8, 32))] * depth
        compiled = gradient.experimental_get_compiler_ir(*tensors)
        return compiled("optimized_hlo").count(" multiply(")

    few, more, many = (products(depth, written_out=True) for depth in (3, 6, 9))
    assert many - more == more - few > 0
    assert products(9) > 1.2 * many  # what it is for; equal once XLA no longer does that


@ON_TORCH
def test_another_default_type_changes_nothing():
    before = keras.config.floatx()
    layer, expected = block(dtype="float32"), block(dtype="float32")
    expected.set_weights(layer.get_weights())
    keras.config.set_floatx("float64")
    try:
        found = layer(X[:, 0])
    finally:
        keras.config.set_floatx(before)
    assert layer.used_kernel == "fused"
    np.testing.assert_array_equal(
        ops.convert_to_numpy(found), ops.convert_to_numpy(expected(X[:, 0]))
    )
