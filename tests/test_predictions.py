"""Where a model is wrong on the test data: the tables of a run and the pictures of its report."""

import keras
import numpy as np
import pandas as pd
import pytest
from finished_runs import make_run

from keras_deeplstm.experiments import ModelConfig, RunConfig, Splits, get_task, runs
from keras_deeplstm.experiments.reports import drawing
from keras_deeplstm.experiments.reports import predictions as drawn
from keras_deeplstm.experiments.runs import files
from keras_deeplstm.experiments.runs.groups import group_runs
from keras_deeplstm.experiments.training import predictions, train


@pytest.fixture(name="told")
def _told(tmp_path):
    """A function that writes what a model with these outputs says of test data, and reads it."""

    def told(outputs, y, **more):
        x = np.asarray(outputs, "float32")
        test = x, np.asarray(y)
        data = Splits(test, test, test, **more)
        predictions.write(lambda x, training: x, data, None, tmp_path)
        (path,) = tmp_path.iterdir()
        return path.name, pd.read_csv(path)

    return told


def test_classes_are_counted_by_what_they_are_taken_for(told):
    name, table = told(np.eye(3)[[2, 1, 1, 0, 2, 1]], [2, 1, 0, 0, 1, 0], classes=("a", "b", "c"))
    assert name == "confusion.csv"
    assert table.to_numpy().tolist() == [
        ["a", "a", 1], ["a", "b", 2], ["b", "b", 1], ["b", "c", 1], ["c", "c", 1],
    ]  # fmt: skip


def test_classes_without_names_are_numbers(told):
    assert told([[0.0, 2.0]], [0])[1].to_numpy().tolist() == [[0, 1, 1]]


def test_numbers_stand_beside_what_is_true(told):
    name, table = told([[1.0, 2.0], [3.0, 4.123456]], np.float32([[1, 0], [2, 5]]))
    assert name == "predictions.csv"
    assert table.to_numpy().tolist() == [[1, 1, 1], [1, 2, 3], [2, 0, 2], [2, 5, 4.1235]]


def test_one_output_for_two_classes_is_a_number(told):
    assert told([[-1.5], [0.5]], [0, 1])[0] == "predictions.csv"


def test_of_many_numbers_the_first_are_kept(told):
    table = told(np.zeros((1200, 6)), np.zeros((1200, 6), "float32"))[1]
    assert table["output"].value_counts().to_dict() == dict.fromkeys(range(1, 5), 1000)


def test_a_run_counts_what_evaluate_counts(tmp_path):
    """With another batch size, without a compiled function, and in order: the accuracy is equal."""
    config = RunConfig("digits", ModelConfig("dense", 2, units=8), epochs=2)
    result = train(config, tmp_path / "a")
    table = runs.load(tmp_path / "a").confusion
    right = table["count"][table["true"] == table["predicted"]].sum()
    assert table["count"].sum() == 360
    assert right / 360 == pytest.approx(result["test_accuracy"], abs=1e-6)
    # The same again from what was saved.
    x, y = get_task("digits").load(None).test
    model = keras.models.load_model(tmp_path / "a" / "model.keras")
    guessed = keras.ops.convert_to_numpy(model(x)).argmax(axis=1)
    for true, predicted, count in table.to_numpy():
        assert np.sum((y == int(true)) & (guessed == int(predicted))) == count


def of(tmp_path, *tables, name="confusion"):
    """The section of runs with these tables."""
    for seed, table in enumerate(tables):
        make_run(tmp_path / f"{seed}", ModelConfig(), seed=seed)
        files.write_text(tmp_path / f"{seed}" / f"{name}.csv", table)
    return drawn.section(group_runs(runs.find(tmp_path)))


CONFUSION = "true,predicted,count\ncat,cat,7\ncat,dog,2\ndog,dog,3\ndog,$x_{,1\n"


def test_the_worst_classes_are_named(tmp_path):
    section = of(tmp_path, CONFUSION)
    assert "least often right: dog (75.0% of 4) and cat (77.8% of 9)." in section.text
    assert "taken for another: cat for dog (2) and dog for $x_{ (1)." in section.text
    assert len(section.rows[0]) == 1


def test_classes_are_called_what_they_are_called(tmp_path):
    """Also by words that pandas takes for missing values, and numbers that are written in full."""
    names = ["NA", "None", "nan", "null", "1", "01"]
    rows = "".join(f'"{name}","{name}",{count}\n' for count, name in enumerate(names, 1))
    section = of(tmp_path, f"true,predicted,count\n{rows}01,1,7\nNA,nan,3\n")
    assert (
        "least often right: NA (25.0% of 4), 01 (46.2% of 13) and None (100.0% of 2)"
        in section.text
    )
    assert "taken for another: 01 for 1 (7) and NA for nan (3)." in section.text
    (run,) = runs.find(tmp_path)
    assert run.confusion["true"].tolist() == [*names, "01", "NA"]


def test_runs_of_one_model_are_summed(tmp_path):
    section = of(tmp_path, CONFUSION, "true,predicted,count\ncat,cat,8\ndog,cat,1\n")
    assert "Sums over 2 runs." in section.text
    assert "least often right: dog (60.0% of 5) and cat (88.2% of 17)." in section.text


def test_many_classes_are_named_and_drawn(tmp_path):
    rows = "".join(f"{n},{n},1\n" for n in range(51)) + "50,0,1\n"
    section = of(tmp_path, f"true,predicted,count\n{rows}")
    assert "least often right: 50 (50.0% of 2), 0 (100.0% of 1) and 1" in section.text
    assert drawing.shown([section]) == [section]  # one without a picture would be left out


def test_numbers_have_a_picture_for_each_output(tmp_path):
    table = "output,true,predicted\n1,0.5,0.25\n1,1,2\n1,3,3\n2,0,0\n2,1,\n"
    section = of(tmp_path, table, name="predictions")
    first, second = section.rows[0]
    assert first.alt == "Predicted against true, output 1: half of the errors are below 0.25."
    assert second.alt.endswith("output 2: half of the errors are below 0.")


def test_several_models_have_none(tmp_path):
    for number, block in enumerate(("dense", "highway")):
        make_run(tmp_path / f"{number}", ModelConfig(block))
        files.write_text(tmp_path / f"{number}" / "confusion.csv", CONFUSION)
    section = drawn.section(group_runs(runs.find(tmp_path)))
    assert not section.rows


def test_names_of_folders_are_names_of_classes(tmp_path):
    rng = np.random.default_rng(0)
    y = np.repeat(["oak", "elm"], 10)
    np.savez(tmp_path / "trees.npz", x=rng.normal(size=(20, 3)), y=y)
    assert get_task(str(tmp_path / "trees.npz")).load(None).classes == ("elm", "oak")
    frame = pd.DataFrame({"size": rng.normal(size=20), "tree": y})
    frame.to_csv(tmp_path / "trees.csv", index=False)
    assert get_task(f"{tmp_path}/trees.csv?target=tree&kind=classification").load(None).classes == (
        "elm",
        "oak",
    )
