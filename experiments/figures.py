"""The pictures of a report. Of runs that differ in seed or fold only, the middle and the range."""

import base64
import io
import itertools
from dataclasses import dataclass

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from keras_deeplstm.callbacks import gradient_plots
from keras_deeplstm.experiments.summary import Group, ratios_text

LINES = 10  # in one picture; more models make more pictures


@dataclass(frozen=True)
class Picture:
    """A PNG picture in base64, the text that stands for it, and its caption."""

    data: str
    alt: str
    caption: str = ""


@dataclass(frozen=True)
class Section:
    """Pictures that belong together, in rows, and how to read them."""

    title: str
    text: str
    rows: list[list[Picture]]


def sections(groups: list[Group]) -> list[Section]:
    """All pictures of a report."""
    if not groups:
        return []
    groups = sorted(groups, key=_panel)
    palette = itertools.cycle(sns.color_palette("colorblind"))
    colors = dict(zip(dict.fromkeys(group.label for group in groups), palette, strict=False))
    panels = []
    for (_, depth), members in itertools.groupby(groups, key=_panel):
        members = list(members)
        title = f"{members[0].config.task_name}, depth {depth}"
        for first in range(0, len(members), LINES):
            panels.append((title, members[first : first + LINES]))
    depth_rows = _depth_pictures(panels)
    if len(groups) == 1 and depth_rows[0]:
        depth_rows[0].append(_heatmap(groups[0]))
    several = any(len(group.runs) > 1 for group in groups)
    means = " Lines are means over the runs of a model, bands their range." if several else ""
    medians = " Lines are medians over the runs of a model, bands their range." if several else ""
    middle = " Of several runs of a model, the median is shown." if several else ""
    first = " Of several runs of a model, the first is shown." if several else ""
    found = [
        Section(
            "Learning",
            "Accuracy on the validation data, and loss on the training data, after each epoch."
            + means,
            [
                [
                    _curves(title, members, colors, "val_accuracy", "validation accuracy"),
                    _curves(title, members, colors, "loss", "training loss (nats)", log=True),
                ]
                for title, members in panels
            ],
        ),
        Section(
            "Gradient against depth",
            "Norm of the loss gradient of each step's recurrent matrix at several moments of "
            "training: step 1 is next to the input, the last step next to the output. A flat "
            "line means that the gradient arrives undiminished. All pictures have the same scale. "
            "Models whose steps share one matrix are not shown: it has one gradient." + middle,
            depth_rows,
        ),
        Section(
            "First and last matrix during training",
            "Gradient norm of the first recurrent matrix divided by that of the last. At 1 both "
            "get the same gradient; far below 1 it fades on its way to the input." + medians,
            [[_ratio_picture(title, members, colors) for title, members in panels]],
        ),
        Section(
            "Filters of the first layer",
            "The weights that the first layer applies to the image, before and after training."
            + first,
            [_filter_pictures(group) for group in groups],
        ),
    ]
    return [section for section in found if any(section.rows)]


def _panel(group):
    return group.config.task, group.config.model.depth


def _curves(title, members, colors, column, label, log=False):
    figure, ax = _figure(title, "epoch", label, log)
    ends = []
    for group in members:
        values = pd.concat([run.metrics.set_index("epoch")[column] for run in group.runs], axis=1)
        middle = values.mean(axis=1)
        _line(ax, values, middle, group.label, colors[group.label], marker=".")
        ends.append(f"{group.label} {middle.iloc[-1]:.3g}")
    ax.xaxis.get_major_locator().set_params(integer=True)
    return picture(figure, f"{label} against epoch, {title}. At the end: {'; '.join(ends)}.")


def _ratio_picture(title, members, colors):
    figure, ax = _figure(title, "training step", "first / last gradient norm", log=True)
    ax.axhline(1, color="0.6", linewidth=1)
    ends = []
    for group in members:
        ratios = [gradient_plots.first_last_ratio(_stacked(run)) for run in group.runs]
        ratios = [frame.set_index("step")["ratio"] for frame in ratios if len(frame)]
        if ratios:
            values = pd.concat(ratios, axis=1)
            _line(ax, values, values.median(axis=1), group.label, colors[group.label])
        start, end = (
            ratios_text(group.values(f"gradient_ratio_{when}")) for when in ("start", "end")
        )
        ends.append(f"{group.label} {start} to {end}")
    return picture(figure, f"Ratio of gradient norms during training, {title}: {'; '.join(ends)}.")


def _line(ax, values, middle, label, color, **style):
    """A line, and a band from the lowest to the highest of several columns."""
    ax.plot(middle.index, middle, color=color, label=label, **style)
    if values.shape[1] > 1:
        low, high = values.min(axis=1), values.max(axis=1)
        ax.fill_between(middle.index, low, high, color=color, alpha=0.2, linewidth=0)


def _depth_pictures(panels):
    """A picture for each model that has a matrix for each step; all of one scale."""
    rows = []
    for _, members in panels:
        rows.append([])
        for group in members:
            frame = _median_frame(group)
            if len(frame):
                figure, ax = _figure(group.name, "depth step", "gradient norm (L2)", log=True)
                gradient_plots.plot_depth(frame, ax=ax)
                ax.set_title(plain(group.name))
                rows[-1].append((group.name, figure))
    limits = np.array([figure.axes[0].get_ylim() for row in rows for _, figure in row])
    for _, figure in itertools.chain(*rows):
        figure.axes[0].set_ylim(limits[:, 0].min(), limits[:, 1].max())
    return [
        [picture(figure, f"Gradient norm against depth step, {title}.") for title, figure in row]
        for row in rows
    ]


def _heatmap(group):
    figure, ax = _figure("", "training step", "depth step")
    ax.grid(visible=False)
    gradient_plots.plot_heatmap(_median_frame(group), ax=ax)
    return picture(figure, "Gradient norm over depth step and training step.")


def _median_frame(group):
    frame = pd.concat([_stacked(run) for run in group.runs])
    keys = [column for column in frame if column != "value"]
    return frame.groupby(keys, as_index=False, sort=False)["value"].median()


def _stacked(run):
    """The gradient norms of the weights that each depth step has of its own."""
    return run.gradients[run.gradients["depth"].notna()]


def _filter_pictures(group):
    pictures = []
    files = sorted((group.runs[0].folder / "filters").glob("epoch_*.png"))
    for file in dict.fromkeys([*files[:1], *files[-1:]]):
        epoch = int(file.stem.removeprefix("epoch_"))
        when = f"after {epoch} epochs" if epoch else "before training"
        caption = f"{group.name}, {when}"
        data = base64.b64encode(file.read_bytes()).decode()
        pictures.append(Picture(data, f"Weights of the first layer: {caption}.", caption))
    return pictures


def _figure(title, xlabel, ylabel, log=False):
    figure = Figure(figsize=(5, 4.2), layout="constrained")
    ax = figure.subplots()
    ax.set(title=plain(title), xlabel=xlabel, ylabel=ylabel, yscale="log" if log else "linear")
    ax.grid(alpha=0.3)
    return figure, ax


def picture(figure: Figure, alt: str) -> Picture:
    """The drawing as a PNG, with the legend of its first axes below them."""
    ax = figure.axes[0]
    handles, labels = ax.get_legend_handles_labels()
    if ax.get_legend() is not None:
        ax.get_legend().remove()
    if handles:
        # Below the axes, where it covers no data.
        columns = 1 if max(map(len, labels)) > 20 else 3
        figure.legend(handles, list(map(plain, labels)), loc="outside lower center", ncols=columns)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=150)
    return Picture(base64.b64encode(file.getvalue()).decode(), alt)


def plain(text: str) -> str:
    """Text that matplotlib does not take for a formula."""
    return text.replace("$", r"\$")
