"""Residual and Highway: the layers of a DepthLSTM with the connections it is compared with."""

import functools

import keras
import numpy as np
from keras import ops

from keras_deeplstm import validation
from keras_deeplstm.layers import connections, functions
from keras_deeplstm.layers.layer_stack import LayerStack
from keras_deeplstm.layers.normalization import OF_ROWS
from keras_deeplstm.layers.weights import Weight, normalization_weights

# Their normalization where "auto" is given, and whether the output has one more.
KINDS = {
    "pre": ("layer", True),
    "post": ("layer", False),
    "rezero": (None, False),
    "scaled": ("layer", True),
}


@keras.saving.register_keras_serializable(package="keras_deeplstm")
class Residual(LayerStack):
    """A stack of any layers with residual connections; called as `DepthLSTM` is.

        kind="pre":     h_l = h_{l-1} + f_l(norm_l(h_{l-1})),  output = norm(h_depth)
        kind="post":    h_l = norm_l(h_{l-1} + f_l(h_{l-1}))
        kind="rezero":  h_l = h_{l-1} + a_l f_l(h_{l-1}),  a_l = 0 at first
        kind="scaled":  h_l = h_{l-1} + f_l(norm_l(h_{l-1}) / sqrt(l)),  output = norm(h_depth)

    h_0 is the input. What f_l returns passes dropout before it is added.

    Sources: "pre" arXiv 1603.05027, for Transformers arXiv 2002.04745; "post" arXiv 1706.03762;
    "rezero" arXiv 2003.04887; "scaled" LayerNorm Scaling, arXiv 2502.05795, there with one l for
    the two layers of a Transformer layer, here for each of `layers`.

    Args:
        layers, depth, tied: As for `DepthLSTM`.
        kind: "pre", "post", "rezero" or "scaled" (see above).
        normalization: norm: "layer", "rms" (arXiv 1910.07467) or None; "auto" is what the source
            has, "layer", and none for "rezero". Given for "rezero", it is of h where it enters f_l.
        dropout: Fraction of what each f_l returns that is set to zero in training.
        unroll: As for `DepthLSTM`.
        seed: Of dropout.
        **kwargs: `name`, `dtype`, `trainable`, ... of `keras.layers.Layer`.

    Call arguments:
        inputs: `(batch, ..., units)`.
        mask, training, attention_mask, use_causal_mask, **kwargs: As for `DepthLSTM`.

    Returns:
        `(batch, ..., units)`.

    Attributes:
        layers, used_kernel: As of `DepthLSTM`.

    Raises:
        ValueError: As for `DepthLSTM`.

    Example:

    >>> import keras, numpy as np
    >>> from keras_deeplstm.layers import Residual
    >>> block = Residual(lambda l: keras.layers.Dense(16, "relu"), depth=6, kind="rezero")
    >>> x = np.random.default_rng(0).normal(size=(2, 16)).astype("float32")
    >>> np.array_equal(keras.ops.convert_to_numpy(block(x)), x)  # at first, the identity
    True
    """

    def __init__(
        self,
        layers,
        depth=None,
        tied=False,
        kind="pre",
        normalization="auto",
        dropout=0.0,
        unroll=True,
        seed=None,
        **kwargs,
    ):
        validation.one_of("kind", kind, tuple(KINDS))
        validation.one_of("normalization", normalization, ("auto", *OF_ROWS))
        super().__init__(
            layers,
            depth,
            tied,
            normalization=KINDS[kind][0] if normalization == "auto" else normalization,
            dropout=dropout,
            unroll=unroll,
            seed=seed,
            **kwargs,
        )
        self.kind = kind

    def _step_weights(self, features):
        # One number, with an axis of its own: it is stacked like a vector.
        return [Weight("residual_weight", (1,), "offset")] if self.kind == "rezero" else []

    def _weights(self, features):
        weights = super()._weights(features)
        if KINDS[self.kind][1]:
            weights += normalization_weights("output_norm", self.normalization, features)
        return weights

    def _constants(self):
        steps = np.arange(1, self.depth + 1)
        return {"shrink": 1 / np.sqrt(steps)} if self.kind == "scaled" else {}

    def _step(self, carry, branch, w):
        (h,) = carry
        norm = functools.partial(self._norm, w=w)
        if self.kind == "rezero":
            h = connections.rezero(h, branch, norm, w["residual_weight"])
        elif self.kind == "scaled":
            h = connections.scaled(h, branch, norm, w["shrink"])
        else:
            h = getattr(connections, self.kind)(h, branch, norm)
        return (h,)

    def _returned(self, carry, w):
        (h,) = carry
        return self._norm(h, w, "output_norm") if KINDS[self.kind][1] else h

    def get_config(self):
        """Return the arguments of the constructor."""
        return {**super().get_config(), "kind": self.kind}


@keras.saving.register_keras_serializable(package="keras_deeplstm")
class Highway(LayerStack):
    """A stack of any layers with highway connections; called as `DepthLSTM` is.

        T_l = sigmoid(h_{l-1} U_l + b_l)
        h_l = T_l f_l(norm_l(h_{l-1})) + (1 - T_l) h_{l-1}

    h_0 is the input. What f_l returns passes dropout. Each step decides for each unit how much of
    itself to use.

    Source: highway networks (arXiv 1505.00387, eq. 3), which have no normalization.

    Args:
        layers, depth, tied: As for `DepthLSTM`.
        transform_bias: Initial b_l. Negative values (the paper: -1 ... -4) start close to
            h_l = h_{l-1}.
        normalization: Of h where it enters f_l: "layer", "rms" (arXiv 1910.07467) or None.
        dropout: Fraction of what each f_l returns that is set to zero in training.
        recurrent_initializer: For U, drawn for each step.
        recurrent_regularizer: Of U, summed over the steps.
        unroll: As for `DepthLSTM`.
        seed: Of dropout.
        **kwargs: `name`, `dtype`, `trainable`, ... of `keras.layers.Layer`.

    Call arguments:
        inputs: `(batch, ..., units)`.
        mask, training, attention_mask, use_causal_mask, **kwargs: As for `DepthLSTM`.

    Returns:
        `(batch, ..., units)`.

    Attributes:
        layers, used_kernel: As of `DepthLSTM`.

    Raises:
        ValueError: As for `DepthLSTM`.

    Example:

    >>> import keras, numpy as np
    >>> from keras_deeplstm.layers import Highway
    >>> block = Highway([keras.layers.Conv2D(8, 3, padding="same") for _ in range(6)])
    >>> tuple(block(np.zeros((2, 5, 5, 8), "float32")).shape), tuple(block.recurrent_kernel.shape)
    ((2, 5, 5, 8), (6, 8, 8))
    """

    def __init__(
        self,
        layers,
        depth=None,
        tied=False,
        transform_bias=-2.0,
        normalization="layer",
        dropout=0.0,
        recurrent_initializer="glorot_uniform",
        recurrent_regularizer=None,
        unroll=True,
        seed=None,
        **kwargs,
    ):
        super().__init__(
            layers,
            depth,
            tied,
            normalization=normalization,
            dropout=dropout,
            unroll=unroll,
            seed=seed,
            **kwargs,
        )
        self.transform_bias = validation.finite("transform_bias", transform_bias)
        functions.take(
            self,
            recurrent_initializer=recurrent_initializer,
            recurrent_regularizer=recurrent_regularizer,
        )

    def _step_weights(self, features):
        return [
            Weight("recurrent_kernel", (features, features), "recurrent"),
            Weight("bias", (features,), "bias"),
        ]

    def _initializer(self, weight):
        if weight.role == "bias":
            return keras.initializers.Constant(self.transform_bias)
        return super()._initializer(weight)

    def _step(self, carry, branch, w):
        (h,) = carry
        z = ops.matmul(h, w["recurrent_kernel"]) + w["bias"]
        return (connections.highway(h, branch(self._norm(h, w)), z),)

    def get_config(self):
        """Return the arguments of the constructor."""
        names = ("recurrent_initializer", "recurrent_regularizer")
        return {
            **super().get_config(),
            "transform_bias": self.transform_bias,
            **functions.configs_of(self, names),
        }
