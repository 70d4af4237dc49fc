"""The loop over steps (depth or time), on every backend.

`keras.ops.scan` cannot serve: on TensorFlow it passes no `maximum_iterations`, so its gradient
fails under XLA, which `jit_compile="auto"` switches on for a GPU. A Python loop cannot serve
either: its graph grows with the depth, and with it the time of the first step.
"""

import keras
from keras import ops

from keras_deeplstm.layers.probes import Probe, watch, watch_steps, watching_step

WRITTEN_OUT = 8  # steps of a loop up to which it is written out in the graph


def scan(
    step,
    carry,
    xs,
    length,
    *,
    first=None,
    return_hidden=False,
    unroll=False,
    probe=None,
    recompute=False,
):
    """Run `carry, y = step(carry, x_l)` over `length` steps, with a gradient, on every backend.

    Args:
        step: Function `(carry, x) -> (carry, y)`. `carry` is a tuple `(h,)` or `(h, c)`; `y` is any
            structure of tensors (`()` for nothing), the same at each step. With a memory cell it
            takes a third argument, None but for a `Probe`: the `shift` of `gates`.
        carry: The initial carry. Shapes and dtypes stay the same over the loop.
        xs: Structure of tensors whose first axis is the step.
        length: Number of steps, an int or (on TensorFlow) a scalar tensor.
        first: Optional function like `step`, but without `x` and `y`: `carry -> carry`, that takes
            the place of the first step. Then `xs` has one entry less, and so have the `ys`.
        return_hidden: Also collect h after each step.
        unroll: Write the loop out in the graph.
        probe: A `Probe`, or None.
        recompute: On JAX, keep of a step only its products for the gradient. To compute the rest
            again takes less time than to read it, if it is much.

    Returns:
        `(carry, hidden, ys)`: the last carry, h of all steps `(length, rows, units)` or None, and
        the structure of `y` stacked along a new first axis.
    """
    probe = probe or Probe()
    offsets = probe.offsets or ()

    def observed(step):
        def run(carry, x_and_offset):
            x, offset = x_and_offset
            with watching_step() as seen:
                carry, y = step(_cut(carry, probe.cut), x, *offset[1:])
                if offset:
                    carry = (carry[0] + offset[0], *carry[1:])
                watch(**dict(zip("hc", carry, strict=False)))
            return carry, (carry[:1] if return_hidden else (), y, seen)

        return run

    parts, ys = [], ()  # (h, what was seen), of the first step and of the others
    if first is not None:
        start = observed(lambda carry, _, *shift: (first(carry, *shift), ()))
        carry, (h, _, seen) = start(carry, ((), tuple(o[0] for o in offsets)))
        parts.append(keras.tree.map_structure(lambda part: part[None], (h, seen)))
        offsets = tuple(o[1:] for o in offsets)
        length = length - 1
    if not (isinstance(length, int) and length == 0):
        run = _loop(unroll, length)
        step = observed(step)
        if recompute and run is _loop_jax:
            import jax

            step = jax.checkpoint(step, policy=jax.checkpoint_policies.dots_saveable)
        carry, (h, ys, seen) = run(step, carry, (xs, offsets), length)
        parts.append((h, seen))
    if len(parts) > 1:
        parts = [keras.tree.map_structure(lambda *both: ops.concatenate(both, axis=0), *parts)]
    ((h, seen),) = parts
    watch_steps(seen)
    return carry, h[0] if return_hidden else None, ys


def product(x, kernel):
    """`x @ kernel`, `(..., features)` by `(features, size)`, as a product of two matrices.

    Of several networks side by side, `(networks, ..., features)` by `(networks, features, size)`,
    each has a product of its own.

    On TensorFlow `ops.matmul` is here a `tensordot`, whose gradient within a loop does not compile
    with XLA as long as a shape is unknown, as all shapes are that `fit` has of a `PyDataset`.
    """
    if len(x.shape) == 2:
        return ops.matmul(x, kernel)
    networks = kernel.shape[:-2]
    rows = ops.reshape(x, (*networks, -1, x.shape[-1]))
    return ops.reshape(ops.matmul(rows, kernel), (*ops.shape(x)[:-1], kernel.shape[-1]))


def with_rows(x, count):
    """`x` itself; where its number of rows is known only when it runs, an error unless `count`.

    Else a batch of one row would be broadcast over the states of several.
    """
    if keras.backend.backend() == "tensorflow":  # the others know it
        import tensorflow as tf

        return tf.ensure_shape(x, (count, *x.shape[1:]))
    return x


def _cut(carry, path):
    if path == "hidden":
        return (ops.stop_gradient(carry[0]), *carry[1:])
    if path == "memory":
        return (carry[0], *(ops.stop_gradient(c) for c in carry[1:]))
    return carry


def is_loop(unroll, length):
    """Whether `scan` calls its step as part of a loop, and not once for each of its steps."""
    return _loop(unroll, length) is not _loop_unrolled


def _loop(unroll, length):
    backend = keras.backend.backend()
    if backend == "jax" and not unroll:
        return _loop_jax
    # Written out, a few steps take less time: XLA then fuses over their borders. And it cannot
    # compile the second derivative of a loop in a loop of TensorFlow.
    few = isinstance(length, int) and length <= WRITTEN_OUT
    return _loop_tensorflow if backend == "tensorflow" and not (unroll or few) else _loop_unrolled


def _steps_of(x, length):
    if keras.backend.backend() != "jax":
        return ops.unstack(x, num=length, axis=0)
    # The gradient of a slice is as large as all of x, and there is one for each step. That of a
    # split puts the parts together.
    return [ops.squeeze(part, axis=0) for part in ops.split(x, length, axis=0)]


def _loop_unrolled(step, carry, xs, length):
    columns = [_steps_of(x, length) for x in keras.tree.flatten(xs)]
    collected = []
    for i in range(length):
        carry, y = step(carry, keras.tree.pack_sequence_as(xs, [column[i] for column in columns]))
        collected.append(y)
    return carry, keras.tree.map_structure(lambda *ys: ops.stack(ys, axis=0), *collected)


def _loop_jax(step, carry, xs, length):
    import jax

    # An unknown time in `model.export` is no int; then xs tell the length.
    length = length if isinstance(length, int) else None
    unroll = length is not None and length <= WRITTEN_OUT
    return jax.lax.scan(step, carry, xs, length=length, unroll=unroll)


def _loop_tensorflow(step, carry, xs, length):
    import tensorflow as tf

    def read(i):
        return keras.tree.pack_sequence_as(xs, [array.read(i) for array in inputs])

    def body(i, carry, arrays):
        new, y = step(carry, read(i))
        for state, old in zip(new, carry, strict=True):
            state.set_shape(old.shape)
        arrays = [a.write(i, part) for a, part in zip(arrays, keras.tree.flatten(y), strict=True)]
        return i + 1, new, arrays

    # The gradient of a read from a TensorArray writes one step; that of an index into a tensor
    # would write a whole tensor of zeros at every step.
    inputs = [
        tf.TensorArray(x.dtype, size=length, element_shape=x.shape[1:]).unstack(x)
        for x in keras.tree.flatten(xs)
    ]
    # The first step stands outside the loop: it tells the structure of y without a step in vain.
    carry, y = step(carry, read(0))
    outputs = [
        tf.TensorArray(part.dtype, size=length, element_shape=part.shape).write(0, part)
        for part in keras.tree.flatten(y)
    ]
    _, carry, outputs = tf.while_loop(
        lambda i, *_: i < length,
        body,
        (tf.constant(1), carry, outputs),
        # XLA needs the bound to reserve what the backward pass reads. One more than the steps that
        # are left, because it cannot reserve nothing for a loop that does not run.
        maximum_iterations=length,
    )
    return carry, keras.tree.pack_sequence_as(y, [array.stack() for array in outputs])
