"""Tables of the user's own, CSV or Parquet: the columns to predict from the others.

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
import re
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlencode

import numpy as np

from keras_deeplstm import validation
from keras_deeplstm.experiments.tasks import csv_files, table_columns
from keras_deeplstm.experiments.tasks.task import (
    DataError,
    Splits,
    Task,
    check_memory,
    numbered,
    parted,
)

KINDS = ("classification", "regression")
CLASSES = 20  # different integers, at most, that are taken for classes
ROWS = 20  # of a regression, at least: R2 needs two, and a tenth of them are for validation
# A path, and what is asked of it; a path may have question marks, too.
_NAME = re.compile(r"(.*?\.(?:csv|parquet))(?:\?(\w+=.*))?", re.IGNORECASE | re.DOTALL)


class Source(NamedTuple):
    """A table, and what is asked of it."""

    path: str
    target: tuple[str, ...] = ()
    """Columns to predict."""
    kind: str | None = None
    """One of `KINDS`."""
    drop: tuple[str, ...] = ()
    """Columns that are left out."""

    @classmethod
    def of(cls, name: str) -> "Source":
        """The inverse of `name`."""
        found = _NAME.fullmatch(name)
        path, query = found.groups("") if found else (name, "")
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
    return _NAME.fullmatch(name) is not None


def resolve(name: str, **asked: Any) -> str:
    """The name of a table with an absolute path and a kind, which is looked up if it is not said.

    Args:
        name: A path, perhaps with what is asked of it.
        **asked: `target`, `kind` and `drop`, where they are not part of the name.

    Raises:
        ValueError: There is no column to predict.
        DataError: The table cannot be read, or has no such columns.
    """
    source = Source.of(name)._replace(**{key: value for key, value in asked.items() if value})
    source = source._replace(path=os.path.abspath(os.path.expanduser(source.path)))
    if not source.target:
        columns = ", ".join(map(str, _read(source.path).columns))
        raise ValueError(f"Name the column to predict with --target. '{name}' has: {columns}")
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
        remark = f"{columns} is predicted as a class (classification); "
        remark += "--kind regression changes that"
        return Task(num_classes=None, remark=remark, **about)
    remark = (
        f"{columns} {'are' if several else 'is'} predicted as "
        f"{'numbers' if several else 'a number'}"
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
        return pd.read_parquet(path) if path.lower().endswith(".parquet") else csv_files.read(path)
    except DataError:
        raise
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
    table_columns.check(frame, source.path)
    targets = frame[list(source.target)]
    inputs, notes = table_columns.inputs(frame.drop(columns=list(source.target)), source.path)
    if source.kind == KINDS[0]:
        y, classes = _class_numbers(targets, source)
    else:
        y, classes = _target_numbers(targets, source), ()
    about = {"notes": tuple(notes), "classes": classes}
    return _prepared(source, inputs, y, about, parted(y))


def _prepared(source, inputs, y, about, rows):
    """The splits of these rows of three parts, prepared by the first; so is each of their folds."""
    train, validation_part, test = rows
    x, told = _encoded(inputs, train, source), y
    if y.dtype.kind == "f":
        _check_different(y, rows, source)
        told = _standardized(y, y[train], source)
    trained = np.concatenate([train, validation_part])

    def anew(train, validation_part):
        parts = (trained[train], trained[validation_part], test)
        return _prepared(source, inputs, y, about, parts)

    return Splits(*((x[part], told[part]) for part in rows), anew=anew, **about)


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
            found.append(_standardized(numbers, numbers[train], source))
    return np.concatenate(found, axis=1).astype("float32")


def _standardized(values, train, source):
    """Values with the mean 0 and the standard deviation 1 in the training part, as float32."""
    # By a power of two, which changes no digit of the result, so that squares can be represented.
    power = -np.frexp(np.abs(train).max(axis=0))[1]
    with np.errstate(over="ignore"):  # what becomes infinite is found below
        values, train = np.ldexp(values, power), np.ldexp(train, power)
        scale = train.std(axis=0)
        values = (values - train.mean(axis=0)) / np.where(scale > 0, scale, 1)
        values = values.astype("float32")
    if not np.isfinite(values).all():
        raise DataError(
            f"'{source.path}' has a number that is too far from those of the training part"
        )
    return values


def _target_numbers(frame, source):
    from pandas.api import types

    for name, column in frame.items():
        if not types.is_numeric_dtype(column):
            raise DataError(
                f"Column '{name}' of '{source.path}' holds no numbers, so it is no regression"
            )
    if len(frame) < ROWS:
        raise DataError(f"'{source.path}' has {len(frame)} rows; {ROWS} are the least")
    return frame.to_numpy("float64")


def _check_different(y, rows, source):
    """Raise DataError if a part has one target only: there is nothing to predict, and no R2."""
    for part, numbers in zip(("training", "validation", "test"), rows, strict=True):
        for name, column in zip(source.target, y.T, strict=True):
            if (column[numbers] == column[numbers[0]]).all():
                raise DataError(
                    f"Column '{name}' of '{source.path}' is {column[numbers[0]]:g} in all "
                    f"{len(numbers)} rows of the {part} part, so that there is no R2 of them"
                )


def _class_numbers(frame, source):
    """The numbers of the classes, from 0 in their sorted order; and the classes."""
    if len(frame.columns) > 1:
        raise DataError("Several columns can be predicted as numbers only: --kind regression")
    column = frame.iloc[:, 0]
    values = column.to_numpy() if column.dtype.kind in "iuf" else column.astype(str).to_numpy(str)
    hint = ". --kind regression predicts numbers instead of classes"
    numbers, classes = numbered(values, source.path, hint=hint)
    return numbers, tuple(map(str, classes))
