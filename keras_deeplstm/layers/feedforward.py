"""The feed-forward blocks that the depth LSTM is compared with, with the same scan over depth."""

import keras
from keras import ops

from keras_deeplstm import validation
from keras_deeplstm.layers.depth_block import DepthBlock, Weight


@keras.saving.register_keras_serializable(package="keras_deeplstm")
class DenseStack(DepthBlock):
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
        kernel_regularizer, recurrent_regularizer, bias_regularizer: As in `keras.layers.Dense`;
            summed over the layers.
        kernel_constraint, recurrent_constraint, bias_constraint: As in `keras.layers.Dense`;
            applied to each layer.
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
        ValueError: An argument is out of its range.

    Example:

    >>> import numpy as np
    >>> from keras_deeplstm.layers import DenseStack
    >>> DenseStack(16, 10, activation="relu", kernel_initializer="he_normal")(
    ...     np.zeros((2, 8), "float32")
    ... ).shape  # doctest: +SKIP
    (2, 16)
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

    def _weights(self, features):
        units, steps = self.units, range(1, self.depth + 1)
        kernel = Weight("recurrent_kernel", (units, units), "recurrent")
        bias = Weight("bias", (units,), "bias")
        weights = [Weight("kernel", (features, units), "kernel")]
        if self.depth > 1:
            weights.append(kernel if self.tied else kernel.stacked(steps[1:]))
        if self.use_bias:
            weights.append(bias if self.tied else bias.stacked(steps))
        return weights

    def _run(self, x, row_mask, training):
        shared, first, rest = {}, {"kernel": ops.convert_to_tensor(self.kernel)}, {}
        if self.depth > 1:
            stack = ops.convert_to_tensor(self.recurrent_kernel)
            (shared if self.tied else rest)["kernel"] = stack
        if self.use_bias:
            bias = ops.convert_to_tensor(self.bias)
            if self.tied:
                shared["bias"] = bias
            else:
                first["bias"], rest["bias"] = bias[0], bias[1:]
        masks = self._dropout_masks(x, training)
        if masks is not None:
            first["dropout"], rest["dropout"] = masks[0], masks[1:]

        def step(carry, weights):
            weights = {**shared, **weights}
            z = ops.matmul(carry[0], weights["kernel"])
            h = self.activation(z + weights["bias"] if self.use_bias else z)
            return (h * weights["dropout"] if "dropout" in weights else h,), ()

        return self._scan(step, (x,), rest, lambda carry: step(carry, first)[0])[:2]

    def get_config(self):
        """Return the arguments of the constructor."""
        return {**super().get_config(), "tied": self.tied}
