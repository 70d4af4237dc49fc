"""The LSTM equation, which stands here once and which every layer calls; and its derivative."""

from typing import Any, NamedTuple

import keras
from keras import ops
from keras.activations import sigmoid

from keras_deeplstm.layers.probes import watch


def gates(
    z,
    memory_cell,
    activation,
    recurrent_activation,
    normalize_memory=None,
    shift=None,
    peephole=None,
    written_out=False,
):
    """One LSTM step from its pre-activations.

        c' = sigmoid(z_f) * c + sigmoid(z_i) * tanh(z_c)
        h' = sigmoid(z_o) * tanh(c')

    (Hochreiter & Schmidhuber 1997 with the forget gate of Gers et al. 2000; gate order i, f, c, o
    as in `keras.layers.LSTM`.) With peepholes (Gers & Schmidhuber 2000) the gates see the memory:
    z_i + p_i * c, z_f + p_f * c and z_o + p_o * c' stand for z_i, z_f and z_o.

    Args:
        z: Pre-activations `[z_i, z_f, z_c, z_o]`, shape `(..., 4 * units)`.
        memory_cell: The memory cell c of the step before, shape `(..., units)`.
        activation: Function of the candidate and of the memory (tanh above).
        recurrent_activation: Function of the three gates (sigmoid above).
        normalize_memory: Optional function applied to c' only where it enters `activation`
            (arXiv 1603.09025, eq. 8); the memory that is passed on stays as it is.
        shift: Optional tensor added to c', as a `Probe` asks for.
        peephole: Optional `[p_i, p_f, p_o]`, shape `(3, units)`.
        written_out: Whether the steps may stand one after the other in one graph, not in a loop.

    Returns:
        `(h', c')`, each of shape `(..., units)`.
    """
    z_i, z_f, z_c, z_o = parts = ops.split(z, 4, axis=-1)
    if peephole is None:
        i, f, o = _opened(z, parts, recurrent_activation)
    else:
        z_f = z_f + peephole[1] * memory_cell
        i, f = recurrent_activation(z_i + peephole[0] * memory_cell), recurrent_activation(z_f)
    by_xla = keras.backend.backend() in ("tensorflow", "jax")
    if written_out and by_xla and recurrent_activation is sigmoid:
        c = _kept(z_f, memory_cell) + i * activation(z_c)
    else:
        c = f * memory_cell + i * activation(z_c)
    c = c if shift is None else c + shift
    if peephole is not None:
        o = recurrent_activation(z_o + peephole[2] * c)
    watch(i=i, f=f, o=o)
    seen = c if normalize_memory is None else normalize_memory(c)
    h = o * activation(seen)
    return h, c


def _kept(z_f, c):
    """sigmoid(z_f) * c, with a gradient of c that XLA computes once.

    Where steps are written out, XLA fuses the product with f into each of its users, the gates of
    all the steps before: work that grows with the square of the depth. A quotient counts as
    expensive, and is kept.
    """
    if keras.backend.backend() == "jax":
        import jax

        product = jax.custom_jvp(lambda z_f, c: sigmoid(z_f) * c)

        @product.defjvp
        def derivative(primals, tangents):
            (z_f, c), (dz, dc) = primals, tangents
            f = sigmoid(z_f)
            return f * c, c * f * (1 - f) * dz + _quotient(z_f, dc)

    else:

        @ops.custom_gradient
        def product(z_f, c):
            f = sigmoid(z_f)
            return f * c, lambda d: (d * c * f * (1 - f), _quotient(z_f, d))

    return product(z_f, c)


def _quotient(z_f, d):
    """sigmoid(z_f) * d. No exponential is large: derivatives of this one are finite, too."""
    small = ops.exp(ops.where(z_f > 0, -z_f, z_f))
    return d * ops.where(z_f > 0, ops.ones_like(z_f), small) / (1 + small)


def _opened(z, parts, recurrent_activation):
    """The gates i, f and o, of pre-activations and of these in four parts."""
    z_i, z_f, _, z_o = parts
    if keras.backend.backend() == "jax" and recurrent_activation is sigmoid:
        # Of all four at once, of the candidate in vain: in a loop JAX's XLA takes the sigmoid of a
        # slice number by number, and needs longer for it than for the product.
        i, f, _, o = ops.split(ops.sigmoid(z), 4, axis=-1)
        return i, f, o
    return recurrent_activation(z_i), recurrent_activation(z_f), recurrent_activation(z_o)


class GateSlopes(NamedTuple):
    """The derivatives of `gates`, with tanh and sigmoid: of c' by c and z, of h' by c' and z_o."""

    c_by_c: Any
    c_by_i: Any
    c_by_f: Any
    c_by_z: Any  # the candidate's
    h_by_c: Any
    h_by_o: Any

    def along(self, dz, dc):
        """`(dh', dc')`: how h' and c' change with z and c."""
        di, df, dz, do = ops.split(dz, 4, axis=-1)
        dc = self.c_by_c * dc + self.c_by_i * di + self.c_by_f * df + self.c_by_z * dz
        return self.h_by_c * dc + self.h_by_o * do, dc


def gate_slopes(z, memory_cell):
    """The `GateSlopes` at pre-activations and the memory cell before, as `gates` takes them."""
    parts = ops.split(z, 4, axis=-1)
    i, f, o = _opened(z, parts, sigmoid)
    candidate = ops.tanh(parts[2])
    seen = ops.tanh(f * memory_cell + i * candidate)
    return GateSlopes(
        c_by_c=f,
        c_by_i=candidate * i * (1 - i),
        c_by_f=memory_cell * f * (1 - f),
        c_by_z=i * (1 - candidate**2),
        h_by_c=o * (1 - seen**2),
        h_by_o=seen * o * (1 - o),
    )
