"""The pictures of a search's report."""

import math

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib import ticker

from keras_deeplstm.experiments.reports.drawing import Section, new_figure, picture, plain
from keras_deeplstm.experiments.search.config import SearchConfig
from keras_deeplstm.experiments.search.ranges import LOGARITHMIC
from keras_deeplstm.experiments.words import enumerate_words

COLORS = mpl.colormaps["viridis"]  # its dark end is better seen on white
BEST, OTHER, FAILED = "#d55e00", "#0173b2", "0.6"
TICKS = 4  # the most on a logarithmic axis
PLAIN = 1e6  # the largest ratio of the ends of an axis whose numbers are written out
# Scores worse than this quantile would leave no colours for the others.
WORST_SHOWN = 0.1
SIZE = (4.6, 3.8)  # of pictures that stand two in a row


def sections(
    table: pd.DataFrame,
    config: SearchConfig,
    best: list[int],
    importances: dict[str, float],
    partial: list[str],
) -> list[Section]:
    """All pictures of a search's report.

    Args:
        table: A row for each trial, as in `trials.csv`.
        config: The search.
        best: The numbers of the best trials.
        importances: Of the hyperparameters that all trials have, the share of each in the variance
            of the first objective.
        partial: Those that not all trials have.
    """
    finished = table[table["state"] == "finished"]
    if finished.empty:
        return []
    # The best last, so that it is drawn over the others.
    score, measure = config.objective[0], config.measures[0]
    finished = finished.sort_values(score, ascending=measure.direction == "max", kind="stable")
    finished = finished.assign(best=finished["trial"].isin(best))
    names = [name for name in config.searched if finished[name].notna().any()]
    # What the user has asked for first comes first.
    first = [name for name in ("depth", "units", "dropout") if name in names]
    names = first + [name for name in names if name not in first]
    marginals = [_marginal(name, finished, table, config) for name in names]
    return [
        Section(
            "Trials",
            f"Each line is a finished trial; the darker, the better {score}. The best "
            f"{'ones are' if len(best) > 1 else 'one is'} orange.",
            [[_parallel(finished, names, config)]],
        ),
        *_importance(importances, partial, score),
        Section(
            "One hyperparameter at a time",
            "Each point is a finished trial, the best orange; a hollow one was pruned, and grey "
            "marks at the lower edge are trials without a result. The other hyperparameters differ "
            "as well: a point that is high says more than one that is low.",
            [marginals],
        ),
        Section(*_compromises(finished, config)),
    ]


def _importance(importances, partial, score):
    if not importances and not partial:
        return []
    text = (
        f"The share of each hyperparameter in the variance of {score}, as Optuna's fANOVA "
        "estimates it from the finished trials."
    )
    if partial:
        verb = "are" if len(partial) > 1 else "is"
        text += (
            f" Not in every trial, and so without an estimate, {verb} {enumerate_words(partial)}."
        )
    if not importances:
        return [Section("Importance", text, [])]
    names = list(importances)[::-1]
    figure, ax = new_figure("", "importance", size=(5, 0.9 + 0.32 * len(names)))
    ax.barh([plain(name) for name in names], [importances[name] for name in names], color=OTHER)
    ax.set_xlim(0, 1)
    said = ", ".join(f"{name} {share:.0%}" for name, share in importances.items())
    return [Section("Importance", text, [[picture(figure, f"Importance for {score}: {said}.")]])]


def _compromises(finished, config):
    """Title, text and pictures of what the objective costs, and of the gradient."""
    other = config.objective[1] if len(config.objective) > 1 else "parameters"
    text = (
        f"{config.objective[0]} against {other}. No trial is better in both than one on the line."
    )
    pictures = [_front(finished, config, other)]
    if finished["gradient_ratio"].notna().any():
        pictures.append(_gradients(finished, config))
        text += (
            " And against the gradient norm of the first recurrent matrix divided by that of the "
            "last, at the end of training; trials whose steps share one matrix have no such ratio."
        )
    return "Size and gradient" if other == "parameters" else "Two objectives", text, [pictures]


def _parallel(finished, names, config):
    figure, ax = new_figure(size=(6.5, 4.2))
    ax.grid(visible=False)
    columns = [*names, *config.objective]
    positions = np.column_stack([_position(finished[name], name) for name in columns])
    score, maximize = finished[config.objective[0]], config.measures[0].direction == "max"
    norm = mpl.colors.Normalize(*_color_limits(score, maximize))
    colors = COLORS.reversed() if maximize else COLORS
    order = np.argsort(finished["best"].to_numpy(), kind="stable")  # the best over the others
    for number in order:
        is_best = finished["best"].iloc[number]
        color = BEST if is_best else colors(norm(score.iloc[number]))
        ax.plot(positions[number], color=color, linewidth=3 if is_best else 1.2, alpha=0.9)
    ax.set_xticks(range(len(columns)), [plain(name) for name in columns], rotation=20)
    ax.set(ylim=(-0.08, 1.08), yticks=[])
    for x, name in enumerate(columns):
        ax.axvline(x, color="0.7", linewidth=1, zorder=0)
        for y, text in _ticks(finished[name], name):
            ax.annotate(
                plain(text), (x, y), xytext=(4, 0), textcoords="offset points", fontsize=8,
                va="center", bbox={"facecolor": "white", "linewidth": 0, "alpha": 0.7, "pad": 1},
            )  # fmt: skip
    for spine in ax.spines.values():
        spine.set_visible(False)
    described = ", ".join(f"{name} {finished[name].iloc[-1]}" for name in names)
    return picture(figure, f"Values of each trial on parallel axes. The best: {described}.")


def _position(values, name):
    """Where values stand on an axis from 0 to 1."""
    if not pd.api.types.is_numeric_dtype(values):
        codes, distinct = pd.factorize(values, sort=True)
        return np.where(codes < 0, np.nan, codes / max(1, len(distinct) - 1))  # where it has none
    numbers = values.astype(float)
    numbers = np.log(numbers) if name in LOGARITHMIC else numbers
    span = numbers.max() - numbers.min()
    return ((numbers - numbers.min()) / span if span else numbers * 0 + 0.5).to_numpy()


def _ticks(values, name):
    """Positions and texts of the values to name beside an axis."""
    values = values.dropna()
    pairs = dict(zip(_position(values, name), values, strict=True))
    if len(pairs) > 5:
        low, high = min(pairs), max(pairs)
        middle = min(pairs, key=lambda y: abs(y - (low + high) / 2))
        pairs = {y: pairs[y] for y in (low, middle, high)}
    return [(y, f"{v:.3g}" if isinstance(v, float) else str(v)) for y, v in pairs.items()]


def _color_limits(scores, maximize):
    ends = (WORST_SHOWN, 1) if maximize else (0, 1 - WORST_SHOWN)
    return scores.quantile(ends[0]), scores.quantile(ends[1])


def _marginal(name, finished, table, config):
    score = config.objective[0]
    figure, ax = new_figure("", plain(name), score, size=(3.2, 2.7))
    points = finished[finished[name].notna()].sort_values("best", kind="stable")
    pruned = table[(table["state"] == "pruned") & table[name].notna() & table[score].notna()]
    ax.scatter(pruned[name], pruned[score], facecolors="none", edgecolors=FAILED, s=28)
    ax.scatter(points[name], points[score], c=_colors(points), s=28, alpha=0.85)
    lost = table[~table["state"].isin(["finished", "pruned"])][name].dropna()
    transform = ax.get_xaxis_transform()
    ax.scatter(lost, [0.02] * len(lost), c=FAILED, marker="|", transform=transform, clip_on=False)
    if name in LOGARITHMIC and pd.api.types.is_numeric_dtype(points[name]):
        _logarithmic(ax, pd.concat([points[name], pruned[name], lost]))
    return picture(figure, f"{score} against {name}, of {len(finished)} trials.")


def _colors(finished):
    return [BEST if best else OTHER for best in finished["best"]]


def _front(finished, config, other):
    score, measure = config.objective[0], config.measures[0]
    second = config.measures[1].direction if len(config.objective) > 1 else "min"
    figure, ax = new_figure("", plain(other), score, size=SIZE)
    signs = [1 if direction == "min" else -1 for direction in (second, measure.direction)]
    ordered = finished.assign(x=finished[other] * signs[0], y=finished[score] * signs[1])
    ordered = ordered.sort_values(["x", "y"], kind="stable")
    line = ordered[ordered["y"] < ordered["y"].cummin().shift(fill_value=np.inf)]
    ax.step(line[other], line[score], where="post", color=BEST, linewidth=1.5)
    ax.scatter(finished[other], finished[score], c=OTHER, s=28, alpha=0.85)
    ax.scatter(line[other], line[score], c=BEST, s=32)
    if (finished[other] > 0).all():
        _logarithmic(ax, finished[other])
    pairs = zip(line[other], line[score], strict=True)
    points = "; ".join(f"{x:,.6g} {other}: {y:.4g}" for x, y in pairs)
    return picture(figure, f"{score} against {other}. On the line: {points}.")


def _gradients(finished, config):
    score = config.objective[0]
    figure, ax = new_figure("", "first / last gradient norm", score, size=SIZE)
    known = finished[finished["gradient_ratio"].fillna(0) > 0]
    ax.axvline(1, color=FAILED, linewidth=1)
    if len(known) and "depth" in known:
        depths = np.log10(known["depth"].astype(float))
        points = ax.scatter(known["gradient_ratio"], known[score], c=depths, cmap=COLORS, s=32)
        bar = figure.colorbar(points, label="depth")
        ticks = np.unique(known["depth"].quantile([0, 0.5, 1], interpolation="nearest"))
        bar.set_ticks(np.log10(ticks.astype(float)), labels=[str(int(tick)) for tick in ticks])
    elif len(known):
        ax.scatter(known["gradient_ratio"], known[score], c=OTHER, s=32)
    if len(known):
        _logarithmic(ax, pd.concat([known["gradient_ratio"], pd.Series([1.0])]))
    return picture(figure, f"{score} against the gradient ratio of {len(known)} trials.")


def _logarithmic(ax, values):
    """A logarithmic axis with few ticks, whose numbers are written out if that is short."""
    ax.set_xscale("log")
    low, high = float(values.min()), float(values.max())
    if high / low > PLAIN:
        ax.xaxis.set_major_locator(ticker.LogLocator(numticks=TICKS + 1))
    else:
        ticks = sorted({*values}) if values.nunique() <= TICKS else _round_numbers(low, high)
        texts = [np.format_float_positional(float(f"{tick:.6g}"), trim="-") for tick in ticks]
        ax.set_xticks(ticks, [f"{int(t):,}" if t.isdigit() else t for t in texts])
    ax.xaxis.set_minor_locator(ticker.NullLocator())


def _round_numbers(low, high):
    """At most `TICKS` numbers from `low` to `high` that are short, far enough from each other."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1,), (1, 3), (1, 2, 5)):
        found = [float(f"{d}e{power}") for power in powers for d in digits]
        found = [number for number in found if low <= number <= high]
        if len(found) > 2:
            return found[:: math.ceil(len(found) / TICKS)]
    found = ticker.MaxNLocator(TICKS - 1).tick_values(low, high)
    return [number for number in found if low <= number <= high]
