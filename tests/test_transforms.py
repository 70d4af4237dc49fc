"""Function transforms, types and exports that are expected of a Keras layer, on each backend.

One layer of each kind, with a number of steps that is written out and one that is a loop. What a
transform gives is compared with what another way gives, or with differences.
"""

import warnings

import keras
import numpy as np
import pytest
from keras import ops

from keras_deeplstm.layers import (
    DepthLSTM,
    GridLSTM2D,
    GridLSTM3D,
    HighwayBlock,
    UnfoldedLSTMBlock,
)
from keras_deeplstm.layers.gates import _kept

pytestmark = pytest.mark.backends

BACKEND = keras.backend.backend()
X = np.random.default_rng(0).normal(size=(2, 10, 3)).astype("float32")


def nested(step=None, dtype=None):
    return keras.layers.Dense(3, "tanh", dtype=dtype)


LAYERS = {
    "grid-1": lambda **dtype: GridLSTM2D(4, 1, **dtype),
    "grid-2": lambda **dtype: GridLSTM2D(4, 2, priority=None, **dtype),
    "grid-10": lambda **dtype: GridLSTM2D(4, 10, **dtype),
    "grid-norm": lambda **dtype: GridLSTM2D(4, 2, normalization="layer", **dtype),
    "images": lambda **dtype: GridLSTM3D(4, 2, **dtype),
    "block-tied": lambda **dtype: UnfoldedLSTMBlock(4, 10, tied=True, **dtype),
    "block-batch": lambda **dtype: UnfoldedLSTMBlock(4, 3, normalization="batch", **dtype),
    "highway": lambda **dtype: HighwayBlock(4, 10, **dtype),
    # Layer normalization of three units bends too much for differences in float32.
    "depth": lambda **dtype: DepthLSTM(
        [nested(**dtype), nested(**dtype)], normalization="rms", **dtype
    ),
    "depth-loop": lambda **dtype: DepthLSTM(
        nested(**dtype), 10, tied=True, normalization="rms", unroll=False, **dtype
    ),
}


def kinds(*fast):
    """All layers; those that are not `fast` take long."""
    return pytest.mark.parametrize(
        "kind", [k if k in fast else pytest.param(k, marks=pytest.mark.long) for k in LAYERS]
    )


TRANSFORMED = kinds("block-tied")


@pytest.fixture
def layer(kind):
    layer = LAYERS[kind]()
    layer.build(inputs(layer).shape)
    return layer


def inputs(layer):
    return {GridLSTM2D: X, GridLSTM3D: X[:, :6].reshape(2, 2, 3, 3)}.get(type(layer), X[:, 0])


def numpy_of(tensor):
    return ops.convert_to_numpy(tensor)


def directional(function, x, v, step=1e-2):
    """The derivative of `function` along `v`, by differences."""
    return (numpy_of(function(x + step * v)) - numpy_of(function(x - step * v))) / (2 * step)


def hessian_along(gradient, x, v):
    return directional(gradient, x, v, 1e-3)


@pytest.mark.skipif(BACKEND != "jax", reason="transforms of JAX")
@TRANSFORMED
def test_jax(layer):
    import jax
    import jax.numpy as jnp

    x, layer = jnp.asarray(inputs(layer)), jax.jit(layer)
    v = jnp.asarray(np.random.default_rng(1).normal(size=x.shape).astype("float32"))

    def loss(x):
        return jnp.sum(jnp.sin(layer(x)))

    forward = jax.jvp(layer, (x,), (v,))[1]
    np.testing.assert_allclose(forward, directional(layer, x, v), atol=1e-3)
    jacobian = jnp.tensordot(jax.jacrev(layer)(x), v, x.ndim)
    np.testing.assert_allclose(forward, jacobian, atol=1e-5)
    np.testing.assert_allclose(jax.linearize(layer, x)[1](v), forward, atol=1e-5)
    gradient = jax.jit(jax.grad(loss))
    second = jax.jvp(gradient, (x,), (v,))[1]
    reverse = jax.jit(jax.grad(lambda x: jnp.sum(gradient(x) * v)))(x)
    np.testing.assert_allclose(second, reverse, atol=1e-4)
    np.testing.assert_allclose(second, hessian_along(gradient, x, v), atol=2e-2)
    np.testing.assert_allclose(jax.grad(jax.checkpoint(loss))(x), gradient(x), atol=1e-5)
    two = jnp.stack([x, 2 * x])
    np.testing.assert_allclose(jax.vmap(layer)(two)[1], layer(2 * x), atol=1e-5)


@pytest.mark.long
@pytest.mark.skipif(BACKEND != "tensorflow", reason="transforms of TensorFlow")
@TRANSFORMED
def test_tensorflow(kind, layer):
    import tensorflow as tf

    x = tf.constant(inputs(layer))
    v = tf.constant(np.random.default_rng(1).normal(size=x.shape).astype("float32"))

    def gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(tf.sin(layer(x)))
        return tape.gradient(loss, x)

    def second(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            along = tf.reduce_sum(gradient(x) * v)
        return tape.gradient(along, x)

    expected = hessian_along(gradient, x, v)
    # TensorFlow's XLA has no second derivative of a loop in a loop.
    for jit in (False,) if kind == "grid-10" else (False, True):
        np.testing.assert_allclose(tf.function(second, jit_compile=jit)(x), expected, atol=2e-2)
    with tf.autodiff.ForwardAccumulator(x, v) as forward:
        y = layer(x)
    forward = forward.jvp(y)
    np.testing.assert_allclose(forward, directional(layer, x, v), atol=1e-3)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x)
    np.testing.assert_allclose(
        np.tensordot(tape.jacobian(y, x), v, len(x.shape)), forward, atol=1e-5
    )
    two = tf.stack([x, 2 * x])
    np.testing.assert_allclose(tf.vectorized_map(layer, two)[1], layer(2 * x), atol=1e-5)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="SavedModel")
def test_a_stateful_grid_as_saved_model(tmp_path):
    """TensorFlow sees the kept states; Keras does not take them for weights."""
    import tensorflow as tf

    layer = GridLSTM2D(4, 2, stateful=True)
    sequences = keras.Input(batch_shape=X.shape)
    model = keras.Model(sequences, layer(sequences))
    assert len(model.weights) == 8
    tf.saved_model.save(model, str(tmp_path / "saved"))
    loaded = tf.saved_model.load(str(tmp_path / "saved")).signatures["serving_default"]
    for _ in range(2):  # the second goes on after the first, there and here
        (found,) = loaded(tf.constant(X)).values()
        np.testing.assert_allclose(found, model(X), atol=1e-6)


@pytest.mark.skipif(BACKEND != "torch", reason="transforms of PyTorch")
@TRANSFORMED
def test_torch(layer):
    import torch
    from torch import func
    from torch.autograd import forward_ad

    x = torch.tensor(inputs(layer))
    v = torch.tensor(np.random.default_rng(1).normal(size=x.shape).astype("float32"))

    def loss(x):
        return layer(x).sin().sum()

    def gradient(x):
        x = x.detach().requires_grad_()
        return torch.autograd.grad(loss(x), x)[0]

    layer(x)
    fused = getattr(layer, "used_kernel", None)
    forward = func.jvp(layer, (x,), (v,))[1].detach()
    np.testing.assert_allclose(forward, directional(layer, x, v), atol=1e-3)
    with forward_ad.dual_level():
        dual = layer(forward_ad.make_dual(x, v))
        np.testing.assert_allclose(
            forward_ad.unpack_dual(dual).tangent.detach(), forward, atol=1e-5
        )
    np.testing.assert_allclose(func.grad(loss)(x).detach(), gradient(x), atol=1e-5)
    point = x.clone().requires_grad_()
    (by_x,) = torch.autograd.grad(loss(point), point, create_graph=True)
    (second,) = torch.autograd.grad((by_x * v).sum(), point)
    np.testing.assert_allclose(second, hessian_along(gradient, x, v), atol=2e-2)
    two = torch.stack([x, 2 * x])
    np.testing.assert_allclose(func.vmap(layer)(two)[1].detach(), numpy_of(layer(2 * x)), atol=1e-5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # sizes become constants
        traced = torch.jit.trace(layer, (x,), check_trace=False)
    np.testing.assert_allclose(traced(2 * x).detach(), numpy_of(layer(2 * x)), atol=1e-5)
    layer(x)
    assert getattr(layer, "used_kernel", None) == fused  # it stepped aside only for a while


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64", "mixed_float16"])
@kinds("grid-2", "block-batch", "depth")
def test_a_type_of_its_own(kind, dtype):
    """The output has it, in training and in inference; afterwards the weights have theirs."""
    layer = LAYERS[kind](dtype=dtype)
    expected = "float16" if dtype == "mixed_float16" else dtype
    if BACKEND == "jax" and dtype == "float64":
        pytest.skip("JAX has it only where it is switched on for all")
    for training in (True, False):
        found = layer(inputs(layer), training=training)
        assert keras.backend.standardize_dtype(found.dtype) == expected
        assert np.isfinite(numpy_of(ops.cast(found, "float32"))).all()
    types = {keras.backend.standardize_dtype(weight.dtype) for weight in layer.weights}
    assert types == {layer.variable_dtype}


@kinds("grid-2", "block-batch", "highway")
def test_an_outer_layer_of_another_type(kind):
    """The layer computes in its own type; what the outer one hands over is rounded to its type."""
    inner = LAYERS[kind](dtype="float32")
    outer = keras.layers.TimeDistributed(inner, dtype="mixed_float16")
    x = np.stack([inputs(inner)] * 2, axis=1)
    found = outer(x)
    assert keras.backend.standardize_dtype(found.dtype) == "float32"
    expected = numpy_of(inner(inputs(inner)))
    np.testing.assert_allclose(numpy_of(found)[:, 0], expected, atol=5e-3)


@pytest.mark.skipif(BACKEND != "jax", reason="needs derivatives of derivatives of a function")
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_second_derivatives_where_a_gate_is_shut(dtype):
    """c' = sigmoid(z_f) c: its derivative by c, then by z_f, is sigmoid'(z_f)."""
    import jax

    mixed = jax.grad(jax.grad(_kept, argnums=1))
    for z in (-100.0, -12.0, -1.0, 0.0, 1.0, 12.0, 100.0):
        gate = 1 / (1 + np.exp(-np.float64(z)))
        found = mixed(*(np.asarray(value, dtype) for value in (z, 1.0)))
        np.testing.assert_allclose(
            found, gate * (1 - gate), atol=1e-6 if dtype == "float32" else 1e-3
        )


@pytest.mark.skipif(BACKEND != "torch", reason="about PyTorch's autocast")
def test_autocast_returns_the_type_of_the_layer():
    import torch

    layer = UnfoldedLSTMBlock(4, 10, tied=True)
    x = ops.convert_to_tensor(X[:, 0])
    plain = layer(x)
    with torch.autocast("cpu"):
        found = layer(x)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(ops.convert_to_numpy(found), ops.convert_to_numpy(plain), atol=2e-2)
