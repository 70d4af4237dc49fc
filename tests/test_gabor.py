import numpy as np
import pytest

from keras_deeplstm.callbacks.gabor import gabor, gabor_similarity


def test_gabor_filters_are_recognised_with_their_parameters():
    rng = np.random.default_rng(0)
    images = []
    for angle, wavelength in ((0.3, 5.0), (1.2, 8.0), (2.5, 6.0)):
        image = 3.0 * gabor(16, 14, 6.0, 8.0, 3.0, 4.0, angle, wavelength, 0.7) + 0.5
        images.append(image + rng.normal(scale=0.01, size=image.shape))
    table = gabor_similarity(np.array(images))
    assert (table.r_squared > 0.99).all()
    np.testing.assert_allclose(table.wavelength, [5.0, 8.0, 6.0], rtol=0.05)
    # A wave has no sign: angles count modulo pi.
    difference = (table.angle - np.array([0.3, 1.2, 2.5]) + np.pi / 2) % np.pi - np.pi / 2
    np.testing.assert_allclose(difference, 0.0, atol=0.05)


def test_noise_is_not_taken_for_a_gabor_filter():
    noise = np.random.default_rng(1).normal(size=(4, 16, 16, 1))
    assert (gabor_similarity(noise).r_squared < 0.5).all()


def test_constant_filters_and_wrong_shapes():
    table = gabor_similarity(np.ones((1, 5, 5)))
    assert table.r_squared[0] == 0 and np.isnan(table.angle[0])
    with pytest.raises(ValueError, match="must have the axes"):
        gabor_similarity(np.ones((5, 5)))
