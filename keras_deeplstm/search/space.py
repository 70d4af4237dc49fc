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
