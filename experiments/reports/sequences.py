"""What a report shows of runs on sequence tasks: how the errors fall, and what is foretold."""

from keras_deeplstm.experiments.reports import drawing
from keras_deeplstm.experiments.reports.drawing import Section, picture
from keras_deeplstm.experiments.runs import Run
from keras_deeplstm.experiments.runs.groups import Group
from keras_deeplstm.experiments.studies.study import by_subject

LEARNING = (("error", "mean error", "log"), ("wrong", "share of wrong sequences"))


def sections(groups: list[Group], unfinished: list[Run]) -> list[Section]:
    """Curves of all runs that have any, and forecasts of those that have made some."""
    everyone = drawing.with_unfinished(groups, unfinished)
    trained = [group for group in everyone if group.config.model.block != "guess"]
    foretelling = [group for group in groups if group.runs[0].examples is not None]
    learning = Section(
        "Learning",
        "Mean error, and share of wrong sequences, of those that the criterion looks at. Lines are "
        "means over the runs of a model that still train, bands their range.",
        drawing.curves_of(by_subject(trained), LEARNING, x="sequences"),
    )
    forecasts = Section(
        "Forecasts",
        "What a model has read, what follows, and what the first run of each model says will "
        "follow.",
        [row for task, some in by_subject(foretelling) if (row := _forecasts(task, some))],
    )
    return drawing.shown([learning, forecasts])


def _forecasts(task, groups):
    names = dict.fromkeys(groups[0].runs[0].examples["example"])
    return [_forecast(task, name, groups) for name in names]


def _forecast(task, name, groups):
    figure, ax = drawing.new_figure(f"{task}, {name}", "step", "value")
    colors = drawing.colors_of(groups)
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
