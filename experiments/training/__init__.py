"""Training of one run."""

from keras_deeplstm.experiments.training.classifiers import train

__all__ = ["train"]
