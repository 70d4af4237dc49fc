"""GridLSTM2D: LSTMs over time and depth, for sequences."""

import keras
from keras import ops

from keras_deeplstm import validation
from keras_deeplstm.layers.grid_base import GridBase
from keras_deeplstm.layers.held_states import HeldStates, in_turn
from keras_deeplstm.layers.kernels import one_step, recurrence
from keras_deeplstm.layers.masks import check_sequences, held_outputs
from keras_deeplstm.layers.probes import Probe, probe_of
from keras_deeplstm.layers.scan import scan, with_rows
from keras_deeplstm.layers.weights import GridLayer, lstm_weights, norm_weights


@keras.saving.register_keras_serializable(package="keras_deeplstm")
class GridLSTM2D(HeldStates, GridBase):
    """LSTMs along time and along depth, for sequences (2D means time x depth, not images).

    Each layer l has an LSTM along time (h_T, c_T) and one along depth (h_D, c_D), and each passes
    its memory cell on: from a step to the next, and from a layer to the one above.

        below:  h_D[t,0] = x[t] W_h + b_h,  c_D[t,0] = x[t] W_c + b_c    (or 0: `project_inputs`)
        time:   h_T[t,l], c_T[t,l] = LSTM(h_D[t,l-1] W + h_T[t-1,l] U + b,  c_T[t-1,l])
        depth:  h_D[t,l], c_D[t,l] = LSTM(h_T* W' + h_D[t,l-1] U' + b',  c_D[t,l-1])
                h_T* = h_T[t,l] with `priority="depth"`, h_T[t-1,l] with `priority=None`
        output: h_D[t,depth], or [h_D[t,depth], c_D[t,depth]] with `output="both"`
        LSTM:   c' = sigmoid(z_f) c + sigmoid(z_i) tanh(z_c),  h' = sigmoid(z_o) tanh(c')

    Source: Grid LSTM (Kalchbrenner et al., arXiv 1507.01526, sections 3.2 to 3.5), a 2-LSTM. What
    differs: h' is that of the usual LSTM, sigmoid(z_o) tanh(c'), where the paper has
    tanh(sigmoid(z_o) c'); and by default the layers are not tied and c_D starts at 0. The paper's
    language model is `tied=True, project_inputs="both", output="both"`.

    Within a layer h_D[:,l-1] is known for all times. So only `h_T U` is computed step by step; all
    other products are made for all times at once. More than 8 layers are one loop too, so that
    the time to compile does not grow with the depth.

    Args:
        units: Size of h_T, c_T, h_D and c_D.
        depth: Number of layers.
        tied: False: each layer has its own two LSTMs. "depth": one depth LSTM for all layers. True:
            one time LSTM and one depth LSTM for all layers. Scales are always each layer's own.
        priority: "depth": the depth LSTM reads the new h_T. None: it reads the state before.
        project_inputs: "hidden": a projection of the input gives h_D below the first layer, and c_D
            starts at 0. "both": a second projection gives c_D. None: the input, which then has
            `units` features, is h_D.
        output: "hidden" or "both": what is read out at the top.
        normalization: None or "layer": layer normalization (epsilon 0.001) with a gain that starts
            at 0.1, each layer's own, of the four products above, and (with an offset) of c' where
            it enters tanh; the memory that is passed on stays as it is.
        peepholes: Whether the gates see the memory: i and f the one before, o the new one (Gers &
            Schmidhuber 2000), without normalization. The weights start at 0.
        dropout: Fraction of h_D set to zero, in training, where it enters the layers 2 ... depth,
            drawn for each time. c_D is never dropped.
        recurrent_dropout: Fraction of h_T[t-1] set to zero, in training, where it enters
            `h_T[t-1,l] U`: the same units at all times.
        forget_bias: Initial bias of the forget gate of the time LSTMs; None is that of
            `bias_initializer`.
        depth_forget_bias: The same of the depth LSTMs; "depth" is log(depth), but at least 1, so
            that what the first layer writes into c_D still has weight at the top.
        input_gate_bias: The same of the input gate of the time LSTMs. log(T) and -log(T) for
            `forget_bias` and this one make a memory of about T steps (chrono initialization, arXiv
            1804.11188).
        activation: Of the candidate and the memory.
        recurrent_activation: Of the gates.
        use_bias: Whether projections and LSTMs have biases.
        kernel_initializer: For W_h, W_c, W and W', drawn for each layer.
        recurrent_initializer: For U and U', drawn for each layer and each gate.
        bias_initializer: For the biases of the LSTMs, e.g. `initializers.GateBias`; those of the
            projections start at 0.
        kernel_regularizer, recurrent_regularizer, bias_regularizer: As in `keras.layers.LSTM`;
            summed over the layers.
        kernel_constraint, recurrent_constraint, bias_constraint: Applied to each layer.
        return_sequences: Return the output of all times instead of the last.
        return_state: Return `(output, h_1, c_1, ..., h_depth, c_depth)` with the last h_T, c_T.
        go_backwards: Read the sequence from its end; the output and its mask are in the order of
            reading. (`keras.layers.LSTM` leaves the mask in the order of the input.)
        stateful: Start each batch from the last state of the one before. The states are no weights:
            they are not saved, and weights load into a layer with another batch size.
        unroll: Write both loops out in the graph.
        zero_output_for_mask: With `return_sequences`, 0 at masked times; `Bidirectional` sets it.
        seed: Of dropout.
        **kwargs: `name`, `dtype`, `trainable`, ... of `keras.layers.Layer`.

    Call arguments:
        sequences: `(batch, time, features)`.
        initial_state: `[h_1, c_1, ..., h_depth, c_depth]`, each `(batch, units)`.
        mask: `(batch, time)`. A masked time keeps the state and repeats the output of the time
            before (in the order of reading); before the first valid time the output is 0. As in
            all Keras RNNs, pass it explicitly together with `initial_state`.
        training: Whether dropout is on.

    Returns:
        `(batch, units)`, or `(batch, time, units)` with `return_sequences`; the last axis has 2 *
        units with `output="both"`. With `return_state` a tuple `(output, h_1, c_1, ..., h_depth,
        c_depth)`, each state `(batch, units)`.

    Weights, `(depth, ...)` unless tied:
        `hidden_kernel`, `memory_kernel`: W_h and W_c, `(features, units)`, of one layer only, with
        `hidden_bias`, `memory_bias`, `(units,)`. `time_kernel`, `time_recurrent_kernel`: W and U,
        `(depth, units, 4 * units)`; `time_bias`: b, `(depth, 4 * units)`; with `peepholes`
        `time_peephole`, `(depth, 3, units)`. `depth_kernel`, `depth_recurrent_kernel`, `depth_bias`
        and `depth_peephole` alike. Gate order i, f, c, o; of peepholes i, f, o.

    Diagnostics (`probes.probing`): the probe of this layer is a dict `{"time": Probe, "depth":
    Probe}`, of which either may be left out. Both have offsets `(h, c)`, each of the shape `(depth,
    time, batch, units)` with times in the order of reading: of h_T and c_T at each step, and of h_D
    and c_D at each layer. A cut stops the gradient from step to step ("time") or from layer to
    layer ("depth"). With `priority=None` h_T[t-1] also enters the depth LSTM at t: no cut stops
    that gradient, which comes from the layers above and not from the next step.

    Attributes:
        used_kernel: What the last call ran along time: "fused", which is `torch.lstm` where nothing
            special is asked (of masks, only right-padded ones are not special), or "loop".
        used_depth_kernel: What it ran along depth: "fused", alike, or "products".

    Raises:
        ValueError: An argument is out of its range, or does not go with another; when built: the
            number of features is not known, or not `units` with `project_inputs=None`, or the layer
            would have more than 2**31 parameters, or the batch size is not known with `stateful`;
            when called: a mask or an initial state has another shape than the inputs ask for, or
            the number of times is 0 or, with `unroll`, not known.

    Example:

    >>> import numpy as np
    >>> from keras_deeplstm.layers import GridLSTM2D
    >>> grid = GridLSTM2D(units=16, depth=3, return_sequences=True)
    >>> tuple(grid(np.zeros((2, 10, 8), "float32")).shape)
    (2, 10, 16)
    >>> {weight.name: tuple(weight.shape) for weight in grid.weights}["time_kernel"]
    (3, 16, 64)
    """

    used_kernel = used_depth_kernel = None
    _arguments = (
        *("normalization", "peepholes", "return_state", "go_backwards", "stateful"),
        "zero_output_for_mask",
    )

    def __init__(
        self,
        units,
        depth,
        tied=False,
        priority="depth",
        project_inputs="hidden",
        output="hidden",
        normalization=None,
        peepholes=False,
        dropout=0.0,
        recurrent_dropout=0.0,
        forget_bias=1.0,
        depth_forget_bias="depth",
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
        return_sequences=False,
        return_state=False,
        go_backwards=False,
        stateful=False,
        unroll=False,
        zero_output_for_mask=False,
        seed=None,
        **kwargs,
    ):
        super().__init__(
            units,
            depth,
            tied=tied,
            priority=priority,
            project_inputs=project_inputs,
            output=output,
            recurrent_dropout=recurrent_dropout,
            forget_bias=forget_bias,
            depth_forget_bias=depth_forget_bias,
            input_gate_bias=input_gate_bias,
            recurrent_activation=recurrent_activation,
            return_sequences=return_sequences,
            unroll=unroll,
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
            seed=seed,
            **kwargs,
        )
        self.normalization = validation.one_of("normalization", normalization, (None, "layer"))
        self.peepholes = validation.boolean("peepholes", peepholes)
        self.return_state = validation.boolean("return_state", return_state)
        self.go_backwards = validation.boolean("go_backwards", go_backwards)
        self.stateful = validation.boolean("stateful", stateful)
        self.zero_output_for_mask = validation.boolean("zero_output_for_mask", zero_output_for_mask)
        self.input_spec = keras.layers.InputSpec(ndim=3)

    # Weights.

    def _weights(self, features):
        units, layers = self.units, range(1, self.depth + 1)
        if self.project_inputs is None and features != units:
            raise ValueError(
                "With `project_inputs=None` the inputs must have `units` features. "
                f"Received: features={features}, units={units}"
            )
        weights = self._projections(features)
        for direction in ("time", "depth"):
            lstm = lstm_weights(direction, units, self.use_bias, self.peepholes)
            weights += self._of_layers(direction, lstm)
            if self.normalization:
                weights += [weight.stacked(layers) for weight in norm_weights(direction, units)]
        return weights

    def build(self, sequences_shape, initial_state_shape=None):
        """Create the weights, and with `stateful` the states, for `(batch, time, features)`."""
        super().build(sequences_shape)
        self.input_spec = keras.layers.InputSpec(ndim=3, axes={-1: sequences_shape[-1]})
        if self.stateful:
            self._hold_states(2 * self.depth, sequences_shape)

    # Computation. Inside, time is the first axis.

    def call(self, sequences, initial_state=None, mask=None, training=False):
        """Apply the layer to `(batch, time, features)`; `mask` has the shape `(batch, time)`."""
        check_sequences(sequences, mask, self.unroll)
        self._check_states(initial_state, sequences)
        if self.stateful:
            sequences = with_rows(sequences, self.states[0].shape[0])
        x = ops.swapaxes(self._numbers(sequences), 0, 1)
        valid = None if mask is None else ops.transpose(ops.cast(mask, "bool"))
        if self.go_backwards:
            x = ops.flip(x, axis=0)
            valid = None if mask is None else ops.flip(valid, axis=0)

        time_probe = probe_of(self).get("time", Probe())
        shared, by_layer = self._weights_by_layer(x.shape[-1], training, ops.shape(x)[:2])
        start = self._state_before(initial_state, ops.shape(x)[1])

        def layer(below, own, shift=None):
            own, start, offsets = own
            w = GridLayer.of({**shared, **own})
            return self._layer(below, w, start, valid, Probe(offsets, time_probe.cut), shift)

        (h_D, c_D), _, (h_T, c_T) = scan(
            layer,
            self._below_first_layer(x, shared),
            (by_layer, start, time_probe.offsets or ()),
            self.depth,
            unroll=self.unroll,
            probe=probe_of(self).get("depth"),
        )
        output = self._returned(self._read(h_D, c_D), valid)
        if self.stateful:
            self._keep(h_T, c_T)
        return (output, *in_turn(h_T, c_T, self.depth)) if self.return_state else output

    def _layer(self, below, w, start, valid, probe, shift):
        """`(h_D, c_D)` of the layer below at all times -> of this one; its last `(h_T, c_T)`."""
        h_D, c_D = below
        h_D = h_D if w.dropout is None else h_D * w.dropout
        h_T, last = self._along_time(h_D, w, start, valid, probe)
        if self.priority is None:
            h_T = ops.concatenate([start[0][None], h_T[:-1]], axis=0)
        activations = self.activation, self.recurrent_activation
        new, self.used_depth_kernel = one_step(activations, h_T, (h_D, c_D), w.depth, shift)
        return new, last

    def _along_time(self, h_D, w, start, valid, probe):
        """h_T at all times, and the last `(h_T, c_T)`."""
        h_T, last, self.used_kernel = recurrence(
            (self.activation, self.recurrent_activation),
            h_D,
            w.time,
            start,
            valid,
            last=self.stateful or self.return_state,
            dropout=w.recurrent_dropout,
            unroll=self.unroll,
            probe=probe,
        )
        return h_T, last

    def _weights_by_layer(self, features, training, times_and_rows):
        """Weights and dropout masks by name: what all layers share, and what each has, stacked."""
        shared, by_layer = {}, {}
        for weight in self._weights(features):
            (shared if weight.steps is None else by_layer)[weight.name] = self._tensor(weight)
        time, batch = times_and_rows
        if training and self.dropout and self.depth > 1:
            drawn = self._dropout_masks(self.dropout, self.depth - 1, time, batch)
            by_layer["dropout"] = ops.concatenate([ops.ones_like(drawn[:1]), drawn], axis=0)
        if training and self.recurrent_dropout:
            masks = self._dropout_masks(self.recurrent_dropout, self.depth, batch)
            by_layer["recurrent_dropout"] = masks
        return shared, by_layer

    def _returned(self, output, valid):
        """What is returned of the output of all times; the depth LSTM computes masked ones, too."""
        if valid is not None:
            zero = self.zero_output_for_mask and self.return_sequences
            output = held_outputs(output, valid, zero, last_only=not self.return_sequences)
        return ops.swapaxes(output, 0, 1) if self.return_sequences else output[-1]

    # What the outside asks.

    def compute_output_shape(self, sequences_shape, initial_state_shape=None):
        """Shape of the output, or with `return_state` a tuple of shapes."""
        batch, time, _ = sequences_shape
        size = self._read_size
        output = (batch, time, size) if self.return_sequences else (batch, size)
        if self.return_state:
            return (output, *[(batch, self.units)] * (2 * self.depth))
        return output

    def probe_shapes(self, sequences_shape):
        """What a `Probe` can shift: names of states and shape of each offset, by direction."""
        batch, time, _ = sequences_shape
        offsets = (("h", "c"), (self.depth, time, batch, self.units))
        return {"time": offsets, "depth": offsets}

    def compute_mask(self, sequences, mask=None):
        """The mask of the output if sequences are returned; states have none."""
        mask = mask if self.return_sequences else None
        if mask is not None and self.go_backwards:
            mask = ops.flip(mask, axis=1)
        return [mask, *[None] * (2 * self.depth)] if self.return_state else mask
