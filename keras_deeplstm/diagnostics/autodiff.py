"""Compiled functions of variables, and their gradients: the backend-aware file of diagnostics."""

import keras
from keras import ops


def loss_divisor():
    """By what Keras has divided the loss, so that the sum over replicas is that of the batch."""
    if keras.backend.backend() != "tensorflow":
        return 1
    import tensorflow as tf

    return tf.distribute.get_strategy().num_replicas_in_sync


def compiled(function, variables, gradients=None):
    """Compile `function(*tensors)`, which reads `variables`, and optionally its gradients.

    Args:
        function: Takes tensors, reads `variables`, returns a scalar. What it assigns to variables
            is lost on JAX and kept on TensorFlow and torch.
        variables: Keras variables.
        gradients: None; "tensors" for the gradients of the tensors, or "all" for those of the
            variables and of the tensors, by the backend's own autodiff.

    Returns:
        A function of arrays that returns the value at the present values of the variables, as a
        NumPy scalar; with gradients `(value, gradients of variables, gradients of tensors)`, as
        lists of NumPy arrays (zeros for what the value does not depend on).
    """
    variables = list(variables)
    make = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}[keras.backend.backend()]
    run = make(function, variables, variables if gradients == "all" else [], gradients)
    count = len(variables) if gradients == "all" else 0

    def call(*tensors):
        value, found = run([ops.convert_to_tensor(t) for t in tensors])
        value = ops.convert_to_numpy(value)
        found = [ops.convert_to_numpy(g) for g in found]
        return value if gradients is None else (value, found[:count], found[count:])

    return call


def _tensorflow(function, variables, differentiated, gradients):
    import tensorflow as tf

    @tf.function
    def run(tensors):
        if gradients is None:
            return function(*tensors), []
        with tf.GradientTape() as tape:
            tape.watch(tensors)
            value = function(*tensors)
        sources = [*(v.value for v in differentiated), *tensors]
        found = tape.gradient(value, sources, unconnected_gradients="zero")
        return value, [tf.convert_to_tensor(g) for g in found]

    # Not called itself: TensorFlow would take each further model for a retracing, and warn.
    return lambda tensors: run.get_concrete_function(tensors)(tensors)


def _jax(function, variables, differentiated, gradients):
    import jax

    def stateless(values, other_values, tensors):
        mapping = [*zip(differentiated, values, strict=True)]
        mapping += zip(others, other_values, strict=True)
        with keras.StatelessScope(state_mapping=mapping):
            return function(*tensors)

    others = [v for v in variables if not any(v is d for d in differentiated)]
    run = jax.jit(jax.value_and_grad(stateless, argnums=(0, 2)) if gradients else stateless)

    def flat(tensors):
        values = [v.value for v in differentiated], [v.value for v in others]
        if gradients is None:
            return run(*values, tensors), []
        value, (by_variable, by_tensor) = run(*values, tensors)
        return value, [*by_variable, *by_tensor]

    return flat


def _torch(function, variables, differentiated, gradients):
    import torch

    def run(tensors):
        if gradients is None:
            with torch.no_grad():
                return function(*tensors), []
        tensors = [t.detach().requires_grad_() for t in tensors]
        value = function(*tensors)
        sources = [*(v.value for v in differentiated), *tensors]
        found = torch.autograd.grad(value, sources, allow_unused=True)
        pairs = zip(found, sources, strict=True)
        return value.detach(), [torch.zeros_like(s) if g is None else g for g, s in pairs]

    return run
