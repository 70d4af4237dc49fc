"""Layers of a model whose layers may be models themselves."""

from collections import Counter


def leaf_layers(model):
    """The layers of a Keras model in order; in place of a nested model, its layers.

    A layer with states over depth (it has `probe_shapes`) is one layer, whatever it is given.
    """
    return list(named_layers(model).values())


def named_layers(model):
    """`leaf_layers` by name: "hidden"; where several have that name, "encoder/hidden"."""
    found = {id(layer): (layer, models) for layer, models in _with_models(model)}
    counts = Counter(layer.name for layer, _ in found.values())
    return {
        layer.name if counts[layer.name] == 1 else "/".join([*models, layer.name]): layer
        for layer, models in found.values()
    }


def _with_models(model, outer=()):
    """`(layer, names of the nested models that it is in)`."""
    for layer in model.layers:
        if getattr(layer, "layers", None) and not hasattr(layer, "probe_shapes"):
            yield from _with_models(layer, (*outer, layer.name))
        else:
            yield layer, outer
