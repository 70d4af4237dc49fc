"""GradientFlow: gradient statistics of every weight and depth step, from inside `model.fit`."""

import math
import pathlib
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from keras import ops

from keras_deeplstm import validation
from keras_deeplstm.callbacks import gradient_plots
from keras_deeplstm.callbacks.gradient_statistics import HISTOGRAM_EDGES, measure
from keras_deeplstm.callbacks.gradient_tap import TapCallback
from keras_deeplstm.callbacks.tensorboard import TensorBoardWriter
from keras_deeplstm.callbacks.verdict import verdict

STATISTICS = ("norm", "mean_abs", "max_abs", "zero_fraction", "ratio", "histogram")
COLUMNS = ["step", "layer", "weight", "depth", "statistic", "value"]


class _Weight(NamedTuple):
    layer: str
    weight: str
    steps: Any  # the range of depth steps that it stacks, or None
    size: int  # entries of one step


class GradientFlow(TapCallback):
    """Record statistics of the gradient of every trainable weight while `model.fit` runs.

    They are those of the actual training step, on every backend, compiled or not, with no second
    backward pass: before clipping, with the loss scale of mixed precision divided out, duplicate
    rows of embedding gradients summed and replicas all-reduced. Weights that stack the depth steps
    of a block (`UnfoldedLSTMBlock` and its peers) get one value for each depth step. Training
    itself is not changed, and nothing is added to `History`, progress bar or checkpoints. Steps
    that are not recorded run the step as it would be without the callback.

    Args:
        every: Which training steps to record: an integer for the first step of each `fit` and then
            each `every`-th; "epoch" for the first step of each epoch; or a function from the number
            of a step, counted from 1, to True or False. With `steps_per_execution=n` only each n-th
            step can be seen.
        statistics: Which statistics: "norm" (L2), "mean_abs", "max_abs" (of |g|), "zero_fraction"
            (share of entries that are exactly 0), "ratio" (norm of the gradient / norm of the
            weight before the step), "histogram" (share of entries by log10 |g|, in half decades,
            estimated from up to 16,384 entries of each weight).
        layers: Names of the layers to record (all those inside a layer of that name); None: all.
        tensorboard: Folder for TensorBoard (scalars, and histograms if recorded); None writes none.
        csv: File for `to_frame()` at the end of each epoch; None writes none.

    A second `fit` with the same callback goes on recording where the first ended.

    Raises:
        ValueError: An argument is out of its range; in `fit`: the model is not compiled, or no
            layer has one of the names.
        RuntimeError: In `fit`: a custom `train_step` does not give its gradients to the optimizer,
            or does so more than once.

    Example:

    >>> import keras, numpy as np
    >>> from keras_deeplstm import models
    >>> from keras_deeplstm.callbacks import GradientFlow
    >>> model = models.classifier((4,), 3, depth=5, units=8)
    >>> model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    >>> flow = GradientFlow(every=10)
    >>> x, y = np.ones((8, 4)), np.arange(8) % 3
    >>> history = model.fit(x, y, batch_size=2, epochs=5, verbose=0, callbacks=[flow])
    >>> frame = flow.to_frame()
    >>> frame.step.unique().tolist()
    [1, 10, 20]
    >>> frame[frame.weight == "recurrent_kernel"].depth.unique().tolist()
    [2.0, 3.0, 4.0, 5.0]
    >>> flow.plot().get_ylabel()
    'gradient norm (L2)'
    >>> flow.verdict()[:20]
    'The gradient arrives'
    """

    def __init__(self, every=1, statistics=("norm",), layers=None, tensorboard=None, csv=None):
        super().__init__()
        self.every = every
        if not (callable(every) or every == "epoch"):
            also = "'epoch' or a function"
            self.every = validation.positive_integer("every", every, or_else=also)
        self.statistics = validation.names("statistics", statistics)
        for statistic in self.statistics:
            validation.one_of("statistics", statistic, STATISTICS)
        self.layers = None if layers is None else validation.names("layers", layers)
        self.tensorboard = tensorboard
        self.csv = csv
        self._step = None
        self._continues = False
        self._last = None
        self._writer = None
        self._weights = []  # of the compiled step
        self._pending = []  # of this epoch: (step, weights, tensors on the device)
        self._recorded = []  # of earlier epochs: (step, weights, statistics as NumPy arrays)

    # What the tap asks.

    def is_due(self, steps):
        """Whether the last of the next `steps` training steps is to be recorded."""
        step = self._step + steps
        if callable(self.every):
            return bool(self.every(step))
        if self.every == "epoch":
            return not self._seen_in_epoch
        return not self._seen_in_fit or step // self.every > self._step // self.every

    def summarize(self, variables, values, gradients):
        """All statistics, one after the other in one tensor; traced into the compiled step."""
        paths = self._paths(variables)
        self._weights, self._shapes = [], []  # of what the tensor holds
        parts = []
        for i in self._wanted(paths):
            layer, _, weight = paths[i].rpartition("/")
            steps = getattr(variables[i], "depth_steps", None)
            shape = tuple(gradients[i].shape)
            size = math.prod(shape if steps is None else shape[1:])
            measured = {
                statistic: measure(
                    statistic,
                    gradients[i],
                    values[i],
                    axes=None if steps is None else tuple(range(1, len(shape))),
                )
                for statistic in self._measured
            }
            self._weights.append(_Weight(layer, weight, steps, size))
            self._shapes.append({name: tuple(value.shape) for name, value in measured.items()})
            parts += [ops.reshape(value, (-1,)) for value in measured.values()]
        # One tensor, because each output of a compiled step has its price.
        return {"values": ops.concatenate(parts)} if parts else {}

    @property
    def _measured(self):
        names = [s for s in self.statistics if s != "ratio"]
        return sorted({*names, *(("norm", "weight_norm") if "ratio" in self.statistics else ())})

    def _paths(self, variables):
        # Keras puts the name of some models, but not of all, before the names of their layers.
        return [v.path.removeprefix(f"{self._model.name}/") for v in variables]

    def _wanted(self, paths):
        """The numbers of the paths that belong to the chosen layers."""
        if self.layers is None:
            return range(len(paths))
        wanted = [
            i
            for i, path in enumerate(paths)
            if any(path.startswith(f"{name}/") or f"/{name}/" in path for name in self.layers)
        ]
        if not wanted:
            available = sorted({path.rpartition("/")[0] for path in paths})
            raise ValueError(
                f"No trainable variable matches layers={self.layers!r}. Available: {available}"
            )
        return wanted

    def receive(self, steps, summary, logs):
        """Count the steps, and keep what was recorded without waiting for the device."""
        self._step += steps
        if summary:
            self._seen_in_epoch = self._seen_in_fit = True
            self._pending.append((self._step, self._weights, self._shapes, summary["values"]))

    # When Keras calls.

    def on_train_begin(self, logs=None):
        """Start to count where this callback, or the optimizer, stands."""
        super().on_train_begin(logs)
        self._seen_in_fit, self._seen_in_epoch = self._continues, False
        self._continues = False
        if self._step is None:
            self._step = self._iterations()
        if self.model.built:  # if not, it is checked when the step is compiled
            self._wanted(self._paths(self.model.trainable_variables))
        if self.csv is not None:
            self._write_csv()  # a file that cannot be written is an error now, not after an epoch
        if self.tensorboard is not None:
            self._writer = TensorBoardWriter(self.tensorboard)

    def on_epoch_begin(self, epoch, logs=None):
        """Remember where the epoch begins."""
        super().on_epoch_begin(epoch, logs)
        self._seen_in_epoch = False

    def on_epoch_end(self, epoch, logs=None):
        """Fetch what the epoch recorded from the device, and write it."""
        super().on_epoch_end(epoch, logs)
        new = self._fetch()
        if self.csv is not None:
            self._write_csv()
        if self._writer is not None:
            self._writer.gradients(_frame(new, self.statistics), _histograms(new))

    def on_train_end(self, logs=None):
        """Close the tap: the model is as it was before."""
        self._fetch()
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        super().on_train_end(logs)

    def _fetch(self):
        new = [
            (min(step, self._step), weights, _unpacked(ops.convert_to_numpy(values), shapes))
            for step, weights, shapes, values in self._pending
        ]
        self._recorded += new
        self._pending = []
        return new

    def _write_csv(self):
        try:
            pathlib.Path(self.csv).parent.mkdir(parents=True, exist_ok=True)
            self.to_frame().to_csv(self.csv, index=False)
        except OSError as error:
            raise OSError(f"Cannot write logs to '{self.csv}': {error.strerror}") from error

    # What a checkpoint keeps.

    def get_state(self):
        """Return what was recorded and how far it counted, for `set_state`; call between epochs.

        Returns:
            A dict: `step`, a number; `layouts`, nested lists that say which weights and statistics
            a record holds; NumPy arrays `steps` and `layout` with an entry for each record, and
            `values`, all their values one after the other.
        """
        self._fetch()
        layouts, numbers, values = {}, [], []  # the layouts by identity: one for each `fit`
        for _, weights, measured in self._recorded:
            if id(weights) not in layouts:
                shapes = [{key: list(v.shape) for key, v in one.items()} for one in measured]
                names = [(w.layer, w.weight, w.steps and list(w.steps), w.size) for w in weights]
                layouts[id(weights)] = [[*n, s] for n, s in zip(names, shapes, strict=True)]
            numbers.append(list(layouts).index(id(weights)))
            values += [value.ravel() for one in measured for value in one.values()]
        return {
            "step": self._step,
            "layouts": list(layouts.values()),
            "steps": np.array([step for step, _, _ in self._recorded], "int64"),
            "layout": np.array(numbers, "int64"),
            "values": np.concatenate(values) if values else np.zeros(0, "float32"),
        }

    def set_state(self, state):
        """Go on, in the next `fit`, where `get_state` was called.

        That `fit` continues another one, so its first step is recorded only if it is due.

        Args:
            state: What `get_state` has returned.
        """
        self._step, self._continues = state["step"], True
        self._pending, self._recorded = [], []
        layouts = [
            ([_Weight(*names) for *names, _ in layout], [shapes for *_, shapes in layout])
            for layout in state["layouts"]
        ]
        start = 0
        for step, number in zip(state["steps"].tolist(), state["layout"].tolist(), strict=True):
            weights, shapes = layouts[number]
            measured = _unpacked(state["values"][start:], shapes)
            start += sum(value.size for one in measured for value in one.values())
            self._recorded.append((step, weights, measured))

    # What people read.

    def to_frame(self, by="weight"):
        """Return what was recorded as a tidy DataFrame.

        Columns: `step` (counted from 1), `layer` (its path), `weight`, `depth` (the depth step from
        1; NaN for weights that are not stacked over depth), `statistic`, `value`. Histograms have a
        frame of their own, `histograms()`.

        Args:
            by: "weight" for a value per weight and depth step, or "layer" for all weights of a
                layer taken together (then `weight` is "all" and `depth` NaN).

        Raises:
            ValueError: `by` is neither.
        """
        validation.one_of("by", by, ("weight", "layer"))
        self._fetch()
        recorded = self._recorded
        if by == "layer":
            recorded = [(step, *_by_layer(weights, values)) for step, weights, values in recorded]
        return _frame(recorded, self.statistics)

    def histograms(self):
        """Return the recorded histograms.

        Columns: `step`, `layer`, `weight`, `depth` as in `to_frame()`; `low` and `high`, the edges
        of the bin of log10 |g| (infinite at the ends; zeros fall into the lowest); `share` of the
        entries, which sum to 1.
        """
        self._fetch()
        return _histograms(self._recorded)

    def verdict(self):
        """Return in one sentence how the gradient fares on its way to the first depth step."""
        return verdict(self.to_frame())

    def plot(self, kind="depth", ax=None):
        """Draw what was recorded.

        Args:
            kind: "depth" (norm against depth at several moments of training), "heatmap" (depth x
                step), "ratio" (first to last depth step over training) or "histogram" (of all
                weights over training; needs the statistic).
            ax: Matplotlib axes; new ones by default.

        Returns:
            The axes.
        """
        validation.one_of("kind", kind, ("depth", "heatmap", "ratio", "histogram"))
        if kind == "histogram":
            if "histogram" not in self.statistics:
                raise ValueError("No histograms were recorded. Pass statistics=('histogram',)")
            return gradient_plots.plot_histograms(self.histograms(), ax=ax)
        if "norm" not in self.statistics:
            raise ValueError(f"Norms were not recorded, only {self.statistics}")
        return getattr(gradient_plots, f"plot_{kind}")(self.to_frame(), ax=ax)


def _unpacked(values, shapes):
    """Statistics by name, for each weight, from all their values one after the other."""
    found, start = [], 0
    for one in shapes:
        found.append({})
        for name, shape in one.items():
            end = start + math.prod(shape)
            found[-1][name] = values[start:end].reshape(shape)
            start = end
    return found


def _frame(recorded, statistics):
    parts = []
    for step, weights, values in recorded:
        for weight, measured in zip(weights, values, strict=True):
            depths = [np.nan] if weight.steps is None else list(weight.steps)
            for statistic in statistics:
                if statistic == "histogram":
                    continue
                if statistic == "ratio":
                    with np.errstate(divide="ignore", invalid="ignore"):
                        value = measured["norm"] / measured["weight_norm"]
                else:
                    value = measured[statistic]
                for depth, one in zip(depths, np.atleast_1d(value).tolist(), strict=True):
                    parts.append((step, weight.layer, weight.weight, depth, statistic, one))
    return pd.DataFrame(parts, columns=COLUMNS).astype({"depth": "float64"})


def _histograms(recorded):
    edges = [-np.inf, *HISTOGRAM_EDGES, np.inf]
    parts = []
    for step, weights, values in recorded:
        for weight, measured in zip(weights, values, strict=True):
            if "histogram" not in measured:
                continue
            shares = measured["histogram"].reshape(len(edges) - 1, -1)
            depths = [np.nan] if weight.steps is None else weight.steps
            for depth, column in zip(depths, shares.T.tolist(), strict=True):
                for low, high, share in zip(edges, edges[1:], column, strict=False):
                    parts.append((step, weight.layer, weight.weight, depth, low, high, share))
    columns = ["step", "layer", "weight", "depth", "low", "high", "share"]
    return pd.DataFrame(parts, columns=columns).astype({"depth": "float64"})


def _by_layer(weights, values):
    """Take the weights of each layer together: norms by squares, shares and means by sizes."""
    layers = {}
    for weight, measured in zip(weights, values, strict=True):
        layers.setdefault(weight.layer, []).append((weight, measured))
    together = []
    for members in layers.values():
        sizes = [w.size * (1 if w.steps is None else len(w.steps)) for w, _ in members]
        combined = {}
        for statistic in members[0][1]:
            each = [m[statistic] for _, m in members]
            if statistic in ("norm", "weight_norm"):
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
    return [_Weight(layer, "all", None, 0) for layer in layers], together


"""+"""
