"""What a report shows of runs on sequence tasks: how the errors fall."""

import itertools

from keras_deeplstm.experiments import runs
from keras_deeplstm.experiments.figures import Section, colors_of, curves
from keras_deeplstm.experiments.summary import Group, group_runs


def sections(groups: list[Group], unfinished: list[runs.Run]) -> list[Section]:
    """Curves of all runs that have any."""
    begun = [run for run in unfinished if run.config and (run.folder / "metrics.csv").exists()]
    groups = sorted([*groups, *group_runs(begun)], key=_subject)
    if not groups:
        return []
    rows = [_learning(task, list(some)) for task, some in itertools.groupby(groups, _subject)]
    return [
        Section(
            "Learning",
            "Mean error, and share of wrong sequences, on new sequences of the task. Lines are "
            "means over the runs of a model that still train, bands their range.",
            rows,
        )
    ]


def _subject(group):
    return group.config.subject


def _learning(task, groups):
    colors = colors_of(groups)
    return [
        curves(task, groups, colors, "error", "mean error", log=True, against="sequences"),
        curves(task, groups, colors, "wrong", "share of wrong sequences", against="sequences"),
    ]
