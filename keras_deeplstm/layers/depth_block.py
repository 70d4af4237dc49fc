"""The base of the feed-forward layers: one scan over depth, on inputs of any rank."""

import math

import keras
from keras import ops

from keras_deeplstm import validation
from keras_deeplstm.layers.depth_layer import DepthLayer
from keras_deeplstm.layers.masks import check_mask
from keras_deeplstm.layers.probes import probe_of
from keras_deeplstm.layers.scan import scan
from keras_deeplstm.layers.weighted_layer import MOVING


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
            (weight.name, weight.steps, self._tensor(weight))
            for weight in self._weights(x.shape[-1])
            # Moving averages are not needed where the batch has statistics of its own.
            if not (training and self.trainable and weight.role in MOVING)
        ]
        if training and self.dropout > 0:
            masks = self._dropout_masks(self.dropout, self.depth, ops.shape(x)[0])
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
