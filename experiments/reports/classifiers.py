"""The pictures of classifiers. Of runs that differ in seed or fold only, the middle and range."""

import base64
import itertools
import math
from operator import attrgetter

import pandas as pd

from keras_deeplstm.callbacks import gradient_plots, gradient_tables
from keras_deeplstm.experiments.reports import drawing, predictions, rates, states
from keras_deeplstm.experiments.reports.drawing import Picture, Section, picture
from keras_deeplstm.experiments.runs.groups import Group
from keras_deeplstm.experiments.studies.study import depth_of, grouped
from keras_deeplstm.experiments.tasks.measures import Measure
from keras_deeplstm.experiments.words import ratio_text, ratios_text

# Titles of sections.
DEPTH, STEPS = "Depth", "Step by step"
FILTERS, GATES = "Filters of the first layer", "Gates of the first layer"
AGAINST_DEPTH = (
    ("gradient_ratio_start", "first / last gradient, matrices"),
    ("state_gradient_ratio_start", "first / last gradient, states"),
)


def sections(groups: list[Group]) -> list[Section]:
    """All pictures of a report of classifiers."""
    rated = rates.section(groups)
    panels = drawing.panels_of(rates.fewer(groups))
    groups = [group for _, members in panels for group in members]
    colors = drawing.colors_of(groups)
    depth_rows = _depth_pictures(panels)
    if len(groups) == 1 and depth_rows[0]:
        depth_rows[0].append(_heatmap(groups[0]))
    several = any(len(group.runs) > 1 for group in groups)
    lines = " Lines are {} over the runs of a model, bands their range." if several else ""
    one = " Of several runs of a model, the {} is shown." if several else ""
    found = [
        Section(
            "Learning",
            "The metric on the validation data, and loss on the training data, after each epoch; "
            "of one model alone, both on both. That of training is the mean over the epoch."
            + lines.format("means"),
            [  # one epoch is one point, and in the table
                _learning(*panel, colors)
                for panel in panels
                if any(group.config.rounds > 1 for group in panel[1])
            ],
        ),
        rated,
        predictions.section(groups),
        Section(
            STEPS,
            "The metric of each step of the models on the test data." + lines.format("means"),
            [[_step_curves(*panel, colors)] for panel in panels if _with_steps(panel[1])],
        ),
        Section(
            "Gradient against depth",
            "Norm of the loss gradient of each step's recurrent matrix at several moments of "
            "training: step 1 is next to the input, the last step next to the output. A flat "
            "line means that the gradient arrives undiminished. All pictures have the same scale. "
            "Models whose steps share one matrix are not shown: it has one gradient."
            + one.format("median"),
            depth_rows,
        ),
        Section(
            DEPTH,
            "What each kind of network comes to as it gets deeper: on the test data; the norm of "
            "the gradient of the first recurrent matrix divided by that of the last, in the first "
            "training step; and the same of the states, before training. Where the state of the "
            "first step has no gradient nothing is learned, even if the gradients of all matrices "
            "are alike: then all are zero." + lines.format("medians"),
            _against_depth(groups, colors),
        ),
        states.section(panels, colors, "64 validation examples"),
        Section(
            "First and last matrix during training",
            "Gradient norm of the first recurrent matrix divided by that of the last. At 1 both "
            "get the same gradient; far below 1 it fades on its way to the input."
            + lines.format("medians"),
            [[_ratio_picture(title, members, colors) for title, members in panels]],
        ),
        Section(
            FILTERS,
            "The weights that the first layer applies to the image, before and after training. "
            "Gabor R²: share of a filter's variation that the best-fitting Gabor filter explains, "
            "as the median over at most 24 filters. Noise is fitted too, in part, the better the "
            "smaller the image is: what counts is the change." + one.format("first"),
            [_filter_pictures(group) for group in groups],
        ),
        Section(
            GATES,
            "What the gates of the first layer of a grid do on an image of each of some classes, "
            "after training: at each position the mean over the units, of the LSTM along rows, of "
            "that along columns and of that along depth. Of several networks side by side, the "
            "first." + one.format("first"),
            [_gate_pictures(group) for group in groups],
        ),
    ]
    return drawing.shown(found)


def _ratio_picture(title, members, colors):
    figure, ax = drawing.new_figure(title, "training step", "first / last gradient norm", "log")
    ax.axhline(1, color="0.6", linewidth=1)
    ends = []
    for group in members:
        stacks = [gradient_tables.stacks(run.gradients) for run in group.runs]
        ratios = [gradient_tables.first_last_ratio(frame) for frame in stacks]
        ratios = [
            gradient_tables.farthest(frame).set_index("step")["ratio"]
            for frame in ratios
            if len(frame)
        ]
        if ratios:
            values = pd.concat(ratios, axis=1)
            drawing.draw_line(ax, values, values.median(axis=1), group.label, colors[group.label])
        texts = [ratios_text(group.values(f"gradient_ratio_{when}")) for when in ("start", "end")]
        ends.append(f"{group.label} {' to '.join(texts)}")
    return picture(figure, f"Ratio of gradient norms during training, {title}: {'; '.join(ends)}.")


def _learning(title, groups, colors):
    measure = groups[0].config.measure
    if len(groups) == 1:
        shown = ((measure.name, measure.words, "linear"), ("loss", "loss", "log"))
        return [_training_and_validation(title, groups[0], *column) for column in shown]
    metric = (f"val_{measure.name}", f"validation {measure.words}")
    columns = (metric, ("loss", "training loss", "log"))
    return [drawing.curves(title, groups, *column, colors=colors) for column in columns]


def _training_and_validation(title, group, column, label, scale):
    """A column of `metrics.csv` of one model, on both parts of the data."""
    figure, ax = drawing.new_figure(title, "epoch", label, scale)
    ends = []
    for number, (name, part) in enumerate(((column, "training"), (f"val_{column}", "validation"))):
        found = [run.metrics.set_index("epoch") for run in group.runs]
        values = [frame[name] for frame in found if name in frame]
        if not values:
            continue
        values = pd.concat(values, axis=1)
        middle = values.mean(axis=1)
        drawing.draw_line(ax, values, middle, part, f"C{number}", marker=".")
        ends.append(f"{part} {middle.iloc[-1]:.3g}")
    ax.xaxis.get_major_locator().set_params(integer=True)
    return picture(figure, f"{label} against epoch, {title}. At the end: {'; '.join(ends)}.")


def _with_steps(groups):
    return [group for group in groups if group.runs[0].steps is not None]


def _step_curves(title, groups, colors):
    measure = groups[0].config.measure
    figure, ax = drawing.new_figure(title, "step", f"test {measure.words}")
    ends = []
    for group in _with_steps(groups):
        table = pd.concat([run.steps.set_index("step")["value"] for run in group.runs], axis=1)
        middle = table.mean(axis=1)
        drawing.draw_line(ax, table, middle, group.label, colors[group.label], marker=".")
        ends.append(f"{group.label} {measure.text(middle.iloc[-1])}")
    return picture(figure, f"{measure.words} at each step, {title}. Last: {'; '.join(ends)}.")


def _against_depth(groups, colors):
    """For each task with models of three depths or more."""
    rows = []
    for task, members in grouped(groups, attrgetter("config.subject")).items():
        by_label = grouped(members, attrgetter("label"))
        if max(map(len, by_label.values())) >= 3:
            measure = members[0].config.measure
            shown = ((f"test_{measure.name}", measure), *AGAINST_DEPTH)
            drawn = [_depth_curves(task, by_label, colors, *one) for one in shown]
            rows.append([one for one in drawn if one])
    return rows


def _depth_curves(task, by_label, colors, key, shown):
    """One result of each model against its depth; None where no model has it.

    It is `shown` as a test score by this measure, or as a ratio that this text names.
    """
    score = isinstance(shown, Measure)
    figure, ax = drawing.new_figure(task, "depth", "" if score else shown)
    ax.set_xscale("log")
    drawn = drawing.scores_on(ax, shown, "test") if score else float
    ends, depths = [], set()
    for name, groups in by_label.items():
        values = {depth_of(group): found for group in groups if (found := group.values(key))}
        if values:
            table = pd.DataFrame.from_dict(values, orient="index").sort_index().map(drawn)
            drawing.draw_line(ax, table, table.median(axis=1), name, colors[name], marker="o")
            ends.append(f"{name} {ratio_text(table.iloc[-1].median())}")
            depths |= set(values)
    if not ends:
        return None
    if not score:
        drawing.same_scale([figure])
    ax.set_xticks(sorted(depths), list(map(str, sorted(depths))))
    ax.set_xticks([], minor=True)
    return picture(figure, f"{ax.get_ylabel()} against depth, {task}: {'; '.join(ends)}.")


def _depth_pictures(panels):
    """A picture for each model that has a matrix for each step; all of one scale."""
    rows = [
        [_depth_figure(group, frame) for group in members if len(frame := _median_frame(group))]
        for _, members in panels
    ]
    drawing.same_scale([figure for figure, _ in itertools.chain(*rows)], decades=math.inf)
    return [[picture(*drawn) for drawn in row] for row in rows]


def _depth_figure(group, frame):
    figure, ax = drawing.new_figure()
    gradient_plots.plot_depth(frame, ax=ax)
    ax.set_title(drawing.plain(group.name))
    return figure, f"Gradient norm against depth step, {group.name}."


def _heatmap(group):
    figure, ax = drawing.new_figure()
    ax.grid(visible=False)
    gradient_plots.plot_heatmap(_median_frame(group), ax=ax)
    return picture(figure, "Gradient norm over depth step and training step.")


def _median_frame(group):
    frame = pd.concat([gradient_tables.stacks(run.gradients) for run in group.runs])
    keys = [column for column in frame if column != "value"]
    return frame.groupby(keys, as_index=False, sort=False)["value"].median()


def _filter_pictures(group):
    """Before and after training, of the first run."""
    run = group.runs[0]
    files = sorted((run.folder / "filters").glob("epoch_*.png"))
    pictures = []
    for file in dict.fromkeys([*files[:1], *files[-1:]]):
        epoch = int(file.stem.removeprefix("epoch_"))
        when = f"after {epoch} epochs" if epoch else "before training"
        similarity = run.result.get("gabor_r2_end" if epoch else "gabor_r2_start")
        gabor = "" if similarity is None else f"; Gabor R² {similarity:.2f}"
        caption = f"{group.name}, {when}{gabor}"
        pictures.append(_read(file, f"Weights of the first layer: {caption}.", caption))
    return pictures


def _gate_pictures(group):
    file = group.runs[0].folder / "filters" / "gates.png"
    return [_read(file, f"{GATES}: {group.name}.", group.name)] if file.exists() else []


def _read(file, alt, caption):
    return Picture(base64.b64encode(file.read_bytes()).decode(), alt, caption)
