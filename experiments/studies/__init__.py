"""Studies by name: tables of runs that answer one question each."""

from keras_deeplstm.experiments.studies import (
    algorithms,
    connections,
    depth,
    depth_limit,
    forecasts,
    image_grids,
    images,
    texts,
)
from keras_deeplstm.experiments.studies import sequences as long_memory
from keras_deeplstm.experiments.studies.study import Study, best_first, grid

__all__ = ["STUDIES", "Study", "best_first", "grid"]

_FILES = (
    depth,
    images,
    depth_limit,
    image_grids,
    texts,
    connections,
    long_memory,
    algorithms,
    forecasts,
)
STUDIES = {study.name: study for file in _FILES for study in file.studies}
