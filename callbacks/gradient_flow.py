"""GradientFlow: the gradient norm of every weight and depth step, from inside `model.fit`."""

import keras
import numpy as np
import pandas as pd
from keras import ops

from keras_deeplstm import validation
from keras_deeplstm.callbacks import gradient_plots
from keras_deeplstm.callbacks.gradient_tap import GradientTap

COLUMNS = ["step", "layer", "weight", "depth", "statistic", "value"]


class GradientFlow(keras.callbacks.Callback):
    """Record the norm of the gradient of every trainable weight while `model.fit` runs.

    The norms are those of the actual training step, on every backend, compiled or not, with no
    second backward pass: before clipping, with the loss scale of mixed precision divided out.
    Weights that stack the depth steps of a block (`UnfoldedLSTMBlock` and its peers) get one norm
    for each depth step. Training itself is not changed: the trained weights are bitwise the same,
    and nothing is added to `History`, progress bar or checkpoints.

    Args:
        every: Record the first training step of each `fit` and then each `every`-th. With
            `steps_per_execution=n` only each n-th step can be seen.

    A second `fit` with the same callback goes on recording where the first ended.

    Raises:
        ValueError: `every` is not a positive integer; in `fit`: the model is not compiled.
        RuntimeError: In `fit`: a custom `train_step` does not give its gradients to the optimizer.

    Example:

    >>> from keras_deeplstm.callbacks import GradientFlow
    >>> flow = GradientFlow(every=10)
    >>> model.fit(x, y, callbacks=[flow])  # doctest: +SKIP
    >>> flow.to_frame()  # doctest: +SKIP
    >>> flow.plot()  # doctest: +SKIP
    """

    def __init__(self, every=1):
        super().__init__()
        self.every = validation.positive_integer("every", every)
        self._tap = None
        self._training = False
        self._step = None
        self._next = 0
        self._weights = []  # of the compiled step: (path, depth steps or None)
        self._pending = []  # of this epoch: (step, weights, tensors on the device)
        self._recorded = []  # of earlier epochs: (step, weights, NumPy arrays)

    # What the tap asks.

    def summarize(self, variables, gradients):
        """L2 norms by the number of the variable; traced into the compiled step."""
        # Keras puts the name of some models, but not of all, before the names of their layers.
        prefix = f"{self._model.name}/"
        self._weights = [
            (v.path.removeprefix(prefix), getattr(v, "depth_steps", None)) for v in variables
        ]
        norms = {}
        for i, gradient in enumerate(gradients):
            steps = self._weights[i][1]
            # In half precision the squares of small gradients would vanish.
            wide = ops.cast(gradient, keras.backend.result_type(gradient.dtype, "float32"))
            axes = None if steps is None else tuple(range(1, len(gradient.shape)))
            norms[str(i)] = ops.sqrt(ops.sum(ops.square(wide), axis=axes))
        return norms

    def receive(self, summary):
        """Keep the norms of a step that is due, without waiting for the device."""
        self._step += self._model.steps_per_execution
        if self._step >= self._next:
            self._next = self._step - self._step % self.every + self.every
            self._pending.append((self._step, self._weights, summary))

    # When Keras calls.

    def set_model(self, model):
        """Open the tap. `fit` calls this before it compiles the training step."""
        super().set_model(model)
        self._tap = GradientTap.open(model, self)

    def on_train_begin(self, logs=None):
        """Start to count where this callback, or the optimizer, stands."""
        self._training = True
        if self._step is None:
            self._step = int(ops.convert_to_numpy(self.model.optimizer.iterations))
        self._next = 0

    def on_epoch_begin(self, epoch, logs=None):
        """Remember where the epoch begins."""
        self._epoch_start = self._step

    def on_epoch_end(self, epoch, logs=None):
        """Fetch what the epoch recorded from the device."""
        if self.params.get("steps"):
            # The last call of an epoch may have run fewer steps than steps_per_execution.
            self._step = self._epoch_start + self.params["steps"]
        self._fetch()

    def on_train_end(self, logs=None):
        """Close the tap: the model is as it was before."""
        self._training = False
        self._fetch()
        self._close()

    def on_test_end(self, logs=None):
        """Close the tap that `evaluate` had no use for."""
        self._close()

    def on_predict_end(self, logs=None):
        """Close the tap that `predict` had no use for."""
        self._close()

    def _close(self):
        if not self._training and self._tap is not None:
            self._tap.close(self)
            self._tap = None

    def _fetch(self):
        for step, weights, summary in self._pending:
            arrays = [
                np.atleast_1d(ops.convert_to_numpy(summary[str(i)])) for i in range(len(weights))
            ]
            self._recorded.append((min(step, self._step), weights, arrays))
        self._pending = []

    # What people read.

    def to_frame(self):
        """Return what was recorded as a tidy DataFrame.

        Columns: `step` (counted from 1), `layer` (its path), `weight`, `depth` (the depth step from
        1; NaN for weights that are not stacked over depth), `statistic` ("norm"), `value`.
        """
        self._fetch()
        rows = []
        for step, weights, arrays in self._recorded:
            for (path, steps), values in zip(weights, arrays, strict=True):
                layer, _, weight = path.rpartition("/")
                depths = [np.nan] if steps is None else steps
                for depth, value in zip(depths, values.tolist(), strict=True):
                    rows.append((step, layer, weight, depth, "norm", value))
        return pd.DataFrame(rows, columns=COLUMNS).astype({"depth": "float64"})

    def plot(self, kind="depth", ax=None):
        """Draw what was recorded.

        Args:
            kind: "depth" (norm against depth at several moments of training), "heatmap" (depth x
                step) or "ratio" (first to last depth step over training).
            ax: Matplotlib axes; new ones by default.

        Returns:
            The axes.
        """
        validation.one_of("kind", kind, ("depth", "heatmap", "ratio"))
        return getattr(gradient_plots, f"plot_{kind}")(self.to_frame(), ax=ax)
