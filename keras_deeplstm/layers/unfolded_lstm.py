"""UnfoldedLSTMBlock: an LSTM unrolled over depth, for feed-forward data."""

import functools
from typing import Any, NamedTuple

import keras
from keras import ops

from keras_deeplstm import validation
from keras_deeplstm.layers import functions, kernels
from keras_deeplstm.layers.depth_block import DepthBlock
from keras_deeplstm.layers.gates import gates
from keras_deeplstm.layers.normalization import Norm, batch_moments, batch_norm, layer_norm
from keras_deeplstm.layers.probes import probe_of
from keras_deeplstm.layers.weights import (
    LSTM,
    Weight,
    checked_gate_bias,
    peephole_weight,
    with_gate_biases,
)

NOISE_STDDEV = 0.1


class _Step(NamedTuple):
    """The weights of one step; None what it does not have."""

    U: Any
    b: Any
    peephole: Any
    dropout: Any  # the mask of this step
    recurrent: Norm
    memory: Norm

    @classmethod
    def of(cls, weights):
        """Those of a step, by the names that they have in the layer."""
        plain = map(weights.get, ("recurrent_kernel", "bias", "peephole", "dropout"))
        return cls(*plain, Norm.of(weights, "recurrent"), Norm.of(weights, "memory"))


@keras.saving.register_keras_serializable(package="keras_deeplstm")
class UnfoldedLSTMBlock(DepthBlock):
    """An LSTM unrolled over the depth of a feed-forward network.

    Each of the `depth` steps is one LSTM step whose "time" is depth: the hidden state h and the
    memory cell c go from one step to the next, and the gradient can travel back through c.

        input_mode="first":  z_1 = norm(x W) + norm(h_0 U_1) + b_1,  z_l = norm(h_{l-1} U_l) + b_l
        input_mode="every":  z_l = norm(x W) + norm(h_{l-1} U_l) + b_l
        input_mode="state":  h_0 = x W_h + b_h,  c_0 = x W_c + b_c,  z_l = norm(h_{l-1} U_l) + b_l
        every step:          c_l = sigmoid(z_f) c_{l-1} + sigmoid(z_i) tanh(z_c)
                             h_l = dropout(sigmoid(z_o) tanh(norm(c_l)))

    Sources: the LSTM of Hochreiter & Schmidhuber (1997) with the forget gate of Gers et al. (2000);
    `input_mode="state"` with `tied=True` is the 1-LSTM of Grid LSTM (arXiv 1507.01526, section 3.1,
    with the h of the usual LSTM, sigmoid(z_o) tanh(c)); normalization after arXiv 1603.09025.

    With a zero initial state, the step that would multiply it has no recurrent kernel: in the
    modes "first" and "every" `recurrent_kernel` then belongs to the steps 2 ... depth.

    Args:
        units: Size of h and c.
        depth: Number of steps.
        tied: False: a recurrent kernel and a bias for each step, stacked along the first axis.
            True: one for all steps. Scales and statistics of the normalization are always
            each step's own.
        input_mode: Where the input enters: "first", "every" or "state" (see above).
        normalization: None, "batch" (statistics of each step; masked positions do not enter them;
            as in `keras.layers.BatchNormalization`, a layer with `trainable=False` uses its moving
            averages and keeps them) or "layer" (over the 4 * units pre-activations, and over the
            units of c).
        peepholes: Whether the gates see the memory: z_i + p_i c_{l-1}, z_f + p_f c_{l-1} and
            z_o + p_o c_l (Gers & Schmidhuber 2000), without normalization. The weights start at 0.
        dropout: Fraction of each h_l set to zero in training. c is never dropped.
        state_initializer: The initial h and c in the modes "first" and "every": "zeros" (fixed),
            "noise" (normal, standard deviation 0.1, drawn anew for each training batch; zero in
            inference), or any other initializer for a trainable state.
        forget_bias: Initial bias of the forget gate, over what `bias_initializer` draws: a float;
            "depth" for log(depth), but at least 1, so that what enters the memory at the first
            step still has weight at the last; None leaves `bias_initializer` alone.
        input_gate_bias: The same of the input gate: a float; "depth" for -log(depth), so that the
            memory is a mean of what the steps add and not their sum, which saturates tanh in a
            very deep block (with `forget_bias="depth"`: chrono initialization, arXiv 1804.11188);
            None leaves `bias_initializer` alone.
        activation: Of the candidate and the memory.
        recurrent_activation: Of the three gates.
        use_bias: Whether z has a bias.
        kernel_initializer: For the kernels that multiply the input.
        recurrent_initializer: For the recurrent kernels, drawn for each step and each gate.
        bias_initializer: For the biases of the LSTM, e.g. `initializers.GateBias`; those of the
            projections in `input_mode="state"` start at 0.
        kernel_regularizer, recurrent_regularizer, bias_regularizer: As in `keras.layers.LSTM`; for
            stacked weights summed over the steps.
        kernel_constraint, recurrent_constraint, bias_constraint: As in `keras.layers.LSTM`; for
            stacked weights applied to each step.
        return_all_steps: Return h of all steps.
        return_state: Return `[output, h, c]` with the last h and c.
        momentum: Of the moving averages with `normalization="batch"`.
        epsilon: Added to variances.
        seed: Of dropout and noise.
        **kwargs: `name`, `dtype`, `trainable`, ... of `keras.layers.Layer`.

    Call arguments:
        inputs: `(batch, ..., features)`, as for `keras.layers.Dense`.
        mask: `(batch, ...)`; passed through. It matters only to batch statistics.
        training: Whether dropout, noise and batch statistics are on.

    Returns:
        `(batch, ..., units)`, or `(batch, ..., depth, units)` with `return_all_steps`; with
        `return_state` a list of it, h and c.

    Attributes:
        used_kernel: What the last call ran along depth: "fused" (`torch.lstm`, for tied weights
            without normalization, peepholes, dropout, another activation or a probe) or "loop".

    Raises:
        ValueError: An argument is out of its range, or does not go with another: a
            `state_initializer` with `input_mode="state"`, a bias of a gate with `GateBias`; when
            built: the last dimension of the inputs is not known, or the layer would have more than
            2**31 parameters; when called: the mask has another shape than the inputs.

    Example:

    >>> import numpy as np
    >>> from keras_deeplstm.layers import UnfoldedLSTMBlock
    >>> block = UnfoldedLSTMBlock(units=16, depth=30)
    >>> tuple(block(np.zeros((2, 8), "float32")).shape)
    (2, 16)
    >>> [(weight.name, tuple(weight.shape)) for weight in block.weights]
    [('kernel', (8, 64)), ('recurrent_kernel', (29, 16, 64)), ('bias', (30, 64))]
    """

    _states = ("h", "c")
    used_kernel = None

    def __init__(
        self,
        units,
        depth,
        tied=False,
        input_mode="first",
        normalization=None,
        peepholes=False,
        dropout=0.0,
        state_initializer="zeros",
        forget_bias="depth",
        input_gate_bias=None,
        activation="tanh",
        recurrent_activation="sigmoid",
        use_bias=True,
        kernel_initializer="glorot_uniform",
        recurrent_initializer="orthogonal",
        bias_initializer="zeros",
        kernel_regularizer=None,
        recurrent_regularizer=None,
        bias_regularizer=None,
        kernel_constraint=None,
        recurrent_constraint=None,
        bias_constraint=None,
        return_all_steps=False,
        return_state=False,
        momentum=0.99,
        epsilon=1e-3,
        seed=None,
        **kwargs,
    ):
        super().__init__(
            units,
            depth,
            activation=activation,
            dropout=dropout,
            use_bias=use_bias,
            kernel_initializer=kernel_initializer,
            recurrent_initializer=recurrent_initializer,
            bias_initializer=bias_initializer,
            kernel_regularizer=kernel_regularizer,
            recurrent_regularizer=recurrent_regularizer,
            bias_regularizer=bias_regularizer,
            kernel_constraint=kernel_constraint,
            recurrent_constraint=recurrent_constraint,
            bias_constraint=bias_constraint,
            return_all_steps=return_all_steps,
            seed=seed,
            **kwargs,
        )
        self.tied = validation.boolean("tied", tied)
        self.input_mode = validation.one_of("input_mode", input_mode, ("first", "every", "state"))
        self.normalization = validation.one_of(
            "normalization", normalization, (None, "batch", "layer")
        )
        self.peepholes = validation.boolean("peepholes", peepholes)
        self.recurrent_activation = functions.get("recurrent_activation", recurrent_activation)
        self.return_state = validation.boolean("return_state", return_state)
        self.momentum = validation.fraction("momentum", momentum)
        self.epsilon = validation.finite("epsilon", epsilon, positive=True)

        self.state_initializer = state_initializer
        if state_initializer not in ("zeros", "noise"):
            self.state_initializer = functions.get("state_initializer", state_initializer)
        if input_mode == "state" and state_initializer != "zeros":
            raise ValueError(
                "With `input_mode='state'` the input gives the initial state, so that "
                f"`state_initializer` must be left out. Received: {state_initializer!r}"
            )
        self.forget_bias = checked_gate_bias("forget_bias", forget_bias, self.bias_initializer)
        self.input_gate_bias = checked_gate_bias(
            "input_gate_bias", input_gate_bias, self.bias_initializer
        )

    @property
    def _state_is_zero(self):
        return self.input_mode != "state" and self.state_initializer == "zeros"

    @property
    def _recurrent_steps(self):
        """The depth steps that have a recurrent kernel."""
        return range(2 if self._state_is_zero else 1, self.depth + 1)

    def _weights(self, features):
        units, steps, recurrent_steps = self.units, range(1, self.depth + 1), self._recurrent_steps
        if self.input_mode == "state":
            weights = [
                Weight("hidden_kernel", (features, units), "kernel"),
                Weight("memory_kernel", (features, units), "kernel"),
            ]
            if self.use_bias:
                # Biases of plain projections, not of gates.
                weights += [
                    Weight("hidden_bias", (units,), "offset"),
                    Weight("memory_bias", (units,), "offset"),
                ]
        else:
            weights = [Weight("kernel", (features, 4 * units), "kernel")]
            if self.state_initializer not in ("zeros", "noise"):
                weights += [
                    Weight("initial_hidden_state", (units,), "state"),
                    Weight("initial_memory_cell", (units,), "state"),
                ]
        kernel = Weight("recurrent_kernel", (units, 4 * units), "recurrent", gates=4)
        bias = Weight("bias", (4 * units,), "bias")
        if recurrent_steps:
            weights.append(kernel if self.tied else kernel.stacked(recurrent_steps))
        if self.use_bias:
            weights.append(bias if self.tied else bias.stacked(steps))
        if self.peepholes:
            peephole = peephole_weight("peephole", units)
            weights.append(peephole if self.tied else peephole.stacked(steps))
        if self.normalization:
            if self.input_mode != "state":
                weights += self._scales("input", 4 * units)
            if recurrent_steps:
                weights += [
                    w.stacked(recurrent_steps) for w in self._scales("recurrent", 4 * units)
                ]
            weights += [w.stacked(steps) for w in self._scales("memory", units)]
            # z has b; only the memory needs an offset of its own.
            weights.append(Weight("memory_offset", (units,), "offset").stacked(steps))
        return weights

    def _scales(self, what, size):
        roles = ("scale", "mean", "variance") if self.normalization == "batch" else ("scale",)
        return [Weight(f"{what}_{role}", (size,), role) for role in roles]

    def _initializer(self, weight):
        if weight.role == "state":
            return self.state_initializer
        if weight.role == "bias":
            return with_gate_biases(
                self.bias_initializer, self.depth, self.input_gate_bias, self.forget_bias
            )
        return super()._initializer(weight)

    def _run(self, x, row_mask, training):
        # Without a recurrence, or the only one with the input: the first step has its own form.
        own_first = self._state_is_zero or self.input_mode == "first"
        shared, first_weights, by_step = self._weights_by_step(x, training, own_first)
        learning = training and self.trainable  # frozen, it acts as keras.layers.BatchNormalization
        norm = functools.partial(self._normalize, row_mask=row_mask, learning=learning)
        z_x, seen_first, moments = 0, {}, {}
        if self.input_mode == "state":
            carry = tuple(
                ops.matmul(x, shared[f"{state}_kernel"]) + shared.get(f"{state}_bias", 0)
                for state in ("hidden", "memory")
            )
        else:
            carry = self._initial_state(x, shared, training)
            z_x, moments["input"] = norm(ops.matmul(x, shared["kernel"]), Norm.of(shared, "input"))

        def first(carry, shift=None):
            w = _Step.of({**shared, **first_weights})
            w = w._replace(U=None) if self._state_is_zero else w
            carry, seen = self._step(carry, z_x, w, norm, shift)
            seen_first.update(keras.tree.map_structure(lambda moment: moment[None], seen))
            return carry

        def step(carry, own, shift=None):
            z = z_x if self.input_mode == "every" else 0
            return self._step(carry, z, _Step.of({**shared, **own}), norm, shift)

        self.used_kernel = "loop"
        if self._is_plain(training) and kernels.can_be_fused(x, *shared.values()):
            return self._fused(x, carry, shared, first if own_first else None)
        carry, hidden, seen = self._scan(step, carry, by_step, first if own_first else None)
        if learning and self.normalization == "batch":
            seen = dict(seen)  # () where the first step was the only one
            for name in seen_first | seen:
                parts = [each[name] for each in (seen_first, seen) if name in each]
                moments[name] = [ops.concatenate(stacks) for stacks in zip(*parts, strict=True)]
            self._update_moving_averages(moments, row_mask)
        return carry, hidden

    def _step(self, carry, z, w, norm, shift):
        """`(h, c)` of the step before -> those of this one; and the moments of the batch, by name.

        `z` is what the input adds to the pre-activations.
        """
        h, c = carry
        seen = {}
        if w.U is not None:
            z_h, seen["recurrent"] = norm(ops.matmul(h, w.U), w.recurrent)
            z = z + z_h
        z = z if w.b is None else z + w.b

        def normalize_memory(c):
            c, seen["memory"] = norm(c, w.memory)
            return c

        activations = self.activation, self.recurrent_activation
        h, c = gates(z, c, *activations, normalize_memory, shift, w.peephole)
        return (h if w.dropout is None else h * w.dropout, c), seen

    def _is_plain(self, training):
        """Whether the steps are those of an LSTM over a sequence, and nothing else is asked."""
        textbook = kernels.is_textbook(self.activation, self.recurrent_activation)
        dropped = training and self.dropout > 0
        special = self.normalization or self.peepholes or dropped or probe_of(self)
        return textbook and self.tied and not special

    def _fused(self, x, carry, w, first):
        """All steps in one call, as an LSTM that reads the same, or nothing, at each time."""
        self.used_kernel = "fused"
        hidden, length = [], self.depth
        if first is not None:
            carry = first(carry)
            hidden, length = [carry[0][None]], length - 1
        if length:
            kernel = w.get("kernel")
            if self.input_mode != "every":
                kernel = ops.zeros((1, 4 * self.units), dtype=self.compute_dtype)
                x = ops.zeros((x.shape[0], 1), dtype=self.compute_dtype)
            weights = LSTM(kernel, w["recurrent_kernel"], w.get("bias", 0))
            h, carry = kernels.fused(ops.broadcast_to(x, (length, *x.shape)), weights, carry)
            hidden.append(h)
        return carry, ops.concatenate(hidden) if self.return_all_steps else None

    def _initial_state(self, x, w, training):
        shape = (ops.shape(x)[0], self.units)
        if isinstance(self.state_initializer, str):
            if self.state_initializer == "noise" and training:
                return tuple(
                    keras.random.normal(
                        shape,
                        stddev=NOISE_STDDEV,
                        dtype=self.compute_dtype,
                        seed=self.seed_generator,
                    )
                    for _ in range(2)
                )
            zeros = ops.zeros(shape, dtype=self.compute_dtype)
            return zeros, zeros
        states = w["initial_hidden_state"], w["initial_memory_cell"]
        return tuple(ops.broadcast_to(state, shape) for state in states)

    def _normalize(self, x, w, row_mask, learning):
        """The normalized `x`; and the moments of the batch if it was normalized with these."""
        if self.normalization != "batch":
            return layer_norm(x, w, self.epsilon), ()
        moments = batch_moments(x, row_mask) if learning else None
        y = batch_norm(x, w, self.epsilon, moments)
        return y, tuple(map(ops.stop_gradient, moments or ()))

    def _update_moving_averages(self, moments, row_mask):
        for name, pair in moments.items():
            for role, moment in zip(("mean", "variance"), pair, strict=True):
                moving = getattr(self, f"{name}_{role}")
                old = ops.cast(moving, moment.dtype)
                new = old * self.momentum + moment * (1 - self.momentum)
                if row_mask is not None:  # a batch that is masked throughout has no moments
                    new = ops.where(ops.any(row_mask), new, old)
                moving.assign(new)

    def get_config(self):
        """Return the arguments of the constructor."""
        state = self.state_initializer
        return {
            **super().get_config(),
            "tied": self.tied,
            "input_mode": self.input_mode,
            "normalization": self.normalization,
            "peepholes": self.peepholes,
            "state_initializer": state
            if isinstance(state, str)
            else functions.config_of(self, "state_initializer"),
            "forget_bias": self.forget_bias,
            "input_gate_bias": self.input_gate_bias,
            "recurrent_activation": functions.config_of(self, "recurrent_activation"),
            "return_state": self.return_state,
            "momentum": self.momentum,
            "epsilon": self.epsilon,
        }
