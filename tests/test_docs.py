"""README and docs/ are true: commands parse; options, defaults, files and links are there."""

import ast
import contextlib
import functools
import inspect
import io
import pathlib
import re
import shlex

import pytest

from keras_deeplstm import callbacks, layers
from keras_deeplstm.experiments import commands
from keras_deeplstm.experiments.studies import STUDIES
from keras_deeplstm.experiments.tasks.sequences import TASKS as SEQUENCE_TASKS

ROOT = pathlib.Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
RESULTS = sorted((ROOT / "docs/results").glob("*.md"))
API = sorted((ROOT / "docs/api").glob("*.md"))
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
# `deeplstm`, also with variables before it, and docs/own-task.md's script, which calls its `main`.
CALL = re.compile(r"^(?:\w+=\S+ )*(?:deeplstm|python (?:-m keras_deeplstm|parity\.py)) (.*)$")
OPTION = re.compile(r"(?<![\w-])--[a-z][\w.-]*\w")
# The command that the tables of options of a page are of.
OF_COMMAND = {"experiments": "run", "search": "search", "sequences": "solve", "text": "train-text"}


def every(pages):
    return pytest.mark.parametrize("page", pages, ids=lambda page: page.stem)


def read(page):
    return page.read_text("utf-8")


def prose(page):
    """A page without its fenced blocks."""
    return FENCED.sub("", read(page))


def typed(page):
    """All lines that one could type: those of blocks, and what stands in backticks."""
    text = re.sub(r"\\\n\s*", "", read(page))
    lines = [line[4:] for line in text.splitlines() if line.startswith("    ")]
    lines += [line for _, block in FENCED.findall(text) for line in block.splitlines()]
    lines += re.findall(r"`([^`\n]+)`", FENCED.sub("", text))
    return list(dict.fromkeys(line.strip() for line in lines))


def calls(page):
    """The arguments of all calls of `deeplstm`, or `deeplstm FILE.py`, on a page."""
    found = (CALL.match(line) for line in typed(page))
    lines = [shlex.split(match[1], comments=True) for match in found if match]
    return [line[1:] if line[:1] and line[0].endswith(".py") else line for line in lines]


def tables(page):
    """All tables: (heading above it, [{column: cell}, ...])."""
    heading, rows = "", []
    for line in [*prose(page).splitlines(), ""]:
        if line.startswith("#"):
            heading = line.lstrip("# ")
        if line.startswith("|"):
            rows.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
        elif rows:
            yield heading, [dict(zip(rows[0], row, strict=True)) for row in rows[2:]]
            rows = []


@functools.cache
def help_of(command):
    text = io.StringIO()
    with contextlib.redirect_stdout(text), pytest.raises(SystemExit) as ended:
        commands.parse([*([command] if command else []), "--help"])
    assert ended.value.code == 0
    # tyro draws boxes and breaks lines.
    return re.sub(r"[\s│]+", " ", re.sub(r"\x1b\[[\d;]*m", "", text.getvalue()))


@functools.cache
def options_of(command):
    return set(OPTION.findall(help_of(command)))


# Commands


@pytest.fixture
def own_task():
    """The script of docs/own-task.md has registered its task and its study."""
    block = FENCED.search(read(ROOT / "docs/own-task.md"))[2]
    exec(block, {"__name__": "own_task"})


@every([page for page in PAGES if calls(page)])
def test_commands_parse(page, capsys, request, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prices.csv").write_text("size,price\n1,2.5\n2,3.5\n")  # of which the pages speak
    if page.stem == "own-task":
        request.getfixturevalue("own_task")
    wrong = []
    for arguments in calls(page):
        if arguments[0] in commands.COMMANDS and len(arguments) == 1:
            continue  # the name of a command
        try:
            command = commands.parse(arguments)
        except SystemExit as ended:
            if ended.code:
                wrong.append((arguments, capsys.readouterr().err))
        else:
            assert not isinstance(command, commands.StudyCommand) or command.name in STUDIES
    assert not wrong


def test_help_breaks_lines_where_the_terminal_ends():
    """And not where a docstring does."""
    for command in ("study", "run"):
        text = io.StringIO()
        with contextlib.redirect_stdout(text), pytest.raises(SystemExit):
            commands.parse([command, "--help"])
        lines = [re.sub(r"\x1b\[[\d;]*m", "", line) for line in text.getvalue().splitlines()]
        assert any("environment variable DEEPLSTM_DATA" in line for line in lines)


@pytest.mark.long
def test_the_first_example_runs_as_it_stands(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (code,) = [block for language, block in FENCED.findall(read(ROOT / "README.md")) if language]
    exec(code, {})
    assert "The gradient arrives" in capsys.readouterr().out
    assert (tmp_path / "gradients.png").stat().st_size > 10_000


def test_commands_are_found():
    found = calls(ROOT / "README.md")
    assert ["study", "depth", "--dataset", "digits", "--seeds", "3"] in found
    assert ["list", "studies"] in found  # the comment behind it has gone
    found = calls(ROOT / "docs/sequences.md")
    parity = next(arguments for arguments in found if "parity:bits=16,curriculum=true" in arguments)
    assert parity[-2:] == ["--jit-compile", "True"]  # from the third line


@every([page for page in PAGES if OPTION.search(prose(page))])
def test_options_exist(page):
    known = {"--debug", "--version", "--help"}.union(*map(options_of, commands.COMMANDS))
    wrong = []
    for line in typed(page):
        if script := re.match(r"python ((?:benchmarks|docs|notebooks)/\S+\.py)", line):
            known_here = set(OPTION.findall((ROOT / script[1]).read_text("utf-8")))
        else:
            known_here = known
        wrong += [(line, option) for option in OPTION.findall(line) if option not in known_here]
    assert not wrong


@every([page for page in PAGES if page.stem in OF_COMMAND])
def test_tables_of_options(page):
    text, known = help_of(OF_COMMAND[page.stem]), options_of(OF_COMMAND[page.stem])
    count = 0
    for _, rows in tables(page):
        if "option" not in rows[0]:
            continue
        for row in rows:
            found = OPTION.findall(row["option"])
            assert found and set(found) <= known
            count += 1
            if default := row.get("default", "").strip("`"):
                said, stated = re.search(rf" {found[0]} (.*?) \(default: (.*?)\)", text).groups()
                assert stated == default or (stated == "None" and f"{default} if" in said), row
    assert count > 4


def test_sequence_tasks_are_listed():
    page = ROOT / "docs/sequences.md"
    listed = [rows for _, rows in tables(page) if "task" in rows[0]]
    assert [row["task"].strip("`") for row in listed[0]] == list(SEQUENCE_TASKS)


def test_studies_are_listed():
    pages = [ROOT / "docs" / f"{name}.md" for name in ("experiments", "sequences", "text")]
    listed = {
        name
        for page in pages
        for _, rows in tables(page)
        for row in rows
        for name in re.findall(r"`([\w-]+)`", row.get("study", ""))
    }
    assert listed <= set(STUDIES)
    typed_there = {
        arguments[1] for page in pages for arguments in calls(page) if len(arguments) > 1
    }
    assert set(STUDIES) - listed - typed_there == {"unfolded-mnist-2", "unfolded-mnist-3"}  # 1 to 4


# Arguments


@every([ROOT / "docs/callbacks.md", ROOT / "docs/layers.md"])
def test_defaults_of_arguments(page):
    count = 0
    for heading, rows in tables(page):
        if "default" not in rows[0]:
            continue
        names = heading.split(", ")
        signatures = [
            inspect.signature(getattr(layers, name, None) or getattr(callbacks, name)).parameters
            for name in names
        ]
        for row in rows:
            for option in re.findall(r"`(\w+)`", row["option"]):
                found = [parameters[option] for parameters in signatures if option in parameters]
                assert found, (heading, option)
                stated = row["default"].strip("`")
                expected = ast.literal_eval(stated) if stated else inspect.Parameter.empty
                assert {parameter.default for parameter in found} == {expected}, (heading, option)
                count += 1
    assert count > 15


# Files and links


def anchors(page):
    """Those that GitHub and MkDocs make of headings."""
    return {
        re.sub(r"[^\w\- ]", "", heading.lower().strip()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    }


@every([*PAGES, *RESULTS, *API])
def test_links(page):
    wrong = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"\w+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            wrong.append(target)
    assert not wrong


@every(PAGES)
def test_files_exist(page):
    """Names of files, with their folder, in backticks or behind `python`."""
    folders = [path.name for path in ROOT.iterdir() if path.is_dir()]
    name = rf"(?<![\w/.])((?:{'|'.join(folders)})/[\w./-]+\.(?:py|md|csv))\b"
    # Written with the placeholder NAME, or by the command beside it.
    found = [path for path in re.findall(name, read(page)) if not path.startswith("runs/")]
    assert [path for path in found if not (ROOT / path).exists() and "NAME" not in path] == []


# Python


@every([page for page in PAGES if "```python" in read(page)])
def test_python_compiles(page):
    blocks = [block for language, block in FENCED.findall(read(page)) if language == "python"]
    for block in blocks:
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module.startswith("keras_deeplstm"):
                module = __import__(node.module, fromlist=[name.name for name in node.names])
                assert all(hasattr(module, name.name) for name in node.names), ast.unparse(node)
