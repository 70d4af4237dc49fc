"""Where one model is wrong on the test data: which class it takes for which, or by how much."""

import numpy as np
import pandas as pd
import seaborn as sns

from keras_deeplstm.callbacks.gradient_plots import plain
from keras_deeplstm.experiments.reports import drawing
from keras_deeplstm.experiments.reports.drawing import Section, picture
from keras_deeplstm.experiments.words import enumerate_words

TITLE = "Right and wrong"
NUMBERED = 12  # classes, at most, of a picture with numbers
NAMED = 3  # classes and pairs of them in a sentence


def section(groups) -> Section:
    """The section of a report of one model; of several there is nothing to show."""
    runs = groups[0].runs if len(groups) == 1 else []
    if counted := [run.confusion for run in runs if run.confusion is not None]:
        return _of_classes(_table(counted), len(counted))
    told = [run.predictions for run in runs if run.predictions is not None]
    return Section(TITLE, _NUMBERS, [_scatters(told[0])] if told else [])


_NUMBERS = (
    "What the model says of test examples against what is true. On the line both are the same."
)


def _table(frames):
    """Counts `(true, predicted)` of all classes, summed over runs."""
    found = pd.concat(frames)
    names = list(dict.fromkeys([*found["true"], *found["predicted"]]))
    counts = found.pivot_table("count", "true", "predicted", aggfunc="sum", fill_value=0)
    return counts.reindex(index=names, columns=names, fill_value=0).astype(int)


def _of_classes(table, runs):
    counts = table.to_numpy()
    totals, right = counts.sum(axis=1), counts.diagonal()
    shares = right / np.maximum(totals, 1)
    worst = [row for row in np.argsort(shares, kind="stable") if totals[row]][:NAMED]
    names = list(table.index)
    lowest = [f"{names[row]} ({shares[row]:.1%} of {totals[row]:,})" for row in worst]
    text = (
        "How many test examples of a class (rows) were taken for which (columns); colors are "
        "shares of the row."
    )
    text += f" Sums over {runs} runs." if runs > 1 else ""
    text += f" The classes least often right: {enumerate_words(lowest)}."
    wrong = counts - np.diag(right)
    pairs = np.dstack(np.unravel_index(np.argsort(-wrong, axis=None, kind="stable"), wrong.shape))
    often = [
        f"{names[row]} for {names[column]} ({wrong[row, column]:,})"
        for row, column in pairs[0][:NAMED]
        if wrong[row, column]
    ]
    text += f" Most often taken for another: {enumerate_words(often)}." if often else ""
    return Section(TITLE, text, [[_heatmap(table, wrong, totals)]])


def _heatmap(table, wrong, totals):
    classes = len(table)
    side = min(12.0, max(5.0, 0.45 * classes))
    figure, ax = drawing.new_figure("", "taken for", "class", size=(side, 0.9 * side))
    ax.grid(visible=False)
    numbered = classes <= NUMBERED
    names = list(map(plain, table.index))
    shares = wrong / np.maximum(totals, 1)[:, None]
    sns.heatmap(  # which names as many classes as there is room for
        pd.DataFrame(shares, index=names, columns=names),
        mask=np.eye(classes, dtype=bool),  # what is right would leave no color for the rest
        annot=wrong if numbered else None,
        fmt="d",
        cmap="Blues",
        vmin=0,
        cbar_kws={"label": "share of the class"},
        ax=ax,
    )
    for place, count in enumerate(table.to_numpy().diagonal() if numbered else ()):
        ax.text(place + 0.5, place + 0.5, f"{count}", ha="center", va="center", color="0.4")
    ax.set(xlabel="taken for", ylabel="class")
    return picture(figure, "How many test examples of each class were taken for which.")


def _scatters(frame):
    """True and predicted numbers, a picture for each output."""
    pictures = []
    for output, rows in frame.groupby("output"):
        figure, ax = drawing.new_figure(f"output {output}", "true", "predicted")
        ax.axline((0, 0), slope=1, color="0.6", linewidth=1)
        ax.scatter(rows["true"], rows["predicted"], s=9, alpha=0.5, linewidths=0)
        told = rows[["true", "predicted"]]
        low, high = told.min().min(), told.max().max()
        room = 0.05 * (high - low) or 1
        ax.set(xlim=(low - room, high + room), ylim=(low - room, high + room))
        error = (told["predicted"] - told["true"]).abs().median()
        alt = f"Predicted against true, output {output}: half of the errors are below {error:.3g}."
        pictures.append(picture(figure, alt))
    return pictures
