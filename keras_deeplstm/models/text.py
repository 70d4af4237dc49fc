"""Language models."""

import keras

from keras_deeplstm import validation
from keras_deeplstm.models.budget import Design, budgeted
from keras_deeplstm.models.connected import Transformer
from keras_deeplstm.models.readout import Readout
from keras_deeplstm.models.sequences import SEQUENCE_BLOCKS, count_layers, layers_of

BLOCKS = (*SEQUENCE_BLOCKS, "transformer")


@budgeted
def character_language_model(
    vocabulary_size,
    block="grid_lstm",
    *,
    depth=2,
    units=None,
    parameters=None,
    batch_size=None,
    stateful=False,
    dropout=0.0,
    name=None,
    **block_options,
):
    """A language model: embedding, sequence block, dropout, a readout for each time step.

    The embedding has the size of the block's layers, so that "grid_lstm" needs no projection of
    its inputs (`project_inputs=None`, unless given).

    A "transformer" is a stack of causal self-attention over `context` positions, connected along
    depth by an LSTM, or by the residual connections that it is compared with. Then a feed-forward
    part (units -> 4 units, relu -> units) follows each attention; its 8 units^2 weights are as many
    as those of a step of the LSTM, so that models of the same `depth` and `units` have nearly the
    same number of parameters.

    Args:
        vocabulary_size: Number of different symbols.
        block: "grid_lstm", "lstm" for stacked `keras.layers.LSTM`, or "transformer".
        depth: Number of layers; of a "transformer", of attention layers.
        units, parameters, name: As for `sequence_classifier`.
        batch_size: Number of sequences in a batch; needed with `stateful`.
        stateful: Carry the state of each row from batch to batch. On JAX only with "grid_lstm":
            there `keras.layers.LSTM` loses its states; `states.CarriedStates` carries them.
        dropout: On the outputs of layers, between them and before the readout.
        **block_options: Further arguments of the block. Those of a "transformer" are:

            - `connection`: "lstm" (`layers.DepthLSTM`, by default), "residual" (pre-norm),
              "post-norm", "rezero", "scaled" (`layers.Residual`) or "highway" (`layers.Highway`);
            - `context`, 64 by default: the most time steps of a sequence;
            - `heads`, 4 by default: of attention, each of units // heads features;
            - `feedforward`: whether there is a feed-forward part; by default, not with "lstm";
            - `tied`: whether all steps share their weights; without feed-forward parts;
            - and the arguments of the layer that connects, such as `forget_bias`.

    Returns:
        A `keras.Model` from integers `(batch, time)` to logits `(batch, time, vocabulary_size)`.

    Raises:
        ValueError: As for `classifier`; `stateful` without `batch_size`, with "lstm" on JAX, or
            with a "transformer", which has no states.

    Example:

    >>> from keras_deeplstm import models
    >>> models.character_language_model(65, depth=3, units=32).output_shape
    (None, None, 65)
    >>> lstm, residual = (
    ...     models.character_language_model(65, "transformer", units=64, connection=connection)
    ...     for connection in ("lstm", "residual")
    ... )
    >>> lstm.count_params(), residual.count_params()
    (112193, 112577)
    """
    validation.positive_integer("vocabulary_size", vocabulary_size)
    validation.one_of("block", block, BLOCKS)
    if stateful and batch_size is None:
        raise ValueError("With `stateful=True` the `batch_size` must be given. Received: None")
    if stateful and block == "lstm" and keras.backend.backend() == "jax":
        # Its states are none of the variables that a compiled step updates.
        raise ValueError(
            "On JAX keras.layers.LSTM begins every batch with the same state, so that "
            "`stateful=True` needs block='grid_lstm', or `states.CarriedStates` around a model "
            "that is not stateful. Received: block='lstm'"
        )
    if block == "transformer":
        if stateful:
            raise ValueError("A 'transformer' has no states. Received: stateful=True")
        body = Transformer(depth, dropout=dropout, **block_options)
    else:
        body = _Recurrent(block, depth, {"stateful": stateful, "dropout": dropout, **block_options})
    readout = Readout(vocabulary_size, "logits")

    def total(units):
        count, features = body.count(units)
        return vocabulary_size * units + count + readout.count(features)

    def build(units):
        inputs = keras.Input((None,), batch_size=batch_size, dtype="int32")
        embedding = keras.layers.Embedding(
            vocabulary_size, units, body.embedded(), name="embedding"
        )
        x = embedding(inputs)
        for layer in body.layers(units):
            x = layer(x)
        x = keras.layers.Dropout(dropout)(x)
        return keras.Model(inputs, readout.layer()(x), name=name)

    return Design(total, build)


class _Recurrent:
    """Layers over time that are as wide as their input."""

    def __init__(self, block, depth, options):
        if block == "grid_lstm":
            options.setdefault("project_inputs", None)
        self.block, self.depth, self.options = block, depth, options

    def embedded(self):
        """The initializer of the embedding: Keras' own."""
        return "uniform"

    def layers(self, units):
        """The layers, in order."""
        return layers_of(self.block, units, self.depth, self.options, return_sequences=True)

    def count(self, units):
        """Number of parameters, and number of features of the output."""
        return count_layers(self.layers(units), units)
