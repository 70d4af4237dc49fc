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
    assert "'price' is predicted as a number (regression)" in task.remark
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
        ({}, "target=city&target=price&kind=classification", "Several columns can be predicted as"),
        ({}, "target=city&kind=regression", "'city' of '"),
        ({}, "target=floor&kind=classification", "each class needs at least 10"),
        ({"country": ["EU"]}, "target=country", "has one class only"),
        ({"sold": ["NA"]}, "target=sold", "The words NA, N/A, None, null and nan count as missing"),
        ({"city": ["1,5", "7"] * 30}, "target=price", "written as texts, '1,5' in row 1. Write th"),
        ({"city": ["9", "1.234,5"] * 26}, "target=price", "as texts, '1.234,5' in row 2"),
        ({"city": ["12 %"] * 51}, "target=price", "numbers that are written as texts, '12 %'"),
        ({"city": [str(2**64)] * 51}, "target=price", f"as texts, '{2**64}' in row 1"),
        ({"sold": ["1,5", "2,5"] * 50}, "target=sold", "Column 'sold' of"),
        ({"city": ["2026-01-31"] * 51}, "target=price", "dates or times, '2026-01-31' in row 1"),
        ({"city": ["31.1.2026"] * 51}, "target=price", "holds dates or times, '31.1.2026'"),
        ({"city": ["1/31/26 9:15"] * 51}, "target=price", "holds dates or times, '1/31/26 9:15'"),
        ({"city": list(map("no. {}".format, range(60)))}, "target=price", "different texts in 100"),
        ({"price": [1.5] * ROWS}, "target=price", "is 1.5 in all 70 rows of the training part"),
        ({"price": [1.5] * 95}, "target=price", "is 1.5 in all 10 rows of the validation part"),
    ],
)
def test_what_is_refused(frame, tmp_path, change, query, message):
    for name, values in change.items():
        column = frame[name].to_numpy(copy=True)
        column[: len(values)] = values
        frame[name] = column
    with pytest.raises(DataError, match=re.escape(message)):
        load(frame, tmp_path, query).load(None)


@pytest.mark.parametrize(
    ("city", "width", "notes"),
    [
        (["0", "1", "3+"], 3, ["Column 'city' becomes 3 inputs, one for each value, as not all "]),
        (["1.5", "12:30", "Bonn"], 3, []),
        (["1.2.3", "1.2.4"], 2, []),  # versions
        (["1,5", "Bonn", "Oslo"], 3, []),
    ],
)
def test_texts_that_look_like_numbers(frame, tmp_path, city, width, notes):
    frame = frame[["size", "price"]].assign(city=np.resize(city, ROWS))
    data = load(frame, tmp_path, "target=price").load(None)
    assert data.train[0].shape[1] == 1 + width
    assert [note[:60] for note in data.notes] == [note[:60] for note in notes]


def lines(frame, end, header=""):
    """Lines of CSV with the same at the end of each."""
    first, *others = frame.to_csv(index=False).splitlines()
    return "\n".join([first + header, *(line + end for line in others)])


@pytest.mark.parametrize(("end", "header"), [(",", ""), (",", ","), ("", "")])
def test_a_separator_at_the_end_of_lines(frame, tmp_path, end, header):
    frame = frame[["size", "floor", "price"]]
    expected = load(frame, tmp_path, "target=price").load(None)
    (tmp_path / "t.csv").write_text(lines(frame, end, header))
    data = get_task(f"{tmp_path / 't.csv'}?target=price&kind=regression").load(None)
    assert data.digest() == expected.digest()


@pytest.mark.parametrize("first", [1, 20])  # numbers that pandas takes for those of rows; others
def test_more_fields_than_the_header_names(frame, tmp_path, first):
    frame.insert(0, "row", np.arange(ROWS) * first)
    text = frame[["row", "size", "floor", "price"]].to_csv(index=False)
    (tmp_path / "t.csv").write_text(text.replace("row,", "", 1))
    with pytest.raises(DataError, match="more fields than its header names, which are: size, flo"):
        RunConfig(str(tmp_path / "t.csv"), target=("price",))


def test_one_type_throughout_a_long_column(tmp_path):
    """pandas guesses types in parts of 262,144 rows, where it may."""
    rows = 300_000
    zips = np.where(np.arange(rows) < rows - 100, "00137", "K1A")
    zips[: rows // 100] = "00200"
    path = tmp_path / "t.csv"
    frame = pd.DataFrame({"zip": zips, "y": np.arange(rows) / 2})
    frame.to_csv(path, index=False)
    data = get_task(f"{path}?target=y&kind=regression").load(None)
    assert data.train[0].shape == (210_000, 3)


@pytest.mark.parametrize("rows", [0, 19, 20])
def test_how_many_rows_a_regression_needs(frame, tmp_path, rows):
    task = load(frame[["size", "price"]][:rows], tmp_path, "target=price&kind=regression")
    if rows < 20:
        with pytest.raises(DataError, match=f"has {rows} rows; 20 are" if rows else "has no rows"):
            task.load(None)
    else:
        assert [len(y) for _, y in task.load(None)] == [14, 2, 4]


@pytest.mark.parametrize("size", [1e300, 1e-300])
def test_very_large_and_very_small_numbers(frame, tmp_path, size):
    frame = frame[["size", "price"]]
    expected = load(frame, tmp_path, "target=price").load(None)
    data = load(frame * size, tmp_path, "target=price").load(None)
    np.testing.assert_allclose(data.train[0], expected.train[0], rtol=1e-5)
    np.testing.assert_allclose(data.test[1], expected.test[1], rtol=1e-5)


def test_a_number_far_from_those_of_the_training_part(frame, tmp_path):
    for row in range(ROWS):  # one of them is not in the training part
        far = frame[["size", "price"]].assign(size=np.where(np.arange(ROWS) == row, 1e200, 1.0))
        far.loc[(row + 1) % ROWS, "size"] = 2
        try:
            load(far, tmp_path, "target=price").load(None)
        except DataError as error:
            assert "too far from those of the training part" in str(error)
            return
    pytest.fail("every row was one of the training part")


def test_folds_are_scaled_by_their_own_training_part(frame, tmp_path):
    frame["city"] = np.where(np.arange(ROWS) % 2, "Bonn", "Oslo")
    frame.loc[:8, "city"] = "Rome"
    whole = load(frame[["size", "city", "price"]], tmp_path, "target=price").load(None)
    for number in (1, 2, 3, 4):
        data = whole.fold(number, folds=4)
        assert [len(y) for _, y in data] == [60, 20, 20]
        (x, y), _, (x_test, y_test) = data
        for numbers in (x[:, 0], y):
            np.testing.assert_allclose([numbers.mean(), numbers.std()], [0, 1], atol=1e-6)
        assert (x[:, 1:].sum(axis=0) > 0).all()  # there is no text that only others have
        # The same test rows, on another scale.
        assert np.corrcoef(y_test[:, 0], whole.test[1][:, 0])[0, 1] == pytest.approx(1)
        assert np.corrcoef(x_test[:, 0], whole.test[0][:, 0])[0, 1] == pytest.approx(1)
    folds = [whole.fold(number, 4).validation[0][:, 0] for number in (1, 2, 3, 4)]
    assert len(np.unique(np.concatenate(folds).round(3))) > 70  # each row validates once


@pytest.mark.parametrize("name", ["what?.csv", "a.csv?b.csv", "a?target=b.csv", "t.csv"])
def test_names_with_question_marks(frame, tmp_path, name):
    frame[["size", "price"]].to_csv(tmp_path / name, index=False)
    task = RunConfig(str(tmp_path / name), target=("price",)).task
    assert task == f"{tmp_path / name}?target=price&kind=regression"
    assert Source.of(task) == Source(str(tmp_path / name), ("price",), "regression")
    assert len(get_task(task).load(None).train[0]) == 70


def test_without_a_target(frame, tmp_path):
    path = tmp_path / "t.csv"
    frame.to_csv(path, index=False)
    with pytest.raises(
        ConfigError, match=r"Name the column to predict with --target\. .* id, size"
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
