"""Importing Keras without noise; in a module of its own because command and worker both do."""

import importlib.util
import os
import sys

from keras_deeplstm import validation
from keras_deeplstm.experiments.settings.base import ConfigError, config_errors

BACKENDS = ("tensorflow", "jax", "torch")


def check_backend() -> None:
    """Raise ConfigError if KERAS_BACKEND names a backend that is not there: Keras says it late."""
    name = os.environ.get("KERAS_BACKEND")
    if not name:
        return
    with config_errors():
        validation.one_of("KERAS_BACKEND", name, BACKENDS)
    if importlib.util.find_spec(name) is None:
        raise ConfigError(
            f"The backend {name!r} is not installed. Install it, or set KERAS_BACKEND to another "
            f"one of {list(BACKENDS)}"
        )


def load_keras() -> None:
    """Import Keras without the start-up messages that its backends' C++ code writes to stderr."""
    sys.stderr.flush()
    stderr = os.dup(2)
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 2)
    try:
        import keras
        import tensorflow  # noqa: F401  Keras imports it later, whatever the backend

        import keras_deeplstm.layers  # noqa: F401  the command has put this off

        keras.ops.zeros(1)  # the first operation makes the backend look for devices
    finally:
        os.dup2(stderr, 2)
        os.close(silence)
        os.close(stderr)
