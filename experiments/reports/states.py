"""The pictures of the gradients of states over depth, of whatever kind of run has recorded them."""

import pandas as pd

from keras_deeplstm.callbacks import gradient_plots, gradient_tables
from keras_deeplstm.experiments.reports import drawing
from keras_deeplstm.experiments.reports.drawing import Section, picture
from keras_deeplstm.experiments.words import median_text

TITLE = "Gradient of the states"
TEXT = (
    "How the loss depends on what a depth step hands on: norm of dL/dh, the gradient of its "
    "output, and of dL/dc, that of its memory cell, on {}, without dropout. "
    "In an LSTM the gradient goes back from step to step through the memory cell and through the "
    "hidden state. Wide lines: all ways together. Thin lines: one way alone, the other one cut "
    "between the steps. If the gradient travels through the memory cell, dL/dc by memory stays "
    "with dL/dc in total down to step 1, while dL/dh by the hidden state falls off. Memory / total "
    "compares these two of dL/dc at step 1: near 0, the gradient comes by ways that mix both; "
    "above 1, they cancel a part of it. First / last: dL/dc in total (without a memory cell dL/dh) "
    "at step 1 divided by that at the last step. Pictures of one depth have the same scale, of "
    f"{drawing.DECADES} powers of ten at most: a line that leaves it has vanished."
)


def section(panels, colors, probed) -> Section:
    """The section of a report.

    Args:
        panels: See `drawing.panels_of`.
        colors: See `drawing.colors_of`.
        probed: What the gradients were measured on, in words.
    """
    several = any(len(group.runs) > 1 for _, members in panels for group in members)
    one = " Of several runs of a model, the median is shown." if several else ""
    return Section(TITLE, TEXT.replace("{}", probed) + one, _rows(panels, colors))


def _rows(panels, colors):
    """For each panel all models side by side, then each with its paths; all of one scale."""
    rows = []
    for title, members in panels:
        states = [(group, frame) for group in members if (frame := _norms(group)) is not None]
        moments = ("before training", "after training") if len(states) > 1 else ()
        models = [_all_models(title, when, states, colors) for when in moments]
        paths = [_paths(group, frame) for group, frame in states]
        drawing.same_scale([figure for figure, *_ in [*models, *paths]])
        rows += [[picture(*drawn) for drawn in row] for row in (models, paths)]
    return rows


def _norms(group):
    """Norms of the gradients of the states, with a column `run`; None if none are recorded."""
    frames = [
        gradient_tables.state_profile(run.states).assign(run=number)
        for number, run in enumerate(group.runs)  # names may be equal, in different folders
        if run.states is not None
    ]
    return pd.concat(frames) if frames else None


def _all_models(title, when, states, colors):
    figure, ax = drawing.new_figure(f"{title}, {when}", "depth step", "norm of dL/dh", scale="log")
    for group, frame in states:
        wanted = (frame["state"] == "h") & (frame["path"] == "total")
        wanted &= frame["epoch"] == (0 if when == "before training" else group.config.epochs)
        values = frame[wanted].pivot(index="depth", columns="run", values="value")
        drawing.draw_line(ax, values, values.median(axis=1), group.label, colors[group.label])
    return figure, f"Norm of dL/dh against depth, all models, {title}, {when}."


def _paths(group, frame):
    figure, ax = drawing.new_figure()
    median = frame.groupby(["epoch", "state", "path", "depth"], as_index=False)["value"].median()
    gradient_plots.plot_paths(median, ax, epochs=[0, group.config.epochs])
    for when, style in (("before", "--"), ("after", "-")):
        ax.plot([], [], color="0.4", linestyle=style, label=when)
    ax.set(title=drawing.plain(group.name), xlabel="depth step")
    alt = f"Norms of the gradients of the states against depth, {group.name}."
    return figure, alt, _caption(group)


def _caption(group):
    names = {"state_gradient_ratio": "first / last", "memory_path_ratio": "memory / total"}
    parts = []
    for key, name in names.items():
        values = [group.values(f"{key}_{when}") for when in ("start", "end")]
        if any(values):
            parts.append(f"{name} {' → '.join(map(median_text, values))}")
    return "; ".join(parts)
