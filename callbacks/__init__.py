"""Callbacks that plug into plain `model.fit`: gradients by layer and depth, pictures of filters."""

from keras_deeplstm.callbacks import gradient_plots
from keras_deeplstm.callbacks.filter_images import FilterImages, filter_images, plot_filters
from keras_deeplstm.callbacks.gradient_flow import GradientFlow
from keras_deeplstm.callbacks.gradient_plots import first_last_ratio

__all__ = [
    "FilterImages",
    "GradientFlow",
    "filter_images",
    "first_last_ratio",
    "gradient_plots",
    "plot_filters",
]
