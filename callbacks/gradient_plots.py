"""Pictures of the frames that `GradientFlow` and `StateGradients` record."""

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.ticker import MaxNLocator

from keras_deeplstm import validation
from keras_deeplstm.callbacks import axes
from keras_deeplstm.callbacks.gradient_tables import (
    depth_profile,
    first_last_ratio,
    noise_scale,
    state_profile,
)
from keras_deeplstm.callbacks.verdict import ARRIVES_WITHIN


def plot_depth(frame, ax=None, steps=None):
    """Draw the gradient norm against depth at several moments of training.

    Args:
        frame: A frame of `GradientFlow.to_frame()`; of several stacks the first is drawn (see
            `gradient_tables.stacks`).
        ax: Matplotlib axes; new ones by default.
        steps: The steps to draw; by default up to five from the first to the last recorded.

    Returns:
        The axes.

    Example:

    >>> import pandas as pd
    >>> from keras_deeplstm.callbacks import gradient_plots
    >>> frame = pd.DataFrame({"step": 1, "layer": "block", "weight": "recurrent_kernel",
    ...                       "depth": [2, 3, 4], "statistic": "norm", "value": [0.01, 0.1, 1.0]})
    >>> ax = gradient_plots.plot_depth(frame)
    >>> [(line.get_label(), line.get_ydata().tolist()) for line in ax.lines]
    [('training step 1', [0.01, 0.1, 1.0])]
    """
    profile = _first(depth_profile(frame))
    ax = axes.or_new(ax)
    steps = axes.moments(profile.step) if steps is None else steps
    axes.draw_moments(ax, profile, steps)
    last = profile[profile.step == steps[-1]].sort_values("depth").value if len(steps) else ()
    if len(last) and 0 < last.iloc[-1] < np.inf:
        low, high = last.iloc[-1] / ARRIVES_WITHIN, last.iloc[-1] * ARRIVES_WITHIN
        axes.band(ax, low, high, f"arrives, at step {steps[-1]}")
        axes.legend_beside(ax)
    ax.set(xlabel=axes.DEPTH, ylabel="gradient norm (L2)")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_title("Gradient norm against depth")
    return ax


HEALTHY_UPDATES = (1e-4, 1e-2)  # around 1e-3, the rule of thumb of Stanford's course CS231n


def plot_updates(frame, ax=None):
    """Draw how far each training step moves the kernels, relative to their norms.

    Args:
        frame: A frame of `GradientFlow.to_frame()` with the statistic "update_ratio".
        ax: Matplotlib axes; new ones by default.

    Returns:
        The axes: a line for each layer, the median over its kernels and their depth steps; a band
        of a factor of 10 around 1e-3, which is usual for a training that works.

    Example:

    >>> import pandas as pd
    >>> from keras_deeplstm.callbacks import gradient_plots
    >>> frame = pd.DataFrame({"step": [1, 2], "layer": "dense", "weight": "kernel",
    ...                       "depth": float("nan"), "statistic": "update_ratio",
    ...                       "value": [0.003, 0.002]})
    >>> gradient_plots.plot_updates(frame).lines[0].get_ydata().tolist()
    [0.003, 0.002]
    """
    ax = axes.or_new(ax)
    kernels = frame[(frame.statistic == "update_ratio") & frame.weight.str.endswith("kernel")]
    layers = dict(iter(kernels.groupby("layer", sort=False)))
    for (layer, one), color in zip(layers.items(), axes.colors(len(layers)), strict=True):
        medians = one.groupby("step").value.median()
        ax.plot(medians.index, medians, color=color, label=plain(layer))
    axes.log_scale(ax, kernels.value)
    axes.band(ax, *HEALTHY_UPDATES, "usual")
    ax.set(xlabel="training step", ylabel="change / norm of the weight")
    axes.legend_beside(ax)
    ax.set_title("How far a step moves the weights")
    return ax


def plain(text):
    """Return a text that matplotlib does not take for a formula, and for which it has glyphs.

    Args:
        text: Any string, such as the name of a layer.

    Example:

    >>> from keras_deeplstm.callbacks import gradient_plots
    >>> print(gradient_plots.plain("$x$"))
    \\$x\\$
    """
    return validation.printable(text.replace("$", r"\$"), but="\n")


def plot_heatmap(frame, ax=None):
    """Draw the gradient norm over depth and training step, on a logarithmic colour scale.

    Args:
        frame: A frame of `GradientFlow.to_frame()`; of several stacks the first is drawn (see
            `gradient_tables.stacks`).
        ax: Matplotlib axes; new ones by default.

    Returns:
        The axes.

    Example:

    >>> import pandas as pd
    >>> from keras_deeplstm.callbacks import gradient_plots
    >>> frame = pd.DataFrame({"step": 1, "layer": "block", "weight": "recurrent_kernel",
    ...                       "depth": [2, 3, 4], "statistic": "norm", "value": [0.01, 0.1, 1.0]})
    >>> frame = pd.concat([frame, frame.assign(step=2)])
    >>> ax = gradient_plots.plot_heatmap(frame)
    >>> ax.get_xlabel(), ax.collections[0].get_array().shape  # three depth steps, two of training
    ('training step', (3, 2))
    """
    profile = _first(depth_profile(frame))
    ax = axes.or_new(ax)
    table = profile.pivot_table(index="depth", columns="step", values="value")
    value = profile.value.astype("float64")  # which an empty column is not
    positive = value[(value > 0) & np.isfinite(value)]
    if len(positive):
        # Zeros have no logarithm; they get the darkest colour.
        norm = LogNorm(positive.min(), max(positive.max(), positive.min() * 1.01))
        values = table.clip(lower=positive.min()).to_numpy()
        mesh = ax.pcolormesh(
            table.columns, table.index, values, norm=norm, cmap="viridis", shading="nearest"
        )
        ax.figure.colorbar(mesh, ax=ax, label="gradient norm (L2)")
    ax.set(xlabel="training step", ylabel=axes.DEPTH)
    ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_title("Gradient norm over depth and training")
    return ax


def plot_ratio(frame, ax=None):
    """Draw the ratio of the gradient norms of the first and the last depth step over training.

    Args:
        frame: A frame of `GradientFlow.to_frame()`.
        ax: Matplotlib axes; new ones by default.

    Returns:
        The axes: a line for each stack.

    Example:

    >>> import pandas as pd
    >>> from keras_deeplstm.callbacks import gradient_plots
    >>> frame = pd.DataFrame({"step": 1, "layer": "block", "weight": "recurrent_kernel",
    ...                       "depth": [2, 3, 4], "statistic": "norm", "value": [0.01, 0.1, 1.0]})
    >>> gradient_plots.plot_ratio(frame).lines[0].get_ydata().tolist()
    [0.01]
    """
    ax = axes.or_new(ax)
    ratios = first_last_ratio(frame)
    several = ratios.groupby("layer").weight.nunique().gt(1).any()
    for (layer, weight), one in ratios.groupby(["layer", "weight"]):
        ax.plot(one.step, one.ratio, label=plain(f"{layer}/{weight}" if several else layer))
    axes.log_scale(ax, ratios.ratio)
    axes.band(ax, 1 / ARRIVES_WITHIN, ARRIVES_WITHIN, "arrives")
    ax.set(xlabel="training step", ylabel="first / last gradient norm")
    axes.legend_beside(ax)
    ax.set_title("How much of the gradient arrives at the first depth step")
    return ax


def plot_histograms(histograms, ax=None):
    """Draw the distribution of log10 |g| over training, all weights taken together.

    Args:
        histograms: A frame of `GradientFlow.histograms()`.
        ax: Matplotlib axes; new ones by default.

    Returns:
        The axes.

    Example:

    >>> import pandas as pd
    >>> from keras_deeplstm.callbacks import gradient_plots
    >>> histograms = pd.DataFrame({"step": [1, 1, 2, 2], "layer": "block", "weight": "kernel",
    ...                            "low": [-2.0, -1.5, -2.0, -1.5], "high": [-1.5, -1.0] * 2,
    ...                            "share": [0.25, 0.75, 0.5, 0.5]})
    >>> gradient_plots.plot_histograms(histograms).collections[0].get_array().tolist()
    [[0.25, 0.5], [0.75, 0.5]]
    """
    ax = axes.or_new(ax)
    if len(histograms):
        table = histograms.pivot_table(index="low", columns="step", values="share", aggfunc="mean")
        middle = table.index.to_numpy() + 0.25
        middle[0] = middle[1] - 0.5  # zeros, and what is below the lowest edge
        shown = np.flatnonzero(table.to_numpy().max(axis=1) > 0)
        rows = slice(shown.min(), shown.max() + 1) if len(shown) else slice(None)
        mesh = ax.pcolormesh(
            table.columns, middle[rows], table.to_numpy()[rows], cmap="viridis", shading="nearest"
        )
        ax.figure.colorbar(mesh, ax=ax, label="share of weights")
    ax.set(xlabel="training step", ylabel="log10 |gradient| (lowest: zeros)")
    ax.set_title("Distribution of the gradient")
    return ax


def plot_noise(frame, ax=None):
    """Draw the gradient noise scale over training, in at most ten parts.

    Args:
        frame: A frame of `GradientNoise.to_frame()`.
        ax: Matplotlib axes; new ones by default.

    Returns:
        The axes.

    Example:

    >>> import pandas as pd
    >>> from keras_deeplstm.callbacks import gradient_plots
    >>> frame = pd.DataFrame({"step": [2, 2], "layer": "dense", "weight": "kernel",
    ...                       "depth": float("nan"), "statistic": ["signal", "noise"],
    ...                       "value": [2.0, 60.0]})
    >>> gradient_plots.plot_noise(frame).lines[0].get_ydata().tolist()
    [30.0]
    """
    ax = axes.or_new(ax)
    scales = noise_scale(frame)
    ax.plot(scales.step, scales.noise_scale, marker=".")
    axes.log_scale(ax, scales.noise_scale)
    ax.set(xlabel="training step", ylabel="noise scale (examples)")
    ax.set_title("Batch size at which noise and gradient are as large")
    return ax


# Label, colour, width. Of one state one hue; one path alone is the thinner, lighter line.
CURVES = {
    ("h", "total"): ("dL/dh, total", "#0173b2", 2.5),
    ("h", "hidden"): ("dL/dh, hidden", "#56b4e9", 1.2),
    ("c", "total"): ("dL/dc, total", "#b04a00", 2.5),
    ("c", "memory"): ("dL/dc, memory", "#f5a623", 1.2),
}


def plot_paths(states, ax=None, epochs=None):
    """Draw dLoss/dh and dLoss/dc against depth, in total and along each path alone.

    Args:
        states: A frame of `StateGradients.to_frame()`, of `diagnostics.state_gradients`, or a
            `state_profile` of one.
        ax: Matplotlib axes; new ones by default.
        epochs: The epochs to draw, the last one solid, those before it dashed; by default the last.

    Returns:
        The axes.

    Example:

    >>> import pandas as pd
    >>> from keras_deeplstm.callbacks import gradient_plots
    >>> states = pd.DataFrame({"epoch": 0, "direction": "depth", "state": "c",
    ...                        "path": ["total", "total", "memory", "memory"],
    ...                        "depth": [1, 2, 1, 2], "value": [0.4, 0.8, 0.3, 0.6]})
    >>> [line.get_label() for line in gradient_plots.plot_paths(states).lines]
    ['dL/dc, total', 'dL/dc, memory']
    """
    ax = axes.or_new(ax)
    profile = state_profile(states) if "direction" in states else states
    if "epoch" not in profile:
        profile = profile.assign(epoch=0)
    epochs = [profile.epoch.max()] if epochs is None else list(epochs)
    profile = profile[profile.epoch.isin(epochs)]
    for (state, path), (label, color, width) in CURVES.items():
        for epoch in epochs:
            one = profile[(profile.state == state) & (profile.path == path)]
            one = one[one.epoch == epoch].sort_values("depth")
            if len(one):
                style = {"color": color, "linewidth": width}
                style |= {"label": label} if epoch == epochs[-1] else {"linestyle": (0, (4, 2))}
                ax.plot(one.depth, one.value, **style)
    axes.log_scale(ax, profile.value)
    ax.set(xlabel=axes.DEPTH, ylabel="gradient norm (L2)")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend_beside(ax)
    ax.set_title("Where the gradient travels")
    return ax


def _first(profile):
    """The first of several stacks: two of them would be one zigzag line."""
    return profile[profile.chain.isin(profile.chain.head(1))]
