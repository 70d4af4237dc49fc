"""Lists in the terminal: runs, the runs of a study, and what has a name.

On a terminal a line fits it, and the runs of a study or a search are one line; elsewhere, as for a
script that reads them, lists are complete.
"""

import itertools
import shutil
import sys
import textwrap
from collections.abc import Iterable
from pathlib import Path

from keras_deeplstm import validation
from keras_deeplstm.experiments import runs
from keras_deeplstm.experiments.runs import Run, files
from keras_deeplstm.experiments.studies.plan import Plan, matching

HEAD = ("RUN", "STATE", "TASK", "MODEL", "DEPTH", "TEST RESULT")
SHORT = ("RUN", "STATE", "TEST RESULT")
GAP = "  "


def of_names(described: Iterable[tuple[str, str]]) -> list[str]:
    """Lines of names and what they mean."""
    rows = list(described)
    indent = max(len(name) for name, _ in rows) + len(GAP)
    lines = [f"{name:{indent}}{text}" for name, text in rows]
    if (width := _width()) is None:
        return lines
    hanging = " " * min(indent, width // 3)
    fitted = textwrap.TextWrapper(width, subsequent_indent=hanging, break_on_hyphens=False)
    return [part for line in lines for part in fitted.wrap(line)]


def of_runs(folder: Path) -> list[str]:
    """Lines of the runs below a folder: on a terminal the newest first, without those of studies.

    After them stands what is unknown here and where it may come from.
    """
    found = runs.find(folder)
    if not found:
        return [f"No runs in '{folder}'"]
    hints = list(dict.fromkeys(run.unknown for run in found if run.unknown))
    width = _width()
    if width is None:
        rows = [HEAD, *((str(run.folder.relative_to(folder)), *_columns(run)) for run in found)]
        return [*_table(rows), *hints]
    groups: dict[Path, list[Run]] = {}
    for run in found:
        groups.setdefault(_whole(run.folder, folder), []).append(run)
    newest = sorted(groups, key=lambda place: place.stat().st_mtime, reverse=True)
    rows = [SHORT, *(_short_row(place, groups[place], folder) for place in newest)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    room = max(width - sum(widths[1:]) - 2 * len(GAP), 20)
    common = _common([name for name, *_ in rows[1:]])
    lines = _table([(_elided(name, room, common), *others) for name, *others in rows])
    more = next((place for place in newest if _is_whole(place)), None)
    hint = f"The runs of one of them: deeplstm list --runs-dir {more}" if more else ""
    return [*lines, *filter(None, [hint]), *hints]


def of_plan(plan: Plan, folder: Path, only: str | None) -> list[str]:
    """Lines of the runs of a study: what is done, and the names for --only."""
    places = {name: folder / name for name in matching(plan, only)}
    states = {n: runs.load(p).state if p.exists() else "missing" for n, p in places.items()}
    return [f"{state:10}{name}" for name, state in states.items()]


def show(lines: Iterable[str]) -> None:
    """Print lines, whatever names are in them."""
    for line in lines:
        print(validation.printable(line))


def _width():
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _table(rows):
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [GAP.join(map(str.ljust, row, widths)).rstrip() for row in rows]


def _common(names):
    """How many characters all names begin with, in whole words."""
    least, most = min(names).split("-"), max(names).split("-")  # which differ first
    words = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(least, most, strict=False))
    return sum(len(word) + 1 for word, _ in words) - 1


def _elided(name, room, common):
    """A name that is too long, without what is common to all; then without its middle."""
    if len(name) > room and common > 1:
        name = f"…{name[common:]}"
    if len(name) <= room:
        return name
    end = (room - 1) // 2
    return f"{name[: room - 1 - end]}…{name[-end:]}"


def _is_whole(place):
    return (place / "study.json").exists() or (place / "search.json").exists()


def _whole(place, root):
    """The folder of the study or search that a run is part of, or its own."""
    for parent in place.parents:
        if parent == root:
            break
        if _is_whole(parent):
            return parent
    return place


def _short_row(place, members, root):
    name = str(place.relative_to(root))
    if not _is_whole(place):
        state, *_, result = _columns(members[0])
        return name, state, result
    done = sum(run.state == "finished" for run in members)
    kind = "search" if (place / "search.json").exists() else "study"
    return f"{name}/", kind, f"{done} of {len(members)} runs finished"


def _columns(run):
    """State, task, model, depth and test result of a run."""
    config = run.config
    if run.unknown:
        return _unknown_columns(run)
    if config is None:
        return run.state, "", "", "", ""
    result = config.short(run.result) if run.result else ""
    return run.state, config.listed, config.model.label, str(config.model.depth), result


def _unknown_columns(run):
    """The same of a run whose task or block is unknown here, as its files say it."""
    settings = files.read_json(run.folder / "config.json")
    model = settings.get("model", {})
    numbers = {k: v for k, v in run.result.items() if isinstance(v, int | float)}
    names = [name for name in numbers if name.startswith("test_") and name != "test_loss"]
    result = f"{names[0].removeprefix('test_')} {numbers[names[0]]:.4g}" if names else ""
    subject = f"{settings.get('task')} (unknown here)"
    return run.state, subject, str(model.get("block", "")), str(model.get("depth", "")), result
