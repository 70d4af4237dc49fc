"""What models over depth and models of sequences have at their ends."""

import keras

from keras_deeplstm import validation


class Readout:
    """A dense layer for the outputs of a model, and the scaling that keeps them in a range.

    Args:
        size: Number of outputs.
        name: Name of the layer.
        output_range: `(low, high)`, or None for outputs without bounds.
    """

    def __init__(self, size, name, output_range=None):
        self.size, self.name = size, name
        self.activation, self.bounds = None, None
        if output_range is not None:
            is_pair = hasattr(output_range, "__len__") and len(output_range) == 2
            bounds = [validation.finite("output_range", b) for b in output_range] if is_pair else []
            if not bounds or not bounds[0] < bounds[1]:
                raise ValueError(
                    "Argument `output_range` must be (low, high) with low < high. "
                    f"Received: output_range={output_range}"
                )
            self.activation, self.bounds = "sigmoid", bounds

    def count(self, features):
        """Number of parameters for inputs with `features` features."""
        return (features + 1) * self.size

    def layer(self):
        """Make the dense layer."""
        return keras.layers.Dense(self.size, activation=self.activation, name=self.name)

    def scaled(self, x):
        """The outputs of the dense layer, in their range."""
        if self.bounds is None:
            return x
        low, high = self.bounds
        return keras.layers.Rescaling(high - low, offset=low)(x)


def check_images(input_shape):
    """Raise ValueError unless inputs of this shape are images."""
    if len(input_shape) != 3:
        raise ValueError(
            "Argument `input_shape` must be (height, width, channels). "
            f"Received: input_shape={input_shape}"
        )


def with_noise(x, stddev):
    """Inputs with normal noise in training, if there is to be any."""
    return keras.layers.GaussianNoise(stddev)(x) if stddev else x
