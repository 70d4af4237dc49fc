"""How much a filter looks like a Gabor filter."""

import math

import numpy as np
import pandas as pd
from scipy.optimize import least_squares

from keras_deeplstm import validation
from keras_deeplstm.callbacks import axes
from keras_deeplstm.callbacks.epochs import EpochCallback
from keras_deeplstm.callbacks.filter_images import filter_images


def gabor(height, width, x, y, sigma_x, sigma_y, angle, wavelength, phase):
    """A Gabor filter of amplitude 1: a cosine under a Gaussian, as `(height, width)`.

    Args:
        height, width: Size of the image in pixels.
        x, y: Centre in pixels.
        sigma_x, sigma_y: Standard deviations of the Gaussian in pixels, along and across the wave.
        angle: Direction of the wave in radians.
        wavelength: In pixels.
        phase: Of the cosine at the centre, in radians.

    Returns:
        An array `(height, width)`, float64.

    Example:

    >>> from keras_deeplstm.callbacks.gabor import gabor
    >>> gabor(2, 3, x=1, y=0, sigma_x=9, sigma_y=9, angle=0, wavelength=2, phase=0).round(2)
    array([[-0.99,  1.  , -0.99],
           [-0.99,  0.99, -0.99]])
    """
    rows, columns = np.mgrid[:height, :width].astype("float64")
    along = (columns - x) * np.cos(angle) + (rows - y) * np.sin(angle)
    across = (rows - y) * np.cos(angle) - (columns - x) * np.sin(angle)
    envelope = np.exp(-(along**2) / (2 * sigma_x**2) - across**2 / (2 * sigma_y**2))
    return envelope * np.cos(2 * np.pi * along / wavelength + phase)


def gabor_similarity(images):
    """Fit a Gabor filter to each image and say how much of it that explains.

    The fit starts from the largest peak of the image's spectrum, with envelopes of several sizes,
    and keeps the best. A filter of noise is fitted too, in part: compare with untrained filters.

    Args:
        images: `(filters, height, width)` or `(filters, height, width, channels)`, as from
            `filter_images`; channels are averaged.

    Returns:
        A DataFrame with a row for each filter: `filter`, `r_squared` (share of the variance around
        the mean that the fit explains; 0 for a constant filter), and the parameters of `gabor`.

    Raises:
        ValueError: `images` has another number of axes.

    Example:

    >>> import numpy as np
    >>> from keras_deeplstm.callbacks.gabor import gabor, gabor_similarity
    >>> image = gabor(12, 12, x=5, y=6, sigma_x=2, sigma_y=3, angle=0.5, wavelength=5, phase=1)
    >>> noise = np.random.default_rng(0).normal(size=(12, 12))
    >>> gabor_similarity(np.stack([image, noise])).r_squared.round(1).tolist()
    [1.0, 0.1]
    """
    images = np.asarray(images, "float64")
    if images.ndim == 4:
        images = images.mean(axis=-1)
    if images.ndim != 3:
        raise ValueError(
            "Argument `images` must have the axes (filters, height, width[, channels]). "
            f"Received: images.shape={images.shape}"
        )
    return pd.DataFrame([{"filter": i, **_fit(image)} for i, image in enumerate(images)])


NAMES = ("x", "y", "sigma_x", "sigma_y", "angle", "wavelength", "phase")


def _fit(image):
    """R^2 and parameters of the best fit to one image."""
    centred = image - image.mean()
    total = np.square(centred).sum()
    if total < 1e-20:
        return {"r_squared": 0.0, **dict.fromkeys(NAMES, np.nan)}
    centred = centred / np.sqrt(total)
    height, width = image.shape
    size = max(height, width)
    low = [-0.5, -0.5, 0.5, 0.5, -2 * np.pi, 2.0, -2 * np.pi]
    high = [width - 0.5, height - 0.5, size, size, 2 * np.pi, 2.0 * size, 2 * np.pi]

    weight = np.square(centred)
    rows, columns = np.mgrid[:height, :width]
    centre = (weight * columns).sum(), (weight * rows).sum()
    angle, wavelength = _spectral_peak(centred)
    best = None
    for sigma in (size / 8, size / 4, size / 2):
        for phase in (0.0, np.pi / 2):
            start = [*centre, sigma, sigma, angle, wavelength, phase]
            fit = least_squares(
                lambda parameters: _error(parameters, centred)[0],
                np.clip(start, low, high),
                lambda parameters: _error(parameters, centred)[1].T,
                bounds=(low, high),
                ftol=1e-4,
            )
            best = fit if best is None or fit.cost < best.cost else best
    return {"r_squared": 1.0 - 2.0 * best.cost, **dict(zip(NAMES, best.x, strict=True))}


def _error(parameters, target):
    """What a Gabor filter leaves unexplained, `(pixels,)`, and its slopes `(parameters, pixels)`.

    Amplitude and offset are linear: solved for, not searched. Their own slopes are left out
    (Kaufman, 1975), which leaves the gradient of the squared error exact.
    """
    x, y, sigma_x, sigma_y, angle, wavelength, phase = parameters
    rows, columns = np.mgrid[: target.shape[0], : target.shape[1]].reshape(2, -1)
    cosine, sine = np.cos(angle), np.sin(angle)
    along = (columns - x) * cosine + (rows - y) * sine
    across = (rows - y) * cosine - (columns - x) * sine
    envelope = np.exp(-(along**2) / (2 * sigma_x**2) - across**2 / (2 * sigma_y**2))
    frequency = 2 * np.pi / wavelength
    wave = envelope * np.cos(frequency * along + phase)
    shifted = envelope * np.sin(frequency * along + phase)
    by_along = -along / sigma_x**2 * wave - frequency * shifted
    by_across = -across / sigma_y**2 * wave
    slopes = np.stack(
        [
            -cosine * by_along + sine * by_across,
            -sine * by_along - cosine * by_across,
            wave * along**2 / sigma_x**3,
            wave * across**2 / sigma_y**3,
            by_along * across - by_across * along,
            shifted * frequency * along / wavelength,
            -shifted,
        ]
    )
    wave = wave - wave.mean()
    slopes -= slopes.mean(axis=1, keepdims=True)
    power = max(np.square(wave).sum(), 1e-12)
    amplitude = (wave @ target.reshape(-1)) / power
    slopes -= np.outer(slopes @ wave, wave) / power
    return target.reshape(-1) - amplitude * wave, -amplitude * slopes


def _spectral_peak(image):
    """Direction and wavelength of the strongest plane wave in an image without mean."""
    padded = [4 * n for n in image.shape]
    power = np.abs(np.fft.fft2(image, padded)) ** 2
    row, column = np.unravel_index(np.argmax(power), power.shape)
    fy, fx = np.fft.fftfreq(padded[0])[row], np.fft.fftfreq(padded[1])[column]
    frequency = max(np.hypot(fx, fy), 1 / (2 * max(image.shape)))
    return np.arctan2(fy, fx), 1 / frequency


class GaborSimilarity(EpochCallback):
    """Compare the first layer's filters with Gabor filters, before and after `model.fit`.

    While the model trains the filters are only kept; the fits are made when `to_frame` asks. A
    second `fit` with the same callback drops what was kept after the epoch at which it begins.

    Args:
        count: Number of filters, spread evenly over those of all gates; None takes all.
        image_shape, layer: As for `filter_images`.

    Raises:
        ValueError: `count` is not a positive integer; in `fit`: the model has no layer with filters
            of that shape.

    Example:

    >>> import keras, numpy as np
    >>> from keras_deeplstm import models
    >>> from keras_deeplstm.callbacks import GaborSimilarity
    >>> model = models.classifier((8, 8, 1), 3, depth=2, units=4)
    >>> model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    >>> gabor = GaborSimilarity(count=3)
    >>> x, y = np.ones((8, 8, 8, 1)), np.arange(8) % 3
    >>> history = model.fit(x, y, epochs=2, verbose=0, callbacks=[gabor])
    >>> frame = gabor.to_frame()  # of which `groupby("epoch").r_squared.median()` tells the most
    >>> frame.epoch.tolist(), bool(frame.r_squared.between(0, 1).all())
    ([0, 0, 0, 2, 2, 2], True)
    >>> [text.get_text() for text in gabor.plot().get_legend().get_texts()]
    ['before training', 'after 2 epochs']
    """

    def __init__(self, count=24, image_shape=None, layer=None):
        super().__init__(every=math.inf)  # at the beginning and at the end
        self.count = None if count is None else validation.positive_integer("count", count)
        self.image_shape = image_shape
        self.layer = layer

    def get_state(self):
        """Return the number of epochs that are done and, by epoch, the filters that are kept."""
        return {"epochs": self._epochs, **{str(k): v for k, v in self._measured.items()}}

    def set_state(self, state):
        """Go on, in the next `fit`, where `get_state` was called.

        Args:
            state: What `get_state` has returned.
        """
        measured = {int(k): v for k, v in state.items() if k != "epochs"}
        self._continue(state["epochs"], measured)

    def measure(self, epochs):
        """Return the filters, `(filters, height, width)`."""
        images = np.concatenate(
            list(filter_images(self.model, self.image_shape, self.layer).values())
        ).mean(axis=-1)
        if self.count is not None and self.count < len(images):
            images = images[np.linspace(0, len(images) - 1, self.count).round().astype(int)]
        return images.astype("float32")

    def to_frame(self):
        """Return the fits, made now: `gabor_similarity` and a column `epoch` (0: before)."""
        frames = [
            gabor_similarity(images).assign(epoch=epoch)
            for epoch, images in sorted(self._measured.items())
        ]
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()

    def verdict(self):
        """Return one sentence: do the filters become more like Gabor filters?"""
        medians = self.to_frame().groupby("epoch").r_squared.median() if self._measured else ()
        if not len(medians):
            return "No filters were compared."
        parts = [f"{share:.0%} {_moment(epoch)}" for epoch, share in medians.items()]
        return f"Of a filter, a Gabor filter explains {' and '.join(parts)} (medians)."

    def plot(self, ax=None):
        """Draw how many filters are explained to which share, before and after training.

        Args:
            ax: Matplotlib axes; new ones by default.

        Returns:
            The axes.
        """
        ax = axes.or_new(ax)
        if self._measured:
            bins = np.linspace(0, 1, 21)
            for epoch, one in self.to_frame().groupby("epoch"):
                ax.hist(one.r_squared, bins, alpha=0.6, label=_moment(epoch))
        ax.set(xlabel="share explained by a Gabor filter (R²)", ylabel="filters")
        ax.set_title("How much filters look like Gabor filters")
        axes.legend_beside(ax)
        return ax


def _moment(epoch):
    return f"after {epoch} epoch{'' if epoch == 1 else 's'}" if epoch else "before training"
