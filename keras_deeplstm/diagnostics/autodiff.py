"""Compiled functions of variables, and their gradients: the backend-aware file of diagnostics."""

import keras
from keras import ops


def compiled(function, variables, with_gradients=False):
    """Compile `function(*tensors)`, which reads `variables`, and optionally its gradients.

    Args:
        function: Takes tensors, reads `variables`, returns a scalar. It must not update variables.
        variables: Keras variables.
        with_gradients: Also compute gradients, by the backend's own autodiff.

    Returns:
        A function of arrays that returns the value at the present values of the variables, as a
        NumPy scalar; with gradients `(value, gradients of variables, gradients of tensors)`, as
        NumPy arrays (zeros for what the value does not depend on).
    """
    variables = list(variables)
    make = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}[keras.backend.backend()]
    run = make(function, variables, with_gradients)

    def call(*tensors):
        value, gradients = run([ops.convert_to_tensor(t) for t in tensors])
        value = ops.convert_to_numpy(value)
        gradients = [ops.convert_to_numpy(g) for g in gradients]
        if not with_gradients:
            return value
        return value, gradients[: len(variables)], gradients[len(variables) :]

    return call


def _tensorflow(function, variables, with_gradients):
    import tensorflow as tf

    @tf.function
    def run(tensors):
        if not with_gradients:
            return function(*tensors), []
        with tf.GradientTape() as tape:
            tape.watch(tensors)
            value = function(*tensors)
        gradients = tape.gradient(
            value, [*(v.value for v in variables), *tensors], unconnected_gradients="zero"
        )
        return value, [tf.convert_to_tensor(g) for g in gradients]

    return run


def _jax(function, variables, with_gradients):
    import jax

    def stateless(values, tensors):
        with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
            return function(*tensors)

    if not with_gradients:
        run = jax.jit(stateless)
        return lambda tensors: (run([v.value for v in variables], tensors), [])
    run = jax.jit(jax.value_and_grad(stateless, argnums=(0, 1)))

    def flat(tensors):
        value, (by_variable, by_tensor) = run([v.value for v in variables], tensors)
        return value, [*by_variable, *by_tensor]

    return flat


def _torch(function, variables, with_gradients):
    import torch

    def run(tensors):
        if not with_gradients:
            with torch.no_grad():
                return function(*tensors), []
        tensors = [t.detach().requires_grad_() for t in tensors]
        value = function(*tensors)
        sources = [*(v.value for v in variables), *tensors]
        gradients = torch.autograd.grad(value, sources, allow_unused=True)
        pairs = zip(gradients, sources, strict=True)
        return value.detach(), [torch.zeros_like(s) if g is None else g for g, s in pairs]

    return run
