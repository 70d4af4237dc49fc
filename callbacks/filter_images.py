"""FilterImages: the weights of a model's first layer as pictures."""

import math
import pathlib

import keras
import matplotlib.pyplot as plt
import numpy as np
from keras import ops

from keras_deeplstm import validation

# Order of the gates in a kernel of `gates * units` columns, by their number, as in Keras.
GATES = {
    1: ("",),
    3: ("update gate", "reset gate", "candidate"),
    4: ("input gate", "forget gate", "candidate", "output gate"),
}
KERNELS = ("kernel", "hidden_kernel", "memory_kernel")


def filter_images(model, image_shape=None, layer=None):
    """Return the filters of the first layer with kernels as images.

    Args:
        model: A Keras model.
        image_shape: `(height, width)` or `(height, width, channels)` of one input. By default the
            model's input shape; not needed for convolutions.
        layer: Name of another layer whose kernels see the image; by default the first with any.

    Returns:
        A dict: what the filters belong to ("kernel", or with gates "kernel, input gate", ...) ->
        an array `(filters, height, width, channels)`.

    Raises:
        ValueError: There is no such layer, or its kernels do not fit the image.

    Example:

    >>> import keras
    >>> from keras_deeplstm import models
    >>> from keras_deeplstm.callbacks import filter_images
    >>> images = filter_images(models.classifier((8, 8, 1), 10, units=16))
    >>> images["kernel, input gate"].shape
    (16, 8, 8, 1)
    """
    owner = _first_layer(model, layer)
    if image_shape is None:
        image_shape = tuple(model.input_shape[1:])
    if len(image_shape) == 2:
        image_shape = (*image_shape, 1)
    images = {}
    for variable in owner.weights:
        if variable.name not in KERNELS:
            continue
        kernel = ops.convert_to_numpy(variable).astype("float64")
        if kernel.ndim == 4:
            images[variable.name] = kernel.transpose(3, 0, 1, 2)
            continue
        if kernel.ndim != 2 or len(image_shape) != 3 or kernel.shape[0] != math.prod(image_shape):
            raise ValueError(
                f"The {variable.name} of {owner.name!r} has shape {kernel.shape}, which is no set "
                f"of images of shape {image_shape}. Pass `image_shape=(height, width, channels)`"
            )
        gates, rest = divmod(kernel.shape[1], getattr(owner, "units", kernel.shape[1]))
        names = GATES.get(gates, ("",)) if not rest else ("",)
        for name, part in zip(names, np.split(kernel, len(names), axis=1), strict=True):
            key = f"{variable.name}, {name}" if name else variable.name
            images[key] = part.T.reshape(-1, *image_shape)
    return images


def _first_layer(model, name):
    with_kernels = [
        layer for layer in _layers(model) if any(w.name in KERNELS for w in layer.weights)
    ]
    for layer in with_kernels:
        if name in (None, layer.name):
            return layer
    if name is None:
        raise ValueError(f"No layer of {model.name!r} has a kernel to show")
    validation.one_of("layer", name, [layer.name for layer in with_kernels])


def _layers(model):
    for layer in model.layers:
        if getattr(layer, "layers", None):
            yield from _layers(layer)
        else:
            yield layer


def plot_filters(model, image_shape=None, layer=None, count=25, title=None):
    """Draw the filters of the first layer, the `count` largest of each kind.

    Grey values have one scale for the whole figure, symmetric around zero; filters of colour
    images are each scaled to the range of colours.

    Args:
        model, image_shape, layer: As for `filter_images`.
        count: The number of filters of each kind, those with the largest L2 norm first.
        title: Title of the figure; by default the layer's name.

    Returns:
        The matplotlib figure.
    """
    kinds = filter_images(model, image_shape, layer)
    count = min(count, max(len(images) for images in kinds.values()))
    columns = math.ceil(math.sqrt(count))
    across = min(2, len(kinds))  # two by two gates can be read on a phone, four in a row cannot
    down = math.ceil(len(kinds) / across)
    figure = plt.figure(figsize=(3.2 * across + 1, 3.2 * down + 0.6), layout="constrained")
    figure.suptitle(title or f"Filters of {_first_layer(model, layer).name!r}")
    limit = max(np.abs(images).max() for images in kinds.values()) or 1.0
    axes = figure.subplots(down, across, squeeze=False).reshape(-1)
    colors = plt.get_cmap("RdBu_r").with_extremes(bad="0.3")  # white would read as a zero
    for ax, (kind, images) in zip(axes, kinds.items(), strict=True):
        largest = np.argsort(-np.linalg.norm(images.reshape(len(images), -1), axis=1))[:count]
        picture = _tile(images[largest], columns)
        drawn = ax.imshow(picture, cmap=colors, vmin=-limit, vmax=limit, interpolation="nearest")
        ax.set_title(f"{kind} ({len(largest)} of {len(images)})", fontsize=9)
        ax.set_axis_off()
    if picture.ndim == 2:
        figure.colorbar(drawn, ax=axes, label="weight", shrink=0.8)
    return figure


def _tile(images, columns):
    """Put `(filters, height, width, channels)` on a grid with a line of nothing between them."""
    if images.shape[-1] == 3:
        low = images.min(axis=(1, 2, 3), keepdims=True)
        images = (images - low) / np.maximum(np.ptp(images, axis=(1, 2, 3), keepdims=True), 1e-12)
    else:
        images = images.mean(axis=-1, keepdims=True)
    rows = math.ceil(len(images) / columns)
    _, height, width, channels = images.shape
    grid = np.full((rows * (height + 1) - 1, columns * (width + 1) - 1, channels), np.nan)
    for i, image in enumerate(images):
        top, left = (i // columns) * (height + 1), (i % columns) * (width + 1)
        grid[top : top + height, left : left + width] = image
    return np.nan_to_num(grid, nan=0.3) if channels == 3 else grid[..., 0]


class FilterImages(keras.callbacks.Callback):
    """Write pictures of the first layer's filters while `model.fit` runs.

    `epoch_0000.png` shows them before training, `epoch_0005.png` after the fifth epoch.

    Args:
        directory: Folder for the PNG files, created if absent.
        every: Draw before the first, after each `every`-th and after the last epoch.
        image_shape, layer, count: As for `plot_filters`.

    Raises:
        ValueError: `every` or `count` is not a positive integer; in `fit`: the model has no layer
            with filters of that shape.

    Example:

    >>> from keras_deeplstm.callbacks import FilterImages
    >>> model.fit(x, y, callbacks=[FilterImages("filters")])  # doctest: +SKIP
    """

    def __init__(self, directory, every=1, image_shape=None, layer=None, count=25):
        super().__init__()
        self.directory = pathlib.Path(directory)
        self.every = validation.positive_integer("every", every)
        self.image_shape = image_shape
        self.layer = layer
        self.count = validation.positive_integer("count", count)
        self._epochs_done = None
        self._drawn = None

    def on_train_begin(self, logs=None):
        """Draw the filters before training."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self._drawn = None

    def on_epoch_begin(self, epoch, logs=None):
        """Draw before the first epoch of this `fit` (on TensorFlow the model may be built late)."""
        if self._drawn is None and self.model.built:
            self._draw(epoch)

    def on_epoch_end(self, epoch, logs=None):
        """Draw the filters after each `every`-th epoch."""
        self._epochs_done = epoch + 1
        if self._epochs_done % self.every == 0:
            self._draw(self._epochs_done)

    def on_train_end(self, logs=None):
        """Draw the filters after the last epoch."""
        if self._epochs_done is not None and self._drawn != self._epochs_done:
            self._draw(self._epochs_done)

    def _draw(self, epochs):
        figure = plot_filters(
            self.model,
            self.image_shape,
            self.layer,
            self.count,
            title=f"Filters of the first layer after {epochs} epochs",
        )
        figure.savefig(self.directory / f"epoch_{epochs:04d}.png", dpi=120)
        plt.close(figure)
        self._drawn = epochs
