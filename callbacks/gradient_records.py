"""Statistics by training step, weight and depth step: kept, as frames, and for checkpoints."""

import math
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from keras import ops

from keras_deeplstm.callbacks.gradient_statistics import HISTOGRAM_EDGES

COLUMNS = ["step", "layer", "weight", "depth", "statistic", "value"]
# Statistics that are the quotient of two norms; those of a layer are those of all its weights.
QUOTIENTS = {
    "ratio": ("norm", "weight_norm"),
    "update_ratio": ("update_norm", "weight_norm"),
    "clipped": ("clipped_norm", "unclipped_norm"),
}
NORMS = {"norm", *(norm for norms in QUOTIENTS.values() for norm in norms)}


class Weight(NamedTuple):
    """What is measured of one weight."""

    layer: str
    weight: str
    steps: Any  # the range of depth steps that it stacks, or None
    size: int  # entries of one step

    @property
    def depths(self):
        """The depth steps; NaN of a weight that is not stacked."""
        return [np.nan] if self.steps is None else list(self.steps)


def weight_of(path, variable):
    """What is measured of a variable of this path, and over which axes: None takes all."""
    layer, _, name = path.rpartition("/")
    steps = getattr(variable, "depth_steps", None)
    # Not of the gradient: TensorFlow does not know all of its shape for unknown lengths.
    shape = tuple(variable.shape)
    if steps is None:
        return Weight(layer, name, None, math.prod(shape)), None
    return Weight(layer, name, steps, math.prod(shape[1:])), tuple(range(1, len(shape)))


class Records:
    """What was recorded, a record for each of some training steps.

    A record is `(step, weights, measured)`: a list of `Weight`, and for each of them a dict from
    statistics to arrays with an entry for each depth step.
    """

    def __init__(self, keep=None):
        self._keep = keep  # so many records, the last ones; None: all
        self._pending = []  # with tensors on the device
        self._recorded = []

    def add(self, step, weights, entries, tensors):
        """Keep a record without waiting for the device.

        Args:
            step: The training step, counted from 1.
            weights: A list of `Weight`.
            entries: What the tensors hold, one after the other: the number of a weight, the name
                of a statistic, and its shape.
            tensors: A list of tensors with one axis.
        """
        self._pending.append((step, weights, entries, tensors))
        if self._keep is not None:
            self._pending = self._pending[-self._keep :]

    def fetch(self, last=math.inf):
        """All records; the new ones come from the device. None is of a step beyond `last`."""
        for step, weights, entries, tensors in self._pending:
            values = np.concatenate([ops.convert_to_numpy(tensor) for tensor in tensors])
            measured, start = [{} for _ in weights], 0
            for number, statistic, shape in entries:
                end = start + math.prod(shape)
                measured[number][statistic] = values[start:end].reshape(shape)
                start = end
            self._recorded.append((min(step, last), weights, measured))
        self._pending = []
        if self._keep is not None:
            self._recorded = self._recorded[-self._keep :]
        return self._recorded

    def get_state(self):
        """What a checkpoint keeps: `layouts`, nested lists of the weights and the shapes of their
        statistics; NumPy arrays `steps` and `layout`, an entry for each record, and `values`.
        """
        layouts, numbers, values = {}, [], []  # the layouts by identity: one for each `fit`
        for _, weights, measured in self._recorded:
            if id(weights) not in layouts:
                shapes = [{key: list(v.shape) for key, v in one.items()} for one in measured]
                names = [(w.layer, w.weight, w.steps and list(w.steps), w.size) for w in weights]
                layouts[id(weights)] = [[*n, s] for n, s in zip(names, shapes, strict=True)]
            numbers.append(list(layouts).index(id(weights)))
            values += [value.ravel() for one in measured for value in one.values()]
        return {
            "layouts": list(layouts.values()),
            "steps": np.array([step for step, _, _ in self._recorded], "int64"),
            "layout": np.array(numbers, "int64"),
            "values": np.concatenate(values) if values else np.zeros(0, "float32"),
        }

    def set_state(self, state):
        """The inverse of `get_state`."""
        self._pending, self._recorded = [], []
        layouts = []
        for layout in state["layouts"]:
            weights = [Weight(*names) for *names, _ in layout]
            shapes = [shapes for *_, shapes in layout]
            entries = [(i, *item) for i, one in enumerate(shapes) for item in one.items()]
            layouts.append((weights, entries, sum(math.prod(shape) for *_, shape in entries)))
        start = 0
        for step, number in zip(state["steps"].tolist(), state["layout"].tolist(), strict=True):
            weights, entries, size = layouts[number]
            self.add(step, weights, entries, [state["values"][start : start + size]])
            start += size
        self.fetch()


def frame_of(records, statistics):
    """A row for each value: the columns are `COLUMNS`."""
    rows = []
    for step, weights, measured in records:
        for weight, found in zip(weights, measured, strict=True):
            for statistic in statistics:
                if statistic == "histogram":
                    continue
                if statistic in QUOTIENTS:
                    above, below = (found[norm] for norm in QUOTIENTS[statistic])
                    with np.errstate(divide="ignore", invalid="ignore"):
                        value = above / below
                else:
                    value = found[statistic]
                for depth, one in zip(weight.depths, np.atleast_1d(value).tolist(), strict=True):
                    rows.append((step, weight.layer, weight.weight, depth, statistic, one))
    return pd.DataFrame(rows, columns=COLUMNS).astype({"depth": "float64"})


def histograms_of(records):
    """A row for each bin of each histogram: see `GradientFlow.histograms`."""
    edges = [-np.inf, *HISTOGRAM_EDGES, np.inf]
    rows = []
    for step, weights, measured in records:
        for weight, found in zip(weights, measured, strict=True):
            if "histogram" not in found:
                continue
            shares = found["histogram"].reshape(len(edges) - 1, -1)
            for depth, column in zip(weight.depths, shares.T.tolist(), strict=True):
                for low, high, share in zip(edges, edges[1:], column, strict=False):
                    rows.append((step, weight.layer, weight.weight, depth, low, high, share))
    columns = ["step", "layer", "weight", "depth", "low", "high", "share"]
    return pd.DataFrame(rows, columns=columns).astype({"depth": "float64"})


def by_layer(records):
    """The weights of each layer taken together: norms by squares, shares and means by sizes."""
    return [(step, *_layers_of(weights, measured)) for step, weights, measured in records]


def _layers_of(weights, measured):
    layers = {}
    for weight, found in zip(weights, measured, strict=True):
        layers.setdefault(weight.layer, []).append((weight, found))
    together = []
    for members in layers.values():
        sizes = [w.size * len(w.depths) for w, _ in members]
        combined = {}
        for statistic in members[0][1]:
            each = [found[statistic] for _, found in members]
            if statistic in NORMS:
                combined[statistic] = np.sqrt(sum(np.square(value).sum() for value in each))
            elif statistic == "max_abs":
                combined[statistic] = max(value.max() for value in each)
            else:
                axis = -1 if statistic == "histogram" else None
                means = [
                    v if w.steps is None else v.mean(axis=axis)
                    for (w, _), v in zip(members, each, strict=True)
                ]
                weighted = sum(m * n for m, n in zip(means, sizes, strict=True))
                combined[statistic] = weighted / sum(sizes)
        together.append(combined)
    return [Weight(layer, "all", None, 0) for layer in layers], together
