"""Stacks of attention or convolutions, and what connects their layers along depth."""

import functools

import keras

from keras_deeplstm import validation
from keras_deeplstm.layers import DepthLSTM, Highway, PositionEmbedding, Residual
from keras_deeplstm.models.budget import count_weights

CONNECTIONS = {
    "lstm": DepthLSTM,
    "residual": functools.partial(Residual, kind="pre"),
    "post-norm": functools.partial(Residual, kind="post"),
    "rezero": functools.partial(Residual, kind="rezero"),
    "scaled": functools.partial(Residual, kind="scaled"),
    "highway": Highway,
}


class Stack:
    """Layers that are connected along depth, and a normalization of what comes out.

    With residual additions the last step is normalized; where the connection itself does not do
    that, a layer normalization follows, so that all readouts see numbers of the same size.

    Args:
        connection: One of `CONNECTIONS`.
        layer: Function that makes the layer of a step for `(units, step)`.
        depth, tied: As for `DepthLSTM`.
        options: Further arguments of the layer that connects.

    Raises:
        ValueError: There is no such connection.
    """

    def __init__(self, connection, layer, depth, tied, options):
        validation.one_of("connection", connection, tuple(CONNECTIONS))
        self.connection, self.layer = connection, layer
        self.depth, self.tied, self.options = depth, tied, options

    def _block(self, layer):
        make = CONNECTIONS[self.connection]
        made = layer(1) if self.tied else layer
        return make(made, self.depth, self.tied, name="block", **self.options)

    def layers(self, units):
        """The block, and what follows it."""
        block = self._block(functools.partial(self.layer, units))
        return (
            [block] if self._ends_normalized(block) else [block, keras.layers.LayerNormalization()]
        )

    def count(self, units):
        """Number of parameters, without those of the layers of the steps."""
        block = self._block(lambda step: keras.layers.Identity())
        return count_weights(block, units) + (0 if self._ends_normalized(block) else 2 * units)

    def _ends_normalized(self, block):
        return isinstance(block, Residual) and block.normalization is not None


class Transformer:
    """Causal self-attention over positions, connected along depth; see `character_language_model`.

    Raises:
        ValueError: An argument is out of its range, or they do not go together.
    """

    def __init__(
        self,
        depth,
        connection="lstm",
        context=64,
        heads=4,
        feedforward=None,
        tied=False,
        **options,
    ):
        depth = validation.positive_integer("depth", depth)
        self.context = validation.positive_integer("context", context)
        self.heads = validation.positive_integer("heads", heads)
        if feedforward is None:  # an LSTM has as many weights
            feedforward = connection != "lstm"
        self.feedforward = validation.boolean("feedforward", feedforward)
        if tied and self.feedforward:
            raise ValueError(
                "`tied=True` needs `feedforward=False`: all steps share one layer. "
                f"Received: connection={connection!r}, feedforward={self.feedforward}"
            )
        self.attentions = 1 if validation.boolean("tied", tied) else depth
        steps = 2 * depth if self.feedforward else depth
        self.stack = Stack(connection, self._layer, steps, tied, options)

    def embedded(self):
        """An initializer of symbols and positions.

        With the standard deviation of 0.03 that Keras' own has, Transformers learn more slowly.
        """
        return keras.initializers.RandomNormal(stddev=1.0)

    def count(self, units):
        """Number of parameters, and number of features of the output."""
        inner = self.heads * self._key(units)
        layers = 3 * (units + 1) * inner + (inner + 1) * units
        if self.feedforward:
            layers += (units + 1) * 4 * units + (4 * units + 1) * units
        total = self.context * units + self.attentions * layers + self.stack.count(units)
        return total, units

    def layers(self, units):
        """The layers of the model between embedding and readout, as functions."""
        block, *after = self.stack.layers(units)
        positions = PositionEmbedding(self.context, self.embedded(), name="positions")
        return [positions, functools.partial(block, use_causal_mask=True), *after]

    def _key(self, units):
        return max(units // self.heads, 1)

    def _layer(self, units, step):
        if self.feedforward and step % 2 == 0:
            dense = keras.layers.Dense
            return keras.Sequential([dense(4 * units, "relu"), dense(units)])
        return keras.layers.MultiHeadAttention(self.heads, self._key(units))
