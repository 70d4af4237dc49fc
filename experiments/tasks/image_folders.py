"""Images of the user's own from a folder, in which each class has a folder of its own.

    letters/a/1.png, letters/a/2.png, ..., letters/b/1.png, ...

Above the classes there may be `train` and `test`, and `validation` beside them:

    letters/train/a/1.png, ..., letters/test/a/1.png, ...

All images must have one size. They are read as grey if all files are grey ones, else as colour;
what is transparent becomes white. The order is that of the names. Files whose names begin with a
dot are passed over.
"""

import contextlib
import math
import warnings
from pathlib import Path

import numpy as np

from keras_deeplstm.experiments.tasks.task import DataError, check_memory

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".bmp": "BMP"}
GREY = {"1", "L", "LA"}  # Pillow's modes of grey images with up to 8 bits
FOUND_BY_SYSTEMS = ("Thumbs.db", "desktop.ini")


def read(folder: Path) -> dict[str, np.ndarray]:
    """Return the images and the names of their classes; a `DataError` says what cannot be used.

    They are `x`, uint8 `(n, height, width, channels)`, and `y`, strings `(n,)`; or `x_train`,
    `y_train`, `x_test`, `y_test`, and `x_validation`, `y_validation` if there are.
    """
    names = {path.name for path in _entries(folder) if path.is_dir()}
    parts = {"": folder}
    if {"train", "test"} <= names:
        if unknown := names - {"train", "validation", "test"}:
            raise DataError(
                f"'{folder}' holds folders 'train' and 'test'; beside them only 'validation' may "
                f"stand. Received: {', '.join(sorted(unknown))}"
            )
        parts = {f"_{name}": folder / name for name in sorted(names)}
    images = {part: _images(place) for part, place in parts.items()}
    paths = [path for found in images.values() for path in found]
    shape, mode = _shape_and_mode(paths)
    check_memory(folder, 4 * len(paths) * math.prod(shape))
    arrays = {}
    for part, paths in images.items():
        arrays[f"x{part}"] = np.empty((len(paths), *shape), np.uint8)
        for pixels, path in zip(arrays[f"x{part}"], paths, strict=True):
            pixels[...] = _pixels(path, mode).reshape(shape)
        arrays[f"y{part}"] = np.array([path.parent.name for path in paths])
    return arrays


def _entries(folder):
    """What is in a folder, in the order of the names, the same on all systems."""
    found = sorted(folder.iterdir(), key=lambda path: path.name)
    return [p for p in found if not p.name.startswith(".") and p.name not in FOUND_BY_SYSTEMS]


def _images(folder):
    """The images in the folders of the classes, which are in this one."""
    found = []
    for place in filter(Path.is_dir, _entries(folder)):
        entries = _entries(place)
        if not entries:
            raise DataError(f"'{place}' holds no images. Each folder stands for a class")
        for path in entries:
            if path.is_dir():
                raise DataError(
                    f"'{place}' holds the folder '{path.name}' instead of images. Above the "
                    f"folders of the classes there may be 'train' and 'test', both of them"
                )
            if path.suffix.lower() not in FORMATS or not path.is_file():
                raise DataError(f"'{path}' is not a .png, .jpg or .bmp image")
        found += entries
    if not found:
        raise DataError(f"'{folder}' holds no folders with images, one for each class")
    return found


def _shape_and_mode(paths):
    """Height, width and channels of all images, and "L" if all are grey, else "RGB"."""
    sizes, modes = {}, set()
    for path in paths:
        with _opened(path) as image:  # reads its header only
            if image.mode[0] in "IF":  # Pillow would cut off what is above 255
                raise DataError(f"'{path}' has more than 8 bits for a pixel; save it with 8")
            sizes.setdefault(image.size, path)
            modes.add(image.mode)
    if len(sizes) > 1:
        first, second, *_ = (f"'{path}' has {w} x {h}" for (w, h), path in sizes.items())
        raise DataError(
            f"All images must have one size; resize them first. {first} pixels, {second}"
        )
    ((width, height),) = sizes
    return ((height, width, 1), "L") if modes <= GREY else ((height, width, 3), "RGB")


def _pixels(path, mode):
    # Imported here, as below, so that the command's help need not wait for Pillow.
    from PIL import Image

    with _opened(path) as image:
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        return np.asarray(image.convert(mode))


@contextlib.contextmanager
def _opened(path):
    """An image; whatever is wrong with it becomes a `DataError`."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # see check_memory
            with Image.open(path, formats=[FORMATS[path.suffix.lower()]]) as image:
                yield image
    except DataError:
        raise
    except Exception as error:  # decoders raise whatever a torn or foreign file makes them
        raise DataError(f"'{path}' cannot be read as an image: {error}") from None
