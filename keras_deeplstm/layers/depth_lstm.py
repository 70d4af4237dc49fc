"""DepthLSTM: any layers of Keras, connected along depth by an LSTM."""

import keras
from keras import ops

from keras_deeplstm import validation
from keras_deeplstm.layers import functions
from keras_deeplstm.layers.kernels import one_step
from keras_deeplstm.layers.layer_stack import LayerStack
from keras_deeplstm.layers.normalization import OF_ROWS, Norm
from keras_deeplstm.layers.weights import (
    LSTM,
    Weight,
    checked_gate_bias,
    normalization_weights,
    with_gate_biases,
)


@keras.saving.register_keras_serializable(package="keras_deeplstm")
class DepthLSTM(LayerStack):
    """A stack of any layers, connected along depth by an LSTM in place of residual additions.

        h_0 = x,  c_0 = 0 or x
        z_l = dropout(f_l(norm_l(h_{l-1}))) W_l + h_{l-1} U_l + b_l            l = 1 ... depth
        c_l = sigmoid(z_f) c_{l-1} + sigmoid(z_i) tanh(z_c)
        h_l = sigmoid(z_o) tanh(norm(c_l))

    f_l are the given layers: attention, convolutions, Dense, a block of your own; each returns the
    shape of its input. The LSTM sees positions as rows. Its 8 units^2 weights per step are as many
    as those of the feed-forward part of a Transformer, which it replaces together with the residual
    connections: attention in a `DepthLSTM` has the parameters of a Transformer layer.

    The idea is that of Rewiring the Transformer with Depth-Wise LSTMs (arXiv 2007.06257); the LSTM
    is that of this package, without what the paper changes of it.

    Args:
        layers: The f_l: a list of Keras layers, one for each step; or, with `depth`, a function
            that makes the layer of step l = 1, 2, ...; or, with `tied=True` and `depth`, one layer.
            A layer whose `call` needs `value` (`keras.layers.MultiHeadAttention`) gets its input
            there, too, unless one is given; whatever else it needs must have a default.
        depth: Number of steps; with a list it can be left out.
        tied: True: all steps share one f, one W, U and b, and one normalization.
        normalization: Of h where it enters f_l: "layer", "rms" (arXiv 1910.07467) or None.
        memory_normalization: The same of c where it enters tanh; the memory that is passed on stays
            as it is (arXiv 1603.09025, eq. 8).
        memory: The first memory cell c_0: "zeros" or "input".
        dropout: Fraction of what each f_l returns that is set to zero in training.
        forget_bias: Initial bias of the forget gate, as for `UnfoldedLSTMBlock`: a float; "depth"
            for log(depth), but at least 1; None leaves `bias_initializer` alone.
        input_gate_bias: The same of the input gate: a float; "depth" for -log(depth); None leaves
            `bias_initializer` alone.
        activation: Of the candidate and the memory.
        recurrent_activation: Of the three gates.
        use_bias: Whether z has a bias.
        kernel_initializer: For W, drawn for each step.
        recurrent_initializer: For U, drawn for each step and each gate.
        bias_initializer: For b.
        kernel_regularizer, recurrent_regularizer, bias_regularizer: As in `keras.layers.LSTM`;
            summed over the steps.
        kernel_constraint, recurrent_constraint, bias_constraint: As in `keras.layers.LSTM`; applied
            to each step.
        output: "hidden" for h, "both" for h and c of the last step side by side.
        return_state: Return `[output, h, c]` with the last h and c.
        unroll: True: each step is written out in the graph, as the layers of any Keras model are;
            the time to compile grows with depth. False, only with `tied=True`: from 9 steps on (on
            JAX always) one loop over depth. The layer must then have no state (batch statistics),
            no seed (dropout) and add no losses, since these would leak from the loop. PyTorch
            compiles nothing, so its loop is that of Python in any case.
        seed: Of dropout.
        **kwargs: `name`, `dtype`, `trainable`, ... of `keras.layers.Layer`.

    Call arguments:
        inputs: `(batch, ..., units)`.
        mask: `(batch, ...)`; goes to the layers that take masks, and is passed through.
        training: Whether dropout is on; goes to the layers, too.
        attention_mask, use_causal_mask: For the layers that take them, as
            `keras.layers.MultiHeadAttention` does.
        **kwargs: Tensors, or other values, for the layers whose `call` names them.

    Returns:
        `(batch, ..., units)`, or `(batch, ..., 2 * units)` with `output="both"`; with
        `return_state` a list of it, h and c.

    Attributes:
        layers: The list of layers; one if tied.
        used_kernel: What the last call ran along depth: "written out", or with `unroll=False`
            "loop".

    Raises:
        ValueError: An argument is out of its range, or `layers`, `depth` and `tied` do not go
            together; when built: a layer does not preserve the shape of its input, the last
            dimension of the inputs is not known, or `unroll=False` with a layer that has a state;
            when called: the mask has another shape than the inputs, or no layer takes a call
            argument.

    Example:

    >>> import keras, numpy as np
    >>> from keras_deeplstm.layers import DepthLSTM
    >>> block = DepthLSTM([keras.layers.MultiHeadAttention(2, 8) for _ in range(6)])
    >>> tuple(block(np.zeros((2, 10, 16), "float32"), use_causal_mask=True).shape)
    (2, 10, 16)
    >>> tuple(block.kernel.shape), tuple(block.recurrent_kernel.shape), len(block.weights)
    ((6, 16, 64), (6, 16, 64), 53)
    """

    _states = ("h", "c")

    def __init__(
        self,
        layers,
        depth=None,
        tied=False,
        normalization="layer",
        memory_normalization=None,
        memory="zeros",
        dropout=0.0,
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
        output="hidden",
        return_state=False,
        unroll=True,
        seed=None,
        **kwargs,
    ):
        super().__init__(
            layers,
            depth,
            tied,
            normalization=normalization,
            dropout=dropout,
            unroll=unroll,
            seed=seed,
            **kwargs,
        )
        self.memory_normalization = validation.one_of(
            "memory_normalization", memory_normalization, tuple(OF_ROWS)
        )
        self.memory = validation.one_of("memory", memory, ("zeros", "input"))
        functions.take(
            self,
            activation=activation,
            recurrent_activation=recurrent_activation,
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
        self.use_bias = validation.boolean("use_bias", use_bias)
        self.forget_bias = checked_gate_bias("forget_bias", forget_bias, self.bias_initializer)
        self.input_gate_bias = checked_gate_bias(
            "input_gate_bias", input_gate_bias, self.bias_initializer
        )
        # `output` is a property of every Keras layer.
        self.read_out = validation.one_of("output", output, ("hidden", "both"))
        self.return_state = validation.boolean("return_state", return_state)

    def _step_weights(self, features):
        weights = [
            Weight("kernel", (features, 4 * features), "kernel"),
            Weight("recurrent_kernel", (features, 4 * features), "recurrent", gates=4),
        ]
        if self.use_bias:
            weights.append(Weight("bias", (4 * features,), "bias"))
        kind = self.memory_normalization
        return weights + normalization_weights("memory", kind, features, role="scale")

    def _initializer(self, weight):
        if weight.role == "bias":
            return with_gate_biases(
                self.bias_initializer, self.depth, self.input_gate_bias, self.forget_bias
            )
        return super()._initializer(weight)

    def _start(self, x):
        return x, x if self.memory == "input" else ops.zeros_like(x)

    def _step(self, carry, branch, w, shift=None):
        h, c = carry
        memory = Norm.of(w, "memory")
        lstm = LSTM(w["kernel"], w["recurrent_kernel"], w.get("bias", 0), memory=memory)
        activations = self.activation, self.recurrent_activation
        x, norm = branch(self._norm(h, w)), OF_ROWS[self.memory_normalization]
        new, _ = one_step(activations, x, (h, c), lstm, shift, norm)
        return new

    def _returned(self, carry, w):
        h, c = carry
        output = ops.concatenate([h, c], axis=-1) if self.read_out == "both" else h
        return [output, h, c] if self.return_state else output

    def compute_output_shape(self, inputs_shape):
        """Shape of the output, or list of shapes with `return_state`."""
        *lead, units = state = tuple(inputs_shape)
        output = (*lead, 2 * units) if self.read_out == "both" else state
        return [output, state, state] if self.return_state else output

    def compute_mask(self, inputs, mask=None):
        """The mask of the inputs, unchanged; states have none."""
        return [mask, None, None] if self.return_state else mask

    def get_config(self):
        """Return the arguments of the constructor."""
        names = ("activation", "recurrent_activation", *functions.OF_WEIGHTS)
        return {
            **super().get_config(),
            "memory_normalization": self.memory_normalization,
            "memory": self.memory,
            "forget_bias": self.forget_bias,
            "input_gate_bias": self.input_gate_bias,
            **functions.configs_of(self, names),
            "use_bias": self.use_bias,
            "output": self.read_out,
            "return_state": self.return_state,
        }
