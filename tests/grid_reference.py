"""Independent NumPy reference of GridLSTM2D: cell by cell, as the paper draws it.

It shares no code with the package, nor its order of computation: for each row, each time, each
layer in turn.
"""

import numpy as np


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def grid_lstm(
    x,
    weights,
    *,
    units,
    depth,
    tied=False,
    priority="depth",
    project_inputs="hidden",
    mask=None,
    initial_state=None,
    go_backwards=False,
):
    """Return h_D and c_D of the top layer, each `(rows, time, units)`, and the last states.

    `weights` by name as in the layer; it normalizes if there are scales. The outputs are in the
    order of reading.
    """
    rows, time, _ = x.shape
    shared = {False: (), "depth": ("depth_",), True: ("depth_", "time_")}[tied]

    def get(name, layer):
        if name not in weights:
            return None
        is_shared = name.startswith(shared) and not name.endswith(("_scale", "_offset"))
        return weights[name] if is_shared else weights[name][layer]

    def norm(v, scale, offset=None):
        if scale is None:
            return v
        v = (v - v.mean()) / np.sqrt(v.var() + 1e-3) * scale
        return v if offset is None else v + offset

    def lstm(direction, layer, below, recurrent, c):
        parts = []
        for what, vector in (("kernel", below), ("recurrent_kernel", recurrent)):
            scale = get(f"{direction}_{what}_scale", layer)
            parts.append(norm(vector @ get(f"{direction}_{what}", layer), scale))
        z = parts[0] + parts[1]
        if f"{direction}_bias" in weights:
            z = z + get(f"{direction}_bias", layer)
        i, f, g, o = np.split(z, 4)
        peephole = get(f"{direction}_peephole", layer)
        p_i, p_f, p_o = np.zeros((3, units)) if peephole is None else peephole
        c = sigmoid(f + p_f * c) * c + sigmoid(i + p_i * c) * np.tanh(g)
        o = o + p_o * c
        scale, offset = (get(f"{direction}_memory_{part}", layer) for part in ("scale", "offset"))
        return sigmoid(o) * np.tanh(norm(c, scale, offset)), c

    def project(state, features):
        y = features @ weights[f"{state}_kernel"]
        return y + weights[f"{state}_bias"] if f"{state}_bias" in weights else y

    top_h, top_c = np.zeros((rows, time, units)), np.zeros((rows, time, units))
    states = np.zeros((2 * depth, rows, units))
    if initial_state is not None:
        states[:] = initial_state
    for row in range(rows):
        h_out, c_out = np.zeros(units), np.zeros(units)
        for position, t in enumerate(reversed(range(time)) if go_backwards else range(time)):
            if mask is None or mask[row][t]:
                h_d = x[row, t] if project_inputs is None else project("hidden", x[row, t])
                c_d = project("memory", x[row, t]) if project_inputs == "both" else np.zeros(units)
                for layer in range(depth):
                    before, c_t = states[2 * layer, row], states[2 * layer + 1, row]
                    h_t, c_t = lstm("time", layer, h_d, before, c_t)
                    read = h_t if priority == "depth" else before.copy()
                    states[2 * layer, row], states[2 * layer + 1, row] = h_t, c_t
                    h_d, c_d = lstm("depth", layer, read, h_d, c_d)
                h_out, c_out = h_d, c_d
            top_h[row, position], top_c[row, position] = h_out, c_out
    return top_h, top_c, list(states)
