"""What every study has: a question, the runs that answer it, and the answer."""

import dataclasses
import itertools
import math
import re
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, ClassVar

from keras_deeplstm import validation
from keras_deeplstm.experiments.runs.groups import Estimate, Group, labels
from keras_deeplstm.experiments.settings import ConfigError
from keras_deeplstm.experiments.settings import Settings as Config
from keras_deeplstm.experiments.settings.base import differences as changes_of
from keras_deeplstm.experiments.settings.classifiers import RunConfig
from keras_deeplstm.experiments.tasks import TASKS, get_task, resolve
from keras_deeplstm.experiments.tasks.measures import Measure
from keras_deeplstm.experiments.words import enumerate_words, estimate_text

LONGEST = 100  # characters of a task in the name of a folder

depth_of = attrgetter("config.model.depth")  # of a group


def best_first(groups: list[Group]) -> list[str]:
    """An answer for any study: the model that is best on the test data, and the next ones.

    Args:
        groups: Finished runs, grouped into those that differ in seed and fold only.

    Returns:
        Sentences, one or two for each task.

    Example:

    >>> import pathlib
    >>> from keras_deeplstm.experiments import ModelConfig, RunConfig, runs
    >>> from keras_deeplstm.experiments.studies import best_first
    >>> from keras_deeplstm.experiments.runs.groups import group_runs
    >>> def finished(block, accuracy):
    ...     config = RunConfig("digits", ModelConfig(block))
    ...     return runs.Run(pathlib.Path("a"), config, "finished", "", {"test_accuracy": accuracy})
    >>> best_first(group_runs([finished("dense", 0.91), finished("highway", 0.94)]))[0]
    'On digits, the highest test accuracy is that of HighwayBlock, depth 10 (94.0%).'
    """
    sentences = []
    for task, members in by_subject(groups):
        names = [f"{group.name} ({score_text(group)})" for group in ranked(members)]
        measure = members[0].config.measure
        best = f"{measure.best} test {measure.words}"
        sentences.append(f"On {task}, the {best} is that of {names[0]}.")
        if names[1:]:
            sentences.append(f"Then come {enumerate_words(names[1:4])}.")
    return sentences


def score(group: Group) -> float:
    """The mean of the number by which models are compared, on the test data."""
    return group.score.mean


def score_text(group: Group) -> str:
    """The same as text, with its interval."""
    return estimate_text(group.score, group.config.measure.form)


def ranked(groups: list[Group]) -> list[Group]:
    """The groups, that of the best score first."""
    return sorted(groups, key=lambda group: group.config.measure.best_first(score(group)))


def without_rates(groups: list[Group]) -> list[Group]:
    """The groups, with labels that do not tell the learning rate: it was found for each model."""
    names = labels([dataclasses.replace(group.config, learning_rate=1.0) for group in groups])
    return [dataclasses.replace(g, label=name) for g, name in zip(groups, names, strict=True)]


def best_rates(groups: list[Group], measure: Measure | None = None) -> list[str]:
    """An answer: for each model and depth, the learning rate that is best on the validation data.

    Args:
        groups: See `best_first`.
        measure: What they are judged by; None is the metric of their task.
    """
    measure = measure or groups[0].config.measure
    sentences, rates = [], []
    for label, members in grouped(without_rates(groups), attrgetter("label")).items():
        found = []
        for depth, rated in sorted(grouped(members, depth_of).items()):
            best = min(rated, key=lambda group: measure.best_first(validated(group, measure).mean))
            value = estimate_text(validated(best, measure), measure.form)
            rates.append(best.config.learning_rate)
            found.append(f"{best.config.learning_rate:g} at depth {depth} ({value})")
        sentences.append(f"{label}: {enumerate_words(found)}.")
    usual = statistics.mode(rates)
    first = (
        f"By the validation {measure.words}, the best learning rate is most often {usual:g} "
        f"({rates.count(usual)} of {len(rates)})."
    )
    return [first, *sentences]


def validated(group: Group, measure: Measure) -> Estimate:
    """The mean of a measure on the validation data."""
    return group.mean(f"val_{measure.name}")


def differences(group: Group, base: Group, key: str) -> list[float]:
    """What `group` has more than `base` of a result, for each of the seeds that both have."""
    values, others = (
        {run.config.repetition: run.result[key] for run in one.runs if run.config}
        for one in (group, base)
    )
    return [value - others[same] for same, value in values.items() if same in others]


def by_subject(groups: list[Group]) -> list[tuple[str, list[Group]]]:
    """The groups of each task or text, with its name, in alphabetical order."""
    return sorted(grouped(groups, attrgetter("config.subject")).items())


def grouped(items: Iterable[Any], key: Callable[[Any], Any]) -> dict[Any, list[Any]]:
    """Lists of the items that have the same key, by their keys, in the order they come in."""
    found: dict[Any, list[Any]] = {}
    for item in items:
        found.setdefault(key(item), []).append(item)
    return found


@dataclass(frozen=True)
class Study:
    """A question and the runs that answer it.

    Example:

    >>> from keras_deeplstm.experiments import ModelConfig, RunConfig, Study, grid
    >>> def configs(task):
    ...     return grid(RunConfig(task, ModelConfig(units=16)), {"model.depth": (2, 4)})
    >>> study = Study("how-deep", "How deep must a network be?", ("digits", "mnist"), configs)
    >>> list(study.plan("digits"))[0]
    'digits-unfolded_lstm-untied-depth2-units16-seed0'
    >>> study.folder_name("digits", epochs=5)
    'how-deep-digits-epochs5'
    """

    name: str
    """Under which it is registered; part of the name of its folder."""
    question: str
    """What it answers, the heading of its report."""
    datasets: tuple[str, ...]
    """Tasks, or texts, on which it can be run; the first is the default. None if its runs have
    tasks of their own."""
    configs: Callable[[str], list[Config]]
    """The runs on a task. Their seeds and folds do not count: the study is run for several."""
    answer: Callable[[list[Group]], list[str]] = best_first
    """Sentences computed from the finished runs, at least one of them, that are grouped into those
    that differ in seed and fold only; the first sentence is the answer."""
    remark: str = ""
    """What differs from the source of the question, for whoever compares numbers."""
    own_data: bool = False
    """Whether it can also be run on data of the user's own."""
    needs: str | None = None
    """The metric that a task must have, if the answer is of no other."""
    most_seeds: Callable[[Config], float] = lambda _: math.inf
    """Of how many seeds a run is at most, however many the user asks for."""

    config: ClassVar[type[Any]] = RunConfig
    restarts: ClassVar[int] = 1
    """How many times a run without success is tried again, if the user does not say."""

    def checked(self, dataset: str | None) -> str:
        """The dataset, a path made absolute; None is the default, "" that of a study without any.

        Args:
            dataset: What the user has asked for, or None.

        Returns:
            A name, a path, or "".

        Raises:
            ValueError: The study cannot be run on it.
        """
        if dataset is None:
            return self.datasets[0] if self.datasets else ""
        if not self.datasets:
            raise ValueError(f"The runs of study {self.name!r} have tasks of their own")
        if dataset in self.datasets or not self.own_data:
            return validation.one_of("dataset", dataset, self.datasets)
        return self._own(dataset)

    def _own(self, dataset):
        dataset = resolve(dataset)
        if dataset in TASKS:
            return validation.one_of("dataset", dataset, self.datasets)
        metric = get_task(dataset).measure.name
        if self.needs not in (None, metric):
            raise ValueError(
                f"Study {self.name!r} needs a task whose metric is {self.needs}. That of "
                f"{dataset!r} is {metric}"
            )
        return dataset

    def plan(
        self, dataset: str, epochs: int | None = None, seeds: int = 1, folds: int | None = None
    ) -> dict[str, Config]:
        """All runs by the names of their folders, seed by seed.

        Args:
            dataset: The task.
            epochs: Passes over the training set; None leaves them to the study.
            seeds: Number of seeds, from 0.
            folds: Number of folds of a cross-validation, or None.

        Returns:
            A dict from names to configs.
        """
        base = [dataclasses.replace(config, seed=0) for config in self.configs(dataset)]
        ends = _told_apart(self._ends(base), settings_not_in_names)
        ends = _told_apart(ends, _settings_that_differ)
        plan: dict[str, Config] = {}
        for seed, fold, config in itertools.product(range(seeds), range(folds or 1), base):
            changes: dict[str, Any] = {"epochs": epochs} if epochs else {}
            changes |= {"folds": folds, "fold": fold + 1} if folds else {}
            if seed >= self.most_seeds(config):
                continue
            end, config = ends[config], dataclasses.replace(config, seed=seed, **changes)
            name = f"{config.slug}{end}"
            if plan.setdefault(name, config) != config:
                raise ConfigError(
                    f"Two runs of study {self.name!r} have the name '{name}'. They differ in "
                    f"{changes_of(plan[name], config)}"
                )
        return plan

    def _ends(self, configs):
        """What stands in the names of runs after their slugs."""
        names = settings_not_in_names(configs)
        return {c: "".join(f"-{name}{c.flat()[name]}" for name in names) for c in configs}

    def folder_name(self, dataset: str, epochs: int | None = None, folds: int | None = None) -> str:
        """Name of the folder for these choices: ``"depth-digits-epochs5"``.

        The number of seeds is not part of it: more seeds are more runs of the same study.

        Args:
            dataset, epochs, folds: As for `plan`.

        Returns:
            The name.
        """
        words = [self.name]
        if dataset:  # a column may have any name
            subject = re.sub(r"[^A-Za-z0-9._-]+", "_", self.config(dataset).subject)
            words.append(subject[:LONGEST].strip("._-") or "data")
        words += [f"epochs{epochs}"] if epochs is not None else []
        words += [f"folds{folds}"] if folds is not None else []
        return "-".join(words)


def settings_not_in_names(configs: list[Config]) -> list[str]:
    """The training settings by which runs of a study differ; a run's name does not tell them."""
    told = ("task", "text", "seed", "fold", "folds")
    names = [name for name in _settings_that_differ(configs) if name not in told]
    return [name for name in names if not name.startswith("model.")]


def _settings_that_differ(configs):
    flat = [config.flat() for config in configs]
    return [name for name in flat[0] if len({settings[name] for settings in flat}) > 1]


def _told_apart(ends, settings_of):
    """The ends of names, by config; of equal names, with the `settings_of` their configs."""
    alike = grouped(ends, lambda config: config.slug + ends[config]).values()
    return {
        config: ends[config] + "".join(f"-{n}-{_word(config.flat()[n])}" for n in settings_of(some))
        for some in alike
        for config in some
    }


def _word(value):
    """A value as a part of a name; of a path, its end."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", str(value))[-60:]


def grid(base: RunConfig, values: dict[str, Any]) -> list[RunConfig]:
    """All combinations of the values of some settings, the last one varying fastest.

    Args:
        base: All other settings.
        values: Name of a setting, as in the command (``"model.depth"``) -> its values.

    Returns:
        A list of `RunConfig`s.

    Raises:
        ConfigError: There is no such setting, or it cannot have that value.

    Example:

    >>> from keras_deeplstm.experiments import RunConfig, grid
    >>> configs = grid(RunConfig("digits"), {"model.depth": (5, 10), "optimizer": ("adam", "sgd")})
    >>> [(config.model.depth, config.optimizer) for config in configs]
    [(5, 'adam'), (5, 'sgd'), (10, 'adam'), (10, 'sgd')]
    """
    configs = []
    for combination in itertools.product(*values.values()):
        data = base.to_dict()
        for name, value in zip(values, combination, strict=True):
            where, _, field = name.rpartition(".")
            if name == "model.options":
                value = {**data["model"]["options"], **value}
            if where == "model":
                data["model"][field] = value
            else:
                data[name] = value
        configs.append(RunConfig.from_dict(data))
    return configs
