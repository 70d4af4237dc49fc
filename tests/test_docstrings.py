"""The examples of the docstrings run, and public names say what they take and give."""

import ast
import dataclasses
import doctest
import importlib
import inspect
import itertools
import os
import pathlib
import pkgutil
import re
import tempfile
import textwrap

import matplotlib.pyplot as plt
import pytest

from keras_deeplstm.experiments.tasks.sequences import TASKS as SEQUENCE_TASKS

ROOT = pathlib.Path(__file__).parent.parent
EXPORTING = (
    "layers",
    "callbacks",
    "diagnostics",
    "experiments",
    "experiments.studies",
    "experiments.tasks",
    "experiments.tasks.sequences",
)
# Those of the examples that are worth running on every backend; the others have no tensors.
ON_BACKENDS = ("layers", "callbacks", "diagnostics", "initializers", "models", "states", "text")
DEFINITIONS = (ast.Module, ast.ClassDef, ast.FunctionDef)


def _examples():
    """All docstrings with examples: (name of the object, docstring, file, line)."""
    found = []
    for folder, _, files in os.walk(ROOT / "keras_deeplstm", followlinks=True):
        for path in sorted(pathlib.Path(folder, file) for file in files if file.endswith(".py")):
            words = path.relative_to(ROOT).with_suffix("").parts
            name = ".".join(words[:-1] if words[-1] == "__init__" else words)
            _search(ast.parse(path.read_text("utf-8")), name, path, found)
    return sorted(found, key=lambda example: example[0])


def _search(node, name, path, found):
    docstring = ast.get_docstring(node)
    if docstring and ">>>" in docstring:
        found.append((name, docstring, path, node.body[0].lineno))
    for inner in node.body:
        if isinstance(inner, DEFINITIONS):
            _search(inner, f"{name}.{inner.name}", path, found)


def _as_parameters(examples):
    for name, *others in examples:
        _, part, *_ = [*name.split("."), ""]
        marks = [pytest.mark.backends] if part in ON_BACKENDS else []
        yield pytest.param(name, *others, id=name.removeprefix("keras_deeplstm."), marks=marks)


@pytest.mark.filterwarnings("ignore:Training diverged")  # shown by an example of the guard
@pytest.mark.parametrize(("name", "docstring", "path", "line"), _as_parameters(_examples()))
def test_an_example_runs(name, docstring, path, line, tmp_path, monkeypatch):
    # What an example writes goes with the test.
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    # Nothing is given to it: whoever copies an example gets its imports, too.
    example = doctest.DocTestParser().get_doctest(docstring, {}, name, str(path), line)
    report = []
    try:
        doctest.DocTestRunner(verbose=False).run(example, out=report.append)
    finally:
        plt.close("all")
    assert example.examples
    if report:
        pytest.fail("".join(report), pytrace=False)


def test_no_example_is_skipped():
    assert not [name for name, docstring, *_ in _examples() if "+SKIP" in docstring]


def _public():
    """Names on the pages of the reference, in `__all__` and of tasks -> the methods shown."""
    names = {}
    for page in sorted((ROOT / "docs/api").glob("*.md")):
        for name, options in re.findall(
            r"^::: (\S+)\n((?:    .*\n)*)", page.read_text("utf-8") + "\n", re.M
        ):
            members = re.search(r"members: (.*)", options)
            names[name] = None if members is None else re.findall(r"\w+", members[1])
    shown = {pkgutil.resolve_name(name) for name in names if "[" not in name}
    for package in EXPORTING:
        module = importlib.import_module(f"keras_deeplstm.{package}")
        for name in module.__all__:
            item = getattr(module, name)
            error = isinstance(item, type) and issubclass(item, Exception)
            if callable(item) and item not in shown and not error:
                names[f"{module.__name__}.{name}"] = []
    names |= {f"{task.__module__}.{task.__name__}": [] for task in SEQUENCE_TASKS.values()}
    return names


@pytest.mark.parametrize(("name", "members"), _public().items())
def test_a_public_name_is_explained(name, members):
    item = pkgutil.resolve_name(name)
    if inspect.ismodule(item):
        own = [k for k, v in vars(item).items() if getattr(v, "__module__", None) == item.__name__]
        names = [key for key in getattr(item, "__all__", own) if not key.startswith("_")]
        parts = {key: getattr(item, key) for key in names if callable(getattr(item, key))}
        assert parts and item.__doc__
    else:
        parts = {name: item}
    wrong = []
    for key, part in parts.items():
        wrong += [f"{key}: {what}" for what in _missing(part)]
        wrong += [] if ">>> " in _text(part) else [f"{key}: no example"]
        for method in _methods(part, members):
            wrong += [f"{key}.{method}: {what}" for what in _missing(getattr(part, method))]
    assert not wrong, "; ".join(wrong)


def _methods(item, members):
    """Names of the methods of a class that a page shows: its own, or those that the page names."""
    if not isinstance(item, type):
        return []
    fields = inspect.get_annotations(item)
    return [
        name
        for name, value in vars(item).items()
        if (not name.startswith("_") if members is None else name in members)
        and name not in fields
        and (inspect.isfunction(value) or isinstance(value, classmethod | staticmethod))
    ]


def _missing(item):
    """What the docstring of a class or a function does not say."""
    text, own = _text(item), vars(item).get("__doc__") if isinstance(item, type) else item.__doc__
    if not own:
        return ["no docstring"]
    told = _names(text, "Args")
    if dataclasses.is_dataclass(item) or hasattr(item, "_fields"):
        told |= _explained_fields(item)
    wanted = [key for key in inspect.signature(item).parameters if key not in ("self", "cls")]
    missing = [f"nothing on {key}" for key in wanted if key not in told]
    if not isinstance(item, type) and not text.startswith("Return") and _returns_something(item):
        missing += [] if re.search("^Returns:$", text, re.M) else ["no `Returns:`"]
    return missing


def _text(item):
    return inspect.getdoc(item) or ""


def _names(text, section):
    """The names that a section explains; some share a line."""
    found = re.search(rf"^{section}:\n((?:    .*\n?|\n)+)", text, re.M)
    lines = re.findall(r"^    (\S[^:]*):", found[1], re.M) if found else []
    return {name.strip(" *") for line in lines for name in line.split(",")}


def _explained_fields(item):
    """The fields of a dataclass or named tuple with a text below them."""
    body = ast.parse(textwrap.dedent(inspect.getsource(item))).body[0].body
    return {
        field.target.id
        for field, after in itertools.pairwise(body)
        if isinstance(field, ast.AnnAssign) and isinstance(after, ast.Expr)
    }


def _returns_something(function):
    source = textwrap.dedent(inspect.getsource(inspect.unwrap(function)))
    nodes = ast.walk(ast.parse(source))
    return any(isinstance(node, ast.Return) and node.value is not None for node in nodes)
