"""How much a filter looks like a Gabor filter."""

import keras
import numpy as np
import pandas as pd

from keras_deeplstm import validation
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
    >>> image = gabor(12, 12, 5, 6, 2, 3, 0.5, 5, 1)
    >>> bool(gabor_similarity(image[None]).r_squared[0] > 0.99)
    True
    """
    images = np.asarray(images, "float64")
    if images.ndim == 4:
        images = images.mean(axis=-1)
    if images.ndim != 3:
        raise ValueError(
            "Argument `images` must have the axes (filters, height, width[, channels]). "
            f"Received: images.shape={images.shape}"
        )
    variation = np.square(images - images.mean(axis=(1, 2), keepdims=True)).sum(axis=(1, 2))
    varied = np.flatnonzero(variation >= 1e-20)
    table = pd.DataFrame(np.nan, index=range(len(images)), columns=["r_squared", *NAMES])
    table["r_squared"] = 0.0
    for first in range(0, len(varied), TOGETHER):
        some = varied[first : first + TOGETHER]
        r_squared, parameters = _fit(images[some])
        table.loc[some] = np.column_stack([r_squared, parameters])
    return table.rename_axis("filter").reset_index()


NAMES = ("x", "y", "sigma_x", "sigma_y", "angle", "wavelength", "phase")
TOGETHER = 32  # filters fitted at a time
STEPS = 100
ENOUGH = 1e-4  # a step that takes less than this share of the error is the last one


def _fit(images):
    """R^2 and parameters of the best fit to each of these images, none of which is constant."""
    count, height, width = images.shape
    size = max(height, width)
    low = np.array([-0.5, -0.5, 0.5, 0.5, -2 * np.pi, 2.0, -2 * np.pi])
    high = np.array([width - 0.5, height - 0.5, size, size, 2 * np.pi, 2.0 * size, 2 * np.pi])
    images = images - images.mean(axis=(1, 2), keepdims=True)
    images = images / np.sqrt(np.square(images).sum(axis=(1, 2), keepdims=True))

    starts = []
    rows, columns = np.mgrid[:height, :width]
    for image in images:
        weight = np.square(image)
        centre = (weight * columns).sum(), (weight * rows).sum()
        angle, wavelength = _spectral_peak(image)
        starts += [
            [*centre, sigma, sigma, angle, wavelength, phase]
            for sigma in (size / 8, size / 4, size / 2)
            for phase in (0.0, np.pi / 2)
        ]
    repeats = len(starts) // count
    targets = np.repeat(images.reshape(count, -1), repeats, axis=0)
    found = np.clip(starts, low, high)
    costs = _descend(found, targets, low, high, (height, width)).reshape(count, repeats)
    best = costs.argmin(axis=1)
    return 1.0 - costs.min(axis=1), found[np.arange(count) * repeats + best]


def _descend(found, targets, low, high, shape):
    """Levenberg and Marquardt's method for many fits at once; changes `found`, returns the costs.

    Many, because one fit is so small that calling a solver would take most of the time.
    """
    errors, slopes = _errors(found, targets, shape)
    costs = np.square(errors).sum(axis=1)
    damping = np.full(len(found), 1e-2)
    left = np.arange(len(found))  # those that still go down
    for _ in range(STEPS):
        gradient = (slopes @ errors[:, :, None])[:, :, 0]
        # A parameter that would leave its range stays where it is.
        held = ((found[left] <= low) & (gradient > 0)) | ((found[left] >= high) & (gradient < 0))
        slopes = np.where(held[:, :, None], 0.0, slopes)
        curvature = slopes @ slopes.transpose(0, 2, 1)
        diagonal = np.einsum("nii->ni", curvature)
        diagonal += damping[left, None] * diagonal + 1e-12
        step = np.linalg.solve(curvature, np.where(held, 0.0, gradient)[:, :, None])[:, :, 0]
        tried = np.clip(found[left] - step, low, high)
        new_errors, new_slopes = _errors(tried, targets[left], shape)
        new_costs = np.square(new_errors).sum(axis=1)
        gain = costs[left] - new_costs
        better = gain > 0
        found[left[better]], costs[left[better]] = tried[better], new_costs[better]
        damping[left] *= np.where(better, 0.2, 5.0)
        errors = np.where(better[:, None], new_errors, errors)
        slopes = np.where(better[:, None, None], new_slopes, slopes)
        goes_on = np.where(better, gain > ENOUGH * costs[left], damping[left] < 1e6)
        left, errors, slopes = left[goes_on], errors[goes_on], slopes[goes_on]
        if not len(left):
            break
    return costs


def _errors(parameters, targets, shape):
    """What each Gabor filter leaves unexplained `(fits, pixels)`, and its slopes by parameter.

    Amplitude and offset are linear: solved for, not searched. Their own slopes are left out
    (Kaufman, 1975), which leaves the gradient of the squared error exact.
    """
    x, y, sigma_x, sigma_y, angle, wavelength, phase = parameters.T[:, :, None]
    rows, columns = np.mgrid[: shape[0], : shape[1]].reshape(2, 1, -1)
    cosine, sine = np.cos(angle), np.sin(angle)
    along = (columns - x) * cosine + (rows - y) * sine
    across = (rows - y) * cosine - (columns - x) * sine
    envelope = np.exp(-(along**2) / (2 * sigma_x**2) - across**2 / (2 * sigma_y**2))
    frequency = 2 * np.pi / wavelength
    wave = envelope * np.cos(frequency * along + phase)
    shifted = envelope * np.sin(frequency * along + phase)
    by_along = -along / sigma_x**2 * wave - frequency * shifted
    by_across = -across / sigma_y**2 * wave
    by_parameter = [
        -cosine * by_along + sine * by_across,
        -sine * by_along - cosine * by_across,
        wave * along**2 / sigma_x**3,
        wave * across**2 / sigma_y**3,
        by_along * across - by_across * along,
        shifted * frequency * along / wavelength,
        -shifted,
    ]
    slopes = np.stack(by_parameter, axis=1)
    wave = wave - wave.mean(axis=1, keepdims=True)
    slopes -= slopes.mean(axis=2, keepdims=True)
    power = np.maximum(np.square(wave).sum(axis=1, keepdims=True), 1e-12)
    amplitude = (wave * targets).sum(axis=1, keepdims=True) / power
    slopes -= (slopes @ wave[:, :, None]) / power[:, :, None] * wave[:, None]
    return targets - amplitude * wave, -amplitude[:, :, None] * slopes


def _spectral_peak(image):
    """Direction and wavelength of the strongest plane wave in an image without mean."""
    padded = [4 * n for n in image.shape]
    power = np.abs(np.fft.fft2(image, padded)) ** 2
    row, column = np.unravel_index(np.argmax(power), power.shape)
    fy, fx = np.fft.fftfreq(padded[0])[row], np.fft.fftfreq(padded[1])[column]
    frequency = max(np.hypot(fx, fy), 1 / (2 * max(image.shape)))
    return np.arctan2(fy, fx), 1 / frequency


class GaborSimilarity(keras.callbacks.Callback):
    """Compare the first layer's filters with Gabor filters, before and after `model.fit`.

    While the model trains the filters are only kept; the fits are made when `to_frame` asks.

    Args:
        count: Number of filters, spread evenly over those of all gates; None takes all.
        image_shape, layer: As for `filter_images`.

    Raises:
        ValueError: `count` is not a positive integer; in `fit`: the model has no layer with filters
            of that shape.

    Example:

    >>> from keras_deeplstm.callbacks import GaborSimilarity
    >>> gabor = GaborSimilarity()
    >>> model.fit(x, y, callbacks=[gabor])  # doctest: +SKIP
    >>> gabor.to_frame().groupby("epoch").r_squared.median()  # doctest: +SKIP
    """

    def __init__(self, count=64, image_shape=None, layer=None):
        super().__init__()
        self.count = None if count is None else validation.positive_integer("count", count)
        self.image_shape = image_shape
        self.layer = layer
        self._epochs = None
        self._filters = {}  # epoch -> (filters, height, width)

    def get_state(self):
        """Return the number of epochs that are done and, by epoch, the filters that are kept."""
        return {"epochs": self._epochs, **{str(k): v for k, v in self._filters.items()}}

    def set_state(self, state):
        """Go on, in the next `fit`, where `get_state` was called."""
        self._epochs = state["epochs"]
        self._filters = {int(k): v for k, v in state.items() if k != "epochs"}

    def on_epoch_begin(self, epoch, logs=None):
        """Keep the filters before the first epoch."""
        if not self._filters:
            self._keep(epoch)

    def on_epoch_end(self, epoch, logs=None):
        """Count."""
        self._epochs = epoch + 1

    def on_train_end(self, logs=None):
        """Keep the filters after the last epoch."""
        if self._epochs is not None:
            self._keep(self._epochs)

    def _keep(self, epoch):
        images = np.concatenate(
            list(filter_images(self.model, self.image_shape, self.layer).values())
        ).mean(axis=-1)
        if self.count is not None and self.count < len(images):
            images = images[np.linspace(0, len(images) - 1, self.count).round().astype(int)]
        self._filters[epoch] = images.astype("float32")

    def to_frame(self):
        """Fit, and return the columns of `gabor_similarity` and `epoch` (0: before training)."""
        frames = [
            gabor_similarity(images).assign(epoch=epoch)
            for epoch, images in sorted(self._filters.items())
        ]
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()
