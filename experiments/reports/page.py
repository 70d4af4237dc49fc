"""Reports of runs: one HTML page that needs nothing else, and its tables as CSV beside it."""

import os
from pathlib import Path

import jinja2

from keras_deeplstm.experiments.reports.findings import collect, summary, table
from keras_deeplstm.experiments.runs import files
from keras_deeplstm.experiments.settings.base import ConfigError


def write_report(folders: list[Path], output: Path | None = None) -> Path:
    """Write the report of runs and return its path.

    Beside `report.html` are `table.csv`, a row for each run, and `summary.csv`, a row for each
    model; beside another page, `NAME.html`, they are `NAME-table.csv` and `NAME-summary.csv`.

    Args:
        folders: Folders of runs, or folders that contain them, such as a study's.
        output: The page; default `report.html` in the folder given, or in the one that several
            folders share.

    Raises:
        ConfigError: One of the folders holds no run, or the page would take the place of that of
            a study.
    """
    findings = collect(folders)
    common = common_folder(folders)
    if output is None and len(folders) > 1:
        for name in ("study.json", "search.json"):
            if (common / name).exists():
                raise ConfigError(
                    f"'{common}' has a report of its own, which is of all its runs. "
                    f"Use --output FILE for one of some of them"
                )
    prefix = "" if output is None else f"{output.stem}-"
    kind, groups, finished = findings.kind, findings.groups, findings.finished
    configs = [run.config for run in finished if run.config]
    html = render(
        "report.html",
        title=_title(findings, common),
        question=findings.study.question if findings.study else None,
        remark=findings.study.remark if findings.study else "",
        answer=findings.answer,
        rows=kind.rows(groups),
        note=kind.note,
        abouts=dict.fromkeys(f"Task {c.subject}: {c.about}" for c in configs if c.about),
        problems=findings.problems,
        sections=kind.sections(groups, findings.unfinished),
        settings=findings.settings,
        environments=[run.environment for run in finished[:1]],
        commands=findings.commands,
        resumed=findings.resumed,
    )
    output = output or common / "report.html"
    files.write_text(output, html)
    files.write_text(output.with_name(f"{prefix}table.csv"), files.csv_of(table(findings)))
    files.write_text(output.with_name(f"{prefix}summary.csv"), files.csv_of(summary(findings)))
    return output


def common_folder(folders: list[Path]) -> Path:
    """The folder given, or the one that several share."""
    if len(folders) == 1:
        return folders[0]
    return Path(os.path.commonpath([folder.resolve() for folder in folders]))


def render(template: str, **values) -> str:
    """A page from one of the templates."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=jinja2.select_autoescape(["html"]),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**values)


def _title(findings, folder):
    study, found = findings.study, findings.found
    if study:
        task = f" ({findings.subject})" if findings.subject else ""
        return f"Study: {study.name}{task}"
    if len(found) == 1:
        return found[0].config.title if found[0].config else found[0].name
    return f"{len(found)} runs in {folder.name}"
