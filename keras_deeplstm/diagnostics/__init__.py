"""Questions to a layer or a model outside of training: is the gradient right, and where is it?"""

from keras_deeplstm.diagnostics.float64 import float64
from keras_deeplstm.diagnostics.gradient_check import gradient_check

__all__ = ["float64", "gradient_check"]
