"""Pictures of the gates of a GridLSTM3D on images."""

import matplotlib.pyplot as plt
import numpy as np

from keras_deeplstm import validation
from keras_deeplstm.diagnostics import signals
from keras_deeplstm.diagnostics.image_gates import image_gates
from keras_deeplstm.layers.grid_lstm_3d import GridLSTM3D
from keras_deeplstm.nested import named_layers


def plot_image_gates(model, images, layer=None, depth=1, network=0):
    """Draw what the gates of a `GridLSTM3D` do on images: at each position, the mean over units.

    Args:
        model: A Keras model whose input are these images, with nothing but noise before the layer.
        images: `(batch, height, width, channels)`, each of which becomes a row of the picture.
        layer: Name of the layer; by default the first one of the kind.
        depth: Which layer of the grid, from 1.
        network: Which of the networks that stand side by side, from 0.

    Returns:
        The matplotlib figure: in each row the image, and three maps each, of input, forget and
        output gate, of the LSTM along rows, of that along columns and of that along depth.

    Raises:
        ValueError: There is no such layer; or `depth` or `network` is out of its range.

    Example:

    >>> import numpy as np
    >>> from keras_deeplstm import models
    >>> from keras_deeplstm.callbacks import plot_image_gates
    >>> model = models.image_grid_classifier((8, 8, 1), 10, units=4)
    >>> figure = plot_image_gates(model, np.zeros((2, 8, 8, 1), "float32"))
    >>> len(figure.axes), figure.axes[1].get_title()
    (21, 'rows: input')
    """
    layers = named_layers(model)
    grids = {name: one for name, one in layers.items() if isinstance(one, GridLSTM3D)}
    if not grids:
        raise ValueError(f"Model {model.name!r} has no GridLSTM3D")
    grid = grids[next(iter(grids)) if layer is None else validation.one_of("layer", layer, grids)]
    validation.positive_integer("depth", depth, at_most=grid.depth)
    validation.integer("network", network, at_least=0, at_most=grid.networks - 1)
    images = np.asarray(images)
    gates = image_gates(grid, images)
    maps = {
        f"{direction}: {signals.GATES[gate]}": values[depth - 1, network].mean(axis=-1)
        for direction, by_gate in gates.items()
        for gate, values in by_gate.items()
    }
    size = (1.05 * (1 + len(maps)), 1.05 * len(images) + 0.9)
    figure = plt.figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(images), 1 + len(maps), squeeze=False)
    for number, row in enumerate(axes):
        row[0].imshow(images[number].squeeze(), cmap="gray")
        for ax, (title, values) in zip(row[1:], maps.items(), strict=True):
            drawn = ax.imshow(values[number], cmap="RdBu_r", vmin=0, vmax=1)
            ax.set_title(title if number == 0 else "", fontsize=8)
    for ax in axes.flat:
        ax.set_axis_off()
    figure.colorbar(
        drawn, ax=axes, label="gate, mean over units", orientation="horizontal", shrink=0.4
    )
    return figure
