import keras
import numpy as np
import pytest
from PIL import Image

from keras_deeplstm import models
from keras_deeplstm.callbacks import FilterImages, filter_images, plot_filters

pytestmark = pytest.mark.backends


def first_kernel(model):
    return next(w for w in model.weights if w.name == "kernel")


def test_kernels_are_split_by_gate_and_shaped_as_images():
    model = models.classifier((4, 5, 1), 3, depth=2, units=6)
    kernel = np.arange(20 * 24, dtype="float32").reshape(20, 24)
    first_kernel(model).assign(kernel)
    images = filter_images(model)
    names = ["input gate", "forget gate", "candidate", "output gate"]
    assert list(images) == [f"kernel, {name}" for name in names]
    assert images["kernel, candidate"].shape == (6, 4, 5, 1)
    # Filter 2 of the candidate is column 2 * 6 + 2 of the kernel.
    np.testing.assert_array_equal(
        images["kernel, candidate"][2, ..., 0], kernel[:, 14].reshape(4, 5)
    )


def test_dense_colour_convolution_and_lstm_layers():
    dense = keras.Sequential(
        [keras.Input((2, 2, 3)), keras.layers.Flatten(), keras.layers.Dense(5)]
    )
    assert filter_images(dense)["kernel"].shape == (5, 2, 2, 3)
    conv = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(7, (3, 2))])
    assert filter_images(conv)["kernel"].shape == (7, 3, 2, 3)
    lstm = keras.Sequential([keras.Input((None, 6)), keras.layers.LSTM(4)])
    assert filter_images(lstm, image_shape=(2, 3))["kernel, output gate"].shape == (4, 2, 3, 1)
    state = models.classifier((2, 2), 3, depth=2, units=6, input_mode="state")
    assert set(filter_images(state)) == {"hidden_kernel", "memory_kernel"}


def test_both_directions_are_shown_split_by_gate():
    layer = keras.layers.Bidirectional(keras.layers.LSTM(2))
    images = filter_images(keras.Sequential([keras.Input((1, 6)), layer]), (2, 3))
    gates = ["input gate", "forget gate", "candidate", "output gate"]
    assert list(images) == [f"{d} kernel, {g}" for d in ("forward", "backward") for g in gates]
    for name, one in (("forward", layer.forward_layer), ("backward", layer.backward_layer)):
        kernel = one.get_weights()[0]  # column 3 is filter 1 of the forget gate
        image = images[f"{name} kernel, forget gate"][1, ..., 0]
        np.testing.assert_array_equal(image, kernel[:, 3].reshape(2, 3))


def test_pictures_before_and_during_training(tmp_path, eager):
    model = models.classifier((4, 4, 1), 3, depth=2, units=5)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x, y = np.zeros((8, 4, 4, 1)), np.zeros(8)
    model.fit(x, y, epochs=5, verbose=0, callbacks=[FilterImages(tmp_path / "new", every=2)])
    names = sorted(path.name for path in (tmp_path / "new").iterdir())
    assert names == [f"epoch_{n:04d}.png" for n in (0, 2, 4, 5)]
    picture = np.asarray(Image.open(tmp_path / "new" / names[0]).convert("RGB"))
    assert picture.std() > 10  # not a blank page


def test_the_largest_filters_come_first():
    model = keras.Sequential([keras.Input((2, 2)), keras.layers.Flatten(), keras.layers.Dense(3)])
    kernel = np.array([[1, 3, 2]] * 4, "float32")
    first_kernel(model).assign(kernel)
    drawn = plot_filters(model, count=1).axes[0].images[0].get_array()
    np.testing.assert_array_equal(drawn, [[3, 3], [3, 3]])


def test_one_scale_for_figures_that_are_compared():
    model = keras.Sequential([keras.Input((2, 2)), keras.layers.Flatten(), keras.layers.Dense(3)])
    first_kernel(model).assign(np.array([[1, -3, 2]] * 4, "float32"))
    for scaling, limit, extend in (("common", 3, "neither"), (2, 2, "both"), (5.0, 5, "neither")):
        figure = plot_filters(model, scaling=scaling)
        assert figure.axes[0].images[0].get_clim() == (-limit, limit)
        assert figure.axes[0].images[0].colorbar.extend == extend
    for scaling in (0, -1.0, "commom"):
        with pytest.raises(ValueError, match="`scaling` must be"):
            FilterImages(scaling=scaling)


def test_wrong_use():
    with pytest.raises(ValueError, match="`every` must be a positive integer"):
        FilterImages("x", every=0)
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(3)])
    with pytest.raises(ValueError, match=r"Pass `image_shape=\(height, width, channels\)`"):
        filter_images(model)
    with pytest.raises(ValueError, match="Did you mean 'readout'"):
        named = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="readout")])
        filter_images(named, (2, 2), layer="readut")
    with pytest.raises(ValueError, match="has a kernel to show"):
        filter_images(keras.Sequential([keras.Input((5,)), keras.layers.Activation("relu")]))


def test_trained_weights_are_bitwise_the_same(tmp_path, eager):
    weights = []
    for callbacks in ([], [FilterImages(tmp_path, every=1)]):
        keras.utils.set_random_seed(0)
        model = models.classifier((4, 5, 1), 3, depth=2, units=6, dropout=0.2)
        model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        x = np.random.default_rng(0).normal(size=(12, 4, 5, 1)).astype("float32")
        history = model.fit(
            x, np.arange(12) % 3, batch_size=4, epochs=2, verbose=0, callbacks=callbacks
        )
        assert list(history.history) == ["loss"]
        weights.append(model.get_weights())
    assert len(list(tmp_path.glob("*.png"))) == 3  # from epoch 0 on
    for one, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.backends
def test_filters_of_a_grid_are_patches():
    corners = ["top_left", "bottom_right"]
    model = models.image_grid_classifier((8, 8, 2), 3, units=5, patches=(2, 4), directions=corners)
    images = filter_images(model)
    assert list(images) == ["hidden_kernel, top left", "hidden_kernel, bottom right"]
    kernel = keras.ops.convert_to_numpy(model.get_layer("block").hidden_kernel)
    for image, one in zip(images.values(), kernel, strict=True):
        np.testing.assert_allclose(image, one.T.reshape(5, 2, 4, 2))
    one = models.image_grid_classifier((8, 8, 2), 3, units=5, patches=(2, 4))
    assert filter_images(one)["hidden_kernel"].shape == (5, 2, 4, 2)


def test_a_convolution_needs_no_shape_of_the_image():
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.conv = keras.layers.Conv2D(4, 3, name="conv")

        def call(self, x):
            return self.conv(x)

    model = Own()
    model(np.zeros((1, 8, 8, 2), "float32"))
    assert filter_images(model)["kernel"].shape == (4, 3, 3, 2)
    pair = [keras.Input((4,)), keras.Input((4,))]
    two = keras.Model(pair, keras.layers.Dense(3)(keras.layers.Add()(pair)))
    assert filter_images(two, (2, 2))["kernel"].shape == (3, 2, 2, 1)
    with pytest.raises(ValueError, match="Pass `image_shape="):
        filter_images(two)
