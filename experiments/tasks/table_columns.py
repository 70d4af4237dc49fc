"""What the columns of a table hold, and which of them are inputs."""

import re

import numpy as np

from keras_deeplstm.experiments.tasks.task import DataError

# How people write numbers and dates that stay texts when a file is read.
_PLAIN = re.compile(r"[-+]?(?!\d{20})(\d+\.?\d*|\.\d+)(e[-+]?\d+)?", re.IGNORECASE)
_NUMBER = re.compile(  # 1,5  1.234,5  1,100  12 %  $5  and integers of more than 64 bits
    r"(?=.*\d)[-+]?[$€£]?\s?(\d{1,3}([,.'\s]\d{3})+|\d*)([.,]\d+)?(e[-+]?\d+)?\s?[%$€£]?",
    re.IGNORECASE,
)
_DATE = re.compile(
    r"(\d{4}([-/.])\d\d?\2\d\d?|\d\d?([-/.])\d\d?\3(\d{4}|\d\d))([T ].*)?|\d\d?:\d\d(:\d\d.*)?"
)
_WRITTEN = {"plain": _PLAIN, "number": _NUMBER, "date": _DATE}


def check(frame, path: str) -> None:
    """Raise `DataError` unless each value is there, finite, and a number, a boolean or a text."""
    from pandas.api import types  # the command's help does not wait for it

    if not len(frame):
        raise DataError(f"'{path}' has no rows")
    if len(frame.columns) < 2:
        raise DataError(f"'{path}' has no column to tell others from")
    missing = frame.isna()
    if missing.to_numpy().any():
        counts = missing.sum()
        found = [f"'{name}' in {count} rows" for name, count in counts[counts > 0].items()]
        column = counts[counts > 0].index[0]
        row = int(missing[column].to_numpy().argmax()) + 1
        words = ""
        if not types.is_numeric_dtype(frame[column]) and path.lower().endswith(".csv"):
            words = (
                ". The words NA, N/A, None, null and nan count as missing: write others for names"
            )
        raise DataError(
            f"'{path}' has missing values: {', '.join(found)} of {len(frame)}; the first "
            f"is '{column}' in row {row}. Fill them in, or leave rows or columns out (--drop)"
            f"{words}"
        )
    for name, column in frame.items():
        if types.is_datetime64_any_dtype(column) or types.is_timedelta64_dtype(column):
            raise DataError(_dates(name, path))
        if not types.is_numeric_dtype(column):
            _check_texts(name, column, path)
        elif not np.isfinite(column.to_numpy(float)).all():
            row = int((~np.isfinite(column.to_numpy(float))).argmax()) + 1
            raise DataError(f"'{path}' has an infinite '{name}' in row {row}")


def inputs(frame, path: str):
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
        if text:
            if different > len(column) / 2:
                raise DataError(
                    f"Column '{name}' of '{path}' has {different:,} different texts in "
                    f"{len(column):,} rows, each of which would be an input. Leave it out with "
                    f"--drop {name}"
                )
            column = column.astype(str)
            words = _written(column) != "plain"
            if 0 < words.mean() < 0.5:
                notes.append(
                    f"Column '{name}' becomes {different} inputs, one for each value, as not all "
                    f"are numbers: {column[words].iloc[0]!r} in row {words.argmax() + 1}"
                )
        kept[name] = column
    if not kept:
        raise DataError(f"'{path}' has no column that tells anything. {'. '.join(notes)}")
    return kept, notes


def _check_texts(name, column, path):
    """Raise DataError if most of these texts are dates, or numbers that are not read as such."""
    texts = column.astype(str).reset_index(drop=True)
    written = _written(texts)
    dates, numbers = written == "date", written == "number"
    if dates.mean() > 0.5:
        raise DataError(
            _dates(name, path, f", {texts[dates.argmax()]!r} in row {dates.argmax() + 1}")
        )
    if numbers.any() and (numbers | (written == "plain")).mean() > 0.5:
        row = numbers.argmax()
        raise DataError(
            f"Column '{name}' of '{path}' holds numbers that are written as texts, {texts[row]!r} "
            f"in row {row + 1}. Write them with digits and a decimal point only, or leave it out "
            f"with --drop {name}"
        )


def _dates(name, path, example=""):
    return (
        f"Column '{name}' of '{path}' holds dates or times{example}. Make numbers of them, "
        f"or leave it out with --drop {name}"
    )


def _written(texts):
    """How each text is written, by the names in `_WRITTEN`; "" is a word."""
    kinds = {
        text: next((kind for kind, form in _WRITTEN.items() if form.fullmatch(text)), "")
        for text in texts.unique()
    }
    return texts.map(kinds)
