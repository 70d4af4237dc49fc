"""What there is to report of runs: which are finished, which are not, and the tables of numbers."""

import dataclasses
import statistics
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from keras_deeplstm.experiments import runs
from keras_deeplstm.experiments.config import ConfigError, RunConfig
from keras_deeplstm.experiments.runner import restarts_of
from keras_deeplstm.experiments.studies import STUDIES, Study
from keras_deeplstm.experiments.summary import Group, estimate, group_runs
from keras_deeplstm.experiments.text.config import TextConfig

RESULTS = (
    *("test_accuracy", "val_accuracy"),
    *("gradient_ratio_start", "gradient_ratio_end"),
    *("state_gradient_ratio_start", "state_gradient_ratio_end"),
    *("memory_path_ratio_start", "memory_path_ratio_end"),
    *("gabor_r2_start", "gabor_r2_end"),
)


@dataclass(frozen=True)
class Findings:
    """Runs, and what is known of them."""

    study: Study | None
    """The study, if they are those of one that is known."""
    found: list[runs.Run]
    finished: list[runs.Run]
    problems: list[tuple[str, str, str]]
    """Name, state and reason of each run that has no result."""
    groups: list[Group]

    @property
    def answer(self) -> list[str]:
        """The sentences of the study's answer."""
        return self.study.answer(self.groups) if self.study and self.groups else []

    @property
    def commands(self) -> list[str]:
        """The commands that started the runs."""
        return list(dict.fromkeys(run.environment["command"] for run in self.finished))

    @property
    def resumed(self) -> list[str]:
        """Names of the runs that were interrupted and resumed."""
        return [run.name for run in self.finished if run.result.get("resumed_after_epochs")]


def find(folders: list[Path]) -> list[runs.Run]:
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
        plan = runs.read_json(folders[0] / "study.json")
        study = plan["study"]
        found, problems = _planned(plan, {run.name: run for run in found})
    finished = []
    for run in found:
        try:
            if isinstance(run.config, TextConfig):
                problems.append((run.name, run.state, "of a text: it has a report of its own"))
            elif run.state == "finished":
                _ = run.environment, run.metrics, run.gradients, run.states
                finished.append(run)
            else:
                problems.append((run.name, run.state, run.reason))
        except (OSError, ValueError) as error:
            problems.append((run.name, "damaged", str(error)))
    return Findings(STUDIES.get(study), found, finished, problems, group_runs(finished))


def _planned(plan, present):
    """The runs that a study has planned, and for which there is no result.

    In place of a run that diverged stands its restart with another seed.
    """
    found, problems = [], []
    for name in plan["runs"]:
        if name not in present:
            problems.append((name, "missing", ""))
            continue
        run = present[name]
        for other in list(restarts_of(name, run.config, plan.get("restarts", 0)))[1:]:
            if run.state == "diverged" and other in present:
                instead = f"{run.reason}; tried again with seed {present[other].config.seed}"
                problems.append((run.name, run.state, instead))
                run = present[other]
        found.append(run)
    return found, problems


def table(groups: list[Group]) -> pd.DataFrame:
    """A row for each run."""
    rows = [
        {
            "run": run.name,
            "task": run.config.task_name,
            "model": group.label,
            "depth": run.config.model.depth,
            "seed": run.config.seed,
            "fold": run.config.fold if run.config.folds else None,
            "parameters": run.result["parameters"],
            **{key: run.result.get(key) for key in RESULTS},
            "seconds": run.result["seconds"],
        }
        for group in groups
        for run in group.runs
    ]
    names = ["run", "task", "model", "depth", "seed", "fold", "parameters", *RESULTS, "seconds"]
    # As objects, so that a ratio that does not exist stays None and does not become NaN.
    return pd.DataFrame(rows, columns=names, dtype=object)


def summary(groups: list[Group]) -> pd.DataFrame:
    """A row for each model: means with their intervals; of all else, medians with their ranges."""
    rows = []
    for group in groups:
        config = group.config
        row = {"task": config.task_name, "model": group.label, "depth": config.model.depth}
        row["runs"] = len(group.runs)
        for key in RESULTS:
            values = group.values(key)
            if not values:
                row |= {key: None, f"{key}_low": None, f"{key}_high": None}
            elif key.endswith("accuracy"):
                both = estimate(values)
                row |= {key: both.mean, f"{key}_low": both.low, f"{key}_high": both.high}
            else:
                row |= {key: statistics.median(values)}
                row |= {f"{key}_low": min(values), f"{key}_high": max(values)}
        row["parameters"] = group.runs[0].result["parameters"]
        rows.append({**row, "seconds": statistics.fmean(group.values("seconds"))})
    return pd.DataFrame(rows)


def settings(finished: list[runs.Run]) -> dict[str, str]:
    """Training settings with the value, or the values, that the runs have."""
    values = {}
    for field in dataclasses.fields(RunConfig):
        if field.name not in ("task", "model", "fold"):
            distinct = dict.fromkeys(str(getattr(run.config, field.name)) for run in finished)
            values[field.name] = ", ".join(distinct)
    return values
