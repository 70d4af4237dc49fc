"""What a gradient table says, in words, from stated thresholds."""

import math

import numpy as np

from keras_deeplstm.callbacks.gradient_plots import depth_profile, first_last_ratio, state_profile

# Powers of ten between the last depth step and the first.
ARRIVES = 1.0
GONE = 3.0


def verdict(frame, states=None):
    """Say in one sentence how the gradient fares on its way down, at the end of the record.

    The gradient "arrives" if its norm changes by less than a factor of 10 between the last and the
    first depth step; it "vanishes" or "explodes" beyond a factor of 1000; in between it "falls" or
    "grows". The median over the last tenth of the recorded steps counts. A gradient that is NaN or
    infinite in the last of them is called so; before, a few such steps are part of training with
    dynamic loss scaling.

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
    ...                       "depth": [2, 30], "statistic": "norm", "value": [1e-6, 2.0]})
    >>> verdict(frame)
    'The gradient vanishes: it falls by 10^6.3 between depth step 30 and depth step 2.'
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
    first, last = profile.depth.min(), profile.depth.max()
    ratios = first_last_ratio(frame).ratio
    late = ratios.tail(max(1, len(ratios) // 10))
    if late.isna().all():
        return f"The gradient is zero at depth step {last:.0f} and at depth step {first:.0f}."
    power = _power(late.median())
    sentence = f"The gradient {_word(power)}"
    if abs(power) >= ARRIVES:
        sentence += ":"
    else:
        sentence += ", since"
    sentence += f" it {_by(power)} between depth step {last:.0f} and depth step {first:.0f}"
    if states is not None:
        sentence += "".join(
            f"; along the {path} path alone it {_by(_power(ratio))}"
            for path, ratio in path_ratios(states).items()
        )
    return sentence + "."


def path_ratios(states):
    """First-to-last ratio of the state gradients along each single path, at the last epoch.

    Args:
        states: A frame of `StateGradients` or of `diagnostics.state_gradients`.

    Returns:
        A dict from "memory" and "hidden", where they were measured, to dLoss/dc (or dLoss/dh) at
        depth step 1 divided by that at the last one; NaN if one of them is not finite, or the last
        one is 0.

    Example:

    >>> import pandas as pd
    >>> from keras_deeplstm.callbacks.verdict import path_ratios
    >>> states = pd.DataFrame({"direction": "depth", "state": "c", "path": "memory",
    ...                        "depth": [1, 2, 3], "value": [0.5, 1.0, 2.0]})
    >>> float(path_ratios(states)["memory"])
    0.25
    """
    if "epoch" in states:
        states = states[states.epoch == states.epoch.max()]
    profile = state_profile(states).sort_values("depth")
    ratios = {}
    for path in ("memory", "hidden"):
        norms = profile[profile.path == path].value
        if len(norms) > 1:
            first, last = norms.iloc[0], norms.iloc[-1]
            told = last > 0 and math.isfinite(first) and math.isfinite(last)
            ratios[path] = first / last if told else math.nan
    return ratios


def _power(ratio):
    if ratio == 0:
        return -math.inf
    return math.log10(ratio)


def _word(power):
    if abs(power) < ARRIVES:
        return "arrives"
    if abs(power) > GONE:
        return "vanishes" if power < 0 else "explodes"
    return "falls" if power < 0 else "grows"


def _by(power):
    if math.isnan(power):
        return "cannot be told"
    if power == -math.inf:
        return "falls to nothing"
    return f"{'falls' if power < 0 else 'grows'} by 10^{abs(power):.1f}"
