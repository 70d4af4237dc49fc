"""The folder of a run: what lies in it, how it is written, how it is read back.

A run is a folder with `environment.json` and `config.json` from its start on; `metrics.csv` after
each epoch, and `checkpoints/` while it is not finished; `gradient_flow.csv`, `state_gradients.csv`,
`filters/`, `model.keras` and, last of all, `result.json` at its end; what a run of a text has in
their place says `text/training.py`.

The state of a run is not a note that a killed process could leave behind, it is read off:
`result.json` says "finished", "failed" or "diverged"; without it a run is "running" as long as a
living process holds its lock, which the kernel takes back from a dead one; else it is "interrupted"
if an epoch was finished, and "created" if not.
"""

import math
import os
import platform
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from keras_deeplstm import validation
from keras_deeplstm.experiments import settings as configs
from keras_deeplstm.experiments.runs import files
from keras_deeplstm.experiments.settings import Config
from keras_deeplstm.experiments.settings.base import (
    ConfigError,
    differences,
)

# Not those that Windows takes for a device or cuts short: a folder may be copied there.
NAME = re.compile(
    r"(?!(?i:con|prn|aux|nul|com\d|lpt\d)(\.|$))[A-Za-z0-9][A-Za-z0-9._-]{0,99}(?<!\.)"
)
LOCK = ".lock"
LOCK_SECONDS = 2  # how long to wait for a lock, which a dying process may hold a moment longer
# Columns that a table has to have: those with text; all others hold numbers.
TABLES = {
    "metrics.csv": ((), ("epoch",)),
    "gradient_flow.csv": (("layer", "weight", "statistic"), ("step", "depth", "value")),
    "state_gradients.csv": (("layer", "direction", "state", "path"), ("depth", "value", "epoch")),
    "examples.csv": (("example",), ("step", "value", "forecast")),
}
PACKAGES = ("keras_deeplstm", "keras", "tensorflow", "jax", "torch", "numpy", "scikit-learn")


class RunExistsError(Exception):
    """The folder of a run is taken: by other settings, another process or other files."""


@dataclass(frozen=True)
class Run:
    """A run as found on disk, by `load` or `find`.

    Its tables are read when they are first asked for: `metrics`, `gradients`, `states` and
    `examples`, and so is `environment`. One that is absent or damaged then raises OSError or
    ValueError.

    Example:

    >>> import pathlib, tempfile
    >>> from keras_deeplstm.experiments import RunConfig, runs
    >>> run = runs.begin(pathlib.Path(tempfile.mkdtemp(), "first"), RunConfig("digits"))
    >>> run.name, run.state, run.config.task, run.result
    ('first', 'created', 'digits', {})
    """

    folder: Path
    """Where it lies."""
    config: Config | None
    """Its settings; None when `config.json` cannot be read."""
    state: str
    """"created", "running", "interrupted", "finished", "failed", "diverged" or "damaged"."""
    reason: str
    """Why it failed, diverged or is damaged, else ""."""
    result: dict[str, Any]
    """What `result.json` says; empty unless finished."""

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.name

    @cached_property
    def environment(self) -> dict[str, Any]:
        """Versions, machine and command of the run, and a checksum of its data."""
        found = files.read_json(self.folder / "environment.json")
        texts = ("command", "backend") if isinstance(found, dict) else ()
        if not texts or not all(isinstance(found.get(name), str) for name in texts):
            raise ValueError("environment.json: it must hold the command and the backend")
        if not isinstance(found.get("versions"), dict):
            raise ValueError("environment.json: it must hold the versions of packages")
        return found

    @cached_property
    def metrics(self):
        """Data frame, one row per epoch: epoch, loss, accuracy, val_loss, val_accuracy, seconds."""
        return self._table("metrics.csv")

    @cached_property
    def gradients(self):
        """Data frame of `GradientFlow`: step, layer, weight, depth, statistic, value."""
        return self._table("gradient_flow.csv")

    @cached_property
    def examples(self):
        """Data frame of forecasts: example, step, value, forecast; None of a run without any."""
        there = (self.folder / "examples.csv").exists()
        return self._table("examples.csv") if there else None

    @cached_property
    def states(self):
        """Data frame of `StateGradients`; None of a run that has not recorded any.

        Its columns are layer, direction, state, path, depth, time, value, epoch.
        """
        there = (self.folder / "state_gradients.csv").exists()
        return self._table("state_gradients.csv") if there else None

    def _table(self, name):
        # Imported here, so that `deeplstm list` need not wait for pandas.
        import pandas as pd
        from pandas.api.types import is_numeric_dtype

        frame = pd.read_csv(self.folder / name)
        texts, numbers = TABLES[name]
        wrong = [column for column in (*texts, *numbers) if column not in frame]
        wrong += [
            column
            for column in frame
            if len(frame) and column not in texts and not is_numeric_dtype(frame[column])
        ]
        if wrong:
            raise ValueError(f"{name}: it lacks these columns, or numbers in them: {wrong}")
        return frame


def load(folder: Path) -> Run:
    """Read the run in `folder`; a damaged one is returned as such, not raised.

    Args:
        folder: The run's folder.

    Returns:
        A `Run`. Without a readable `config.json` it is "damaged", too.

    Example:

    >>> import pathlib, tempfile
    >>> from keras_deeplstm.experiments import RunConfig, runs
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> runs.begin(folder, RunConfig("digits")) == runs.load(folder)
    True
    >>> (folder / "result.json").write_text("{}")
    2
    >>> runs.load(folder).state, runs.load(folder).reason
    ('damaged', "result.json: KeyError('state')")
    """
    try:
        _check_no_links(folder)
        config = configs.from_dict(files.read_json(folder / "config.json"))
    except (OSError, ValueError, ConfigError) as error:
        return Run(folder, None, "damaged", f"config.json: {error}", {})
    try:
        result = files.read_json(folder / "result.json")
        state, reason = result["state"], result.get("reason", "")
        _check_result(config, result, state, reason)
    except FileNotFoundError:
        return Run(folder, config, _state_without_result(folder), "", {})
    except (OSError, ValueError, KeyError, TypeError) as error:
        return Run(folder, config, "damaged", f"result.json: {error!r}", {})
    return Run(folder, config, state, reason, result if state == "finished" else {})


def _check_no_links(folder):
    """Raise ValueError if a file of the run is a link: a report would show what lies elsewhere."""
    for path in (*folder.glob("*"), *folder.glob("filters/*")):
        if path.is_symlink():
            raise ValueError(f"the run holds a symbolic link, {path.name!r}")


def _check_result(config, result, state, reason):
    if state not in ("finished", "failed", "diverged") or not isinstance(reason, str):
        raise ValueError(f"it says neither how the run ended nor why. Received: state={state!r}")
    names = [*config.RESULTS, *(["sequences"] if result.get("solved") else [])]
    for name in names if state == "finished" else ():
        value = result.get(name)
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f"{name!r} must be a number. Received: {value!r}")


def _state_without_result(folder):
    if is_locked(folder):
        return "running"
    return "interrupted" if (folder / "metrics.csv").exists() else "created"


def find(root: Path) -> list[Run]:
    """Read all runs in a folder and the folders below it.

    Args:
        root: The folder; one that is absent has no runs.

    Returns:
        A list of `Run`s, sorted by path.

    Example:

    >>> import pathlib, tempfile
    >>> from keras_deeplstm.experiments import RunConfig, runs
    >>> root = pathlib.Path(tempfile.mkdtemp())
    >>> for seed in (0, 1):
    ...     run = runs.begin(root / f"seed{seed}", RunConfig("digits", seed=seed))
    >>> [(run.name, run.state) for run in runs.find(root)]
    [('seed0', 'created'), ('seed1', 'created')]
    """
    return [load(path.parent) for path in sorted(root.rglob("config.json"))]


def check_name(name: str) -> str:
    """Return `name` if it can serve as the name of a run folder, else raise `ConfigError`."""
    if not NAME.fullmatch(name):
        raise ConfigError(
            f"Invalid run name {validation.shown(name)}. Use letters, digits, '.', '_', '-' (1-100 "
            f"characters), a letter or digit first, no '.' last, no name of a device of Windows"
        )
    return name


def name_for(runs_dir: Path, config: Config, new: bool = False) -> str:
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


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Hold the lock of a run's or a study's folder, which is made if absent.

    Raises:
        RunExistsError: Another process holds it.
    """
    held = FileLock(folder / LOCK, timeout=LOCK_SECONDS)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held.acquire()
    except Timeout:
        raise _in_use(folder) from None
    except OSError as error:
        raise OSError(f"Cannot write to folder '{folder}': {error.strerror}") from error
    try:
        yield
    finally:
        held.release()


def is_locked(folder: Path) -> bool:
    """Whether a living process works in `folder`."""
    if not (folder / LOCK).exists():
        return False
    try:
        with FileLock(folder / LOCK, timeout=0):
            return False
    except Timeout:
        return True
    except OSError:  # the folder is read-only, so nobody works in it
        return False


def _in_use(folder):
    return RunExistsError(f"'{folder}' is in use by another process. Wait until it has ended")


def check_usable(folder: Path, config: Config, overwrite: bool = False) -> None:
    """Raise `RunExistsError` unless a run of `config` can start or go on in `folder`.

    For an early answer: by the time the lock is taken, this may have changed.

    Args:
        folder: The run's folder, absent or not.
        config: The settings.
        overwrite: A run of other settings may be replaced; anything that is not a run may not.
    """
    if os.path.lexists(folder):
        if is_locked(folder):
            raise _in_use(folder)
        _check_content(folder, config, overwrite)


def _check_content(folder, config, overwrite):
    if _is_void(folder):
        return
    run = load(folder)
    if folder.is_symlink() or run.config is None:
        reason = "a link" if folder.is_symlink() else run.reason
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
    names = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    begun = {"environment.json", "config.json"}
    return names <= {*begun, "result.json"} and not begun <= names


def begin(
    folder: Path,
    config: Config,
    command: str = "",
    overwrite: bool = False,
    data: str | None = None,
) -> Run:
    """Make the folder of a run, or make one that is there ready to go on. Needs its lock.

    Args:
        folder: The run's folder, absent or not.
        config: The settings.
        command: How the run was started, for the record.
        overwrite: Replace the run that is in `folder`.
        data: A checksum of the run's data.

    Raises:
        RunExistsError: The folder holds something else, or a run of another backend, or one that
            has been trained on other data.
    """
    if os.path.lexists(folder):
        _check_content(folder, config, overwrite)
    folder.mkdir(parents=True, exist_ok=True)
    if overwrite or _is_void(folder):
        remove(path for path in folder.iterdir() if path.name != LOCK)
        record = {} if data is None else {"data": data}
        files.write_json(folder / "environment.json", environment(command) | record)
        files.write_json(folder / "config.json", config.to_dict())
        return load(folder)
    tidy(folder)
    run = load(folder)
    backend = environment(command)["backend"]
    if run.state not in ("finished", "diverged"):
        if run.environment["backend"] != backend:
            raise RunExistsError(
                f"Run '{run.name}' was started with backend {run.environment['backend']!r}, the "
                f"current one is {backend!r}. Set KERAS_BACKEND={run.environment['backend']}, "
                f"use --overwrite or another --name"
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


def tidy(folder: Path) -> None:
    """Remove what a killed process has left: half-written files, and checkpoints of a finished run.

    Needs the run's lock.
    """
    remove(path for path in folder.rglob(".*") if path.name != LOCK)
    if load(folder).state == "finished":
        remove([folder / "checkpoints"])


def remove(paths: Iterable[Path]) -> None:
    """Remove files and folders; a link, not what it leads to."""
    for path in list(paths):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def environment(command: str) -> dict[str, Any]:
    """Versions, machine and command; of the environment variables none but Keras' backend."""
    # Imported here, so that `deeplstm --help` and `deeplstm list` need not wait for Keras.
    import keras

    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        "command": command,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "backend": keras.config.backend(),
        "python": platform.python_version(),
        "versions": versions,
        "platform": platform.platform(),
        "processor": platform.machine(),
        "cpus": os.cpu_count(),
    }
