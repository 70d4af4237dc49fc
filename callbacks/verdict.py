"""Whether the gradient arrives: the one definition; and what was recorded, in one sentence."""

import math
from collections import Counter

import numpy as np

from keras_deeplstm.callbacks import signal_tables
from keras_deeplstm.callbacks.gradient_tables import (
    depth_profile,
    first_last_ratio,
    last_steps,
    path_ratios,
    state_profile,
)
from keras_deeplstm.diagnostics.signals import GATES

ARRIVES_WITHIN = 10.0  # factors between the last depth step and the first
GONE_BEYOND = 1000.0


def fate(ratio):
    """Return, in one word, what becomes of the gradient on its way to the first depth step.

    Args:
        ratio: Its norm at the first depth step divided by that at the last, as in `last_steps`.

    Returns:
        "arrives" if the two differ by less than a factor of 10; "vanishes" or "explodes" if they
        differ by more than a factor of 1000; in between "falls" or "grows".

    Raises:
        ValueError: `ratio` is NaN.

    Example:

    >>> from keras_deeplstm.callbacks.verdict import fate
    >>> [fate(ratio) for ratio in (0.0, 0.05, 0.2, 20, 1e9)]
    ['vanishes', 'falls', 'arrives', 'grows', 'explodes']
    """
    if math.isnan(ratio):
        raise ValueError("The ratio of the gradient norms is not known. Received: nan")
    if 1 / ARRIVES_WITHIN < ratio < ARRIVES_WITHIN:
        return "arrives"
    if ratio < 1:
        return "vanishes" if ratio < 1 / GONE_BEYOND else "falls"
    return "explodes" if ratio > GONE_BEYOND else "grows"


def verdict(frame, states=None):
    """Return one sentence: does the gradient reach the first depth step?

    The words are those of `fate`, for the median over the last tenth of the recorded steps. Of
    several stacks of matrices, such as those of two blocks or of a grid, the one is named whose
    ratio is farthest from 1, and the others are counted. A gradient that is NaN or infinite in the
    last of them is called so; before, a few such steps are part of training with dynamic loss
    scaling.

    Args:
        frame: A frame of `GradientFlow.to_frame()`.
        states: Optionally a frame of `StateGradients`, to name the memory path and the hidden path
            alone.

    Returns:
        The sentence.

    Example:

    >>> import pandas as pd
    >>> from keras_deeplstm.callbacks import verdict
    >>> frame = pd.DataFrame({"step": 1, "layer": "block", "weight": "recurrent_kernel",
    ...                       "depth": [2, 30], "statistic": "norm", "value": [12.6, 2.0]})
    >>> verdict(frame)
    'The gradient arrives: at depth step 2 it is 6.3 times that at depth step 30.'
    """
    profile = depth_profile(frame)
    if profile.empty:
        return "No gradients against depth were recorded."
    final = profile[profile.step == profile.step.max()]
    bad = final[~np.isfinite(final.value)]
    if len(bad):
        what = "not a number (NaN)" if bad.value.isna().any() else "infinite"
        count = f"{bad.depth.nunique()} of {final.depth.nunique()}"
        return f"The gradient is {what} at {count} depth steps in the last recorded step."
    ratios = last_steps(first_last_ratio(frame))
    (layer, weight, ratio), *others = ratios.itertuples(index=False)
    name = ""
    if others:
        name = f" of {layer}/{weight}"
        profile = profile[(profile.layer == layer) & (profile.weight == weight)]
    first, last = profile.depth.min(), profile.depth.max()
    if math.isnan(ratio):
        sentence = f"is zero at depth step {last:.0f} and at depth step {first:.0f}"
    else:
        sentence = f"{fate(ratio)}: at depth step {first:.0f} it is {_times(ratio)} that at "
        sentence += f"depth step {last:.0f}"
    words = ("is zero" if math.isnan(other.ratio) else fate(other.ratio) for other in others)
    for word, count in Counter(words).items():
        sentence += f"; that of {'another' if count == 1 else f'{count} others'} {word}"
    return f"The gradient{name} {sentence}{'' if states is None else _paths_alone(states)}."


def state_verdict(states):
    """Return one sentence: does the gradient of the states arrive, and by which path?

    Args:
        states: A frame of `StateGradients.to_frame()` or of `diagnostics.state_gradients`; of
            several epochs the last one counts.

    Returns:
        A sentence about dLoss/dc (dLoss/dh, where there is no memory cell), with the words of
        `fate`.

    Example:

    >>> import pandas as pd
    >>> from keras_deeplstm.callbacks.verdict import state_verdict
    >>> states = pd.DataFrame({"direction": "depth", "state": "c",
    ...                        "path": ["total", "total", "memory", "memory"],
    ...                        "depth": [1, 30] * 2, "value": [6.0, 1.0, 0.5, 1.0]})
    >>> for part in state_verdict(states).split("; "):
    ...     print(part)
    The gradient of c arrives: at depth step 1 it is 6 times that at depth step 30
    through the memory path alone 0.5 times.
    """
    profile = state_profile(states)
    if "epoch" in profile:
        profile = profile[profile.epoch == profile.epoch.max()]
    total = profile[profile.path == "total"].sort_values("depth")
    state = "c" if "c" in set(total.state) else "h"
    total = total[total.state == state]
    if total.empty:
        return "No gradients of states against depth were measured."
    first, last = total.iloc[0], total.iloc[-1]
    if not np.isfinite(total.value).all():
        return f"The gradient of {state} is not finite at some depth step."
    if last.value == 0:
        return f"The gradient of {state} is zero at depth step {last.depth:.0f}."
    ratio = first.value / last.value
    return (
        f"The gradient of {state} {fate(ratio)}: at depth step {first.depth:.0f} it is "
        f"{_times(ratio)} that at depth step {last.depth:.0f}{_paths_alone(states)}."
    )


def signal_verdict(frame):
    """Return one sentence: does the signal pass, and are gates stuck or units dead?

    Args:
        frame: A frame of `SignalFlow.to_frame()`; the last recorded step counts.

    Returns:
        A sentence about the hidden states of the first layer that has depth steps, or else about
        what the layers return.

    Example:

    >>> import pandas as pd
    >>> from keras_deeplstm.callbacks.verdict import signal_verdict
    >>> frame = pd.DataFrame({"step": 1, "layer": "block", "signal": "h", "direction": "depth",
    ...                       "depth": [1.0, 9.0] * 2, "statistic": ["norm"] * 2 + ["dead"] * 2,
    ...                       "value": [2.0, 3.0, 0.0, 0.0]})
    >>> signal_verdict(frame)
    'The signal at depth step 9 is 1.5 times that at depth step 1; no unit is dead.'
    """
    final = frame[frame.step == frame.step.max()]
    if final.empty:
        return "No signals were recorded."
    bad = final[~np.isfinite(final.value.astype("float64"))]
    if len(bad):
        return f"The signal of layer '{bad.layer.iloc[0]}' is not finite."
    norms = signal_tables.depth_profile(final).sort_values("depth")
    of_layers = norms.signal.iloc[0] == "output"
    where = [
        f"layer '{row.layer}'" if of_layers else f"depth step {row.depth:.0f}"
        for row in norms.itertuples()
    ]
    first, last = norms.value.iloc[0], norms.value.iloc[-1]
    ratio = last / first if first > 0 else math.nan
    parts = [f"The signal at {where[-1]} is {_times(ratio)} that at {where[0]}"]
    stuck = signal_tables.stuck_gates(final)
    if len(stuck):
        worst = stuck.loc[stuck.value.idxmax()]
        some = f"up to {worst.value:.0%} of the {GATES[worst.signal]} gates are {worst.statistic}"
        parts.append(some if worst.value >= 0.01 else "no gate is stuck")
    dead = signal_tables.dead_units(final)
    if len(dead):
        worst = dead.loc[dead.value.idxmax()]
        some = f"up to {worst.value:.0%} of the units of layer '{worst.layer}' are dead"
        parts.append(some if worst.value else "no unit is dead")
    return "; ".join(parts) + "."


def _paths_alone(states):
    return "".join(
        f"; through the {path} path alone {_times(ratio)}"
        for path, ratio in path_ratios(states).items()
    )


def _times(ratio):
    if math.isnan(ratio):
        return "unknown times"
    if ratio in (0, math.inf):
        return f"{ratio:.0f} times"
    readable = 1e-3 <= ratio < 1e4
    return f"{ratio:.2g} times" if readable else f"10^{math.log10(ratio):.1f} times"
