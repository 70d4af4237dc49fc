"""GradientFlow: gradient statistics of every weight and depth step, from inside `model.fit`."""

import math

from keras import ops

from keras_deeplstm import validation
from keras_deeplstm.callbacks import gradient_plots
from keras_deeplstm.callbacks.gradient_records import (
    NORMS,
    QUOTIENTS,
    by_layer,
    frame_of,
    histograms_of,
    weight_of,
)
from keras_deeplstm.callbacks.gradient_statistics import clipping, measure
from keras_deeplstm.callbacks.step_recorder import WeightRecorder
from keras_deeplstm.callbacks.verdict import verdict

STATISTICS = (
    *("norm", "mean_abs", "max_abs", "zero_fraction", "ratio", "update_ratio", "clipped"),
    "histogram",
)


class GradientFlow(WeightRecorder):
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
        statistics: Which statistics, of each weight and depth step: "norm" (L2), "mean_abs",
            "max_abs" (of |g|), "zero_fraction" (share of entries that are exactly 0), "ratio" (norm
            of the gradient / norm of the weight before the step), "update_ratio" (norm of the
            change that the step makes / norm of the weight before it: what the optimizer makes of
            the gradient, clipped and with decay; 0 while gradients are only accumulated), "clipped"
            (norm of the gradient after the optimizer's clipping / before it: 1 if clipping did not
            act; NaN while gradients are only accumulated), "histogram" (share of entries by
            log10 |g|, in half decades, estimated from up to 16,384 entries of each weight).
        layers: Names of the layers to record (all those inside a layer of that name); None: all.
        tensorboard: Folder for TensorBoard (scalars, and histograms if recorded); None writes none.
        csv: File for `to_frame()` at the end of each epoch; None writes none.
        log: A function `(values, step)`, called at the end of each epoch for each step that the
            epoch recorded, in order. The values are a dict from TensorBoard's tags, such as
            "gradient_norm/block/recurrent_kernel/depth_002", to floats.
        keep: Keep only so many recorded steps, the last ones; None: all.

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

    def __init__(
        self,
        every=1,
        statistics=("norm",),
        layers=None,
        tensorboard=None,
        csv=None,
        log=None,
        keep=None,
    ):
        super().__init__(every, tensorboard, csv, log, keep)
        self.statistics = validation.names("statistics", statistics)
        for statistic in self.statistics:
            validation.one_of("statistics", statistic, STATISTICS)
        self.layers = None if layers is None else validation.names("layers", layers)
        self.wants_update = "update_ratio" in self.statistics
        self._weights, self._entries = [], {}  # of the compiled step

    # The tap.

    def summarize(self, step):
        """All statistics, one after the other in one tensor; traced into the compiled step."""
        self._weights, self._entries, self._axes = [], {}, {}
        paths = self._paths(step.variables)
        for i in self._wanted(paths):
            weight, self._axes[i] = weight_of(paths[i], step.variables[i])
            self._weights.append(weight)
        if not self._axes:
            return {}
        of_what = {"norm": step.gradients, "weight_norm": step.values}
        if "clipped" in self.statistics:
            of_what["unclipped_norm"], of_what["clipped_norm"] = clipping(step)
        wanted = {s: QUOTIENTS.get(s, (s,)) for s in self.statistics}
        names = {name for each in wanted.values() for name in each} - {"update_norm"}
        tensors = {name: of_what.get(name, step.gradients) for name in sorted(names)}
        return {"values": self._measured("values", tensors)}

    def summarize_update(self, step, values):
        """How far the step has moved the weights, alike."""
        if not self._axes:
            return {}
        changes = [ops.subtract(new, old) for new, old in zip(values, step.values, strict=True)]
        if step.applied is not True:  # a step that only accumulates its gradient has no update
            changes = [ops.where(step.applied, change, math.nan) for change in changes]
        return {"updates": self._measured("updates", {"update_norm": changes})}

    def _measured(self, key, tensors):
        """Statistics of lists of tensors by name, as one: each output of a step has its price."""
        parts, entries = [], []
        for number, (i, axes) in enumerate(self._axes.items()):
            for name, each in tensors.items():
                tensor = ops.convert_to_tensor(each[i])
                value = measure("norm" if name in NORMS else name, tensor, axes)
                entries.append((number, name, tuple(value.shape)))
                parts.append(ops.reshape(value, (-1,)))
        self._entries[key] = entries
        return ops.concatenate(parts)

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
        self.count(steps, recorded=bool(summary))
        if summary:
            entries = [entry for key in summary for entry in self._entries[key]]
            self._records.add(self._step, self._weights, entries, list(summary.values()))

    # Keras hooks, and what is written.

    def on_train_begin(self, logs=None):
        """Start to count where this callback, or the optimizer, stands."""
        super().on_train_begin(logs)
        if "clipped" in self.statistics:
            self._build_optimizer()
        if self.model.built:  # if not, it is checked when the step is compiled
            self._wanted(self._paths(self.model.trainable_variables))

    def _hand_on(self):
        new = super()._hand_on()
        if self._writer is not None:  # no other sink knows TensorBoard's histograms
            self._writer.histograms(histograms_of(new))
        return new

    def _frame(self, records):
        return frame_of(records, self.statistics)

    # Results.

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
        records = self._recorded()
        return self._frame(by_layer(records) if by == "layer" else records)

    def histograms(self):
        """Return the recorded histograms.

        Columns: `step`, `layer`, `weight`, `depth` as in `to_frame()`; `low` and `high`, the edges
        of the bin of log10 |g| (infinite at the ends; zeros fall into the lowest); `share` of the
        entries, which sum to 1.
        """
        return histograms_of(self._recorded())

    def verdict(self):
        """Return one sentence: does the gradient reach the first depth step?"""
        return verdict(self.to_frame())

    def plot(self, kind="depth", ax=None):
        """Draw what was recorded.

        Args:
            kind: "depth" (norm against depth at several moments of training), "heatmap" (depth x
                step), "ratio" (first to last depth step over training), "updates" (how far each
                step moves the weights; needs the statistic "update_ratio") or "histogram" (of all
                weights over training; needs the statistic).
            ax: Matplotlib axes; new ones by default.

        Returns:
            The axes.
        """
        validation.one_of("kind", kind, ("depth", "heatmap", "ratio", "updates", "histogram"))
        if kind == "histogram":
            if "histogram" not in self.statistics:
                raise ValueError("No histograms were recorded. Pass statistics=('histogram',)")
            return gradient_plots.plot_histograms(self.histograms(), ax=ax)
        needed = "update_ratio" if kind == "updates" else "norm"
        if needed not in self.statistics:
            raise ValueError(f"{needed!r} was not recorded, only {self.statistics}")
        return getattr(gradient_plots, f"plot_{kind}")(self.to_frame(), ax=ax)
