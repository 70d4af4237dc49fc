"""The base of all layers that have depth steps: their arguments, weights and configuration."""

import math

import keras
from keras import ops

from keras_deeplstm import validation
from keras_deeplstm.layers import functions
from keras_deeplstm.layers.configured_layer import ConfiguredLayer
from keras_deeplstm.layers.weights import draw, filling, per_step, summed_over_steps

MOVING = ("mean", "variance")  # roles of weights that are moving averages
MAX_DEPTH = 10_000
MAX_UNITS = 65_536
MAX_PARAMETERS = 2**31  # of one layer: 8 GiB


class DepthLayer(ConfiguredLayer):
    """Base of the layers that have `depth` steps of `units` each: their arguments and weights.

    A subclass says which weights it has (`_weights`). A weight that is stacked over depth carries
    the attribute `depth_steps`, the range of depth steps along its first axis; that is all that
    diagnostics need to know.
    """

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
        given = {
            "kernel_initializer": kernel_initializer,
            "recurrent_initializer": recurrent_initializer,
            "bias_initializer": bias_initializer,
            "kernel_regularizer": kernel_regularizer,
            "recurrent_regularizer": recurrent_regularizer,
            "bias_regularizer": bias_regularizer,
            "kernel_constraint": kernel_constraint,
            "recurrent_constraint": recurrent_constraint,
            "bias_constraint": bias_constraint,
        }
        for name, value in given.items():
            setattr(self, name, functions.get(name, value))
        self.seed = seed if seed is None else validation.seed("seed", seed)
        self.seed_generator = keras.random.SeedGenerator(self.seed)
        self.supports_masking = True

    def _weights(self, features):
        """The list of `Weight` for inputs with `features` features."""
        raise NotImplementedError

    def _initial_bias(self, shape, dtype):
        return self.bias_initializer(shape, dtype=dtype)

    def weight_shapes(self, features):
        """Shapes of all weights for inputs with `features` features: a dict name -> shape."""
        return {weight.name: weight.shape for weight in self._weights(features)}

    def build(self, inputs_shape):
        """Create the weights for inputs of shape `(batch, ..., features)`."""
        features = inputs_shape[-1]
        if features is None:
            raise ValueError(
                f"The last dimension of the inputs to `{type(self).__name__}` must be defined. "
                f"Received: input_shape={tuple(inputs_shape)}"
            )
        self.input_spec = keras.layers.InputSpec(min_ndim=2, axes={-1: features})
        # Before anything is allocated: the sizes may be those of a stranger's file.
        count = sum(map(math.prod, self.weight_shapes(features).values()))
        if count > MAX_PARAMETERS:
            raise ValueError(
                f"`{type(self).__name__}` must have at most {MAX_PARAMETERS:,} parameters. "
                f"Received: {count:,}, with units={self.units}, depth={self.depth}, "
                f"features={features}"
            )
        for weight in self._weights(features):
            setattr(self, weight.name, self._add(weight))
        super().build(inputs_shape)

    def load_own_variables(self, store):
        """Take the weights from a file.

        Raises:
            ValueError: They are those of a layer with another depth, other units or options.
        """
        saved = [tuple(store[key].shape) for key in sorted(store.keys(), key=int)]
        needed = [tuple(weight.shape) for weight in self.weights]
        if saved != needed:
            raise ValueError(
                f"The saved weights do not fit layer {self.name!r} with depth={self.depth}, "
                f"units={self.units}: they have the shapes {saved}, needed are {needed}"
            )
        super().load_own_variables(store)

    def _numbers(self, inputs):
        """The inputs in the layer's type; integers and booleans are numbers, too."""
        dtype = keras.backend.standardize_dtype(inputs.dtype)
        if not dtype.startswith(("float", "bfloat", "int", "uint", "bool")):
            raise ValueError(
                f"Inputs to `{type(self).__name__}` must be numbers. Received: dtype={dtype}"
            )
        return ops.cast(inputs, self.compute_dtype)

    def _tensor(self, weight):
        """The value of a `Weight` in the layer's type, whatever an outer layer asks for."""
        dtype = None if weight.role in MOVING else self.compute_dtype
        return ops.convert_to_tensor(getattr(self, weight.name), dtype=dtype)

    def _dropout_masks(self, rate, *shape):
        """Masks of the given shape for h: 0 or 1 / (1 - rate).

        Drawn before any scan: random numbers drawn within it would leak from it on JAX.
        """
        ones = ops.ones((*shape, self.units), dtype=self.compute_dtype)
        return keras.random.dropout(ones, rate, seed=self.seed_generator)

    def _add(self, weight):
        moving = weight.role in MOVING
        constraint = getattr(self, f"{weight.role}_constraint", None)
        regularizer = getattr(self, f"{weight.role}_regularizer", None)
        initializer = self._initializer(weight)
        if callable(initializer):
            initializer = filling(f"{weight.role}_initializer", initializer)
        if weight.steps is not None:
            constraint = constraint and per_step(constraint)
            regularizer = regularizer and summed_over_steps(regularizer)
        variable = self.add_weight(
            name=weight.name,
            shape=weight.shape,
            initializer=initializer,
            regularizer=regularizer,
            constraint=constraint,
            trainable=not moving,
            autocast=not moving,
            # Replicas of one batch keep one moving average.
            aggregation="mean" if moving else "none",
        )
        variable.depth_steps = weight.steps
        return variable

    def _initializer(self, weight):
        if weight.role in ("kernel", "recurrent"):
            initializer = getattr(self, f"{weight.role}_initializer")
            return lambda shape, dtype: draw(initializer, weight, dtype)
        if weight.role == "bias":
            return self._initial_bias
        # Recurrent batch normalization (arXiv 1603.09025, section 4) starts scales at 0.1: at 1,
        # tanh saturates and the gradient vanishes.
        return {
            "scale": keras.initializers.Constant(0.1),
            "offset": "zeros",
            "peephole": "zeros",  # at first, an LSTM without
            "mean": "zeros",
            "variance": "ones",
        }[weight.role]

    def get_config(self):
        """Return the arguments of the constructor."""
        return {
            **super().get_config(),
            "units": self.units,
            "depth": self.depth,
            "activation": functions.config_of(self, "activation"),
            "dropout": self.dropout,
            "use_bias": self.use_bias,
            **{
                f"{role}_{kind}": functions.config_of(self, f"{role}_{kind}")
                for kind in ("initializer", "regularizer", "constraint")
                for role in ("kernel", "recurrent", "bias")
            },
            "seed": self.seed,
        }
