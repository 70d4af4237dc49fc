"""Foretell a sine wave."""

from dataclasses import dataclass
from functools import partial
from typing import Annotated, ClassVar

import numpy as np

from keras_deeplstm import validation
from keras_deeplstm.experiments.tasks.sequences.task import Batch, Count, Criterion, SequenceTask

RATE = 100  # samples a second
Hertz = Annotated[float, partial(validation.finite, positive=True)]


@dataclass(frozen=True)
class Sines(SequenceTask):
    """Foretell the next samples of sin(2 pi f (t + t0)) from some samples of it.

    There are 100 samples a second, amplitude 1, no noise. Each sequence has a frequency f of its
    own, uniform from `low` to `high`, and a begin t0, uniform from 0 to 2 pi seconds as in the
    source. The samples to foretell follow the last one that is read; all are told at the end.

    The error is the sum of the squared errors over the horizon, as the source measures it. Right,
    and with the mean over 1,000 sequences the criterion, is an error below 0.0015 for each sample
    of the horizon: over 100 samples it is 0.15, where the source ended its experiment 5.

    Args:
        inputs: Number of samples that are read.
        horizon: Number of samples to foretell.
        low: Least frequency, in Hz, above 0.
        high: Largest frequency, in Hz; `low` for a single one.

    Example:

    >>> import numpy as np
    >>> from keras_deeplstm.experiments.tasks.sequences.sines import Sines
    >>> batch = Sines().sample(np.random.default_rng(0), 32)
    >>> batch.x.shape, batch.y.shape
    ((32, 25, 1), (32, 100))
    >>> Sines(**Sines.named["3"])
    Sines(inputs=25, horizon=50, low=0.5, high=4.0)
    """

    name: ClassVar = "sines"
    source: ClassVar = "github.com/sunsided/tensorflow-lstm-sin"
    readout: ClassVar = "linear"
    features: ClassVar = 1
    outputs = property(lambda self: self.horizon)
    steps = property(lambda self: self.inputs)
    criterion = property(lambda self: Criterion(1000, error=0.0015 * self.horizon))
    test_sequences: ClassVar = 10_000
    named: ClassVar = {  # the experiments of the source
        "1": {"inputs": 100, "horizon": 50, "low": 1.0, "high": 1.0},
        "2": {"inputs": 100, "horizon": 50, "low": 0.5, "high": 4.0},
        "3": {"inputs": 25, "horizon": 50, "low": 0.5, "high": 4.0},
        "3.1": {"inputs": 25, "horizon": 100, "low": 0.5, "high": 4.0},
        "4": {"inputs": 25, "horizon": 100, "low": 0.5, "high": 4.0},
        "5": {"inputs": 25, "horizon": 100, "low": 0.5, "high": 4.0},
        "5b": {"inputs": 25, "horizon": 100, "low": 0.5, "high": 4.0},
        "5.1": {"inputs": 25, "horizon": 100, "low": 0.5, "high": 4.0},
    }

    inputs: Count = 25
    horizon: Count = 100
    low: Hertz = 0.5
    high: Hertz = 4.0

    def __post_init__(self):
        super().__post_init__()
        low, high = self.low, self.high
        if high < low:
            raise ValueError(f"Argument `high` must be at least `low`. Received: {low=}, {high=}")

    @property
    def description(self) -> str:
        hertz = f"{self.low:g}" if self.low == self.high else f"{self.low:g} to {self.high:g}"
        return f"Sines: the next {self.horizon} samples after {self.inputs}, {hertz} Hz"

    def sample(self, generator: np.random.Generator, count: int) -> Batch:
        frequency = generator.uniform(self.low, self.high, size=(count, 1))
        return self._waves(frequency, generator.uniform(0, 2 * np.pi, size=(count, 1)))

    def _waves(self, frequency, begin):
        time = np.arange(self.inputs + self.horizon) / RATE
        wave = np.sin(2 * np.pi * frequency * (time + begin)).astype("float32")
        return Batch(wave[:, : self.inputs, None], wave[:, self.inputs :], None, None)

    def examples(self) -> dict[str, Batch]:
        """Waves of 1, 2 and 3 Hz that begin at 0, as far as these frequencies are in the range."""
        within = [hertz for hertz in (1, 2, 3) if self.low <= hertz <= self.high]
        return {f"{hertz} Hz": self._waves(hertz, np.zeros((1, 1))) for hertz in within}

    def judge(self, outputs: np.ndarray, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
        error = np.square(outputs - batch.y).sum(axis=1)
        return error < self.criterion.error, error
