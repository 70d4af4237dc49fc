"""Independent NumPy reference of GridLSTM3D: cell by cell, as the equations stand.

It shares no code with the package, nor its order of computation: for each image, each network, each
layer, each cell in turn.
"""

import functools

import numpy as np
from grid_reference import sigmoid

STARTS = {"top_left": "++", "top_right": "+-", "bottom_left": "-+", "bottom_right": "--"}


def image_grid(
    images,
    weights,
    *,
    units,
    depth,
    tied=False,
    priority="depth",
    project_inputs="hidden",
    patches=(1, 1),
    directions=("top_left",),
    combine="concat",
    mask=None,
    gates=None,
):
    """Return h_D and c_D of the top layer, `(networks, batch, rows, columns, units)`, and a list.

    The list has, for each network and image, the last cell `(i, j)` of the scan, None if all are
    masked. `weights` by name as in the layer. `gates`, a dict, gets the gates i, f, o of the LSTMs
    "row", "column" and "depth" by layer, network, image and position.
    """
    high, wide = patches
    batch, height, width, _ = images.shape
    rows, columns = height // high, width // wide
    networks = 1 if combine == "turns" else len(directions)
    top_h, top_c = np.zeros((2, networks, batch, rows, columns, units))
    lasts = []
    shared = {False: (), "depth": ("depth_",), True: ("depth_", "row_", "column_")}[tied]
    shared += "hidden_", "memory_"

    def get(name, layer, network):
        value = weights.get(name)
        if value is None:
            return 0
        value = value if name.startswith(shared) else value[layer]
        return value[network] if networks > 1 else value

    for network in range(networks):
        for image in range(batch):
            h_d, c_d = np.zeros((2, rows, columns, units))
            for i in range(rows):
                for j in range(columns):
                    patch = images[image, i * high : (i + 1) * high, j * wide : (j + 1) * wide]
                    flat = x = patch.reshape(-1)
                    if project_inputs:
                        x = _project(x, "hidden", get, network, weights)
                    h_d[i, j] = x
                    if project_inputs == "both":
                        c_d[i, j] = _project(flat, "memory", get, network, weights)
            for layer in range(depth):
                one = functools.partial(get, layer=layer, network=network)
                which = layer % len(directions) if combine == "turns" else network
                start = STARTS[directions[which]]
                order_i = range(rows)[:: 1 if start[0] == "+" else -1]
                order_j = range(columns)[:: 1 if start[1] == "+" else -1]
                down, right = order_i.step, order_j.step
                states, new_h, new_c = {}, h_d.copy(), c_d.copy()
                zero = (np.zeros(units),) * 2
                for i in order_i:
                    for j in order_j:
                        h_r, c_r = states.get(("r", i - down, j), zero)
                        h_c, c_c = states.get(("c", i, j - right), zero)
                        if mask is not None and not mask[image, i, j]:
                            states["r", i, j], states["c", i, j] = (h_r, c_r), (h_c, c_c)
                            continue
                        below = h_d[i, j]
                        row = _lstm(one, "row", below, h_r, h_c, c_r)
                        column = _lstm(one, "column", below, h_c, h_r, c_c)
                        states["r", i, j], states["c", i, j] = row, column
                        read = (row[0], column[0]) if priority == "depth" else (h_r, h_c)
                        z = np.concatenate(read) @ one("depth_kernel")
                        z = z + below @ one("depth_recurrent_kernel") + one("depth_bias")
                        new_h[i, j], new_c[i, j] = _step(z, c_d[i, j])
                        if gates is not None:
                            place = layer, network, image, i, j
                            gates["row", *place] = _gates(_z(one, "row", below, h_r, h_c))
                            gates["column", *place] = _gates(_z(one, "column", below, h_c, h_r))
                            gates["depth", *place] = _gates(z)
                h_d, c_d = new_h, new_c
            for i in range(rows):
                for j in range(columns):
                    if mask is None or mask[image, i, j]:
                        top_h[network, image, i, j] = h_d[i, j]
                        top_c[network, image, i, j] = c_d[i, j]
            valid = [
                (a + b, a, (i, j))
                for a, i in enumerate(order_i)
                for b, j in enumerate(order_j)
                if mask is None or mask[image, i, j]
            ]
            lasts.append(max(valid)[2] if valid else None)
    return top_h, top_c, lasts


def _project(x, state, get, network, weights):
    y = x @ get(f"{state}_kernel", None, network)
    return y + get(f"{state}_bias", None, network) if f"{state}_bias" in weights else y


def _lstm(one, name, below, own, other, c):
    return _step(_z(one, name, below, own, other), c)


def _z(one, name, below, own, other):
    z = below @ one(f"{name}_kernel") + own @ one(f"{name}_recurrent_kernel")
    return z + other @ one(f"{name}_cross_kernel") + one(f"{name}_bias")


def _gates(z):
    i, f, _, o = np.split(sigmoid(z), 4)
    return {"i": i, "f": f, "o": o}


def _step(z, c):
    i, f, g, o = np.split(z, 4)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c
