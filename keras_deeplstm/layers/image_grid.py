"""The positions of an image as a grid of cells: patches, corners, and the diagonals of a scan.

Inside `GridLSTM3D` the axes are `(networks, rows, columns, batch, numbers)`, where the columns are
those of several images, one after the other.
"""

import keras
import numpy as np
from keras import ops

ROWS = 56  # measured on two cores with benchmarks/image_grids.py

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


def images_in_a_row(rows, batch):
    """How many images are to stand side by side: 1, 2 or 4.

    With more of them, fewer entries of the diagonals are beyond the border, and there are more of
    these, one after the other. It pays as long as each has ROWS rows of cells for the products.
    """
    known, count = isinstance(rows * batch, int), 1
    if not known and keras.backend.backend() != "tensorflow":  # a symbol, in `model.export` on JAX
        return count
    for more in (2, 4):
        fits = (batch % more == 0) & (rows * batch >= more * ROWS)
        count = (more if fits else count) if known else ops.where(fits, more, count)
    return count


def side_by_side(x, count):
    """Grids of which `count` images each stand one after the other along the columns."""
    networks, rows, columns, batch, numbers = ops.shape(x)
    x = ops.reshape(x, (networks, rows, columns, count, batch // count, numbers))
    x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
    return ops.reshape(x, (networks, rows, count * columns, batch // count, numbers))


def apart(x, count):
    """The inverse of `side_by_side`."""
    networks, rows, columns, batch, numbers = ops.shape(x)
    x = ops.reshape(x, (networks, rows, count, columns // count, batch, numbers))
    x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
    return ops.reshape(x, (networks, rows, columns // count, count * batch, numbers))


def turned(x, flips, columns):
    """The grids as a scan reads them that begins at its corner; a second turn undoes the first.

    `flips` is a boolean tensor `(networks, 2)`, see `CORNERS`; `columns` are those of one image.
    """
    networks, rows, places, batch, numbers = ops.shape(x)
    x = ops.reshape(x, (networks, rows, places // columns, columns, batch, numbers))
    for number, axis in enumerate((1, 3)):
        flip = ops.reshape(flips[:, number], (-1, 1, 1, 1, 1, 1))
        x = ops.where(flip, ops.flip(x, axis=axis), x)
    return ops.reshape(x, (networks, rows, places, batch, numbers))


def skewed(x):
    """Diagonals in place of columns, `(networks, rows + columns - 1, rows, batch, numbers)`.

    Diagonal d holds, at row i, the cell (i, d - i), and 0 where there is none. All its cells can be
    computed at once: they read those of the diagonal before.
    """
    networks, rows, columns, batch, numbers = ops.shape(x)
    width = rows + columns  # each row moves one place to the right of the row above
    x = ops.concatenate([x, ops.zeros((networks, rows, rows, batch, numbers), x.dtype)], axis=2)
    x = ops.reshape(x, (networks, rows * width, batch, numbers))[:, : rows * (width - 1)]
    x = ops.reshape(x, (networks, rows, width - 1, batch, numbers))
    return ops.transpose(x, (0, 2, 1, 3, 4))


def unskewed(x):
    """The inverse of `skewed`."""
    networks, diagonals, rows, batch, numbers = ops.shape(x)
    x = ops.reshape(ops.transpose(x, (0, 2, 1, 3, 4)), (networks, rows * diagonals, batch, numbers))
    x = ops.concatenate([x, ops.zeros((networks, rows, batch, numbers), x.dtype)], axis=1)
    x = ops.reshape(x, (networks, rows, diagonals + 1, batch, numbers))
    return x[:, :, : diagonals + 1 - rows]


def first_cells(diagonals, rows, columns):
    """Which entries of `skewed` grids, whose images have so many `columns`, begin a row."""
    columns_read = ops.arange(diagonals)[:, None] - ops.arange(rows)
    return (columns_read % columns == 0)[:, None, :, None, None]


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
