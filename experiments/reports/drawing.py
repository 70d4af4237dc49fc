"""What all reports draw with: pictures and their sections, curves, colors."""

import base64
import io
import itertools
from dataclasses import dataclass, field

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from keras_deeplstm.callbacks.gradient_plots import plain
from keras_deeplstm.experiments.runs import Run
from keras_deeplstm.experiments.runs.groups import Group, group_runs


@dataclass(frozen=True)
class Picture:
    """A PNG picture in base64, the text that stands for it, and its caption."""

    data: str
    alt: str
    caption: str = ""


@dataclass(frozen=True)
class Section:
    """Pictures or texts that belong together, and how to read them."""

    title: str
    text: str
    rows: list[list[Picture]]
    writings: list[tuple[str, str]] = field(default_factory=list)  # each with what it is


def colors_of(groups: list[Group]) -> dict[str, tuple]:
    """A color for each label."""
    palette = itertools.cycle(sns.color_palette("colorblind"))
    return dict(zip(dict.fromkeys(group.label for group in groups), palette, strict=False))


def with_unfinished(groups: list[Group], unfinished: list[Run]) -> list[Group]:
    """Groups of all these runs, sorted by what they are about: for curves, not for tables."""
    finished = [run for group in groups for run in group.runs]
    return sorted(group_runs([*finished, *unfinished]), key=lambda group: group.config.subject)


def depth_styles(groups: list[Group]) -> dict[int, str] | None:
    """A line style for each depth; None if there is only one."""
    depths = sorted({group.config.model.depth for group in groups})
    if len(depths) < 2:
        return None
    return dict(zip(depths, itertools.cycle(("-", "--", ":", "-.")), strict=False))


def curves(
    title: str,
    members: list[Group],
    colors: dict[str, tuple],
    column: str,
    label: str,
    log: bool = False,
    styles: dict[int, str] | None = None,
    against: str = "epoch",
) -> Picture:
    """A column of `metrics.csv` against the epochs: the means of groups, and their ranges.

    Args:
        title: Of the picture.
        members: The groups.
        colors: The color of each label.
        column: What is drawn. Rows that have none of it are left out.
        label: What it is.
        log: Whether its axis is logarithmic.
        styles: Line style of each depth, for groups of different depths.
        against: Another column in place of the epochs.
    """
    figure, ax = new_figure(title, against, label, log)
    ends = []
    for group in members:
        found = [run.metrics.set_index(against) for run in group.runs]
        values = [frame[column].dropna() for frame in found if column in frame]
        values = [some for some in values if len(some)]
        if not values:
            continue
        values = pd.concat(values, axis=1)
        middle = values.mean(axis=1)
        name, style = group.label, {"marker": "."}
        if styles:
            name, style = group.name, {"linestyle": styles[group.config.model.depth]}
        draw_line(ax, values, middle, name, colors[group.label], **style)
        ends.append(f"{name} {middle.iloc[-1]:.3g}")
    ax.xaxis.get_major_locator().set_params(integer=True)
    return picture(figure, f"{label} against {against}, {title}. At the end: {'; '.join(ends)}.")


def draw_line(ax, values, middle, label: str, color, **style) -> None:
    """A line, and a band from the lowest to the highest of several columns."""
    ax.plot(middle.index, middle, color=color, label=label, **style)
    if values.shape[1] > 1:
        low, high = values.min(axis=1), values.max(axis=1)
        ax.fill_between(middle.index, low, high, color=color, alpha=0.2, linewidth=0)


def new_figure(title: str, xlabel: str, ylabel: str, log: bool = False) -> tuple:
    """A figure of the size of all others, and its axes."""
    figure = Figure(figsize=(5, 4.2), layout="constrained")
    ax = figure.subplots()
    ax.set(title=plain(title), xlabel=xlabel, ylabel=ylabel, yscale="log" if log else "linear")
    ax.grid(alpha=0.3)
    return figure, ax


def picture(figure: Figure, alt: str, caption: str = "") -> Picture:
    """The drawing as a PNG, with the legend of its first axes below them."""
    ax = figure.axes[0]
    handles, labels = ax.get_legend_handles_labels()
    if (legend := ax.get_legend()) is not None:
        legend.remove()
    if handles:
        # Below the axes, where it covers no data.
        columns = 1 if max(map(len, labels)) > 20 else 3
        width, height = figure.get_size_inches()
        rows = -(-len(labels) // columns)
        figure.set_size_inches(width, height + 0.2 * max(0, rows - 3))  # room for a long legend
        figure.legend(handles, list(map(plain, labels)), loc="outside lower center", ncols=columns)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=150, bbox_inches="tight")  # with long titles
    return Picture(base64.b64encode(file.getvalue()).decode(), alt, caption)
