"""Results for others to read: tables as CSV, and a Markdown page with the answers and pictures."""

import base64
import re
import shlex
from pathlib import Path

from keras_deeplstm.experiments.reports.classifiers import FILTERS, STATES
from keras_deeplstm.experiments.reports.findings import collect, summary, table
from keras_deeplstm.experiments.reports.page import render
from keras_deeplstm.experiments.runs import files
from keras_deeplstm.experiments.settings.base import ConfigError

WRITTEN = "Written by `deeplstm publish`"  # stands in each page
HOW_TO_READ = "How to read the numbers"
SHOWN = 4  # pictures of a section on the page; all are in the study's report


def publish(folders: list[Path], tables: Path, page: Path) -> None:
    """Write the tables of studies, and one page with what each of them has found.

    A page that is there already keeps its sections on other studies.

    Args:
        folders: Folders of studies.
        tables: Folder for the tables: `NAME.csv` with a row for each model, `NAME-runs.csv` with a
            row for each run.
        page: The Markdown file, new or written by this function. Its pictures lie beside it in a
            folder of its name.

    Raises:
        ConfigError: A folder is no study's, or has no finished run; two have one name; the page is
            a folder, or a file that this function has not written.
    """
    pictures = page.with_suffix("")
    # All of this before anything is written.
    names = [folder.resolve().name for folder in folders]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"Two studies have the name {name!r}, after which files are named")
    if page.is_dir():
        raise ConfigError(f"'{page}' is a folder, not the file of a page")
    found = [_finished(folder) for folder in folders]
    before = page.read_text(encoding="utf-8") if page.exists() else ""
    if before and WRITTEN not in before:
        raise ConfigError(f"'{page}' is there, and was not written by `deeplstm publish`")
    notes, sections = _parts(before)
    for folder in (tables, pictures):
        folder.mkdir(parents=True, exist_ok=True)
    for name, findings in zip(names, found, strict=True):
        title = ", ".join(filter(None, [findings.study.name, findings.subject]))
        sections[title] = _section(name, findings, tables, pictures)
        notes |= {findings.kind.note: None}
    after = render(
        "results.md",
        how_to_read=HOW_TO_READ,
        notes=notes,
        sections=[_indexed(title, text) for title, text in sections.items()],
    )
    files.write_text(page, after)
    # Not before, because the page that was there shows them; and no others.
    for picture in pictures.glob("*.png"):
        link = f"({pictures.name}/{picture.name})"
        if link in before and link not in after:
            picture.unlink()


def _parts(page):
    """The notes of a page, and the texts of its sections by their titles."""
    _, *parts = re.split(r"^## ", page, flags=re.MULTILINE)
    sections = {}
    for part in parts:
        title, _, text = part.partition("\n")
        sections[title] = text.strip("\n")
    notes = sections.pop(HOW_TO_READ, "").split("\n\n")
    return dict.fromkeys(filter(None, notes)), sections


def _indexed(title, text):
    """What the page says of a section. Its answer is the first line in bold."""
    answer = re.search(r"^\*\*(.*)\*\*$", text, flags=re.MULTILINE)
    return {
        "title": title,
        # As GitHub makes it of a heading.
        "anchor": re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-"),
        "answer": answer[1] if answer else "",
        "text": text,
    }


def _finished(folder):
    findings = collect([folder])
    if findings.study is None or not findings.groups:
        raise ConfigError(f"'{folder}' holds no study with a finished run")
    return findings


def _section(name, findings, tables, pictures):
    """Write the tables and pictures of a study; return its text."""
    groups = findings.groups
    files.write_text(tables / f"{name}-runs.csv", files.csv_of(table(findings)))
    files.write_text(tables / f"{name}.csv", files.csv_of(summary(findings)))
    by_depth = sorted(groups, key=lambda group: group.config.model.depth)
    deepest = {group.label: group.name for group in by_depth}
    shown, drawn = {}, 0
    writings = {}
    for section in findings.kind.sections(groups, []):
        for picture in _chosen(section, deepest.values(), not findings.study.datasets):
            drawn += 1
            file = pictures / f"{name}-{drawn}.png"
            files.write_bytes(file, base64.b64decode(picture.data))
            shown.setdefault(section.title, []).append((file.name, picture))
        writings |= {section.title: section.writings} if section.writings else {}
    missing = [run for run, state, _ in findings.problems if state == "missing"]
    return render(
        "section.md",
        study=findings.study,
        answer=findings.answer,
        rows=findings.kind.rows(groups),
        sections=shown,
        writings=writings,
        folder=pictures.name,
        missing=missing,
        problems=[problem for problem in findings.problems if problem[1] != "missing"],
        commands=list(dict.fromkeys(map(_without_places, findings.commands))),
        settings=findings.settings,
        environment=findings.finished[0].environment,
        resumed=len(findings.resumed),
        runs=len(findings.finished),
    ).strip("\n")


def _without_places(command):
    """A command without the folders of whoever has typed it."""
    try:
        words = shlex.split(command)
    except ValueError:  # no command of ours
        return command
    for option in ("--runs-dir", "--data-dir"):
        if option in words[:-1]:
            place = words.index(option)
            del words[place : place + 2]
        words = [word for word in words if not word.startswith(f"{option}=")]
    return shlex.join(words)


def _chosen(section, names, several):
    """The pictures of a section that the page shows: of its last row, the deepest networks.

    Of the gradients of states the last two rows, which belong together; of filters, those after
    training of the models named. Of several tasks, the first picture of each.
    """
    if several:
        return [row[0] for row in section.rows]
    if section.title == FILTERS:
        filters = [row[-1] for row in section.rows if row]
        found = [p for p in filters if any(p.caption.startswith(f"{name}, ") for name in names)]
    else:
        last = -2 if section.title == STATES else -1
        found = [picture for row in section.rows[last:] for picture in row]
    return found[:SHOWN]
