"""What mean-field theory says of the gradient of an untied LSTM over depth before training."""

import numpy as np
import pandas as pd
from keras import ops

from keras_deeplstm import validation
from keras_deeplstm.layers import UnfoldedLSTMBlock
from keras_deeplstm.layers.kernels import is_textbook

NEEDED = {"tied": False, "input_mode": "first", "normalization": None, "peepholes": False,
          "state_initializer": "zeros"}  # fmt: skip


def mean_field_gradients(layer, x, samples=1000, seed=0):
    """Predict the gradients of the states of an `UnfoldedLSTMBlock` from its weights' variances.

    In a very wide layer whose matrices U_l are drawn anew for each step, the pre-activations of a
    step are normal and independent of all before, and so is what a gradient becomes on its way back
    through a matrix. Hence one unit tells all: its memory cell is drawn from step to step, and the
    gradient is carried back along it,

        z_l ~ N(b, units Var(U_l) E[h_{l-1}^2]),  c_l and h_l from z_l as in the layer
        dL/dc_l = f_{l+1} dL/dc_{l+1} + o_l (1 - tanh(c_l)^2) dL/dh_l
        dL/dh_l ~ N(0, units Var(U_{l+1}) sum of E[(dL/dz_{l+1})^2] over the four gates)

    from dL/dh of variance 1 at the last step. No gradient is computed, and no weight is read but
    for its variance and its mean.

    Source: mean-field theory of gated networks (arXiv 1901.08987, 1806.05394), whose assumption of
    independent matrices is true here.

    Args:
        layer: An `UnfoldedLSTMBlock` that is built: untied, with `input_mode="first"`, a zero
            initial state, tanh and sigmoid, without normalization and peepholes.
        x: A batch `(batch, features)`.
        samples: Units that are drawn for each example. Memory: 40 bytes for each of them, of the
            examples and of the steps.
        seed: Of these draws.

    Returns:
        A DataFrame `depth, state, value`: `value` is the predicted norm of dL/dh (state "h") or
        dL/dc ("c") at a step, divided by that of dL/dh at the last step, if the loss depends on all
        examples alike.

    Raises:
        ValueError: The layer is not built, or it is another one.

    Example:

    >>> import numpy as np
    >>> from keras_deeplstm.diagnostics import mean_field_gradients
    >>> from keras_deeplstm.layers import UnfoldedLSTMBlock
    >>> layer = UnfoldedLSTMBlock(50, 100, input_gate_bias="depth")
    >>> layer.build((None, 8))
    >>> table = mean_field_gradients(layer, np.ones((4, 8))).set_index(["state", "depth"]).value
    >>> # The memory brings the gradient down a hundred steps.
    >>> bool(0.1 < table["c", 1] < 10)
    True
    """
    _check(layer, x)
    draw = np.random.default_rng(seed).normal
    steps = _forward(layer, np.asarray(x, "float64"), lambda: draw(size=(4, len(x), samples)))
    rows, dc, gain = [], 0.0, 1.0
    for depth in range(layer.depth, 0, -1):
        (i, f, g, o), before, spread = steps[depth - 1]
        squash = np.tanh(f * before + i * g)
        dh = np.sqrt(gain) * draw(size=squash.shape)
        dc = dc + dh * o * (1 - squash**2)
        rows += [(depth, "h", np.sqrt(np.mean(gain))), (depth, "c", np.sqrt(np.mean(dc**2)))]
        dz = (dc * g * i * (1 - i), dc * before * f * (1 - f), dc * i * (1 - g**2))
        dz = np.stack([*dz, dh * squash * o * (1 - o)])
        gain = np.einsum("g,gen->e", spread, dz**2)[:, None] / samples
        dc = dc * f
    return pd.DataFrame(rows[::-1], columns=["depth", "state", "value"])


def _check(layer, x):
    if not isinstance(layer, UnfoldedLSTMBlock) or not layer.built:
        raise ValueError(f"The layer must be an UnfoldedLSTMBlock that is built. Received: {layer}")
    for name, value in NEEDED.items():
        if (given := getattr(layer, name)) != value:
            raise ValueError(f"The prediction is for `{name}={value!r}`. Received: {given!r}")
    if not is_textbook(layer.activation, layer.recurrent_activation):
        raise ValueError("The prediction is for the activations tanh and sigmoid")
    if np.ndim(x) != 2:
        validation.refuse("x", "a batch of shape (batch, features)", np.shape(x))


def _forward(layer, x, draw):
    """For each step the gates (i, f, g, o), c of the step before, and units Var(U) of each gate."""
    units, (batch, features) = layer.units, np.shape(x)
    kernel = _by_gate(layer.kernel, (features, 4, units))
    # Of each gate and example, with an axis for the units.
    of_input = np.mean(kernel**2, axis=(0, 2))[:, None, None] * np.sum(x**2, axis=1)[:, None]
    biases = np.zeros((layer.depth, 4))
    if layer.use_bias:
        biases = _by_gate(layer.bias, (layer.depth, 4, units)).mean(axis=2)
    spreads = np.zeros((layer.depth, 4))  # the first step has no U
    if layer.depth > 1:
        kernels = _by_gate(layer.recurrent_kernel, (-1, units, 4, units))
        spreads[1:] = units * np.mean(kernels**2, axis=(1, 3))

    steps, h, c = [], np.zeros((batch, 1)), np.zeros((batch, 1))
    for bias, spread in zip(biases, spreads, strict=True):
        variance = spread[:, None, None] * np.mean(h**2, axis=1, keepdims=True)
        variance = variance if steps else of_input
        z = np.sqrt(variance) * draw() + bias[:, None, None]
        i, f, o = (1 / (1 + np.exp(-z[gate])) for gate in (0, 1, 3))
        g = np.tanh(z[2])
        steps.append(((i, f, g, o), c, spread))
        c = f * c + i * g
        h = o * np.tanh(c)
    return steps


def _by_gate(weight, shape):
    return np.reshape(ops.convert_to_numpy(weight), shape).astype("float64")
