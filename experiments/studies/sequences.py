"""The long-memory tasks on which LSTMs were judged, and how many sequences they take.

Runs end when their task is solved. The tasks, their criteria and the published figures are in
`experiments/sequences`.
"""

import dataclasses
import functools
from collections.abc import Callable

from keras_deeplstm.experiments.runs.groups import Group
from keras_deeplstm.experiments.settings.base import ConfigError
from keras_deeplstm.experiments.settings.sequences import SequenceConfig, SequenceModelConfig
from keras_deeplstm.experiments.studies.study import Study, settings_not_in_names
from keras_deeplstm.experiments.words import counts_text, enumerate_words

MOST = 0.9  # share of the runs that have to solve a task
GUESSES = 1_000_000  # sequences, 16 for each network that is tried


class SequenceStudy(Study):
    """A study whose runs are of `deeplstm solve`, each with a task of its own."""

    config = SequenceConfig
    restarts = 0

    def plan(self, dataset="", epochs=None, seeds=1, folds=None):
        """See `Study.plan`; runs on sequence tasks have neither epochs nor folds."""
        if epochs is not None or folds is not None:
            raise ConfigError(
                "Runs on sequence tasks have no epochs and no folds: they end when they are solved"
            )
        plan = {}
        for seed in range(seeds):
            by_slug = {}
            for config in self.configs(dataset):
                config = config.repeated(seed)
                by_slug.setdefault(config.slug, []).append(config)
            for slug, members in by_slug.items():
                settings = settings_not_in_names(members)
                for config in members:
                    words = [f"{name}-{config.flat()[name]}" for name in settings]
                    plan["-".join([slug, *words])] = config
        return plan


# Hochreiter & Schmidhuber (1997).

# A memory that lasts and that distractors do not enter (chrono initialization); what a task needs
# in its place, or beyond, stands beside it. "grid" has what is for a grid alone: with the learning
# rate of the LSTMs, not all seeds of it learn the tasks 2a and 3 to 6.
LONG = {"forget_bias": 4.0, "input_gate_bias": -3.0}
BOTH = {"project_inputs": "both", "output": "both"}
SLOW = {"grid": {"learning_rate": 0.003}}
SLOWER = {"grid": {"learning_rate": 0.002}}
PUBLISHED = {
    "reber": {"forget_bias": 1.0, "input_gate_bias": 0.0, "units": 32, "batch_size": 4},
    "noise-free": {"forget_bias": 6.0, "input_gate_bias": -2.0, "skip": True, "units": 32}
    | {"batch_size": 4, "grid": {"learning_rate": 0.003, "batch_size": 2}},
    "noise-free:regular=false": {"forget_bias": 6.0, "input_gate_bias": -4.0, "schedule": "cosine"},
    "long-lag": {},
    "two-sequence": SLOW,
    "two-sequence:noise=signal": SLOW,
    "two-sequence:noise=targets": SLOW,
    "adding": SLOW,
    "multiplication": SLOWER,
    "multiplication:n_seq=13": SLOWER,
    "temporal-order": SLOW,
    "temporal-order:symbols=3": SLOW,
}
LONGER = {
    "long-lag:p=1000,q=1000": {"forget_bias": 7.0, "input_gate_bias": -5.0},
    "two-sequence:length=1000": {"forget_bias": 7.0, "input_gate_bias": -5.0} | SLOW,
    "adding:length=500": {"forget_bias": 6.0, "input_gate_bias": -4.0} | SLOW,
    "adding:length=1000": {"forget_bias": 7.0, "input_gate_bias": -5.0} | SLOW,
}

REMARK = (
    "The paper trained on-line, with truncated gradients and without forget gates, and minimized "
    "squared errors. Here are forget gates with biases that make a memory last, Adam with the "
    "whole gradient and batches of 2 to 8, and cross entropy for what is a class; the last step "
    "has, in the loss, the weight of p others in 2a and of 10 p others in 2b. Biases, units, batch "
    "sizes, learning rates and schedules were chosen task by task. Grid and LSTM have the same "
    "number of units, so that the grid has more weights; its inputs and outputs go through both "
    "states. Criteria and numbers of sequences are those of the paper."
)


def _configs(tasks, dataset):
    configs = []
    for task, settings in tasks.items():
        settings = dict(settings)
        grid = BOTH | settings.pop("grid", {})
        configs += [
            _config(task, "grid_lstm", **settings | grid),
            _config(task, "lstm", **settings),
        ]
    return configs


def _config(
    task, block, learning_rate=0.01, schedule="constant", batch_size=8, units=16, **options
):
    model = SequenceModelConfig(block, units=units, **LONG | options)
    config = SequenceConfig(
        task,
        model,
        batch_size=batch_size,
        learning_rate=learning_rate,
        schedule=schedule,
        evaluate_every=400,
        jit_compile=True,
    )
    # As many as the paper needed, and no more.
    return dataclasses.replace(config, sequences=config.make_task().paper_sequences)


def _published_answer(groups):
    """For each kind of model, how many tasks most of its runs solve; then task by task."""
    by_model = {}
    for group in groups:
        by_model.setdefault(_block(group), []).append(group)
    sentences = []
    for label, members in sorted(by_model.items(), key=lambda item: -len(item[1])):
        solved = [group for group in members if _share(group) >= MOST]
        sentences.append(
            f"{label} solves {len(solved)} of {len(members)} tasks in at least {MOST:.0%} of its "
            f"runs, with no more sequences than the paper's LSTM took on average."
        )
    return [*sentences, *task_by_task(groups, _block)]


def task_by_task(groups: list[Group], name: Callable[[Group], str]) -> list[str]:
    """A sentence for each task: sequences until its models solve it, and what was published.

    Args:
        groups: The groups, at least one.
        name: What a sentence calls a group.
    """
    sentences = []
    for task in dict.fromkeys(_settings(group).task for group in groups):
        members = [group for group in groups if _settings(group).task == task]
        found = [
            f"{name(group)} {counts_text(_counts(group))} in {len(_counts(group))} of "
            f"{len(group.runs)} runs"
            for group in members
        ]
        paper = _settings(members[0]).make_task().paper
        published = f"; published: {paper}" if paper else ""
        sentences.append(f"{task}: {enumerate_words(found)}{published}.")
    return sentences


def solved_answer(groups: list[Group]) -> list[str]:
    """How many of the tasks each model solves in most of its runs, then task by task."""
    by_model: dict[str, list[Group]] = {}
    for group in groups:
        by_model.setdefault(group.label, []).append(group)
    counts = [
        f"{label} {sum(_share(group) >= MOST for group in members)} of {len(members)}"
        for label, members in by_model.items()
    ]
    first = f"Tasks solved in at least {MOST:.0%} of the runs: {enumerate_words(counts)}."
    return [first, *task_by_task(groups, lambda group: group.name)]


def _settings(group: Group) -> SequenceConfig:
    assert isinstance(group.config, SequenceConfig)
    return group.config


def _block(group):
    return group.config.model.words


def _counts(group):
    return [run.result["sequences"] for run in group.runs if run.result["solved"]]


def _share(group):
    return len(_counts(group)) / len(group.runs)


def _guesses(dataset):
    return [
        SequenceConfig(
            task,
            SequenceModelConfig("guess", units=units),
            sequences=GUESSES,
        )
        for task in PUBLISHED
        for units in (1, 3)
    ]


studies = (
    SequenceStudy(
        name="hochreiter-1997",
        question="Do LSTMs with forget gates and Adam solve the tasks of Hochreiter & Schmidhuber "
        "(1997) with as many sequences as theirs needed, or fewer?",
        datasets=(),
        configs=functools.partial(_configs, PUBLISHED),
        remark=REMARK,
        answer=_published_answer,
    ),
    SequenceStudy(
        name="hochreiter-1997-long",
        question="And with lags of 500 and 1000 steps?",
        datasets=(),
        configs=functools.partial(_configs, LONGER),
        remark=REMARK,
        answer=_published_answer,
    ),
    SequenceStudy(
        name="guessing",
        question="Which of the tasks of Hochreiter & Schmidhuber (1997) need no learning: a small "
        "recurrent network with random weights solves them, if one only draws often enough?",
        datasets=(),
        configs=_guesses,
        answer=solved_answer,
    ),
)
