"""Models of one builder for any tuner of keras-tuner."""

import inspect

import keras
import keras_tuner

from keras_deeplstm import models, validation
from keras_deeplstm.search.space import OVER_DEPTH, OVER_TIME_AND_DEPTH, TRAINING, Space

LOGITS = {
    "loss": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    "metrics": ["accuracy"],
}
NUMBERS = {"loss": "mean_squared_error", "metrics": ["mean_absolute_error"]}
BUILDERS = {  # builder: its ranges, and what its model is compiled with
    models.classifier: (OVER_DEPTH, LOGITS),
    models.regressor: (OVER_DEPTH, NUMBERS),
    models.cnn_classifier: (OVER_DEPTH, LOGITS),
    models.sequence_classifier: (OVER_TIME_AND_DEPTH, LOGITS),
    models.sequence_regressor: (OVER_TIME_AND_DEPTH, NUMBERS),
    models.forecaster: (OVER_TIME_AND_DEPTH, NUMBERS),
    models.character_language_model: (OVER_TIME_AND_DEPTH, LOGITS),
}


class HyperModel(keras_tuner.HyperModel):
    """The models of one builder, for any tuner of keras-tuner.

    Args:
        builder: A function of `keras_deeplstm.models`, or one like them: it takes some of `block`,
            `depth`, `units`, `dropout`, ... as keyword arguments and returns a model.
        *arguments: Its positional arguments, e.g. the shape of the inputs.
        optimizer: Name of a Keras optimizer.
        clipnorm: Each weight's gradient is clipped to this norm; None switches clipping off.
        loss, metrics: As for `compile`. By default a cross-entropy of logits and the accuracy, or
            for regressors and forecasters the mean squared and the mean absolute error.
        max_parameters: A trial with a larger model fails before that is built, and its message
            says so. keras-tuner counts it as a failed one: give the tuner a
            `max_consecutive_failed_trials` that it cannot reach.
        name: Name of the hypermodel.
        **options: Ranges (see `Space`) in place of those of `OVER_DEPTH` or `OVER_TIME_AND_DEPTH`,
            and further arguments of the builder. With `batch_size=None` the batch size is left to
            `search`, as generators and datasets need it. With `parameters=500_000` all models
            have that size, and `units` is no longer searched.

    Raises:
        ValueError: A block is unknown; there is no default loss for this builder; in a tuner's
            constructor: a range is refused, or nothing is left to search.

    Example:

    >>> import keras_tuner, tempfile
    >>> from keras_deeplstm import models, search
    >>> hypermodel = search.HyperModel(models.classifier, (8, 8, 1), 10, depth=[10, 30], units=8)
    >>> folder = tempfile.mkdtemp()
    >>> tuner = keras_tuner.RandomSearch(hypermodel, "val_accuracy", 20, directory=folder)
    >>> [searched.name for searched in tuner.oracle.get_space().space]
    ['depth', 'dropout', 'tied', 'normalization', 'forget_bias', 'learning_rate', 'batch_size']
    >>> # `tuner.search(x, y, validation_data=(x_val, y_val), epochs=5)` then trains such models:
    >>> hypermodel.build(tuner.oracle.get_space()).get_layer("block").depth
    10
    """

    def __init__(
        self,
        builder,
        *arguments,
        optimizer="adam",
        clipnorm=1.0,
        loss=None,
        metrics=None,
        max_parameters=None,
        name=None,
        **options,
    ):
        super().__init__(name=name)
        ranges, compiled = BUILDERS.get(builder, (OVER_DEPTH, {"loss": loss, "metrics": metrics}))
        # What is given, an empty list of metrics too, wins over what goes with the builder.
        given = {"loss": loss, "metrics": metrics}
        self.compiled = compiled | {key: given[key] for key in given if given[key] is not None}
        if self.compiled["loss"] is None:
            raise ValueError(f"Argument `loss` is needed for the builder {builder.__name__!r}")
        known = inspect.signature(builder).parameters
        if builder is models.cnn_classifier and "connection" not in options:
            known = {key: value for key, value in known.items() if key != "depth"}
        if "block" not in known:
            ranges = {key: value for key, value in ranges.items() if key in (*known, *TRAINING)}
        if "parameters" in options:
            ranges = {key: value for key, value in ranges.items() if key != "units"}
        self.space = Space(ranges | {k: v for k, v in options.items() if k in ranges})
        self.builder = builder
        self.arguments = arguments
        self.options = {key: value for key, value in options.items() if key not in ranges}
        self.optimizer = optimizer
        self.clipnorm = clipnorm
        self.max_parameters = max_parameters
        if max_parameters is not None:
            validation.positive_integer("max_parameters", max_parameters)

    def build(self, hp):
        """Return the compiled model of a trial.

        Args:
            hp: A `keras_tuner.HyperParameters`.

        Raises:
            keras_tuner.errors.FailedTrialError: It would have more than `max_parameters`.
            ValueError: There is nothing to search.
        """
        options = self.space(hp)
        if not self.space.searched:
            raise ValueError("Search space is empty; nothing to tune")
        learning_rate, _ = (options.pop(key) for key in TRAINING)
        arguments = self.options | options
        check_size(self.max_parameters, self.builder, *self.arguments, **arguments)
        model = self.builder(*self.arguments, **arguments)
        settings = {"learning_rate": learning_rate, "clipnorm": self.clipnorm}
        optimizer = keras.optimizers.get({"class_name": self.optimizer, "config": settings})
        model.compile(optimizer, **self.compiled)
        return model

    def fit(self, hp, model, *args, **kwargs):
        """Train the model of a trial with its batch size, and return the history.

        Args:
            hp: A `keras_tuner.HyperParameters`.
            model: What `build` has returned.
            *args, **kwargs: As for `fit` of the model; a `batch_size` here wins.

        Returns:
            What `fit` of the model returns.
        """
        batch_size = self.space.options(hp.values)["batch_size"]
        return model.fit(*args, **{"batch_size": batch_size, **kwargs})


def check_size(max_parameters, builder, *arguments, **options):
    """Count the parameters of a model before it is built.

    Args:
        max_parameters: The largest number allowed, or None.
        builder, *arguments, **options: As for `models.count_parameters`.

    Raises:
        keras_tuner.errors.FailedTrialError: It has more.
        ValueError: As the builder.

    Example:

    >>> from keras_deeplstm import models, search
    >>> search.check_size(10**6, models.classifier, (8, 8), 10, depth=1000)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    keras_tuner...FailedTrialError: 40,386,610 parameters exceed max_parameters=1,000,000
    """
    if max_parameters is None:
        return
    count = models.count_parameters(builder, *arguments, **options)
    if count > max_parameters:
        raise keras_tuner.errors.FailedTrialError(
            f"{count:,} parameters exceed max_parameters={max_parameters:,}"
        )
