"""A recurrence over time, or one step of many rows, by the fastest kernel that can do it.

On PyTorch the fused LSTM of the backend runs where nothing special is asked: oneDNN's on a CPU;
on a GPU, where it was not tried, cuDNN's. A loop of our own runs everywhere else; on JAX it has a
derivative of its own.
"""

import functools

import keras
from keras import ops

from keras_deeplstm.layers.gates import gate_slopes, gates
from keras_deeplstm.layers.masks import held
from keras_deeplstm.layers.normalization import layer_norm
from keras_deeplstm.layers.probes import Probe, is_watched
from keras_deeplstm.layers.scan import product, scan


def recurrence(
    activations,
    x,
    w,
    start,
    valid=None,
    *,
    last=True,
    dropout=None,
    unroll=False,
    probe=None,
):
    """Run `h, c = LSTM(norm(x_t W) + norm(h U) + b, c)` over all times.

    Args:
        activations: `(activation, recurrent_activation)`, as for `gates`.
        x: `(time, rows, features)`.
        w: An `LSTM` of `weights`.
        start: `(h, c)` before the first time, each `(rows, units)`.
        valid: None, or `(time, rows)`: where it is false, h and c stay as they are.
        last: Whether the state after the last time is wanted. Without it, h at masked times may be
            anything.
        dropout: None, or a mask `(rows, units)` of h where it enters the product with U.
        unroll: Write the loop out in the graph.
        probe: A `Probe`, or None.

    Returns:
        `(hidden, (h, c), kernel)`: h of all times `(time, rows, units)`, the state after the last
        one, and what has run, "fused" or "loop".
    """
    probe = probe or Probe()
    special = dropout is not None or unroll or probe.offsets or probe.cut or is_watched()
    plain = is_textbook(*activations) and w.is_plain and not special
    if plain and can_be_fused(x, w.W, w.U, w.b, *start) and _holds_only_the_end(valid, last):
        return *fused(x, w, start), "fused"
    z = layer_norm(product(x, w.W), w.input) + w.b
    valid = None if valid is None else valid[..., None]
    if plain and keras.backend.backend() == "jax":
        state, hidden = _loop_jax(z, start, w.U, valid)
        return hidden, state, "loop"

    def step(state, at, shift=None):
        h, c = state
        z, *valid = at
        seen = h if dropout is None else h * dropout
        new = _lstm(activations, z + layer_norm(product(seen, w.U), w.recurrent), c, w, shift)
        if valid:
            new = held(*valid, new, (h, c if shift is None else c + shift))
        return new, ()

    xs, length = (z,) if valid is None else (z, valid), ops.shape(z)[0]
    state, hidden, _ = scan(step, start, xs, length, return_hidden=True, unroll=unroll, probe=probe)
    return hidden, state, "loop"


def one_step(activations, x, state, w, shift=None, norm=layer_norm):
    """`h', c' = LSTM(norm(x W) + norm(h U) + b, c)` of all rows at once.

    Args:
        activations, w: As for `recurrence`.
        x: `(..., features)`.
        state: `(h, c)`, each `(..., units)`.
        shift: As in `gates`.
        norm: The normalization, `layer_norm` or `rms_norm`.

    Returns:
        `((h', c'), kernel)`: the new state, and what has run, "fused" or "products".
    """
    h, c = state
    plain = is_textbook(*activations) and w.is_plain and shift is None
    if plain and can_be_fused(x, w.W, w.U, w.b, h, c):
        # The fused LSTM over a sequence of one time, of as many rows as there are.
        x, *start = (ops.reshape(part, (-1, part.shape[-1])) for part in (x, h, c))
        _, state = fused(x[None], w, start)
        return tuple(ops.reshape(part, h.shape) for part in state), "fused"
    z = norm(product(x, w.W), w.input) + norm(product(h, w.U), w.recurrent) + w.b
    return _lstm(activations, z, c, w, shift, norm, written_out=True), "products"


def _lstm(activations, z, c, w, shift, norm=layer_norm, written_out=False):
    normalize = functools.partial(norm, w=w.memory)
    return gates(z, c, *activations, normalize, shift, w.peephole, written_out)


def is_textbook(activation, recurrent_activation):
    """Whether these are the functions that every fused LSTM has, tanh and sigmoid."""
    functions = activation, recurrent_activation
    return functions == (keras.activations.tanh, keras.activations.sigmoid)


# PyTorch.


def can_be_fused(x, *weights_and_states):
    """Whether `fused` can take `x`, and do with it what Keras' LSTM can do on PyTorch."""
    if keras.backend.backend() != "torch" or is_watched():
        return False
    import torch

    # Neither tracing, nor a transform of `torch.func`, nor forward mode goes through it. Of the
    # second no public function tells.
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return False
    if torch._C._functorch.peek_interpreter_stack() is not None:
        return False
    tensors = filter(torch.is_tensor, (x, *weights_and_states))
    if any(torch.autograd.forward_ad.unpack_dual(t).tangent is not None for t in tensors):
        return False
    if len(weights_and_states[0].shape) > 2:  # those of several networks
        return False
    if x.dtype != torch.float32 or x.device.type not in ("cpu", "cuda") or 0 in x.shape:
        return False
    return not torch.is_autocast_enabled(x.device.type)  # there it returns half precision


def _holds_only_the_end(valid, last):
    """Whether a mask, if there is one, hides only times after which nothing is wanted."""
    return valid is None or (not last and bool((valid[1:] <= valid[:-1]).all()))


def fused(x, w, start):
    """The LSTM of PyTorch, whose kernels are ours, transposed; see `recurrence`.

    Returns:
        `(hidden, (h, c))`.
    """
    import torch

    weights = [w.W.T, w.U.T]
    has_bias = torch.is_tensor(w.b)
    if has_bias:
        weights += [w.b, torch.zeros_like(w.b)]
    state = tuple(s[None].contiguous() for s in start)
    hidden, h, c = torch.lstm(
        x, state, weights, has_bias, 1, 0.0, torch.is_grad_enabled(), False, False
    )
    return hidden, (h[0], c[0])


# JAX.


def _loop_jax(z, carry, kernel, valid=None):
    """Run `h, c = LSTM(z_t + h U, c)` of the textbook; return the last state and h of all times.

    `scan` would compute the same, but slower: its gradient, made by JAX, adds to the gradient of U
    at each step, and computes there what can be computed for all steps at once. Here the derivative
    is written down: a linear recurrence, of which only the product with U is left to the loop. JAX
    transposes it to the gradient.
    """
    import jax

    def forward(z, carry, kernel, valid):
        def step(carry, at):
            z, valid = at
            z = z + ops.matmul(carry[0], kernel)
            new = gates(z, carry[1], ops.tanh, keras.activations.sigmoid)
            return new if valid is None else held(valid, new, carry), (z, carry)

        last, (z, before) = jax.lax.scan(step, carry, (z, valid))
        hidden = ops.concatenate([before[0][1:], last[0][None]], axis=0)
        return (last, hidden), (z, before)

    # All that has a gradient, and the mask, is an argument: a closure would leak under `jit`.
    run = jax.custom_jvp(lambda *arguments: forward(*arguments)[0])

    @run.defjvp
    def derivative(primals, tangents):
        _, _, kernel, valid = primals
        dz, dcarry, dkernel, _ = tangents
        output, (z, (h, c)) = forward(*primals)
        slopes = gate_slopes(z, c)
        dz = dz + ops.matmul(h, dkernel)

        def step(dcarry, at):
            dz, slopes, valid = at
            dz = dz + ops.matmul(dcarry[0], kernel)
            new = slopes.along(dz, dcarry[1])
            new = new if valid is None else held(valid, new, dcarry)
            return new, new[0]

        return output, jax.lax.scan(step, dcarry, (dz, slopes, valid))

    return run(z, carry, kernel, valid)
