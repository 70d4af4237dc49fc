"""Initializers for gate biases and for weights that are stacked over depth steps and gates."""

import keras
import numpy as np
from keras import ops

from keras_deeplstm import validation


@keras.saving.register_keras_serializable(package="keras_deeplstm")
class GateBias(keras.initializers.Initializer):
    """Biases of an LSTM, gate by gate.

    The tasks of Hochreiter & Schmidhuber (1997) start from negative biases of the input and output
    gates, different for each memory cell, so that cells are taken into use one after the other.

    Args:
        input, forget, candidate, output: The bias of each gate: a number, or a sequence with one
            number per unit.

    Raises:
        ValueError: An argument is neither; or, when called, the last axis of the shape is not 4 *
            units with the number of units that a sequence gives.

    Example:

    >>> import numpy as np
    >>> from keras_deeplstm.initializers import GateBias
    >>> bias = GateBias(input=[-1.0, -3.0], forget=1.0)((8,))
    >>> np.array(bias).tolist()
    [-1.0, -3.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0]
    """

    def __init__(self, input=0.0, forget=0.0, candidate=0.0, output=0.0):
        self.input = self._checked("input", input)
        self.forget = self._checked("forget", forget)
        self.candidate = self._checked("candidate", candidate)
        self.output = self._checked("output", output)

    @staticmethod
    def _checked(name, value):
        if isinstance(value, list | tuple | np.ndarray):
            return [validation.finite(name, each) for each in np.asarray(value).tolist()]
        return validation.finite(name, value)

    def __call__(self, shape, dtype=None):
        """Return a tensor of `shape`, whose last axis is 4 * units in the order i, f, c, o."""
        units, rest = divmod(shape[-1], 4)
        parts = []
        for name, value in self.get_config().items():
            if rest or (np.ndim(value) and len(value) != units):
                raise ValueError(
                    "`GateBias` needs a shape whose last axis is 4 * units, and one number or "
                    f"`units` numbers per gate. Received: shape={tuple(shape)}, {name}={value}"
                )
            parts.append(np.broadcast_to(value, (*shape[:-1], units)))
        dtype = dtype or keras.config.floatx()
        return ops.convert_to_tensor(np.concatenate(parts, axis=-1), dtype=dtype)

    def get_config(self):
        """Return the arguments of the constructor."""
        return {
            "input": self.input,
            "forget": self.forget,
            "candidate": self.candidate,
            "output": self.output,
        }


@keras.saving.register_keras_serializable(package="keras_deeplstm")
class OrthogonalGates(keras.initializers.Initializer):
    """Recurrent kernel of an LSTM: orthogonal for the gates, a scaled identity for the candidate.

    As implementations of Recurrent Batch Normalization (arXiv 1603.09025) start it, so that the
    hidden state is handed on at first. By name: `"keras_deeplstm>OrthogonalGates"`.

    Args:
        candidate: What the identity of the candidate's block is multiplied with.
        seed: Of the orthogonal blocks.

    Raises:
        ValueError: An argument is out of its range; or, when called, the shape is not (units, 4 *
            units).

    Example:

    >>> import numpy as np
    >>> from keras_deeplstm.initializers import OrthogonalGates
    >>> kernel = np.array(OrthogonalGates(seed=0)((2, 8)))
    >>> kernel[:, 4:6].astype("float64").round(2).tolist()
    [[0.95, 0.0], [0.0, 0.95]]
    """

    def __init__(self, candidate=0.95, seed=None):
        self.candidate = validation.finite("candidate", candidate)
        # As Keras' initializers: a copy made from the config draws a seed of its own.
        self._given_seed = seed if seed is None else validation.seed("seed", seed)
        self.seed = keras.initializers.Orthogonal(seed=self._given_seed).seed

    def __call__(self, shape, dtype=None):
        """Return a tensor of shape `(units, 4 * units)`, gates in the order i, f, c, o."""
        if len(shape) != 2 or shape[1] != 4 * shape[0]:
            raise ValueError(
                "`OrthogonalGates` needs the shape (units, 4 * units) of an LSTM's recurrent "
                f"kernel. Received: shape={tuple(shape)}"
            )
        units = shape[0]
        orthogonal = keras.initializers.Orthogonal(seed=self.seed)
        i, f, o = ops.unstack(draw_blocks(orthogonal, 3, (units, units), dtype), axis=0)
        candidate = self.candidate * ops.eye(units, dtype=i.dtype)
        return ops.concatenate([i, f, candidate, o], axis=-1)

    def get_config(self):
        """Return the arguments of the constructor."""
        return {"candidate": self.candidate, "seed": self._given_seed}


def draw_blocks(initializer, count, shape, dtype):
    """Draw `count` blocks of `shape` that differ from each other, stacked along a new first axis.

    A Keras initializer called twice returns the same values, and one drawn over the whole stack has
    the wrong fan and (orthogonal) is not orthogonal block by block. So each block is drawn by a
    copy of the initializer whose seed is derived from the original's.

    Args:
        initializer: A Keras initializer or a callable `(shape, dtype)`.
        count: Number of blocks.
        shape: Shape of one block.
        dtype: Data type of the values.

    Returns:
        A tensor of shape `(count, *shape)`.

    Example:

    >>> import keras, numpy as np
    >>> from keras_deeplstm.initializers import draw_blocks
    >>> orthogonal = keras.initializers.Orthogonal(seed=0)
    >>> first, second = np.array(draw_blocks(orthogonal, 2, (3, 3), "float32"))
    >>> np.allclose(first @ first.T, np.eye(3), atol=1e-5), np.allclose(first, second)
    (True, False)
    """
    if type(initializer) is keras.initializers.Orthogonal and len(shape) == 2:
        return _draw_orthogonal(initializer, count, *shape, dtype)
    seed = seed_of(initializer)
    if seed is None:
        # Without a seed of its own (constant, identity), or with a SeedGenerator, which moves on.
        return ops.stack([initializer(shape, dtype=dtype) for _ in range(count)])
    seeds = np.random.SeedSequence(seed).generate_state(count)
    return ops.stack([with_seed(initializer, int(s))(shape, dtype=dtype) for s in seeds])


def seed_of(initializer):
    """The seed of an initializer of which there are copies `with_seed`; else None."""
    seed = getattr(initializer, "seed", None)
    takes_one = hasattr(initializer, "get_config") and "seed" in initializer.get_config()
    return seed if takes_one and isinstance(seed, int) else None


def with_seed(initializer, seed):
    """A copy of an initializer that has a `seed_of` with another seed."""
    return type(initializer).from_config({**initializer.get_config(), "seed": seed})


def _draw_orthogonal(initializer, count, rows, columns, dtype):
    """As Keras draws one orthogonal matrix, for all at once.

    One by one, the 4,000 matrices of an LSTM block of depth 1000 take several times as long.
    """
    shape = (count, max(rows, columns), min(rows, columns))
    dtype = keras.backend.standardize_dtype(dtype)
    drawn = "float32" if dtype in ("float16", "bfloat16") else dtype  # halves have no factors
    q, r = ops.qr(keras.random.normal(shape, seed=initializer.seed, dtype=drawn))
    # Makes the distribution of q uniform (Mezzadri, arXiv math-ph/0609050).
    q = q * ops.sign(ops.diagonal(r, axis1=-2, axis2=-1))[:, None, :]
    q = ops.transpose(q, (0, 2, 1)) if rows < columns else q
    return ops.cast(initializer.gain * q, dtype)
