"""Layers of a model whose layers may be models themselves."""


def leaf_layers(model):
    """Yield the layers of a Keras model in order; in place of a nested model, its layers.

    A layer with states over depth (it has `probe_shapes`) is one layer, whatever it is given.
    """
    for layer in model.layers:
        if getattr(layer, "layers", None) and not hasattr(layer, "probe_shapes"):
            yield from leaf_layers(layer)
        else:
            yield layer
