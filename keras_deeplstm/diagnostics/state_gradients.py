"""Where the gradient travels: dLoss/dh and dLoss/dc at each step, along each path on its own."""

import keras
import numpy as np
import pandas as pd
from keras import ops

from keras_deeplstm import validation
from keras_deeplstm.diagnostics.autodiff import compiled, loss_divisor
from keras_deeplstm.diagnostics.untouched import kept, replaced
from keras_deeplstm.layers.probes import Probe, probing
from keras_deeplstm.nested import leaf_layers, named_layers

# The path that is left, and what is cut between steps to leave it.
PATHS = {"total": None, "hidden": "memory", "memory": "hidden"}
COLUMNS = ["layer", "direction", "state", "path", "depth", "time", "value"]


class StateGradientProbe:
    """Measures the gradients of a layer's states on one fixed batch, again and again.

    The function is compiled once; each `measure()` uses the model's weights of that moment. The
    model runs in inference mode and stays as it is.

    Args:
        model: A compiled Keras model (its loss is used).
        x, y: The probe batch, as for `fit`.
        layer: The name of a layer of the model, also of one inside a nested model. By default the
            first one with states over depth.

    Raises:
        ValueError: The model is not compiled, or has no such layer; x and y differ in length.

    Example:

    >>> import keras, numpy as np
    >>> from keras_deeplstm import models
    >>> from keras_deeplstm.diagnostics import StateGradientProbe
    >>> model = models.classifier((4,), 3, depth=5, units=8)
    >>> model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    >>> probe = StateGradientProbe(model, np.ones((2, 4)), np.array([0, 1]))
    >>> before = probe.measure()
    >>> model.get_layer("logits").set_weights([np.zeros((8, 3)), np.zeros(3)])
    >>> float(before.value.min()) > 0, float(probe.measure().value.max())
    (True, 0.0)
    """

    def __init__(self, model, x, y, layer=None):
        if not getattr(model, "compiled", False):
            raise ValueError(
                "The model must be compiled, because its loss is used: call `compile()` first. "
                f"Received: model={model.name!r}"
            )
        self.model = model
        self.layer_name, self.layer = _find(model, layer)
        self._x = keras.tree.map_structure(ops.convert_to_tensor, x)
        self._y = keras.tree.map_structure(ops.convert_to_tensor, y)
        lengths = [tensor.shape[0] for tensor in keras.tree.flatten((self._x, self._y))]
        if len(set(lengths)) > 1:
            raise ValueError(
                f"x and y of the probe batch differ in length: {' and '.join(map(str, lengths))}"
            )
        seen = {}
        with replaced(self.layer, call=_recording(self.layer, seen)), kept(model):
            model(self._x, training=False)
        self._shapes, self._measures = seen, {}

    def measure(self):
        """Return the gradients' norms at the model's present weights.

        Returns:
            A DataFrame `layer, direction, state, path, depth, time, value`. `value` is the L2 norm,
            over batch and units (and the positions of images), of the gradient of the model's loss.

            For blocks over depth, `direction` is "depth" (and "time" for the time LSTMs of
            `GridLSTM2D`), `state` is "h" or "c", and `path` says which paths between steps are
            open: "total", "hidden" (only through h) or "memory" (only through c). `depth` counts
            from 1; `time` from 1 in the order of reading, NaN without a time axis.

            For any other layer: `direction` NaN, `state` "input" or "output" (of several tensors
            the first), `path` "total", `depth` NaN, `time` from 1 for arrays `(batch, time,
            units)`, else NaN.
        """
        if hasattr(self.layer, "probe_shapes"):
            rows = [row for path, cut in PATHS.items() for row in self._measure_states(path, cut)]
        else:
            rows = self._measure_outside()
        return pd.DataFrame(rows, columns=COLUMNS)

    def _measure_states(self, path, cut):
        shapes = self.layer.probe_shapes(self._shapes["input"])
        if path != "total" and all(len(states) == 1 for states, _ in shapes.values()):
            return []  # without a memory there is one path
        names = [(direction, state) for direction in shapes for state in shapes[direction][0]]

        def loss(*offsets):
            probes = {
                direction: Probe(
                    tuple(o for o, (d, _) in zip(offsets, names, strict=True) if d == direction),
                    cut,
                )
                for direction in shapes
            }
            with probing({self.layer: probes}):
                return self._loss()

        zeros = [np.zeros(shapes[direction][1]) for direction, _ in names]
        gradients = self._gradients(path, loss, zeros)
        rows = []
        for (direction, state), gradient in zip(names, gradients, strict=True):
            if path != "total" and state != {"hidden": "h", "memory": "c"}[path]:
                continue
            by_time = gradient.ndim == 4
            axes = (2, 3) if by_time else tuple(range(1, gradient.ndim))
            norms = np.sqrt(np.square(gradient, dtype="float64").sum(axis=axes))
            for index, value in np.ndenumerate(norms):
                time = index[1] + 1 if by_time else np.nan
                rows.append(
                    (self.layer_name, direction, state, path, index[0] + 1, time, float(value))
                )
        return rows

    def _measure_outside(self):
        names = ("input", "output")

        def loss(*offsets):
            with replaced(self.layer, call=_shifted(self.layer, *offsets)):
                return self._loss()

        gradients = self._gradients("total", loss, [np.zeros(self._shapes[n]) for n in names])
        rows = []
        for name, gradient in zip(names, gradients, strict=True):
            axes = (0, *range(2, gradient.ndim)) if gradient.ndim == 3 else None
            norms = np.sqrt(np.square(gradient, dtype="float64").sum(axis=axes))
            for index, value in np.ndenumerate(norms):
                time = index[0] + 1 if index else np.nan
                row = (self.layer_name, np.nan, name, "total", np.nan, time, float(value))
                rows.append(row)
        return rows

    def _loss(self):
        predicted = self.model(self._x, training=False)
        loss = self.model.compute_loss(x=self._x, y=self._y, y_pred=predicted, training=False)
        return loss * loss_divisor()

    def _gradients(self, key, loss, zeros):
        if key not in self._measures:
            self._measures[key] = compiled(loss, self.model.variables, gradients="tensors")
        zeros = [zero.astype(self.layer.compute_dtype) for zero in zeros]
        with kept(self.model):  # each path starts from the same carried states
            return self._measures[key](*zeros)[2]


def state_gradients(model, x, y, layer=None):
    """Return dLoss/dh and dLoss/dc at each step, in total and along each path on its own.

    This is the picture of the claim that the gradient travels through the memory cell. The total
    derivatives cannot prove it, because dLoss/dh and dLoss/dc mix at every step; so the gradient is
    also measured with one of the two paths between steps cut.

    Args:
        model, x, y, layer: As for `StateGradientProbe`.

    Returns:
        The DataFrame of `StateGradientProbe.measure`.

    Raises:
        ValueError: The model is not compiled, or has no such layer.

    Example:

    >>> import keras, numpy as np
    >>> from keras_deeplstm import models
    >>> from keras_deeplstm.diagnostics import state_gradients
    >>> model = models.classifier((4,), 3, depth=5, units=8, forget_bias=20.0,
    ...                           recurrent_initializer="zeros")
    >>> model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    >>> # With open forget gates, the memory hands the gradient down as it is.
    >>> table = state_gradients(model, np.ones((2, 4)), np.array([0, 1]))
    >>> memory = table[table.path == "memory"]
    >>> memory.depth.tolist(), (memory.value / memory.value.max()).round(3).tolist()
    ([1, 2, 3, 4, 5], [1.0, 1.0, 1.0, 1.0, 1.0])
    """
    return StateGradientProbe(model, x, y, layer).measure()


def layers_with_states(model):
    """The layers of a model, also of nested ones, that have states over depth.

    Args:
        model: A Keras model.

    Returns:
        A list of layers, in the order of the model.

    Example:

    >>> from keras_deeplstm import models
    >>> from keras_deeplstm.diagnostics.state_gradients import layers_with_states
    >>> [layer.name for layer in layers_with_states(models.classifier((4,), 3, depth=5))]
    ['block']
    """
    return [layer for layer in leaf_layers(model) if hasattr(layer, "probe_shapes")]


def _find(model, name):
    """The name and the layer."""
    layers = named_layers(model)
    if name is None:
        for found in layers.items():
            if hasattr(found[1], "probe_shapes"):
                return found
        raise ValueError(
            f"No layer of {model.name!r} has states over depth; name one of its layers. "
            f"Available: {list(layers)}"
        )
    validation.one_of("layer", name, list(layers))
    return name, layers[name]


def _recording(layer, seen):
    original = layer.call

    def call(inputs, *args, **kwargs):
        outputs = original(inputs, *args, **kwargs)
        first = (keras.tree.flatten(one)[0] for one in (inputs, outputs))
        seen["input"], seen["output"] = (tuple(one.shape) for one in first)
        return outputs

    return call


def _shifted(layer, by_input, by_output):
    original = layer.call

    def call(inputs, *args, **kwargs):
        return _moved(original(_moved(inputs, by_input), *args, **kwargs), by_output)

    return call


def _moved(structure, offset):
    """The same tensors, the first of them with an offset if it is floating."""
    first, *others = keras.tree.flatten(structure)
    if keras.backend.is_float_dtype(first.dtype):
        first = first + offset
    return keras.tree.pack_sequence_as(structure, [first, *others])
