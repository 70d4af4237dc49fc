"""Optuna's samplers by name. Each trial gets a fresh one, seeded by its number.

A sampler that lives on would propose the same again after a restart, and other values if there are
several processes. Here the values of a trial depend on the seed, on its number and, of samplers
that learn, on the trials that have ended.
"""

import contextlib
import importlib.util
import itertools
import zlib

import numpy as np
import optuna

from keras_deeplstm import validation
from keras_deeplstm.search.distributions import combinations

SAMPLERS = {
    "random": optuna.samplers.RandomSampler,
    "tpe": optuna.samplers.TPESampler,
    "nsga2": optuna.samplers.NSGAIISampler,
    "gp": optuna.samplers.GPSampler,
    "cmaes": optuna.samplers.CmaEsSampler,
}
NEEDS = {"gp": ("torch", "scipy"), "cmaes": ("cmaes",)}  # packages that Optuna does not bring
NAMES = (*SAMPLERS, "grid")


def checked(sampler):
    """The sampler itself, if it is one that there is; ValueError, ImportError: it is none."""
    if callable(sampler):
        return sampler
    validation.one_of("sampler", sampler, NAMES)
    for package in NEEDS.get(sampler, ()):
        if importlib.util.find_spec(package) is None:
            raise ImportError(
                f"Sampler {sampler!r} needs the package {package!r}, which Optuna does not bring: "
                f"pip install {package}"
            )
    return sampler


class PerTrial(optuna.samplers.BaseSampler):
    """A sampler of Optuna that makes a fresh one for each trial.

    Args:
        make: A function from a seed to a sampler.
        seed: An int from which, with the number of the trial, that seed comes.
    """

    def __init__(self, make, seed):
        self._make, self._seed, self._made, self._fixed = make, seed, {}, {}

    def _of(self, trial):
        if trial.number not in self._made:
            self._made[trial.number] = self._make(self._seed_of(trial))
        return self._made[trial.number]

    def _seed_of(self, trial, name=""):
        words = [self._seed, trial.number, zlib.crc32(name.encode())]
        return int(np.random.SeedSequence(words).generate_state(1)[0])

    @contextlib.contextmanager
    def fixed(self, number, parameters):
        """Within this context a trial gets these values, by the names of Optuna."""
        self._fixed[number] = parameters
        try:
            yield
        finally:
            del self._fixed[number]

    def infer_relative_search_space(self, study, trial):
        """That of the trial's sampler."""
        return self._of(trial).infer_relative_search_space(study, trial)

    def sample_relative(self, study, trial, search_space):
        """Values of the trial's sampler that depend on each other."""
        return self._of(trial).sample_relative(study, trial, search_space)

    def sample_independent(self, study, trial, param_name, param_distribution):
        """A value that depends on no other one of the trial.

        So it is the same if the trial is taken up by a process that finds the others chosen.
        """
        if trial.number in self._fixed:
            return self._fixed[trial.number][param_name]
        one = self._make(self._seed_of(trial, param_name))
        return one.sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study, trial):
        """Tell the trial's sampler that it begins."""
        self._of(trial).before_trial(study, trial)

    def after_trial(self, study, trial, state, values):
        """Tell the trial's sampler that it has ended."""
        self._of(trial).after_trial(study, trial, state, values)
        del self._made[trial.number]


def grid_entry(space, number):
    """The values that trial `number` of a grid has; None if the grid has fewer."""
    return next(itertools.islice(combinations(space), number, None), None)
