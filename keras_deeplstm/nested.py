"""Layers of a model whose layers may be models themselves."""

from collections import Counter


def leaf_layers(model):
    """The layers of a Keras model in order; in place of a nested model, its layers.

    A layer with states over depth (it has `probe_shapes`) is one layer, whatever it is given.
    """
    return [layer for layer, _ in _with_models(model)]


def named_layers(model):
    """`leaf_layers` by name: "hidden"; where several have that name, "encoder/hidden".

    In a subclassed model that may still be one name of several: then "hidden", "hidden#2", ...
    """
    layers = _with_models(model)
    found, counts = {}, Counter(layer.name for layer, _ in layers)
    for layer, models in layers:
        name = layer.name if counts[layer.name] == 1 else "/".join([*models, layer.name])
        same = sum(other.partition("#")[0] == name for other in found)
        found[f"{name}#{same + 1}" if same else name] = layer
    return found


def _with_models(model):
    """Each layer once, with the names of the nested models that it is in."""
    found = {}

    def walk(model, outer):
        for layer in model.layers:
            if getattr(layer, "layers", None) and not hasattr(layer, "probe_shapes"):
                walk(layer, (*outer, layer.name))
            else:
                found.setdefault(id(layer), (layer, outer))

    walk(model, ())
    return found.values()
