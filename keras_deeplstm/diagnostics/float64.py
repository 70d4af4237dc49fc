"""Real float64 in Keras, on every backend."""

import contextlib

import keras

# Keras offers no public way: on JAX and torch its type promotion caps float64 at float32, whatever
# the dtype of the layer. This table is where it does so.
from keras.src.backend.common.dtypes import BIT64_TO_BIT32_DTYPE


@contextlib.contextmanager
def float64():
    """Within this context, layers of dtype "float64" compute in float64, on every backend.

    Without it, JAX and torch compute in float32 whatever the dtype of a layer. Layers, inputs and
    results have to be created within it. Not for use in several threads.

    Example:

    >>> import keras, numpy as np
    >>> from keras_deeplstm.diagnostics import float64
    >>> with float64():
    ...     layer = keras.layers.Dense(1, dtype="float64", kernel_initializer="ones")
    ...     y = keras.ops.convert_to_numpy(layer(np.full((1, 3), 0.1)))
    >>> str(y.dtype), abs(float(y[0, 0]) - 0.3) < 1e-15
    ('float64', True)
    """
    before = dict(BIT64_TO_BIT32_DTYPE)
    BIT64_TO_BIT32_DTYPE["float64"] = "float64"
    try:
        with _jax_float64() if keras.backend.backend() == "jax" else contextlib.nullcontext():
            yield
    finally:
        BIT64_TO_BIT32_DTYPE.update(before)


def _jax_float64():
    import jax

    return jax.enable_x64(True)
