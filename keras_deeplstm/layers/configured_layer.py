"""The base of all layers of the package: what a config from a file may be."""

import keras

from keras_deeplstm import validation


class ConfiguredLayer(keras.layers.Layer):
    """A layer that says in one sentence what is wrong with a config, whoever has written it."""

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
