"""The long-memory tasks on which LSTMs were judged, and how many sequences they take.

Runs end when their task is solved. The tasks, their criteria and the published figures are in
`experiments/tasks/sequences`.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter

from keras_deeplstm.experiments.runs.groups import Group
from keras_deeplstm.experiments.settings.base import ConfigError
from keras_deeplstm.experiments.settings.sequences import SequenceConfig, SequenceModelConfig
from keras_deeplstm.experiments.studies.study import Study, grouped
from keras_deeplstm.experiments.tasks.sequences import parse
from keras_deeplstm.experiments.words import counts_text, enumerate_words

MOST = 0.9  # share of the runs that have to solve a task


def solved_answer(groups: list[Group]) -> list[str]:
    """How many of the tasks the models solve in most of their runs, then task by task."""
    counts = {
        label: (_solved(members), len(members))
        for label, members in grouped(groups, attrgetter("label")).items()
    }
    return [solved_sentence(counts), *_task_by_task(groups, attrgetter("name"))]


def solved_sentence(counts: dict[str, tuple[int, int]]) -> str:
    """A sentence on how many of its tasks each model solves, the best models first."""
    clauses: list[str] = []
    by_count = grouped(counts, counts.__getitem__)
    if all(solved == tasks for solved, tasks in by_count) and len(counts) > 1:
        return f"Every model solves its tasks in at least {MOST:.0%} of its runs."
    for solved, tasks in sorted(by_count, key=lambda count: -count[0] / count[1]):
        labels = by_count[solved, tasks]
        clause = f"{solved} of {tasks}"
        if not clauses:
            verb, whose = ("solves", "its") if len(labels) == 1 else ("solve", "their")
            things = "task" if tasks == 1 else "tasks"
            clause = f"{verb} {clause} {things} in at least {MOST:.0%} of {whose} runs"
        clauses.append(f"{enumerate_words(labels)} {clause}")
    return f"{'; '.join(clauses)}."


def _published_answer(groups):
    """For each kind of model, how many tasks most of its runs solve; then task by task."""
    block_of = attrgetter("config.model.words")
    by_model = grouped(groups, block_of)
    sentences = [
        f"{label} solves {_solved(members)} of {len(members)} tasks in at least {MOST:.0%} of its "
        f"runs, with no more sequences than the paper's LSTM took on average."
        for label, members in sorted(by_model.items(), key=lambda item: -len(item[1]))
    ]
    return [*sentences, *_task_by_task(groups, block_of)]


def _task_by_task(groups, name):
    """A sentence for each task: sequences until its models solve it, and what was published."""
    sentences = []
    for task, members in grouped(groups, attrgetter("config.task")).items():
        found = []
        for group in members:
            counts = group.values("sequences")
            runs = f"{len(counts)} of {len(group.runs)} runs"
            found.append(f"{name(group)} {counts_text(counts)} in {runs}")
        paper = parse(task).paper
        published = f"; published: {paper}" if paper else ""
        sentences.append(f"{task}: {enumerate_words(found)}{published}.")
    return sentences


def _solved(groups):
    """How many tasks are solved in most of the runs; others have no number of sequences."""
    return sum(len(group.values("sequences")) / len(group.runs) >= MOST for group in groups)


@dataclass(frozen=True, kw_only=True)
class SequenceStudy(Study):
    """A study whose runs are of `deeplstm solve`, each with a task of its own."""

    datasets: tuple[str, ...] = ()
    answer: Callable[[list[Group]], list[str]] = solved_answer

    config = SequenceConfig
    restarts = 0

    def plan(self, dataset="", epochs=None, seeds=1, folds=None):
        """See `Study.plan`; runs on sequence tasks have neither epochs nor folds."""
        if epochs is not None or folds is not None:
            raise ConfigError(
                "Runs on sequence tasks have no epochs and no folds: they end when they are solved"
            )
        return super().plan(dataset, seeds=seeds)

    def _ends(self, configs):
        # Each task has settings of its own: only runs with one slug are told apart by them.
        return dict.fromkeys(configs, "")


def runs_of(tasks, models, **settings):
    """A run of each model on each task, from the numbers of sequences by task: at most so many."""
    return [
        SequenceConfig(task, model, sequences=most, jit_compile=True, **settings)
        for task, most in tasks.items()
        for model in models
    ]


def over_time(block, **options):
    """A model over time; what a grid reads and writes goes through both of its states."""
    both = {"project_inputs": "both", "output": "both"} if block == "grid_lstm" else {}
    return SequenceModelConfig(block, **both, **options)


# Hochreiter & Schmidhuber (1997).

# A memory that lasts and that distractors do not enter (chrono initialization); what a task needs
# in its place, or beyond, stands beside it. "grid" has what is for a grid alone: with the learning
# rate of the LSTMs, not all seeds of it learn the tasks 2a and 3 to 6.
LONG = {"forget_bias": 4.0, "input_gate_bias": -3.0}
TRAINING = {"learning_rate": 0.01, "schedule": "constant", "batch_size": 8, "evaluate_every": 400}
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
    for task, own in tasks.items():
        most = parse(task).paper_sequences  # as many as the paper needed, and no more
        settings = LONG | TRAINING | {"units": 16} | own
        grid = settings.pop("grid", {})
        for block, chosen in (("grid_lstm", settings | grid), ("lstm", settings)):
            training = {name: chosen[name] for name in TRAINING}
            model = {name: chosen[name] for name in chosen if name not in TRAINING}
            configs += runs_of({task: most}, [over_time(block, **model)], **training)
    return configs


def _guesses(dataset):
    # 16 sequences for each network that is tried.
    return [
        SequenceConfig(task, SequenceModelConfig("guess", units=units), sequences=1_000_000)
        for task in PUBLISHED
        for units in (1, 3)
    ]


studies = (
    SequenceStudy(
        name="hochreiter-1997",
        question="Do LSTMs with forget gates and Adam solve the tasks of Hochreiter & Schmidhuber "
        "(1997) with as many sequences as theirs needed, or fewer?",
        configs=functools.partial(_configs, PUBLISHED),
        remark=REMARK,
        answer=_published_answer,
    ),
    SequenceStudy(
        name="hochreiter-1997-long",
        question="And with lags of 500 and 1000 steps?",
        configs=functools.partial(_configs, LONGER),
        remark=REMARK,
        answer=_published_answer,
    ),
    SequenceStudy(
        name="guessing",
        question="Which of the tasks of Hochreiter & Schmidhuber (1997) need no learning: a small "
        "recurrent network with random weights solves them, if one only draws often enough?",
        configs=_guesses,
    ),
)
