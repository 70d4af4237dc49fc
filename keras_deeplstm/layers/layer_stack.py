"""The base of the layers that connect any layers of Keras along depth."""

import itertools
import math

import keras
from keras import ops

from keras_deeplstm import validation
from keras_deeplstm.layers import nested_layers
from keras_deeplstm.layers.masks import agree, check_mask
from keras_deeplstm.layers.normalization import OF_ROWS, Norm
from keras_deeplstm.layers.probes import probe_of, unwatched
from keras_deeplstm.layers.scan import is_loop, scan
from keras_deeplstm.layers.weighted_layer import WeightedLayer
from keras_deeplstm.layers.weights import normalization_weights


class LayerStack(WeightedLayer):
    """Base of the layers that apply one layer after the other, and connect each with h before it.

    A subclass says what weights a step has (`_step_weights`) and what it computes (`_step`). h is
    kept as rows, one for each position; the layers see it in the shape of the inputs.
    """

    _states: tuple[str, ...] = ("h",)  # the carry of the scan
    _sizes = ("depth",)
    units: int | None = None  # as many as the inputs have features, once it is built
    used_kernel: str | None = None

    def __init__(self, layers, depth, tied, *, normalization, dropout, unroll, seed, **kwargs):
        super().__init__(**kwargs)
        self.tied = validation.boolean("tied", tied)
        self.layers, self.depth = nested_layers.taken(layers, depth, tied)
        self.normalization = validation.one_of("normalization", normalization, tuple(OF_ROWS))
        self.dropout = validation.fraction("dropout", dropout)
        self.unroll = validation.boolean("unroll", unroll)
        if not (unroll or tied):
            raise ValueError(
                "`unroll=False` needs `tied=True`: a loop has one layer for all of its steps. "
                "Received: unroll=False, tied=False"
            )
        self.seed = seed if seed is None else validation.seed("seed", seed)
        self.seed_generator = keras.random.SeedGenerator(self.seed)
        self.supports_masking = True
        self.input_spec = keras.layers.InputSpec(min_ndim=2)

    # Weights.

    def _step_weights(self, features):
        """The list of `Weight` of one step, besides those of its normalization."""
        raise NotImplementedError

    def _weights(self, features):
        weights = self._step_weights(features)
        weights += normalization_weights("norm", self.normalization, features)
        steps = range(1, self.depth + 1)
        return weights if self.tied else [weight.stacked(steps) for weight in weights]

    def build(self, inputs_shape):
        """Create the weights, and those of the layers, for inputs of shape `(batch, ..., units)`.

        Raises:
            ValueError: A layer does not preserve the shape; or, with `unroll=False`, it has a state
                or a seed.
        """
        self.units = inputs_shape[-1]
        super().build(inputs_shape)
        h = keras.KerasTensor(inputs_shape, dtype=self.compute_dtype)
        for step, layer in enumerate(self.layers, 1):
            y = layer(h, **nested_layers.arguments_of(layer, h, None, {}))
            shapes = keras.tree.map_structure(lambda part: tuple(part.shape), y)
            if not isinstance(y, keras.KerasTensor) or not agree(shapes, tuple(inputs_shape)):
                raise ValueError(
                    f"Each layer of {self.name!r} must return one tensor of the shape of its "
                    f"input. Received: layer {step} of {len(self.layers)}, {layer.name!r} "
                    f"(of type {type(layer).__name__}), which makes {shapes} of "
                    f"{tuple(inputs_shape)}"
                )
        if not self.unroll:
            (layer,) = self.layers
            states = [variable.path for variable in layer.variables if not variable.trainable]
            if states:
                raise ValueError(
                    f"`unroll=False` needs a layer without state, seed and frozen weights, since "
                    f"they would leak from the loop. Received: layer {layer.name!r} with {states}"
                )

    # Computation.

    def _start(self, x):
        """The carry before the first step, from the inputs as rows."""
        return (x,)

    def _step(self, carry, branch, w, shift=None):
        """The carry before a step -> that after it. `branch` is f_l, from rows to rows."""
        raise NotImplementedError

    def _returned(self, carry, w):
        """What `call` returns of the last carry, a tensor or a list of them."""
        return carry[0]

    def _constants(self):
        """Arrays by name, besides weights, with an entry for each step."""
        return {}

    def call(
        self,
        inputs,
        mask=None,
        training=False,
        attention_mask=None,
        use_causal_mask=False,
        inputs_mask=None,
        **kwargs,
    ):
        """Apply the layers to `(batch, ..., units)`; `mask` has the shape `(batch, ...)`.

        What else is given goes to the layers whose `call` names it.
        """
        # Keras refuses numbers beside tensors in **kwargs: what attention takes has its own names.
        # Beside another tensor, Keras hands the mask of `inputs` over as `inputs_mask`.
        mask = inputs_mask if mask is None else mask
        if mask is not None:
            check_mask(mask, inputs.shape[:-1], "(batch, ...)")
        given = dict(kwargs)
        if attention_mask is not None:
            given["attention_mask"] = attention_mask
        if use_causal_mask:
            given["use_causal_mask"] = use_causal_mask
        nested_layers.check_given(self, self.layers, given)

        x = self._numbers(inputs)
        shape = ops.shape(x)
        rows = ops.reshape(x, (-1, self.units))
        shared, by_step = self._weights_by_step(training, ops.shape(rows)[0])
        layers = itertools.cycle(self.layers)  # one for each call of `step`; tied, the same again

        def step(carry, own, *shift):
            layer, w = next(layers), {**shared, **own}

            def branch(h):
                h = ops.reshape(h, shape)
                arguments = nested_layers.arguments_of(layer, h, mask, given)
                with unwatched():
                    y = layer(h, **arguments)
                y = ops.reshape(ops.cast(y, self.compute_dtype), (-1, self.units))
                return y * w["dropout"] if "dropout" in w else y

            return self._step(carry, branch, w, *shift), ()

        self.used_kernel = "loop" if is_loop(self.unroll, self.depth) else "written out"
        carry, _, _ = scan(
            step,
            self._start(rows),
            by_step,
            self.depth,
            unroll=self.unroll,
            probe=probe_of(self).get("depth"),
        )
        return keras.tree.map_structure(
            lambda rows: ops.reshape(rows, (*shape[:-1], rows.shape[-1])),
            self._returned(carry, shared),
        )

    def _weights_by_step(self, training, rows):
        """All weights as tensors, by name: what all steps share; what each has, stacked."""
        shared, by_step = {}, {}
        for weight in self._weights(self.units):
            (shared if weight.steps is None else by_step)[weight.name] = self._tensor(weight)
        for name, values in self._constants().items():
            by_step[name] = ops.convert_to_tensor(values, dtype=self.compute_dtype)
        if training and self.dropout > 0:
            by_step["dropout"] = self._dropout_masks(self.dropout, self.depth, rows)
        return shared, by_step

    def _norm(self, h, w, name="norm"):
        return OF_ROWS[self.normalization](h, Norm.of(w, name))

    # Probes, shapes, masks, configuration.

    def probe_shapes(self, inputs_shape):
        """What a `Probe` can shift: `{"depth": (names of states, shape of each offset)}`."""
        rows = math.prod(inputs_shape[:-1])
        return {"depth": (self._states, (self.depth, rows, inputs_shape[-1]))}

    def compute_output_shape(self, inputs_shape):
        """That of the inputs."""
        return tuple(inputs_shape)

    def compute_mask(self, inputs, mask=None):
        """The mask of the inputs, unchanged."""
        return mask

    def get_config(self):
        """Return the arguments of the constructor."""
        return {
            **super().get_config(),
            "layers": [keras.saving.serialize_keras_object(layer) for layer in self.layers],
            "depth": self.depth,
            "tied": self.tied,
            "normalization": self.normalization,
            "dropout": self.dropout,
            "unroll": self.unroll,
            "seed": self.seed,
        }
