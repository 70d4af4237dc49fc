"""Foretell real series, and compare with a forecast that costs nothing."""

import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np

from keras_deeplstm import validation
from keras_deeplstm.experiments.tasks.published import named_folder
from keras_deeplstm.experiments.tasks.sequences.task import Batch, Criterion, SequenceTask
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
    last column, with gaps filled along straight lines. The last 24 windows are the test, and no
    training window reaches into what they foretell. Inputs and targets are differences to the last
    value read, in standard deviations of the training part's steps over a horizon.

    The naive forecast repeats the last value, or the last period of a known series, whichever has
    been better on the training part. The error of a window is its mean absolute error divided by
    that of the naive forecast on the test windows, so that their mean is below 1 if and only if the
    model forecasts better; that is the criterion. A window is right below 1.

    Args:
        data: "sunspots" (yearly), "airline" (passengers a month), "co2" (weekly), or a file.
        inputs: Number of values that are read.
        horizon: Number of values to foretell.

    Example:

    >>> from keras_deeplstm.experiments.tasks.sequences.series import Series
    >>> Series("airline").description
    'Series: the next 12 values of airline after 24'
    """

    name: ClassVar = "series"
    source: ClassVar = "the series of statsmodels and sktime, cited there"
    readout: ClassVar = "linear"
    fixed_test: ClassVar = True
    features: ClassVar = 1
    criterion: ClassVar = Criterion(TESTS, wrong=None, error=1.0, of="last windows")

    data: str = "airline"
    inputs: int = 24
    horizon: int = 12

    def __post_init__(self):
        if not self.data or "\0" in self.data:
            raise ValueError(f"Argument `data` must be a name or a file. Received: {self.data!r}")
        validation.positive_integer("inputs", self.inputs)
        validation.positive_integer("horizon", self.horizon)

    @property
    def outputs(self) -> int:
        """Number of values to foretell."""
        return self.horizon

    @property
    def steps(self) -> int:
        """Number of values that are read."""
        return self.inputs

    @property
    def description(self) -> str:
        """See `SequenceTask`."""
        return f"Series: the next {self.horizon} values of {self.data} after {self.inputs}"

    @property
    def checksum(self) -> str:
        """SHA-256 of the values."""
        return hashlib.sha256(self.values.tobytes()).hexdigest()

    @functools.cached_property
    def values(self) -> np.ndarray:
        """The whole series, float64.

        Raises:
            DataError: It is not there, holds something else, or is too short.
        """
        values = _read(self._file())
        fewest = 2 * (self.inputs + self.horizon) + TESTS
        if self.data in KNOWN:
            fewest = max(fewest, KNOWN[self.data].period + self.horizon + TESTS)
        if len(values) < fewest:
            raise DataError(
                f"Series {self.data!r} has {len(values)} values; {self.inputs} inputs and a "
                f"horizon of {self.horizon} need {fewest} at least"
            )
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
        """Scale, and mean absolute error of the naive forecast on the test windows."""
        training = self._training
        changes = training[self.horizon :] - training[: -self.horizon]
        scale = float(changes.std()) or 1.0
        lags = [1] + ([KNOWN[self.data].period] if self.data in KNOWN else [])
        lag = min(lags, key=lambda lag: self._naive_error(lag, np.arange(max(lags), len(training))))
        tested = np.arange(len(self.values) - TESTS + 1 - self.horizon, len(self.values))
        return scale, lag, self._naive_error(lag, tested)

    @property
    def _training(self):
        return self.values[: len(self.values) - TESTS + 1 - self.horizon]

    def _naive_error(self, lag, targets):
        """Mean absolute error of all forecasts whose targets lie among these places."""
        begins = np.arange(targets[0], targets[-1] + 2 - self.horizon)
        errors = [
            np.abs(self.values[begin : begin + self.horizon] - self._naive(begin, lag))
            for begin in begins
        ]
        return float(np.mean(errors)) or 1.0

    def _naive(self, begin, lag):
        return self.values[begin - lag + np.arange(self.horizon) % lag]

    def sample(self, generator: np.random.Generator, count: int) -> Batch:
        """See the class."""
        last = len(self._training) - self.inputs - self.horizon
        return self._windows(generator.integers(last, size=count, endpoint=True))

    def test(self, generator: np.random.Generator | None, count: int) -> Batch:
        """The last windows, in their order; nothing is drawn, `count` is not used."""
        last = len(self.values) - self.inputs - self.horizon
        return self._windows(np.arange(last - TESTS + 1, last + 1))

    def _windows(self, begins):
        scale = self._numbers[0]
        windows = self.values[begins[:, None] + np.arange(self.inputs + self.horizon)]
        windows = (windows - windows[:, self.inputs - 1 : self.inputs]) / scale
        windows = windows.astype("float32")
        return Batch(windows[:, : self.inputs, None], windows[:, self.inputs :], None, None)

    def judge(self, outputs: np.ndarray, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
        """See the class."""
        scale, _, naive = self._numbers
        error = np.abs(outputs - batch.y).mean(axis=1) * scale / naive
        return error < 1, error

    def examples(self) -> dict[str, Batch]:
        """The first and the last test window."""
        batch = self.test(None, TESTS)
        return {
            what: Batch(batch.x[row : row + 1], batch.y[row : row + 1], None, None)
            for what, row in (("first test window", 0), ("last test window", TESTS - 1))
        }


def _read(file):
    # Imported here, so that `deeplstm list` need not wait for pandas.
    import pandas as pd

    try:
        column = pd.read_csv(file).iloc[:, -1]
        values = pd.to_numeric(column).interpolate().dropna().to_numpy("float64")
    except FileNotFoundError:
        raise DataError(f"There is no file '{file}'") from None
    except (OSError, ValueError, IndexError) as error:
        raise DataError(f"'{file}' is no CSV file whose last column are numbers: {error}") from None
    if not np.isfinite(values).all():
        raise DataError(f"'{file}' holds infinite numbers")
    return values
