"""A budget of parameters: the largest units that fit; how many a model has before it is built."""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import keras

from keras_deeplstm import validation
from keras_deeplstm.layers.depth_layer import MAX_UNITS

DEFAULT_UNITS = 100


class Design(NamedTuple):
    """A model that is not built yet.

    Attributes:
        total: Its number of parameters with so many units.
        build: Builds it with so many units.
        default_units: So many it has if neither units nor parameters are given.
    """

    total: Callable[[int], int]
    build: Callable[[int], keras.Model]
    default_units: int = DEFAULT_UNITS


def budgeted(design):
    """Make a builder of a function that returns a `Design`.

    The function has the keyword arguments `units` and `parameters`, of which the builder makes the
    number of units.
    """

    def chosen(*arguments, **options):
        found = design(*arguments, **options)
        return found, _chosen_units(options.get("units"), options.get("parameters"), found)

    @functools.wraps(design)
    def builder(*arguments, **options):
        found, units = chosen(*arguments, **options)
        return found.build(units)

    def count(*arguments, **options):
        found, units = chosen(*arguments, **options)
        return found.total(units)

    builder.count = count
    return builder


def count_parameters(builder, *arguments, **options):
    """The number of parameters of a model, trainable or not, before it is built.

    That of a model by a function of your own is counted after it.

    Args:
        builder: A function of this module, or of your own.
        *arguments: Its positional arguments.
        **options: Its keyword arguments.

    Returns:
        The number, an int of any size.

    Raises:
        ValueError: As the builder.

    Example:

    >>> from keras_deeplstm import models
    >>> models.count_parameters(models.classifier, (28, 28, 1), 10, depth=10_000, units=1000)
    40039146010
    """
    while isinstance(builder, functools.partial):
        arguments = (*builder.args, *arguments)
        options = {**builder.keywords, **options}
        builder = builder.func
    if hasattr(builder, "count"):
        return builder.count(*arguments, **options)
    return builder(*arguments, **options).count_params()


def count_weights(layer, features):
    """Number of parameters of one of our layers for inputs with `features` features."""
    return sum(math.prod(shape) for shape in layer.weight_shapes(features).values())


def _chosen_units(units, parameters, design):
    """`units`, or the largest units with which a `Design` has at most that many parameters."""
    total = design.total
    if parameters is None:
        return validation.positive_integer(
            "units", design.default_units if units is None else units
        )
    if units is not None:
        raise ValueError(
            f"Pass either `units` or `parameters`. Received: units={units}, parameters={parameters}"
        )
    budget = validation.positive_integer("parameters", parameters)
    if total(1) > budget:
        raise ValueError(
            f"No `units` fit the budget: one unit needs {total(1)} parameters. "
            f"Received: parameters={budget}"
        )
    # Beyond MAX_UNITS the blocks refuse `units`, which the caller has not given.
    fits, too_many = 1, 2
    while too_many <= MAX_UNITS and total(too_many) <= budget:
        fits, too_many = too_many, 2 * too_many
    too_many = min(too_many, MAX_UNITS + 1)
    while too_many - fits > 1:
        middle = (fits + too_many) // 2
        fits, too_many = (middle, too_many) if total(middle) <= budget else (fits, middle)
    return fits
