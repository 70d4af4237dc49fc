"""Measures: how the number that a task is judged by is made, compared and written."""

import re
from dataclasses import dataclass
from typing import Any, Literal

from keras_deeplstm import validation

Direction = Literal["max", "min"]
# Keras' metrics in lower case without underscores, as they are called and as their classes are.
HIGHER = (
    *("accuracy", "acc", "binaryaccuracy", "categoricalaccuracy", "sparsecategoricalaccuracy"),
    *("topkcategoricalaccuracy", "sparsetopkcategoricalaccuracy", "auc", "precision", "recall"),
    *("f1score", "fbetascore", "r2score", "cosinesimilarity", "iou", "binaryiou", "meaniou"),
    *("onehotiou", "onehotmeaniou", "truepositives", "truenegatives", "sensitivityatspecificity"),
    *("specificityatsensitivity", "precisionatrecall", "recallatprecision", "pearsoncorrelation"),
    "concordancecorrelation",
)
LOWER = (
    *("meansquarederror", "mse", "meanabsoluteerror", "mae", "rootmeansquarederror"),
    *("meanabsolutepercentageerror", "mape", "meansquaredlogarithmicerror", "msle", "logcosherror"),
    *("logcosh", "kldivergence", "kld", "poisson", "hinge", "squaredhinge", "categoricalhinge"),
    *("binarycrossentropy", "categoricalcrossentropy", "sparsecategoricalcrossentropy"),
    *("crossentropy", "falsepositives", "falsenegatives"),
)
# What Keras chooses by the loss and the shape of the outputs.
BY_LOSS = ("accuracy", "acc", "crossentropy", "ce")
TAKEN = ("loss", "epoch", "seconds")  # columns of metrics.csv


@dataclass(frozen=True)
class Measure:
    """The metric of a task, which is made anew for each run.

    Example:

    >>> from keras_deeplstm.experiments.tasks.measures import Measure
    >>> error = Measure.of("mean_absolute_error")
    >>> error.words, error.direction, error.text(0.51234)
    ('mean absolute error', 'min', '0.5123')
    >>> Measure.of("accuracy").text(0.971)
    '97.1%'
    """

    name: str
    """The metric's name: of the columns NAME and val_NAME, and of the result test_NAME."""
    direction: Direction
    """Whether a higher value is better ("max") or a lower one ("min")."""
    form: str
    """How a value is written, for `format`."""
    config: dict[str, Any] | None = None
    """Of a Keras metric, for `keras.metrics.deserialize`; None for one that the name tells."""

    @classmethod
    def of(
        cls, metric: Any, direction: Direction | None = None, form: str | None = None
    ) -> "Measure":
        """The measure of a metric.

        Args:
            metric: A Keras metric: its name, its config, an object, or a function. A class or a
                function of your own must be registered with Keras.
            direction: "max" or "min"; None for one of Keras' own, of which that is known.
            form: How a value is written, for `format`; None writes shares in percent.

        Raises:
            ValueError: There is no such metric, it is not registered, its name is taken, or its
                direction is not known.
        """
        name, kind, config = _described(metric)
        if not name or name in TAKEN or name.startswith("val_"):
            raise ValueError(f"A metric cannot be called {name!r}, as other columns are")
        if direction is None:
            direction = "max" if kind in HIGHER else "min" if kind in LOWER else None
        if direction not in ("max", "min"):
            raise ValueError(
                f"Argument `direction` must say whether more of metric {name!r} is better: 'max' "
                f"or 'min'. Received: direction={direction!r}"
            )
        if form is None:
            share = kind.endswith(("accuracy", "acc")) or kind in ("precision", "recall")
            form = ".1%" if share else ".4g"
        try:
            format(0.5, form)
        except (ValueError, TypeError):
            validation.refuse("form", "a format of numbers such as '.3f' or '.1%'", form)
        return cls(name, direction, form, config)

    @property
    def words(self) -> str:
        """The name as people say it."""
        return self.name.replace("_", " ")

    @property
    def best(self) -> str:
        """``"highest"`` or ``"lowest"``."""
        return "highest" if self.direction == "max" else "lowest"

    def text(self, value: float) -> str:
        """A value as text."""
        return format(value, self.form)

    def best_first(self, value: float) -> float:
        """A key to sort values by."""
        return -value if self.direction == "max" else value

    def reached(self, value: float, criterion: float) -> bool:
        """Whether a value is at least as good as the criterion."""
        return value >= criterion if self.direction == "max" else value <= criterion

    def make(self) -> Any:
        """A new metric for `keras.Model.compile`."""
        if self.config is None and self.name in BY_LOSS:
            return self.name
        import keras

        if self.config is not None:
            return keras.metrics.deserialize(self.config)
        metric = keras.metrics.get(self.name)
        if not isinstance(metric, keras.metrics.Metric):
            return keras.metrics.MeanMetricWrapper(metric, name=self.name)
        return type(metric).from_config({**metric.get_config(), "name": self.name})


def _described(metric):
    """Name, kind (see `HIGHER`) and config of a metric."""
    if isinstance(metric, str) and _kind(metric) in (*HIGHER, *LOWER, "ce"):
        return metric, _kind(metric), None  # without Keras, for which the command does not wait
    import keras

    try:
        made = keras.metrics.get(metric)
    except (TypeError, ValueError):
        raise ValueError(
            f"Unknown metric {validation.shown(metric)}. A class or function of your own must be "
            f"registered: @keras.saving.register_keras_serializable()"
        ) from None
    if isinstance(metric, str):
        return metric, _kind(metric), None
    own = type(made) if isinstance(made, keras.metrics.Metric) else made
    if not own.__module__.startswith("keras."):
        registered = keras.saving.get_registered_name(own)
        if keras.saving.get_registered_object(registered) is not own:
            raise ValueError(
                f"Metric {own.__name__!r} is not registered with Keras, so that a run could not "
                f"make it anew. Put @keras.saving.register_keras_serializable() above it"
            )
    if not isinstance(made, keras.metrics.Metric):
        made = keras.metrics.MeanMetricWrapper(made, name=own.__name__)
    return made.name, _kind(own.__name__), keras.metrics.serialize(made)


def _kind(name):
    return re.sub(r"[^a-z0-9]", "", name.lower())
