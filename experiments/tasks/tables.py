"""Tables of the user's own, CSV or Parquet: the columns to be told from the others.

A table is named like a path with what is asked of it, `prices.csv?target=price&kind=regression`;
the command makes that of `prices.csv --target price`. Text, booleans and integers of at most 20
different values are classes, other numbers are a regression, if `kind` does not say.

Numbers are standardized by the mean and the standard deviation of the training part, the targets of
a regression as well. A text is one input for each of the values that the training part has; a value
that is not among them is 0 in all of them. 70 % of the rows are for training, 10 % for validation,
20 % for testing, by class for classes; always the same rows.
"""

import functools
import os
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlencode

import numpy as np

from keras_deeplstm import validation
from keras_deeplstm.experiments.tasks.task import DataError, Splits, Task, check_memory, parted

SUFFIXES = (".csv", ".parquet")
KINDS = ("classification", "regression")
CLASSES = 20  # different integers, at most, that are taken for classes
LEAST = 10  # rows of each class, so that a part of a tenth has one


class Source(NamedTuple):
    """A table, and what is asked of it."""

    path: str
    target: tuple[str, ...] = ()
    """Columns to be told."""
    kind: str | None = None
    """One of `KINDS`."""
    drop: tuple[str, ...] = ()
    """Columns that are left out."""

    @classmethod
    def of(cls, name: str) -> "Source":
        """The inverse of `name`."""
        path, _, query = name.partition("?")
        asked = parse_qs(query, keep_blank_values=True)
        if unknown := set(asked) - {"target", "kind", "drop"}:
            raise ValueError(f"Unknown {min(unknown)!r} in {validation.shown(name)}")
        kind = asked.get("kind", [None])[-1]
        if kind is not None:
            validation.one_of("kind", kind, KINDS)
        return cls(path, tuple(asked.get("target", ())), kind, tuple(asked.get("drop", ())))

    @property
    def name(self) -> str:
        """All of it as one text."""
        asked = [("target", column) for column in self.target]
        asked += [("kind", self.kind)] if self.kind else []
        asked += [("drop", column) for column in self.drop]
        return f"{self.path}?{urlencode(asked)}" if asked else self.path


def is_table(name: str) -> bool:
    """Whether `name` is meant as a table, by its form."""
    return name.partition("?")[0].lower().endswith(SUFFIXES)


def resolve(name: str, **asked: Any) -> str:
    """The name of a table with an absolute path and a kind, which is looked up if it is not said.

    Args:
        name: A path, perhaps with what is asked of it.
        **asked: `target`, `kind` and `drop`, where they are not part of the name.

    Raises:
        ValueError: No column is to be told.
        DataError: The table cannot be read, or has no such columns.
    """
    source = Source.of(name)._replace(**{key: value for key, value in asked.items() if value})
    source = source._replace(path=os.path.abspath(os.path.expanduser(source.path)))
    if not source.target:
        columns = ", ".join(map(str, _read(source.path).columns))
        raise ValueError(f"Name the column to be told with --target. '{name}' has: {columns}")
    if source.kind is None:
        targets = _checked(_read(source.path), source)[list(source.target)]
        classes = len(source.target) == 1 and _holds_classes(targets[source.target[0]])
        source = source._replace(kind=KINDS[0] if classes else KINDS[1])
    return source.name


def task(name: str) -> Task:
    """The task that a resolved name stands for; the table is read when its data are."""
    source = Source.of(name)
    several = len(source.target) > 1
    columns = " and ".join(f"'{column}'" for column in source.target)
    about: dict[str, Any] = {
        "name": "-".join([Path(source.path).stem, *source.target]),
        "description": f"column{'s' if several else ''} {columns} of '{source.path}'",
        "load": functools.partial(_load, source),
        "input_shape": None,
    }
    if source.kind == KINDS[0]:
        remark = f"{columns} is told as a class (classification); --kind regression changes that"
        return Task(num_classes=None, remark=remark, **about)
    remark = (
        f"{columns} {'are' if several else 'is'} told as {'numbers' if several else 'a number'}"
    )
    remark += " (regression), in standard deviations of the training part"
    remark += "" if several else "; --kind classification changes that"
    return Task(
        num_classes=len(source.target),
        loss={"class_name": "MeanSquaredError", "config": {}},
        metric="r2_score",
        form=".3f",
        remark=remark,
        **about,
    )


def _read(path):
    import pandas as pd  # the command's help does not wait for it

    try:
        if path.lower().endswith(".parquet"):
            return pd.read_parquet(path)
        frame = pd.read_csv(path)
        for separator in ";\t":
            if len(frame.columns) == 1 and separator in str(frame.columns[0]):
                frame = pd.read_csv(path, sep=separator)
        return frame
    except FileNotFoundError:
        raise DataError(f"'{path}' does not exist") from None
    except ImportError:
        raise DataError(
            f"'{path}': Parquet needs another package: pip install 'keras_deeplstm[parquet]'"
        ) from None
    except Exception as error:  # parsers raise whatever a torn or foreign file makes them
        raise DataError(f"'{path}' cannot be read as a table: {error}") from None


def _checked(frame, source):
    """The table without the columns to be dropped; all that are named must be there."""
    columns = list(map(str, frame.columns))
    frame = frame.set_axis(columns, axis=1)
    if len(set(columns)) < len(columns):
        twice = next(column for column in columns if columns.count(column) > 1)
        raise DataError(f"'{source.path}' has two columns called '{twice}'")
    for column in (*source.target, *source.drop):
        if column not in columns:
            hint = validation.suggestion(column, columns)
            raise DataError(
                f"'{source.path}' has no column '{column}'.{hint} It has: {', '.join(columns)}"
            )
    if both := set(source.target) & set(source.drop):
        raise DataError(f"Column '{min(both)}' cannot be the target and be dropped")
    return frame.drop(columns=list(source.drop))


def _holds_classes(column):
    from pandas.api import types

    if types.is_bool_dtype(column) or not types.is_numeric_dtype(column):
        return True
    return types.is_integer_dtype(column) and column.nunique() <= CLASSES


def _load(source, data_dir=None):
    """The splits of a table; `data_dir` is not needed."""
    frame = _checked(_read(source.path), source)
    _check_values(frame, source)
    inputs, notes = _inputs(frame.drop(columns=list(source.target)), source)
    targets = frame[list(source.target)]
    if source.kind == KINDS[0]:
        y, classes = _class_numbers(targets, source)
    else:
        y, classes = _target_numbers(targets, source), ()
    train, validation_part, test = parted(y)
    x = _encoded(inputs, train, source)
    if y.dtype.kind == "f":
        y = _standardized(y, y[train])
    parts = ((x[rows], y[rows]) for rows in (train, validation_part, test))
    return Splits(*parts, notes=tuple(notes), classes=classes)


def _check_values(frame, source):
    """Raise DataError unless each value is there, finite, and a number, a boolean or a text."""
    from pandas.api import types

    if len(frame.columns) < 2:
        raise DataError(f"'{source.path}' has no column to tell others from")
    missing = frame.isna()
    if missing.to_numpy().any():
        counts = missing.sum()
        found = [f"'{name}' in {count} rows" for name, count in counts[counts > 0].items()]
        column = counts[counts > 0].index[0]
        row = int(missing[column].to_numpy().argmax()) + 1
        raise DataError(
            f"'{source.path}' has missing values: {', '.join(found)} of {len(frame)}; the first "
            f"is '{column}' in row {row}. Fill them in, or leave rows or columns out (--drop)"
        )
    for name, column in frame.items():
        if types.is_datetime64_any_dtype(column) or types.is_timedelta64_dtype(column):
            raise DataError(
                f"Column '{name}' of '{source.path}' holds dates or times. Make numbers of them, "
                f"or leave it out with --drop {name}"
            )
        if types.is_numeric_dtype(column) and not np.isfinite(column.to_numpy(float)).all():
            row = int((~np.isfinite(column.to_numpy(float))).argmax()) + 1
            raise DataError(f"'{source.path}' has an infinite '{name}' in row {row}")


def _inputs(frame, source):
    """The columns that tell something, and notes on those that do not, or may not."""
    from pandas.api import types

    kept, notes = {}, []
    for name, column in frame.items():
        different = column.nunique()
        if different == 1:
            notes.append(f"Column '{name}' is left out: it is the same in all rows")
            continue
        text = not types.is_numeric_dtype(column)  # booleans are numeric
        whole = text or types.is_integer_dtype(column)
        if different == len(column) and whole:
            counted = not text and int(column.max()) - int(column.min()) + 1 == different
            if text or counted:
                what = "a text of its own in each row" if text else "the number of the row"
                notes.append(f"Column '{name}' is left out: it looks like an id, {what}")
                continue
            notes.append(
                f"Column '{name}' has another value in each row. If it is an id, leave it out with "
                f"--drop {name}"
            )
        kept[name] = column.astype(str) if text else column
    if not kept:
        raise DataError(f"'{source.path}' has no column that tells anything. {'. '.join(notes)}")
    return kept, notes


def _encoded(columns, train, source):
    """float32 `(rows, inputs)`: standardized numbers, and texts one-hot."""
    known = {  # values that the training part has, of each text
        name: np.unique(column.to_numpy(str)[train])
        for name, column in columns.items()
        if column.dtype == object or column.dtype.kind not in "biuf"
    }
    width = sum(len(known[name]) if name in known else 1 for name in columns)
    check_memory(Path(source.path), 4 * width * len(next(iter(columns.values()))))
    found = []
    for name, column in columns.items():
        if name in known:
            found.append(column.to_numpy(str)[:, None] == known[name])
        else:
            numbers = column.to_numpy(float)[:, None]
            found.append(_standardized(numbers, numbers[train]))
    return np.concatenate(found, axis=1).astype("float32")


def _standardized(values, train):
    """Values with the mean 0 and the standard deviation 1 in the training part, as float32."""
    scale = train.std(axis=0)
    return ((values - train.mean(axis=0)) / np.where(scale > 0, scale, 1)).astype("float32")


def _target_numbers(frame, source):
    from pandas.api import types

    for name, column in frame.items():
        if not types.is_numeric_dtype(column):
            raise DataError(
                f"Column '{name}' of '{source.path}' holds no numbers, so it is no regression"
            )
    if len(frame) < LEAST:
        raise DataError(f"'{source.path}' has {len(frame)} rows; {LEAST} are the least")
    return frame.to_numpy("float64")


def _class_numbers(frame, source):
    """The numbers of the classes, from 0 in their sorted order; and the classes."""
    if len(frame.columns) > 1:
        raise DataError("Several columns can be told as numbers only: --kind regression")
    column = frame.iloc[:, 0]
    values = column.to_numpy() if column.dtype.kind in "iuf" else column.astype(str).to_numpy(str)
    labels, codes, counts = np.unique(values, return_inverse=True, return_counts=True)
    if len(labels) < 2:
        raise DataError(f"Column '{column.name}' of '{source.path}' has one class only")
    if counts.min() < LEAST:
        rare = labels[counts.argmin()]
        raise DataError(
            f"Class {str(rare)!r} of '{source.path}' has {counts.min()} rows; each class needs at "
            f"least {LEAST}. --kind regression tells numbers instead of classes"
        )
    return codes.astype(np.int64), tuple(map(str, labels))
