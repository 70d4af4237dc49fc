"""Tables made of the frames that `GradientFlow` and `StateGradients` record."""

import math

import numpy as np
import pandas as pd

MODEL = "model"  # in place of a layer's name, where a model is read as one chain


def stacks(frame):
    """Return the gradient norms of the recurrent kernels that each depth step has of its own.

    Args:
        frame: A frame of `GradientFlow.to_frame()`.

    Returns:
        Its rows of statistic "norm" of weights with several depth steps.

    Example:

    >>> import pandas as pd
    >>> from keras_deeplstm.callbacks import gradient_tables
    >>> frame = pd.DataFrame({"step": 1, "layer": ["block", "block", "logits"],
    ...                       "weight": ["recurrent_kernel", "recurrent_kernel", "kernel"],
    ...                       "depth": [2, 3, float("nan")], "statistic": "norm",
    ...                       "value": [0.1, 0.2, 0.3]})
    >>> gradient_tables.stacks(frame).value.tolist()
    [0.1, 0.2]
    """
    norms = frame[(frame.statistic == "norm") & frame.depth.notna()]
    norms = norms[norms.weight.str.endswith("recurrent_kernel")]
    return norms[norms.groupby(["layer", "weight"]).depth.transform("nunique") > 1]


def depth_profile(frame):
    """Return the rows that show gradient norm against depth.

    These are the `stacks`, each by itself. A model without any is read as a chain of layers: their
    kernels in order, numbered from 1.

    Args:
        frame: A frame of `GradientFlow.to_frame()`.

    Returns:
        Its rows of statistic "norm" with `depth` filled in and a column `chain`: the rows along
        which the gradient is followed, "layer/weight" of a stack, "" of a model.

    Example:

    >>> import pandas as pd
    >>> from keras_deeplstm.callbacks import gradient_tables
    >>> frame = pd.DataFrame({"step": 1, "layer": ["dense", "dense", "logits"],
    ...                       "weight": ["kernel", "bias", "kernel"], "depth": float("nan"),
    ...                       "statistic": "norm", "value": [0.1, 0.2, 0.3]})
    >>> gradient_tables.depth_profile(frame)[["layer", "depth", "value"]].values.tolist()
    [['dense', 1.0, 0.1], ['logits', 2.0, 0.3]]
    """
    stacked = stacks(frame)
    if len(stacked):
        return stacked.assign(chain=stacked.layer + "/" + stacked.weight)
    # What leads from a layer to itself, in time or in tied depth, is no further layer of a chain.
    kernel, recurrent = (frame.weight.str.endswith(end) for end in ("kernel", "recurrent_kernel"))
    norms = frame[(frame.statistic == "norm") & kernel & ~recurrent]
    names = norms.layer + "/" + norms.weight + "/" + norms.depth.fillna(0).astype(str)
    return norms.assign(depth=pd.factorize(names)[0] + 1.0, chain="")


def first_last_ratio(frame):
    """Return how much of the gradient of the last depth step arrives at the first.

    Args:
        frame: A frame of `GradientFlow.to_frame()`.

    Returns:
        A DataFrame `step, layer, weight, ratio`: the gradient norm of the first depth step that
        has a recurrent kernel, divided by that of the last, at each recorded step, for each of the
        `stacks`. A model without any gives one row a step, of layer "model", for the first and last
        of its kernels (see `depth_profile`). NaN where one of the two norms is NaN.

    Example:

    >>> import pandas as pd
    >>> from keras_deeplstm.callbacks import gradient_tables
    >>> frame = pd.DataFrame({"step": 1, "layer": "block", "weight": "recurrent_kernel",
    ...                       "depth": [2, 3, 4], "statistic": "norm", "value": [0.01, 0.1, 1.0]})
    >>> gradient_tables.first_last_ratio(frame).values.tolist()
    [[1, 'block', 'recurrent_kernel', 0.01]]
    """
    profile = depth_profile(frame)
    profile.loc[profile.chain == "", ["layer", "weight"]] = MODEL, "kernel"
    ordered = profile.sort_values("depth", kind="stable").groupby(["step", "layer", "weight"]).value
    first, last = (end(skipna=False) for end in (ordered.first, ordered.last))
    with np.errstate(divide="ignore", invalid="ignore"):
        return (first / last).rename("ratio").reset_index()


def farthest(ratios):
    """Return of each step the ratio that is farthest from 1, where several stacks have one.

    Args:
        ratios: A frame of `first_last_ratio`.

    Returns:
        Its rows, one of each step.

    Example:

    >>> import pandas as pd
    >>> from keras_deeplstm.callbacks import gradient_tables
    >>> ratios = pd.DataFrame({"step": [1, 1, 2, 2], "ratio": [0.5, 1e-9, 100.0, 1.0]})
    >>> gradient_tables.farthest(ratios).ratio.tolist()
    [1e-09, 100.0]
    """
    return _farthest_first(ratios).groupby("step").head(1).sort_values("step")


def last_steps(ratios):
    """Return the ratio of each stack at the end of training: the median over the last tenth.

    Single batches differ much once the loss is small.

    Args:
        ratios: A frame of `first_last_ratio`.

    Returns:
        A DataFrame `layer, weight, ratio`, the ratio that is farthest from 1 first. NaN if none of
        these steps is known: it comes before all others.

    Example:

    >>> import pandas as pd
    >>> from keras_deeplstm.callbacks import gradient_tables
    >>> ratios = pd.DataFrame({"step": range(1, 21), "layer": "block", "weight": "recurrent_kernel",
    ...                        "ratio": [0.1] * 18 + [0.4, 0.6]})
    >>> gradient_tables.last_steps(ratios).values.tolist()
    [['block', 'recurrent_kernel', 0.5]]
    """
    steps = np.unique(ratios.step)
    late = ratios[ratios.step.isin(steps[-max(1, len(steps) // 10) :])]
    return _farthest_first(late.groupby(["layer", "weight"], as_index=False).ratio.median())


def _farthest_first(ratios):
    with np.errstate(divide="ignore"):
        distance = np.abs(np.log(ratios.ratio)).fillna(math.inf)
    return ratios.loc[distance.sort_values(ascending=False, kind="stable").index]


def clipping(frame):
    """Return how often and by how much the optimizer's clipping acted.

    Args:
        frame: A frame of `GradientFlow.to_frame()` with the statistic "clipped".

    Returns:
        A DataFrame `layer, weight, share, factor`, for each weight: the share of the recorded steps
        in which clipping acted (of those that applied a gradient), and the median factor by which
        it then shortened the gradient; NaN if it never did.

    Example:

    >>> import pandas as pd
    >>> from keras_deeplstm.callbacks import gradient_tables
    >>> frame = pd.DataFrame({"step": [1, 2, 3, 4], "layer": "dense", "weight": "kernel",
    ...                       "depth": float("nan"), "statistic": "clipped",
    ...                       "value": [0.25, 0.75, 1.0, 1.0]})
    >>> gradient_tables.clipping(frame).values.tolist()
    [['dense', 'kernel', 0.5, 0.5]]
    """
    factors = frame[(frame.statistic == "clipped") & frame.value.notna()]
    # All depth steps of a weight together; a factor of 1 may be off by rounding.
    acted = factors.assign(share=factors.value < 1 - 1e-6)
    acted = acted.assign(factor=acted.value.where(acted.share))
    by_step = acted.groupby(["layer", "weight", "step"], sort=False)
    by_step = by_step.agg({"share": "any", "factor": "median"}).reset_index()
    by_weight = by_step.groupby(["layer", "weight"], sort=False)
    return by_weight.agg({"share": "mean", "factor": "median"}).reset_index()


PAIRS = 10  # of steps, the fewest by which a noise scale is estimated


def noise_scale(frame, parts=10):
    """Return the gradient noise scale over training, in examples.

    Sums over many pairs of steps are divided, since the estimate of a single pair is far off
    (arXiv 1812.06162, appendix A.1).

    Args:
        frame: A frame of `GradientNoise.to_frame()`.
        parts: The most parts of training, each with as many pairs, but with at least PAIRS (10);
            one part if there are fewer pairs.

    Returns:
        A DataFrame `step, pairs, noise, signal, noise_scale`, a row for each part: its last step,
        the number of its pairs, the means of the estimates of tr(S) and |G|^2 over them, and the
        quotient; NaN if the signal is not above 0.

    Example:

    >>> import pandas as pd
    >>> from keras_deeplstm.callbacks import gradient_tables
    >>> frame = pd.DataFrame({"step": [2, 2, 3, 3], "layer": "dense", "weight": "kernel",
    ...                       "depth": float("nan"), "statistic": ["signal", "noise"] * 2,
    ...                       "value": [1.0, 30.0, 2.0, 60.0]})
    >>> gradient_tables.noise_scale(frame, parts=1).values.tolist()
    [[3.0, 2.0, 45.0, 1.5, 30.0]]
    """
    sums = frame.pivot_table(index="step", columns="statistic", values="value", aggfunc="sum")
    rows = []
    for part in np.array_split(np.arange(len(sums)), max(min(parts, len(sums) // PAIRS), 1)):
        if len(part):
            noise, signal = (float(sums[name].iloc[part].mean()) for name in ("noise", "signal"))
            scale = noise / signal if signal > 0 else math.nan
            rows.append((sums.index[part[-1]], len(part), noise, signal, scale))
    return pd.DataFrame(rows, columns=["step", "pairs", "noise", "signal", "noise_scale"])


def state_profile(states):
    """Return the norms of state gradients against depth.

    Args:
        states: A frame of `StateGradients.to_frame()` or of `diagnostics.state_gradients`.

    Returns:
        A DataFrame `epoch` (if it was there), `state, path, depth, value`: of sequences the norm
        over all times.

    Example:

    >>> import pandas as pd
    >>> from keras_deeplstm.callbacks import gradient_tables
    >>> states = pd.DataFrame({"direction": "depth", "state": "c", "path": "total", "depth": 1,
    ...                        "time": [1, 2], "value": [3.0, 4.0]})
    >>> gradient_tables.state_profile(states).values.tolist()
    [['c', 'total', 1, 5.0]]
    """
    along_depth = states[states.direction == "depth"]
    keys = [key for key in ("epoch", "state", "path", "depth") if key in states]
    wide = along_depth.astype({"value": "float64"})
    # A sum of pandas would take NaN for 0.
    return wide.groupby(keys, sort=False, as_index=False).value.agg(np.linalg.norm)


def state_ratios(states):
    """Return, in two numbers, whether the gradient of the states arrives and by which path.

    Args:
        states: A frame of `StateGradients.to_frame()`.

    Returns:
        A DataFrame with the index `epoch`. `first_last` is the norm of the total dLoss/dc (of
        dLoss/dh, where there is no memory cell) at the first depth step divided by that at the
        last. `memory` is, at the first step, the norm of dLoss/dc along the memory path alone
        divided by the total: 1 if the memory cell carries the gradient and nothing else adds to
        it, near 0 if it comes by other paths. It is no share: other paths may cancel a part of
        it, which makes it larger than 1. NaN without a memory cell.

    Example:

    >>> import pandas as pd
    >>> from keras_deeplstm.callbacks import gradient_tables
    >>> states = pd.DataFrame({"epoch": 0, "direction": "depth", "state": "c",
    ...                        "path": ["total", "total", "memory", "memory"],
    ...                        "depth": [1, 2, 1, 2], "value": [0.4, 0.8, 0.3, 0.6]})
    >>> gradient_tables.state_ratios(states).round(2).loc[0].to_dict()
    {'first_last': 0.5, 'memory': 0.75}
    """
    profile = state_profile(states)
    total = profile[profile.path == "total"]
    total = total[total.state == ("c" if "c" in set(total.state) else "h")]
    memory = profile[profile.path == "memory"]
    total, memory = (frame.sort_values("depth").groupby("epoch").value for frame in (total, memory))
    first, last = total.first(skipna=False), total.last(skipna=False)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = {"first_last": first / last, "memory": memory.first(skipna=False) / first}
    return pd.DataFrame(ratios, index=first.index)


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
    >>> from keras_deeplstm.callbacks.gradient_tables import path_ratios
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
