"""One model on all devices of this machine, each with its share of every batch.

The engines are those of the backends: `tf.distribute.MirroredStrategy` on TensorFlow and
`keras.distribution.DataParallel` on JAX. Batches whose parts are equal give the gradients of one
device, up to rounding. On torch, `keras.distribution` does not exist yet.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import keras
import numpy as np

from keras_deeplstm.experiments.settings.base import ConfigError


@contextmanager
def using_devices(devices: str) -> Iterator[None]:
    """Inside, models are made for and trained on "one" device, which the backend chooses, or "all".

    `keras.backend.clear_session` must not be called inside. ConfigError: the backend cannot do it.
    """
    backend = keras.backend.backend()
    if devices == "one":
        yield
    elif backend == "tensorflow":
        import tensorflow as tf

        # Named, because without a GPU the strategy would take one CPU, however many there are.
        kind = "GPU" if tf.config.list_logical_devices("GPU") else "CPU"
        names = [device.name for device in tf.config.list_logical_devices(kind)]
        with tf.distribute.MirroredStrategy(names).scope():
            yield
    elif backend == "jax":
        before = keras.distribution.distribution()
        keras.distribution.set_distribution(keras.distribution.DataParallel())
        try:
            yield
        finally:
            keras.distribution.set_distribution(before)
    else:
        raise ConfigError(f"--devices all needs TensorFlow or JAX. Received: backend={backend!r}")


def number_of_devices() -> int:
    """The number of devices that a model made now is trained on."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.distribute.get_strategy().num_replicas_in_sync
    if keras.backend.backend() == "jax" and keras.distribution.distribution() is not None:
        return keras.distribution.distribution().num_model_replicas
    return 1


def even_parts(data: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The data without the last few, so that devices get equal parts: the engines need that."""
    x, y = (array[: len(array) - len(array) % number_of_devices()] for array in data)
    return x, y
