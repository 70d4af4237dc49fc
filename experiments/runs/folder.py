"""The folder of a run: what lies in it, how it is written, how it is read back.

A run is a folder with `environment.json` and `config.json` from its start on; `metrics.csv` after
each epoch, and `checkpoints/` while it is not finished; `gradient_flow.csv`, `state_gradients.csv`,
`filters/`, `model.keras` and, last of all, `result.json` at its end; `tensorboard/` if wanted. What
a run of a text has in their place says `text/training.py`.

The state of a run is not a note that a killed process could leave behind, it is read off:
`result.json` says "finished", "failed" or "diverged"; without it a run is "running" as long as a
living process holds its lock, which the kernel takes back from a dead one; else it is "interrupted"
if an epoch was finished, and "created" if not.
"""

import os
import re
import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from keras_deeplstm import validation
from keras_deeplstm.experiments.runs import environment, files, locks
from keras_deeplstm.experiments.runs.locks import RunExistsError
from keras_deeplstm.experiments.runs.reading import Run, load
from keras_deeplstm.experiments.settings.base import ConfigError, Settings, differences

# Not those that Windows takes for a device or cuts short: a folder may be copied there.
NAME = re.compile(
    r"(?!(?i:con|prn|aux|nul|com\d|lpt\d)(\.|$))[A-Za-z0-9][A-Za-z0-9._-]{0,99}(?<!\.)"
)


def check_name(name: str) -> str:
    """Return `name` if it can serve as the name of a run folder, else raise `ConfigError`."""
    if not NAME.fullmatch(name):
        raise ConfigError(
            f"Invalid run name {validation.shown(name)}. Use letters, digits, '.', '_', '-' (1-100 "
            f"characters), a letter or digit first, no '.' last, no name of a device of Windows"
        )
    return name


def name_for(runs_dir: Path, config: Settings, new: bool = False) -> str:
    """The name for a run that was given none: its settings and a number.

    It is that of an interrupted or failed run with exactly these settings, unless `new` is set;
    else the first one that is free.
    """
    stem = config.slug[:95]
    number = 1
    while (folder := runs_dir / f"{stem}-{number}").exists():
        if not new:
            run = load(folder)
            if run.config == config and run.state in ("created", "interrupted", "failed"):
                break
        number += 1
    return folder.name


def check_usable(folder: Path, config: Settings, overwrite: bool = False) -> None:
    """Raise `RunExistsError` unless a run of `config` can start or go on in `folder`.

    With `overwrite` a run of other settings may be replaced; anything that is not a run may not.
    For an early answer: by the time the lock is taken, this may have changed.
    """
    if os.path.lexists(folder):
        if locks.is_locked(folder):
            raise locks.in_use(folder)
        _check_content(folder, config, overwrite)


def _check_content(folder, config, overwrite):
    if _is_void(folder):
        return
    run = load(folder)
    if folder.is_symlink() or run.config is None:
        reason = "a link" if folder.is_symlink() else run.unknown or run.reason
        raise RunExistsError(
            f"'{folder}' exists and is not a run that can be read ({reason}). "
            f"Move it away, or use another place for the new run"
        )
    if not overwrite and run.config != config:
        raise RunExistsError(
            f"Run '{folder.name}' has other settings ({differences(run.config, config)}). "
            f"Use --overwrite or another place for the new run"
        )


def _is_void(folder):
    """Whether `folder` is empty, or a process died before the first files were complete."""
    if folder.is_symlink() or not folder.is_dir():
        return False
    ours = {locks.LOCK, *(path.name for path in files.temporaries(folder))}
    names = {path.name for path in folder.iterdir()} - ours
    if names == {"environment.json"}:
        with suppress(OSError, ValueError):
            return bool(load(folder).environment)
    # A study notes so a run whose process died before that.
    noted = names in ({"config.json"}, {"config.json", "result.json"})
    return not names or (noted and load(folder).config is not None)


def begin(
    folder: Path,
    config: Settings,
    command: str = "",
    overwrite: bool = False,
    data: str | None = None,
) -> Run:
    """Make the folder of a run, or make one that is there ready to go on. Needs its lock.

    Raises `RunExistsError` if it holds something else, or a run of another backend, or one that has
    been trained on other data, of which `data` is a checksum.
    """
    if os.path.lexists(folder):
        _check_content(folder, config, overwrite)
    folder.mkdir(parents=True, exist_ok=True)
    if overwrite or _is_void(folder):  # which holds nothing that is not ours
        remove(path for path in folder.iterdir() if path.name != locks.LOCK)
        record = {} if data is None else {"data": data}
        files.write_json(folder / "environment.json", environment.describe(command) | record)
        files.write_json(folder / "config.json", config.to_dict())
        return load(folder)
    tidy(folder)
    run = load(folder)
    if run.state not in ("finished", "diverged"):
        before, backend = (e["backend"] for e in (run.environment, environment.describe(command)))
        if before != backend:
            raise RunExistsError(
                f"Run '{run.name}' was started with backend {before!r}, the current one is "
                f"{backend!r}. Set KERAS_BACKEND={before}, use --overwrite or another --name"
            )
        if data is not None:
            _check_data(run, data)
        (folder / "result.json").unlink(missing_ok=True)
    return run


def _check_data(run, data):
    """Raise if a run has learned from other data than these, else record which it is to have."""
    before = run.environment.get("data")  # runs of older versions have none
    if before == data:
        return
    if before is not None and any(run.folder.glob("checkpoints/*")):
        raise RunExistsError(
            f"The data of run '{run.name}' have changed since it was started. "
            f"Use --overwrite or another place for the new run"
        )
    files.write_json(run.folder / "environment.json", run.environment | {"data": data})


def check_same_data(beside: Path, data: str | None) -> None:
    """Raise `RunExistsError` if the run in `beside` has learned from other data than these.

    Those of a study or a search are compared with each other. `data` is a checksum.
    """
    if data is not None and load(beside).data not in (None, data):
        raise RunExistsError(
            f"The data have changed since run '{beside}' was trained, with which others are to be "
            f"compared. Put them back, or use --overwrite or another place for all runs"
        )


def tidy(folder: Path) -> None:
    """Remove what a killed process has left: half-written files, and checkpoints of a finished run.

    Needs the run's lock.
    """
    for place in (folder, folder / "checkpoints", folder / "filters"):
        remove(files.temporaries(place))
    if load(folder).state == "finished":
        remove([folder / "checkpoints"])


def remove(paths: Iterable[Path]) -> None:
    """Remove files and folders; a link, not what it leads to."""
    for path in list(paths):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
