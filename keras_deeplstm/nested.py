"""Layers of a model whose layers may be models themselves."""


def leaf_layers(model):
    """Yield the layers of a Keras model in order; in place of a nested model, its layers."""
    for layer in model.layers:
        if getattr(layer, "layers", None):
            yield from leaf_layers(layer)
        else:
            yield layer
