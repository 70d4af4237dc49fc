"""Layers of the user inside of a layer of ours: what may be given, and how each is called."""

import inspect

import keras

from keras_deeplstm import validation
from keras_deeplstm.layers.weighted_layer import MAX_DEPTH

FORMS = (
    "a list of Keras layers, one for each step; with `depth`, a function that makes the layer of "
    "step 1, 2, ...; or, with `tied=True` and `depth`, one layer"
)


def taken(layers, depth, tied):
    """Return the layers as a list, which has one entry if they are tied, and the depth.

    Args:
        layers, depth, tied: As for `DepthLSTM`; the list may also hold configs of layers.

    Raises:
        ValueError: They are none of the three forms.
    """
    if depth is not None:
        depth = validation.positive_integer("depth", depth, at_most=MAX_DEPTH)
    found = _listed(layers, depth, tied)
    if tied and len(found) != 1:
        raise ValueError(
            f"With `tied=True` all steps use one layer. Received: {len(found)} layers, "
            f"{validation.shown(layers)}"
        )
    if not tied and depth not in (None, len(found)):
        raise ValueError(
            f"`depth` must be the number of layers, or be left out. "
            f"Received: depth={depth}, with {len(found)} layers"
        )
    for i, layer in enumerate(found):
        if not isinstance(layer, keras.layers.Layer):
            raise ValueError(
                "Argument `layers` must hold nothing but Keras layers. "
                f"Received: layers[{i}]={validation.shown(layer)} (of type {type(layer)})"
            )
        _check_call(layer)
    for i, layer in enumerate(found):
        if any(layer is other for other in found[:i]):
            raise ValueError(
                "Each step must have a layer of its own; for one that all steps share pass it with "
                f"`tied=True` and `depth`. Received: layers[{i}]={validation.shown(layer)} once "
                "more"
            )
    return found, depth or len(found)


def _listed(layers, depth, tied):
    if isinstance(layers, keras.layers.Layer):
        if not tied:
            raise ValueError(
                "One layer for all steps needs `tied=True`; else pass a list, or a function that "
                f"makes the layer of each step. Received: layers={validation.shown(layers)}"
            )
        layers = [layers]
    elif isinstance(layers, list | tuple) and layers:
        read = keras.saving.deserialize_keras_object
        layers = [read(one) if isinstance(one, dict) else one for one in layers]
    elif not callable(layers) or isinstance(layers, type):
        validation.refuse("layers", FORMS, layers)
    if depth is None and (tied or callable(layers)):
        raise ValueError(
            "`depth` must be given with a function that makes layers, and with `tied=True`. "
            "Received: depth=None"
        )
    if callable(layers):
        return [layers(step) for step in range(1, (1 if tied else depth) + 1)]
    return list(layers)


def _check_call(layer):
    _, *others = inspect.signature(layer.call).parameters.values()
    missing = [one.name for one in others if _is_required(one) and one.name != "value"]
    if missing:
        raise ValueError(
            f"Layer {layer.name!r} must be callable with one input, which also serves as `value`. "
            f"Received: {type(layer).__name__}, whose `call` needs {missing} as well"
        )


def _is_required(parameter):
    several = parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD
    return parameter.default is parameter.empty and parameter.kind not in several


def arguments_of(layer, h, mask, given):
    """What `layer` is called with besides `h`: what its `call` names, but `training`.

    That Keras passes on from the layer round it.

    Args:
        layer: A Keras layer.
        h: Its input. A layer that needs a `value` gets it there, too, unless one is given
            (self-attention).
        mask: The mask of the input, or None.
        given: Call arguments of the user, by name.

    Returns:
        A dict from names to arguments.
    """
    first, *others = inspect.signature(layer.call).parameters.values()
    offered = {}
    if mask is not None:  # the names that Keras has for it
        offered |= {"mask": mask, f"{first.name}_mask": mask}
    if "value" not in given and any(one.name == "value" and _is_required(one) for one in others):
        offered |= {"value": h} if mask is None else {"value": h, "value_mask": mask}
    offered |= given
    return {one.name: offered[one.name] for one in others if one.name in offered}


def check_given(owner, layers, given):
    """Raise ValueError if a call argument of the user is one that no layer takes."""
    names = {name for layer in layers for name in inspect.signature(layer.call).parameters}
    for name in given:
        if name not in names:
            raise ValueError(
                f"No layer of {owner.name!r} takes the call argument `{name}`."
                f"{validation.suggestion(name, sorted(names))} They take: {sorted(names)}"
            )
