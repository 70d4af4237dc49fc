"""Alerts: to be told when gradients, signals or updates leave the range of a healthy training."""

import math
import warnings
from typing import NamedTuple

import keras
import numpy as np

from keras_deeplstm import validation
from keras_deeplstm.callbacks.gradient_tables import first_last_ratio, last_steps
from keras_deeplstm.callbacks.verdict import fate

THRESHOLDS = {
    "dead": 0.5,  # share of a layer's units that are 0 for every example
    "saturated": 0.9,  # share of a gate's values below 0.05, or above 0.95
    "largest_update": 0.3,  # of the norm of a weight, in one step
    "smallest_update": 1e-7,
}


class Alert(NamedTuple):
    """What `Alerts` has found in an epoch.

    Args:
        kind: "vanishing", "exploding", "not finite", "dead", "saturated" or "update".
        layer: Name of the layer, or "" where it is the model.
        step: The last training step that was looked at.
        message: One sentence.

    Example:

    >>> from keras_deeplstm.callbacks import Alert
    >>> Alert("dead", "dense", 100, "In layer 'dense' 75% of the units are dead.").kind
    'dead'
    """

    kind: str
    layer: str
    step: int
    message: str


class Alerts(keras.callbacks.Callback):
    """Look through what other callbacks record, at the end of each epoch, and tell what is wrong.

    Each kind of alert is given once for each layer:

    - "not finite": a gradient or a signal is NaN or infinite. The layer is the one next to where it
      appeared: of gradients the one nearest to the output, of signals the one nearest to the input,
      at the first such step. (After a step with such a loss all weights may be NaN.)
    - "vanishing", "exploding": between the last and the first depth step the gradient falls or
      grows by more than a factor of 1000 (`verdict.fate`);
    - "dead": more than half of a layer's units are 0 for every example;
    - "saturated": more than 90 % of a gate's values, at one depth step, are above 0.95 or below
      0.05; an open forget gate is none, since that is how a memory lasts;
    - "update": the median step of the epoch changes a kernel by more than 0.3 or less than 1e-7 of
      its norm.

    Args:
        *recorders: `GradientFlow` and `SignalFlow` callbacks, which stand before this one in the
            list of callbacks. Updates need the statistic "update_ratio".
        action: "warn", or a function of an `Alert`.
        **thresholds: Others than those of `alerts.THRESHOLDS`.

    Attributes:
        found: The list of all alerts.

    Raises:
        ValueError: There is no recorder, or an argument is unknown or out of its range.

    Example:

    >>> import keras, numpy as np
    >>> from keras_deeplstm.callbacks import Alerts, SignalFlow
    >>> x = np.ones((4, 3), "float32")
    >>> layers = [keras.layers.Dense(2, "relu", bias_initializer=keras.initializers.Constant(-9))]
    >>> model = keras.Sequential([keras.Input((3,)), *layers, keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> signals = SignalFlow(x)
    >>> alerts = Alerts(signals, action=lambda alert: print(alert.kind, alert.step))
    >>> history = model.fit(x, np.ones((4, 1)), verbose=0, callbacks=[signals, alerts])
    dead 1
    """

    def __init__(self, *recorders, action="warn", **thresholds):
        super().__init__()
        if not recorders:
            raise ValueError("Pass the GradientFlow or SignalFlow callbacks to look through")
        for recorder in recorders:
            if not hasattr(recorder, "to_frame"):
                raise ValueError(f"Expected a GradientFlow or a SignalFlow. Received: {recorder!r}")
        self.recorders = recorders
        if action != "warn" and not callable(action):
            raise ValueError(
                f"Argument `action` must be 'warn' or a function. Received: action={action!r}"
            )
        self.action = action
        for name, value in thresholds.items():
            validation.one_of("thresholds", name, list(THRESHOLDS))
            validation.finite(name, value, positive=True)
        self.thresholds = {**THRESHOLDS, **thresholds}
        self.found, self._seen = [], {}

    def on_epoch_end(self, epoch, logs=None):
        """Look through what the epoch recorded."""
        given = {(alert.kind, alert.layer) for alert in self.found}
        for recorder in self.recorders:
            frame = recorder.to_frame()
            new = frame[frame.step > self._seen.get(id(recorder), 0)]
            if new.empty:
                continue
            self._seen[id(recorder)] = new.step.max()
            look = self._signals if "signal" in frame else self._gradients
            for kind, layer, message in look(new):
                if (kind, layer) not in given:
                    given.add((kind, layer))
                    alert = Alert(kind, layer, int(new.step.max()), message)
                    self.found.append(alert)
                    self._tell(alert)

    def _tell(self, alert):
        if self.action == "warn":
            warnings.warn(f"Training step {alert.step}: {alert.message}", stacklevel=2)
        else:
            self.action(alert)

    def _gradients(self, frame):
        """`(kind, layer, message)` of what gradients and updates show."""
        final = frame[frame.step == frame.step.max()]
        norms = frame[frame.statistic == "norm"]
        # A few such steps are part of training with dynamic loss scaling, if not the last.
        if not np.isfinite(final[final.statistic == "norm"].value).all():
            layer = _not_finite(norms).layer.iloc[-1]  # it spreads from there to the layers below
            yield "not finite", layer, f"The gradient of layer '{layer}' is not finite."
        elif len(norms):
            ratio = last_steps(first_last_ratio(frame))
            word = "arrives" if math.isnan(ratio) else fate(ratio)
            if word in ("vanishes", "explodes"):
                kind = {"vanishes": "vanishing", "explodes": "exploding"}[word]
                message = f"The gradient {word}: at the first depth step it is {ratio:.1e} times "
                yield kind, "", message + "that at the last."
        updates = frame[(frame.statistic == "update_ratio") & frame.weight.str.endswith("kernel")]
        for layer, values in updates.groupby("layer", sort=False).value:
            ratio = values.median()
            low, high = (self.thresholds[f"{word}_update"] for word in ("smallest", "largest"))
            if ratio > high or ratio < low:
                much = "more" if ratio > high else "less"
                limit = high if ratio > high else low
                message = f"A step changes layer '{layer}' by {ratio:.1e} of its norm, {much} than "
                yield "update", layer, f"{message}{limit:g}."

    def _signals(self, frame):
        """`(kind, layer, message)` of what signals show."""
        final = frame[frame.step == frame.step.max()]
        bad = _not_finite(frame)
        if len(bad):
            layer = bad.layer.iloc[0]  # it spreads from there to the layers above
            yield "not finite", layer, f"The signal of layer '{layer}' is not finite."
            return
        dead = final[(final.statistic == "dead") & final.signal.isin(["output", "h"])]
        for layer, values in dead.groupby("layer", sort=False).value:
            if values.max() > self.thresholds["dead"]:
                message = f"In layer '{layer}' {values.max():.0%} of the units are dead: 0 for "
                yield "dead", layer, message + "every example."
        stuck = final[final.statistic.isin(["closed", "open"])]
        stuck = stuck[~((stuck.signal == "f") & (stuck.statistic == "open"))]
        for layer, rows in stuck.groupby("layer", sort=False):
            worst = rows.loc[rows.value.idxmax()]
            if worst.value > self.thresholds["saturated"]:
                gate = {"i": "input", "f": "forget", "o": "output"}[worst.signal]
                message = f"In layer '{layer}', depth {worst.depth:.0f}, {worst.value:.0%} of the "
                yield "saturated", layer, f"{message}{gate} gates are {worst.statistic}."


def _not_finite(frame):
    """The rows with NaN or infinite values of the first step that has any."""
    bad = frame[~np.isfinite(frame.value)]
    return bad[bad.step == bad.step.min()]
