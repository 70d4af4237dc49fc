"""The base of all layers of the package: what a config from a file, and inputs, may be."""

import keras
from keras import ops

from keras_deeplstm import validation


class ConfiguredLayer(keras.layers.Layer):
    """A layer that says in one sentence what is wrong with its config, or with its inputs."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        _check_policy(self.dtype_policy, kwargs.get("dtype"))

    @classmethod
    def from_config(cls, config):
        """The inverse of `get_config`.

        Raises:
            TypeError: An argument is missing, unknown or out of its range; the text says which.
        """
        try:
            if isinstance(config, dict) and isinstance(config.get("dtype"), dict):
                config = {**config, "dtype": _policy(config["dtype"])}
            return super().from_config(config)
        except Exception as error:  # Keras has errors of its own
            # Keras quotes the whole config before it says why.
            reason = str(error).rpartition("Exception encountered: ")[2]
            raise TypeError(f"Cannot load `{cls.__name__}`: {reason}") from error

    def _checked_features(self, inputs_shape):
        """The number of features of the inputs; an error if it is not known."""
        if inputs_shape[-1] is None:
            raise ValueError(
                f"The last dimension of the inputs to `{type(self).__name__}` must be defined. "
                f"Received: input_shape={tuple(inputs_shape)}"
            )
        return inputs_shape[-1]

    def _numbers(self, inputs):
        """The inputs in the layer's type; integers and booleans are numbers, too."""
        dtype = keras.backend.standardize_dtype(inputs.dtype)
        if not dtype.startswith(("float", "bfloat", "int", "uint", "bool")):
            raise ValueError(
                f"Inputs to `{type(self).__name__}` must be numbers. Received: dtype={dtype}"
            )
        return ops.cast(inputs, self.compute_dtype)


def _policy(config):
    try:
        policy = keras.dtype_policies.deserialize(config)
    except Exception:  # of any kind, as it comes
        policy = None
    _check_policy(policy, config)
    return policy


def _check_policy(policy, given):
    if not hasattr(policy, "compute_dtype"):  # Keras takes the config of anything
        raise ValueError(
            f"Argument `dtype` must be a Keras dtype. Received: {validation.shown(given)}"
        )
