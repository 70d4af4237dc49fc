"""Whether the gradient arrives: the one definition, and the sentence."""

import math

import numpy as np

from keras_deeplstm.callbacks.gradient_tables import (
    depth_profile,
    first_last_ratio,
    last_steps,
    path_ratios,
)

ARRIVES_WITHIN = 10.0  # factors between the last depth step and the first
GONE_BEYOND = 1000.0


def fate(ratio):
    """Return, in one word, what becomes of the gradient on its way to the first depth step.

    Args:
        ratio: Its norm at the first depth step divided by that at the last, such as `last_steps`
            of a `first_last_ratio`.

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

    The words are those of `fate`, for the median over the last tenth of the recorded steps. A
    gradient that is NaN or infinite in the last of them is called so; before, a few such steps are
    part of training with dynamic loss scaling.

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
    first, last = profile.depth.min(), profile.depth.max()
    ratio = last_steps(first_last_ratio(frame))
    if math.isnan(ratio):
        return f"The gradient is zero at depth step {last:.0f} and at depth step {first:.0f}."
    sentence = (
        f"The gradient {fate(ratio)}: at depth step {first:.0f} it is {_times(ratio)} that at "
        f"depth step {last:.0f}"
    )
    if states is not None:
        sentence += "".join(
            f"; through the {path} path alone {_times(ratio)}"
            for path, ratio in path_ratios(states).items()
        )
    return sentence + "."


def _times(ratio):
    if math.isnan(ratio):
        return "unknown times"
    if ratio in (0, math.inf):
        return f"{ratio:.0f} times"
    readable = 1e-3 <= ratio < 1e4
    return f"{ratio:.2g} times" if readable else f"10^{math.log10(ratio):.1f} times"
