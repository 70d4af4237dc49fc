"""Pictures of the frames that `SignalFlow` records."""

from keras_deeplstm.callbacks import axes
from keras_deeplstm.callbacks.gradient_plots import plain
from keras_deeplstm.callbacks.signal_tables import dead_units, depth_profile
from keras_deeplstm.diagnostics.signals import GATES

GATE_COLORS = {"i": "#0173b2", "f": "#b04a00", "o": "#029e73"}
NAMED_LAYERS = 12  # up to so many, ticks have their names


def plot_depth(frame, ax=None):
    """Draw the norm of the signal against depth at several moments of training.

    Of the first layer with depth steps, its hidden state; of a model without one, what its layers
    return, in order.

    Args:
        frame: A frame of `SignalFlow.to_frame()`.
        ax: Matplotlib axes; new ones by default.

    Returns:
        The axes.

    Example:

    >>> import pandas as pd
    >>> from keras_deeplstm.callbacks import signal_plots
    >>> frame = pd.DataFrame({"step": 1, "layer": "block", "signal": "h", "direction": "depth",
    ...                       "depth": [1.0, 2.0], "statistic": "norm", "value": [3.0, 2.0]})
    >>> signal_plots.plot_depth(frame).lines[0].get_ydata().tolist()
    [3.0, 2.0]
    """
    ax = axes.or_new(ax)
    profile = depth_profile(frame)
    label = axes.DEPTH
    if len(profile) and profile.signal.iloc[0] == "output":
        names = list(dict.fromkeys(profile.layer))
        label = "layer (1: next to the input)"
        if len(names) <= NAMED_LAYERS:
            label = None
            ax.set_xticks(range(1, len(names) + 1), map(plain, names), rotation=30, ha="right")
    axes.draw_moments(ax, profile, axes.moments(profile.step))
    ax.set(xlabel=label, ylabel="norm of the signal (L2)")
    ax.set_title("Signal against depth")
    return ax


def plot_gates(frame, ax=None, layer=None, direction="depth"):
    """Draw the shares of closed and of open gates against depth, at the last recorded step.

    Args:
        frame: A frame of `SignalFlow.to_frame()`.
        ax: Matplotlib axes; new ones by default.
        layer: Name of the layer; by default the first one with gates.
        direction: "depth", or "time" for the time LSTMs of a `GridLSTM2D`.

    Returns:
        The axes.

    Example:

    >>> import pandas as pd
    >>> from keras_deeplstm.callbacks import signal_plots
    >>> frame = pd.DataFrame({"step": 1, "layer": "block", "signal": "f", "direction": "depth",
    ...                       "depth": [1.0, 2.0], "statistic": "open", "value": [0.5, 1.0]})
    >>> ax = signal_plots.plot_gates(frame)
    >>> [(line.get_label(), line.get_ydata().tolist()) for line in ax.lines]
    [('forget gate, open', [0.5, 1.0])]
    """
    ax = axes.or_new(ax)
    gates = frame[frame.signal.isin(GATE_COLORS) & (frame.direction == direction)]
    if layer is None and len(gates):
        layer = gates.layer.iloc[0]
    gates = gates[(gates.layer == layer) & (gates.step == gates.step.max())]
    for gate, color in GATE_COLORS.items():
        for statistic, style in (("open", "-"), ("closed", (0, (4, 2)))):
            one = gates[(gates.signal == gate) & (gates.statistic == statistic)]
            one = one.sort_values("depth")
            if len(one):
                label = f"{GATES[gate]} gate, {statistic}"
                ax.plot(one.depth, one.value, color=color, linestyle=style, marker=".", label=label)
    ax.set(xlabel=axes.DEPTH, ylabel="share of the gates", ylim=(-0.03, 1.03))
    axes.legend_beside(ax)
    ax.set_title("Gates above 0.95 and below 0.05")
    return ax


def plot_dead(frame, ax=None):
    """Draw the share of dead units over training: those that are 0 for all examples.

    Args:
        frame: A frame of `SignalFlow.to_frame()`.
        ax: Matplotlib axes; new ones by default.

    Returns:
        The axes: a line for each layer, and for each depth at most five of a layer with depth; one
        line for all that have no dead unit at any time.

    Example:

    >>> import pandas as pd
    >>> from keras_deeplstm.callbacks import signal_plots
    >>> frame = pd.DataFrame({"step": [1, 10], "layer": "dense", "signal": "output",
    ...                       "direction": None, "depth": float("nan"), "statistic": "dead",
    ...                       "value": [0.0, 0.25]})
    >>> signal_plots.plot_dead(frame).lines[0].get_ydata().tolist()
    [0.0, 0.25]
    """
    ax = axes.or_new(ax)
    dead = dead_units(frame)
    stacked = dead[(dead.signal == "h") & (dead.direction == "depth")]
    shown = axes.moments(stacked.depth) if len(stacked) else []
    lines = {name: one for name, one in dead[dead.signal == "output"].groupby("layer", sort=False)}
    for layer, of_layer in stacked.groupby("layer", sort=False):
        lines |= {f"{layer}, depth {d:.0f}": of_layer[of_layer.depth == d] for d in shown}
    alive = [name for name, one in lines.items() if not one.value.any()]
    if len(alive) > 1:  # they would lie on each other
        lines = {f"no dead unit: {len(alive)} lines": lines[alive[0]]} | {
            name: one for name, one in lines.items() if name not in alive
        }
    for (name, one), color in zip(lines.items(), axes.colors(len(lines)), strict=True):
        ax.plot(one.step, one.value, color=color, marker=".", label=plain(name))
    ax.set(xlabel="training step", ylabel="share of dead units", ylim=(-0.03, 1.03))
    axes.legend_beside(ax)
    ax.set_title("Dead units: 0 for every example")
    return ax
