"""Studies by name: tables of runs that answer one question each."""

from keras_deeplstm.experiments.studies import (
    algorithms,
    connections,
    depth,
    depth_limit,
    forecasts,
    image_grids,
    images,
    more_steps,
    texts,
)
from keras_deeplstm.experiments.studies import sequences as long_memory
from keras_deeplstm.experiments.studies.study import Study, best_first, grid

__all__ = ["FAMILIES", "STUDIES", "Study", "best_first", "grid"]

_FILES = {
    "Depth": (depth, depth_limit, more_steps),
    "Images": (images, image_grids),
    "Transformers and convolutional networks": (connections,),
    "Text": (texts,),
    "Long memory": (long_memory,),
    "Parity, counting and algorithms": (algorithms,),
    "Forecasts": (forecasts,),
}
_STUDIES = [(s, family) for family, some in _FILES.items() for file in some for s in file.studies]
STUDIES = {study.name: study for study, _ in _STUDIES}
FAMILIES = {study.name: family for study, family in _STUDIES}
