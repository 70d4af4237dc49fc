"""The parts of the frames that `SignalFlow` records which pictures, verdicts and alerts look at."""


def depth_profile(frame):
    """The rows that show the norm of the signal against depth.

    Those of the hidden state of the first layer that has depth steps; of a model without one, of
    what its layers return, with `depth` their number from 1.
    """
    norms = frame[frame.statistic == "norm"]
    stacked = norms[(norms.signal == "h") & (norms.direction == "depth")]
    if len(stacked):
        return stacked[stacked.layer == stacked.layer.iloc[0]]
    outputs = norms[norms.signal == "output"]
    names = list(dict.fromkeys(outputs.layer))
    return outputs.assign(depth=outputs.layer.map(names.index) + 1.0)


def dead_units(frame):
    """The rows that say which share of the units is dead."""
    return frame[(frame.statistic == "dead") & frame.signal.isin(["output", "h"])]


def stuck_gates(frame):
    """The rows that say which share of the gates is stuck.

    An open forget gate is not: that is how a memory lasts.
    """
    saturated = frame[frame.statistic.isin(["closed", "open"])]
    return saturated[(saturated.signal != "f") | (saturated.statistic == "closed")]
