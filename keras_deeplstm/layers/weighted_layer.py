"""The base of all layers with weights over depth: how these are made, read and loaded."""

import math

import keras
from keras import ops

from keras_deeplstm.layers.configured_layer import ConfiguredLayer
from keras_deeplstm.layers.weights import draw, filling, per_step, summed_over_steps

MOVING = ("mean", "variance")  # roles of weights that are moving averages
MAX_DEPTH = 10_000
MAX_PARAMETERS = 2**31  # of one layer: 8 GiB


class WeightedLayer(ConfiguredLayer):
    """Base of the layers with `depth` steps of `units` each, which say what weights they have.

    A subclass lists them (`_weights`). A weight that is stacked over depth carries the attribute
    `depth_steps`, the range of depth steps along its first axis; that is all that diagnostics need
    to know.
    """

    _sizes: tuple[str, ...] = ("units", "depth")  # arguments that errors of sizes quote

    def _weights(self, features):
        """The list of `Weight` for inputs with `features` features."""
        raise NotImplementedError

    def weight_shapes(self, features):
        """Shapes of the layer's own weights for `features` features: a dict name -> shape."""
        return {weight.name: weight.shape for weight in self._weights(features)}

    def build(self, inputs_shape):
        """Create the weights for inputs of shape `(batch, ..., features)`."""
        features = self._checked_features(inputs_shape)
        self.input_spec = keras.layers.InputSpec(min_ndim=2, axes={-1: features})
        # Before anything is allocated: the sizes may be those of a stranger's file.
        count = sum(map(math.prod, self.weight_shapes(features).values()))
        if count > MAX_PARAMETERS:
            sizes = ", ".join(self._quoted_sizes())
            raise ValueError(
                f"`{type(self).__name__}` must have at most {MAX_PARAMETERS:,} parameters. "
                f"Received: {count:,}, with {sizes}, features={features}"
            )
        for weight in self._weights(features):
            setattr(self, weight.name, self._add(weight))
        super().build(inputs_shape)

    def _quoted_sizes(self):
        return [f"{name}={getattr(self, name)}" for name in self._sizes]

    def load_own_variables(self, store):
        """Take the weights from a file.

        Raises:
            ValueError: They are those of a layer with another depth, other units or options.
        """
        saved = [tuple(store[key].shape) for key in sorted(store.keys(), key=int)]
        # Keras keeps moving averages behind the weights that are trained.
        own = self._weights(self.input_spec.axes[-1]) if self.built else []
        needed = [weight.shape for weight in sorted(own, key=lambda weight: weight.role in MOVING)]
        if saved != needed:
            raise ValueError(
                f"The saved weights do not fit layer {self.name!r} with "
                f"{', '.join(reversed(self._quoted_sizes()))}: "
                f"they have the shapes {saved}, needed are {needed}"
            )
        super().load_own_variables(store)

    def _tensor(self, weight):
        """The value of a `Weight` in the layer's type.

        An outer layer that calls `call` itself, as `TimeDistributed` does, may have rounded it.
        """
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
        for _ in range(weight.stacks):
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
        # Recurrent batch normalization (arXiv 1603.09025, section 4) starts scales at 0.1: at 1,
        # tanh saturates and the gradient vanishes.
        return {
            "scale": keras.initializers.Constant(0.1),
            "gain": "ones",
            "offset": "zeros",
            "peephole": "zeros",  # at first, an LSTM without
            "mean": "zeros",
            "variance": "ones",
        }[weight.role]
