"""The training step that is about to be applied: true gradients, variables and their values."""

import contextlib
import functools
from typing import Any, NamedTuple

import keras
from keras import ops

from keras_deeplstm.diagnostics.untouched import replaced


class TappedStep(NamedTuple):
    """A training step that is about to be applied, in the training step that is being traced.

    Attributes:
        optimizer: The optimizer.
        numbers: The places of the variables below among all trainable ones.
        variables: The trainable variables that have a gradient.
        values: Their values before the step.
        gradients: Their true gradients: loss scale divided out, duplicate rows of sparse gradients
            summed, replicas all-reduced.
        scope: A function to a context in which the optimizer's variables have their values.
        batch_size: Number of examples, that of all replicas together: an integer, or a tensor.
        applied: Whether it changes the weights: True, or a tensor if gradients are accumulated.
    """

    optimizer: Any
    numbers: list
    variables: list
    values: list
    gradients: list
    scope: Any
    batch_size: Any
    applied: Any


def tapped_step(model, inputs, *args, **kwargs):
    """A `TappedStep` of what the optimizer's `apply`, on JAX `stateless_apply`, is called with."""
    jax = keras.backend.backend() == "jax"
    if jax:
        names = ("optimizer_variables", "grads", "trainable_variables")
    else:
        names = ("grads", "trainable_variables")
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    gradients = list(given["grads"])
    variables = list((not jax and given.get("trainable_variables")) or [])
    variables = variables or list(model.trainable_variables)
    if len(gradients) != len(variables):
        raise RuntimeError(
            f"The `train_step` of {model.name!r} hands {len(gradients)} gradients to the "
            f"optimizer, but {len(variables)} variables are trainable: they cannot be told apart"
        )
    scope = functools.partial(_scope, model.optimizer, given.get("optimizer_variables"))
    with scope():
        # What the loss was multiplied by: `loss_scale_factor`, or a dynamic scale.
        scale = model.optimizer.scale_loss(1.0)
        applied = _applied(inner_optimizer(model.optimizer))
    values = given["trainable_variables"] if jax else variables
    # With overwrite_with_gradient, what arrives is a new value, not a gradient.
    numbers = [
        i
        for i, (variable, gradient) in enumerate(zip(variables, gradients, strict=True))
        if gradient is not None and not variable.overwrite_with_gradient
    ]
    return TappedStep(
        model.optimizer,
        numbers,
        [variables[i] for i in numbers],
        [values[i] for i in numbers],
        [_true_gradient(gradients[i], scale) for i in numbers],
        scope,
        _batch_size(inputs),
        applied,
    )


def _scope(optimizer, optimizer_variables):
    if optimizer_variables is None:
        return contextlib.nullcontext()
    mapping = zip(optimizer.variables, optimizer_variables, strict=True)
    return keras.StatelessScope(state_mapping=list(mapping))


def inner_optimizer(optimizer):
    """The optimizer itself, or the one that a `LossScaleOptimizer` wraps."""
    return getattr(optimizer, "inner_optimizer", optimizer)


@contextlib.contextmanager
def before_averaging(optimizer, variables):
    """The values that a step gives the variables, before it puts their averages in their place.

    With `ema_overwrite_frequency` the optimizer does that at some steps. The values come in a list,
    which stays empty if no step does it, and within a `LossScaleOptimizer`: on TensorFlow that runs
    the step as a branch, out of which no value comes.
    """
    values = []
    if not (optimizer.use_ema and optimizer.ema_overwrite_frequency):
        yield values
        return
    # A private method: nothing that is public is called between the step and the averages.
    name = "_update_model_variables_moving_average"
    update = getattr(optimizer, name)

    def observed(trainable_variables):
        for variable in variables:
            value = ops.copy(variable)
            values.append(variable.constraint(value) if variable.constraint else value)
        return update(trainable_variables)

    with replaced(optimizer, **{name: observed}):
        yield values


def _applied(optimizer):
    every = optimizer.gradient_accumulation_steps
    # A private name: the public one counts the updates.
    return (ops.convert_to_tensor(optimizer._iterations) + 1) % every == 0 if every else True


def _batch_size(inputs):
    if not inputs:
        return None
    size = ops.shape(inputs[0])[0]
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        replica = tf.distribute.get_replica_context()
        if replica is not None and replica.num_replicas_in_sync > 1:
            size = replica.all_reduce(tf.distribute.ReduceOp.SUM, tf.convert_to_tensor(size))
    return size


def _true_gradient(gradient, scale):
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        # Of an embedding: rows with their indices, some of them more than once. Dense sums them.
        gradient = tf.convert_to_tensor(gradient)
        replica = tf.distribute.get_replica_context()
        if replica is not None and replica.num_replicas_in_sync > 1:
            # Keras divides the loss of each replica by their number.
            gradient = replica.all_reduce(tf.distribute.ReduceOp.SUM, gradient)
    if isinstance(scale, float) and scale == 1.0:
        return gradient
    return ops.divide(gradient, ops.cast(scale, gradient.dtype))
