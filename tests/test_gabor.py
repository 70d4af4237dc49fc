import re

import keras
import numpy as np
import pytest

from keras_deeplstm import models
from keras_deeplstm.callbacks import GaborSimilarity, filter_images
from keras_deeplstm.callbacks.gabor import _error, gabor, gabor_similarity


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


def test_the_fit_keeps_its_bounds_and_says_what_it_explains():
    images = np.random.default_rng(2).normal(size=(6, 8, 9))
    table = gabor_similarity(images)
    low = [-0.5, -0.5, 0.5, 0.5, -2 * np.pi, 2.0, -2 * np.pi]
    high = [8.5, 7.5, 9, 9, 2 * np.pi, 18.0, 2 * np.pi]
    for image, row in zip(images, table.itertuples(), strict=True):
        parameters = np.array(row[3:])
        assert (parameters >= low).all() and (parameters <= high).all()
        columns = np.stack([gabor(8, 9, *parameters).ravel(), np.ones(72)], axis=1)
        target = image.ravel()
        rest = target - columns @ np.linalg.lstsq(columns, target, rcond=None)[0]
        centred = target - target.mean()
        assert row.r_squared == pytest.approx(1 - (rest @ rest) / (centred @ centred), abs=1e-9)


def test_slopes_of_the_fit_against_finite_differences():
    target = np.random.default_rng(3).normal(size=(5, 6))
    target -= target.mean()
    parameters = np.array([2.1, 2.4, 1.7, 2.2, 0.4, 4.5, 0.9])
    error, slopes = _error(parameters, target)
    gradient = 2 * slopes @ error  # of the squared error
    for i, shift in enumerate(1e-6 * np.eye(7)):
        costs = [np.square(_error(parameters + s, target)[0]).sum() for s in (shift, -shift)]
        assert gradient[i] == pytest.approx((costs[0] - costs[1]) / 2e-6, rel=1e-4)


def test_a_second_fit_keeps_what_came_before_it(eager):
    def fit(seed, first, last):
        keras.utils.set_random_seed(seed)
        model = models.classifier((5, 5, 1), 3, depth=2, units=4)
        model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        x, y = np.ones((8, 5, 5, 1)), np.arange(8) % 3
        model.fit(x, y, initial_epoch=first, epochs=last, verbose=0, callbacks=[gabor])
        return {n: v for n, v in gabor.get_state().items() if n != "epochs"}

    gabor = GaborSimilarity(count=4)
    first = fit(0, 0, 3)
    second = fit(1, 0, 2)  # another model, from the beginning
    assert set(first) == {"0", "3"} and set(second) == {"0", "2"}
    assert not np.array_equal(first["0"], second["0"])
    third = fit(2, 2, 4)
    assert set(third) == {"0", "2", "4"}
    np.testing.assert_array_equal(third["0"], second["0"])
    assert not np.array_equal(third["2"], second["2"])


def test_the_callback_keeps_filters_before_and_after(eager):
    model = models.classifier((5, 5, 1), 3, depth=2, units=4)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x = np.random.default_rng(0).normal(size=(8, 5, 5, 1)).astype("float32")
    kinds = filter_images(model)  # four gates of four units
    before = np.concatenate(list(kinds.values()))[[0, 5, 10, 15]]
    callback = GaborSimilarity(count=4)
    model.fit(x, np.arange(8) % 3, epochs=2, verbose=0, callbacks=[callback])
    after = np.concatenate(list(filter_images(model).values()))[[0, 5, 10, 15]]
    assert not np.array_equal(before, after)

    labels = callback.plot().get_legend_handles_labels()[1]
    assert labels == ["before training", "after 2 epochs"]
    assert [sum(bar.get_height() for bar in bars) for bars in callback.plot().containers] == [4, 4]
    medians = [100 * gabor_similarity(images).r_squared.median() for images in (before, after)]
    found = re.search(r"explains (\d+)% before training and (\d+)% after 2", callback.verdict())
    assert [float(share) for share in found.groups()] == pytest.approx(medians, abs=0.6)
    assert GaborSimilarity().verdict() == "No filters were compared."
    assert not GaborSimilarity().plot().containers

    other = GaborSimilarity(count=4)
    other.set_state(callback.get_state())
    for frame in (callback.to_frame(), other.to_frame()):
        assert frame.epoch.tolist() == [0] * 4 + [2] * 4
        for epoch, images in ((0, before), (2, after)):
            expected = gabor_similarity(images).r_squared
            np.testing.assert_allclose(frame[frame.epoch == epoch].r_squared, expected, atol=1e-3)
