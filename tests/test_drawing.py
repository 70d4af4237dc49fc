"""The reports' pictures: colors, also in the files that are published; errors; learning rates."""

import colorsys
import io
import pathlib
import types

import numpy as np
import pandas as pd
import pytest
import seaborn as sns
from matplotlib.figure import Figure
from PIL import Image

from keras_deeplstm.experiments import ModelConfig, RunConfig
from keras_deeplstm.experiments.reports import drawing, rates
from keras_deeplstm.experiments.runs import Run
from keras_deeplstm.experiments.runs.groups import group_runs
from keras_deeplstm.experiments.tasks.measures import Measure


def test_lines_keep_their_colors():
    """Ten thin ones with bands and a legend, as a study draws them."""
    figure = Figure()
    ax = figure.subplots()
    colors = sns.color_palette("colorblind")
    for number, color in enumerate(colors):
        values = np.arange(30) ** (0.1 * number)
        both = pd.DataFrame({0: values, 1: 1.1 * values})
        drawing.draw_line(ax, both, both.median(axis=1), f"model {number}", color)
    ax.legend()
    file = io.BytesIO()
    figure.savefig(file, dpi=150)
    small = drawing.with_few_colors(file.getvalue())
    with Image.open(io.BytesIO(small)) as image:
        found = {color for _, color in image.convert("RGB").getcolors()}
    assert len(small) < 0.5 * len(file.getvalue())
    assert drawing.with_few_colors(small) == small
    assert found >= {tuple(round(255 * part) for part in color) for color in colors}


@pytest.mark.parametrize("count", [10, 15])
def test_each_label_has_a_color_of_its_own(count):
    groups = [types.SimpleNamespace(label=f"model {number % count}") for number in range(2 * count)]
    colors = drawing.colors_of(groups)
    assert len(colors) == len(set(colors.values())) == count


def test_the_last_of_many_colors_is_not_like_the_first():
    """Both are light: their hues are 45 degrees apart."""
    colors = drawing.colors_of([types.SimpleNamespace(label=number) for number in range(15)])
    hues = [colorsys.rgb_to_hsv(*colors[number])[0] for number in (0, 14)]
    assert (hues[0] - hues[1]) % 1 > 0.1


def test_an_accuracy_is_drawn_as_its_error():
    """97 % and 98 % stand apart beside 10 %, and an error of zero can be seen."""
    ax = Figure().subplots()
    drawn = drawing.scores_on(ax, Measure.of("accuracy"), "test")
    assert (drawn(0.97), drawn(1.0)) == (pytest.approx(3), 0)
    places = ax.transData.transform([(0, drawn(value)) for value in (0.1, 0.97, 0.98)])[:, 1]
    assert places[1] - places[2] > 0.1 * (places[0] - places[1])
    assert ax.get_ylabel() == "test error (%)"

    drawn = drawing.scores_on(ax, Measure.of("mse"), "validation")
    assert drawn(0.5) == 0.5 and ax.get_ylabel() == "validation mse"


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "values, scale",
    [((1, 100), "log"), ((3, 4), "linear"), ((0, 0), "linear"), ((-3, 0), "linear")],
)
def test_an_axis_is_logarithmic_where_that_can_be_read(values, scale):
    figure, ax = drawing.new_figure(scale="log")
    ax.plot([1, 2], values)
    drawing.picture(figure, "a picture")
    assert ax.get_yscale() == scale


@pytest.mark.parametrize("errors, scale", [((1.5, 6), "symlog"), ((1.9, 2.4), "linear")])
def test_an_axis_of_errors_has_two_numbers(errors, scale):
    figure, ax = drawing.new_figure()
    drawn = drawing.scores_on(ax, Measure.of("accuracy"), "test")
    ax.plot([1, 2], [drawn(1 - error / 100) for error in errors])
    drawing.picture(figure, "a picture")
    low, high = ax.get_ylim()
    assert ax.get_yscale() == scale
    assert sum(low <= tick <= high for tick in ax.get_yticks()) >= 2


def rated(*accuracies, depth=10, block="dense"):
    """Groups with one run each, by their rates and validation accuracies."""
    configs = [
        RunConfig("digits", ModelConfig(block, depth=depth), learning_rate=rate)
        for rate, _ in accuracies
    ]
    results = [{"val_accuracy": value} for _, value in accuracies]
    return group_runs(
        [
            Run(pathlib.Path(str(number)), config, "finished", "", result)
            for number, (config, result) in enumerate(zip(configs, results, strict=True))
        ]
    )


def test_models_with_several_rates_have_a_picture_of_them():
    both = [*rated((1e-3, 0.9), (1e-2, 0.95), (1e-1, 0.1)), *rated((1e-2, 0.8), block="highway")]
    ((picture,),) = rates.section(both).rows
    assert picture.alt == (
        "validation error (%) against learning rate, digits. The best rate: at depth 10 "
        "DenseStack 0.01."
    )
    assert rates.fewer(both) is both
    others = [
        group
        for depth in range(11, 16)
        for group in rated((1e-3, 0.9), (1e-2, 0.8), (1e-1, 0.1), depth=depth)
    ]
    best = rates.fewer([*both, *others])
    assert [(group.name, group.config.learning_rate) for group in best[:3]] == [
        ("DenseStack, depth 10", 0.01),
        ("HighwayBlock, depth 10", 0.01),
        ("DenseStack, depth 11", 0.001),
    ]
    assert len(best) == 7


def test_models_with_one_rate_each_have_none():
    """At each depth another one: so each depth has its best."""
    groups = [group for depth in range(2, 30) for group in rated((depth / 100, 0.9), depth=depth)]
    assert rates.section(groups).rows == []
    assert rates.fewer(groups) is groups
    groups = rated((1e-3, 0.9), (1e-2, None))  # one was never validated
    assert rates.section(groups).rows == []
