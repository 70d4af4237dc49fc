"""The base of the grids: what those over time and those over images have in common."""

import functools

from keras import ops

from keras_deeplstm import validation
from keras_deeplstm.layers import functions
from keras_deeplstm.layers.depth_layer import DepthLayer
from keras_deeplstm.layers.scan import product
from keras_deeplstm.layers.weights import Weight, checked_gate_bias, with_gate_biases

PROJECTIONS = {"hidden": ("hidden",), "both": ("hidden", "memory"), None: ()}


class GridBase(DepthLayer):
    """Layers of LSTMs along depth, and along other directions; h_D and c_D are those along depth.

    A subclass lists in `_arguments` what its constructor takes beyond this one.
    """

    _arguments: tuple[str, ...] = ()

    def __init__(
        self,
        units,
        depth,
        *,
        tied,
        priority,
        project_inputs,
        output,
        recurrent_dropout,
        forget_bias,
        depth_forget_bias,
        input_gate_bias,
        recurrent_activation,
        return_sequences,
        unroll,
        **others,
    ):
        super().__init__(units, depth, **others)
        self.tied = validation.one_of("tied", tied, (False, "depth", True))
        self.priority = validation.one_of("priority", priority, ("depth", None))
        self.project_inputs = validation.one_of(
            "project_inputs", project_inputs, tuple(PROJECTIONS)
        )
        # `output` is a property of every Keras layer.
        self.read_out = validation.one_of("output", output, ("hidden", "both"))
        self.recurrent_dropout = validation.fraction("recurrent_dropout", recurrent_dropout)
        check = functools.partial(checked_gate_bias, bias_initializer=self.bias_initializer)
        self.forget_bias = check("forget_bias", forget_bias, words=(None,))
        self.depth_forget_bias = check("depth_forget_bias", depth_forget_bias)
        self.input_gate_bias = check("input_gate_bias", input_gate_bias, words=(None,))
        self.recurrent_activation = functions.get("recurrent_activation", recurrent_activation)
        self.return_sequences = validation.boolean("return_sequences", return_sequences)
        self.unroll = validation.boolean("unroll", unroll)

    def _projections(self, features):
        """The weights of the projections below the first layer."""
        weights = []
        for state in PROJECTIONS[self.project_inputs]:
            weights.append(Weight(f"{state}_kernel", (features, self.units), "kernel"))
            if self.use_bias:
                weights.append(Weight(f"{state}_bias", (self.units,), "offset"))
        return weights

    def _of_layers(self, direction, weights):
        """Those of one LSTM -> those of all layers, unless these share it."""
        if self.tied is True or (self.tied == "depth" and direction == "depth"):
            return weights
        return [weight.stacked(range(1, self.depth + 1)) for weight in weights]

    def _initializer(self, weight):
        if weight.role == "bias":
            biases = self.input_gate_bias, self.forget_bias
            if weight.name == "depth_bias":
                biases = None, self.depth_forget_bias
            return with_gate_biases(self.bias_initializer, self.depth, *biases)
        return super()._initializer(weight)

    def _below_first_layer(self, x, w):
        """h_D and c_D that enter the first layer."""

        def project(state):
            return product(x, w[f"{state}_kernel"]) + w.get(f"{state}_bias", 0)

        h_D = project("hidden") if self.project_inputs else x
        return h_D, project("memory") if self.project_inputs == "both" else ops.zeros_like(h_D)

    def _read(self, h_D, c_D):
        return ops.concatenate([h_D, c_D], axis=-1) if self.read_out == "both" else h_D

    @property
    def _read_size(self):
        return self.units * (2 if self.read_out == "both" else 1)

    def get_config(self):
        """Return the arguments of the constructor."""
        names = ("tied", "priority", "project_inputs", "recurrent_dropout", "forget_bias")
        names += ("depth_forget_bias", "input_gate_bias", "return_sequences", "unroll")
        return {
            **super().get_config(),
            **{name: getattr(self, name) for name in (*names, *self._arguments)},
            "output": self.read_out,
            "recurrent_activation": functions.config_of(self, "recurrent_activation"),
        }
