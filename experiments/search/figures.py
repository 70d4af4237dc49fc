"""The pictures of a search's report."""

import matplotlib as mpl
import numpy as np
import pandas as pd

from keras_deeplstm.experiments.reports.drawing import Section, new_figure, picture, plain
from keras_deeplstm.experiments.search.config import SearchConfig

LOGARITHMIC = ("depth", "units", "learning_rate", "batch_size")
COLORS = mpl.colormaps["viridis"]  # its dark end is better seen on white
BEST, OTHER, FAILED = "#d55e00", "#0173b2", "0.6"
# Scores worse than this quantile would leave no colours for the others.
WORST_SHOWN = 0.1
SIZE = (4.6, 3.8)  # of pictures that stand two in a row


def sections(table: pd.DataFrame, config: SearchConfig) -> list[Section]:
    """All pictures of a search's report.

    Args:
        table: A row for each trial, as in `trials.csv`.
        config: The search.
    """
    finished = table[table["state"] == "finished"]
    if finished.empty:
        return []
    # The best last, so that it is drawn over the others.
    finished = finished.sort_values("score", ascending=config.maximize)
    names = [name for name in config.searched if finished[name].notna().any()]
    # What the user has asked for first comes first.
    first = [name for name in ("depth", "units", "dropout") if name in names]
    names = first + [name for name in names if name not in first]
    marginals = [_marginal(name, finished, table, config) for name in names]
    return [
        Section(
            "Trials",
            "Each line is a finished trial; the darker, the better its objective. The best one "
            "is orange.",
            [[_parallel(finished, names, config)]],
        ),
        Section(
            "One hyperparameter at a time",
            "Each point is a trial; the best one is orange, and grey marks at the lower edge are "
            "trials without a result. The other hyperparameters differ as well: a point that is "
            "high says more than one that is low.",
            [marginals],
        ),
        Section(
            "Size and gradient",
            "Left: the objective against the number of parameters. No trial is both smaller and "
            "better than one on the line. Right: against the gradient norm of the first recurrent "
            "matrix divided by that of the last, at the end of training; trials whose steps share "
            "one matrix have no such ratio.",
            [[_pareto(finished, config), _gradients(finished, config)]],
        ),
    ]


def pareto(table: pd.DataFrame, config: SearchConfig) -> pd.DataFrame:
    """The trials than which none is both smaller and better, from the smallest on."""
    ordered = table.assign(cost=table["score"] * (-1 if config.maximize else 1))
    ordered = ordered.sort_values(["parameters", "cost"], kind="stable")
    best_before = ordered["cost"].cummin().shift(fill_value=np.inf)
    return ordered[ordered["cost"] < best_before].drop(columns="cost")


def _parallel(finished, names, config):
    figure, ax = new_figure(size=(6.5, 4.2))
    ax.grid(visible=False)
    columns = [*names, "score"]
    positions = np.column_stack([_position(finished[name], name) for name in columns])
    norm = mpl.colors.Normalize(*_color_limits(finished["score"], config))
    colors = COLORS.reversed() if config.maximize else COLORS
    best = len(finished) - 1
    for number, row in enumerate(positions):
        color = BEST if number == best else colors(norm(finished["score"].iloc[number]))
        ax.plot(row, color=color, linewidth=3 if number == best else 1.2, alpha=0.9)
    labels = [*names, config.objective]
    ax.set_xticks(range(len(columns)), [plain(label) for label in labels], rotation=20)
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
        codes, distinct = pd.factorize(values.astype(str), sort=True)
        return codes / max(1, len(distinct) - 1)
    numbers = values.astype(float)
    numbers = np.log(numbers) if name in LOGARITHMIC else numbers
    span = numbers.max() - numbers.min()
    return ((numbers - numbers.min()) / span if span else numbers * 0 + 0.5).to_numpy()


def _ticks(values, name):
    """Positions and texts of the values to name beside an axis."""
    pairs = dict(zip(_position(values, name), values, strict=True))
    if len(pairs) > 5:
        low, high = min(pairs), max(pairs)
        middle = min(pairs, key=lambda y: abs(y - (low + high) / 2))
        pairs = {y: pairs[y] for y in (low, middle, high)}
    return [(y, f"{v:.3g}" if isinstance(v, float) else str(v)) for y, v in pairs.items()]


def _color_limits(scores, config):
    ends = (WORST_SHOWN, 1) if config.maximize else (0, 1 - WORST_SHOWN)
    return scores.quantile(ends[0]), scores.quantile(ends[1])


def _marginal(name, finished, table, config):
    figure, ax = new_figure("", name, config.objective, size=(3.2, 2.7))
    values = finished[name]
    shown = values.notna()
    x = values[shown]
    colors = [OTHER] * (len(finished) - 1) + [BEST]
    colors = [color for color, one in zip(colors, shown, strict=True) if one]
    ax.scatter(x, finished["score"][shown], c=colors, s=28, alpha=0.85)
    lost = table[table["state"] != "finished"][name].dropna()
    transform = ax.get_xaxis_transform()
    ax.scatter(lost, [0.02] * len(lost), c=FAILED, marker="|", transform=transform, clip_on=False)
    if name in LOGARITHMIC:
        _logarithmic(ax, x)
    return picture(figure, f"{config.objective} against {name}, of {len(finished)} trials.")


def _pareto(finished, config):
    figure, ax = new_figure("", "parameters", config.objective, size=SIZE)
    front = pareto(finished, config)
    ax.step(front["parameters"], front["score"], where="post", color=BEST, linewidth=1.5)
    ax.scatter(finished["parameters"], finished["score"], c=OTHER, s=28, alpha=0.85)
    ax.scatter(front["parameters"], front["score"], c=BEST, s=32)
    ax.set_xscale("log")
    points = "; ".join(
        f"{parameters:,} parameters: {score:.4g}"
        for parameters, score in zip(front["parameters"], front["score"], strict=True)
    )
    return picture(figure, f"{config.objective} against parameters. On the line: {points}.")


def _gradients(finished, config):
    figure, ax = new_figure("", "first / last gradient norm", config.objective, size=SIZE)
    known = finished[finished["gradient_ratio"].fillna(0) > 0]
    ax.axvline(1, color=FAILED, linewidth=1)
    if len(known) and "depth" in known:
        depths = np.log10(known["depth"].astype(float))
        points = ax.scatter(known["gradient_ratio"], known["score"], c=depths, cmap=COLORS, s=32)
        bar = figure.colorbar(points, label="depth")
        ticks = np.unique(known["depth"].quantile([0, 0.5, 1], interpolation="nearest"))
        bar.set_ticks(np.log10(ticks.astype(float)), labels=[str(int(tick)) for tick in ticks])
    elif len(known):
        ax.scatter(known["gradient_ratio"], known["score"], c=OTHER, s=32)
    ax.set_xscale("log")
    return picture(figure, f"{config.objective} against the gradient ratio of {len(known)} trials.")


def _logarithmic(ax, values):
    ax.set_xscale("log")
    distinct = sorted(set(values))
    if len(distinct) <= 5:
        ax.set_xticks(distinct, [f"{value:g}" for value in distinct], minor=False)
        ax.set_xticks([], minor=True)
    elif max(values) < 1000 and min(values) >= 1:
        ticks = [t for t in (1, 2, 5, 10, 20, 50, 100, 200, 500) if min(values) <= t <= max(values)]
        ax.set_xticks(ticks, [str(tick) for tick in ticks])
        ax.set_xticks([], minor=True)
