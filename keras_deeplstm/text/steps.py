"""Language models that read one symbol at a time, and what they remember between symbols."""

import keras
from keras import ops

from keras_deeplstm.layers import PositionEmbedding
from keras_deeplstm.states import with_states


def steps_of(model):
    """Copies of a model: one that reads a symbol at a time, and the one in it with the weights.

    Args:
        model: From symbol numbers `(batch, time)` to logits `(batch, time, symbols)`.

    Returns:
        `(steps, weighted)`. `steps` is from `[symbol, *states]`, of which the first is `(batch, 1)`
        and the others zeros at first, to `[logits, *states]`; `weighted.set_weights` takes the
        weights of the model.

    Raises:
        ValueError: The model has neither recurrent layers nor a `PositionEmbedding`.
    """
    for layer in model.layers:
        if isinstance(layer, PositionEmbedding):
            return _windowed(model, layer.length)
    steps = with_states(model, inference=True)
    if len(steps.inputs) == 1:
        raise ValueError(
            "The model has no recurrent layer, and no `PositionEmbedding`, so it knows nothing of "
            "the text before a symbol"
        )
    return steps, steps


def _windowed(model, length):
    """`steps_of` a model that sees `length` symbols: the last ones, and how many were read."""
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    symbol, seen = keras.Input((1,), dtype="int32"), keras.Input((1,), dtype="int32")
    window = keras.Input((length,), dtype="int32")
    # From the left until the window is full; what is right of the last symbol no position sees.
    at = ops.minimum(seen, length - 1)
    moved = ops.where(seen < length, window, ops.roll(window, -1, axis=1))
    moved = ops.where(ops.equal(ops.arange(length, dtype="int32"), at), symbol, moved)
    logits = ops.take_along_axis(copy(moved), ops.expand_dims(at, -1), axis=1)
    return keras.Model([symbol, window, seen], [logits, moved, seen + 1]), copy
