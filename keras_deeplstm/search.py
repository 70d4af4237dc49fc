"""Search spaces for keras-tuner: depth, state size, dropout, and what else decides a deep model.

A `HyperModel` goes into any tuner of keras-tuner. In the arguments of this module a tuple
`(low, high)` is a range, a list `[a, b, ...]` are values to choose from, and anything else is
fixed.
"""

import functools
import inspect

import keras
import keras_tuner

from keras_deeplstm import models, validation
from keras_deeplstm.layers import GridLSTM2D

INTEGERS = ("depth", "units", "batch_size")
# Where a step from 2 to 4 means as much as one from 25 to 50.
LOGARITHMIC = (*INTEGERS, "learning_rate")
# What not every block has.
BLOCK_OPTIONS = ("tied", "normalization", "forget_bias")
TRAINING = ("learning_rate", "batch_size")
DIGITS = 3  # of a float in a range: enough to tell models apart, few enough to be typed again

OVER_DEPTH = {
    "block": "unfolded_lstm",
    "depth": (2, 50),
    "units": (16, 128),
    "dropout": (0.0, 0.5),
    "tied": [False, True],
    "normalization": [None, "batch", "layer"],
    "forget_bias": ["depth", 1.0],
    "learning_rate": (1e-4, 1e-2),
    "batch_size": [32, 64, 128],
}
OVER_TIME_AND_DEPTH = {
    **OVER_DEPTH,
    "block": "grid_lstm",
    "depth": (1, 8),
    "tied": [False, "depth", True],
    "normalization": [None, "layer"],
    "forget_bias": (0.0, 3.0),
}

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


class Space:
    """The hyperparameters of a search, and their values in a trial.

    Args:
        ranges: Name -> range, values or value. Names are `block`, `depth`, `units`, `dropout`,
            `tied`, `normalization`, `forget_bias`, `learning_rate`, `batch_size`. An option that a
            block does not have is left out where that block is chosen.
        own: Blocks that are not of this package, each with the names of its options. Nothing else
            but the training is searched where such a block is chosen.

    Raises:
        ValueError: `block` names no block.

    Example:

    >>> import keras_tuner
    >>> from keras_deeplstm.search import Space
    >>> space = Space({"block": ["unfolded_lstm", "dense"], "depth": (2, 50), "tied": True})
    >>> space(keras_tuner.HyperParameters())
    {'block': 'unfolded_lstm', 'depth': 2, 'tied': True}
    """

    def __init__(self, ranges, own=None):
        self.ranges = dict(ranges)
        self.own = dict(own or {})
        blocks = self.ranges.get("block", [])
        self._blocks = blocks if isinstance(blocks, list) else [blocks]
        for block in self._blocks:
            validation.one_of("block", block, (*models.BLOCKS, *models.SEQUENCE_BLOCKS, *self.own))

    @property
    def searched(self):
        """Names of the hyperparameters that have more than one value, in order."""
        return [
            name
            for name, values in self.ranges.items()
            if (isinstance(values, list) and len(values) != 1)
            or (isinstance(values, tuple) and values[0] != values[-1])
        ]

    def __call__(self, hp):
        """Declare what is searched, and return the options of this trial.

        Args:
            hp: A `keras_tuner.HyperParameters`.

        Returns:
            A dict of the options that have a meaning for the chosen block, fixed ones included.

        Raises:
            ValueError, TypeError: keras-tuner refuses a range; the message names it.
        """
        for name, values in self.ranges.items():
            if not isinstance(values, list | tuple):
                continue
            owners = [block for block in self._blocks if self._has(block, name)]
            if owners == self._blocks:
                self._declare(hp, name, values)
            elif owners and isinstance(self.ranges["block"], list):
                with hp.conditional_scope("block", owners):
                    self._declare(hp, name, values)
        return self.options(hp.values)

    def _declare(self, hp, name, values):
        try:
            if isinstance(values, list):
                hp.Choice(name, list(_labels(values)) if _is_category(name) else values)
            else:
                known = name in (*OVER_DEPTH, *LOGARITHMIC)
                whole = name in INTEGERS if known else all(type(end) is int for end in values)
                kind = hp.Int if whole else hp.Float
                kind(name, *values, sampling="log" if name in LOGARITHMIC else "linear")
        except (TypeError, ValueError) as error:
            raise type(error)(f"Argument `{name}`: {error}") from None

    def options(self, values):
        """Return the options that the values of a trial stand for.

        Args:
            values: Name -> value, as keras-tuner has them.

        Returns:
            A dict, as from calling the space.
        """
        block = self._value("block", values) if self._blocks else None
        return {
            name: self._value(name, values)
            for name in self.ranges
            if block is None or self._has(block, name)
        }

    def _has(self, block, name):
        if block in self.own:
            return name in ("block", *TRAINING, *self.own[block])
        return not any(name in options for options in self.own.values()) and _has(block, name)

    def _value(self, name, values):
        among = self.ranges[name]
        if not isinstance(among, list | tuple):
            return among
        value = values[name]
        if isinstance(among, list):
            return _labels(among)[value] if _is_category(name) else value
        return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def _is_category(name):
    return name == "block" or name in BLOCK_OPTIONS


def _labels(values):
    # keras-tuner chooses among values of one type only, and knows no None.
    return {str(value): value for value in values}


@functools.cache
def _has(block, option):
    """Whether the layers of a block have an option."""
    if option not in BLOCK_OPTIONS:
        return True
    if block in models.BLOCKS:
        layer = models.BLOCKS[block](units=1, depth=1)
    else:
        layer = GridLSTM2D(1, 1) if block == "grid_lstm" else keras.layers.LSTM(1)
    return option in layer.get_config()


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
