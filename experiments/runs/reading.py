"""Runs as they are found on disk."""

import math
import shlex
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from keras_deeplstm.experiments import settings
from keras_deeplstm.experiments.runs import files, locks
from keras_deeplstm.experiments.settings import ConfigError, Settings, UnknownError

# Columns that a table has to have: those with text; all others hold numbers.
TABLES = {
    "metrics.csv": ((), ("epoch",)),
    "gradient_flow.csv": (("layer", "weight", "statistic"), ("step", "depth", "value")),
    "state_gradients.csv": (("layer", "direction", "state", "path"), ("depth", "value", "epoch")),
    "examples.csv": (("example",), ("step", "value", "forecast")),
    "confusion.csv": (("true", "predicted"), ("count",)),
    "predictions.csv": ((), ("output", "true", "predicted")),
    "steps.csv": ((), ("step", "value")),
}


@dataclass(frozen=True)
class Run:
    """A run as found on disk, by `load` or `find`.

    Its tables are read when they are first asked for: `metrics`, `gradients`, `states`,
    `examples`, `confusion`, `predictions` and `steps`, and so is `environment`. One that is absent
    or damaged then raises OSError or ValueError.

    Example:

    >>> import pathlib, tempfile
    >>> from keras_deeplstm.experiments import RunConfig, runs
    >>> run = runs.begin(pathlib.Path(tempfile.mkdtemp(), "first"), RunConfig("digits"))
    >>> run.name, run.state, run.config.task, run.result
    ('first', 'created', 'digits', {})
    """

    folder: Path
    """Where it lies."""
    config: Settings | None
    """Its settings; None when `config.json` cannot be read."""
    state: str
    """"created", "running", "interrupted", "finished", "failed", "diverged" or "damaged"."""
    reason: str
    """Why it failed, diverged or is damaged, else ""."""
    result: dict[str, Any]
    """What `result.json` says; empty unless finished."""
    unknown: str = ""
    """What of it this process does not know, a task or a block, and which command does; else ""."""

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

    @property
    def data(self) -> str | None:
        """The checksum of its data; None if that is not known."""
        try:
            return self.environment.get("data")
        except (OSError, ValueError):
            return None

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
        return self._table("examples.csv", optional=True)

    @cached_property
    def states(self):
        """Data frame of `StateGradients`; None of a run that has not recorded any.

        Its columns are layer, direction, state, path, depth, time, value, epoch.
        """
        return self._table("state_gradients.csv", optional=True)

    @cached_property
    def confusion(self):
        """Data frame of test examples: true, predicted, texts both, and count; else None."""
        return self._table("confusion.csv", optional=True)

    @cached_property
    def predictions(self):
        """Data frame of test examples: output, true, predicted; None if classes are told."""
        return self._table("predictions.csv", optional=True)

    @cached_property
    def steps(self):
        """Data frame: step, value (of the metric on test data); None without targets for each."""
        return self._table("steps.csv", optional=True)

    def _table(self, name, optional=False):
        from pandas.api.types import is_numeric_dtype  # `deeplstm list` does not wait for it

        if optional and not (self.folder / name).exists():
            return None
        frame = read_table(self.folder / name)
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


def read_table(path: Path, also: tuple[str, ...] = ()) -> Any:
    """The data frame of a table of a run, perhaps packed; columns that it has `also` are texts.

    Texts stay as they are: "NA" is a class, and "01" is not "1".
    """
    import pandas as pd

    texts = (*TABLES[path.name.removesuffix(".gz")][0], *also)
    numbers = [name for name in pd.read_csv(path, nrows=0) if name not in texts]
    return pd.read_csv(
        path,
        dtype=dict.fromkeys(texts, str),
        keep_default_na=False,
        na_values={name: ["", "nan", "NaN"] for name in numbers},
    )


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
    config, unknown = None, ""
    try:
        _check_no_links(folder)
        config = settings.from_dict(files.read_json(folder / "config.json"))
    except UnknownError as error:
        unknown = f"{str(error).partition('. ')[0]}. {known_by(_command(folder))}"
    except (OSError, ValueError, ConfigError) as error:
        return Run(folder, None, "damaged", f"config.json: {error}", {})
    try:
        result = files.read_json(folder / "result.json")
        state, reason = result["state"], result.get("reason", "")
        if config is not None:
            result = _renamed(result, config.results)
        _check_result(result, state, reason, () if config is None else config.results)
    except FileNotFoundError:
        return Run(folder, config, _state_without_result(folder), "", {}, unknown)
    except (OSError, ValueError, KeyError, TypeError) as error:
        return Run(folder, config, "damaged", f"result.json: {error!r}", {}, unknown)
    result = result if state == "finished" else {}
    return Run(folder, config, state, reason, result, unknown)


def _command(folder):
    try:
        return files.read_json(folder / "environment.json")["command"]
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def known_by(command: Any) -> str:
    """Which command knows what this one does not: that which has started the run or study."""
    try:
        words = shlex.split(str(command))
    except ValueError:  # no command of ours
        words = []
    if len(words) > 1 and words[1].endswith(".py"):
        return f"Use the command that knows it: {shlex.join(words[:2])}"
    return "Use the command of the file that registers it"


def _renamed(result, names):
    """In version 0.1 the metric of every task was called accuracy."""
    old = {name: f"{name.partition('_')[0]}_accuracy" for name in names[:2]}
    return {
        **result,
        **{new: result[name] for new, name in old.items() if new not in result and name in result},
    }


def _check_no_links(folder):
    """Raise ValueError if a file of the run is a link: a report would show what lies elsewhere."""
    for path in (*folder.glob("*"), *folder.glob("filters/*")):
        if path.is_symlink():
            raise ValueError(f"the run holds a symbolic link, {path.name!r}")


def _check_result(result, state, reason, numbers):
    if state not in ("finished", "failed", "diverged") or not isinstance(reason, str):
        raise ValueError(f"it says neither how the run ended nor why. Received: state={state!r}")
    names = [*numbers, *(["sequences"] if result.get("solved") else [])]
    for name in names if state == "finished" else ():
        value = result.get(name)
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f"{name!r} must be a number. Received: {value!r}")


def _state_without_result(folder):
    if locks.is_locked(folder):
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
