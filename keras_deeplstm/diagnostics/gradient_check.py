"""Finite differences against autodiff, for anybody who writes a layer."""

import keras
import numpy as np
import pandas as pd
from keras import ops

from keras_deeplstm import validation
from keras_deeplstm.diagnostics.autodiff import compiled
from keras_deeplstm.diagnostics.float64 import float64
from keras_deeplstm.diagnostics.untouched import at_present, kept

FIVE_POINT = ((-2, 1 / 12), (-1, -8 / 12), (1, 8 / 12), (2, -1 / 12))


def gradient_check(layer_or_model, x, y=None, *, entries=10, step=3e-4, seed=0):
    """Compare the gradients of a layer or model with central finite differences, in float64.

    The check works on a float64 copy; what is passed in stays as it is. The loss is half the mean
    squared error to `y`, summed over outputs. Of each weight and of `x`, `entries` entries are
    drawn and shifted by `step` up and down. Inputs of integers or booleans, such as tokens, have no
    gradient and are left out.

    Args:
        layer_or_model: A Keras layer or model whose config can be serialized. A layer that is not
            built yet is built for `x`.
        x: One input array with a batch axis, or (for models) a list of them.
        y: Target like the output, or a list like the outputs; None draws one at random.
        entries: Number of entries compared per weight.
        step: The shift, an absolute number.
        seed: Of the entries and of the random target.

    Returns:
        A DataFrame with a row for each trainable weight and each real input: `weight`, `entries`,
        `largest_gradient` (largest absolute gradient among the entries), `largest_difference`
        (between autodiff and finite differences) and `relative_error` (their ratio; 0 if both
        are zero).

    Raises:
        ValueError: The layer or model cannot be rebuilt from its config, or `entries` or `step` is
            out of its range.

    Example:

    >>> import numpy as np
    >>> from keras_deeplstm.diagnostics import gradient_check
    >>> from keras_deeplstm.layers import UnfoldedLSTMBlock
    >>> table = gradient_check(UnfoldedLSTMBlock(3, depth=4), np.ones((2, 5)))
    >>> [name.rpartition("/")[2] for name in table.weight]
    ['kernel', 'recurrent_kernel', 'bias', 'input']
    >>> bool((table.relative_error < 1e-6).all())
    True
    """
    validation.positive_integer("entries", entries)
    validation.finite("step", step, positive=True)
    with float64():
        return pd.DataFrame(_table(at_present(layer_or_model), x, y, entries, step, seed))


def _table(layer_or_model, x, y, entries, step, seed):
    rng = np.random.default_rng([seed, 1])  # not the numbers that a caller may draw from the seed
    one = not isinstance(x, list | tuple)
    given = [np.array(each) for each in ([x] if one else x)]
    inputs = [each.astype("float64") for each in given]
    model = _float64_copy(layer_or_model, inputs[0] if one else inputs)

    def outputs(tensors):
        return keras.tree.flatten(model(tensors[0] if one else list(tensors)))

    if y is None:
        targets = [rng.normal(size=output.shape) for output in outputs(inputs)]
    else:
        targets = [np.asarray(each, "float64") for each in keras.tree.flatten(y)]

    def loss(*tensors):
        pairs = zip(outputs(tensors), targets, strict=True)
        return 0.5 * sum(
            ops.mean(ops.square(ops.subtract(output, target))) for output, target in pairs
        )

    def compiled_loss(gradients=None):
        run = compiled(loss, variables, gradients)

        def call(*tensors):
            with kept(model):  # each call starts from the same carried states
                return run(*tensors)

        return call

    variables = model.trainable_variables
    _, by_variable, by_input = compiled_loss("all")(*inputs)
    value = compiled_loss()
    for variable, gradient in zip(variables, by_variable, strict=True):
        values = np.array(ops.convert_to_numpy(variable))

        def loss_at(values, variable=variable):
            variable.assign(values)
            return value(*inputs)

        yield _compare(variable.path, values, gradient, loss_at, entries, step, rng)
        variable.assign(values)
    for i, (values, gradient) in enumerate(zip(inputs, by_input, strict=True)):
        if given[i].dtype.kind in "iub":
            continue

        def loss_at(values, i=i):
            return value(*inputs[:i], values, *inputs[i + 1 :])

        name = "input" if one else f"input {i}"
        yield _compare(name, values, gradient, loss_at, entries, step, rng)


def _compare(name, values, gradient, loss_at, entries, step, rng):
    chosen = rng.choice(values.size, size=min(entries, values.size), replace=False)
    by_autodiff, by_difference = gradient.reshape(-1)[chosen], []
    for entry in chosen:
        slope = 0.0
        for shifts, coefficient in FIVE_POINT:
            moved = values.copy()
            moved.reshape(-1)[entry] += shifts * step
            slope += coefficient * loss_at(moved) / step
        by_difference.append(slope)
    largest = np.max(np.abs([by_autodiff, by_difference]))
    difference = np.max(np.abs(by_autodiff - by_difference))
    return {
        "weight": name,
        "entries": len(chosen),
        "largest_gradient": largest,
        "largest_difference": difference,
        "relative_error": difference / largest if largest > 0 else 0.0,
    }


def _float64_copy(layer, inputs):
    """Rebuild a layer or model from its config with float64 everywhere, and copy its weights."""
    try:
        config = keras.saving.serialize_keras_object(layer)
        copy = keras.saving.deserialize_keras_object(_with_float64(config))
    except (NotImplementedError, TypeError, ValueError) as error:
        raise ValueError(
            f"`gradient_check` rebuilds {layer.name!r} in float64 from its config, which failed: "
            f"{error}"
        ) from error
    copy(inputs)
    if layer.built:
        for new, old in zip(copy.weights, layer.weights, strict=True):
            new.assign(ops.cast(old, new.dtype))
    return copy


def _with_float64(config):
    if isinstance(config, list | tuple):
        return [_with_float64(each) for each in config]
    if not isinstance(config, dict):
        return config
    if config.get("class_name") == "DTypePolicy":
        return {**config, "config": {**config["config"], "name": "float64"}}
    return {
        key: "float64" if key == "dtype" and value in ("float32", "float16", "bfloat16")
        else _with_float64(value)
        for key, value in config.items()
    }  # fmt: skip
