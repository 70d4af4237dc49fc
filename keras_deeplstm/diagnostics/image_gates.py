"""What the gates of a GridLSTM3D do at each position of an image."""

import keras
from keras import ops

from keras_deeplstm.diagnostics.untouched import kept
from keras_deeplstm.layers.grid_lstm_3d import GridLSTM3D
from keras_deeplstm.layers.image_grid import flips_by_layer, turned, unskewed
from keras_deeplstm.layers.probes import watching


def image_gates(layer, images, mask=None):
    """Return the gates of a `GridLSTM3D` on images, position by position.

    The layer runs in inference mode and stays as it is.

    Args:
        layer: The layer, built or not.
        images: `(batch, height, width, channels)`.
        mask: `(batch, rows, columns)` of the grid of patches, or None. What is at masked positions
            has no meaning.

    Returns:
        A dict from the direction of the LSTM, "rows", "columns" or "depth", to a dict from the
        gate, "i", "f" or "o", to an array `(depth, networks, batch, rows, columns, units)` of
        float32 in `[0, 1]` (with the activation sigmoid). Networks are the directions that stand
        side by side; rows and columns are those of the image, wherever a scan starts.

    Raises:
        ValueError: The layer is another one.

    Example:

    >>> import numpy as np
    >>> from keras_deeplstm.diagnostics import image_gates
    >>> from keras_deeplstm.layers import GridLSTM3D
    >>> grid = GridLSTM3D(units=4, depth=2, patches=(2, 2))
    >>> gates = image_gates(grid, np.zeros((3, 8, 6, 1), "float32"))
    >>> list(gates), gates["rows"]["f"].shape
    (['rows', 'columns', 'depth'], (2, 1, 3, 4, 3, 4))
    """
    if not isinstance(layer, GridLSTM3D):
        raise ValueError(f"Argument `layer` must be a GridLSTM3D. Received: layer={layer}")
    with kept(layer), watching(lambda signals: signals) as seen:
        layer(ops.convert_to_tensor(images), mask=mask, training=False)
    # Of all layers of the grid, with an axis for them: the LSTMs of rows and columns, diagonal by
    # diagonal and side by side, the depth LSTM, and the states, which are not asked for.
    ((diagonals, depth, *_),) = seen
    along = {gate: _positions(layer, diagonals[0][gate]) for gate in "ifo"}
    found = {"rows": {}, "columns": {}, "depth": {gate: depth[gate] for gate in "ifo"}}
    for gate, both in along.items():
        found["rows"][gate], found["columns"][gate] = ops.split(both, 2, axis=-1)
    return keras.tree.map_structure(
        lambda x: ops.convert_to_numpy(ops.cast(ops.moveaxis(x, 4, 2), "float32")), found
    )


def _positions(layer, x):
    """`(depth, diagonals, networks, rows, batch, units)`, the diagonals become columns."""
    flips = flips_by_layer(layer.directions, layer.depth, layer.combine == "turns")
    grids = []
    for of_layer, flip in zip(ops.unstack(x, num=layer.depth), flips, strict=True):
        diagonals = ops.swapaxes(of_layer, 0, 1)
        columns = diagonals.shape[1] - diagonals.shape[2] + 1
        grids.append(turned(unskewed(diagonals), ops.convert_to_tensor(flip), columns))
    return ops.stack(grids)
