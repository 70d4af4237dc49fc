"""The trials of a search, as the study of Optuna in its storage has them.

The folder of a search holds `search.json`, which says where the storage is: if nothing else was
asked for, the journal `study.log` beside it. Each training of a trial is a run in a folder of its
own, `trial_0007/seed0`, as `deeplstm run` makes it.
"""

from dataclasses import dataclass, field
from datetime import datetime
from operator import attrgetter
from pathlib import Path
from typing import Any

from keras_deeplstm.experiments.runs import files
from keras_deeplstm.experiments.search import earlier, storages
from keras_deeplstm.experiments.search.config import SearchConfig
from keras_deeplstm.experiments.settings import ConfigError

ENDED = ("finished", "pruned", "diverged", "failed", "skipped")


@dataclass
class Outcome:
    """What came of a trial. It has numbers if it is finished, and most if it was pruned."""

    state: str  # one of `ENDED`
    reason: str = ""  # why it diverged, failed, was pruned or skipped
    scores: list[float] = field(default_factory=list)  # of each objective, the mean over its runs
    of_runs: list[float] = field(default_factory=list)  # the first objective of each run
    parameters: int | None = None  # of the model
    epochs: float = 0  # of training, of all runs together
    gradient_ratio: float | None = None  # first/last norm at the end: the median over the runs
    seconds: float = 0.0  # of training and test


@dataclass
class Trial:
    """A trial of a search."""

    number: int
    values: dict[str, Any]  # what was chosen, by name
    outcome: Outcome | None = None  # what came of it, once it has ended
    ended: datetime | None = None  # when
    process: tuple = ()  # who has it, or had it last

    @property
    def result(self) -> Outcome:
        """Its outcome, or what stands for that while it has none."""
        return self.outcome or Outcome("running")

    @property
    def state(self) -> str:
        """`"running"`, or one of `ENDED`."""
        return self.result.state

    @property
    def score(self) -> float:
        """Its value of the first objective."""
        return self.result.scores[0]


def trial_folder(folder: Path, number: int) -> Path:
    """The folder of a trial in that of its search."""
    return folder / f"trial_{number:04d}"


def ended(found: list[Trial]) -> list[Trial]:
    """The trials that have ended, in the order in which they did."""
    return sorted((trial for trial in found if trial.ended), key=attrgetter("ended"))


def open_search(folder: Path) -> tuple[SearchConfig, list[Trial], Any]:
    """Settings, trials and study of the search in `folder`; of version 0.1 there is no study.

    Raises:
        ConfigError: There is none, or it cannot be read.
    """
    found = earlier.read(folder)
    if found is not None:
        config, records = found
        trials = [Trial(**one | {"outcome": _outcome(one)}) for one in records]
        return SearchConfig(**config), trials, None
    study = study_in(folder)
    return SearchConfig.from_dict(study.user_attrs["settings"]), read(study), study


def study_in(folder: Path) -> Any:
    """The study of Optuna of the search in `folder`.

    Raises:
        ConfigError: There is none.
    """
    path = folder / "search.json"
    try:
        known = files.read_json(path)
        storage = storages.seen_from(folder, known["storage"])
        if "://" not in storage and not Path(storage).exists():
            raise FileNotFoundError(f"there is no '{storage}'")
        study = storages.open_study(storage, known["study"])
        if "settings" in study.user_attrs:
            return study
        raise KeyError("settings")
    except Exception as error:  # databases have errors of their own
        reason = str(error).partition("\n")[0]
        raise ConfigError(f"Cannot read '{path}': {reason}") from None


def read(study: Any) -> list[Trial]:
    """The trials that a study has, in the order of their numbers."""
    return [_trial(one) for one in study.get_trials(deepcopy=False) if one.state.name != "WAITING"]


def _trial(one):
    known = one.user_attrs
    lease = known.get("lease", {})
    process = lease.get("token"), lease.get("attempt")
    trial = Trial(one.number, dict(known.get("values", {})), process=process)
    if one.state.is_finished():
        trial.ended = one.datetime_complete
        trial.outcome = _outcome(known) or Outcome("failed", known.get("message") or "")
    return trial


def _outcome(known):
    outcome = known.get("outcome")
    return None if outcome is None else Outcome(**outcome)
