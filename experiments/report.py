"""Reports of runs: one HTML page that needs nothing else, and its tables as CSV beside it."""

import dataclasses
import os
import statistics
from pathlib import Path

import jinja2
import pandas as pd

from keras_deeplstm.experiments import runs
from keras_deeplstm.experiments.config import ConfigError, RunConfig
from keras_deeplstm.experiments.figures import sections
from keras_deeplstm.experiments.runner import restarts_of
from keras_deeplstm.experiments.studies import STUDIES
from keras_deeplstm.experiments.summary import estimate, group_runs, percent_text, ratios_text
from keras_deeplstm.experiments.tasks import get_task

RESULTS = ("test_accuracy", "val_accuracy", "gradient_ratio_start", "gradient_ratio_end")


def write_report(folders: list[Path], output: Path | None = None) -> Path:
    """Write the report of runs and return its path.

    Beside the page are `table.csv`, a row for each run, and `summary.csv`, a row for each model.

    Args:
        folders: Folders of runs, or folders that contain them, such as a study's.
        output: The page; default `report.html` in the folder given, or in the one that several
            folders share.

    Raises:
        ConfigError: One of the folders holds no run.
    """
    found = []
    for folder in folders:
        found += runs.find(folder)
        if not found or not found[-1].folder.is_relative_to(folder):
            raise ConfigError(f"'{folder}' holds no keras_deeplstm runs")
    if len(folders) == 1:
        common = folders[0]
    else:
        common = Path(os.path.commonpath([folder.resolve() for folder in folders]))
    study, plan, problems = None, {}, []
    if len(folders) == 1 and (common / "study.json").exists():
        plan = runs.read_json(common / "study.json")
        study = STUDIES.get(plan["study"])
        found, problems = _planned(plan, {run.name: run for run in found})

    finished = []
    for run in found:
        try:
            if run.state == "finished":
                _ = run.environment, run.metrics, run.gradients
                finished.append(run)
            else:
                problems.append((run.name, run.state, run.reason))
        except (OSError, ValueError) as error:
            problems.append((run.name, "damaged", str(error)))

    groups = group_runs(finished)
    environments = [run.environment for run in finished]
    html = render(
        "report.html",
        title=_title(study, found, common),
        question=study.question if study else None,
        answer=study.answer(groups) if study and groups else [],
        groups=groups,
        estimate=estimate,
        percent_text=percent_text,
        ratios_text=ratios_text,
        mean=statistics.fmean,
        several=max((len(group.runs) for group in groups), default=0) > 1,
        folds=any(run.config.folds for run in finished),
        tasks=[get_task(name) for name in dict.fromkeys(run.config.task for run in finished)],
        problems=problems,
        sections=sections(groups),
        settings=_settings(finished),
        environments=environments[:1],
        commands=list(dict.fromkeys(environment["command"] for environment in environments)),
        resumed=[run.name for run in finished if run.result.get("resumed_after_epochs")],
    )
    output = output or common / "report.html"
    runs.write_text(output, html)
    table = _table(groups)
    runs.write_text(output.with_name("table.csv"), table.to_csv(index=False))
    runs.write_text(output.with_name("summary.csv"), _summary(groups).to_csv(index=False))
    return output


def render(template: str, **values) -> str:
    """A page from one of the templates."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**values)


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


def _title(study, found, folder):
    if study:
        task = f" ({found[0].config.task_name})" if found else ""
        return f"Study: {study.name}{task}"
    if len(found) == 1:
        return found[0].config.title if found[0].config else found[0].name
    return f"{len(found)} runs in {folder.name}"


def _table(groups):
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


def _summary(groups):
    """A row for each model: means with their intervals; of ratios, medians with their ranges."""
    rows = []
    for group in groups:
        config = group.config
        row = {"task": config.task_name, "model": group.label, "depth": config.model.depth}
        row["runs"] = len(group.runs)
        for key in RESULTS:
            values = group.values(key)
            if not values:
                row |= {key: None, f"{key}_low": None, f"{key}_high": None}
            elif key.startswith("gradient"):
                row |= {key: statistics.median(values)}
                row |= {f"{key}_low": min(values), f"{key}_high": max(values)}
            else:
                both = estimate(values)
                row |= {key: both.mean, f"{key}_low": both.low, f"{key}_high": both.high}
        row["parameters"] = group.runs[0].result["parameters"]
        rows.append({**row, "seconds": statistics.fmean(group.values("seconds"))})
    return pd.DataFrame(rows)


def _settings(finished):
    """Training settings with the value, or the values, that the runs have."""
    values = {}
    for field in dataclasses.fields(RunConfig):
        if field.name not in ("task", "model", "fold"):
            distinct = dict.fromkeys(str(getattr(run.config, field.name)) for run in finished)
            values[field.name] = ", ".join(distinct)
    return values
