"""Weights of layers with depth steps: names, shapes, how they are drawn, and biases of gates."""

import math
import numbers
import zlib
from typing import Any, NamedTuple

from keras import ops

from keras_deeplstm import validation
from keras_deeplstm.initializers import (
    GateBias,
    OrthogonalGates,
    draw_blocks,
    seed_of,
    with_seed,
)
from keras_deeplstm.layers.normalization import Norm


class LSTM(NamedTuple):
    """The weights of one LSTM: z = norm(x W) + norm(h U) + b, and the peepholes of `gates`."""

    W: Any
    U: Any
    b: Any
    peephole: Any = None
    input: Norm = Norm()
    recurrent: Norm = Norm()
    memory: Norm = Norm()

    @property
    def is_plain(self):
        """Whether there is neither normalization nor a peephole."""
        norms = self.input, self.recurrent, self.memory
        return self.peephole is None and all(norm.scale is None for norm in norms)

    @classmethod
    def of(cls, weights, direction):
        """Those of a direction, "time" or "depth", by the names that they have in the layer."""
        kernel, recurrent = f"{direction}_kernel", f"{direction}_recurrent_kernel"
        norms = (Norm.of(weights, name) for name in (kernel, recurrent, f"{direction}_memory"))
        bias, peephole = weights.get(f"{direction}_bias", 0), weights.get(f"{direction}_peephole")
        return cls(weights[kernel], weights[recurrent], bias, peephole, *norms)


class GridLayer(NamedTuple):
    """The weights of one layer of a grid, and its dropout masks or None."""

    time: LSTM
    depth: LSTM
    dropout: Any
    recurrent_dropout: Any

    @classmethod
    def of(cls, weights):
        """Those of a layer, by the names that they have in it."""
        lstms = (LSTM.of(weights, direction) for direction in ("time", "depth"))
        return cls(*lstms, weights.get("dropout"), weights.get("recurrent_dropout"))


class Weight(NamedTuple):
    """One weight of a block.

    Attributes:
        name: Its name, also the attribute of the layer.
        shape: Its shape.
        role: "kernel", "recurrent" or "bias" (initializer, regularizer and constraint of that
            name), "peephole", "state" (a trainable initial state), "scale" (of a normalization
            before tanh, 0.1 at first), "gain" (of any other, 1 at first), "offset" (of
            normalization, and biases of projections), "mean" or "variance" (moving averages).
        steps: The depth steps that its first axis stands for, counted from 1; None for a weight
            that is not stacked.
        gates: Number of blocks side by side in each step of a kernel, drawn one by one.
        networks: Of how many networks side by side it holds one each, along the axis after that of
            the steps; None if there is one.
    """

    name: str
    shape: tuple
    role: str
    steps: range | None = None
    gates: int = 1
    networks: int | None = None

    def stacked(self, steps):
        """This weight once for each of `steps`, stacked along a new first axis."""
        return self._replace(shape=(len(steps), *self.shape), steps=steps)

    def side_by_side(self, networks):
        """This weight once for each of several networks."""
        steps, one = self.shape[: self.stacks], self.shape[self.stacks :]
        return self._replace(shape=(*steps, networks, *one), networks=networks)

    @property
    def stacks(self):
        """Number of axes along which equal weights are stacked."""
        return (self.steps is not None) + (self.networks is not None)


def lstm_weights(name, units, use_bias, peepholes):
    """The weights of an LSTM with as many inputs as units; the names are those of `LSTM.of`."""
    kernel = Weight(f"{name}_kernel", (units, 4 * units), "kernel")
    recurrent = Weight(f"{name}_recurrent_kernel", (units, 4 * units), "recurrent", gates=4)
    bias = Weight(f"{name}_bias", (4 * units,), "bias")
    weights = [kernel, recurrent, bias] if use_bias else [kernel, recurrent]
    return [*weights, peephole_weight(f"{name}_peephole", units)] if peepholes else weights


def peephole_weight(name, units):
    """Those of the gates i, f and o, as `gates` takes them."""
    return Weight(name, (3, units), "peephole")


def norm_weights(name, units):
    """The weights of the layer normalizations of such an LSTM."""
    return [
        Weight(f"{name}_kernel_scale", (4 * units,), "scale"),
        Weight(f"{name}_recurrent_kernel_scale", (4 * units,), "scale"),
        Weight(f"{name}_memory_scale", (units,), "scale"),
        Weight(f"{name}_memory_offset", (units,), "offset"),
    ]


def normalization_weights(name, kind, units, role="gain"):
    """Those of one normalization of rows, "layer", "rms" or None; the names are those of `Norm.of`.

    `role` is that of the scale.
    """
    weights = [
        Weight(f"{name}_scale", (units,), role),
        Weight(f"{name}_offset", (units,), "offset"),
    ]
    return weights[: {None: 0, "rms": 1, "layer": 2}[kind]]


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


def filling(name, initializer):
    """The initializer, with an error that names the argument if it does not give the shape."""

    def initialize(shape, dtype=None):
        expected = f"Argument `{name}` must give values of the shape {tuple(shape)}"
        try:
            value = initializer(shape, dtype=dtype)
        except Exception as error:  # each backend has its own for shapes that do not go together
            raise ValueError(f"{expected}. It fails with: {error}") from error
        if tuple(value.shape) != tuple(shape):
            raise ValueError(f"{expected}. Received: {tuple(value.shape)}")
        return value

    return initialize


def draw(initializer, weight, dtype):
    """Draw a kernel `(steps, rows, gates * columns)`, block by block.

    The seed also depends on the name of the weight: called for two weights of the same shape, a
    Keras initializer returns the same values.
    """
    seed = seed_of(initializer)
    if seed is not None:
        initializer = with_seed(initializer, (seed + zlib.crc32(weight.name.encode())) % 2**32)
    *steps, rows, columns = weight.shape
    # That one knows which gate is which, and draws all at once.
    gates = 1 if isinstance(initializer, OrthogonalGates) else weight.gates
    count, columns = math.prod(steps), columns // gates
    blocks = draw_blocks(initializer, count * gates, (rows, columns), dtype)
    blocks = ops.reshape(blocks, (count, gates, rows, columns))
    return ops.reshape(ops.transpose(blocks, (0, 2, 1, 3)), weight.shape)


def per_step(constraint):
    """A constraint that sees one depth step at a time, as its axis argument means."""
    return lambda stack: ops.vectorized_map(constraint, ops.convert_to_tensor(stack))


def summed_over_steps(regularizer):
    """A regularizer that sees one depth step at a time; their sum."""
    return lambda stack: ops.sum(ops.vectorized_map(regularizer, ops.convert_to_tensor(stack)))
