"""Results for others to read: tables as CSV, a Markdown page for each study, and their index."""

import base64
import itertools
import re
import shlex
from collections.abc import Callable
from pathlib import Path

from keras_deeplstm.experiments.reports import classifiers, data, rates, states
from keras_deeplstm.experiments.reports.drawing import Picture, Section, with_few_colors
from keras_deeplstm.experiments.reports.findings import collect, summary, table
from keras_deeplstm.experiments.reports.page import render
from keras_deeplstm.experiments.runs import files
from keras_deeplstm.experiments.settings.base import ConfigError
from keras_deeplstm.experiments.studies import FAMILIES, STUDIES
from keras_deeplstm.experiments.studies.plan import read_plan
from keras_deeplstm.experiments.studies.study import depth_of, grouped

WRITTEN = "Written by `deeplstm publish`"  # stands in each page
INDEX = "index.md"
DATA = "-data"  # the end of the names of folders with data
# Pictures of a page, one of each section, of these sections first; all are in the report.
SHOWN = 3
FIRST = (
    *(rates.TITLE, classifiers.STEPS, classifiers.GATES),
    *(states.TITLE, classifiers.DEPTH, classifiers.FILTERS),
)
LONGEST = 200  # characters of an answer in the index
FLOAT32 = "%.9g"  # as many digits as tell each number of 32 bits from all others


def publish(
    folders: list[Path], tables: Path, pages: Path, confirm: Callable[[], None] = lambda: None
) -> None:
    """Write the tables and the page of each study, and the index of all pages that are there.

    Of each study there is a table `NAME.csv` with a row for each model, `NAME-runs.csv` with a row
    for each run, and the folder `NAME-data` with what the pictures are drawn from: given in place
    of the study's folder, it gives the same page. `NAME.md` among the pages has the answer, the
    table and up to three pictures, which lie beside it. `index.md` is written anew.

    ConfigError if a folder is no study's or has no finished run, if two have one name, or if a file
    of that name is there that this function has not written, or if `confirm` raises one, which is
    called before anything is written; then nothing is.
    """
    with data.unpacked(folders) as places:
        _publish(dict(zip(folders, places, strict=True)), tables, pages, confirm)


def _publish(folders, tables, pages, confirm):
    if pages.exists() and not pages.is_dir():
        raise ConfigError(f"'{pages}' is a file, not the folder of the pages")
    found = {}
    for folder, place in folders.items():
        name, findings = folder.resolve().name, collect([place])
        if place != folder:
            name = name.removesuffix(DATA)
        if name in found:
            raise ConfigError(f"Two studies have the name {name!r}, after which files are named")
        if findings.study is None or not findings.groups:
            raise ConfigError(f"'{folder}' holds no study with a finished run")
        found[name] = findings, read_plan(place)
    for file in (pages / INDEX, *(pages / f"{name}.md" for name in found)):
        if file.exists() and not is_written(file):
            raise ConfigError(f"'{file}' is there, and was not written by `deeplstm publish`")
    confirm()
    for folder in (tables, pages):
        folder.mkdir(parents=True, exist_ok=True)
    for name, (findings, plan) in found.items():
        files.write_text(tables / f"{name}-runs.csv", files.csv_of(table(findings), FLOAT32))
        files.write_text(tables / f"{name}.csv", files.csv_of(summary(findings), FLOAT32))
        data.write(tables / f"{name}{DATA}", findings, plan)
        _write_page(pages / f"{name}.md", findings)
    write_index(pages)


def _write_page(page, findings):
    study, groups = findings.study, findings.groups
    sections = findings.kind.sections(groups, [])
    before = _text(page) if page.exists() else ""
    number = itertools.count(1)
    shown = {}
    for title, pictures in _chosen(sections, findings).items():
        for picture in pictures:
            file = page.with_name(f"{page.stem}-{next(number)}.png")
            files.write_bytes(file, with_few_colors(base64.b64decode(picture.data)))
            shown.setdefault(title, []).append((file.name, picture))
    text = render(
        "study.md",
        title=", ".join(filter(None, [study.name, findings.subject])),
        study=study,
        name=page.stem,
        written=WRITTEN,
        answer=findings.answer,
        rows=findings.kind.rows(groups),
        note=findings.kind.note,
        pictures=shown,
        writings={section.title: section.writings for section in sections if section.writings},
        missing=[run for run, state, _ in findings.problems if state == "missing"],
        problems=[problem for problem in findings.problems if problem[1] != "missing"],
        commands=list(dict.fromkeys(map(_without_places, findings.commands))),
        settings=findings.settings,
        environment=findings.finished[0].environment,
        resumed=len(findings.resumed),
        runs=len(findings.finished),
    )
    files.write_text(page, text.strip("\n") + "\n")
    # Not before, because the page that was there shows them; and no others.
    for picture in page.parent.glob("*.png"):
        link = f"({picture.name})"
        if link in before and link not in text:
            picture.unlink()


def is_written(file: Path) -> bool:
    """Whether it is a page that `publish` has written."""
    return file.is_file() and WRITTEN in _text(file)


def _text(page):
    """What stands on a page, which may be one of somebody else, in whatever encoding."""
    return page.read_text(encoding="utf-8", errors="replace")


def write_index(pages: Path) -> None:
    """Write the index of all pages in a folder that `publish` has written: their answers."""
    found = []
    for file in sorted(pages.glob("*.md")):
        text = _text(file)
        title, answer = (
            re.search(pattern, text, flags=re.MULTILINE)
            for pattern in (r"^# (.*)$", r"^\*\*(.*)\*\*$")
        )
        if file.name != INDEX and WRITTEN in text and title and answer:
            found.append({"file": file.name, "title": title[1], "answer": _short(answer[1])})
    order = {name: place for place, name in enumerate(STUDIES)}
    found.sort(key=lambda page: order.get(_study(page), len(order)))
    families = grouped(found, lambda page: FAMILIES.get(_study(page), "Others"))
    files.write_text(pages / INDEX, render("index.md", families=families, written=WRITTEN))


def _study(page):
    return page["title"].partition(",")[0]


def _short(answer):
    if len(answer) <= LONGEST:
        return answer
    return answer[:LONGEST].rpartition(" ")[0].rstrip(",;:") + " …"


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


def _chosen(sections: list[Section], findings) -> dict[str, list[Picture]]:
    """The pictures of a page by the titles of their sections: one of each, then a second."""
    deepest = {group.label: group.name for group in sorted(findings.groups, key=depth_of)}
    first = sorted(sections, key=lambda s: FIRST.index(s.title) if s.title in FIRST else len(FIRST))
    rounds = itertools.zip_longest(*(_pictures(section, deepest.values()) for section in first))
    found = [picture for one in rounds for picture in one if picture][:SHOWN]
    return {
        section.title: chosen
        for section in sections
        if (chosen := [picture for row in section.rows for picture in row if picture in found])
    }


def _pictures(section, names):
    """Those that can stand for a section, the best one first: of the deepest networks."""
    if section.title == classifiers.FILTERS:  # after training, of these models
        begins = tuple(f"{name}, " for name in names)
        return [p for row in section.rows for p in row[-1:] if p.caption.startswith(begins)][::-1]
    if section.title == states.TITLE:  # all networks together, and not each with its paths
        together, alone = section.rows[-2:]
        return [*together, *alone][:1]
    return [row[0] for row in section.rows[::-1] if row]
