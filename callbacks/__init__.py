"""Callbacks that plug into plain `model.fit`: gradients by layer and depth, pictures of filters."""

from keras_deeplstm.callbacks import gradient_plots, gradient_tables, signal_plots
from keras_deeplstm.callbacks.alerts import Alert, Alerts
from keras_deeplstm.callbacks.divergence import DivergenceGuard
from keras_deeplstm.callbacks.filter_images import FilterImages, filter_images, plot_filters
from keras_deeplstm.callbacks.gabor import GaborSimilarity, gabor_similarity
from keras_deeplstm.callbacks.gradient_flow import GradientFlow
from keras_deeplstm.callbacks.gradient_noise import GradientNoise
from keras_deeplstm.callbacks.gradient_tables import first_last_ratio
from keras_deeplstm.callbacks.image_gates import plot_image_gates
from keras_deeplstm.callbacks.signal_flow import SignalFlow
from keras_deeplstm.callbacks.state_gradients import StateGradients
from keras_deeplstm.callbacks.verdict import verdict

__all__ = [
    "Alert",
    "Alerts",
    "DivergenceGuard",
    "FilterImages",
    "GaborSimilarity",
    "GradientFlow",
    "GradientNoise",
    "SignalFlow",
    "StateGradients",
    "filter_images",
    "first_last_ratio",
    "gabor_similarity",
    "gradient_plots",
    "gradient_tables",
    "plot_filters",
    "plot_image_gates",
    "signal_plots",
    "verdict",
]
