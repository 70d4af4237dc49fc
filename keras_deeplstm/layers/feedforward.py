"""The feed-forward blocks that the depth LSTM is compared with, with the same scan over depth.

All three are called alike, so that a study changes one word. Their weights are named as in
`UnfoldedLSTMBlock`: `kernel` is what sees the input, `recurrent_kernel` leads from one depth step
to the next and is stacked over the depth steps 2 ... depth.
"""

import keras
from keras import ops

from keras_deeplstm import validation
from keras_deeplstm.layers import connections
from keras_deeplstm.layers.depth_block import DepthBlock
from keras_deeplstm.layers.weights import Weight


def dropped(h, weights):
    """`h` with the dropout mask of the step, if there is one."""
    return h * weights["dropout"] if "dropout" in weights else h


class FeedforwardBlock(DepthBlock):
    """Base of the feed-forward blocks: a first step for the input, then `depth` - 1 like steps.

    A subclass gives `_weights`, `_first(x, weights)` and `_step(h, weights)`.
    """

    def __init__(
        self,
        units,
        depth,
        tied=False,
        activation="tanh",
        dropout=0.0,
        use_bias=True,
        kernel_initializer="glorot_uniform",
        recurrent_initializer=None,
        bias_initializer="zeros",
        kernel_regularizer=None,
        recurrent_regularizer=None,
        bias_regularizer=None,
        kernel_constraint=None,
        recurrent_constraint=None,
        bias_constraint=None,
        return_all_steps=False,
        seed=None,
        **kwargs,
    ):
        super().__init__(
            units,
            depth,
            activation=activation,
            dropout=dropout,
            use_bias=use_bias,
            kernel_initializer=kernel_initializer,
            recurrent_initializer=recurrent_initializer or kernel_initializer,
            bias_initializer=bias_initializer,
            kernel_regularizer=kernel_regularizer,
            recurrent_regularizer=recurrent_regularizer,
            bias_regularizer=bias_regularizer,
            kernel_constraint=kernel_constraint,
            recurrent_constraint=recurrent_constraint,
            bias_constraint=bias_constraint,
            return_all_steps=return_all_steps,
            seed=seed,
            **kwargs,
        )
        self.tied = validation.boolean("tied", tied)

    def _first(self, x, weights):
        raise NotImplementedError

    def _step(self, h, weights):
        raise NotImplementedError

    def _stacked(self, *weights):
        """These weights, once for each of the steps 2 ... depth; once for all of them if tied."""
        if self.depth == 1:
            return []
        steps = range(2, self.depth + 1)
        return [weight if self.tied else weight.stacked(steps) for weight in weights]

    def _run(self, x, row_mask, training):
        shared, first_weights, weights = self._weights_by_step(x, training, own_first=True)

        def first(carry):
            return (self._first(*carry, {**shared, **first_weights}),)

        def step(carry, weights):
            return (self._step(*carry, {**shared, **weights}),), ()

        carry, hidden, _ = self._scan(step, (x,), weights, first)
        return carry, hidden

    def get_config(self):
        """Return the arguments of the constructor."""
        return {**super().get_config(), "tied": self.tied}


@keras.saving.register_keras_serializable(package="keras_deeplstm")
class DenseStack(FeedforwardBlock):
    """A plain network of `depth` dense layers of the same size (an MLP without its output layer).

        h_1 = dropout(activation(x W + b_1)),  h_l = dropout(activation(h_{l-1} U_l + b_l))

    The weights of the layers 2 ... depth are stacked in `recurrent_kernel`, named as in
    `UnfoldedLSTMBlock`: what leads from one depth step to the next.

    Args:
        units: Size of each layer.
        depth: Number of layers.
        tied: True: the layers 2 ... depth share one matrix, and all share one bias.
        activation: Of each layer.
        dropout: Fraction of each h_l set to zero in training.
        use_bias: Whether the layers have biases.
        kernel_initializer: For W, e.g. "glorot_uniform" with tanh, "he_normal" with relu.
        recurrent_initializer: For U, drawn for each layer; None takes `kernel_initializer`.
        bias_initializer: For the biases.
        kernel_regularizer, recurrent_regularizer, bias_regularizer: Of W alone, of U and of the
            biases, as in `keras.layers.Dense`; the last two are summed over the layers. For all
            matrices give both of the first two.
        kernel_constraint, recurrent_constraint, bias_constraint: Of the same weights; applied to
            each layer.
        return_all_steps: Return h of all layers.
        seed: Of dropout.
        **kwargs: `name`, `dtype`, `trainable`, ... of `keras.layers.Layer`.

    Call arguments:
        inputs: `(batch, ..., features)`.
        mask: `(batch, ...)`; passed through.
        training: Whether dropout is on.

    Returns:
        `(batch, ..., units)`, or `(batch, ..., depth, units)` with `return_all_steps`.

    Raises:
        ValueError: An argument is out of its range; when built: the last dimension of the inputs is
            not known, or the layer would have more than 2**31 parameters; when called: the mask has
            another shape than the inputs.

    Example:

    >>> import numpy as np
    >>> from keras_deeplstm.layers import DenseStack
    >>> block = DenseStack(16, 10, activation="relu", kernel_initializer="he_normal")
    >>> tuple(block(np.zeros((2, 8), "float32")).shape)
    (2, 16)
    >>> [(weight.name, tuple(weight.shape)) for weight in block.weights]
    [('kernel', (8, 16)), ('recurrent_kernel', (9, 16, 16)), ('bias', (10, 16))]
    """

    def _weights(self, features):
        bias = Weight("bias", (self.units,), "bias")
        weights = [Weight("kernel", (features, self.units), "kernel")]
        weights += self._stacked(Weight("recurrent_kernel", (self.units, self.units), "recurrent"))
        if self.use_bias:
            weights.append(bias if self.tied else bias.stacked(range(1, self.depth + 1)))
        return weights

    def _first(self, x, weights):
        return self._layer(x, weights["kernel"], weights)

    def _step(self, h, weights):
        return self._layer(h, weights["recurrent_kernel"], weights)

    def _layer(self, x, kernel, weights):
        z = ops.matmul(x, kernel)
        return dropped(self.activation(z + weights["bias"] if self.use_bias else z), weights)


@keras.saving.register_keras_serializable(package="keras_deeplstm")
class HighwayBlock(FeedforwardBlock):
    """A highway network (arXiv 1505.00387, eq. 3): each step decides how much of itself to use.

        h_1 = dropout(activation(x W + b_1))
        T_l = sigmoid(h_{l-1} U_T + b_T),  H_l = activation(h_{l-1} U_H + b_H)
        h_l = dropout(T_l H_l + (1 - T_l) h_{l-1})

    `recurrent_kernel` holds [U_H, U_T] side by side, shape `(depth - 1, units, 2 * units)`.

    Args:
        transform_bias: Initial bias of the gate T, over what `bias_initializer` draws. Negative
            values (the paper: -1 ... -4) start close to h_l = h_{l-1}. None leaves
            `bias_initializer` alone.
        units, depth: As for `DenseStack`.
        **kwargs: All other arguments of `DenseStack`.

    Call arguments:
        inputs: `(batch, ..., features)`.
        mask: `(batch, ...)`; passed through.
        training: Whether dropout is on.

    Returns:
        `(batch, ..., units)`, or `(batch, ..., depth, units)` with `return_all_steps`.

    Raises:
        ValueError: An argument is out of its range; when built: the last dimension of the inputs is
            not known, or the layer would have more than 2**31 parameters; when called: the mask has
            another shape than the inputs.

    Example:

    >>> import numpy as np
    >>> from keras_deeplstm.layers import HighwayBlock
    >>> block = HighwayBlock(16, 10)
    >>> tuple(block(np.zeros((2, 8), "float32")).shape), tuple(block.recurrent_kernel.shape)
    ((2, 16), (9, 16, 32))
    """

    def __init__(self, units, depth, transform_bias=-2.0, **kwargs):
        super().__init__(units, depth, **kwargs)
        self.transform_bias = transform_bias
        if transform_bias is not None:
            self.transform_bias = validation.finite("transform_bias", transform_bias)

    def _weights(self, features):
        weights = [Weight("kernel", (features, self.units), "kernel")]
        size = 2 * self.units
        step = [Weight("recurrent_kernel", (self.units, size), "recurrent", gates=2)]
        if self.use_bias:
            weights.append(Weight("input_bias", (self.units,), "bias"))
            step.append(Weight("bias", (size,), "bias"))
        return weights + self._stacked(*step)

    def _initial_bias(self, shape, dtype):
        bias = super()._initial_bias(shape, dtype)
        if shape[-1] == self.units or self.transform_bias is None:
            return bias
        z_h, z_t = ops.split(bias, 2, axis=-1)
        return ops.concatenate([z_h, ops.full_like(z_t, self.transform_bias)], axis=-1)

    def _first(self, x, weights):
        z = ops.matmul(x, weights["kernel"])
        return dropped(self.activation(z + weights["input_bias"] if self.use_bias else z), weights)

    def _step(self, h, weights):
        z = ops.matmul(h, weights["recurrent_kernel"])
        z_h, z_t = ops.split(z + weights["bias"] if self.use_bias else z, 2, axis=-1)
        return dropped(connections.highway(h, self.activation(z_h), z_t), weights)

    def get_config(self):
        """Return the arguments of the constructor."""
        return {**super().get_config(), "transform_bias": self.transform_bias}
