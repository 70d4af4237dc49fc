"""The two-sequence problem: a short signal, then a long time of noise on the same line."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from keras_deeplstm import validation
from keras_deeplstm.experiments.tasks.sequences import task
from keras_deeplstm.experiments.tasks.sequences.task import Batch, Count, Criterion, SequenceTask


@dataclass(frozen=True)
class TwoSequence(SequenceTask):
    """Tell two classes apart by the first elements, 1.0 or -1.0; all others are noise.

    Both classes are equally likely; the target, at the end, is 1.0 or 0.0. The noise is normal with
    variance 0.2. With noise on the signal it is also added to the first elements. With noise on the
    targets these are 0.2 (class 1) and 0.8 plus normal noise of variance 0.1, which may take them
    out of [0, 1]; the signal is clean again. `truth` is the target without noise, `(count, 1)`. The
    error is the absolute difference from it; wrong is more than 0.2, or 0.1 with noisy targets.

    Args:
        length: Least length T of a sequence; at most it is 1.1 T.
        signal: Number N of elements that tell the class.
        noise: Where else there is noise: `"none"` (3a), `"signal"` (3b) or `"targets"` (3c).

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
    features = outputs = 1
    steps = property(lambda self: task.longest(self.length))
    # The stop criterion ST2, which also asks for a small error; ST1 does not.
    criteria: ClassVar = {
        "none": Criterion(256, wrong=0, error=0.01),
        "signal": Criterion(256, wrong=5, error=0.04),
        "targets": Criterion(256, wrong=0, error=0.015),
    }
    criterion = property(lambda self: self.criteria[self.noise])
    # Sequences until ST1, where it is another criterion, and until ST2.
    stops: ClassVar = {
        (100, 3, "none"): (27_380, 39_850), (100, 1, "none"): (58_370, 64_330),
        (1000, 3, "none"): (446_850, 452_460),
        (100, 3, "signal"): (41_740, 43_250), (100, 1, "signal"): (74_950, 78_430),
        (1000, 1, "signal"): (481_060, 485_080),
        (100, 3, "targets"): (269_650,), (100, 1, "targets"): (565_640,),
    }  # fmt: skip
    reported: ClassVar = {parameters: stop[-1] for parameters, stop in stops.items()}

    length: Count = 100
    signal: Count = 3
    noise: Literal["none", "signal", "targets"] = "none"

    def __post_init__(self):
        super().__post_init__()
        validation.positive_integer("signal", self.signal, at_most=self.length)

    @property
    def description(self) -> str:
        on = {"none": "", "signal": ", with noise on them", "targets": ", with noisy targets"}
        first = f"the first {self.signal} of {self.length} to {self.steps} elements"
        return f"Two-sequence: the class by {first}{on[self.noise]}"

    @property
    def paper(self) -> str | None:
        match self.stops.get((self.length, self.signal, self.noise)):
            case (early, late):
                return f"{early:,} sequences (ST1), {late:,} (ST2)"
        return super().paper

    def sample(self, generator: np.random.Generator, count: int) -> Batch:
        mask = task.mask_of(task.random_lengths(generator, count, self.length), self.steps)
        first = generator.integers(2, size=(count, 1)) == 1
        sign = np.where(first, np.float32(1), np.float32(-1))
        x = generator.standard_normal(mask.shape, "float32") * np.float32(np.sqrt(0.2))
        if self.noise != "signal":
            x[:, : self.signal] = 0
        x[:, : self.signal] += sign
        x *= mask
        if self.noise == "targets":
            truth = np.where(first, 0.2, 0.8).astype("float32")
            y = truth + generator.standard_normal(truth.shape, "float32") * np.float32(np.sqrt(0.1))
        else:
            truth = y = first.astype("float32")
        return Batch(x[..., None], y, mask, None, truth)

    def judge(self, outputs: np.ndarray, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
        error = np.abs(outputs - batch.truth)[:, 0]
        return error <= (0.1 if self.noise == "targets" else 0.2), error
