"""Gradients of a function by the backend's own autodiff: the backend-aware file of diagnostics."""

import keras
from keras import ops


def value_and_gradients(function, variables=(), tensors=()):
    """Evaluate `function(*tensors)` and its gradients by the backend's own autodiff.

    Args:
        function: Takes the `tensors`, reads the `variables`, returns a scalar.
        variables: Keras variables.
        tensors: Arrays or tensors of floating point.

    Returns:
        `(value, gradients of variables, gradients of tensors)`, as NumPy arrays; None for what the
        value does not depend on.
    """
    variables, tensors = list(variables), [ops.convert_to_tensor(t) for t in tensors]
    differentiate = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}[
        keras.backend.backend()
    ]
    value, gradients = differentiate(function, variables, tensors)
    gradients = [None if g is None else ops.convert_to_numpy(g) for g in gradients]
    return ops.convert_to_numpy(value), gradients[: len(variables)], gradients[len(variables) :]


def _tensorflow(function, variables, tensors):
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(tensors)
        value = function(*tensors)
    gradients = tape.gradient(value, [*(v.value for v in variables), *tensors])
    return value, [None if g is None else tf.convert_to_tensor(g) for g in gradients]


def _jax(function, variables, tensors):
    import jax

    def stateless(values, tensors):
        with keras.StatelessScope(state_mapping=zip(variables, values, strict=True)):
            return function(*tensors)

    value, gradients = jax.value_and_grad(stateless, argnums=(0, 1))(
        [v.value for v in variables], tensors
    )
    return value, [*gradients[0], *gradients[1]]


def _torch(function, variables, tensors):
    import torch

    tensors = [t.detach().requires_grad_() for t in tensors]
    value = function(*tensors)
    return value.detach(), torch.autograd.grad(
        value, [*(v.value for v in variables), *tensors], allow_unused=True
    )
