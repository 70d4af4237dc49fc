"""What all reports draw with: pictures and their sections, curves, colors."""

import base64
import io
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from operator import attrgetter

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator
from PIL import Image

from keras_deeplstm.callbacks.gradient_plots import plain
from keras_deeplstm.experiments.runs import Run
from keras_deeplstm.experiments.runs.groups import Group, group_runs
from keras_deeplstm.experiments.studies.study import grouped
from keras_deeplstm.experiments.tasks.measures import Measure

LINES = 15  # in one picture; more models make more pictures
COLORS, FREQUENT = 256, 64  # of a picture that is published
ERRORS = (0, 0.5, 1, 2, 5, 10, 20, 50, 100)  # in percent, for the ticks of an axis
DECADES = 8  # in one picture of norms; what is below has vanished


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


def shown(sections: list[Section]) -> list[Section]:
    """Those sections that have something to show."""
    return [section for section in sections if any(section.rows) or section.writings]


def colors_of(groups: list[Group]) -> dict[str, tuple]:
    """A color for each label."""
    labels = list(dict.fromkeys(group.label for group in groups))
    palette = sns.color_palette("colorblind")
    if len(labels) > len(palette):
        # Neighbours differ in lightness, too. Of an odd number the last and the first would both be
        # light: a hue between them is left out.
        count = len(labels) + len(labels) % 2
        light, dark = (sns.husl_palette(count, s=0.9, l=lightness) for lightness in (0.72, 0.42))
        palette = [(light, dark)[number % 2][number] for number in range(count)]
    return dict(zip(labels, palette, strict=False))


def with_unfinished(groups: list[Group], unfinished: list[Run]) -> list[Group]:
    """Groups of all these runs, sorted by what they are about: for curves, not for tables."""
    finished = [run for group in groups for run in group.runs]
    return sorted(group_runs([*finished, *unfinished]), key=lambda group: group.config.subject)


def panels_of(groups: list[Group]) -> list[tuple[str, list[Group]]]:
    """Groups of one subject and depth, few enough for one picture, with a title."""
    setting = attrgetter("config.subject", "config.model.depth")
    groups = sorted(groups, key=setting)
    return [
        (f"{subject}, depth {depth}", members[begin : begin + LINES])
        for (subject, depth), members in grouped(groups, setting).items()
        for begin in range(0, len(members), LINES)
    ]


def curves_of(panels, columns, **options) -> list[list[Picture]]:
    """The `curves` of several columns for each panel, which is a title and groups."""
    return [[curves(*panel, *column, **options) for column in columns] for panel in panels]


def curves(title, groups, column, label, scale="linear", colors=None, x="epoch") -> Picture:
    """A column of `metrics.csv`, where it has values: the means of groups, and their ranges.

    The label says what it is. Without `colors` there is one for each label of these groups.
    """
    figure, ax = new_figure(title, x, label, scale)
    colors = colors or colors_of(groups)
    depths = sorted({group.config.model.depth for group in groups})
    styles = dict(zip(depths, itertools.cycle(("-", "--", ":", "-.")), strict=False))
    ends = []
    for group in groups:
        found = [run.metrics.set_index(x) for run in group.runs]
        values = [frame[column].dropna() for frame in found if column in frame]
        values = [some for some in values if len(some)]
        name, style = group.label, {"marker": "."}
        if len(depths) > 1:
            name, style = group.name, {"linestyle": styles[group.config.model.depth]}
        if values:
            table = pd.concat(values, axis=1)
            middle = table.mean(axis=1)
            draw_line(ax, table, middle, name, colors[group.label], **style)
            ends.append(f"{name} {middle.iloc[-1]:.3g}")
    ax.xaxis.get_major_locator().set_params(integer=True)
    return picture(figure, f"{label} against {x}, {title}. At the end: {'; '.join(ends)}.")


def draw_line(ax, values, middle, label: str, color, **style) -> None:
    """A line, and a band from the lowest to the highest of several columns."""
    ax.plot(middle.index, middle, color=color, label=label, **style)
    if values.shape[1] > 1:
        low, high = values.min(axis=1), values.max(axis=1)
        ax.fill_between(middle.index, low, high, color=color, alpha=0.2, linewidth=0)


def new_figure(title="", xlabel="", ylabel="", scale="linear", size=(5, 4.2)):
    """A figure and its axes."""
    figure = Figure(figsize=size, layout="constrained")
    ax = figure.subplots()
    ax.set(title=plain(title), xlabel=xlabel, ylabel=ylabel, yscale=scale)
    ax.grid(alpha=0.3)
    return figure, ax


def scores_on(ax, measure: Measure, data: str) -> Callable[[float], float]:
    """Prepare an axis for a measure on some data; returns what is to be drawn of a value.

    Of an accuracy that is the error: networks of 97 % and of 98 % stand apart there, also beside
    one that has learned nothing.
    """
    if measure.direction == "max" and measure.form.endswith("%"):
        ax.set_yscale("symlog", linthresh=1)  # linear below, for an error of zero
        ax.set_ylabel(f"{data} error (%)")
        ax.yaxis.set(major_locator=FixedLocator(ERRORS), major_formatter="{x:g}")
        return lambda value: 100 * (1 - value)
    ax.set_ylabel(f"{data} {measure.words}")
    return lambda value: value


def picture(figure: Figure, alt: str, caption: str = "") -> Picture:
    """The drawing as a PNG, with the legend of its first axes below them."""
    ax = figure.axes[0]
    # Before limits are sought: nothing is above zero (gradients that have died, a negative loss).
    if ax.get_yscale() == "log" and not math.isfinite(ax.dataLim.minposy):
        ax.set_yscale("linear")
    low, high = ax.get_ylim()
    if ax.get_yscale() == "log" and high < 10 * low:  # no round number is on such an axis
        ax.set_yscale("linear")
    if ax.get_yscale() == "symlog":
        ax.set_ylim(bottom=max(0, low))
        if sum(low <= error <= high for error in ERRORS) < 2:  # one number alone tells no distance
            ax.set_yscale("linear")
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


def with_few_colors(png: bytes) -> bytes:
    """A picture, of which the file becomes a third as large.

    It keeps its most frequent colors, else those of two thin lines may become one; the others cover
    what there is, to the ends of a color bar.
    """
    image = Image.open(io.BytesIO(png)).convert("RGB")
    colors, place, counts = _distinct(np.asarray(image).reshape(-1, 3))
    if len(colors) > COLORS:
        others = image.quantize(COLORS - FREQUENT, Image.Quantize.MAXCOVERAGE).getpalette()
        frequent = colors[np.argsort(-counts)[:FREQUENT]]
        palette = np.concatenate([frequent, np.array(others).reshape(-1, 3)])[:COLORS]
        distance = np.sum(palette**2, axis=1) - 2 * colors @ palette.T  # but for what is common
        colors, nearest, _ = _distinct(palette[np.argmin(distance, axis=1)])
        place = nearest[place]
    few = Image.fromarray(place.reshape(image.height, image.width).astype("uint8"), "P")
    few.putpalette(colors.flatten().tolist())
    small = io.BytesIO()
    few.save(small, "PNG", optimize=True)
    return small.getvalue()


def _distinct(pixels):
    """The colors of pixels `(n, 3)` in a fixed order, which of them each is, and their counts."""
    codes, place, counts = np.unique(
        pixels @ np.array([1 << 16, 1 << 8, 1]), return_inverse=True, return_counts=True
    )
    return codes[:, None] >> np.array([16, 8, 0]) & 255, place.reshape(-1), counts


def same_scale(figures, decades=DECADES) -> None:
    """Make all y axes logarithmic, with one range: of what was drawn, no more than `decades`."""
    lines = [line.get_ydata() for figure in figures for line in figure.axes[0].lines]
    values = np.concatenate([[], *lines])
    values = values[(values > 0) & np.isfinite(values)]
    if len(values):
        high = 2 * values.max()
        low = max(values.min() / 2, high / 10.0**decades)
        for figure in figures:
            figure.axes[0].set(ylim=(low, high), yscale="log")  # in this order: then none is sought
