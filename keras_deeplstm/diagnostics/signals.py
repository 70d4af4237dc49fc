"""Forward signals: what layers return, and states and gates at each depth step."""

import contextlib
import math

import keras
import numpy as np
import pandas as pd
from keras import ops

from keras_deeplstm import validation
from keras_deeplstm.diagnostics.autodiff import compiled
from keras_deeplstm.diagnostics.untouched import current_trace, first_output, kept, replaced
from keras_deeplstm.layers.probes import watching
from keras_deeplstm.nested import named_layers

COLUMNS = ["layer", "signal", "direction", "depth", "statistic", "value"]
CLOSED, OPEN = 0.05, 0.95  # beyond which a gate is saturated
GATES = {"i": "input", "f": "forget", "o": "output"}
RESHAPING = (
    *(keras.layers.InputLayer, keras.layers.Flatten, keras.layers.Reshape, keras.layers.Permute),
    keras.layers.RepeatVector,
)


def chosen_layers(model, names):
    """The layers of these names, by name; None: all but those that only reshape.

    Raises:
        ValueError: The model has no layer of one of the names.
    """
    available = named_layers(model)
    if names is None:
        return {n: layer for n, layer in available.items() if not isinstance(layer, RESHAPING)}
    for name in validation.names("layers", names):
        validation.one_of("layers", name, list(available))
    return {name: available[name] for name in names}


class SignalProbe:
    """Measures the signals of a model on one fixed batch, again and again.

    The function is compiled once; each `measure()` uses the model's weights of that moment. The
    model runs in inference mode and stays as it is. Layers of this package run as a loop here,
    whatever kernel their training step has, since a fused kernel shows no gates. Layers that the
    model runs in a loop of its own, or rematerializes, are left out.

    Args:
        model: A Keras model.
        x: The probe batch, as for `predict`.
        layers: Names of the layers to look at; None: all, those of nested models too, but those
            that only reshape. Where several have one name, those of their models stand before it:
            "encoder/hidden". A layer that the model calls twice has its rows twice.

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
        self._layers = chosen_layers(model, layers)
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
            values = self._run()  # the first time, it writes the rows
        return frame_of(self._rows, values)

    def _signals(self):
        """All numbers, one after the other; their rows stay in `_rows`."""
        seen = []
        with contextlib.ExitStack() as stack:
            for name, layer in self._layers.items():
                stack.enter_context(replaced(layer, call=_watched(name, layer, seen)))
            self.model(self._x, training=False)
        self._rows, values = flattened(seen)
        return values


def flattened(seen):
    """Statistics of the signals of layers as one tensor.

    Args:
        seen: A list of `(name of a layer, signals)`. `signals` is a list; a dict in it holds, by
            the name of a signal and of a statistic, tensors without axes; in a list in it they have
            the depth steps as an axis, and in a list in that the times, too.

    Returns:
        `(rows, values)`: what `frame_of` takes.
    """
    rows, parts = [], []

    def add(layer, signals, level=0):
        for one in signals:
            if not isinstance(one, dict):
                add(layer, one, level + 1)
                continue
            direction = (np.nan, "depth", "time")[level]
            for signal, statistics in one.items():
                for statistic, value in statistics.items():
                    rows.append(((layer, signal, direction, statistic), tuple(value.shape)))
                    parts.append(ops.reshape(value, (-1,)))

    for layer, signals in seen:
        add(layer, signals)
    return rows, ops.concatenate(parts) if parts else ops.zeros((0,))


def frame_of(rows, values):
    """The table of what `flattened` returned, with the values as a NumPy array."""
    start, table = 0, []
    for (layer, signal, direction, statistic), shape in rows:
        end = start + math.prod(shape)
        by_step = values[start:end].reshape(shape)
        start = end
        if by_step.ndim > 1:  # of each layer of a grid, all times
            by_step = by_step.mean(axis=tuple(range(1, by_step.ndim)), dtype="float64")
        depths = range(1, len(by_step) + 1) if by_step.ndim else [np.nan]
        for depth, value in zip(depths, np.atleast_1d(by_step).tolist(), strict=True):
            table.append((layer, signal, direction, depth, statistic, value))
    return pd.DataFrame(table, columns=COLUMNS).astype({"depth": "float64"})


def _watched(name, layer, seen):
    """The layer's `call`, whose signals are appended to `seen`."""
    original, trace = layer.call, current_trace()
    is_ours = hasattr(layer, "probe_shapes")

    def call(*args, **kwargs):
        if trace != current_trace():  # within a loop, or rematerialized
            return original(*args, **kwargs)
        with watching(_summaries) if is_ours else contextlib.nullcontext([]) as signals:
            outputs = original(*args, **kwargs)
        first = first_output(outputs)
        if first is not None:
            signals = [{"output": output_statistics(first)}, *signals]
        seen.append((name, signals))
        return outputs

    return call


def _summaries(signals):
    """The statistics of each signal, by name: what `watching` asks for."""
    return {
        name: _saturation(signal) if name in GATES else output_statistics(signal)
        for name, signal in signals.items()
    }


def output_statistics(signal):
    """Norm, mean, spread and share of dead units of a tensor `(batch, ..., units)`."""
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
