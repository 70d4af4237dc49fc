"""Folders that version 0.1 wrote: runs are listed, reported and resumed.

`version_0_1/runs` holds them as they were, but for pictures and models.
"""

import pathlib
import shutil

import pandas as pd
import pytest

from keras_deeplstm.callbacks import GaborSimilarity
from keras_deeplstm.experiments import Splits, Study, Task, main, register, runs
from keras_deeplstm.experiments.training import recorders, train

OLD = pathlib.Path(__file__).parent / "version_0_1" / "runs"


@pytest.fixture(autouse=True)
def _copied(tmp_path, monkeypatch):
    monkeypatch.setattr(recorders, "GaborSimilarity", GaborSimilarity)  # all filters, as then
    shutil.copytree(OLD, tmp_path / "runs")
    monkeypatch.chdir(tmp_path)


def test_they_are_listed(capsys):
    assert main(["list"]) == 0
    found = {row.split()[0]: row for row in capsys.readouterr().out.splitlines()}
    assert "  finished     digits " in found["finished"] and found["finished"].endswith(" 9.7%")
    assert "  interrupted  digits " in found["interrupted"]
    assert "damaged" not in "".join(found.values())
    diabetes = found["how-deep-diabetes/diabetes-unfolded_lstm-untied-depth3-units16-seed0"]
    assert "diabetes (unknown here)" in diabetes and diabetes.endswith("accuracy 0.5212")
    assert found["srch/trial_0000/seed0"].endswith(" 11.7%")


@pytest.mark.usefixtures("quick_pictures")
def test_a_run_and_a_search_are_reported():
    assert main(["report", "runs/finished"]) == 0
    page = pathlib.Path("runs/finished/report.html").read_text("utf-8")
    assert "<td>9.7%</td>" in page and "test accuracy" in page
    assert main(["report", "runs/srch"]) == 0
    page = pathlib.Path("runs/srch/report.html").read_text("utf-8")
    assert "The best of 2 trials: depth 2, dropout 0.478" in page
    assert len(pd.read_csv("runs/srch/trials.csv")) == 2


def test_an_interrupted_run_goes_on_to_the_same_result():
    run = runs.load(pathlib.Path("runs/interrupted"))
    said = []
    result = train(run.config, run.folder, on_message=said.append)
    assert said == ["Run 'interrupted' goes on after epoch 2 of 3"]
    expected = runs.load(pathlib.Path("runs/finished")).result
    assert result.keys() - {"test_examples"} == expected.keys()
    for key in ("test_accuracy", "test_loss", "val_accuracy", "gabor_r2_end"):
        assert result[key] == pytest.approx(expected[key], rel=1e-4), key  # another processor
    assert (expected["gradient_ratio_end"], result["gradient_ratio_end"]) == (1, None)  # one matrix
    assert result["resumed_after_epochs"] == [2]


@pytest.mark.usefixtures("quick_pictures")
def test_the_metric_of_a_task_that_was_called_accuracy():
    loss = {"class_name": "MeanSquaredError"}
    metric = "mean_absolute_error"
    register(Task("diabetes", "d", (10,), 1, lambda _: Splits(), loss=loss, metric=metric))
    register(Study("how-deep", "How deep?", ("diabetes",), lambda task: []))
    assert main(["report", "runs/how-deep-diabetes"]) == 0
    page = pathlib.Path("runs/how-deep-diabetes/report.html").read_text("utf-8")
    best = "the lowest test mean absolute error is that of UnfoldedLSTMBlock, depth 10"
    assert f"On diabetes, {best} (0.5064)." in page
    table = pd.read_csv("runs/how-deep-diabetes/table.csv")
    assert table["test_mean_absolute_error"].round(4).tolist() == [0.5212, 0.5064]
