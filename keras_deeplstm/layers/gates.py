"""The LSTM equation, which stands here once and which every layer calls."""

from keras import ops


def gates(z, memory_cell, activation, recurrent_activation, normalize_memory=None, shift=None):
    """One LSTM step from its pre-activations.

        c' = sigmoid(z_f) * c + sigmoid(z_i) * tanh(z_c)
        h' = sigmoid(z_o) * tanh(c')

    (Hochreiter & Schmidhuber 1997 with the forget gate of Gers et al. 2000; gate order i, f, c, o
    as in `keras.layers.LSTM`.)

    Args:
        z: Pre-activations `[z_i, z_f, z_c, z_o]`, shape `(..., 4 * units)`.
        memory_cell: The memory cell c of the step before, shape `(..., units)`.
        activation: Function of the candidate and of the memory (tanh above).
        recurrent_activation: Function of the three gates (sigmoid above).
        normalize_memory: Optional function applied to c' only where it enters `activation`
            (arXiv 1603.09025, eq. 8); the memory that is passed on stays as it is.
        shift: Optional tensor added to c', as a `Probe` asks for.

    Returns:
        `(h', c')`, each of shape `(..., units)`.
    """
    z_i, z_f, z_c, z_o = ops.split(z, 4, axis=-1)
    c = recurrent_activation(z_f) * memory_cell + recurrent_activation(z_i) * activation(z_c)
    c = c if shift is None else c + shift
    seen = c if normalize_memory is None else normalize_memory(c)
    h = recurrent_activation(z_o) * activation(seen)
    return h, c
