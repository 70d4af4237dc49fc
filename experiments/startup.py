"""Importing Keras without noise; in a module of its own because command and worker both do."""

import os
import sys


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
