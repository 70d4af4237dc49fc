"""Images of the user's own from a folder, in which each class has a folder of its own.

    letters/a/1.png, letters/a/2.png, ..., letters/b/1.png, ...

Above the classes there may be `train` and `test`, and `validation` beside them:

    letters/train/a/1.png, ..., letters/test/a/1.png, ...

All images must have one size. They are read as grey if all files are grey ones, else as colour;
what is transparent becomes white. The order is that of the names. Files whose names begin with a
dot are passed over.
"""

import warnings
from pathlib import Path

import numpy as np

from keras_deeplstm.experiments.tasks.task import DataError, check_memory

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".bmp": "BMP"}
# Pillow's modes of grey images with up to 8 bits, and how those with more begin.
GREY = ("1", "L", "LA")
DEEP = ("I", "F")
FOUND_BY_SYSTEMS = ("Thumbs.db", "desktop.ini")


def read(folder: Path) -> dict[str, np.ndarray]:
    """Return the images and the names of their classes.

    Returns:
        A dict with `x`, uint8 `(n, height, width, channels)`, and `y`, strings `(n,)`; or with
        `x_train`, `y_train`, `x_test`, `y_test`, and `x_validation`, `y_validation` if there are.

    Raises:
        DataError: There are no images, other files among them, images of several sizes, or more
            than fit into memory; or one cannot be read.
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
    files = {part: _files(place) for part, place in parts.items()}
    paths = [path for found in files.values() for path, _ in found]
    (width, height), mode = _size_and_mode(paths)
    channels = 1 if mode == "L" else 3
    check_memory(folder, 4 * len(paths) * height * width * channels)
    arrays = {}
    for part, found in files.items():
        x = np.empty((len(found), height, width, channels), np.uint8)
        for image, (path, _) in zip(x, found, strict=True):
            image[...] = _pixels(path, mode).reshape(image.shape)
        arrays[f"x{part}"] = x
        arrays[f"y{part}"] = np.array([name for _, name in found])
    return arrays


def _entries(folder):
    """What is in a folder, in the order of the names, the same on all systems."""
    try:
        found = sorted(folder.iterdir(), key=lambda path: path.name)
    except OSError as error:
        raise DataError(f"'{folder}' cannot be read: {error}") from None
    return [p for p in found if not p.name.startswith(".") and p.name not in FOUND_BY_SYSTEMS]


def _files(folder):
    """The images below a folder, each with the name of its class."""
    found = []
    for place in _entries(folder):
        if not place.is_dir():
            continue
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
            found.append((path, place.name))
    if not found:
        raise DataError(f"'{folder}' holds no folders with images, one for each class")
    return found


def _size_and_mode(paths):
    """Width and height of all images, and "L" if all are grey, else "RGB"; from their headers."""
    first, mode = None, "L"
    for path in paths:
        with _open(path) as image:
            if first is None:
                first = path, image.size
            if image.size != first[1]:
                both = [f"'{p}' has {w} x {h}" for p, (w, h) in (first, (path, image.size))]
                raise DataError(
                    f"All images must have one size; resize them first. {both[0]} pixels, {both[1]}"
                )
            if image.mode.startswith(DEEP):  # Pillow would cut off what is above 255
                raise DataError(f"'{path}' has more than 8 bits for a pixel; save it with 8")
            if image.mode not in GREY:
                mode = "RGB"
    return first[1], mode


def _pixels(path, mode):
    # Imported here, as below, so that the command's help need not wait for Pillow.
    from PIL import Image

    with _open(path) as image:
        try:
            if image.has_transparency_data:
                image = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
            return np.asarray(image.convert(mode))
        except Exception as error:  # decoders raise whatever a torn or foreign file makes them
            raise _unreadable(path, error) from None


def _open(path):
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # see check_memory
            return Image.open(path, formats=[FORMATS[path.suffix.lower()]])
    except Exception as error:
        raise _unreadable(path, error) from None


def _unreadable(path, error):
    return DataError(f"'{path}' cannot be read as an image: {error}")
