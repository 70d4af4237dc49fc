"""Forward signals: what layers return, and states and gates at each depth step."""

import contextlib
import math

import keras
import numpy as np
import pandas as pd
from keras import ops

from keras_deeplstm import validation
from keras_deeplstm.diagnostics.autodiff import compiled
from keras_deeplstm.diagnostics.untouched import call_replaced, kept
from keras_deeplstm.layers.probes import watching
from keras_deeplstm.nested import leaf_layers

COLUMNS = ["layer", "signal", "direction", "depth", "statistic", "value"]
CLOSED, OPEN = 0.05, 0.95  # beyond which a gate is saturated
GATES = ("i", "f", "o")
RESHAPING = (
    *(keras.layers.InputLayer, keras.layers.Flatten, keras.layers.Reshape, keras.layers.Permute),
    keras.layers.RepeatVector,
)


class SignalProbe:
    """Measures the signals of a model on one fixed batch, again and again.

    The function is compiled once; each `measure()` uses the model's weights of that moment. The
    model runs in inference mode and stays as it is. Layers of this package run as a loop here,
    whatever kernel their training step has, since a fused kernel shows no gates.

    Args:
        model: A Keras model.
        x: The probe batch, as for `predict`.
        layers: Names of the layers to look at; None: all, those of nested models too, but those
            that only reshape.

    Raises:
        ValueError: The model has no layer of one of the names.

    Example:

    >>> import keras, numpy as np
    >>> from keras_deeplstm.diagnostics import SignalProbe
    >>> layers = [keras.layers.Dense(2, "relu", bias_initializer=keras.initializers.Constant(-9)),
    ...           keras.layers.Dense(1, bias_initializer="ones")]
    >>> model = keras.Sequential([keras.Input((3,)), *layers])
    >>> table = SignalProbe(model, np.ones((4, 3))).measure()
    >>> table[table.statistic == "dead"].value.tolist()
    [1.0, 0.0]
    """

    def __init__(self, model, x, layers=None):
        self.model = model
        available = {layer.name: layer for layer in leaf_layers(model)}
        names = [name for name, layer in available.items() if not isinstance(layer, RESHAPING)]
        if layers is not None:
            names = validation.names("layers", layers)
        for name in names:
            validation.one_of("layers", name, list(available))
        self._layers = [available[name] for name in names]
        self._x = keras.tree.map_structure(ops.convert_to_tensor, x)
        self._run, self._rows = None, []

    def measure(self):
        """Return the signals at the model's present weights.

        Returns:
            A DataFrame `layer, signal, direction, depth, statistic, value`. The signal is "output"
            for what a layer returns, with `direction` and `depth` missing. For layers of this
            package also their states "h" and "c" and their gates "i", "f" and "o" at each depth
            step, counted from 1, with `direction` "depth", or "time" for the time LSTMs of
            `GridLSTM2D` (then a mean over all times).

            Statistics of outputs and states: "norm" (L2 over the units of an example, mean over
            the batch), "mean" and "std" (over all entries), "dead" (share of units that are 0 for
            the whole batch; over the last axis). Of gates: "closed" and "open", the shares of
            entries below 0.05 and above 0.95. Masked times count like others.
        """
        with kept(self.model):
            if self._run is None:
                self._run = compiled(self._signals, self.model.variables)
            values, start, rows = self._run(), 0, []
            for row, shape in self._rows:
                end = start + math.prod(shape)
                by_step = values[start:end].reshape(shape)
                start = end
                if by_step.ndim > 1:  # of each layer of a grid, all times
                    by_step = by_step.mean(axis=tuple(range(1, by_step.ndim)), dtype="float64")
                depths = range(1, len(by_step) + 1) if by_step.ndim else [np.nan]
                for depth, value in zip(depths, np.atleast_1d(by_step).tolist(), strict=True):
                    rows.append((*row[:3], depth, row[3], value))
        return pd.DataFrame(rows, columns=COLUMNS).astype({"depth": "float64"})

    def _signals(self):
        """All numbers, one after the other; what they are is kept in `_rows`."""
        self._rows, parts = [], []

        def add(layer, direction, found):
            for signal, statistics in found.items():
                for statistic, value in statistics.items():
                    row = (layer.name, signal, direction, statistic)
                    self._rows.append((row, tuple(value.shape)))
                    parts.append(ops.reshape(value, (-1,)))

        def add_all(layer, seen, level=0):
            for one in seen:
                if isinstance(one, dict):
                    add(layer, (np.nan, "depth", "time")[level], one)
                else:
                    add_all(layer, one, level + 1)

        with contextlib.ExitStack() as stack:
            for layer in self._layers:
                stack.enter_context(call_replaced(layer, _watched(layer, add_all)))
            self.model(self._x, training=False)
        return ops.concatenate(parts)


def _watched(layer, receive):
    """The layer's `call`, whose signals go to `receive`."""
    original = layer.call
    is_ours = hasattr(layer, "probe_shapes")

    def call(*args, **kwargs):
        with watching(_summaries) if is_ours else contextlib.nullcontext([]) as seen:
            outputs = original(*args, **kwargs)
        first = keras.tree.flatten(outputs)[0]
        if keras.backend.is_float_dtype(first.dtype):
            seen = [{"output": _statistics(first)}, *seen]
        receive(layer, seen)
        return outputs

    return call


def _summaries(signals):
    """The statistics of each signal, by name: what `watching` asks for."""
    return {
        name: _saturation(signal) if name in GATES else _statistics(signal)
        for name, signal in signals.items()
    }


def _statistics(signal):
    rows = ops.cast(ops.reshape(signal, (-1, signal.shape[-1])), "float32")
    return {
        "norm": ops.mean(ops.sqrt(ops.sum(ops.square(rows), axis=-1))),
        "mean": ops.mean(rows),
        "std": ops.std(rows),
        "dead": ops.mean(ops.cast(ops.all(rows == 0, axis=0), "float32")),
    }


def _saturation(gate):
    return {
        "closed": ops.mean(ops.cast(gate < CLOSED, "float32")),
        "open": ops.mean(ops.cast(gate > OPEN, "float32")),
    }
