"""How much a filter looks like a Gabor filter."""

import numpy as np
import pandas as pd
from scipy.optimize import least_squares


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
    return pd.DataFrame([{"filter": i, **_fit(image)} for i, image in enumerate(images)])


NAMES = ("x", "y", "sigma_x", "sigma_y", "angle", "wavelength", "phase")


def _fit(image):
    centred = image - image.mean()
    total = np.square(centred).sum()
    if total < 1e-20:
        return {"r_squared": 0.0, **dict.fromkeys(NAMES, np.nan)}
    centred = centred / np.sqrt(total)
    height, width = image.shape
    size = max(height, width)
    low = [-0.5, -0.5, 0.5, 0.5, -2 * np.pi, 2.0, -2 * np.pi]
    high = [width - 0.5, height - 0.5, size, size, 2 * np.pi, 2.0 * size, 2 * np.pi]

    def residual(parameters):
        basis = gabor(height, width, *parameters)
        # Amplitude and offset are linear: solved for, not searched.
        basis = basis - basis.mean()
        power = np.square(basis).sum()
        amplitude = (basis * centred).sum() / power if power > 1e-12 else 0.0
        return (centred - amplitude * basis).reshape(-1)

    weight = np.square(centred) / np.square(centred).sum()
    rows, columns = np.mgrid[:height, :width]
    centre = (weight * columns).sum(), (weight * rows).sum()
    angle, wavelength = _spectral_peak(centred)
    best = None
    for sigma in (size / 8, size / 4, size / 2):
        for phase in (0.0, np.pi / 2):
            start = [*centre, sigma, sigma, angle, wavelength, phase]
            fit = least_squares(residual, np.clip(start, low, high), bounds=(low, high))
            best = fit if best is None or fit.cost < best.cost else best
    return {"r_squared": 1.0 - 2.0 * best.cost, **dict(zip(NAMES, best.x, strict=True))}


def _spectral_peak(image):
    """Direction and wavelength of the strongest plane wave in an image without mean."""
    padded = [4 * n for n in image.shape]
    power = np.abs(np.fft.fft2(image, padded)) ** 2
    row, column = np.unravel_index(np.argmax(power), power.shape)
    fy, fx = np.fft.fftfreq(padded[0])[row], np.fft.fftfreq(padded[1])[column]
    frequency = max(np.hypot(fx, fy), 1 / (2 * max(image.shape)))
    return np.arctan2(fy, fx), 1 / frequency
