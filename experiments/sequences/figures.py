"""What a report shows of runs on sequence tasks: how the errors fall."""

import itertools

from keras_deeplstm.experiments import runs
from keras_deeplstm.experiments.drawing import (
    Section,
    colors_of,
    curves,
    depth_styles,
    with_unfinished,
)
from keras_deeplstm.experiments.summary import Group


def sections(groups: list[Group], unfinished: list[runs.Run]) -> list[Section]:
    """Curves of all runs that have any."""
    groups = with_unfinished(groups, unfinished)
    if not groups:
        return []
    by_task = itertools.groupby(groups, lambda group: group.config.subject)
    return [
        Section(
            "Learning",
            "Mean error, and share of wrong sequences, on test sequences of the task. Lines are "
            "means over the runs of a model that still train, bands their range.",
            [_learning(task, list(members)) for task, members in by_task],
        )
    ]


def _learning(task, groups):
    shared = {"styles": depth_styles(groups), "against": "sequences"}
    colors = colors_of(groups)
    return [
        curves(task, groups, colors, "error", "mean error", log=True, **shared),
        curves(task, groups, colors, "wrong", "share of wrong sequences", **shared),
    ]
