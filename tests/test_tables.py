"""Tables as tasks: CSV and Parquet, classes and numbers, what is left out, what is refused."""

import re

import numpy as np
import pandas as pd
import pytest

from keras_deeplstm.experiments import RunConfig, get_task
from keras_deeplstm.experiments.settings import ConfigError
from keras_deeplstm.experiments.tasks import DataError, resolve
from keras_deeplstm.experiments.tasks.tables import Source

ROWS = 100


@pytest.fixture(name="frame")
def _frame():
    generator = np.random.default_rng(0)
    number = generator.normal(50, 10, ROWS)
    return pd.DataFrame(
        {
            "id": np.arange(ROWS) + 7,
            "size": number,
            "city": generator.choice(["Bonn", "Oslo", "Rome"], ROWS),
            "garden": generator.random(ROWS) < 0.5,
            "country": "EU",
            "floor": generator.integers(0, 30, ROWS),
            "price": 3 * number + generator.normal(0, 1, ROWS),
            "sold": np.where(number > 50, "yes", "no"),
        }
    )


def load(frame, folder, query, end=".csv"):
    path = folder / f"homes{end}"
    frame.to_csv(path, index=False)
    return get_task(f"{path}?{query}")


def test_a_column_of_numbers(frame, tmp_path):
    task = load(frame, tmp_path, "target=price&drop=sold")
    assert task.name == "homes-price" and task.measure.name == "r2_score"
    assert "'price' is told as a number (regression)" in task.remark
    data = task.load(None)
    assert [len(y) for _, y in data] == [70, 10, 20]
    x, y = data.train
    # size, three cities, garden, floor; neither the id nor the country
    assert x.shape == (70, 6) and y.shape == (70, 1) and x.dtype == y.dtype == np.float32
    assert task.sizes(data) == ((6,), 1)
    np.testing.assert_allclose([x[:, 0].mean(), x[:, 0].std()], [0, 1], atol=1e-6)
    np.testing.assert_allclose([y.mean(), y.std()], [0, 1], atol=1e-6)
    assert set(np.unique(x[:, 1:4])) == {0, 1} and (x[:, 1:4].sum(axis=1) == 1).all()
    # The price is three times the size but for noise of 1, in rows that belong together.
    assert np.corrcoef(data.test[0][:, 0], data.test[1][:, 0])[0, 1] > 0.99
    assert data.notes == (
        "Column 'id' is left out: it looks like an id, the number of the row",
        "Column 'country' is left out: it is the same in all rows",
    )
    again = task.load(None)
    assert again.digest() == data.digest()


def test_the_test_part_is_scaled_by_the_training_part(frame, tmp_path):
    task = load(frame[["size", "price"]], tmp_path, "target=price")
    data = task.load(None)
    x = np.concatenate([part[:, 0] for part, _ in data])
    order = np.argsort(x)
    # One and the same line takes all sizes to all inputs.
    slope = np.diff(np.sort(frame["size"])) / np.diff(x[order])
    np.testing.assert_allclose(slope, slope[0], rtol=1e-2)
    scale = 1 / np.std(data.train[0])
    np.testing.assert_allclose(scale, 1, rtol=1e-6)


def test_a_column_of_classes(frame, tmp_path):
    task = load(frame, tmp_path, "target=sold&drop=price")
    assert task.measure.name == "accuracy" and "--kind regression changes that" in task.remark
    data = task.load(None)
    share = (frame["sold"] == "yes").mean()
    assert {y.dtype for _, y in data} == {np.dtype("int64")}
    for _, y in data:
        assert abs(y.mean() - share) < 0.06  # each part has its share
    assert task.sizes(data)[1] == 2


def test_several_columns_of_numbers(frame, tmp_path):
    task = load(frame, tmp_path, "target=price&target=floor")
    data = task.load(None)
    assert data.train[1].shape == (70, 2) and task.num_classes == 2
    np.testing.assert_allclose(data.train[1].std(axis=0), 1, atol=1e-6)
    assert task.name == "homes-price-floor"


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        (np.arange(ROWS) % 20, "classification"),
        (np.arange(ROWS) % 21, "regression"),
        (np.arange(ROWS) % 2 == 0, "classification"),
        (np.arange(ROWS) % 3 * 1.0, "regression"),
        (["a", "b"] * (ROWS // 2), "classification"),
    ],
)
def test_which_kind_it_takes(frame, tmp_path, column, kind):
    path = tmp_path / "t.csv"
    frame.assign(y=column).to_csv(path, index=False)
    assert Source.of(resolve(str(path), target=("y",))).kind == kind
    other = "regression" if kind == "classification" else "classification"
    assert Source.of(resolve(str(path), target=("y",), kind=other)).kind == other


def test_a_category_that_training_has_not_seen(frame, tmp_path):
    for row in range(ROWS):
        frame["city"] = np.where(np.arange(ROWS) % 2, "Bonn", "Oslo")
        frame.loc[row, "city"] = "Rome"
        data = load(frame[["size", "city", "price"]], tmp_path, "target=price").load(None)
        if data.train[0].shape[1] == 3:  # size, Bonn, Oslo: training knows no Rome
            unseen = [x for x, _ in (data.validation, data.test)]
            zeros = [(x[:, 1:] == 0).all(axis=1).sum() for x in unseen]
            assert sum(zeros) == 1
            return
    pytest.fail("every row was one of the training part")


@pytest.mark.parametrize(
    ("change", "query", "message"),
    [
        (
            {"size": [np.nan] * 3},
            "target=price",
            "'size' in 3 rows of 100; the first is 'size' in r",
        ),
        ({"size": [np.inf]}, "target=price", "has an infinite 'size' in row 1"),
        ({}, "target=prise", "has no column 'prise'. Did you mean 'price'?"),
        ({}, "target=price&drop=price", "cannot be the target and be dropped"),
        ({}, "target=city&target=price&kind=classification", "Several columns can be told as numb"),
        ({}, "target=city&kind=regression", "'city' of '"),
        ({}, "target=floor&kind=classification", "each class needs at least 10"),
        ({"country": ["EU"]}, "target=country", "has one class only"),
    ],
)
def test_what_is_refused(frame, tmp_path, change, query, message):
    for name, values in change.items():
        column = frame[name].to_numpy(copy=True)
        column[: len(values)] = values
        frame[name] = column
    with pytest.raises(DataError, match=re.escape(message)):
        load(frame, tmp_path, query).load(None)


def test_without_a_target(frame, tmp_path):
    path = tmp_path / "t.csv"
    frame.to_csv(path, index=False)
    with pytest.raises(
        ConfigError, match=r"Name the column to be told with --target\. .* id, size"
    ):
        RunConfig(str(path))
    with pytest.raises(ConfigError, match="--target is for tables"):
        RunConfig("digits", target=("x",))
    with pytest.raises(DataError, match="does not exist"):
        RunConfig(str(tmp_path / "u.csv"), target=("x",))


def test_other_separators_and_names(frame, tmp_path):
    for separator in ";\t":
        frame.to_csv(tmp_path / "t.csv", index=False, sep=separator)
        task = get_task(f"{tmp_path / 't.csv'}?target=price&drop=sold")
        assert task.load(None).train[0].shape == (70, 6)
    name = Source("a b.csv", ("Preis in €", "x=1&y"), "regression", ("?",)).name
    assert Source.of(name) == Source("a b.csv", ("Preis in €", "x=1&y"), "regression", ("?",))


def test_a_run_is_known_by_its_table_and_columns(frame, tmp_path, monkeypatch):
    frame.to_csv(tmp_path / "t.csv", index=False)
    monkeypatch.chdir(tmp_path)
    config = RunConfig("t.csv", target=("price",))
    assert config.task == f"{tmp_path / 't.csv'}?target=price&kind=regression"
    assert RunConfig.from_dict(config.to_dict()) == config
    assert config.slug.startswith("t-price-unfolded_lstm-")
    assert "target" not in config.to_dict()
    (tmp_path / "t.csv").unlink()  # what was trained on it can still be read
    assert RunConfig.from_dict(config.to_dict()).measure.name == "r2_score"


def test_parquet(frame, tmp_path):
    path = tmp_path / "t.parquet"
    try:
        frame.to_parquet(path)
    except ImportError:
        path.write_bytes(b"")
        with pytest.raises(DataError, match=r"pip install 'keras_deeplstm\[parquet\]'"):
            RunConfig(str(path), target=("price",))
        return
    task = get_task(resolve(str(path), target=("price",), drop=("sold",)))
    assert task.load(None).train[0].shape == (70, 6)
    frame["when"] = pd.Timestamp("2026-01-01")
    frame.to_parquet(path)
    with pytest.raises(DataError, match="holds dates or times"):
        get_task(f"{path}?target=price&kind=regression").load(None)
