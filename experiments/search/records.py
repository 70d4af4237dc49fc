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
from operator import attrgetter
from pathlib import Path
from typing import Any

from keras_deeplstm.experiments.runs import files

ENDED = ("finished", "diverged", "failed", "skipped")


@dataclass
class Outcome:
    """What came of a trial. It has numbers if it is finished."""

    state: str  # one of `ENDED`
    reason: str = ""  # why it diverged, failed or was skipped
    score: float | None = None  # the mean of `scores`
    scores: list[float] = field(default_factory=list)  # the objective in each run's best epoch
    parameters: int | None = None  # of the model
    gradient_ratio: float | None = None  # first/last norm at the end: the median over the runs
    seconds: float = 0.0  # of training and test


@dataclass
class Record:
    """A trial. The creations and ends of all trials are events, numbered in their order."""

    trial: str  # its number
    values: dict[str, Any]  # what keras-tuner has chosen, by name
    tuner: str  # the worker that has it, or had it last
    began: float  # the event of its creation
    attempts: int = 0  # how often it was handed out since it last made progress
    progress: str = ""  # the newest sign of progress when it was last handed out
    ended: float | None = None  # the event of its end
    outcome: Outcome | None = None  # what came of it, once it has ended

    @property
    def result(self) -> Outcome:
        """Its outcome, or what stands for that while it has none."""
        return self.outcome or Outcome("running")

    @property
    def state(self) -> str:
        """`"running"`, or one of `ENDED`."""
        return self.result.state


def ended(found: list[Record]) -> list[Record]:
    """The trials that have ended, in the order in which they did."""
    return sorted((r for r in found if r.ended is not None), key=attrgetter("ended"))


def trial_folder(folder: Path, trial: str) -> Path:
    """The folder of a trial in that of its search; keras-tuner would choose the same."""
    return folder / f"trial_{trial}"


def write(folder: Path, record: Record) -> None:
    """Write a trial's record into the folder of its search."""
    path = trial_folder(folder, record.trial) / "record.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_json(path, dataclasses.asdict(record))


def read(folder: Path, trial: str) -> Record:
    """Read a trial's record; if it is damaged, raise OSError, ValueError, TypeError or KeyError."""
    data = files.read_json(trial_folder(folder, trial) / "record.json")
    if data["outcome"] is not None:
        data["outcome"] = Outcome(**data["outcome"])
    record = Record(**data)
    # It becomes the name of a folder again.
    if record.trial != trial or not trial.isdecimal():
        raise ValueError(f"it is that of trial {record.trial!r}")
    return record


def read_all(folder: Path, on_damaged: Callable[[Path], Any] = lambda path: None) -> list[Record]:
    """Read the records of a search in the order of the trials, but those that are damaged."""
    found = []
    for path in sorted(folder.glob("trial_*/record.json")):
        try:
            found.append(read(folder, path.parent.name.removeprefix("trial_")))
        except (OSError, ValueError, TypeError, KeyError):
            on_damaged(path)
    return sorted(found, key=lambda record: int(record.trial))


def write_outcome(folder: Path, trial: str, values: dict, outcome: Outcome) -> None:
    """Write what came of a trial with these values, before anybody is told."""
    path = trial_folder(folder, trial) / "outcome.json"
    files.write_json(path, {"values": values, "outcome": dataclasses.asdict(outcome)})


def read_outcome(folder: Path, trial: str, values: dict, wait: float = 0) -> Outcome | None:
    """What came of a trial with these values, or None as long as nobody knows.

    A file that is damaged or tells of other values is set aside. One that is absent may still come:
    `wait` says for how many seconds.
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
