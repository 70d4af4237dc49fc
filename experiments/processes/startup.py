"""How a process begins: a file of the user's own is run, and Keras is imported without noise."""

import importlib.util
import os
import sys
import types
from pathlib import Path

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


def run_file(path: str, arguments: list[str]) -> int:
    """Run a file of the user's own as the main one, which is to call `main` with these arguments.

    Returns the exit status of a file that does not exit by itself. What it raises is raised.

    As `python path ...` would, but the command goes on being `deeplstm`: Keras waits until it is
    needed, here and in workers, which import the file.
    """
    if not Path(path).is_file():
        print(f"deeplstm: error: There is no file {path!r}", file=sys.stderr)
        return 2
    sys.argv[1:] = arguments
    module = types.ModuleType("__main__")
    module.__file__ = path
    sys.modules["__main__"] = module
    sys.path.insert(0, str(Path(path).resolve().parent))
    exec(compile(Path(path).read_bytes(), path, "exec"), vars(module))
    return 0


def program() -> list[str]:
    """The words that start this command: `deeplstm`, and a file of the user's own if it is one."""
    file = str(getattr(sys.modules["__main__"], "__file__", ""))
    if not file.endswith(".py") or file.endswith("__main__.py"):
        return ["deeplstm"]
    return ["python", file] if sys.argv[0] == file else ["deeplstm", file]


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
