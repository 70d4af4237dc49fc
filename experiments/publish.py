"""Results for others to read: tables as CSV, and a Markdown page with the answers and pictures."""

import base64
import statistics
from pathlib import Path

from keras_deeplstm.experiments import runs
from keras_deeplstm.experiments.config import ConfigError
from keras_deeplstm.experiments.figures import sections
from keras_deeplstm.experiments.findings import collect, settings, summary, table
from keras_deeplstm.experiments.report import render
from keras_deeplstm.experiments.summary import estimate, percent_text, ratio_text, ratios_text

SHOWN = 4  # pictures of a section on the page; all are in the study's report


def publish(folders: list[Path], tables: Path, page: Path) -> None:
    """Write the tables of studies, and one page with what each of them has found.

    Args:
        folders: Folders of studies.
        tables: Folder for the tables: `NAME.csv` with a row for each model, `NAME-runs.csv` with a
            row for each run.
        page: The Markdown file. Its pictures lie beside it in a folder of its name.

    Raises:
        ConfigError: A folder is no study's, or has no finished run.
    """
    pictures = page.with_suffix("")
    for folder in (tables, pictures):
        folder.mkdir(parents=True, exist_ok=True)
    studies = [_published(folder, tables, pictures) for folder in folders]
    kept = {file for study in studies for file in study["files"]}
    for stale in set(pictures.glob("*.png")) - kept:
        stale.unlink()
    runs.write_text(page, render("results.md", studies=studies, folder=pictures.name))


def _published(folder, tables, pictures):
    findings = collect([folder])
    if findings.study is None or not findings.groups:
        raise ConfigError(f"'{folder}' holds no study with a finished run")
    groups, name = findings.groups, folder.name
    runs.write_text(tables / f"{name}-runs.csv", table(groups).to_csv(index=False))
    runs.write_text(tables / f"{name}.csv", summary(groups).to_csv(index=False))
    shown, files = [], []
    deepest = {group.label: group.name for group in _by_depth(groups)}
    for section in sections(groups):
        for picture in _chosen(section, deepest.values()):
            file = pictures / f"{name}-{len(files) + 1}.png"
            runs.write_bytes(file, base64.b64decode(picture.data))
            files.append(file)
            shown.append((section, file.name, picture))
    missing = [run for run, state, _ in findings.problems if state == "missing"]
    return {
        "name": f"{findings.study.name}, {findings.found[0].config.task_name}",
        "question": findings.study.question,
        "answer": findings.answer,
        "rows": [_row(group) for group in groups],
        "sections": _by_section(shown),
        "files": files,
        "missing": missing,
        "problems": [problem for problem in findings.problems if problem[1] != "missing"],
        "commands": findings.commands,
        "settings": settings(findings.finished),
        "environment": findings.finished[0].environment,
        "resumed": len(findings.resumed),
        "runs": len(findings.finished),
    }


def _chosen(section, names):
    """The pictures of a section that the page shows: of its last row, the deepest networks.

    Of the gradients of states the last two rows, which belong together; of filters, those after
    training of the models named.
    """
    if section.title == "Filters of the first layer":
        filters = [row[-1] for row in section.rows if row]
        found = [p for p in filters if any(p.caption.startswith(f"{name}, ") for name in names)]
    else:
        last = -2 if section.title == "Gradient of the states" else -1
        found = [picture for row in section.rows[last:] for picture in row]
    return found[:SHOWN]


def _by_depth(groups):
    return sorted(groups, key=lambda group: group.config.model.depth)


def _by_section(shown):
    found = {}
    for section, file, picture in shown:
        found.setdefault(section.title, []).append((file, picture))
    return found


def _row(group):
    def middle(key):
        values = group.values(key)
        return f"{statistics.median(values):.2f}" if values else ""

    return {
        "model": group.label,
        "depth": group.config.model.depth,
        "runs": len(group.runs),
        "test accuracy": percent_text(group.accuracy),
        "validation accuracy": percent_text(estimate(group.values("val_accuracy"))),
        "gradient first/last, start": ratios_text(group.values("gradient_ratio_start")),
        "gradient first/last, end": ratios_text(group.values("gradient_ratio_end")),
        "memory/total, start": _ratio(group.values("memory_path_ratio_start")),
        "Gabor R²": middle("gabor_r2_end"),
        "parameters": f"{group.runs[0].result['parameters']:,}",
        "seconds": f"{statistics.fmean(group.values('seconds')):.0f}",
    }


def _ratio(values):
    return ratio_text(statistics.median(values) if values else None)
