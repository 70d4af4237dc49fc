"""Foretell real series, and compare with a forecast that costs nothing."""

import functools
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np

from keras_deeplstm.experiments.tasks import csv_files
from keras_deeplstm.experiments.tasks.published import named_folder
from keras_deeplstm.experiments.tasks.sequences.task import Batch, Count, Criterion, SequenceTask
from keras_deeplstm.experiments.tasks.task import DataError


class _Known(NamedTuple):
    file: str
    period: int  # in steps


KNOWN = {
    "sunspots": _Known("sunspots.csv", 11),  # a year each, 1700 to 2008
    "airline": _Known("Airline.csv", 12),  # thousands of passengers, monthly, 1949 to 1960
    "co2": _Known("co2.csv", 52),  # ppm at Mauna Loa, weekly, 1958 to 2001
}
TESTS = 24


@dataclass(frozen=True)
class Series(SequenceTask):
    """Foretell the next values of a real series from those before.

    The series is `timeseries/NAME.csv` in the folder with data sets, or a CSV file of your own: its
    last column, with gaps filled along straight lines. The last 24 windows are the test, read once
    at the end; the 24 before them are for validation: the criterion, and what a search chooses by.
    No window reaches into what those of a later part foretell. Inputs and targets are differences
    to the last value read, in standard deviations of the training part's steps over a horizon.

    The naive forecast repeats the last value, or the last period of a known series, whichever has
    been better on the training part. The error of a window is its mean absolute error divided by
    that of the naive forecast on the windows of its part, so that their mean is below 1 if and only
    if the model forecasts better; that is the criterion. A window is right below 1.

    Args:
        data: "sunspots" (yearly), "airline" (passengers a month), "co2" (weekly), or a file, whose
            path is made absolute.
        inputs: Number of values that are read.
        horizon: Number of values to foretell.

    Example:

    >>> from keras_deeplstm.experiments.tasks.sequences.series import Series
    >>> Series("airline").description
    'Series: the next 12 values of airline after 24'
    """

    name: ClassVar = "series"
    source: ClassVar = "the series of statsmodels and sktime, cited there"
    description = property(
        lambda self: f"Series: the next {self.horizon} values of {self.data} after {self.inputs}"
    )
    readout: ClassVar = "linear"
    features: ClassVar = 1
    outputs = property(lambda self: self.horizon)
    steps = property(lambda self: self.inputs)
    criterion: ClassVar = Criterion(TESTS, error=1.0, of="validation windows")
    fixed_test: ClassVar = True
    checksum = property(lambda self: hashlib.sha256(self.values.tobytes()).hexdigest())
    _period = property(lambda self: KNOWN[self.data].period if self.data in KNOWN else 1)
    _part = property(lambda self: TESTS + self.horizon - 1)  # values that so many windows foretell
    _tested = property(lambda self: len(self.values) - self._part)  # where those of the test begin
    _validated = property(lambda self: self._tested - self._part)

    data: str = "airline"
    inputs: Count = 24
    horizon: Count = 12

    def __post_init__(self):
        super().__post_init__()
        if not self.data or "\0" in self.data:
            raise ValueError(f"Argument `data` must be a name or a file. Received: {self.data!r}")
        if self.data not in KNOWN:  # so that a run means the same file in any folder
            object.__setattr__(self, "data", os.path.abspath(os.path.expanduser(self.data)))

    @functools.cached_property
    def values(self) -> np.ndarray:
        """The whole series, float64; DataError if there is none, or it is too short."""
        values = _read(self._file())
        fewest = max(2 * (self.inputs + self.horizon), self._period + self.horizon)
        fewest += TESTS + self._part
        if len(values) < fewest:
            needed = f"{self.inputs} inputs and a horizon of {self.horizon} need {fewest} at least"
            raise DataError(f"Series {self.data!r} has {len(values)} values; {needed}")
        return values

    def _file(self):
        if self.data not in KNOWN:
            return Path(self.data)
        folder = named_folder(self.data_dir)
        if folder is None:
            raise DataError(
                f"Series {self.data!r} is not part of this package. Pass --data-dir or set "
                f"DEEPLSTM_DATA to a folder that holds timeseries/{KNOWN[self.data].file}"
            )
        return folder / "timeseries" / KNOWN[self.data].file

    @functools.cached_property
    def _numbers(self):
        """Scale and lag of the naive forecast, both of the training part; its errors by part."""
        training = self.values[: self._validated]
        changes = training[self.horizon :] - training[: -self.horizon]
        known = range(self._period, self._validated)
        lag = min(1, self._period, key=lambda lag: self._naive_error(lag, known))
        parts = {"training": known, "validation": range(self._validated, self._tested)}
        parts["test"] = range(self._tested, len(self.values))
        naive = {part: self._naive_error(lag, places) for part, places in parts.items()}
        return float(changes.std()) or 1.0, lag, naive

    def _naive_error(self, lag, places):
        """Mean absolute error of all naive forecasts whose targets lie among these places."""
        ahead = np.arange(self.horizon)
        begins = np.arange(places.start, places.stop + 1 - self.horizon)[:, None]
        errors = np.abs(self.values[begins + ahead] - self.values[begins - lag + ahead % lag])
        return float(errors.mean()) or 1.0

    def sample(self, generator: np.random.Generator, count: int) -> Batch:
        last = self._validated - self.inputs - self.horizon
        return self._windows("training", generator.integers(last, size=count, endpoint=True))

    def validation(self, generator: np.random.Generator | None, count: int) -> Batch:
        """The windows before those of the test, in the same way."""
        return self._windows("validation", self._validated - self.inputs + np.arange(TESTS))

    def test(self, generator: np.random.Generator | None, count: int) -> Batch:
        """The last windows, in their order; nothing is drawn, `count` is not used."""
        return self._windows("test", self._tested - self.inputs + np.arange(TESTS))

    def _windows(self, part, begins):
        """Windows of a part that begin there; as truth, what the naive forecast is wrong by."""
        scale, _, naive = self._numbers
        windows = self.values[begins[:, None] + np.arange(self.inputs + self.horizon)]
        changes = windows - windows[:, self.inputs - 1 : self.inputs]
        windows = (changes / scale).astype("float32")
        error = np.full(len(begins), naive[part] / scale)
        return Batch(windows[:, : self.inputs, None], windows[:, self.inputs :], None, None, error)

    def judge(self, outputs: np.ndarray, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
        error = np.abs(outputs - batch.y).mean(axis=1) / batch.truth
        return error < 1, error

    def examples(self) -> dict[str, Batch]:
        x, y, *_ = self.test(None, TESTS)
        first, last = Batch(x[:1], y[:1], None, None), Batch(x[-1:], y[-1:], None, None)
        return {"first test window": first, "last test window": last}


def _read(file):
    # Imported here, so that `deeplstm list` need not wait for pandas.
    import pandas as pd

    try:
        _, fields = csv_files.first_line(file)
        fields = [field for field in fields if not field.startswith("Unnamed: ")]
        header = not (fields and _is_number(fields[-1]))
        if not header and not all(any(map(str.isdigit, field)) for field in fields):
            raise DataError(
                f"'{file}' begins with {', '.join(fields)}: are these names, or values? Begin it "
                "with names of its columns, the last of which is no number"
            )
        column = csv_files.read(file, header).iloc[:, -1]
        values = pd.to_numeric(column).interpolate().dropna().to_numpy("float64")
    except FileNotFoundError:
        raise DataError(f"There is no file '{file}'") from None
    except (OSError, ValueError, IndexError) as error:
        raise DataError(f"'{file}' is no CSV file whose last column are numbers: {error}") from None
    if not np.isfinite(values).all():
        raise DataError(f"'{file}' holds infinite numbers")
    return values


def _is_number(text):
    try:
        return np.isfinite(float(text))
    except ValueError:
        return False
