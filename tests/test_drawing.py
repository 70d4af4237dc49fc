"""Colors of the reports' pictures: one for each model, also in the files that are published."""

import io
import types

import numpy as np
import pandas as pd
import pytest
import seaborn as sns
from matplotlib.figure import Figure
from PIL import Image

from keras_deeplstm.experiments.reports import drawing


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
