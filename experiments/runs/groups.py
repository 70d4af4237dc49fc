"""Runs that differ in seed and fold only, taken together: means and intervals."""

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from keras_deeplstm.experiments import runs
from keras_deeplstm.experiments.settings import Config


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

    config: Config
    label: str  # the model, with the settings in which groups differ, without the depth
    runs: list[runs.Run]

    @property
    def name(self) -> str:
        """The label and the depth."""
        return f"{self.label}, depth {self.config.model.depth}"

    @property
    def accuracy(self) -> Estimate:
        """Test accuracy."""
        return self.mean("test_accuracy")

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
    # Imported here, so that the command's help need not wait for SciPy.
    from scipy import stats

    half = stats.t.ppf(0.975, len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
    return Estimate(mean, mean - half, mean + half, len(values))


def group_runs(finished: list[runs.Run]) -> list[Group]:
    """Group runs by all settings but seed and fold, in the order in which they come.

    Two runs of the very same settings are no two samples: the second is a group of its own, with
    the name of its folder for a label.
    """
    groups: dict[Config, list[runs.Run]] = {}
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


def labels(configs: list[Config]) -> list[str]:
    """The models' labels, with the settings that a label does not tell and that have many values.

    The depth, the seed and the fold are not part of it, nor is how it was compiled, nor a budget of
    parameters that belongs to a depth.
    """
    by_subject: dict[str, list[Config]] = {}
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
    unused = "model.units" if model.parameters else "model.parameters"
    words = [f"{n.removeprefix('model.')} {settings[n]}" for n in names if n != unused]
    return " ".join([model.label, *words])


def percent_text(estimate: Estimate) -> str:
    """``"97.2%"``, ``"97.2% (96.9–97.5)"`` for two values, ``"97.2% ± 0.4"`` for more."""
    mean = f"{estimate.mean:.1%}"
    if estimate.count == 1:
        return mean
    if estimate.count == 2:
        return f"{mean} ({100 * estimate.low:.1f}–{100 * estimate.high:.1f})"
    return f"{mean} ± {100 * (estimate.high - estimate.mean):.1f}"


def number_text(estimate: Estimate) -> str:
    """``"1.523"``, ``"1.523 (1.519–1.527)"`` for two values, ``"1.523 ± 0.004"`` for more."""
    mean = f"{estimate.mean:.3f}"
    if estimate.count == 1:
        return mean
    if estimate.count == 2:
        return f"{mean} ({estimate.low:.3f}–{estimate.high:.3f})"
    return f"{mean} ± {estimate.high - estimate.mean:.3f}"


def counts_text(counts: list[int]) -> str:
    """The median, and the range if there are several: ``"5,000 (4,000–7,000)"``."""
    if not counts:
        return "–"
    text = f"{statistics.median(counts):,.0f}"
    return f"{text} ({min(counts):,}–{max(counts):,})" if len(counts) > 1 else text


def share_text(successes: int, runs: int) -> str:
    """How many of the runs, and from three on the 95 % Wilson interval of the share."""
    counts = f"{successes} of {runs}"
    if runs < 3:
        return counts
    from scipy import stats

    interval = stats.binomtest(successes, runs).proportion_ci(method="wilson")
    return f"{counts} ({interval.low:.0%}–{interval.high:.0%})"


def ratio_text(ratio: float | None) -> str:
    """Two significant digits: ``0.41``, ``1.0``, ``12``, ``2.1e-7``; a dash for None."""
    if ratio is None:
        return "–"
    if ratio == 0 or 1e-3 <= ratio < 1e4:
        return f"{ratio:#.2g}".rstrip(".") if ratio < 100 else f"{ratio:.0f}"
    mantissa, exponent = f"{ratio:.1e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def median_text(values: list[float], text: Callable[[Any], str] = ratio_text) -> str:
    """The median in the words of `text`, by default as a ratio; a dash without values."""
    return text(statistics.median(values)) if values else "–"


def ratios_text(ratios: list[float]) -> str:
    """The median, and the range if there are several: ``"0.41 (0.2–0.8)"``."""
    if not ratios:
        return ratio_text(None)
    text = ratio_text(statistics.median(ratios))
    if len(ratios) > 1:
        text += f" ({ratio_text(min(ratios))}–{ratio_text(max(ratios))})"
    return text
