"""The import contract holds, and finds what breaks it."""

import configparser
import pathlib
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent
UPWARD = "def broken():\n    from keras_deeplstm.experiments import cli  # noqa: F401\n"
CIRCLE = "from keras_deeplstm.experiments.reports import page  # noqa: E402, F401\n"
ABOVE = "from keras_deeplstm.callbacks import verdict  # noqa: E402, F401\n"


def lint(folder):
    """Exit status and text of import-linter, for the package in a folder."""
    command = "from importlinter.cli import lint_imports_command as lint; lint()"
    arguments = [sys.executable, "-c", command, "--no-cache", "--config", ROOT / "pyproject.toml"]
    found = subprocess.run(arguments, cwd=folder, capture_output=True, text=True)
    return found.returncode, found.stdout + found.stderr


@pytest.mark.parametrize(
    ("file", "line", "contract"),
    [
        (None, "", None),
        ("experiments/tasks/task.py", UPWARD, "The storeys of experiments"),
        ("layers/scan.py", ABOVE, "The package"),
        ("experiments/reports/findings.py", CIRCLE, "No two files"),
    ],
    ids=["as it is", "upward within a function", "a layer knows a callback", "a circle"],
)
def test_the_contract(file, line, contract, tmp_path):
    if file is None:
        assert lint(ROOT)[0] == 0
        return
    shutil.copytree(ROOT / "keras_deeplstm", tmp_path / "keras_deeplstm")  # through its two links
    path = tmp_path / "keras_deeplstm" / file
    path.write_text(path.read_text("utf-8") + "\n\n" + line, "utf-8")
    status, text = lint(tmp_path)
    assert status == 1
    assert [row for row in text.splitlines() if row.startswith(contract) and "BROKEN" in row]


def test_every_folder_of_the_package_is_installed():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    found = {
        ".".join(("keras_deeplstm", *path.parent.relative_to(folder).parts))
        for folder, inside in (
            (ROOT / "keras_deeplstm", "keras_deeplstm"),
            (ROOT, "callbacks"),
            (ROOT, "experiments"),
        )
        for path in (ROOT / inside).rglob("__init__.py")
    }
    assert set(setup["options"]["packages"].split()) == found
