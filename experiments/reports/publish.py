"""Results for others to read: tables as CSV, and a Markdown page with the answers and pictures."""

import base64
import re
import shlex
from pathlib import Path

from keras_deeplstm.experiments.reports import data, states
from keras_deeplstm.experiments.reports.classifiers import FILTERS
from keras_deeplstm.experiments.reports.findings import collect, summary, table
from keras_deeplstm.experiments.reports.page import render
from keras_deeplstm.experiments.runs import files
from keras_deeplstm.experiments.settings.base import ConfigError
from keras_deeplstm.experiments.studies.plan import read_plan
from keras_deeplstm.experiments.studies.study import depth_of

WRITTEN = "Written by `deeplstm publish`"  # stands in each page
DATA = "-data"  # the end of the names of folders with data
HOW_TO_READ = "How to read the numbers"
SHOWN = 4  # pictures of a section on the page; all are in the study's report


def publish(folders: list[Path], tables: Path, page: Path) -> None:
    """Write the tables of studies, and one page with what each of them has found.

    Of each study there is a table `NAME.csv` with a row for each model, `NAME-runs.csv` with a row
    for each run, and the folder `NAME-data` with what the pictures are drawn from: given in place
    of the study's folder, it gives the same page. The page is a Markdown file, new or written by
    this function; its sections on other studies stay. Its pictures lie beside it in a folder of its
    name.

    ConfigError if a folder is no study's or has no finished run, if two have one name, or if the
    page is a folder or a file that this function has not written; then nothing is written.
    """
    with data.unpacked(folders) as places:
        _publish(dict(zip(folders, places, strict=True)), tables, page)


def _publish(folders, tables, page):
    pictures = page.with_suffix("")
    if page.is_dir():
        raise ConfigError(f"'{page}' is a folder, not the file of a page")
    found = {}
    for folder, place in folders.items():
        name, findings = folder.resolve().name, collect([place])
        if place != folder:
            name = name.removesuffix(DATA)
        if name in found:
            raise ConfigError(f"Two studies have the name {name!r}, after which files are named")
        if findings.study is None or not findings.groups:
            raise ConfigError(f"'{folder}' holds no study with a finished run")
        title = ", ".join(filter(None, [findings.study.name, findings.subject]))
        found[name] = title, findings, read_plan(place)
    before = page.read_text(encoding="utf-8") if page.exists() else ""
    if before and WRITTEN not in before:
        raise ConfigError(f"'{page}' is there, and was not written by `deeplstm publish`")
    notes, sections = _parts(before)
    for folder in (tables, pictures):
        folder.mkdir(parents=True, exist_ok=True)
    for name, (title, findings, plan) in found.items():
        sections[title] = _section(name, findings, tables, pictures)
        data.write(tables / f"{name}{DATA}", findings, plan)
        notes |= {findings.kind.note: None}
    parts = [_indexed(title, text) for title, text in sections.items()]
    after = render("results.md", how_to_read=HOW_TO_READ, notes=notes, sections=parts)
    files.write_text(page, after)
    # Not before, because the page that was there shows them; and no others.
    for picture in pictures.glob("*.png"):
        link = f"({pictures.name}/{picture.name})"
        if link in before and link not in after:
            picture.unlink()


def _parts(page):
    """The notes of a page, and the texts of its sections by their titles."""
    parts = re.split(r"^## ", page, flags=re.MULTILINE)[1:]
    found = [part.partition("\n") for part in parts]
    sections = {title: text.strip("\n") for title, _, text in found}
    notes = sections.pop(HOW_TO_READ, "").split("\n\n")
    return dict.fromkeys(filter(None, notes)), sections


def _indexed(title, text):
    """What the page says of a section. Its answer is the first line in bold."""
    answer = re.search(r"^\*\*(.*)\*\*$", text, flags=re.MULTILINE)
    # As GitHub makes it of a heading.
    anchor = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
    return {"title": title, "anchor": anchor, "answer": answer[1] if answer else "", "text": text}


def _section(name, findings, tables, pictures):
    """Write the tables and pictures of a study; return its text."""
    study, groups = findings.study, findings.groups
    files.write_text(tables / f"{name}-runs.csv", files.csv_of(table(findings)))
    files.write_text(tables / f"{name}.csv", files.csv_of(summary(findings)))
    deepest = {group.label: group.name for group in sorted(groups, key=depth_of)}
    sections = findings.kind.sections(groups, [])
    shown, drawn = {}, 0
    for section in sections:
        for picture in _chosen(section, deepest.values(), not study.datasets):
            drawn += 1
            file = pictures / f"{name}-{drawn}.png"
            files.write_bytes(file, base64.b64decode(picture.data))
            shown.setdefault(section.title, []).append((file.name, picture))
    return render(
        "section.md",
        study=study,
        answer=findings.answer,
        rows=findings.kind.rows(groups),
        sections=shown,
        writings={section.title: section.writings for section in sections if section.writings},
        folder=pictures.name,
        missing=[run for run, state, _ in findings.problems if state == "missing"],
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
        begins = tuple(f"{name}, " for name in names)
        found = [row[-1] for row in section.rows if row and row[-1].caption.startswith(begins)]
    else:
        last = -2 if section.title == states.TITLE else -1
        found = [picture for row in section.rows[last:] for picture in row]
    return found[:SHOWN]
