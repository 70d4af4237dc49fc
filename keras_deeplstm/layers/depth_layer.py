"""The base of the layers whose number of units is an argument: what they have in common."""

import keras

from keras_deeplstm import validation
from keras_deeplstm.layers import functions
from keras_deeplstm.layers.weighted_layer import MAX_DEPTH, WeightedLayer

MAX_UNITS = 65_536


class DepthLayer(WeightedLayer):
    """Base of the layers that have `depth` steps of `units` each: their arguments."""

    def __init__(
        self,
        units,
        depth,
        *,
        activation,
        dropout,
        use_bias,
        kernel_initializer,
        recurrent_initializer,
        bias_initializer,
        kernel_regularizer,
        recurrent_regularizer,
        bias_regularizer,
        kernel_constraint,
        recurrent_constraint,
        bias_constraint,
        seed,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.units = validation.positive_integer("units", units, at_most=MAX_UNITS)
        self.depth = validation.positive_integer("depth", depth, at_most=MAX_DEPTH)
        self.activation = functions.get("activation", activation)
        self.dropout = validation.fraction("dropout", dropout)
        self.use_bias = validation.boolean("use_bias", use_bias)
        functions.take(
            self,
            kernel_initializer=kernel_initializer,
            recurrent_initializer=recurrent_initializer,
            bias_initializer=bias_initializer,
            kernel_regularizer=kernel_regularizer,
            recurrent_regularizer=recurrent_regularizer,
            bias_regularizer=bias_regularizer,
            kernel_constraint=kernel_constraint,
            recurrent_constraint=recurrent_constraint,
            bias_constraint=bias_constraint,
        )
        self.seed = seed if seed is None else validation.seed("seed", seed)
        self.seed_generator = keras.random.SeedGenerator(self.seed)
        self.supports_masking = True

    def _initial_bias(self, shape, dtype):
        return self.bias_initializer(shape, dtype=dtype)

    def _initializer(self, weight):
        return self._initial_bias if weight.role == "bias" else super()._initializer(weight)

    def get_config(self):
        """Return the arguments of the constructor."""
        return {
            **super().get_config(),
            "units": self.units,
            "depth": self.depth,
            "activation": functions.config_of(self, "activation"),
            "dropout": self.dropout,
            "use_bias": self.use_bias,
            **functions.configs_of(self, functions.OF_WEIGHTS),
            "seed": self.seed,
        }
