"""Search spaces for keras-tuner: depth, state size, dropout, and what else decides a deep model.

A `HyperModel` goes into any tuner of keras-tuner, an `OptunaOracle` too: then Optuna chooses the
trials and remembers them. In the arguments of this module a tuple `(low, high)` is a range, a list
`[a, b, ...]` are values to choose from, and anything else is fixed.
"""

from keras_deeplstm.search.hypermodel import BUILDERS, HyperModel, check_size
from keras_deeplstm.search.optuna_oracle import OptunaOracle
from keras_deeplstm.search.pruning import PruningCallback
from keras_deeplstm.search.space import OVER_DEPTH, OVER_TIME_AND_DEPTH, Space

__all__ = [
    "BUILDERS",
    "OVER_DEPTH",
    "OVER_TIME_AND_DEPTH",
    "HyperModel",
    "OptunaOracle",
    "PruningCallback",
    "Space",
    "check_size",
]
