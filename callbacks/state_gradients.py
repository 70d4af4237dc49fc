"""StateGradients: dLoss/dh and dLoss/dc against depth, path by path, over training."""

import pandas as pd

from keras_deeplstm import validation
from keras_deeplstm.callbacks import gradient_plots
from keras_deeplstm.callbacks.epochs import EpochCallback
from keras_deeplstm.callbacks.verdict import state_verdict
from keras_deeplstm.diagnostics.state_gradients import StateGradientProbe

COLUMNS = ["layer", "direction", "state", "path", "depth", "time", "value", "epoch"]


class StateGradients(EpochCallback):
    """Measure the gradients of a layer's states on a fixed probe batch while `model.fit` runs.

    `diagnostics.state_gradients` before the first epoch, after each `every`-th and after the last.
    The model, its weights and its random numbers are not touched. A second `fit` with the same
    callback drops what was measured after the epoch at which it begins.

    Args:
        x, y: The probe batch, as for `fit`.
        every: Number of epochs between measurements.
        layer: Name of the layer; by default the first one with states over depth.

    Raises:
        ValueError: `every` is not a positive integer; in `fit`: the model has no such layer.

    Example:

    >>> import keras, numpy as np
    >>> from keras_deeplstm import models
    >>> from keras_deeplstm.callbacks import StateGradients
    >>> model = models.classifier((4,), 3, depth=5, units=8)
    >>> model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    >>> x, y = np.ones((8, 4)), np.arange(8) % 3
    >>> states = StateGradients(x[:2], y[:2])
    >>> history = model.fit(x, y, epochs=2, verbose=0, callbacks=[states])
    >>> frame = states.to_frame()
    >>> frame.epoch.unique().tolist(), frame.depth.unique().tolist()
    ([0, 1, 2], [1, 2, 3, 4, 5])
    >>> states.plot().get_title()
    'Where the gradient travels'
    """

    def __init__(self, x, y, every=1, layer=None):
        super().__init__(validation.positive_integer("every", every))
        self.x, self.y = x, y
        self.layer = layer
        self._probe = None

    def get_state(self):
        """Return the measurements and the number of epochs done, for `set_state`; plain types."""
        return {"epochs": self._epochs, "frame": self.to_frame().to_dict("list")}

    def set_state(self, state):
        """Go on, in the next `fit`, where `get_state` was called: nothing is measured twice.

        Args:
            state: What `get_state` has returned.
        """
        frames = pd.DataFrame(state["frame"]).groupby("epoch") if state["frame"] else []
        measured = {
            int(epoch): frame.drop(columns="epoch").reset_index(drop=True)
            for epoch, frame in frames
        }
        self._continue(state["epochs"], measured)

    def on_train_begin(self, logs=None):
        """Forget the compiled probe of an earlier model."""
        super().on_train_begin(logs)
        self._probe = None

    def on_train_end(self, logs=None):
        """Measure after the last epoch."""
        super().on_train_end(logs)
        self._probe = None

    def measure(self, epochs):
        """Return the gradients at the present weights."""
        if self._probe is None:
            self._probe = StateGradientProbe(self.model, self.x, self.y, self.layer)
        return self._probe.measure()

    def to_frame(self):
        """Return the measurements: the columns of `state_gradients`, and `epoch` (0: before)."""
        frames = [frame.assign(epoch=epoch) for epoch, frame in sorted(self._measured.items())]
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=COLUMNS)

    def verdict(self):
        """Return one sentence: does the gradient of the states arrive, and by which path?"""
        return state_verdict(self.to_frame())

    def plot(self, ax=None):
        """Draw the last measurement: each path against depth.

        Args:
            ax: Matplotlib axes; new ones by default.

        Returns:
            The axes.
        """
        return gradient_plots.plot_paths(self.to_frame(), ax=ax)
