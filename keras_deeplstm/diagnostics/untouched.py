"""Looking into a model that is the same afterwards."""

import contextlib

import keras
from keras import ops


class replaced:
    """Within this context an object has other methods, past Keras' tracking of attributes.

    A class, since the context of a generator could not be deep-copied with a model.
    """

    def __init__(self, one, **methods):
        self._one, self._methods = one, methods

    def __enter__(self):
        self._own = {k: v for k, v in vars(self._one).items() if k in self._methods}
        for name, method in self._methods.items():
            object.__setattr__(self._one, name, method)

    def __exit__(self, *error):
        for name in self._methods:
            if name in self._own:  # the user has replaced it, too
                object.__setattr__(self._one, name, self._own[name])
            else:
                object.__delattr__(self._one, name)


def first_output(result):
    """The first tensor of what a layer returns; None if that has no axis, or is of integers."""
    first = keras.tree.flatten(result)[0]
    if first is None or not keras.backend.is_float_dtype(first.dtype) or not first.ndim:
        return None
    return first


def at_present(model):
    """The same model, or layer, with its weights of this moment in its variables.

    On JAX they are elsewhere while `fit` runs, and a callback that asks for its model gets them.
    """
    callback = keras.callbacks.Callback()
    callback.set_model(model)
    return callback.model


@contextlib.contextmanager
def kept(model):
    """Whatever a call in inference may update, such as carried states or metrics, is put back."""
    model = at_present(model)
    variables = [v for v in model.variables if not v.trainable]
    variables += [v for metric in getattr(model, "metrics", []) for v in metric.variables]
    values = [ops.copy(v) for v in variables]
    try:
        yield
    finally:
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
        known = set(map(id, variables))
        for metric in getattr(model, "metrics", []):
            if not known.issuperset(map(id, metric.variables)):  # made by the call
                metric.reset_state()


def current_trace():
    """A value that is another one within a loop, or a function, that the backend traces.

    A tensor from there is none of the surrounding function.
    """
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        return id(tf.compat.v1.get_default_graph())
    if backend == "jax":
        import jax

        return jax.core.get_opaque_trace_state(convention="keras_deeplstm")
    return None  # torch computes at once
