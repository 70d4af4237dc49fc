"""Metrics of tasks: their direction, how they are written, made anew, and refused."""

import re

import keras
import numpy as np
import pytest

from keras_deeplstm.experiments import Splits, Task
from keras_deeplstm.experiments.tasks.measures import Measure


@keras.saving.register_keras_serializable("measures")
class Worst(keras.metrics.Metric):
    """The largest absolute error seen."""

    def __init__(self, name="worst", scale=1.0, **kwargs):
        super().__init__(name=name, **kwargs)
        self.scale = scale
        self.largest = self.add_variable((), "zeros", name="largest")

    def update_state(self, y_true, y_pred, sample_weight=None):
        error = keras.ops.max(keras.ops.abs(keras.ops.cast(y_true, "float32") - y_pred))
        self.largest.assign(keras.ops.maximum(self.largest, self.scale * error))

    def result(self):
        return self.largest

    def get_config(self):
        return {**super().get_config(), "scale": self.scale}


class Unregistered(keras.metrics.Mean):
    pass


@keras.saving.register_keras_serializable("measures")
def off_by(y_true, y_pred):
    return keras.ops.abs(y_true - y_pred)


TOP = {"class_name": "SparseTopKCategoricalAccuracy", "config": {"k": 2, "name": "top2"}}


@pytest.mark.parametrize(
    ("metric", "direction", "name", "wanted", "text"),
    [
        ("accuracy", None, "accuracy", "max", "12.3%"),
        ("mean_absolute_error", None, "mean_absolute_error", "min", "0.1235"),
        ("mae", None, "mae", "min", "0.1235"),
        ("r2_score", None, "r2_score", "max", "0.1235"),
        (keras.metrics.AUC(from_logits=True, name="area"), None, "area", "max", "0.1235"),
        (TOP, None, "top2", "max", "12.3%"),
        (Worst(scale=2.0), "min", "worst", "min", "0.1235"),
        (off_by, "min", "off_by", "min", "0.1235"),
        (keras.metrics.MeanSquaredError(name="closeness"), "max", "closeness", "max", "0.1235"),
    ],
)
def test_a_metric(metric, direction, name, wanted, text):
    measure = Measure.of(metric, direction)
    assert (measure.name, measure.direction, measure.text(0.12345)) == (name, wanted, text)
    if name != "accuracy":
        first, second = measure.make(), measure.make()
        assert first is not second and first is not metric
        assert first.name == second.name == name
    better, worse = (0.9, 0.2) if wanted == "max" else (0.2, 0.9)
    assert sorted([worse, better], key=measure.best_first) == [better, worse]
    assert measure.reached(0.5, 0.5) and measure.reached(better, 0.5)
    assert not measure.reached(worse, 0.5)


def test_a_metric_of_ones_own_is_made_anew_with_its_settings():
    measure = Measure.of(Worst(scale=3.0), "min")
    metric = measure.make()
    metric.update_state(np.array([1.0, 5.0]), np.array([2.0, 3.0]))
    assert float(metric.result()) == 6.0
    assert float(measure.make().result()) == 0.0  # nothing is carried over


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("acuracy",), "Unknown metric 'acuracy'"),
        ((3,), "Unknown metric 3"),
        ((Unregistered(name="mine"), "max"), "Metric 'Unregistered' is not registered with Keras"),
        ((lambda y, p: 0, "max"), "Metric '<lambda>' is not registered with Keras"),
        ((Worst(),), "Argument `direction` must say whether more of metric 'worst' is better"),
        (("accuracy", "up"), "Received: direction='up'"),
        (("accuracy", "max", "three"), "`form` must be a format of numbers such as '.3f' or '.1%'"),
        ((keras.metrics.Mean(name="loss"), "min"), "A metric cannot be called 'loss'"),
        ((keras.metrics.Mean(name="val_x"), "min"), "A metric cannot be called 'val_x'"),
    ],
)
def test_a_metric_that_cannot_be_used(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        Measure.of(*arguments)


def task(metric, **options):
    return Task(
        "t",
        "d",
        (2,),
        1,
        lambda _: Splits(*[(np.zeros((2, 2)), np.zeros(2))] * 3),
        metric=metric,
        **options,
    )


def test_what_counts_as_solved():
    low = task("mae", criterion=0.5)
    assert [low.solved(value) for value in (0.4, 0.5, 0.6)] == [True, True, False]
    assert low.about == "d. It counts as solved with a test mae of 0.5 or less."
    high = task("accuracy", criterion=0.9)
    assert [high.solved(value) for value in (0.89, 0.9)] == [False, True]
    assert high.about == "d. It counts as solved from 90.0% test accuracy on."
    assert task("mae").solved(0.1) is None and task("mae").about == "d."
    with pytest.raises(ValueError, match="`criterion` must be a finite number"):
        task("mae", criterion=float("nan"))


def test_an_error_in_the_metric_comes_with_the_task():
    with pytest.raises(ValueError, match="is not registered with Keras"):
        task(Unregistered(name="mine"), direction="max")
