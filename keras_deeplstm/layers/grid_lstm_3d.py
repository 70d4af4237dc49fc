"""GridLSTM3D: LSTMs along the rows, the columns and the depth of images."""

from typing import Any, NamedTuple

import keras
from keras import ops

from keras_deeplstm import validation
from keras_deeplstm.layers.gates import gates
from keras_deeplstm.layers.grid_base import GridBase
from keras_deeplstm.layers.image_grid import (
    CORNERS,
    apart,
    first_cells,
    flips_by_layer,
    images_in_a_row,
    last_of,
    patched,
    patched_shape,
    side_by_side,
    skewed,
    turned,
    unskewed,
)
from keras_deeplstm.layers.kernels import one_step
from keras_deeplstm.layers.masks import check_mask, held
from keras_deeplstm.layers.probes import is_watched, probe_of
from keras_deeplstm.layers.scan import product, scan
from keras_deeplstm.layers.weights import LSTM, lstm_weights


@keras.saving.register_keras_serializable(package="keras_deeplstm")
class GridLSTM3D(GridBase):
    """LSTMs along rows, columns and depth, for images (3D means rows x columns x depth).

    Each layer l has an LSTM along rows (h_R, c_R), which goes down from row to row, one along
    columns (h_C, c_C), which goes from column to column, and one along depth (h_D, c_D). Each
    passes its memory cell on. At row i and column j of the grid of patches:

        below:  h_D[i,j,0] = x[i,j] W_h + b_h,  c_D[i,j,0] = x[i,j] W_c + b_c  (or 0)
        rows:   h_R[i,j,l], c_R[i,j,l] = LSTM(h_D[i,j,l-1] W + h_R[i-1,j,l] U + h_C[i,j-1,l] V + b,
                                              c_R[i-1,j,l])
        columns: h_C, c_C alike, with U for h_C[i,j-1,l], V for h_R[i-1,j,l] and c_C[i,j-1,l]
        depth:  h_D[i,j,l], c_D[i,j,l] = LSTM(h_R* W' + h_C* W'' + h_D[i,j,l-1] U' + b',
                                              c_D[i,j,l-1])
                h* = that of [i,j,l] with `priority="depth"`; with None those that rows and columns
                have read, h_R[i-1,j,l] and h_C[i,j-1,l]
        output: h_D[i,j,depth], or [h_D, c_D] with `output="both"`
        LSTM:   c' = sigmoid(z_f) c + sigmoid(z_i) tanh(z_c),  h' = sigmoid(z_o) tanh(c')

    Source: Grid LSTM (Kalchbrenner et al., arXiv 1507.01526, sections 3.2 to 3.5), a 3-LSTM;
    multi-dimensional LSTM (Graves et al., arXiv 0705.2011). What differs from the former: see
    `GridLSTM2D`. The paper's classifier of digits has four layers, one for each corner: `depth=4,
    directions=(all four), combine="turns", project_inputs="both", output="both",
    return_sequences=True`; how its layers were joined is not known to us.

    The cells of a diagonal need only those of the diagonal before: they are computed at once, so
    that there are rows + columns - 1 steps one after the other. Of a batch with enough of them, two
    or four images stand side by side in the columns, which leaves fewer places of the diagonals
    empty. The depth LSTM is computed for all positions at once. The time to compile grows neither
    with the size nor with the depth.

    Args:
        units: Size of h and c of each direction.
        depth: Number of layers.
        tied: False: each layer has its own three LSTMs. "depth": one depth LSTM for all layers.
            True: one of each for all layers.
        priority: "depth": the depth LSTM reads the new h_R and h_C. None: it reads those before.
        project_inputs: "hidden": a projection of the input gives h_D below the first layer, and c_D
            starts at 0. "both": a second projection gives c_D. None: the input, which then has
            `units` numbers in each patch, is h_D.
        output: "hidden" or "both": what is read out at the top.
        patches: `(height, width)` of the patches that are the cells of the grid.
        directions: The corners that scans start from, of "top_left", "top_right", "bottom_left" and
            "bottom_right".
        combine: How several directions become one output. "concat" and "sum": each has a network of
            its own, and the outputs are put side by side, or added. "turns": there is one network,
            whose layers take the directions in turn.
        dropout: Fraction of h_D set to zero, in training, where it enters the layers 2 ... depth,
            drawn for each position. c_D is never dropped.
        recurrent_dropout: Fraction of h_R and h_C set to zero, in training, where they enter the
            LSTMs of rows and columns: the same units at all positions.
        forget_bias: Initial bias of the forget gate along rows and columns; None is that of
            `bias_initializer`.
        depth_forget_bias: The same of the depth LSTMs; "depth" is log(depth), but at least 1.
        input_gate_bias: The same of the input gate along rows and columns.
        activation: Of the candidate and the memory.
        recurrent_activation: Of the gates.
        use_bias: Whether projections and LSTMs have biases.
        kernel_initializer: For W_h, W_c, W, W' and W'', drawn for each layer.
        recurrent_initializer: For U, V and U', drawn for each layer and each gate.
        bias_initializer: For the biases of the LSTMs; those of the projections start at 0.
        kernel_regularizer, recurrent_regularizer, bias_regularizer: As in `keras.layers.LSTM`;
            summed over the layers.
        kernel_constraint, recurrent_constraint, bias_constraint: Applied to each layer.
        return_sequences: Return the output of all positions instead of that of the last one, which
            is the corner opposite to where a scan starts.
        unroll: Write both loops out in the graph.
        seed: Of dropout.
        **kwargs: `name`, `dtype`, `trainable`, ... of `keras.layers.Layer`.

    Call arguments:
        images: `(batch, height, width, channels)`; height and width are multiples of those of a
            patch.
        mask: `(batch, rows, columns)` of the grid of patches, for images of different size. A
            masked position hands the states of rows and columns on, as if it were not there; its
            output is 0, and the last position is the last one that is not masked.
        training: Whether dropout is on.

    Returns:
        `(batch, size)`, or `(batch, rows, columns, size)` with `return_sequences`. The size is
        `units`, twice that with `output="both"`, times the number of directions with "concat".

    Weights, `(depth, ...)` unless tied; then, if networks stand side by side, `(networks, ...)`:
        `hidden_kernel`, `memory_kernel`: W_h and W_c, `(numbers of a patch, units)`, of one layer
        only, with `hidden_bias`, `memory_bias`, `(units,)`. `row_kernel`, `row_recurrent_kernel`,
        `row_cross_kernel`: W, U and V, `(units, 4 * units)`, and `row_bias`, `(4 * units,)`;
        `column_...` alike. `depth_kernel`: W' above W'', `(2 * units, 4 * units)`;
        `depth_recurrent_kernel` and `depth_bias`. Gate order i, f, c, o.

    Diagnostics (`probes.probing`): the probe is a dict `{"depth": Probe}` with offsets `(h, c)` of
    h_D and c_D at each layer, `(depth, networks, rows, columns, batch, units)`.

    Raises:
        ValueError: An argument is out of its range, or does not go with another; when built: the
            number of channels is not known, or with `project_inputs=None` a patch has not `units`
            numbers, or the layer would have more than 2**31 parameters; when built or called:
            height or width is 0 or no multiple of a patch's, or, with `unroll`, not known, or the
            mask has another shape.

    Example:

    >>> import numpy as np
    >>> from keras_deeplstm.layers import GridLSTM3D
    >>> corners = "top_left", "bottom_right"
    >>> grid = GridLSTM3D(units=8, depth=2, patches=(2, 2), directions=corners)
    >>> tuple(grid(np.zeros((3, 28, 28, 1), "float32")).shape)
    (3, 16)
    >>> {weight.name: tuple(weight.shape) for weight in grid.weights}["row_kernel"]
    (2, 2, 8, 32)
    """

    _arguments = ("patches", "directions", "combine")

    def __init__(
        self,
        units,
        depth,
        tied=False,
        priority="depth",
        project_inputs="hidden",
        output="hidden",
        patches=(1, 1),
        directions=("top_left",),
        combine="concat",
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
        unroll=False,
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
        self.patches = _checked_patches(patches)
        self.directions = _checked_directions(directions)
        self.combine = validation.one_of("combine", combine, ("concat", "sum", "turns"))
        self.networks = 1 if self.combine == "turns" else len(self.directions)
        self._flips = flips_by_layer(self.directions, self.depth, self.combine == "turns")
        self.input_spec = keras.layers.InputSpec(ndim=4)

    # Weights.

    def _weights(self, channels):
        units = self.units
        numbers = channels * self.patches[0] * self.patches[1]
        if self.project_inputs is None and numbers != units:
            raise ValueError(
                "With `project_inputs=None` a patch must have `units` numbers. "
                f"Received: patches={self.patches}, channels={channels}, units={units}"
            )
        weights = self._projections(numbers)
        for direction in ("row", "column", "depth"):
            lstm = lstm_weights(direction, units, self.use_bias, peepholes=False)
            if direction == "depth":
                lstm[0] = lstm[0]._replace(shape=(2 * units, 4 * units))
            else:
                lstm.append(lstm[1]._replace(name=f"{direction}_cross_kernel"))
            weights += self._of_layers(direction, lstm)
        return weights if self.networks == 1 else [w.side_by_side(self.networks) for w in weights]

    def build(self, images_shape):
        """Create the weights for `(batch, height, width, channels)`."""
        _check_sizes(images_shape, self.patches)
        super().build(images_shape)
        self.input_spec = keras.layers.InputSpec(ndim=4, axes={-1: images_shape[-1]})

    # Computation. Inside, the axes are those of `image_grid`.

    def call(self, images, mask=None, training=False):
        """Apply the layer to `(batch, height, width, channels)`; `mask` is one of patches."""
        _check_sizes(images.shape, self.patches)
        if self.unroll and None in images.shape[1:3]:
            received = f"Received: inputs.shape={tuple(images.shape)}"
            raise ValueError(f"Cannot unroll over images of a size that is undefined. {received}")
        if mask is not None:
            expected = patched_shape(images.shape, self.patches)[:3]
            check_mask(mask, expected, "(batch, rows, columns)")
        x = ops.transpose(patched(self._numbers(images), self.patches), (1, 2, 0, 3))[None]
        valid = None if mask is None else ops.transpose(ops.cast(mask, "bool"), (1, 2, 0))
        observed = is_watched() or "depth" in probe_of(self)  # position by position
        columns, count = ops.shape(x)[2], 1
        if not (observed or self.unroll or (training and self.recurrent_dropout)):
            count = images_in_a_row(*ops.shape(x)[1:4:2])
        masks = [] if mask is None else [ops.repeat(valid[None, ..., None], self.networks, axis=0)]
        x, *masks = (side_by_side(one, count) for one in (x, *masks))
        shared, by_layer = self._weights_by_layer(images.shape[-1])
        below = self._below_first_layer(ops.repeat(x, self.networks, axis=0), shared)
        flips = self._flips
        stay = not observed and self.combine != "turns"
        if stay:
            below = tuple(self._diagonals(grid, flips[0], columns) for grid in below)
            masks = [self._diagonals(grid, flips[0], columns) for grid in masks]
        places = Places(columns, masks, stay)
        if training:
            by_layer |= self._dropout_by_layer(ops.shape(below[0])[1:4])

        def layer(below, own, shift=None):
            own, flips = own
            return self._layer(below, {**shared, **own}, places, flips, shift), ()

        (h_D, c_D), _, _ = scan(
            layer,
            below,
            (by_layer, ops.convert_to_tensor(flips)),
            self.depth,
            unroll=self.unroll,
            probe=probe_of(self).get("depth"),
        )
        output = self._read(h_D, c_D)
        output = self._grids(output, flips[0], columns) if stay else output
        return self._returned(apart(output, count), valid)

    def _layer(self, below, w, places, flips, shift):
        """`(h_D, c_D)` of the layer below at all positions -> of this one."""
        h_D, c_D = below
        h_D = h_D * w["dropout"] if "dropout" in w else h_D
        if places.stay:
            h = self._along_both(h_D, w, places.columns, *places.masks)
        else:
            there = [self._diagonals(x, flips, places.columns) for x in (h_D, *places.masks)]
            h = self._along_both(there[0], w, places.columns, *there[1:])
            h = self._grids(h, flips, places.columns)
        lstm = LSTM(w["depth_kernel"], w["depth_recurrent_kernel"], w.get("depth_bias", 0))
        activations = self.activation, self.recurrent_activation
        return one_step(activations, h, (h_D, c_D), lstm, shift)[0]

    def _along_both(self, h_D, w, columns, valid=None):
        """`[h_R, h_C]` of all diagonals, as the depth LSTM reads them."""

        def both(part):
            return [w[f"{direction}_{part}"] for direction in ("row", "column")]

        # Of both LSTMs one product and one set of gates: states are [h_R, h_C] side by side.
        (U_R, U_C), (V_R, V_C) = both("recurrent_kernel"), both("cross_kernel")
        parts = _interleaved(*both("kernel")), _interleaved(U_R, V_C), _interleaved(V_R, U_C)
        kernel = ops.concatenate(parts, axis=-2)
        bias = _interleaved(*both("bias")) if self.use_bias else 0
        if self.use_bias and self.networks > 1:
            bias = bias[:, 0]  # of one diagonal
        networks, diagonals, rows, batch, _ = ops.shape(h_D)

        def step(before, at):
            x, begins, *valid = at
            h, c = (_neighbours(state, begins) for state in before)
            seen = h * w["recurrent_dropout"] if "recurrent_dropout" in w else h
            z = product(ops.concatenate([x, seen], axis=-1), kernel) + bias
            new = gates(z, c, self.activation, self.recurrent_activation)
            return held(*valid, new, (h, c)) if valid else new, () if self.priority else h

        zeros = ops.zeros((networks, rows, batch, 2 * self.units), h_D.dtype)
        x, *masks = (ops.swapaxes(one, 0, 1) for one in (h_D, valid) if one is not None)
        _, hidden, read = scan(
            step,
            (zeros, zeros),
            (x, first_cells(diagonals, rows, columns), *masks),
            diagonals,
            return_hidden=True,
            unroll=self.unroll,
            recompute=True,
        )
        return ops.swapaxes(hidden if self.priority else read, 0, 1)

    def _diagonals(self, grid, flips, columns):
        return skewed(self._turned(grid, flips, columns))

    def _grids(self, diagonals, flips, columns):
        return self._turned(unskewed(diagonals), flips, columns)

    def _turned(self, grid, flips, columns):
        return grid if self.directions == ("top_left",) else turned(grid, flips, columns)

    def _weights_by_layer(self, channels):
        """Weights by name: what all layers share, and what each has, stacked."""
        shared, by_layer = {}, {}
        for weight in self._weights(channels):
            value = self._tensor(weight)
            if self.networks > 1 and weight.role in ("bias", "offset"):  # for all positions
                value = ops.expand_dims(value, (-2, -3, -4))
            (shared if weight.steps is None else by_layer)[weight.name] = value
        return shared, by_layer

    def _dropout_by_layer(self, sizes):
        """The masks of dropout by name, stacked."""
        masks = {}
        if self.dropout and self.depth > 1:
            drawn = self._dropout_masks(self.dropout, self.depth - 1, self.networks, *sizes)
            masks["dropout"] = ops.concatenate([ops.ones_like(drawn[:1]), drawn], axis=0)
        if self.recurrent_dropout:
            sizes = self.depth, self.networks, 1, sizes[2]
            drawn = [self._dropout_masks(self.recurrent_dropout, *sizes) for _ in range(2)]
            masks["recurrent_dropout"] = ops.concatenate(drawn, axis=-1)
        return masks

    def _returned(self, output, valid):
        """What is returned of the output of all positions."""
        if self.return_sequences:
            if valid is not None:
                output = ops.where(valid[None, ..., None], output, ops.zeros_like(output))
        else:
            output = last_of(output, self._flips[-1], valid)
        if self.combine == "sum":
            output = ops.sum(output, axis=0)
        else:
            output = ops.concatenate(ops.unstack(output, num=self.networks, axis=0), axis=-1)
        return ops.transpose(output, (2, 0, 1, 3)) if self.return_sequences else output

    # What the outside asks.

    def compute_output_shape(self, images_shape):
        """Shape of the output."""
        batch, rows, columns, _ = patched_shape(images_shape, self.patches)
        size = self._read_size * (self.networks if self.combine == "concat" else 1)
        return (batch, rows, columns, size) if self.return_sequences else (batch, size)

    def probe_shapes(self, images_shape):
        """What a `Probe` can shift: names of states and shape of each offset, by direction."""
        batch, rows, columns, _ = patched_shape(images_shape, self.patches)
        shape = (self.depth, self.networks, rows, columns, batch, self.units)
        return {"depth": (("h", "c"), shape)}

    def compute_mask(self, images, mask=None):
        """The mask of the output, if all positions are returned."""
        return mask if self.return_sequences else None


class Places(NamedTuple):
    """Where the cells of all layers stand: the columns of an image, and masks of cells.

    Diagonals `stay` what they are from layer to layer; else each layer gets and gives grids.
    """

    columns: Any
    masks: list
    stay: bool


def _interleaved(row, column):
    """The gates of two LSTMs, as those of one whose states stand side by side."""
    gates = zip(ops.split(row, 4, axis=-1), ops.split(column, 4, axis=-1), strict=True)
    return ops.concatenate([part for pair in gates for part in pair], axis=-1)


def _neighbours(states, begins):
    """What each cell of a diagonal reads: the row states of the cell above, its left's of columns.

    `states` of the diagonal before, `(networks, rows, batch, 2 * units)`: a cell's left neighbour
    stands at its own place, the one above at the place before. Where a row `begins`, and above the
    uppermost row, states are 0; entries beyond the grids are never read.
    """
    rows, columns = ops.split(states, 2, axis=-1)
    rows = ops.concatenate([ops.zeros_like(rows[:, :1]), rows[:, :-1]], axis=1)
    columns = ops.where(begins, ops.zeros_like(columns), columns)
    return ops.concatenate([rows, columns], axis=-1)


def _checked_patches(patches):
    if not isinstance(patches, list | tuple) or len(patches) != 2:
        validation.refuse("patches", "two positive integers, (height, width)", patches)
    return tuple(validation.positive_integer("patches", size) for size in patches)


def _checked_directions(directions):
    corners = list(CORNERS)
    known = isinstance(directions, list | tuple) and all(one in corners for one in directions)
    if not known or not directions or len(set(directions)) < len(directions):
        words = ", ".join(map(repr, corners))
        validation.refuse("directions", f"different corners, of {words}", directions)
    return tuple(directions)


def _check_sizes(shape, patches):
    """Raise ValueError unless the patches fill the images, as far as their size is known."""
    for size, patch in zip(shape[1:3], patches, strict=True):
        if size == 0 or (size is not None and size % patch):
            raise ValueError(
                f"Height and width of the images must be multiples of those of `patches`={patches}."
                f" Received: inputs.shape={tuple(shape)}"
            )
