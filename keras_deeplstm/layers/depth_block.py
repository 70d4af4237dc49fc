"""What the layers that are scanned over depth have in common."""

import math
import numbers
import zlib
from typing import NamedTuple

import keras
from keras import ops

from keras_deeplstm import validation
from keras_deeplstm.initializers import GateBias, OrthogonalGates, draw_blocks
from keras_deeplstm.layers import functions
from keras_deeplstm.layers.scan import probe_of, scan

MAX_DEPTH = 10_000
MAX_UNITS = 65_536
MAX_PARAMETERS = 2**31  # of one layer: 8 GiB


class Weight(NamedTuple):
    """One weight of a block.

    Attributes:
        name: Its name, also the attribute of the layer.
        shape: Its shape.
        role: "kernel", "recurrent" or "bias" (initializer, regularizer and constraint of that
            name), "state" (a trainable initial state), "scale" or "offset" (of normalization, and
            biases of projections), "mean" or "variance" (moving averages).
        steps: The depth steps that its first axis stands for, counted from 1; None for a weight
            that is not stacked.
        gates: Number of blocks side by side in each step of a kernel, drawn one by one.
    """

    name: str
    shape: tuple
    role: str
    steps: range | None = None
    gates: int = 1

    def stacked(self, steps):
        """This weight once for each of `steps`, stacked along a new first axis."""
        return self._replace(shape=(len(steps), *self.shape), steps=steps)


class DepthLayer(keras.layers.Layer):
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
        if not hasattr(self.dtype_policy, "compute_dtype"):  # Keras takes the config of anything
            raise ValueError(
                f"Argument `dtype` must be a Keras dtype. Received: {kwargs['dtype']!r}"
            )
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

    @classmethod
    def from_config(cls, config):
        """The inverse of `get_config`.

        Raises:
            TypeError: An argument is missing, unknown or out of its range; the text says which.
        """
        try:
            return super().from_config(config)
        except Exception as error:  # Keras has errors of its own for a wrong dtype
            # Keras quotes the whole config before it says why.
            reason = str(error).rpartition("Exception encountered: ")[2]
            raise TypeError(f"Cannot load `{cls.__name__}`: {reason}") from error

    def _numbers(self, inputs):
        """The inputs in the layer's type; integers and booleans are numbers, too."""
        dtype = keras.backend.standardize_dtype(inputs.dtype)
        if not dtype.startswith(("float", "bfloat", "int", "uint", "bool")):
            raise ValueError(
                f"Inputs to `{type(self).__name__}` must be numbers. Received: dtype={dtype}"
            )
        return ops.cast(inputs, self.compute_dtype)

    def _add(self, weight):
        moving = weight.role in ("mean", "variance")
        constraint = getattr(self, f"{weight.role}_constraint", None)
        regularizer = getattr(self, f"{weight.role}_regularizer", None)
        if weight.steps is not None:
            constraint = constraint and _per_step(constraint)
            regularizer = regularizer and _summed_over_steps(regularizer)
        variable = self.add_weight(
            name=weight.name,
            shape=weight.shape,
            initializer=self._initializer(weight),
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
            return lambda shape, dtype: _draw(initializer, weight, dtype)
        if weight.role == "bias":
            return self._initial_bias
        # Recurrent batch normalization (arXiv 1603.09025, section 4) starts scales at 0.1: at 1,
        # tanh saturates and the gradient vanishes.
        return {
            "scale": keras.initializers.Constant(0.1),
            "offset": "zeros",
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


class DepthBlock(DepthLayer):
    """Base of the feed-forward layers that apply their steps as one scan over depth.

    A subclass says what a step computes (`_run`). The base flattens leading axes, draws the dropout
    masks and shapes the output.
    """

    _states: tuple[str, ...] = ("h",)  # the carry of the scan

    def __init__(self, units, depth, *, return_all_steps, **kwargs):
        super().__init__(units, depth, **kwargs)
        self.return_all_steps = validation.boolean("return_all_steps", return_all_steps)
        self.input_spec = keras.layers.InputSpec(min_ndim=2)

    def _run(self, x, row_mask, training):
        """Map `(rows, features)` to the carry `(h, ...)` and, if asked, h of all steps."""
        raise NotImplementedError

    def call(self, inputs, mask=None, training=False):
        """Apply the block to `(batch, ..., features)`; `mask` has the shape `(batch, ...)`."""
        if mask is not None:
            check_mask(mask, inputs.shape[:-1], "(batch, ...)")
        lead = ops.shape(inputs)[:-1]
        x = self._numbers(inputs)
        if len(lead) > 1:
            x = ops.reshape(x, (-1, inputs.shape[-1]))
        row_mask = None
        if mask is not None:
            row_mask = ops.reshape(ops.cast(mask, "bool"), (-1, 1))
        carry, hidden = self._run(x, row_mask, training)

        def unflatten(rows):
            if len(lead) == 1:
                return rows
            return ops.reshape(rows, (*lead, *rows.shape[1:]))

        output = unflatten(ops.swapaxes(hidden, 0, 1) if self.return_all_steps else carry[0])
        if getattr(self, "return_state", False):
            return [output, *(unflatten(state) for state in carry)]
        return output

    def _scan(self, step, carry, xs, first=None):
        return scan(
            step,
            carry,
            xs,
            self.depth,
            first=first,
            return_hidden=self.return_all_steps,
            probe=probe_of(self).get("depth"),
        )

    def probe_shapes(self, inputs_shape):
        """What a `Probe` can shift: `{"depth": (names of states, shape of each offset)}`."""
        rows = math.prod(inputs_shape[:-1])
        return {"depth": (self._states, (self.depth, rows, self.units))}

    def _weights_by_step(self, x, training, own_first):
        """All weights and dropout masks as tensors, by name, in three dicts.

        What all steps share; what the first step has; and what the other steps have, stacked. With
        `own_first=False` all steps are alike, and the first is among the others.
        """
        named = [
            (weight.name, weight.steps, ops.convert_to_tensor(getattr(self, weight.name)))
            for weight in self._weights(x.shape[-1])
            # Moving averages are not needed where the batch has statistics of its own.
            if not (training and self.trainable and weight.role in ("mean", "variance"))
        ]
        if training and self.dropout > 0:
            # Drawn here, because random numbers drawn within the scan would leak from it on JAX.
            ones = ops.ones((self.depth, ops.shape(x)[0], self.units), dtype=self.compute_dtype)
            masks = keras.random.dropout(ones, self.dropout, seed=self.seed_generator)
            named.append(("dropout", range(1, self.depth + 1), masks))
        shared, first, others = {}, {}, {}
        for name, steps, value in named:
            if steps is None:
                shared[name] = value
            elif own_first and steps[0] == 1:
                first[name], others[name] = value[0], value[1:]
            else:
                others[name] = value
        return shared, first, others

    def compute_output_shape(self, inputs_shape):
        """Shape of the output, or list of shapes with `return_state`."""
        lead = tuple(inputs_shape[:-1])
        state = (*lead, self.units)
        output = (*lead, self.depth, self.units) if self.return_all_steps else state
        return [output, state, state] if getattr(self, "return_state", False) else output

    def compute_mask(self, inputs, mask=None):
        """The mask of the inputs, unchanged; states have none."""
        return [mask, None, None] if getattr(self, "return_state", False) else mask

    def get_config(self):
        """Return the arguments of the constructor."""
        return {**super().get_config(), "return_all_steps": self.return_all_steps}


def agree(shape, expected):
    """Whether a shape is the expected one, as far as both are known."""
    return len(shape) == len(expected) and all(
        a is None or b is None or a == b for a, b in zip(shape, expected, strict=True)
    )


def check_mask(mask, expected, axes):
    """Raise ValueError unless the mask has the expected shape; `axes` says what that is."""
    if not hasattr(mask, "shape"):
        raise ValueError(
            f"Argument `mask` must be an array or a tensor of shape {axes}={tuple(expected)}. "
            f"Received: mask={validation.shown(mask)} (of type {type(mask)})"
        )
    if not agree(mask.shape, expected):
        raise ValueError(
            f"Argument `mask` must have shape {axes}={tuple(expected)}. "
            f"Received: mask.shape={tuple(mask.shape)}"
        )


def checked_gate_bias(name, value, bias_initializer, words=("depth", None)):
    """Return `value` if it is a number or one of `words`, and if no `GateBias` sets it already."""
    if value not in words:
        if isinstance(value, bool) or not isinstance(value, numbers.Real):
            expected = "".join(f", {word!r}" for word in words[:-1]) + f" or {words[-1]!r}"
            raise ValueError(
                f"Argument `{name}` must be a number{expected}. Received: {name}={value!r}"
            )
        value = validation.finite(name, value)
    if isinstance(bias_initializer, GateBias) and value is not None:
        raise ValueError(
            f"`GateBias` sets the biases of all gates itself: pass `{name}=None` with it. "
            f"Received: {name}={value!r}"
        )
    return value


def with_gate_biases(initializer, depth, input_gate, forget_gate):
    """The bias initializer, with other values for two of the gates; None leaves a gate alone.

    "depth" stands for log(depth), at least 1, of the forget gate, and for -log(depth) of the
    input gate.
    """
    if input_gate is None and forget_gate is None:
        return initializer
    if input_gate == "depth":
        input_gate = -math.log(depth)
    if forget_gate == "depth":
        forget_gate = max(1.0, math.log(depth))

    def initialize(shape, dtype=None):
        z = ops.split(initializer(shape, dtype=dtype), 4, axis=-1)
        for gate, value in ((0, input_gate), (1, forget_gate)):
            if value is not None:
                z[gate] = ops.full_like(z[gate], value)
        return ops.concatenate(z, axis=-1)

    return initialize


def _draw(initializer, weight, dtype):
    """Draw a kernel `(steps, rows, gates * columns)`, block by block.

    The seed also depends on the name of the weight: called for two weights of the same shape, a
    Keras initializer returns the same values.
    """
    if isinstance(getattr(initializer, "seed", None), int):
        seed = (initializer.seed + zlib.crc32(weight.name.encode())) % 2**32
        initializer = type(initializer).from_config({**initializer.get_config(), "seed": seed})
    *steps, rows, columns = weight.shape
    # That one knows which gate is which, and draws all at once.
    gates = 1 if isinstance(initializer, OrthogonalGates) else weight.gates
    count, columns = math.prod(steps), columns // gates
    blocks = draw_blocks(initializer, count * gates, (rows, columns), dtype)
    blocks = ops.reshape(blocks, (count, gates, rows, columns))
    return ops.reshape(ops.transpose(blocks, (0, 2, 1, 3)), weight.shape)


def _per_step(constraint):
    """A constraint that sees one depth step at a time, as its axis argument means."""
    return lambda stack: ops.vectorized_map(constraint, ops.convert_to_tensor(stack))


def _summed_over_steps(regularizer):
    return lambda stack: ops.sum(ops.vectorized_map(regularizer, ops.convert_to_tensor(stack)))
