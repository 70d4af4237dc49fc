"""Finite differences against autodiff, for anybody who writes a layer."""

import keras
import numpy as np
import pandas as pd
from keras import ops

from keras_deeplstm import validation
from keras_deeplstm.diagnostics.autodiff import value_and_gradients


def gradient_check(layer_or_model, x, y=None, *, entries=10, step=1e-5, seed=0):
    """Compare the gradients of a layer or model with central finite differences, in float64.

    The check works on a float64 copy; what is passed in stays as it is. The loss is half the mean
    squared error to `y`, summed over outputs. Of each weight and of `x`, `entries` entries are
    drawn and shifted by `step` up and down.

    On JAX, float64 has to be enabled first: `jax.config.update("jax_enable_x64", True)`.

    Args:
        layer_or_model: A Keras layer or model whose config can be serialized. A layer that is not
            built yet is built for `x`.
        x: One input array with a batch axis, or (for models) a list of them.
        y: Target like the output, or a list like the outputs; None draws one at random.
        entries: Number of entries compared per weight.
        step: The shift, an absolute number.
        seed: Of the entries and of the random target.

    Returns:
        A DataFrame with a row for each trainable weight and each input: `weight`, `entries`,
        `largest_gradient` (largest absolute gradient among the entries), `largest_difference`
        (between autodiff and finite differences) and `relative_error` (their ratio; 0 if both
        are zero).

    Raises:
        ValueError: The backend computes in float32 only, or the layer cannot be copied.

    Example:

    >>> import keras, numpy as np
    >>> from keras_deeplstm.diagnostics import gradient_check
    >>> table = gradient_check(keras.layers.LSTM(3), np.ones((2, 5, 4)))  # doctest: +SKIP
    >>> bool((table.relative_error < 1e-6).all())  # doctest: +SKIP
    True
    """
    validation.positive_integer("entries", entries)
    validation.finite("step", step, positive=True)
    rng = np.random.default_rng(seed)
    inputs = [np.array(each, "float64") for each in (x if isinstance(x, list | tuple) else [x])]
    model = _float64_copy(layer_or_model, inputs)
    structure = inputs if isinstance(x, list | tuple) else inputs[0]
    first = keras.tree.flatten(model(structure))
    if y is None:
        targets = [rng.normal(size=out.shape) for out in first]
    else:
        targets = [np.asarray(each, "float64") for each in keras.tree.flatten(y)]
    if keras.backend.standardize_dtype(first[0].dtype) != "float64":
        raise ValueError(
            "`gradient_check` needs float64. On the JAX backend call "
            '`jax.config.update("jax_enable_x64", True)` first. '
            f"Received: an output of dtype {keras.backend.standardize_dtype(first[0].dtype)}"
        )

    def loss(*tensors):
        tensors = list(tensors)
        outputs = keras.tree.flatten(model(tensors if isinstance(x, list | tuple) else tensors[0]))
        errors = [ops.mean(ops.square(o - t)) for o, t in zip(outputs, targets, strict=True)]
        return 0.5 * sum(errors)

    variables = model.trainable_variables
    _, by_variable, by_input = value_and_gradients(loss, variables, inputs)
    rows = []
    for variable, gradient in zip(variables, by_variable, strict=True):
        values = ops.convert_to_numpy(variable).copy()

        def shifted(values, variable=variable):
            variable.assign(values)
            return float(ops.convert_to_numpy(loss(*inputs)))

        rows.append(_compare(variable.path, values, gradient, shifted, entries, step, rng))
        variable.assign(values)
    for i, (values, gradient) in enumerate(zip(inputs, by_input, strict=True)):

        def shifted(values, i=i):
            return float(ops.convert_to_numpy(loss(*inputs[:i], values, *inputs[i + 1 :])))

        name = "input" if len(inputs) == 1 else f"input {i}"
        rows.append(_compare(name, values.copy(), gradient, shifted, entries, step, rng))
    return pd.DataFrame(rows)


def _compare(name, values, gradient, loss_at, entries, step, rng):
    gradient = np.zeros_like(values) if gradient is None else gradient
    chosen = rng.choice(values.size, size=min(entries, values.size), replace=False)
    by_autodiff, by_difference = gradient.reshape(-1)[chosen], []
    for entry in chosen:
        losses = []
        for shift in (step, -step):
            moved = values.copy()
            moved.reshape(-1)[entry] += shift
            losses.append(loss_at(moved))
        by_difference.append((losses[0] - losses[1]) / (2 * step))
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
    copy(inputs if len(inputs) > 1 else inputs[0])
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
