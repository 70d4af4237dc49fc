"""The gates of a GridLSTM3D on images: the numbers of the cell-by-cell reference, and pictures."""

import image_grid_reference
import keras
import numpy as np
import pytest
from keras import ops

from keras_deeplstm import models
from keras_deeplstm.callbacks import plot_image_gates
from keras_deeplstm.diagnostics import image_gates
from keras_deeplstm.experiments import ModelConfig, RunConfig, runs
from keras_deeplstm.experiments.reports import classifiers
from keras_deeplstm.experiments.runs.groups import group_runs
from keras_deeplstm.experiments.training import train
from keras_deeplstm.layers import GridLSTM3D

pytestmark = pytest.mark.backends

IMAGES = np.random.default_rng(1).normal(size=(2, 4, 6, 1)).astype("float32")
MASK = np.array([[[1, 1, 1], [1, 0, 1]], [[1, 1, 0], [0, 0, 0]]], bool)
NAMES = {"rows": "row", "columns": "column", "depth": "depth"}


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"directions": ("top_right", "bottom_left")},
        {"directions": ("bottom_right", "top_left"), "combine": "turns", "priority": None},
    ],
    ids=str,
)
def test_equal_those_of_a_walk_from_cell_to_cell(options, masked):
    layer = GridLSTM3D(3, 2, patches=(2, 2), bias_initializer="random_normal", seed=0, **options)
    mask = MASK if masked else None
    found = image_gates(layer, IMAGES, mask)
    weights = {w.name: np.array(ops.convert_to_numpy(w), "float64") for w in layer.weights}
    names = ("units", "depth", "priority", "patches", "directions", "combine")
    expected = {}
    arguments = {name: getattr(layer, name) for name in names}
    image_grid_reference.image_grid(IMAGES, weights, mask=mask, gates=expected, **arguments)
    assert len(expected) == 3 * 2 * layer.networks * (MASK.sum() if masked else MASK.size)
    for direction, gates in found.items():
        assert list(gates) == ["i", "f", "o"]
        for gate, values in gates.items():
            assert values.shape == (2, layer.networks, 2, 2, 3, 3)
            for (name, *place), values_there in expected.items():
                if name == NAMES[direction]:
                    np.testing.assert_allclose(
                        values[tuple(place)], values_there[gate], rtol=1e-5, atol=1e-6
                    )


def test_another_layer_is_refused():
    with pytest.raises(ValueError, match="must be a GridLSTM3D"):
        image_gates(keras.layers.Dense(2), IMAGES)


def test_the_picture_shows_means_over_units():
    model = models.image_grid_classifier((4, 6, 1), 3, depth=2, units=3, directions=["top_right"])
    figure = plot_image_gates(model, IMAGES, depth=2)
    (values,) = image_gates(model.get_layer("block"), IMAGES)["columns"]["f"][1]
    ax = next(ax for ax in figure.axes if ax.get_title() == "columns: forget")
    np.testing.assert_allclose(ax.images[0].get_array(), values[0].mean(axis=-1), rtol=1e-6)
    assert len(figure.axes) == 2 * 10 + 1


@pytest.mark.long
@pytest.mark.usefixtures("eager")
def test_a_run_shows_the_gates_on_images_of_three_classes(tmp_path):
    model = ModelConfig("image_grid", 1, units=2, patch=4)
    train(RunConfig("digits", model, epochs=1, batch_size=700), tmp_path / "a")
    sections = classifiers.sections(group_runs(runs.find(tmp_path)))
    (section,) = (one for one in sections if one.title == classifiers.GATES)
    assert section.rows[0][0].alt == "Gates of the first layer: GridLSTM3D, depth 1."


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layer": "readout"}, "Argument `layer` must be one of"),
        ({"depth": 3}, "Argument `depth` must be at most 2"),
        ({"network": 1}, "Argument `network` must be at most 0"),
    ],
    ids=str,
)
def test_wrong_arguments_of_the_picture(options, message):
    model = models.image_grid_classifier((4, 6, 1), 3, depth=2, units=3)
    with pytest.raises(ValueError, match=message):
        plot_image_gates(model, IMAGES, **options)
    with pytest.raises(ValueError, match="has no GridLSTM3D"):
        plot_image_gates(models.classifier((4, 6, 1), 3), IMAGES)
