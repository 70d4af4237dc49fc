"""The two-sequence problem: a short signal, then a long time of noise on the same line."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from keras_deeplstm import validation
from keras_deeplstm.experiments.tasks.sequences.task import (
    Batch,
    Criterion,
    SequenceTask,
    longest,
    mask_of,
    random_lengths,
)


@dataclass(frozen=True)
class TwoSequence(SequenceTask):
    """Tell two classes apart by the first elements, 1.0 or -1.0; all others are noise.

    Both classes are equally likely; the target, at the end, is 1.0 or 0.0. The noise is normal with
    variance 0.2. With noise on the signal it is also added to the first elements. With noise on the
    targets these are 0.2 (class 1) and 0.8 plus normal noise of variance 0.1, which may take them
    out of [0, 1]; the signal is clean again.

    Args:
        length: Least length T of a sequence; at most it is 1.1 T.
        signal: Number N of elements that tell the class.
        noise: Where there is noise beside the rest of the sequence: `"none"` (3a), `"signal"` (3b)
            or `"targets"` (3c).

    `truth` is the target without noise, `(count, 1)`. The error is the absolute difference from
    it; wrong is more than 0.2, or 0.1 with noise on the targets.

    Example:

    >>> import numpy as np
    >>> from keras_deeplstm.experiments.tasks.sequences.two_sequence import TwoSequence
    >>> batch = TwoSequence().sample(np.random.default_rng(0), 32)
    >>> batch.x.shape, batch.y.shape
    ((32, 110, 1), (32, 1))
    """

    name: ClassVar = "two-sequence"
    source: ClassVar = "Hochreiter & Schmidhuber 1997, experiments 3a, 3b and 3c, Tables 4 to 6"
    readout: ClassVar = "sigmoid"
    features: ClassVar = 1
    outputs: ClassVar = 1
    # Sequences until the first and the last stop criterion, by noise, T and N.
    reported: ClassVar = {
        ("none", 100, 3): (27_380, 39_850),
        ("none", 100, 1): (58_370, 64_330),
        ("none", 1000, 3): (446_850, 452_460),
        ("signal", 100, 3): (41_740, 43_250),
        ("signal", 100, 1): (74_950, 78_430),
        ("signal", 1000, 1): (481_060, 485_080),
        ("targets", 100, 3): (269_650,),
        ("targets", 100, 1): (565_640,),
    }

    length: int = 100
    signal: int = 3
    noise: str = "none"

    def __post_init__(self):
        validation.positive_integer("length", self.length)
        validation.positive_integer("signal", self.signal, at_most=self.length)
        validation.one_of("noise", self.noise, ("none", "signal", "targets"))

    @property
    def steps(self) -> int:
        """The longest sequence."""
        return longest(self.length)

    @property
    def description(self) -> str:
        """See `SequenceTask`."""
        on = {"none": "", "signal": ", with noise on them", "targets": ", with noisy targets"}
        return (
            f"Two-sequence: the class by the first {self.signal} of {self.length} to {self.steps} "
            f"elements{on[self.noise]}"
        )

    @property
    def criterion(self) -> Criterion:
        """The stop criterion ST2, which also asks for a small error; ST1 does not."""
        wrong, error = {"none": (0, 0.01), "signal": (5, 0.04), "targets": (0, 0.015)}[self.noise]
        return Criterion(256, wrong, error)

    @property
    def paper_sequences(self) -> int | None:
        """See `SequenceTask`."""
        return self.reported.get((self.noise, self.length, self.signal), [None])[-1]

    @property
    def paper(self) -> str | None:
        """See `SequenceTask`."""
        match self.reported.get((self.noise, self.length, self.signal)):
            case (early, late):
                return f"{early:,} sequences (ST1), {late:,} (ST2)"
        return super().paper

    def sample(self, generator: np.random.Generator, count: int) -> Batch:
        """See the class."""
        mask = mask_of(random_lengths(generator, count, self.length), self.steps)
        first = generator.integers(2, size=(count, 1)) == 1
        sign = np.where(first, np.float32(1), np.float32(-1))
        x = generator.standard_normal(mask.shape, "float32") * np.float32(np.sqrt(0.2))
        if self.noise == "signal":
            x[:, : self.signal] += sign
        else:
            x[:, : self.signal] = sign
        x *= mask
        if self.noise == "targets":
            truth = np.where(first, 0.2, 0.8).astype("float32")
            y = truth + generator.standard_normal(truth.shape, "float32") * np.float32(np.sqrt(0.1))
        else:
            truth = y = first.astype("float32")
        return Batch(x[..., None], y, mask, None, truth)

    def judge(self, outputs: np.ndarray, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
        """See the class."""
        error = np.abs(outputs - batch.truth)[:, 0]
        return error <= (0.1 if self.noise == "targets" else 0.2), error
