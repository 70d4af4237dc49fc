"""What a search keeps of its trials, from which all else can be made again.

The folder of a search holds `search.json`, its settings, and for each trial a folder `trial_<id>`:
`record.json` says what the trial is and how it ended; `outcome.json` what came of it; and each of
its trainings is a run in a folder of its own, as `deeplstm run` makes it. All are written whole or
not at all. keras-tuner's own state (`oracle.json`, `trial.json`, `tuner0.json`) is written in place
and in parts, so that a killed process leaves it torn: here it is neither written nor read.
"""

import dataclasses
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from keras_deeplstm.experiments.runs import files

ENDED = ("finished", "diverged", "failed", "skipped")


@dataclass
class Outcome:
    """What came of a trial."""

    state: str
    """One of `ENDED`."""
    reason: str = ""
    """Why it diverged, failed or was skipped."""
    score: float | None = None
    """The objective in the best epoch, the mean over executions and folds; None unless finished."""
    scores: list[float] = field(default_factory=list)
    """The objective of each run."""
    parameters: int | None = None
    """Number of parameters of the model."""
    gradient_ratio: float | None = None
    """First/last gradient norm at the end of training, the median over the runs that have one."""
    seconds: float = 0.0
    """Time of training and test."""


@dataclass
class Record:
    """A trial."""

    trial: str
    """Its number, as text."""
    values: dict[str, Any]
    """What keras-tuner has chosen, by name."""
    tuner: str
    """The worker that has it, or had it last."""
    began: int
    """Number of the event of its creation; events are the creations and ends of all trials."""
    attempts: int = 0
    """How often it was handed out since it last made progress."""
    progress: str = ""
    """The newest sign of progress when it was last handed out."""
    ended: int | None = None
    """Number of the event of its end."""
    outcome: Outcome | None = None
    """What came of it, once it has ended."""

    @property
    def state(self) -> str:
        """`"running"`, or one of `ENDED`."""
        return self.outcome.state if self.outcome else "running"

    @property
    def result(self) -> Outcome:
        """The outcome of a trial that has ended."""
        assert self.outcome is not None
        return self.outcome

    @property
    def score(self) -> float:
        """The objective of a finished trial."""
        assert self.result.score is not None
        return self.result.score

    @property
    def end(self) -> int:
        """Number of the event of the end of a trial that has ended."""
        assert self.ended is not None
        return self.ended


def trial_folder(folder: Path, trial: str) -> Path:
    """The folder of a trial; keras-tuner would choose the same."""
    return folder / f"trial_{trial}"


def write(folder: Path, record: Record) -> None:
    """Write a trial's record into the folder of its search."""
    path = trial_folder(folder, record.trial) / "record.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_json(path, dataclasses.asdict(record))


def read(folder: Path, trial: str) -> Record:
    """Read a trial's record.

    Raises:
        OSError, ValueError, TypeError: It is absent or damaged.
    """
    data = files.read_json(trial_folder(folder, trial) / "record.json")
    if data["outcome"] is not None:
        data["outcome"] = Outcome(**data["outcome"])
    record = Record(**data)
    # It becomes the name of a folder again.
    if record.trial != trial or not trial.isdecimal():
        raise ValueError(f"it is that of trial {record.trial!r}")
    return record


def read_all(folder: Path, on_damaged: Callable[[Path], None] | None = None) -> list[Record]:
    """Read the records of a search, in the order of the trials.

    Args:
        folder: That of the search.
        on_damaged: Called with each file that cannot be read; None ignores them.
    """
    found = []
    for path in sorted(folder.glob("trial_*/record.json")):
        try:
            found.append(read(folder, path.parent.name.removeprefix("trial_")))
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            if on_damaged is not None:
                on_damaged(path)
    return sorted(found, key=lambda record: int(record.trial))


def write_outcome(folder: Path, trial: str, values: dict[str, Any], outcome: Outcome) -> None:
    """Write what came of a trial with these values, before anybody is told."""
    path = trial_folder(folder, trial) / "outcome.json"
    files.write_json(path, {"values": values, "outcome": dataclasses.asdict(outcome)})


def read_outcome(
    folder: Path, trial: str, values: dict[str, Any], wait: float = 0
) -> Outcome | None:
    """What came of a trial, or None as long as nobody knows.

    Args:
        folder: That of the search.
        trial: The trial's number.
        values: What it is now; a file that is damaged or tells of other values is set aside.
        wait: Seconds to wait for the file.
    """
    path = trial_folder(folder, trial) / "outcome.json"
    deadline = time.monotonic() + wait
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.5)
    try:
        data = files.read_json(path)
        if data["values"] == values:
            return Outcome(**data["outcome"])
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError):
        pass
    set_aside(path)
    return None


def set_aside(path: Path) -> None:
    """Give a damaged file or folder a name under which nothing looks for it."""
    with suppress(FileNotFoundError):  # another process was faster
        os.replace(path, path.with_name(f"{path.name}.damaged"))


def progress(folder: Path, trial: str) -> str:
    """A text that changes when a trial has made progress that a killed process does not lose."""
    found = trial_folder(folder, trial)
    signs = [*found.glob("*/result.json"), *found.glob("*/checkpoints/epoch_*.npz")]
    return max((str(path.relative_to(found)) for path in signs), default="")
