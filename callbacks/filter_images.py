"""FilterImages: the weights of a model's first layer as pictures."""

import math
import os
import pathlib

import keras
import matplotlib.pyplot as plt
import numpy as np
from keras import ops

from keras_deeplstm import validation
from keras_deeplstm.callbacks.epochs import EpochCallback
from keras_deeplstm.callbacks.gradient_plots import plain
from keras_deeplstm.callbacks.tensorboard import TensorBoardWriter
from keras_deeplstm.nested import named_layers

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
        A dict: what the filters belong to ("kernel", or with gates "kernel, input gate", ..., of a
        bidirectional layer "forward kernel, input gate", ..., of several networks of a grid
        "hidden_kernel, top left", ...) -> an array `(filters, height, width, channels)`; of a grid,
        height and width are those of a patch.

    Raises:
        ValueError: There is no such layer, or its kernels do not fit the image.

    Example:

    >>> from keras_deeplstm import models
    >>> from keras_deeplstm.callbacks import filter_images
    >>> images = filter_images(models.classifier((8, 8, 1), 10, units=16))
    >>> images["kernel, input gate"].shape
    (16, 8, 8, 1)
    """
    owner = _first_layer(model, layer)
    if image_shape is None:
        image_shape = _input_shape(model)
    elif not isinstance(image_shape, list | tuple) or len(image_shape) not in (2, 3):
        raise ValueError(
            "Argument `image_shape` must be (height, width) or (height, width, channels). "
            f"Received: image_shape={validation.shown(image_shape)}"
        )
    if len(image_shape) == 2:
        image_shape = (*image_shape, 1)
    if isinstance(owner, keras.layers.Bidirectional):
        parts = {"forward ": owner.forward_layer, "backward ": owner.backward_layer}
    else:
        parts = {"": owner}
    images = {}
    for which, part in parts.items():
        for name, image in _images_of(part, image_shape).items():
            images[which + name] = image
    return images


def _input_shape(model):
    """Of one input; else (), which is enough for a convolution."""
    shape = getattr(model, "input_shape", None)  # which a subclassed model has not
    one = isinstance(shape, tuple) and not any(isinstance(size, tuple) for size in shape)
    return shape[1:] if one else ()


def _images_of(owner, image_shape):
    images = {}
    if hasattr(owner, "patches"):
        image_shape = (*owner.patches, *image_shape[2:])
    for name, kernel in _kernels(owner):
        if kernel.ndim == 4:
            images[name] = kernel.transpose(3, 0, 1, 2)
            continue
        if kernel.ndim != 2 or len(image_shape) != 3 or kernel.shape[0] != math.prod(image_shape):
            raise ValueError(
                f"The {name} of {owner.name!r} has shape {kernel.shape}, which is no set "
                f"of images of shape {image_shape}. Pass `image_shape=(height, width, channels)`"
            )
        gates, rest = divmod(kernel.shape[1], getattr(owner, "units", kernel.shape[1]))
        names = GATES.get(gates, ("",)) if not rest else ("",)
        for gate, part in zip(names, np.split(kernel, len(names), axis=1), strict=True):
            key = f"{name}, {gate}" if gate else name
            images[key] = part.T.reshape(-1, *image_shape)
    return images


def _kernels(owner):
    """Those that see the image, by name; of networks side by side one after the other."""
    for variable in owner.weights:
        if variable.name in KERNELS:
            kernel = ops.convert_to_numpy(variable).astype("float64")
            if getattr(owner, "networks", 1) == 1:
                yield variable.name, kernel
            else:
                for direction, one in zip(owner.directions, kernel, strict=True):
                    yield f"{variable.name}, {direction.replace('_', ' ')}", one


def _first_layer(model, name):
    with_kernels = {
        found: layer
        for found, layer in named_layers(model).items()
        if any(weight.name in KERNELS for weight in layer.weights)
    }
    if name is not None:
        return with_kernels[validation.one_of("layer", name, list(with_kernels))]
    if not with_kernels:
        raise ValueError(f"No layer of {model.name!r} has a kernel to show")
    return next(iter(with_kernels.values()))


def plot_filters(model, image_shape=None, layer=None, count=25, scaling="common", title=None):
    """Draw the filters of the first layer, the `count` largest of each kind.

    Args:
        model, image_shape, layer: As for `filter_images`.
        count: The number of filters of each kind, those with the largest L2 norm first; None draws
            all.
        scaling: "common": one scale for the whole figure, symmetric around zero. A number: that
            scale ends there, so that several figures can be compared. "own": each filter has its
            own, so that small ones can be seen as well. Filters of colour images always have their
            own.
        title: Title of the figure; by default the layer's name.

    Returns:
        The matplotlib figure, one axes for each kind of filter.

    Raises:
        ValueError: As for `filter_images`; `count` or `scaling` is out of its range.

    Example:

    >>> from keras_deeplstm import models
    >>> from keras_deeplstm.callbacks import plot_filters
    >>> figure = plot_filters(models.classifier((8, 8, 1), 10, units=16), count=9)
    >>> [axes.get_title() for axes in figure.axes[:2]]
    ['kernel, input gate (9 of 16)', 'kernel, forget gate (9 of 16)']
    """
    _check_scaling(scaling)
    kinds = filter_images(model, image_shape, layer)
    most = max(len(images) for images in kinds.values())
    count = most if count is None else min(validation.positive_integer("count", count), most)
    columns = math.ceil(math.sqrt(count))
    across = min(2, len(kinds))  # two by two gates can be read on a phone, four in a row cannot
    down = math.ceil(len(kinds) / across)
    figure = plt.figure(figsize=(3.2 * across + 1, 3.2 * down + 0.6), layout="constrained")
    figure.suptitle(plain(title or f"Filters of {_first_layer(model, layer).name!r}"))
    if scaling == "own":
        kinds = {kind: _each_to_one(images) for kind, images in kinds.items()}
    limit = max(np.abs(images).max() for images in kinds.values()) or 1.0
    beyond = not isinstance(scaling, str) and limit > scaling
    limit = limit if isinstance(scaling, str) else scaling
    axes = figure.subplots(down, across, squeeze=False).reshape(-1)
    colors = plt.get_cmap("RdBu_r").with_extremes(bad="0.3")  # white would read as a zero
    for ax, (kind, images) in zip(axes, kinds.items(), strict=False):
        largest = np.argsort(-np.linalg.norm(images.reshape(len(images), -1), axis=1))[:count]
        picture = _tile(images[largest], columns)
        drawn = ax.imshow(picture, cmap=colors, vmin=-limit, vmax=limit, interpolation="nearest")
        ax.set_title(f"{kind} ({len(largest)} of {len(images)})", fontsize=9)
    for ax in axes:
        ax.set_axis_off()
    if picture.ndim == 2:
        label = "weight / largest of the filter" if scaling == "own" else "weight"
        extend = "both" if beyond else "neither"
        figure.colorbar(drawn, ax=axes, label=label, shrink=0.8, extend=extend)
    return figure


def _check_scaling(scaling):
    if isinstance(scaling, str):
        return validation.one_of("scaling", scaling, ("common", "own"))
    return validation.finite("scaling", scaling, positive=True)


def _each_to_one(images):
    largest = np.abs(images).max(axis=(1, 2, 3), keepdims=True)
    return images / np.where(largest > 0, largest, 1.0)


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


class FilterImages(EpochCallback):
    """Draw pictures of the first layer's filters while `model.fit` runs.

    `epoch_0000.png` shows them before training, `epoch_0005.png` after the fifth epoch.

    Args:
        directory: Folder for the PNG files, created if absent; None writes none.
        every: Draw before the first, after each `every`-th and after the last epoch.
        image_shape, layer, count, scaling: As for `plot_filters`.
        tensorboard: Folder for TensorBoard; None writes none.
        show: Show each picture at once, inline in a notebook.

    Raises:
        ValueError: An argument is out of its range; in `fit`: the model has no layer with filters
            of that shape.

    Example:

    >>> import keras, numpy as np, pathlib, tempfile
    >>> from keras_deeplstm import models
    >>> from keras_deeplstm.callbacks import FilterImages
    >>> model = models.classifier((8, 8, 1), 3, depth=2, units=4)
    >>> model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    >>> folder = pathlib.Path(tempfile.mkdtemp(), "filters")
    >>> images = FilterImages(folder, every=2)
    >>> x, y = np.ones((8, 8, 8, 1)), np.arange(8) % 3
    >>> history = model.fit(x, y, epochs=2, verbose=0, callbacks=[images])
    >>> sorted(path.name for path in folder.iterdir())
    ['epoch_0000.png', 'epoch_0002.png']
    """

    def __init__(
        self,
        directory=None,
        every=1,
        image_shape=None,
        layer=None,
        count=25,
        scaling="common",
        tensorboard=None,
        show=False,
    ):
        super().__init__(validation.positive_integer("every", every))
        self.directory = None if directory is None else pathlib.Path(directory)
        self.image_shape = image_shape
        self.layer = layer
        self.count = None if count is None else validation.positive_integer("count", count)
        self.scaling = _check_scaling(scaling)
        self.tensorboard = tensorboard
        self.show = validation.boolean("show", show)
        self._writer = None

    def get_state(self):
        """Return which epochs are done and drawn, for `set_state`: a dict of plain numbers."""
        return {"epochs_done": self._epochs, "drawn": max(self._measured, default=None)}

    def set_state(self, state):
        """Go on, in the next `fit`, where `get_state` was called: nothing is drawn twice.

        Args:
            state: What `get_state` has returned.
        """
        drawn = {} if state["drawn"] is None else {state["drawn"]: None}
        self._continue(state["epochs_done"], drawn)

    def on_train_begin(self, logs=None):
        """Make the folder; one that cannot be made is an error before training."""
        super().on_train_begin(logs)
        if self.directory is not None:
            try:
                self.directory.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise OSError(
                    f"Cannot write logs to '{self.directory}': {error.strerror}"
                ) from error
        if self.tensorboard is not None:
            self._writer = TensorBoardWriter(self.tensorboard)

    def on_train_end(self, logs=None):
        """Draw the filters after the last epoch."""
        super().on_train_end(logs)
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def measure(self, epochs):
        """Draw the filters at the present weights."""
        figure = plot_filters(
            self.model,
            self.image_shape,
            self.layer,
            self.count,
            self.scaling,
            title=f"Filters of the first layer after {epochs} epochs",
        )
        if self.directory is not None:
            path = self.directory / f"epoch_{epochs:04d}.png"
            temporary = path.with_name(f".{path.name}")  # whoever looks sees no half picture
            try:
                figure.savefig(temporary, format="png", dpi=120)
            except OSError as error:  # of a full disk, it names no file
                raise OSError(error.errno, error.strerror, str(temporary)) from error
            os.replace(temporary, path)
        if self._writer is not None:
            self._writer.figure("filters", figure, epochs)
        if self.show:
            plt.show()
        plt.close(figure)
