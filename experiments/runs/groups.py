"""Runs that differ in seed and fold only, taken together: means and intervals."""

import math
import statistics
from dataclasses import dataclass

from keras_deeplstm.experiments.runs.reading import Run
from keras_deeplstm.experiments.settings import Settings


@dataclass(frozen=True)
class Estimate:
    """A mean and an interval around it."""

    mean: float
    low: float
    high: float
    count: int
    """Number of values. From three on the interval is the 95 % t-interval of the mean; of two
    values it is the range from the lower to the higher, of one that value."""


@dataclass(frozen=True)
class Group:
    """Runs of one model and training setting, for several seeds and folds."""

    config: Settings
    label: str  # the model, with the settings in which groups differ, without the depth
    runs: list[Run]

    @property
    def name(self) -> str:
        """The label and the depth."""
        return f"{self.label}, depth {self.config.model.depth}"

    @property
    def score(self) -> Estimate:
        """The metric of the task on the test data."""
        return self.mean(f"test_{self.config.measure.name}")

    def mean(self, key: str) -> Estimate:
        """Of what `result.json` says under `key`."""
        return estimate(self.values(key))

    def values(self, key: str) -> list[float]:
        """What `result.json` says under `key`, of the runs that have it."""
        values = (run.result.get(key) for run in self.runs)
        return [value for value in values if value is not None]


def estimate(values: list[float]) -> Estimate:
    """The mean of at least one value with its interval."""
    mean = statistics.fmean(values)
    if len(values) < 3:
        return Estimate(mean, min(values), max(values), len(values))
    from scipy import stats  # the command's help does not wait for SciPy

    half = stats.t.ppf(0.975, len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
    return Estimate(mean, mean - half, mean + half, len(values))


def group_runs(finished: list[Run]) -> list[Group]:
    """Group runs by all settings but seed and fold, in the order in which they come.

    A second run of the same settings is a group of its own, with its folder's name for a label.
    """
    groups: dict[Settings, list[Run]] = {}
    repeated = []
    for run in finished:
        assert run.config is not None
        members = groups.setdefault(run.config.repeated(0), [])
        if any(member.config == run.config for member in members):
            repeated.append(Group(run.config, run.name, [run]))
        else:
            members.append(run)
    return [
        Group(config, label, members)
        for (config, members), label in zip(groups.items(), labels(list(groups)), strict=True)
    ] + repeated


def labels(configs: list[Settings]) -> list[str]:
    """The models' labels, with the settings that a label does not tell and that have many values.

    The depth, the seed and the fold are not part of it, nor is how it was compiled, nor a budget of
    parameters that belongs to a depth.
    """
    by_subject: dict[str, list[Settings]] = {}
    for config in configs:
        by_subject.setdefault(config.subject, []).append(config)
    named = {subject: _varying(some) for subject, some in by_subject.items()}
    return [_label(c.model, c.flat(), named[c.subject]) for c in configs]


def _varying(configs):
    """The settings of configs of one task that have many values."""
    flat = [config.flat() for config in configs]
    told = ("task", "text", "seed", "fold", "jit_compile")
    names = ["model.units", *(n for n in flat[0] if not n.startswith("model.") and n not in told)]
    many = [name for name in names if len({settings[name] for settings in flat}) > 1]
    budgets = {(c.model.depth, c.model.parameters) for c in configs if c.model.parameters}
    if len(budgets) > len({depth for depth, _ in budgets}):
        many.insert(0, "model.parameters")
    return many


def _label(model, settings, names):
    unused = ["model.units"] if model.parameters else ["model.parameters"]
    unused += ["model.units"] if model.own else []  # which has options in their place
    words = [f"{n.removeprefix('model.')} {settings[n]}" for n in names if n not in unused]
    return " ".join([model.label, *words])
