"""Alerts: to be told when gradients, signals or updates leave the range of a healthy training."""

import math
import warnings
from typing import NamedTuple

import keras
import numpy as np

from keras_deeplstm import validation
from keras_deeplstm.callbacks import signal_tables
from keras_deeplstm.callbacks.gradient_tables import MODEL, first_last_ratio, last_steps
from keras_deeplstm.callbacks.verdict import fate
from keras_deeplstm.diagnostics.signals import GATES

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
        step: The training step: of "not finite" the first one recorded, else the last one.
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

    - "not finite": a gradient or a signal is NaN or infinite, given only for where it came first.
      The layer is the one next to where it appeared: of gradients the one nearest to the output, of
      signals the one nearest to the input, at the first such step that is recorded. It causes the
      others: after a step with such a loss all weights may be NaN. To see the very step and layer,
      record each step: `GradientFlow(keep=100)` and `SignalFlow(keep=100)`;
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
        keep: With each alert, keep so many of each recorder's steps, up to that of the alert.
        **thresholds: Others than those of `alerts.THRESHOLDS`.

    Attributes:
        found: The list of all alerts.
        kept: With `keep`, a dict from alerts to lists of frames, one for each recorder.

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

    def __init__(self, *recorders, action="warn", keep=None, **thresholds):
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
        self.keep = None if keep is None else validation.positive_integer("keep", keep)
        self.found, self.kept, self._seen = [], {}, {}

    def on_epoch_end(self, epoch, logs=None):
        """Look through what the epoch recorded."""
        given = {(alert.kind, alert.layer) for alert in self.found}
        for alert in self._first_of_not_finite(self._look()):
            if (alert.kind, alert.layer) not in given:
                given.add((alert.kind, alert.layer))
                self.found.append(alert)
                if self.keep is not None:
                    self.kept[alert] = [
                        _last_recorded(recorder.to_frame(), alert.step, self.keep)
                        for recorder in self.recorders
                    ]
                self._tell(alert)

    def _look(self):
        """`(place, alert)` of all that is new; place is the time within a step that it is of."""
        for recorder in self.recorders:
            frame = recorder.to_frame()
            new = frame[frame.step > self._seen.get(id(recorder), 0)]
            if new.empty:
                continue
            self._seen[id(recorder)] = new.step.max()
            if "signal" in frame:
                place, look = 0 if recorder.wants_forward else 2, self._signals
            else:
                place, look = 1, self._gradients
            for kind, layer, step, message in look(new):
                yield place, Alert(kind, layer, int(step), message)

    def _first_of_not_finite(self, found):
        """All alerts, but of values that are not finite only the first: it causes the others."""
        found = list(found)
        bad = [(alert.step, place, alert) for place, alert in found if alert.kind == "not finite"]
        first = min(bad)[-1] if bad else None
        return [alert for _, alert in found if alert.kind != "not finite" or alert is first]

    def _tell(self, alert):
        if self.action == "warn":
            warnings.warn(f"Training step {alert.step}: {alert.message}", stacklevel=2)
        else:
            self.action(alert)

    def _gradients(self, frame):
        """`(kind, layer, step, message)` of what gradients and updates show."""
        last = frame.step.max()
        norms = frame[frame.statistic == "norm"]
        # A few such steps are part of training with dynamic loss scaling, if not the last.
        if not np.isfinite(norms[norms.step == last].value).all():
            bad = _not_finite(norms).iloc[-1]  # it spreads from there to the layers below
            message = f"The gradient of layer '{bad.layer}' is not finite."
            yield "not finite", bad.layer, bad.step, message
        elif len(norms):
            for layer, weight, ratio in last_steps(first_last_ratio(frame)).itertuples(index=False):
                word = "arrives" if math.isnan(ratio) else fate(ratio)
                if word in ("vanishes", "explodes"):
                    kind = {"vanishes": "vanishing", "explodes": "exploding"}[word]
                    layer, name = ("", "") if layer == MODEL else (layer, f" of {layer}/{weight}")
                    message = f"The gradient{name} {word}: at the first depth step it is "
                    yield kind, layer, last, f"{message}{ratio:.1e} times that at the last."
        updates = frame[(frame.statistic == "update_ratio") & frame.weight.str.endswith("kernel")]
        for layer, values in updates.groupby("layer", sort=False).value:
            ratio = values.median()
            low, high = (self.thresholds[f"{word}_update"] for word in ("smallest", "largest"))
            if ratio > high or ratio < low:
                much = "more" if ratio > high else "less"
                limit = high if ratio > high else low
                message = f"A step changes layer '{layer}' by {ratio:.1e} of its norm, {much} than "
                yield "update", layer, last, f"{message}{limit:g}."

    def _signals(self, frame):
        """`(kind, layer, step, message)` of what signals show."""
        last = frame.step.max()
        final = frame[frame.step == last]
        bad = _not_finite(frame)
        if len(bad):
            first = bad.iloc[0]  # it spreads from there to the layers above
            message = f"The signal of layer '{first.layer}' is not finite."
            yield "not finite", first.layer, first.step, message
            return
        for layer, values in signal_tables.dead_units(final).groupby("layer", sort=False).value:
            if values.max() > self.thresholds["dead"]:
                message = f"In layer '{layer}' {values.max():.0%} of the units are dead: 0 for "
                yield "dead", layer, last, message + "every example."
        for layer, rows in signal_tables.stuck_gates(final).groupby("layer", sort=False):
            worst = rows.loc[rows.value.idxmax()]
            if worst.value > self.thresholds["saturated"]:
                gate = GATES[worst.signal]
                message = f"In layer '{layer}', depth {worst.depth:.0f}, {worst.value:.0%} of the "
                yield "saturated", layer, last, f"{message}{gate} gates are {worst.statistic}."


def _not_finite(frame):
    """The rows with NaN or infinite values of the first step that has any."""
    bad = frame[~np.isfinite(frame.value)]
    return bad[bad.step == bad.step.min()]


def _last_recorded(frame, step, count):
    """The rows of the last `count` recorded steps up to `step`."""
    steps = np.unique(frame.step[frame.step <= step])
    return frame[frame.step.isin(steps[-count:])].reset_index(drop=True)
