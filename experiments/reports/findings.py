"""What there is to report of runs: which are finished, which are not, and the tables of numbers."""

import statistics
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from keras_deeplstm.experiments import runs
from keras_deeplstm.experiments.reports.kinds import KINDS, Kind
from keras_deeplstm.experiments.runs import Run
from keras_deeplstm.experiments.runs.groups import Group, group_runs
from keras_deeplstm.experiments.settings.base import ConfigError
from keras_deeplstm.experiments.studies import STUDIES, Study
from keras_deeplstm.experiments.studies.plan import read_plan, restarts_of, without_success


@dataclass(frozen=True)
class Findings:
    """Runs of one kind, and what is known of them."""

    kind: Kind
    study: Study | None
    """The study, if they are those of one that is known."""
    found: list[Run]
    finished: list[Run]
    unfinished: list[Run]
    """Those that have no result, but metrics of a part of their training."""
    problems: list[tuple[str, str, str]]
    """Name, state and reason of each run that has no result."""
    groups: list[Group]

    @property
    def subject(self) -> str | None:
        """The task or text of a study, if it has one for all runs."""
        subjects = [run.config.subject for run in self.found if run.config]
        return subjects[0] if subjects and self.study and self.study.datasets else None

    @property
    def answer(self) -> list[str]:
        """The sentences of the study's answer."""
        return self.study.answer(self.groups) if self.study and self.groups else []

    @property
    def commands(self) -> list[str]:
        """The commands that started the runs, with the backend if it is not the default."""
        commands: dict[str, None] = {}
        for run in self.finished:
            backend, command = run.environment["backend"], run.environment["command"]
            prefix = "" if backend == "tensorflow" else f"KERAS_BACKEND={backend} "
            commands[prefix + command] = None
        return list(commands)

    @property
    def resumed(self) -> list[str]:
        """Names of the runs that were interrupted and resumed."""
        keys = ("resumed_after_epochs", "resumed_after_steps")
        return [run.name for run in self.finished if any(map(run.result.get, keys))]

    @property
    def settings(self) -> dict[str, str]:
        """Training settings with the value, or the values, that the finished runs have."""
        values: dict[str, dict[str, None]] = {}
        for run in self.finished:
            assert run.config is not None
            for name, value in run.config.flat().items():
                told = ("task", "text", "fold")
                if name not in told and not name.startswith("model."):
                    values.setdefault(name, {})[str(value)] = None
        return {name: ", ".join(distinct) for name, distinct in values.items()}


def find(folders: list[Path]) -> list[Run]:
    """All runs in these folders.

    Raises:
        ConfigError: One of the folders holds no run.
    """
    found = []
    for folder in folders:
        found += runs.find(folder)
        if not found or not found[-1].folder.is_relative_to(folder):
            raise ConfigError(f"'{folder}' holds no keras_deeplstm runs")
    return found


def collect(folders: list[Path]) -> Findings:
    """Read runs.

    Args:
        folders: Folders of runs, or folders that contain them, such as a study's.

    Raises:
        ConfigError: One of the folders holds no run.
    """
    found = find(folders)
    study, problems = None, []
    if len(folders) == 1 and (folders[0] / "study.json").exists():
        plan = read_plan(folders[0])
        study = plan["study"]
        own = [run for run in found if run.folder.parent == folders[0]]
        found, problems = _planned(plan, {run.name: run for run in own})
    # Runs of several kinds have no table in common; the first one decides.
    command = next((run.config.command for run in found if run.config), "run")
    kind = KINDS[command]
    finished, unfinished = [], []
    for run in found:
        try:
            if run.config and run.config.command != command:
                reason = "another kind of run: it has a report of its own"
                problems.append((run.name, run.state, reason))
            elif run.state == "finished":
                _ = run.environment, *(getattr(run, name) for name in kind.files)
                _check_numbers(run, kind.results)
                finished.append(run)
            else:
                if run.config and (run.folder / "metrics.csv").exists():
                    _ = run.metrics
                    unfinished.append(run)
                problems.append((run.name, run.state, run.reason))
        except (OSError, ValueError) as error:
            problems.append((run.name, "damaged", str(error)))
    found = [run for run in found if run.config is None or run.config.command == command]
    groups = group_runs(finished)
    return Findings(kind, STUDIES.get(study), found, finished, unfinished, problems, groups)


def _check_numbers(run, names):
    for name in names:
        value = run.result.get(name)
        if not isinstance(value, int | float | None):
            raise ValueError(f"result.json: {name!r} must be a number. Received: {value!r}")


def _planned(plan, present):
    """The runs that a study has planned, and for which there is no result.

    In place of a run without success stands its restart with another seed.
    """
    found, problems = [], []
    for name in plan["runs"]:
        if name not in present:
            problems.append((name, "missing", ""))
            continue
        run = present[name]
        restarts = plan.get("restarts", 0) if run.config else 0
        for other in list(restarts_of(name, run.config, restarts))[1:]:
            if without_success(run) and other in present:
                reason = run.reason or "not solved"
                instead = f"{reason}; tried again with seed {present[other].config.seed}"
                problems.append((run.name, run.state, instead))
                run = present[other]
        found.append(run)
    return found, problems


def table(findings: Findings) -> pd.DataFrame:
    """A row for each run."""
    results = findings.kind.results
    rows = []
    for group in findings.groups:
        for run in group.runs:
            assert run.config is not None
            settings = run.config.flat()
            row = {
                "run": run.name,
                "task": run.config.subject,
                "model": group.label,
                "depth": run.config.model.depth,
                "seed": run.config.seed,
                "fold": settings["fold"] if settings.get("folds") else None,
                **{key: run.result.get(key) for key in results},
                "seconds": run.result["seconds"],
            }
            rows.append(row)
    names = ["run", "task", "model", "depth", "seed", "fold", *results, "seconds"]
    # As objects, so that a ratio that does not exist stays None and does not become NaN.
    return pd.DataFrame(rows, columns=names, dtype=object)


def summary(findings: Findings) -> pd.DataFrame:
    """A row for each model: means with their intervals, counts, medians with their ranges."""
    rows, kind = [], findings.kind
    for group in findings.groups:
        config = group.config
        row = {"task": config.subject, "model": group.label, "depth": config.model.depth}
        row["runs"] = len(group.runs)
        row |= {key: group.runs[0].result[key] for key in kind.facts}
        row |= {key: sum(group.values(key)) for key in kind.counts}
        for key in kind.means + kind.medians:
            values = group.values(key)
            if not values:
                row |= {key: None, f"{key}_low": None, f"{key}_high": None}
            elif key in kind.means:
                both = group.mean(key)
                row |= {key: both.mean, f"{key}_low": both.low, f"{key}_high": both.high}
            else:
                row |= {key: statistics.median(values)}
                row |= {f"{key}_low": min(values), f"{key}_high": max(values)}
        rows.append({**row, "seconds": statistics.fmean(group.values("seconds"))})
    return pd.DataFrame(rows)
