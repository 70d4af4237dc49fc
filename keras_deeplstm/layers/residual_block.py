"""ResidualBlock: residual networks of dense layers, from the first ones to those of today."""

from functools import partial

import keras
import numpy as np
from keras import ops

from keras_deeplstm import validation
from keras_deeplstm.layers import connections
from keras_deeplstm.layers.feedforward import FeedforwardBlock, dropped
from keras_deeplstm.layers.normalization import Norm, layer_norm
from keras_deeplstm.layers.weights import Weight, normalization_weights

NORMALIZED_BEFORE = ("pre", "scaled")  # where h enters the step; the output is normalized, too
WEIGHTED = ("rezero", "skipinit", "fixup")  # by a learned number, without normalization
KINDS = (*NORMALIZED_BEFORE, "post", "deepnorm", *WEIGHTED, "four-layer")
LAYERS = 4  # of a step of "four-layer"


@keras.saving.register_keras_serializable(package="keras_deeplstm")
class ResidualBlock(FeedforwardBlock):
    """A residual network of dense layers.

        h_1 = x W + b_1
        f_l(h) = dropout(activation(h U_l + b_l) V_l + d_l)

        kind="pre":         h_l = h_{l-1} + f_l(norm_l(h_{l-1})),  output = norm(h_depth)
        kind="scaled":      h_l = h_{l-1} + f_l(norm_l(h_{l-1}) / sqrt(l - 1)),
                            output = norm(h_depth)
        kind="post":        h_l = norm_l(h_{l-1} + f_l(h_{l-1}))
        kind="deepnorm":    h_l = norm_l((depth - 1)^(1/4) h_{l-1} + f_l(h_{l-1})),
                            at first U and V times (4 (depth - 1))^(-1/4)
        kind="rezero":      h_l = h_{l-1} + a_l f_l(h_{l-1}),  at first a_l = 0
        kind="skipinit":    the same, at first a_l = (depth - 1)^(-1/2)
        kind="fixup":       the same, at first a_l = 1, V = 0, and U times (depth - 1)^(-1/2)
        kind="four-layer":  h_l = h_{l-1} + g_l(h_{l-1}), where g_l is four times
                            h -> activation(norm(h U + b)), and then dropout

    norm is layer normalization with scale and offset. `recurrent_kernel` holds the U,
    `output_kernel` the V, each of shape `(depth - 1, units, units)`: a step has two matrices. A
    step of "four-layer" has four, `recurrent_kernel` the shape `(depth - 1, 4, units, units)`.

    Sources: "pre" arXiv 1603.05027; "scaled" LayerNorm Scaling, arXiv 2502.05795; "post" arXiv
    1706.03762; "deepnorm" arXiv 2203.00555, the numbers of a decoder, whose layers are two steps
    each; "rezero" arXiv 2003.04887; "skipinit" arXiv 2002.10444; "fixup" arXiv 1901.09321, there
    with a readout that is zero at first, and numbers for our biases; "four-layer" the block of
    networks of 1,000 layers, arXiv 2503.14858, there with activation "swish".

    Args:
        kind: One of these.
        epsilon: Added to variances.
        units, depth: As for `DenseStack`.
        **kwargs: All other arguments of `DenseStack`. Here dropout hits what a step adds,
            not the sum.

    Call arguments:
        inputs: `(batch, ..., features)`.
        mask: `(batch, ...)`; passed through.
        training: Whether dropout is on.

    Returns:
        `(batch, ..., units)`, or `(batch, ..., depth, units)` with `return_all_steps` (then
        the output norm is applied to each h_l).

    Raises:
        ValueError: An argument is out of its range; when built: the last dimension of the inputs is
            not known, or the layer would have more than 2**31 parameters; when called: the mask has
            another shape than the inputs.

    Example:

    >>> import numpy as np
    >>> from keras_deeplstm.layers import ResidualBlock
    >>> block = ResidualBlock(16, 10, activation="relu", kernel_initializer="he_normal")
    >>> tuple(block(np.zeros((2, 8), "float32")).shape), tuple(block.output_kernel.shape)
    ((2, 16), (9, 16, 16))
    >>> deep = ResidualBlock(16, 1000, kind="rezero", activation="relu")
    >>> deep.weight_shapes(8)["residual_weight"]
    (999, 1)
    """

    def __init__(self, units, depth, kind="pre", epsilon=1e-3, **kwargs):
        super().__init__(units, depth, **kwargs)
        self.kind = validation.one_of("kind", kind, KINDS)
        self.epsilon = validation.finite("epsilon", epsilon, positive=True)
        self._steps = max(depth - 1, 1)

    # Weights.

    def _weights(self, features):
        weights = [Weight("kernel", (features, self.units), "kernel")]
        weights += self._vectors("input_bias")
        weights += self._stacked(*self._step_weights())
        return weights + self._output_norm()

    def _step_weights(self):
        recurrent = Weight("recurrent_kernel", (self.units, self.units), "recurrent")
        if self.kind == "four-layer":
            layer = [
                *normalization_weights("norm", "layer", self.units),
                recurrent,
                *self._vectors("bias"),
            ]
            return [weight.side_by_side(LAYERS) for weight in layer]
        if self.kind in WEIGHTED:
            # One number, with an axis of its own: it is stacked like a vector.
            others = [Weight("residual_weight", (1,), "offset")]
        else:
            others = normalization_weights("norm", "layer", self.units)
        output = recurrent._replace(name="output_kernel")
        return [*others, recurrent, output, *self._vectors("bias", "output_bias")]

    def _output_norm(self):
        kind = "layer" if self.kind in NORMALIZED_BEFORE else None
        return normalization_weights("output_norm", kind, self.units)

    def _vectors(self, *names):
        return [Weight(name, (self.units,), "bias") for name in names if self.use_bias]

    def _initializer(self, weight):
        draw = super()._initializer(weight)
        if weight.name == "residual_weight":
            value = {"rezero": 0.0, "skipinit": self._steps**-0.5, "fixup": 1.0}[self.kind]
            return keras.initializers.Constant(value)
        if self.kind == "fixup" and weight.name == "output_kernel":
            return keras.initializers.Zeros()
        shrink = {"fixup": self._steps**-0.5, "deepnorm": (4 * self._steps) ** -0.25}
        if self.kind in shrink and weight.role == "recurrent":
            return lambda shape, dtype: shrink[self.kind] * draw(shape, dtype)
        return draw

    # Computation.

    def _weights_by_step(self, x, training, own_first):
        shared, first, others = super()._weights_by_step(x, training, own_first)
        if self.kind == "scaled" and self.depth > 1:
            shrink = np.arange(1, self.depth) ** -0.5
            others["shrink"] = ops.convert_to_tensor(shrink, dtype=self.compute_dtype)
        return shared, first, others

    def _first(self, x, weights):
        h = ops.matmul(x, weights["kernel"])
        return h + weights["input_bias"] if self.use_bias else h

    def _step(self, h, weights):
        if self.kind == "four-layer":
            return connections.pre(h, partial(self._four_layers, w=weights), lambda h: h)
        branch = partial(self._two_layers, w=weights)
        if self.kind in WEIGHTED:
            return connections.rezero(h, branch, lambda h: h, weights["residual_weight"])
        norm = partial(layer_norm, w=Norm.of(weights, "norm"), epsilon=self.epsilon)
        if self.kind == "scaled":
            return connections.scaled(h, branch, norm, weights["shrink"])
        if self.kind == "deepnorm":
            return connections.deepnorm(h, branch, norm, self._steps**0.25)
        return getattr(connections, self.kind)(h, branch, norm)

    def _two_layers(self, h, w):
        h = self.activation(ops.matmul(h, w["recurrent_kernel"]) + w.get("bias", 0))
        return dropped(ops.matmul(h, w["output_kernel"]) + w.get("output_bias", 0), w)

    def _four_layers(self, h, w):
        names = ("recurrent_kernel", "bias", "norm_scale", "norm_offset")
        for layer in range(LAYERS):
            own = {name: w[name][layer] for name in names if name in w}
            z = ops.matmul(h, own["recurrent_kernel"]) + own.get("bias", 0)
            h = self.activation(layer_norm(z, Norm.of(own, "norm"), self.epsilon))
        return dropped(h, w)

    def _run(self, x, row_mask, training):
        (h,), hidden = super()._run(x, row_mask, training)
        norm = Norm(*map(self._tensor, self._output_norm()))
        if hidden is not None:
            hidden = layer_norm(hidden, norm, self.epsilon)
        return (layer_norm(h, norm, self.epsilon),), hidden

    def get_config(self):
        """Return the arguments of the constructor."""
        return {**super().get_config(), "kind": self.kind, "epsilon": self.epsilon}
