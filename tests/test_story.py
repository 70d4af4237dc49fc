"""The story of one run: which files tell it, from the typed line to the result."""

import pathlib
import sys

import pytest

from keras_deeplstm.experiments import main, moved, runs

ROOT = pathlib.Path(moved.__file__).resolve().parent  # of experiments
# In the order in which they tell it; CONTRIBUTING.md says what each one does.
STORY = (
    "cli.py",
    "commands.py",
    "settings/classifiers.py",
    "settings/base.py",
    "tasks/__init__.py",
    "tasks/digits.py",
    "training/__init__.py",
    "training/session.py",
    "training/classifiers.py",
    "runs/folder.py",
)
# Each does one thing that its name says, and decides nothing about the run.
HELPERS = (
    "moved.py",  # is asked by each import
    "words.py",
    "bars.py",
    "processes/signals.py",
    "processes/startup.py",
    "processes/worker.py",  # only asks whether this is a worker
    "runs/checkpoints.py",
    "runs/environment.py",
    "runs/files.py",
    "runs/locks.py",
    "runs/reading.py",  # reads a folder back
    "settings/__init__.py",  # which kind a config.json is of
    "settings/blocks.py",
    "tasks/measures.py",
    "tasks/task.py",
    "tasks/tables.py",  # only asks whether the name is that of a table
    "training/devices.py",
    "training/journal.py",
    "training/predictions.py",
    "training/recorders.py",
)


@pytest.fixture(name="called")
def _called(tmp_path, monkeypatch, eager):
    """The files of experiments of which functions are called by a run, until its result stands."""
    monkeypatch.chdir(tmp_path)
    called, result = set(), tmp_path / "runs" / "a" / "result.json"
    known = {}  # names of files, so that a call costs little

    def trace(frame, event, argument):
        if frame.f_code.co_name == "<module>":
            return
        name = frame.f_code.co_filename
        if name not in known:
            path = pathlib.Path(name).resolve()
            inside = path.is_relative_to(ROOT)
            known[name] = path.relative_to(ROOT).as_posix() if inside else None
        file = known[name]
        if file is not None and file not in called:
            if result.exists():
                sys.settrace(None)
            else:
                called.add(file)

    from keras_deeplstm.experiments import training  # noqa: F401  its import is no part of it

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        options = ["--model.depth", "2", "--model.units", "1", "--epochs", "1"]
        options += ["--batch-size", "500", "--name", "a"]
        assert main(["run", "digits", *options]) == 0
    finally:
        sys.settrace(before)
    assert runs.load(tmp_path / "runs" / "a").state == "finished"
    return called


def test_ten_files_tell_the_story_of_a_run(called):
    assert len(STORY) == 10
    assert set(STORY) <= called
    assert called <= {*STORY, *HELPERS}
    assert not {file for file in called if file.startswith(("search/", "studies/"))}


def test_the_page_for_newcomers_names_them():
    text = (ROOT.parent / "CONTRIBUTING.md").read_text("utf-8")
    story = text.partition("## The story of a run")[2].partition("\n## ")[0]
    places = [story.index(f"`{file}`") for file in STORY]
    assert places == sorted(places)


@pytest.mark.parametrize(
    ("old", "new", "name"),
    [
        ("config", "settings", "RunConfig"),
        ("sequences", "tasks.sequences", "parse"),
        ("sequences.adding", "tasks.sequences.adding", "Adding"),
        ("sequences.config", "settings.sequences", "SequenceConfig"),
        ("summary", "runs.groups", "group_runs"),
    ],
)
def test_import_paths_of_version_0_1(old, new, name):
    import importlib
    import warnings

    package = "keras_deeplstm.experiments"
    with warnings.catch_warnings(action="ignore"):
        importlib.import_module(f"{package}.{old}".rpartition(".")[0])
    sys.modules.pop(f"{package}.{old}", None)
    message = f"{package}.{old} has moved to {package}.{new}"
    with pytest.warns(DeprecationWarning, match=message.replace(".", r"\.")) as warned:
        module = importlib.import_module(f"{package}.{old}")
    there = importlib.import_module(f"{package}.{new}")
    assert getattr(module, name) is getattr(there, name)
    assert there.__name__ == f"{package}.{new}" == there.__spec__.name
    assert len(warned) == 1


def test_what_has_not_moved_is_not_found_twice():
    with pytest.raises(ModuleNotFoundError):
        __import__("keras_deeplstm.experiments.nothing")
