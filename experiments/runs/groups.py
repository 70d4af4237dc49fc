"""Runs that differ in seed and fold only, taken together: means and intervals."""

import math
import statistics
from dataclasses import dataclass
from typing import Any

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
    """The models' names, with the arguments, as code, that tell them from others of their block.

    Of one task there are as few arguments as possible; those with their default value are left out.
    The depth, the seed and the fold are not part of it, nor is how it was compiled, nor a budget of
    parameters that belongs to a depth.

    Example:

    >>> from keras_deeplstm.experiments import ModelConfig, RunConfig
    >>> from keras_deeplstm.experiments.runs.groups import labels
    >>> models = ModelConfig(units=8), ModelConfig(units=8, tied=True), ModelConfig("dense")
    >>> labels([RunConfig("digits", model) for model in models])
    ['UnfoldedLSTMBlock', 'UnfoldedLSTMBlock(tied=True)', 'DenseStack']
    """
    alike: dict[tuple[str, str], list[Settings]] = {}
    for config in configs:
        alike.setdefault((config.subject, config.model.words), []).append(config)
    found: dict[Settings, str] = {}
    for some in alike.values():
        found |= _labels_of_one_block(some)
    return [found[config] for config in configs]


def _labels_of_one_block(configs):
    """A dict from configs to labels: the same at each depth, if it is the same model."""
    settings = [_settings(config) for config in configs]
    names = _telling(settings)
    values = [tuple(one[name] for name in names) for one in settings]
    by_depth: dict[int, set[tuple[Any, ...]]] = {}
    for config, own in zip(configs, values, strict=True):
        by_depth.setdefault(config.model.depth, set()).add(own)
    found = {}
    for config, own in zip(configs, values, strict=True):
        others = set().union(*(some for some in by_depth.values() if own in some)) - {own}
        needed = []
        for number, name in enumerate(names):
            if any(other[number] != own[number] for other in others):
                needed.append(name)
                others = {other for other in others if other[number] == own[number]}
        found[config] = _label(config, needed)
    return found


def _telling(settings):
    """The names of the settings that tell models of one depth apart, of as few as possible."""
    found = ["model.depth"]
    for name in settings[0]:
        parts: dict[tuple[Any, ...], set[Any]] = {}
        for one in settings:
            parts.setdefault(tuple(one[known] for known in found), set()).add(one[name])
        if any(len(values) > 1 for values in parts.values()):
            found.append(name)
    return found[1:]


def _settings(config):
    """All settings that a label may tell, those of the size after those of the kind."""
    flat = config.flat()
    flat |= {f"model.{name}": value for name, value in flat.pop("model.options", {}).items()}
    told = ("task", "text", "seed", "fold", "jit_compile", "model.block")
    size = ("model.units", "model.parameters")
    model = [name for name in flat if name.startswith("model.") and name not in size]
    training = [name for name in flat if not name.startswith("model.")]
    return {name: flat[name] for name in (*model, *size, *training) if name not in told}


def _label(config, names):
    settings, usual = _settings(config), type(config.model)().to_dict()
    unused = "model.units" if config.model.parameters or config.model.own else "model.parameters"
    arguments = []
    for name in names:
        short, value = name.removeprefix("model."), settings[name]
        of_kind = name.startswith("model.") and short not in ("units", "parameters", "connection")
        if name != unused and not (of_kind and short in usual and value == usual[short]):
            # A registered initializer of ours is named "package>name".
            text = f'"{value.rpartition(">")[2]}"' if isinstance(value, str) else str(value)
            arguments.append(f"{short}={text}")
    return config.model.words + (f"({', '.join(arguments)})" if arguments else "")
