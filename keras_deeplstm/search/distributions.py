"""Hyperparameters of keras-tuner as distributions of Optuna, and the values of both."""

import collections

from keras_tuner.engine.hyperparameters import Boolean, Choice, Float, Int
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution


def suggested(space, trial):
    """Values for what is active in a search space.

    Args:
        space: A `keras_tuner.HyperParameters`.
        trial: An `optuna.Trial`, which suggests them.

    Returns:
        A dict from names to values of keras-tuner: of those hyperparameters whose conditions the
        values before them fulfil.
    """
    found = space.copy()
    found.values = {}
    for hp, name in zip(space.space, _names(space.space), strict=True):
        if found.is_active(hp):
            distribution, value_of = _as_distribution(hp)
            found.values[hp.name] = (
                hp.default if distribution is None else value_of(suggest(trial, name, distribution))
            )
    return found.values


def suggest(trial, name, distribution):
    """A value of Optuna, or the one that the trial has already."""
    if isinstance(distribution, CategoricalDistribution):
        return trial.suggest_categorical(name, distribution.choices)
    kind = trial.suggest_int if isinstance(distribution, IntDistribution) else trial.suggest_float
    ends = distribution.low, distribution.high
    return kind(name, *ends, step=distribution.step, log=distribution.log)


def parameters(space, values):
    """The other way: `(distribution, value)` of Optuna by name, for values of keras-tuner."""
    found = space.copy()
    found.values = values
    known = {}
    for hp, name in zip(space.space, _names(space.space), strict=True):
        if found.is_active(hp) and hp.name in values:
            distribution, value_of = _as_distribution(hp)
            if distribution is not None:
                value = values[hp.name]
                reversed_log = value_of == hp.prob_to_value
                known[name] = distribution, hp.value_to_prob(value) if reversed_log else value
    return known


def combinations(space):
    """All values that `suggested` could return, in a fixed order; a generator of dicts.

    A range without steps counts with the ten values that keras-tuner's grid search takes of it.
    """
    found = space.copy()
    found.values = {}
    hps = space.space

    def walk(index):
        if index == len(hps):
            yield dict(found.values)
        elif not found.is_active(hps[index]):
            yield from walk(index + 1)
        else:
            name, values = hps[index].name, hps[index].values
            # keras-tuner has them in a set where there are no steps.
            for value in sorted(values) if isinstance(hps[index], Int | Float) else values:
                found.values[name] = value
                yield from walk(index + 1)
            del found.values[name]

    return walk(0)


def _names(hps):
    """The names of their parameters in Optuna, which wants one distribution for each name.

    Hyperparameters of one name that belong to different values of another one get these too.
    """
    counts = collections.Counter(hp.name for hp in hps)

    def name(hp):
        if counts[hp.name] == 1:
            return hp.name
        where = ", ".join(f"{c.name}={'|'.join(map(str, c.values))}" for c in hp.conditions)
        return f"{hp.name} ({where})"

    return [name(hp) for hp in hps]


def _as_distribution(hp):
    """`(distribution, value_of)`: one of Optuna, and how its values become keras-tuner's.

    None for what has a single value.
    """
    if isinstance(hp, Choice):
        return CategoricalDistribution(hp.values), _itself
    if isinstance(hp, Boolean):
        return CategoricalDistribution([False, True]), bool
    if not isinstance(hp, Int | Float) or hp.min_value == hp.max_value:
        return None, None
    kind, of = (IntDistribution, int) if isinstance(hp, Int) else (FloatDistribution, float)
    low, high = hp.min_value, hp.max_value
    if hp.sampling == "linear":
        # keras-tuner ends with the last step below the upper limit, Optuna wants it for the limit.
        step = {} if hp.step is None else {"step": hp.step}
        last = high if hp.step is None else max(hp.values)
        return kind(low, last, **step), of
    if hp.sampling == "log" and hp.step is None:
        return kind(low, high, log=True), of
    if hp.step is not None:  # each a multiple of the one before
        return CategoricalDistribution(sorted(hp.values)), of
    # Reversed logarithms Optuna does not have: it chooses where between the limits, from 0 to 1.
    return FloatDistribution(0, 1), hp.prob_to_value


def _itself(value):
    return value
