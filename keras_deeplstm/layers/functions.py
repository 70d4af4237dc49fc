"""Activations, initializers, regularizers and constraints of a layer, from a file and back to one.

The file may be a stranger's. Keras takes whatever public function or registered class it names,
`keras.config.set_dtype_policy` for an activation; here it can name only what is meant for the
argument.
"""

import difflib

import keras

from keras_deeplstm import validation

MODULES = {
    "activation": keras.activations,
    "initializer": keras.initializers,
    "regularizer": keras.regularizers,
    "constraint": keras.constraints,
}
# Of the weights of a layer, by their roles.
OF_WEIGHTS = tuple(
    f"{role}_{kind}"
    for kind in ("initializer", "regularizer", "constraint")
    for role in ("kernel", "recurrent", "bias")
)
# Layers without weights that serve as activations.
ACTIVATION_LAYERS = ("ELU", "LeakyReLU", "ReLU", "Softmax")


def get(name, value):
    """Return the function for the argument called `name`, whose last word says of which kind it is.

    Args:
        name: "activation", "recurrent_activation", "kernel_initializer", ...
        value: A name, a function or an object, None, or what `config_of` has returned.

    Raises:
        ValueError, TypeError: It stands for none of that kind, or is a layer that no file could
            bring back.
    """
    kind = name.rpartition("_")[2]
    if value is None and kind == "initializer":  # Keras would take it, and fail later
        raise ValueError(f"Argument `{name}` must be a Keras initializer. Received: {name}=None")
    if isinstance(value, dict) and not _is_meant_for(kind, value):
        raise ValueError(
            f"Argument `{name}` must be a Keras {kind}, or a callable. Received a config for "
            f"{value.get('class_name')!r} of module {value.get('module')!r}"
        )
    if isinstance(value, keras.layers.Layer) and not _is_activation_layer(value):
        # Here and not when the file is loaded, which would be after the training.
        raise ValueError(
            f"Argument `{name}` must be a Keras {kind}, or a callable; of layers only "
            f"{', '.join(ACTIVATION_LAYERS)} for an activation. "
            f"Received: {name}={validation.shown(value)}"
        )
    try:
        return MODULES[kind].get(value)
    except ValueError as error:
        near = difflib.get_close_matches(str(value), dir(MODULES[kind]), n=1)
        if not isinstance(value, str) or not near:
            raise
        raise ValueError(f"{error}. Did you mean {near[0]!r}?") from None


def _is_activation_layer(value):
    return type(value) in [getattr(keras.layers, name) for name in ACTIVATION_LAYERS]


def _is_meant_for(kind, config):
    names = (config.get(key) for key in ("config", "registered_name", "class_name"))
    for name in names:
        found = keras.saving.get_registered_object(name) if isinstance(name, str) else None
        if found is not None:
            return not (isinstance(found, type) and issubclass(found, keras.layers.Layer))
    if kind == "activation":  # Keras' own ones are saved by name
        return config.get("module") == "keras.layers" and (
            config.get("class_name") in ACTIVATION_LAYERS
        )
    return config.get("module") in (None, f"keras.{kind}s")


def config_of(layer, name):
    """Return what `get_config` says of an argument, in plain types.

    Raises:
        ValueError: It is a lambda, which no file could bring back.
    """
    value = getattr(layer, name)
    if getattr(value, "__name__", None) == "<lambda>":
        raise ValueError(
            f"Cannot save layer {layer.name!r}: argument `{name}` is a lambda. Use a named "
            f"function decorated with @keras.saving.register_keras_serializable()"
        )
    return MODULES[name.rpartition("_")[2]].serialize(value)


def take(layer, **given):
    """Set the functions that a layer is given, by the names of its arguments, as attributes."""
    for name, value in given.items():
        setattr(layer, name, get(name, value))


def configs_of(layer, names):
    """What `get_config` says of several arguments, by name."""
    return {name: config_of(layer, name) for name in names}
