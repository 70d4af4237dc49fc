"""What a study has to do, and what of it is done."""

import dataclasses
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

from keras_deeplstm.experiments import runs
from keras_deeplstm.experiments.runs import Run, files
from keras_deeplstm.experiments.settings import ConfigError, Settings

# The n-th restart of a run without success adds n times this to its seed, which is smaller.
RESTART_SEED = 1000
MAX_RESTARTS = 1000
Plan = dict[str, Settings]  # runs by the names of their folders


def restarts_of(name: str, config: Settings, restarts: int) -> Plan:
    """A run, and the runs with other seeds that take its place if it fails, by name."""
    found = {name: config}
    for number in range(1, restarts + 1):
        seed = config.seed + number * RESTART_SEED
        found[f"{name}-restart{number}"] = dataclasses.replace(config, seed=seed)
    return found


def without_success(run: Run) -> bool:
    """Whether a run has come to its end in vain: it has diverged, or not solved its task."""
    return run.state == "diverged" or run.result.get("solved") is False


def matching(plan: Plan, only: str | None) -> Plan:
    """The runs of a plan whose names contain `only`, in which * and ? stand for other text."""
    if only is None:
        return plan
    found = {name: run for name, run in plan.items() if fnmatchcase(name, f"*{only}*")}
    if not found:
        raise ConfigError(f"No run matches --only {only!r}. The first run is {next(iter(plan))!r}")
    return found


class Standing(NamedTuple):
    """How far the runs of a plan are."""

    todo: Plan
    finished: list[Run]
    lost: list[str]
    """Names of those that have diverged with all their seeds."""
    begun: list[str]
    """Names of those to do that have been started before."""


def standing(plan: Plan, folder: Path, restarts: int, overwrite: bool) -> Standing:
    """Look what is done in `folder`; with `overwrite`, nothing is."""
    found = Standing({}, [], [], [])
    for name, config in plan.items():
        attempts = [runs.load(folder / one) for one in restarts_of(name, config, restarts)]
        ended = [run for run in attempts if run.state == "finished"]
        good = [run for run in ended if not without_success(run)]
        if overwrite or not (good or all(map(without_success, attempts))):
            found.todo[name] = config
            if any(run.state in ("interrupted", "failed") for run in attempts):
                found.begun.append(name)
        elif ended:
            found.finished.append((good or ended)[0])
        else:
            found.lost.append(name)
    return found


def write_plan(folder: Path, study: str, command: str, plan: Plan, restarts: int) -> None:
    """Write `study.json`, with what an earlier start of the study has planned beyond this one.

    Its runs with other seeds, and its restarts, stay in the report.
    """
    others, most = [], 0
    try:
        before = read_plan(folder)
    except ConfigError:  # there is none, or it is damaged
        before = {"runs": []}
    models = [config.repeated(0) for config in plan.values()]
    for name in before["runs"]:
        config = runs.load(folder / name).config if name not in plan else None
        if config is not None and config.repeated(0) in models:
            others.append(name)
    most = max(restarts, before.get("restarts", 0))
    content = {"study": study, "command": command, "runs": [*plan, *others], "restarts": most}
    files.write_json(folder / "study.json", content)


def read_plan(folder: Path) -> dict[str, Any]:
    """What `write_plan` has written: `study`, `command`, `runs`, `restarts`."""
    path = folder / "study.json"
    try:
        plan = files.read_json(path)
    except (OSError, ValueError) as error:
        raise ConfigError(f"Cannot read '{path}': {error}") from None
    known = isinstance(plan, dict) and isinstance(plan.get("study"), str)
    names, restarts = (plan.get("runs"), plan.get("restarts", 0)) if known else (None, 0)
    listed = isinstance(names, list) and all(isinstance(name, str) for name in names)
    if not listed or type(restarts) is not int or not 0 <= restarts <= MAX_RESTARTS:
        raise ConfigError(
            f"'{path}' is damaged: it must hold the name of a study, the names of its runs, and at "
            f"most {MAX_RESTARTS} restarts"
        )
    return plan
