"""LSTM along depth, for Keras 3.

`keras_deeplstm.layers`, `.models`, `.states`, `.text`, `.callbacks`, `.diagnostics`,
`.initializers`, `.search`, `.experiments`.
Importing the package registers its layers, so that `keras.models.load_model` finds them.
"""

import importlib
import multiprocessing
import pathlib
import sys

__version__ = "0.2.0"

_SUBMODULES = (
    "callbacks",
    "diagnostics",
    "experiments",
    "initializers",
    "layers",
    "models",
    "search",
    "states",
    "text",
)


def _serves_the_command():
    if multiprocessing.current_process().name == "deeplstm-worker":  # see experiments.processes
        return True
    if sys.argv[:1] == ["-m"]:  # so Python calls it while it looks for what `python -m` names
        return sys.orig_argv[-len(sys.argv)] == __name__
    return pathlib.PurePath(*sys.argv[:1]).name in ("deeplstm", "deeplstm.exe")


# Keras takes seconds to import. Everybody who imports the package wants the layers registered;
# only the command `deeplstm` does not, until one of its commands needs them: its help is instant.
if not _serves_the_command():
    from keras_deeplstm import initializers, layers, states  # noqa: F401


def __getattr__(name):
    if name in _SUBMODULES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return [*globals(), *_SUBMODULES]
