"""The folder of a run: what lies in it, how it is written, how it is read back.

A run is a folder with `config.json` and `environment.json` from its start on; `metrics.csv` after
each epoch; `gradient_flow.csv`, `filters/`, `model.keras` and, last of all, `result.json` at its
end. So a run without `result.json` is unfinished. Each file is written under another name and
renamed when complete: whoever reads sees the old file or the new one, never half of one.
"""

import json
import os
import platform
import re
import secrets
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

from keras_deeplstm.experiments.config import ConfigError, RunConfig

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
PACKAGES = ("keras_deeplstm", "keras", "tensorflow", "jax", "torch", "numpy", "scikit-learn")


class RunExistsError(Exception):
    """The folder of a new run is taken."""


@contextmanager
def atomic(path: Path):
    """Yield a path to write to; it becomes `path` if the block ends without an error."""
    # The suffix stays, because `model.save` insists on it.
    temporary = path.with_name(f".{path.stem}.{secrets.token_hex(4)}{path.suffix}")
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` atomically."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


def write_json(path: Path, data: dict[str, Any]) -> None:
    """Write `data` atomically as strict JSON; a NaN or an infinity raises a ValueError."""
    write_text(path, json.dumps(data, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read what `write_json` wrote."""
    return json.loads(path.read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Run:
    """A run as found on disk."""

    folder: Path
    config: RunConfig | None  # None when config.json cannot be read
    state: str  # "finished", "failed", "unfinished" or "damaged"
    reason: str  # why it failed or is damaged, else ""
    result: dict[str, Any]  # of result.json; empty unless finished

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.name

    @cached_property
    def environment(self) -> dict[str, Any]:
        """Versions, machine and command of the run."""
        return read_json(self.folder / "environment.json")

    @cached_property
    def metrics(self):
        """Data frame, one row per epoch: epoch, loss, accuracy, val_loss, val_accuracy, seconds."""
        return self._table("metrics.csv")

    @cached_property
    def gradients(self):
        """Data frame of `GradientFlow`: step, layer, weight, depth, statistic, value."""
        return self._table("gradient_flow.csv")

    def _table(self, name):
        # Imported here, so that `deeplstm list` need not wait for pandas.
        import pandas as pd

        return pd.read_csv(self.folder / name)


def load(folder: Path) -> Run:
    """Read the run in `folder`; a damaged one is returned as such, not raised."""
    try:
        config = RunConfig.from_dict(read_json(folder / "config.json"))
    except (OSError, ValueError, ConfigError) as error:
        return Run(folder, None, "damaged", f"config.json: {error}", {})
    try:
        result = read_json(folder / "result.json")
        state, reason = result["state"], result.get("reason", "")
    except FileNotFoundError:
        return Run(folder, config, "unfinished", "", {})
    except (OSError, ValueError, KeyError, TypeError) as error:
        return Run(folder, config, "damaged", f"result.json: {error!r}", {})
    return Run(folder, config, state, reason, result if state == "finished" else {})


def find(root: Path) -> list[Run]:
    """All runs in `root` and the folders below it, sorted by path."""
    return [load(path.parent) for path in sorted(root.rglob("config.json"))]


def check_name(name: str) -> str:
    """Return `name` if it can serve as the name of a run folder, else raise `ConfigError`."""
    if not NAME.fullmatch(name):
        raise ConfigError(
            f"Invalid run name {name!r}. Use letters, digits, '.', '_', '-' (1-100 characters), "
            f"a letter or digit first"
        )
    return name


def new_name(runs_dir: Path, config: RunConfig) -> str:
    """The name of `config` with the first number that is free in `runs_dir`."""
    stem = config.slug[:95]
    number = 1
    while (runs_dir / f"{stem}-{number}").exists():
        number += 1
    return f"{stem}-{number}"


def check_free(folder: Path, overwrite: bool = False) -> None:
    """Raise `RunExistsError` if a new run must not use `folder`.

    Args:
        folder: The folder of the new run.
        overwrite: The run that is in it may be replaced; anything else may not.
    """
    if not os.path.lexists(folder):
        return
    # Empty, or killed before its first file was complete.
    if folder.is_dir() and all(path.name.startswith(".") for path in folder.iterdir()):
        return
    run = load(folder)
    if folder.is_symlink() or run.config is None:
        raise RunExistsError(f"'{folder}' exists and is not a run. Use another --name")
    if not overwrite:
        state = run.state
        if state == "finished":
            state += f", {run.config.epochs} epochs"
        raise RunExistsError(
            f"Run '{folder.name}' already exists ({state}). Use --overwrite or another --name"
        )


def start(folder: Path, config: RunConfig, command: str) -> None:
    """Create `folder` with the files a run has from its start on; replaces a run that was there."""
    check_free(folder, overwrite=True)
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    write_json(folder / "config.json", config.to_dict())
    write_json(folder / "environment.json", environment(command))


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
