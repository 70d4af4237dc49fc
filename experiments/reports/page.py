"""Reports of runs: one HTML page that needs nothing else, and its tables as CSV beside it."""

import os
from pathlib import Path

import jinja2

from keras_deeplstm.experiments.reports import data
from keras_deeplstm.experiments.reports.findings import collect, summary, table
from keras_deeplstm.experiments.runs import files
from keras_deeplstm.experiments.settings.base import ConfigError


def write_report(folders: list[Path], output: Path | None = None) -> Path:
    """Write the report of runs, or of folders that contain them, and return its path.

    It is `output`, or else `report.html` in the folder given, or in the one that several folders
    share. Beside `report.html` are `table.csv`, a row for each run, and `summary.csv`, a row for
    each model; beside another page, `NAME.html`, they are `NAME-table.csv` and `NAME-summary.csv`.
    ConfigError if a folder holds no run, or if the page would take the place of that of a study.
    """
    with data.unpacked(folders) as places:
        return _write(collect(places), folders, output)


def _write(findings, folders, output):
    common = folders[0]
    if len(folders) > 1:
        common = Path(os.path.commonpath([folder.resolve() for folder in folders]))
    of_all = any((common / name).exists() for name in ("study.json", "search.json"))
    if output is None and len(folders) > 1 and of_all:
        raise ConfigError(
            f"'{common}' has a report of its own, which is of all its runs. "
            f"Use --output FILE for one of some of them"
        )
    prefix = "" if output is None else f"{output.stem}-"
    output = output or common / "report.html"
    study, kind, finished = findings.study, findings.kind, findings.finished
    configs = [run.config for run in finished if run.config]
    told = dict.fromkeys((config.subject, config.about) for config in configs if config.about)
    abouts = [f"Task {subject}: {about}".replace("\n", ". ") for subject, about in told]
    html = render(
        "report.html",
        title=_title(findings, common),
        question=study.question if study else None,
        remark=study.remark if study else "",
        answer=findings.answer,
        rows=kind.rows(findings.groups),
        note=kind.note,
        abouts=abouts,
        problems=findings.problems,
        sections=kind.sections(findings.groups, findings.unfinished),
        settings=findings.settings,
        environments=[run.environment for run in finished[:1]],
        commands=findings.commands,
        resumed=findings.resumed,
    )
    files.write_text(output, html)
    for name, frame in (("table", table(findings)), ("summary", summary(findings))):
        files.write_text(output.with_name(f"{prefix}{name}.csv"), files.csv_of(frame))
    return output


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
        return f"Study: {study.name}" + (f" ({findings.subject})" if findings.subject else "")
    if len(found) == 1:
        return found[0].config.title if found[0].config else found[0].name
    return f"{len(found)} runs in {folder.name}"
