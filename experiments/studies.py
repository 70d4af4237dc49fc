"""Studies: named tables of runs that answer one question."""

import dataclasses
import itertools
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from keras_deeplstm.experiments.config import ModelConfig, RunConfig
from keras_deeplstm.experiments.summary import Group, percent_text

# A gradient that shrinks or grows by no more than this factor on its way down is said to arrive.
ARRIVES_WITHIN = 100
DEPTHS = (10, 30, 100)


def best_first(groups: list[Group]) -> list[str]:
    """An answer for any study: the model with the best test accuracy, and the next ones."""
    sentences = []
    for task, members in itertools.groupby(sorted(groups, key=_task), key=_task):
        ranked = sorted(members, key=lambda group: -group.accuracy.mean)
        names = [f"{group.name} ({percent_text(group.accuracy)})" for group in ranked]
        sentences.append(f"On {task}, the highest test accuracy is that of {names[0]}.")
        if names[1:]:
            sentences.append(f"Then come {_enumerate(names[1:4])}.")
    return sentences


def _task(group):
    return group.config.task


@dataclass(frozen=True)
class Study:
    """A question and the runs that answer it."""

    name: str
    question: str
    datasets: tuple[str, ...]
    """Tasks on which it can be run; the first is the default."""
    configs: Callable[[str], list[RunConfig]]
    """The runs on a task. Their seeds and folds do not count: the study is run for several."""
    answer: Callable[[list[Group]], list[str]] = best_first
    """Sentences computed from the finished runs, at least one of them, that are grouped into those
    that differ in seed and fold only; the first sentence is the answer."""

    def plan(
        self, dataset: str, epochs: int | None = None, seeds: int = 1, folds: int | None = None
    ) -> dict[str, RunConfig]:
        """All runs by the names of their folders, seed by seed.

        Args:
            dataset: The task.
            epochs: Passes over the training set; None leaves them to the study.
            seeds: Number of seeds, from 0.
            folds: Number of folds of a cross-validation, or None.
        """
        base = self.configs(dataset)
        settings = _settings_not_in_names(base)
        plan = {}
        for seed, fold, config in itertools.product(range(seeds), range(folds or 1), base):
            changes = {"seed": seed, "folds": folds, "fold": fold + 1}
            config = dataclasses.replace(config, **changes, epochs=epochs or config.epochs)
            words = [f"{name}{config.flat()[name]}" for name in settings]
            plan["-".join([config.slug, *words])] = config
        return plan

    def folder_name(self, dataset: str, epochs: int | None = None, folds: int | None = None) -> str:
        """Name of the folder for these choices: ``"depth-digits-epochs5"``.

        The number of seeds is not part of it: more seeds are more runs of the same study.
        """
        words = [self.name, dataset]
        if epochs is not None:
            words.append(f"epochs{epochs}")
        if folds is not None:
            words.append(f"folds{folds}")
        return "-".join(words)


def _settings_not_in_names(configs):
    """The training settings by which runs of a study differ; a run's name does not tell them."""
    flat = [config.flat() for config in configs]
    told = ("task", "seed", "fold", "folds")
    names = [name for name in flat[0] if name not in told and not name.startswith("model.")]
    return [name for name in names if len({settings[name] for settings in flat}) > 1]


def grid(base: RunConfig, values: dict[str, Any]) -> list[RunConfig]:
    """All combinations of the values of some settings, the last one varying fastest.

    Args:
        base: All other settings.
        values: Name of a setting, as in the command (``"model.depth"``) -> its values.

    Raises:
        ConfigError: There is no such setting, or it cannot have that value.

    Example:

    >>> configs = grid(RunConfig("digits"), {"model.depth": (5, 10), "optimizer": ("adam", "sgd")})
    >>> [(config.model.depth, config.optimizer) for config in configs]
    [(5, 'adam'), (5, 'sgd'), (10, 'adam'), (10, 'sgd')]
    """
    configs = []
    for combination in itertools.product(*values.values()):
        data = base.to_dict()
        for name, value in zip(values, combination, strict=True):
            where, _, field = name.rpartition(".")
            if where == "model":
                data["model"][field] = value
            else:
                data[name] = value
        configs.append(RunConfig.from_dict(data))
    return configs


def _depth_configs(dataset):
    models = (
        ModelConfig(),
        ModelConfig(tied=True),
        ModelConfig(block="dense", activation="tanh", kernel_initializer="glorot_uniform"),
        ModelConfig(block="dense", activation="relu", kernel_initializer="he_normal"),
    )
    settings = {
        "digits": {"epochs": 20, "batch_size": 64, "gradient_every": 5},
        "mnist": {"epochs": 3, "batch_size": 128, "gradient_every": 20},
    }[dataset]
    return [
        RunConfig(dataset, dataclasses.replace(model, depth=depth), **settings)
        for depth in DEPTHS
        for model in models
    ]


def _depth_answer(groups):
    sentences = []
    for depth in sorted({group.config.model.depth for group in groups}, reverse=True):
        verdicts = {}
        for group in groups:
            if group.config.model.depth == depth and (verdict := _verdict(group)):
                verdict, unanimous = verdict
                accuracy = f"{percent_text(group.accuracy)} test accuracy{unanimous}"
                verdicts.setdefault(verdict, []).append(f"{group.label} ({accuracy})")
        if verdicts:
            clauses = [f"{verdict} in {_enumerate(names)}" for verdict, names in verdicts.items()]
            sentences.append(f"At depth {depth} the gradient {_enumerate(clauses)}.")
    sentences = sentences or ["No finished run has a gradient for each step."]
    return [
        *sentences,
        f"It arrives if, at the start and at the end of training, its norm at the first recurrent "
        f"matrix is at least 1/{ARRIVES_WITHIN} of and at most {ARRIVES_WITHIN} times that at the "
        f"last; else it fades or grows. A model whose steps share one matrix has no such ratio.",
    ]


def _verdict(group):
    """What most runs of a group say, and how many if not all of them do."""
    verdicts = [verdict for run in group.runs if (verdict := _verdict_of_run(run.result))]
    if not verdicts:
        return None
    verdict = statistics.mode(verdicts)
    count = verdicts.count(verdict)
    unanimous = "" if count == len(verdicts) else f", in {count} of {len(verdicts)} runs"
    return verdict, unanimous


def _verdict_of_run(result):
    ratios = (result["gradient_ratio_start"], result["gradient_ratio_end"])
    if None in ratios:
        return None
    if min(ratios) < 1 / ARRIVES_WITHIN:
        return "fades"
    return "grows" if max(ratios) > ARRIVES_WITHIN else "arrives"


def _enumerate(words):
    return " and ".join(part for part in (", ".join(words[:-1]), words[-1]) if part)


depth = Study(
    name="depth",
    question="Does the gradient reach the bottom of an LSTM over depth, "
    "and of a plain network of the same depth?",
    datasets=("digits", "mnist"),
    configs=_depth_configs,
    answer=_depth_answer,
)

STUDIES = {study.name: study for study in (depth,)}
