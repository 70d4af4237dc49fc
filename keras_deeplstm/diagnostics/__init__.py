"""Questions to a layer or a model outside of training: is the gradient right, and where is it?"""

from keras_deeplstm.diagnostics.float64 import float64
from keras_deeplstm.diagnostics.gradient_check import gradient_check
from keras_deeplstm.diagnostics.image_gates import image_gates
from keras_deeplstm.diagnostics.mean_field import mean_field_gradients
from keras_deeplstm.diagnostics.signals import SignalProbe
from keras_deeplstm.diagnostics.state_gradients import StateGradientProbe, state_gradients

__all__ = [
    "SignalProbe",
    "StateGradientProbe",
    "float64",
    "gradient_check",
    "image_gates",
    "mean_field_gradients",
    "state_gradients",
]
