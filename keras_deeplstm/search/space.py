"""What is searched: ranges of the options of a model and of its training."""

import functools

import keras

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


class Space:
    """The hyperparameters of a search, and their values in a trial.

    Args:
        ranges: Name -> range, values or value. Names are `block`, `depth`, `units`, `dropout`,
            `tied`, `normalization`, `forget_bias`, `learning_rate`, `batch_size`. An option that a
            block does not have is left out where that block is chosen.

    Raises:
        ValueError: `block` names no block.

    Example:

    >>> import keras_tuner
    >>> from keras_deeplstm.search import Space
    >>> space = Space({"block": ["unfolded_lstm", "dense"], "depth": (2, 50), "tied": True})
    >>> space(keras_tuner.HyperParameters())
    {'block': 'unfolded_lstm', 'depth': 2, 'tied': True}
    """

    def __init__(self, ranges):
        self.ranges = dict(ranges)
        blocks = self.ranges.get("block", [])
        self._blocks = blocks if isinstance(blocks, list) else [blocks]
        for block in self._blocks:
            validation.one_of("block", block, (*models.BLOCKS, *models.SEQUENCE_BLOCKS))

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
            owners = [block for block in self._blocks if _has(block, name)]
            if owners == self._blocks:
                self._declare(hp, name, values)
            elif owners and isinstance(self.ranges["block"], list):
                with hp.conditional_scope("block", owners):
                    self._declare(hp, name, values)
        return self.options(hp.values)

    def _declare(self, hp, name, values):
        known = name in (*OVER_DEPTH, *LOGARITHMIC)
        whole = name in INTEGERS if known else all(type(end) is int for end in values)
        declare(hp, name, values, whole, name in LOGARITHMIC, _is_category(name))

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
            if block is None or _has(block, name)
        }

    def _value(self, name, values):
        among = self.ranges[name]
        if not isinstance(among, list | tuple):
            return among
        return value_of(among, values[name], _is_category(name))


def declare(hp, name, values, whole, logarithmic, by_label):
    """Let keras-tuner know a range or a list of values.

    Numbers of a range are integers if it is `whole`. Values `by_label` may be of any types: it
    chooses among values of one type only, and knows no None. A ValueError or TypeError says what it
    refuses.
    """
    try:
        if isinstance(values, list):
            hp.Choice(name, list(labels(values)) if by_label else values)
        else:
            kind = hp.Int if whole else hp.Float
            kind(name, *values, sampling="log" if logarithmic else "linear")
    except (TypeError, ValueError) as error:
        raise type(error)(f"Argument `{name}`: {error}") from None


def value_of(values, chosen, by_label):
    """What keras-tuner's choice from a declared range or list stands for."""
    if isinstance(values, list):
        return labels(values)[chosen] if by_label else chosen
    return float(f"{chosen:.{DIGITS}g}") if isinstance(chosen, float) else chosen


def labels(values):
    """The values by the texts that keras-tuner knows."""
    return {str(value): value for value in values}


def _is_category(name):
    return name == "block" or name in BLOCK_OPTIONS


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
