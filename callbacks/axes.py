"""Axes, legends and moments of training, for all pictures of the callbacks."""

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns

MOMENTS = 5
DEPTH = "depth (1: next to the input)"


def or_new(ax):
    """The axes, or new ones."""
    return ax or plt.subplots(figsize=(7, 4), layout="constrained")[1]


def draw_moments(ax, profile, steps):
    """Draw `value` against `depth`, a line for each of these training steps, on a log scale."""
    for step, color in zip(steps, colors(len(steps)), strict=True):
        one = profile[profile.step == step].sort_values("depth")
        ax.plot(one.depth, one.value, color=color, marker=".", label=f"training step {step}")
    log_scale(ax, profile.value)
    legend_beside(ax)


def colors(count):
    """So many colours that follow each other."""
    return sns.color_palette("viridis", count)


def band(ax, low, high, label):
    """A band behind the lines for values as they should be; on a log scale it widens no axis."""
    limits = ax.get_ylim()
    ax.axhspan(low, high, color="#029e73", alpha=0.12, linewidth=0, zorder=0, label=label)
    ax.set_ylim(limits)


def moments(steps):
    """Up to five of the recorded steps, from the first to the last; most change at the start."""
    recorded = np.unique(steps)
    places = np.geomspace(1, len(recorded), MOMENTS) - 1 if len(recorded) else []
    return recorded[np.unique(np.round(places).astype(int))]


def legend_beside(ax):
    """A legend to the right of the axes, if there is something to explain."""
    if ax.get_legend_handles_labels()[0]:
        ax.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))


def log_scale(ax, values):
    """A logarithmic axis, of two decades at least, if there is anything above 0."""
    values = values.astype("float64")
    positive = values[(values > 0) & np.isfinite(values)]
    if len(positive):
        ax.set_yscale("log")
        middle = np.log10(positive.min() * positive.max()) / 2
        low, high = ax.get_ylim()
        ax.set_ylim(min(low, 10 ** (middle - 1)), max(high, 10 ** (middle + 1)))
