"""What our layers are measured against: the same computation, written in the usual ways.

`GridCell` and `depth_chain` compute the same as `GridLSTM2D` and `UnfoldedLSTMBlock`; `grid_floor`
and `depth_floor` are only the matrix products of a training step, same shapes and same order.
"""

import keras
import numpy as np
from keras import ops

from keras_deeplstm.layers.gates import gates
from keras_deeplstm.layers.scan import scan


class GridCell(keras.layers.Layer):
    """All layers of a GridLSTM2D at one time: the cell-by-cell form, for `keras.layers.RNN`."""

    def __init__(self, units, depth):
        super().__init__()
        self.units, self.depth = units, depth
        self.state_size, self.output_size = [units] * (2 * depth), units

    def build(self, shape):
        units = self.units
        self.hidden_kernel = self.add_weight(shape=(shape[-1], units), name="hidden_kernel")
        self.hidden_bias = self.add_weight(shape=(units,), name="hidden_bias")
        for kind in ("time_kernel", "time_recurrent_kernel", "depth_kernel"):
            setattr(self, kind, [self._kernel(kind) for _ in range(self.depth)])
        self.depth_recurrent_kernel = [self._kernel("recurrent") for _ in range(self.depth)]
        self.time_bias = [self._bias("time_bias") for _ in range(self.depth)]
        self.depth_bias = [self._bias("depth_bias") for _ in range(self.depth)]
        self.built = True

    def _kernel(self, name):
        return self.add_weight(shape=(self.units, 4 * self.units), name=name)

    def _bias(self, name):
        return self.add_weight(shape=(4 * self.units,), initializer="zeros", name=name)

    def take_weights(self, grid):
        """Take those of a GridLSTM2D, so that both compute the same."""
        self.hidden_kernel.assign(ops.convert_to_numpy(grid.hidden_kernel))
        self.hidden_bias.assign(ops.convert_to_numpy(grid.hidden_bias))
        for direction in ("time", "depth"):
            for kind in ("kernel", "recurrent_kernel", "bias"):
                name = f"{direction}_{kind}"
                stacked = ops.convert_to_numpy(getattr(grid, name))
                for own, value in zip(getattr(self, name), stacked, strict=True):
                    own.assign(value)

    def call(self, x, states):
        h_D, new = ops.matmul(x, self.hidden_kernel) + self.hidden_bias, []
        c_D = ops.zeros_like(h_D)
        for layer in range(self.depth):
            h_T, c_T = states[2 * layer], states[2 * layer + 1]
            z = ops.matmul(h_D, self.time_kernel[layer])
            z = z + ops.matmul(h_T, self.time_recurrent_kernel[layer]) + self.time_bias[layer]
            h_T, c_T = gates(z, c_T, ops.tanh, keras.activations.sigmoid)
            z = ops.matmul(h_T, self.depth_kernel[layer])
            z = z + ops.matmul(h_D, self.depth_recurrent_kernel[layer]) + self.depth_bias[layer]
            h_D, c_D = gates(z, c_D, ops.tanh, keras.activations.sigmoid)
            new += [h_T, c_T]
        return h_D, new


class _DepthStep(keras.layers.Layer):
    """One step of an UnfoldedLSTMBlock as a layer of its own."""

    def __init__(self, units):
        super().__init__()
        self.units = units

    def build(self, shape, *_):
        self.kernel = self.add_weight(shape=(shape[-1], 4 * self.units), name="kernel")
        self.bias = self.add_weight(shape=(4 * self.units,), initializer="zeros", name="bias")
        self.built = True

    def call(self, h, c=None):
        z = ops.matmul(h, self.kernel) + self.bias
        c = ops.zeros((ops.shape(h)[0], self.units)) if c is None else c
        return gates(z, c, ops.tanh, keras.activations.sigmoid)


def depth_chain(units, depth):
    """An UnfoldedLSTMBlock as a chain of layers of a functional model."""

    def chain(x):
        h, c = _DepthStep(units)(x)
        for _ in range(depth - 1):
            h, c = _DepthStep(units)(h, c)
        return h

    return chain


def take_weights_of_block(steps, block):
    """Let the steps of a chain compute the same as an UnfoldedLSTMBlock."""
    first = ops.convert_to_numpy(block.kernel)
    kernels = ops.convert_to_numpy(block.recurrent_kernel)
    biases = ops.convert_to_numpy(block.bias)
    for number, (step, bias) in enumerate(zip(steps, biases, strict=True)):
        step.kernel.assign(first if number == 0 else kernels[number - 1])
        step.bias.assign(bias)


# Floors. The largest of its four parts takes the place of what the gates make of a product,
# forward; backward, four copies of a gradient times a constant. Less than that, such as a slice or
# plain copies, would let the compiler leave out most of the products.


def _random(*shape):
    return ops.convert_to_tensor(np.random.default_rng(0).normal(0, 0.01, shape).astype("float32"))


def _gated(z):
    return ops.max(ops.reshape(z, (*z.shape[:-1], 4, z.shape[-1] // 4)), axis=-2)


def _ungated(dh, constant):
    return ops.concatenate([dh] * 4, axis=-1) * constant


def _weight_gradient(x, dz):
    """x^T dz over all rows."""
    return ops.matmul(
        ops.transpose(ops.reshape(x, (-1, x.shape[-1]))), ops.reshape(dz, (-1, dz.shape[-1]))
    )


def grid_floor(x, layers, units, time, batch, jit):
    """A function that makes the matrix products of a training step of GridLSTM2D."""
    projection = _random(units, units)
    weights = [[_random(units, 4 * units) for _ in range(4)] for _ in range(layers)]
    nothing, constant = ops.zeros((batch, units)), _random(4 * units)

    def step(x):
        below, kept = ops.matmul(x, projection), []
        for W, U, W2, U2 in weights:

            def forward(carry, z, U=U):
                return (_gated(z + ops.matmul(carry[0], U)),), ()

            _, h, _ = scan(forward, (nothing,), ops.matmul(below, W), time, return_hidden=True)
            kept.append((below, h))
            below = _gated(ops.matmul(h, W2) + ops.matmul(below, U2))
        gradients, dh = [], below
        for (W, U, W2, U2), (below, h) in zip(reversed(weights), reversed(kept), strict=True):
            dz2 = _ungated(dh, constant)
            dh_time = ops.matmul(dz2, ops.transpose(W2))

            # From the first time on: the products are as many and as large as backwards.
            def backward(carry, dh, U=U):
                dz = _ungated(carry[0] + dh, constant)
                return (ops.matmul(dz, ops.transpose(U)),), dz

            _, _, dz = scan(backward, (nothing,), dh_time, time)
            gradients += [_weight_gradient(h, dz2), _weight_gradient(below, dz2)]
            gradients += [_weight_gradient(h, dz), _weight_gradient(below, dz)]
            dh = ops.matmul(dz2, ops.transpose(U2)) + ops.matmul(dz, ops.transpose(W))
        return [*gradients, _weight_gradient(x, dh)]

    return compiled(step, x, jit)


def depth_floor(x, depth, units, batch, jit):
    """A function that makes the matrix products of a training step of UnfoldedLSTMBlock."""
    kernel, recurrent = _random(x.shape[-1], 4 * units), _random(depth - 1, units, 4 * units)
    constant = _random(4 * units)

    def step(x):
        def forward(carry, U):
            return (_gated(ops.matmul(carry[0], U)),), carry[0]

        (h,), _, before = scan(forward, (_gated(ops.matmul(x, kernel)),), recurrent, depth - 1)

        # From the first step on, as above.
        def backward(carry, at):
            dz = _ungated(carry[0], constant)
            gradient = ops.matmul(ops.transpose(at["h"]), dz)
            return (ops.matmul(dz, ops.transpose(at["U"])),), gradient

        xs = {"U": recurrent, "h": before}
        (dh,), _, gradients = scan(backward, (h,), xs, depth - 1)
        return [gradients, ops.matmul(ops.transpose(x), _ungated(dh, constant))]

    return compiled(step, x, jit)


def compiled(step, x, jit):
    """A function without arguments that runs `step(x)`, compiled as Keras would, and waits."""
    backend = keras.backend.backend()
    x = ops.convert_to_tensor(x)
    if backend == "jax":
        import jax

        function = jax.jit(step)
        return lambda: jax.block_until_ready(function(x))
    if backend == "tensorflow":
        import tensorflow as tf

        function = tf.function(step, jit_compile=jit)
        return lambda: function(x)  # computed when it returns

    import torch

    return torch.no_grad()(lambda: step(x))
