"""Studies by name: tables of runs that answer one question each."""

from keras_deeplstm.experiments.studies.algorithms import studies as algorithms
from keras_deeplstm.experiments.studies.depth import depth
from keras_deeplstm.experiments.studies.forecasts import studies as forecasts
from keras_deeplstm.experiments.studies.images import studies as images
from keras_deeplstm.experiments.studies.sequences import studies as sequences
from keras_deeplstm.experiments.studies.study import Study, best_first, grid
from keras_deeplstm.experiments.studies.texts import studies as texts

__all__ = ["STUDIES", "Study", "best_first", "grid"]

STUDIES = {
    study.name: study for study in (depth, *images, *texts, *sequences, *algorithms, *forecasts)
}
