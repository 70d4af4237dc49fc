"""The storage of a search, and the study of Optuna in it."""

import os
from datetime import datetime
from pathlib import Path
from typing import Any

from keras_deeplstm import hosts
from keras_deeplstm.experiments.search.config import SearchConfig

JOURNAL = "study.log"  # in the folder of a search, if nothing else was asked for
SILENT = 120  # seconds after which a process is no longer believed to work

# Optuna and SQLAlchemy are imported where they are needed: the command's help does not wait.


def absolute(storage: str | None) -> str | None:
    """A storage that was typed, as it is seen from any folder; ValueError: it is in memory."""
    if storage is None or "://" not in storage:
        return storage and os.path.abspath(storage)
    from sqlalchemy.engine import make_url

    url = make_url(storage)
    if url.get_backend_name() != "sqlite":
        return storage
    if url.database in (None, "", ":memory:"):
        raise ValueError("it would be in the memory of one process")
    return url.set(database=os.path.abspath(url.database)).render_as_string(hide_password=False)


def shown(storage: str) -> str:
    """A storage without a password."""
    if "://" not in storage:
        return storage
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        return make_url(storage).render_as_string(hide_password=True)
    except ArgumentError:
        return storage


def seen_from(folder: Path, storage: str) -> str:
    """The storage of the search in `folder`, which may be a file there."""
    return storage if "://" in storage else str(folder / storage)


def open_study(storage: str, name: str, config: SearchConfig | None = None) -> Any:
    """The study in a storage; with a config it is made if it is not there.

    Raises:
        KeyError: It is not there.
    """
    import optuna

    from keras_deeplstm.storage import storage_of

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    opened = storage_of(storage)
    if config is None:
        return optuna.load_study(storage=opened, study_name=name)
    directions = ["maximize" if m.direction == "max" else "minimize" for m in config.measures]
    new = {"storage": opened, "study_name": name, "directions": directions}
    study = optuna.create_study(**new, load_if_exists=True)
    if not study.trials and [one.name.lower() for one in study.directions] != directions:
        optuna.delete_study(study_name=name, storage=opened)
        study = optuna.create_study(**new)
    return study


def remove_study(storage: str, name: str) -> bool:
    """Delete a study, and those by which its trials were claimed; False if somebody works at it."""
    import optuna

    from keras_deeplstm.storage import storage_of

    if "://" not in storage and not os.path.exists(storage):
        return True
    opened = storage_of(storage)
    found = [
        optuna.load_study(study_name=one, storage=opened)
        for one in optuna.get_all_study_names(opened)
        if one == name or one.startswith(f"{name}: trial ")
    ]
    if any(_is_at_work(trial) for study in found for trial in study.trials):
        return False
    for study in found:
        optuna.delete_study(study_name=study.study_name, storage=opened)
    return True


def _is_at_work(trial: Any) -> bool:
    """Whether some process has lately said that it works at a trial; see the leases."""
    lease = trial.user_attrs.get("lease")
    if trial.state.name != "RUNNING" or lease is None:
        return False
    if lease["host"] == hosts.here():
        return hosts.is_running(lease["process"])
    if "time" not in lease:
        return False
    said = datetime.fromisoformat(lease["time"])
    return (datetime.now(said.tzinfo) - said).total_seconds() < SILENT
