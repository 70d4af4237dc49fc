"""Model builders: plain `keras.Model`s around the blocks, with a parameter budget if wanted.

Every builder takes the block by name, its `depth`, either `units` or `parameters`, and passes
further keyword arguments on to the block. With `parameters=500_000` it chooses the largest `units`
(up to 65,536) with which the whole model has at most that many parameters, so that a comparison at
equal parameters is one argument. Models are not compiled. Classifiers and language models return
logits: use a loss with `from_logits=True`.
"""

from keras_deeplstm.models.budget import DEFAULT_UNITS, count_parameters
from keras_deeplstm.models.classifiers import BLOCKS, classifier, regressor
from keras_deeplstm.models.cnn import cnn_classifier
from keras_deeplstm.models.connected import CONNECTIONS
from keras_deeplstm.models.image_grids import image_grid_classifier
from keras_deeplstm.models.sequences import (
    SEQUENCE_BLOCKS,
    forecaster,
    sequence_classifier,
    sequence_regressor,
)
from keras_deeplstm.models.text import character_language_model

__all__ = [
    "BLOCKS",
    "CONNECTIONS",
    "DEFAULT_UNITS",
    "SEQUENCE_BLOCKS",
    "character_language_model",
    "classifier",
    "cnn_classifier",
    "count_parameters",
    "forecaster",
    "image_grid_classifier",
    "regressor",
    "sequence_classifier",
    "sequence_regressor",
]
