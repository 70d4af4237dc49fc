"""What a report shows of runs on sequence tasks: how the errors fall, and what is foretold."""

import itertools

from keras_deeplstm.experiments.reports.drawing import (
    Section,
    colors_of,
    curves,
    depth_styles,
    new_figure,
    picture,
    with_unfinished,
)
from keras_deeplstm.experiments.runs import Run
from keras_deeplstm.experiments.runs.groups import Group


def sections(groups: list[Group], unfinished: list[Run]) -> list[Section]:
    """Curves of all runs that have any, and forecasts of those that have made some."""
    everyone = with_unfinished(groups, unfinished)
    trained = [group for group in everyone if group.config.model.block != "guess"]
    found = []
    if trained:
        found.append(
            Section(
                "Learning",
                "Mean error, and share of wrong sequences, on test sequences of the task. Lines "
                "are means over the runs of a model that still train, bands their range.",
                [_learning(task, members) for task, members in _by_task(trained)],
            )
        )
    forecasts = [_forecasts(task, members) for task, members in _by_task(groups)]
    if any(forecasts):
        found.append(
            Section(
                "Forecasts",
                "What a model has read, what follows, and what the first run of each model says "
                "will follow.",
                [row for row in forecasts if row],
            )
        )
    return found


def _by_task(groups):
    groups = sorted(groups, key=lambda group: group.config.subject)
    by_task = itertools.groupby(groups, lambda group: group.config.subject)
    return [(task, list(members)) for task, members in by_task]


def _learning(task, groups):
    shared = {"styles": depth_styles(groups), "against": "sequences"}
    colors = colors_of(groups)
    return [
        curves(task, groups, colors, "error", "mean error", log=True, **shared),
        curves(task, groups, colors, "wrong", "share of wrong sequences", **shared),
    ]


def _forecasts(task, groups):
    groups = [group for group in groups if group.runs[0].examples is not None]
    if not groups:
        return []
    colors = colors_of(groups)
    names = list(dict.fromkeys(groups[0].runs[0].examples["example"]))
    return [_forecast(task, name, groups, colors) for name in names]


def _forecast(task, name, groups, colors):
    figure, ax = new_figure(f"{task}, {name}", "step", "value")
    differences = []
    for number, group in enumerate(groups):
        frame = group.runs[0].examples
        frame = frame[frame["example"] == name]
        if not number:
            ax.plot(frame["step"], frame["value"], color="black", linewidth=1, label="truth")
            ax.axvline(frame["step"][frame["forecast"].isna()].max(), color="gray", linestyle=":")
        style = {"linestyle": "--", "color": colors[group.label]}
        ax.plot(frame["step"], frame["forecast"], label=group.name, **style)
        largest = (frame["forecast"] - frame["value"]).abs().max()
        differences.append(f"{group.name} {largest:.2g}")
    alt = f"Forecasts of {name}, {task}. Largest difference to the truth: {'; '.join(differences)}."
    return picture(figure, alt)
