"""Shapes of sequences and masks, and what a mask of sequences holds back."""

from keras import ops

from keras_deeplstm import validation


def agree(shape, expected):
    """Whether a shape is the expected one, as far as both are known."""
    return len(shape) == len(expected) and all(
        a is None or b is None or a == b for a, b in zip(shape, expected, strict=True)
    )


def check_mask(mask, expected, axes):
    """Raise ValueError unless the mask has the expected shape; `axes` says what that is."""
    if not hasattr(mask, "shape"):
        raise ValueError(
            f"Argument `mask` must be an array or a tensor of shape {axes}={tuple(expected)}. "
            f"Received: mask={validation.shown(mask)} (of type {type(mask)})"
        )
    if not agree(mask.shape, expected):
        raise ValueError(
            f"Argument `mask` must have shape {axes}={tuple(expected)}. "
            f"Received: mask.shape={tuple(mask.shape)}"
        )


def check_sequences(sequences, mask, unroll):
    """Raise ValueError unless there are times to read, and the mask is one of them."""
    batch, time, _ = sequences.shape
    received = f"Received: inputs.shape={tuple(sequences.shape)}"
    if time == 0:
        raise ValueError(f"Input sequences must have at least one time step. {received}")
    if unroll and time is None:
        raise ValueError(f"Cannot unroll a time dimension that is undefined. {received}")
    if mask is not None:
        check_mask(mask, (batch, time), "(batch, time)")


def held(valid, new, old):
    """New states where a time is valid, the old ones where it is masked."""
    return tuple(ops.where(valid, n, o) for n, o in zip(new, old, strict=True))


def held_outputs(outputs, valid, zero=False, last_only=False):
    """Outputs in which a masked time repeats that of the last valid time before it.

    Args:
        outputs: `(time, batch, units)`, computed at all times.
        valid: `(time, batch)`, boolean.
        zero: Show 0 at masked times instead.
        last_only: Only the output of the last time is wanted.

    Returns:
        `(time, batch, units)`, or with `last_only` `(1, batch, units)`; 0 before the first valid
        time.
    """
    last = last_valid(valid)[-1:] if last_only else last_valid(valid)
    batch = ops.shape(outputs)[1]
    rows = ops.reshape(outputs, (-1, outputs.shape[-1]))
    kept = ops.take(rows, ops.maximum(last, 0) * batch + ops.arange(batch), axis=0)
    shown = valid if zero else last >= 0
    return ops.where(shown[..., None], kept, ops.zeros_like(kept))


def last_valid(valid):
    """For each entry of `(time, batch)`, the last valid time up to it; -1 where there is none."""
    time = ops.shape(valid)[0]
    times = ops.arange(time)[:, None]
    in_order = ops.argsort(ops.where(valid, times, times + time), axis=0)  # the valid ones first
    count = ops.cumsum(ops.cast(valid, "int32"), axis=0)
    last = ops.take_along_axis(in_order, ops.maximum(count - 1, 0), axis=0)
    return ops.where(count > 0, last, -1)
