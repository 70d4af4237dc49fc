"""The picture of models that were trained with several learning rates."""

from operator import attrgetter

from matplotlib.figure import Figure

from keras_deeplstm.experiments.reports import drawing
from keras_deeplstm.experiments.reports.drawing import Picture, Section
from keras_deeplstm.experiments.runs.groups import Group
from keras_deeplstm.experiments.studies.study import (
    by_subject,
    depth_of,
    grouped,
    validated,
    without_rates,
)
from keras_deeplstm.experiments.words import enumerate_words

TITLE = "Learning rate"
TEXT = (
    "The metric on the validation data against the learning rate, at each depth; of an accuracy, "
    "the error. Where a line is lowest at one of its ends, a rate beyond may be better still. If "
    f"there are more than {drawing.LINES} models, other pictures show each with its best rate."
)
MODEL_OF = attrgetter("config.subject", "label", "config.model.depth")
RATE_OF = attrgetter("config.learning_rate")


def section(groups: list[Group]) -> Section:
    """The section of a report; empty if each model has one rate."""
    rated = [group for same in _by_model(groups) if len(_rates(same)) > 1 for group in same]
    return Section(TITLE, TEXT, [[_picture(*one)] for one in by_subject(rated)])


def fewer(groups: list[Group]) -> list[Group]:
    """The groups; if they are many, each model only with the rate of the best validation metric."""
    models = _by_model(groups)
    if len(groups) <= drawing.LINES or all(len(_rates(same)) == 1 for same in models):
        return groups
    return [min(same, key=_worst_last) for same in models]


def _by_model(groups):
    """Those that have been validated, by model and depth, with labels that do not tell the rate."""
    found = [group for group in groups if group.values(f"val_{group.config.measure.name}")]
    return list(grouped(without_rates(found), MODEL_OF).values())


def _rates(groups):
    return {RATE_OF(group) for group in groups}


def _worst_last(group):
    return group.config.measure.best_first(validated(group, group.config.measure).mean)


def _picture(subject, groups) -> Picture:
    """A panel for each depth, a line for each model."""
    by_depth = sorted(grouped(groups, depth_of).items())
    figure = Figure(figsize=(1 + 2.4 * len(by_depth), 3.6), layout="constrained")
    panels = figure.subplots(1, len(by_depth), sharey=True, squeeze=False)[0]
    measure, colors = groups[0].config.measure, drawing.colors_of(groups)
    drawn = drawing.scores_on(panels[0], measure, "validation")  # and on all, which share it
    best = []
    for ax, (depth, members) in zip(panels, by_depth, strict=True):
        ax.set(title=f"depth {depth}", xlabel="learning rate", xscale="log")
        ax.set_xticks(
            tried := sorted(_rates(members)), [f"{rate:g}" for rate in tried], rotation=45
        )
        ax.set_xticks([], minor=True)
        ax.grid(alpha=0.3)
        by_label = grouped(sorted(members, key=RATE_OF), attrgetter("label"))
        for label, color in colors.items():  # also those without this depth: for the legend
            same = by_label.get(label, [])
            values = [drawn(validated(group, measure).mean) for group in same]
            ax.plot(list(map(RATE_OF, same)), values, color=color, label=label, marker=".")
        found = [min(same, key=_worst_last) for same in by_label.values()]
        said = [f"{group.label} {RATE_OF(group):g}" for group in found]
        best.append(f"at depth {depth} {enumerate_words(said)}")
    what = f"{panels[0].get_ylabel()} against learning rate, {subject}"
    alt = f"{what}. The best rate: {'; '.join(best)}."
    return drawing.picture(figure, alt)
