"""Independent NumPy references. They share no code with the package and loop over everything."""

import numpy as np


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def lstm_step(z, c, units, peephole=None):
    """One LSTM step for one row; gate order i, f, c, o, that of peepholes i, f, o."""
    p_i, p_f, p_o = np.zeros((3, units)) if peephole is None else peephole
    i, f = sigmoid(z[:units] + p_i * c), sigmoid(z[units : 2 * units] + p_f * c)
    c = f * c + i * np.tanh(z[2 * units : 3 * units])
    return sigmoid(z[3 * units :] + p_o * c) * np.tanh(c), c


def unfolded_lstm(x, weights, *, units, depth, input_mode="first", tied=False, h0=None, c0=None):
    """Hidden states `(rows, depth, units)` and last memory cells, without normalization.

    `weights` by name as in the layer. Steps without a recurrent kernel take none.
    """
    outputs, memories = [], []
    for row in x:
        h = np.zeros(units) if h0 is None else h0
        c = np.zeros(units) if c0 is None else c0
        if input_mode == "state":
            h = row @ weights["hidden_kernel"] + weights["hidden_bias"]
            c = row @ weights["memory_kernel"] + weights["memory_bias"]
        steps = []
        missing = depth - len(weights["recurrent_kernel"]) if not tied else int(h0 is None)
        for step in range(depth):
            z = weights["bias"] if tied else weights["bias"][step]
            if input_mode == "every" or (input_mode == "first" and step == 0):
                z = z + row @ weights["kernel"]
            if tied:
                z = z + h @ weights["recurrent_kernel"]
            elif step >= missing:
                z = z + h @ weights["recurrent_kernel"][step - missing]
            peephole = weights.get("peephole")
            if peephole is not None and not tied:
                peephole = peephole[step]
            h, c = lstm_step(z, c, units, peephole)
            steps.append(h)
        outputs.append(steps)
        memories.append(c)
    return np.array(outputs), np.array(memories)


def dense_stack(x, weights, *, depth, activation):
    """Hidden states `(rows, depth, units)` of an untied stack."""
    outputs = []
    for row in x:
        h, steps = row, []
        for step in range(depth):
            kernel = weights["kernel"] if step == 0 else weights["recurrent_kernel"][step - 1]
            h = activation(h @ kernel + weights["bias"][step])
            steps.append(h)
        outputs.append(steps)
    return np.array(outputs)


def highway(x, weights, *, depth):
    """Hidden states `(rows, depth, units)` of an untied highway network with tanh."""
    outputs = []
    for row in x:
        h = np.tanh(row @ weights["kernel"] + weights["input_bias"])
        steps = [h]
        for kernel, bias in zip(weights["recurrent_kernel"], weights["bias"], strict=True):
            candidate, gate = np.split(h @ kernel + bias, 2)
            t = sigmoid(gate)
            h = t * np.tanh(candidate) + (1 - t) * h
            steps.append(h)
        outputs.append(steps)
    return np.array(outputs)


def residual(x, weights, *, depth, kind="pre", epsilon=1e-3):
    """Outputs `(rows, depth, units)` of an untied residual network with tanh."""

    def norm(h, scale, offset):
        return (h - h.mean()) / np.sqrt(h.var() + epsilon) * scale + offset

    w, outputs = weights, []
    for row in x:
        h = row @ w["kernel"] + w["input_bias"]
        stream = [h]
        for i in range(depth - 1):

            def norm_of_step(h, i=i):
                return norm(h, w["norm_scale"][i], w["norm_offset"][i])

            def branch(z, i=i):
                z = np.tanh(z @ w["recurrent_kernel"][i] + w["bias"][i])
                return z @ w["output_kernel"][i] + w["output_bias"][i]

            if kind == "pre":
                h = h + branch(norm_of_step(h))
            elif kind == "scaled":
                h = h + branch(norm_of_step(h) / np.sqrt(i + 1))
            elif kind == "post":
                h = norm_of_step(h + branch(h))
            elif kind == "deepnorm":
                h = norm_of_step((depth - 1) ** 0.25 * h + branch(h))
            elif kind == "four-layer":
                z = h
                for k in range(4):
                    z = z @ w["recurrent_kernel"][i, k] + w["bias"][i, k]
                    z = np.tanh(norm(z, w["norm_scale"][i, k], w["norm_offset"][i, k]))
                h = h + z
            else:  # "rezero", "skipinit", "fixup" differ in what they start with
                h = h + w["residual_weight"][i] * branch(h)
            stream.append(h)
        if kind in ("pre", "scaled"):
            stream = [norm(h, w["output_norm_scale"], w["output_norm_offset"]) for h in stream]
        outputs.append(stream)
    return np.array(outputs)


def layer_norm(h, scale, offset, epsilon=1e-3):
    """Over the last axis."""
    centred = h - h.mean(axis=-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + epsilon) * scale + offset


def rms_norm(h, scale, epsilon=1e-3):
    return h / np.sqrt((h**2).mean(axis=-1, keepdims=True) + epsilon) * scale


def attention(x, weights, mask=None):
    """Self-attention of `(batch, time, units)` with the weights of `MultiHeadAttention`.

    `mask` says which positions (second axis) each position (first axis) of an example sees.
    """
    wq, bq, wk, bk, wv, bv, wo, bo = weights
    out = np.zeros_like(x)
    for n, sequence in enumerate(x):
        for head in range(wq.shape[1]):
            q, k, v = (sequence @ w[:, head] + b[head] for w, b in ((wq, bq), (wk, bk), (wv, bv)))
            for t in range(len(sequence)):
                seen = range(len(sequence)) if mask is None else np.flatnonzero(mask[n, t])
                scores = np.array([q[t] @ k[s] / np.sqrt(wq.shape[2]) for s in seen])
                shares = np.exp(scores - scores.max())
                shares /= shares.sum()
                out[n, t] += sum(a * v[s] for a, s in zip(shares, seen, strict=True)) @ wo[head]
        out[n] += bo
    return out


def depth_lstm(x, layers, weights, c0=None, norm=None, memory_norm=None):
    """h and c after each step, each `(depth, *x.shape)`; `layers` are functions of NumPy.

    `weights` by name as in the layer, stacked over depth. `norm` and `memory_norm` take h or c, and
    the number of the step from 0.
    """
    h, c = x, np.zeros_like(x) if c0 is None else c0
    hidden, memory = [], []
    for step, layer in enumerate(layers):
        y = layer(h if norm is None else norm(h, step))
        h_new, c_new = np.zeros_like(h), np.zeros_like(c)
        for position in np.ndindex(*x.shape[:-1]):
            z = y[position] @ weights["kernel"][step]
            z = z + h[position] @ weights["recurrent_kernel"][step] + weights["bias"][step]
            h_new[position], c_new[position] = lstm_step(z, c[position], x.shape[-1])
            if memory_norm is not None:
                seen = np.tanh(memory_norm(c_new[position], step))
                h_new[position] = sigmoid(z[-x.shape[-1] :]) * seen
        h, c = h_new, c_new
        hidden.append(h)
        memory.append(c)
    return np.array(hidden), np.array(memory)


def connected(kind, x, layers, weights):
    """The output of `Residual` of a kind, or of `Highway` (kind "highway"), with layer norms."""
    w, h = weights, x
    for step, layer in enumerate(layers):
        if "norm_scale" in w:
            scale, offset = w["norm_scale"][step], w["norm_offset"][step]
        if kind == "pre":
            h = h + layer(layer_norm(h, scale, offset))
        elif kind == "post":
            h = layer_norm(h + layer(h), scale, offset)
        elif kind == "rezero":
            h = h + w["residual_weight"][step] * layer(h)
        elif kind == "scaled":
            h = h + layer(layer_norm(h, scale, offset) / np.sqrt(step + 1))
        else:
            t = sigmoid(h @ w["recurrent_kernel"][step] + w["bias"][step])
            h = t * layer(layer_norm(h, scale, offset)) + (1 - t) * h
    if "output_norm_scale" in w:
        h = layer_norm(h, w["output_norm_scale"], w["output_norm_offset"])
    return h
