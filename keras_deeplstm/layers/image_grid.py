"""The positions of an image as a grid of cells: patches, corners, and the diagonals of a scan.

Inside `GridLSTM3D` the axes are `(networks, rows, columns, batch, numbers)`.
"""

import numpy as np
from keras import ops

# The corner that a scan starts from, and whether rows and columns are then read in reverse.
CORNERS = {
    "top_left": (False, False),
    "top_right": (False, True),
    "bottom_left": (True, False),
    "bottom_right": (True, True),
}


def patched(images, patches):
    """`(batch, height, width, channels)` with the numbers of each patch side by side."""
    high, wide = patches
    if patches == (1, 1):
        return images
    batch, height, width, channels = ops.shape(images)
    x = ops.reshape(images, (batch, height // high, high, width // wide, wide, channels))
    x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
    numbers = high * wide * images.shape[-1]
    return ops.reshape(x, (batch, height // high, width // wide, numbers))


def patched_shape(shape, patches):
    """The shape of `patched` images; sizes that are not known stay so."""
    batch, *sizes, channels = shape
    grid = (size if size is None else size // n for size, n in zip(sizes, patches, strict=True))
    return (batch, *grid, channels * patches[0] * patches[1])


def turned(x, flips):
    """The grids as a scan reads them that begins at its corner; a second turn undoes the first.

    `flips` is a boolean tensor `(networks, 2)`, see `CORNERS`.
    """
    for axis in (0, 1):
        flip = ops.reshape(flips[:, axis], (-1, 1, 1, 1, 1))
        x = ops.where(flip, ops.flip(x, axis=axis + 1), x)
    return x


def skewed(x):
    """Diagonals, `(rows + columns - 1, networks, rows, batch, numbers)`.

    Entry d holds, at row i, the cell (i, d - i), and 0 where there is none. All cells of a diagonal
    can be computed at once: they read those of the diagonal before.
    """
    networks, rows, columns, batch, numbers = ops.shape(x)
    width = rows + columns  # each row moves one place to the right of the row above
    x = ops.concatenate([x, ops.zeros((networks, rows, rows, batch, numbers), x.dtype)], axis=2)
    x = ops.reshape(x, (networks, rows * width, batch, numbers))[:, : rows * (width - 1)]
    x = ops.reshape(x, (networks, rows, width - 1, batch, numbers))
    return ops.transpose(x, (2, 0, 1, 3, 4))


def unskewed(x):
    """The inverse of `skewed`."""
    diagonals, networks, rows, batch, numbers = ops.shape(x)
    x = ops.reshape(ops.transpose(x, (1, 2, 0, 3, 4)), (networks, rows * diagonals, batch, numbers))
    x = ops.concatenate([x, ops.zeros((networks, rows, batch, numbers), x.dtype)], axis=1)
    x = ops.reshape(x, (networks, rows, diagonals + 1, batch, numbers))
    return x[:, :, : diagonals + 1 - rows]


def last_of(x, flips, valid=None):
    """What the last cell of each scan gives, `(networks, batch, numbers)`.

    `flips` is a pair of booleans for each network. Of `valid` cells, `(rows, columns, batch)`, it
    is the one furthest from the corner, in the lowest row of a scan if there are several; 0 where
    none is valid.
    """
    if valid is None:
        ends = [grid[0 if up else -1, 0 if back else -1] for grid, (up, back) in _each(x, flips)]
        return ops.stack(ends)
    rows, columns, batch = ops.shape(valid)
    ends = []
    for grid, (up, back) in _each(x, flips):
        i, j = ops.arange(rows)[:, None, None], ops.arange(columns)[None, :, None]
        i, j = rows - 1 - i if up else i, columns - 1 - j if back else j
        order = ops.where(valid, (i + j) * rows + i, -1)
        order = ops.reshape(order, (rows * columns, batch))
        last = ops.logical_and(order == ops.max(order, axis=0), order >= 0)[..., None]
        cells = ops.reshape(grid, (rows * columns, batch, grid.shape[-1]))
        ends.append(ops.sum(ops.where(last, cells, ops.zeros_like(cells)), axis=0))
    return ops.stack(ends)


def _each(x, flips):
    return zip(ops.unstack(x, num=len(flips), axis=0), flips, strict=True)


def flips_by_layer(directions, depth, in_turn):
    """`(depth, networks, 2)`: the flips of each layer. One network may take them in turn."""
    flips = np.array([CORNERS[direction] for direction in directions])
    if in_turn:
        return flips[np.arange(depth) % len(flips)][:, None]
    return np.repeat(flips[None], depth, axis=0)
