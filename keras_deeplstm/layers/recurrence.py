"""The plain LSTM recurrence with its backward pass written out, because that is faster.

Differentiated as it stands, a loop adds to the gradient of the recurrent kernel at each step: a
product of two thin matrices and a pass over a whole kernel. Here the backward loop makes only the
gradient of z, and what does not depend on it is computed for all steps at once: the slopes of the
gates before, and the gradient of the kernel, one large product, after.
"""

from keras import ops

from keras_deeplstm.layers.gates import gates, slopes
from keras_deeplstm.layers.scan import scan


def recurrence(z, state, recurrent_kernel, length, valid=None, unroll=False):
    """Run `h, c = gates(z_l + h U, c)` with tanh and sigmoid over `length` steps.

    Args:
        z: The part of the pre-activations that is known beforehand, `(length, rows, 4 * units)`.
        state: `(h, c)` before the first step, each `(rows, units)`.
        recurrent_kernel: U, `(units, 4 * units)`, the same at all steps.
        length: Number of steps, an int or (on TensorFlow) a scalar tensor.
        valid: None, or `(length, rows, 1)`: where it is false, the state stays as it is.
        unroll: Write the loops out in the graph.

    Returns:
        `(hidden, (h, c))`: h after each step `(length, rows, units)`, and the last state.
    """

    # Torch wants one output: h of all steps, and below it the last c.
    @ops.custom_gradient
    def run(z, h, c, U):
        def step(carry, at):
            at_z = at["z"] + ops.matmul(carry[0], U)
            new = gates(at_z, carry[1], ops.tanh, ops.sigmoid)
            if valid is not None:
                new = tuple(
                    ops.where(at["valid"], n, old) for n, old in zip(new, carry, strict=True)
                )
            return new, (at_z, new[1])

        xs = {"z": z} if valid is None else {"z": z, "valid": valid}
        (_, last_c), hidden, (all_z, all_c) = scan(
            step, (h, c), xs, length, return_hidden=True, unroll=unroll
        )

        def gradient(*arguments, upstream=None):
            upstream = arguments[0] if upstream is None else upstream
            before_h, before_c = (
                ops.concatenate([first[None], states[:-1]], axis=0)
                for first, states in ((h, hidden), (c, all_c))
            )
            dh_dc, by_z, dc_dc = slopes(all_z, before_c, all_c)
            xs = {"dh": upstream[:-1]}
            if valid is not None:
                share = ops.cast(valid, z.dtype)
                dh_dc, by_z, dc_dc = dh_dc * share, by_z * share, 1 + (dc_dc - 1) * share
                xs["kept"] = 1 - share
            xs |= {"dh_dc": dh_dc, "by_z": by_z, "dc_dc": dc_dc}

            def step_back(carry, at):
                dh = carry[0] + at["dh"]
                dc = carry[1] + dh * at["dh_dc"]
                dz = ops.concatenate([dc, dc, dc, dh], axis=-1) * at["by_z"]
                dh_before = ops.matmul(dz, ops.transpose(U))
                if valid is not None:
                    dh_before = dh_before + dh * at["kept"]
                return (dh_before, dc * at["dc_dc"]), dz

            (dh, dc), _, dz = scan(
                step_back,
                (ops.zeros_like(h), upstream[-1]),
                xs,
                length,
                reverse=True,
                unroll=unroll,
            )
            dU = ops.tensordot(before_h, dz, axes=[[0, 1], [0, 1]])
            return dz, dh, dc, dU

        return ops.concatenate([hidden, last_c[None]], axis=0), gradient

    # On TensorFlow the kernel may be a variable, which a custom gradient refuses; this reads it.
    kernel = ops.reshape(recurrent_kernel, recurrent_kernel.shape)
    states = run(z, *state, kernel)
    return states[:-1], (states[-2], states[-1])
