"""Files and names from strangers; SECURITY.md promises what is tested here.

What Keras' own classes do with a hostile file is the responsibility of Keras' safe mode.
"""

import ast
import configparser
import json
import os
import subprocess
import sys
import zipfile
from html.parser import HTMLParser
from pathlib import Path

import keras
import pandas as pd
import pytest
from finished_runs import make_run
from hostile_configs import LAMBDA, registered

import keras_deeplstm
from keras_deeplstm.callbacks import GradientFlow, gradient_plots, plot_filters
from keras_deeplstm.experiments import cli, runs
from keras_deeplstm.experiments.reports import drawing
from keras_deeplstm.experiments.reports.page import write_report
from keras_deeplstm.experiments.runs import files, folder
from keras_deeplstm.experiments.settings.base import ConfigError
from keras_deeplstm.experiments.settings.classifiers import ModelConfig, RunConfig
from keras_deeplstm.experiments.settings.sequences import SequenceConfig
from keras_deeplstm.experiments.settings.text import TextConfig
from keras_deeplstm.experiments.tasks import tables
from keras_deeplstm.experiments.tasks.each_step import ExactMatchAtLastStep, FirstSteps

ROOT = Path(__file__).parents[1]
SCRIPT = "<script>alert(1)</script>"
PATHS = ("../x", "..", "a/b", "a\\b", "/x", ".x", "a.", "", "con", "NUL.txt", "a" * 300, "-x")
TEXTS = (SCRIPT, "$x_{", "$\\frac$", "a\0b", "a\nb", "\x1b[31mred", "\u202egpj", "{{ 7 * 7 }}")
FORMULAS = ("=1+1", "+1", "-1", "@x", "\tx", "\rx")
NAMES = (*PATHS, *TEXTS, *FORMULAS)


# Versions.


def test_the_oldest_versions():
    """The package requires versions that have no known holes."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    required = setup["options"]["install_requires"].splitlines()
    assert {"keras >= 3.15.1", "filelock >= 3.20.1"} <= set(required)


# Configurations.


# What is put into files, and how many these are: six layers have units, three others go round
# `layers` (that may be in a list), a function, `depth` and `seed`; the last has a `length`. Of 14
# payloads there is one more for sizes.
IN_FILES = ("activation", "kernel_initializer", "bias_regularizer", "units", "depth", "seed")
OURS = 6 * (len(IN_FILES) * 14 + 3)


@pytest.mark.parametrize(
    "arguments, fewest, loaded",
    [
        (["activation", "units", "layers"], 272, 7 * 14 + 6 * 15 + 3 * 28),
        pytest.param([], 3200, OURS + 3 * (4 * 14 + 2) + 3 * 14 + 15, marks=pytest.mark.long),
    ],
    ids=["some", "all"],
)
def test_hostile_configs_are_refused_and_run_nothing(tmp_path, arguments, fewest, loaded):
    done = subprocess.run(
        [sys.executable, ROOT / "tests" / "hostile_configs.py", tmp_path, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        check=True,
    )
    found = json.loads(done.stdout)
    assert found["accepted"] == []
    assert found["done"] == []
    assert found["control"] == 3  # what the process would have done would have been seen
    assert found["policy"] == "float32"
    assert found["refused"]["from_config"] >= fewest
    assert found["refused"]["load_model"] == loaded


def test_only_layers_and_initializers_are_registered():
    """And a loss and a metric, by the module of the tasks that have them."""
    prefix = "keras_deeplstm>"
    names = {name for name in keras.saving.get_custom_objects() if name.startswith(prefix)}
    of_tasks = {f"{prefix}{one.__name__}" for one in (FirstSteps, ExactMatchAtLastStep)}
    assert names == {prefix + name for name in registered(keras)} | of_tasks
    for name in names - of_tasks:
        one = keras.saving.get_registered_object(name)
        assert issubclass(one, keras.layers.Layer | keras.initializers.Initializer)


def test_configs_are_plain():
    """A config is JSON, and an object can be made of it again."""
    for one in registered(keras).values():
        config = json.loads(json.dumps(one.get_config(), allow_nan=False))
        assert type(one).from_config(config).get_config().keys() == config.keys()


BANNED = {
    *("pickle", "cPickle", "dill", "joblib", "marshal", "shelve", "yaml", "eval", "exec"),
    *("enable_unsafe_deserialization", "extractall", "__import__", "Lambda", "system", "popen"),
}


def _package():
    folders = [ROOT / "keras_deeplstm", ROOT / "callbacks", ROOT / "experiments"]
    return sorted({path.resolve() for folder in folders for path in folder.rglob("*.py")})


def test_nothing_in_the_package_runs_what_a_file_says():
    sources = _package()
    assert len(sources) > 80
    found = []
    for path in sources:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Name | ast.Attribute):
                names = [node.id if isinstance(node, ast.Name) else node.attr]
                names += ["unsafe"] if ast.unparse(node) == "torch.load" else []
            elif isinstance(node, ast.Import | ast.ImportFrom):
                names = [alias.name for alias in node.names] + [getattr(node, "module", None)]
            elif isinstance(node, ast.keyword) and isinstance(node.value, ast.Constant):
                unsafe = ("safe_mode", False), ("shell", True), ("allow_pickle", True)
                names = ["unsafe"] if (node.arg, node.value.value) in unsafe else []
            found += [(path.name, name) for name in names if name in {*BANNED, "unsafe"}]
    # `deeplstm FILE.py` runs the file that the user names in the command, as `python FILE.py` does.
    assert found == [("startup.py", "exec")]


def test_only_the_names_of_this_package_are_imported_by_name():
    users = [path for path in _package() if "import_module" in path.read_text(encoding="utf-8")]
    assert [str(path.relative_to(ROOT)) for path in users] == [
        *("experiments/moved.py", "keras_deeplstm/__init__.py")
    ]
    with pytest.raises(AttributeError, match="has no attribute 'os'"):
        _ = keras_deeplstm.os


def test_a_hostile_model_of_a_text_run_is_refused(tmp_path, capsys):
    config = TextConfig()
    runs.begin(tmp_path / "a", config)
    known = {"symbols": "ab", "opening": "a"}
    files.write_json(tmp_path / "a" / "vocabulary.json", known)
    layer = {"module": "keras.layers", "class_name": "Lambda", "config": {"function": LAMBDA}}
    with zipfile.ZipFile(tmp_path / "a" / "best.keras", "w") as file:
        file.writestr("config.json", json.dumps({**layer, "registered_name": None}))
        file.writestr("metadata.json", "{}")
        file.writestr("model.weights.h5", b"")
    assert cli.main(["sample", str(tmp_path / "a")]) == 4
    error = capsys.readouterr().err
    assert "best.keras' is damaged, or not of this run: 'Requested the deserialization of" in error
    assert "Traceback" not in error
    assert len(error) <= 300


# Folders of runs.


@pytest.mark.parametrize("asked", ["", "?target=b", "?kind=regression", "?targt=b"])
def test_a_config_makes_nobody_read_a_table(tmp_path, monkeypatch, asked):
    (tmp_path / "data.csv").write_text("a,b\n1,2\n")
    (tmp_path / "bad").mkdir()
    config = {"task": f"{tmp_path / 'data.csv'}{asked}"}
    (tmp_path / "bad" / "config.json").write_text(json.dumps(config))
    runs.begin(tmp_path / "good", RunConfig("digits"))
    monkeypatch.setattr(tables, "_read", lambda path: pytest.fail(path))
    states = {run.name: (run.state, run.config is None) for run in runs.find(tmp_path)}
    assert states == {"bad": ("damaged", True), "good": ("created", False)}


def test_a_link_in_a_run_is_not_followed(tmp_path):
    """A link in a run is neither read nor written through."""
    secret = tmp_path / "secret"
    secret.write_bytes(b"what the reader of a report would not send on")
    for number, name in enumerate(("metrics.csv", "filters/epoch_0002.png", "checkpoints"), 1):
        make_run(tmp_path / "runs" / str(number), ModelConfig("dense", depth=3), seed=number)
        path = tmp_path / "runs" / str(number) / name
        path.unlink(missing_ok=True)
        path.symlink_to(secret)
        run = runs.load(path.parents[len(Path(name).parts) - 1])
        reason = f"config.json: the run holds a symbolic link, '{Path(name).name}'"
        assert (run.state, run.reason) == ("damaged", reason)
        with pytest.raises(runs.RunExistsError, match="exists and is not a run"):
            runs.begin(run.folder, RunConfig("digits"), overwrite=True)
    assert secret.read_bytes().startswith(b"what")


def test_a_link_to_a_run_is_not_found(tmp_path):
    make_run(tmp_path / "elsewhere", ModelConfig("dense", depth=3))
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "a").symlink_to(tmp_path / "elsewhere")
    assert runs.find(tmp_path / "runs") == []


def test_a_link_in_place_of_a_lock_is_not_followed(tmp_path):
    (tmp_path / "secret").write_text("what a lock would empty")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / runs.LOCK).symlink_to(tmp_path / "secret")
    assert not runs.is_locked(tmp_path / "a")
    with pytest.raises(OSError, match="Cannot write to folder"), runs.lock(tmp_path / "a"):
        pass
    assert (tmp_path / "secret").read_text() == "what a lock would empty"


REPORT = """
import os, sys
warm, folder = sys.argv[1:]
sys.argv = ["deeplstm"]  # Keras can wait
from keras_deeplstm.experiments import cli
watching, seen = False, []
FORBIDDEN = ("socket.", "subprocess.", "os.system", "os.exec", "os.posix_spawn", "os.fork")
def watch(event, arguments):
    if watching and event == "open" and isinstance(arguments[2], int):
        writes = arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        # A descriptor has been opened before, when it had a name.
        if writes and not isinstance(arguments[0], int):
            seen.append(os.path.abspath(os.fsdecode(arguments[0])))
    elif watching and event.startswith(FORBIDDEN):
        seen.append(event)
sys.addaudithook(watch)
assert cli.main(["report", warm]) == 0  # fonts and modules
watching = True
assert cli.main(["report", folder]) == 0
assert cli.main(["list", "--runs-dir", folder]) == 0
watching = False
print("WRITTEN", *seen, sep="\\n")
"""


@pytest.mark.long
def test_a_report_writes_only_into_its_folder_and_opens_no_connection(tmp_path):
    """And what the terminal cannot show of a name is escaped."""
    for place in ("warm", "runs"):
        make_run(tmp_path / place / "a 字é", ModelConfig("dense", depth=3, units=4))
    done = subprocess.run(
        [sys.executable, "-c", REPORT, tmp_path / "warm", tmp_path / "runs"],
        capture_output=True,
        text=True,
        env=os.environ
        | {
            "PYTHONPATH": str(ROOT),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONIOENCODING": "ascii",
        },
        check=True,
    )
    said, marked, written = done.stdout.partition("WRITTEN\n")
    written = written.splitlines()
    assert marked and done.stderr == ""
    assert "a \\u5b57\\xe9  finished" in said
    inside = str(tmp_path / "runs") + os.sep
    assert [path for path in written if not path.startswith((inside, os.devnull))] == []
    names = {Path(path).name.split(".")[1] for path in written if path != os.devnull}
    assert {"report", "table", "summary"} <= names


# Names.


@pytest.mark.parametrize(
    "name", [n for n in NAMES if n != "{{ 7 * 7 }}"] + ["{{ 7 * 7 }}"], ids=ascii
)
def test_hostile_names_of_runs_are_refused(name):
    with pytest.raises(ConfigError) as error:
        runs.check_name(name)
    assert str(error.value).startswith("Invalid run name ")
    assert str(error.value).isprintable()
    assert len(str(error.value)) <= 300


# No file can have the name of a device where that name matters.
@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("con", "NUL.txt")], ids=ascii)
def test_names_of_data_and_texts_become_no_path(name):
    """What is made of them for the name of a run is a valid name."""
    assert folder.NAME.fullmatch(f"{RunConfig(f'./{name}.npz').slug[:95]}-1")
    if "\0" in name or not name:
        with pytest.raises(ConfigError, match="`text` must be the name of a file or a text"):
            TextConfig(name)
    else:
        assert folder.NAME.fullmatch(f"{TextConfig(name).slug[:95]}-1")


def test_names_of_series_become_no_path():
    for name in NAMES:
        try:
            config = SequenceConfig(f"series:data={name}")
        except ConfigError as error:
            assert str(error)
        else:
            assert folder.NAME.fullmatch(f"{config.slug[:95]}-1")


class _Page(HTMLParser):
    def __init__(self, path):
        super().__init__()
        self.tags, self.text = set(), ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)

    def handle_data(self, data):
        self.text += data


def test_hostile_names_in_a_report(tmp_path, capsys):
    """Hostile names are text in the page, in the tables and in the terminal."""
    on_disk = [name for name in (*TEXTS, *FORMULAS) if "\0" not in name and "/" not in name]
    on_disk.append("<img src=x onerror=alert(1)>")
    # Of one setting, so that the names of the folders are what tells them apart: in legends, too.
    model = ModelConfig("dense", depth=3, units=4)
    for name in on_disk:
        make_run(tmp_path / name, model)
    activation = ModelConfig("dense", depth=3, units=4, activation=SCRIPT + "$x_{$")
    make_run(tmp_path / "activation", activation)
    command = {**runs.load(tmp_path / "activation").environment, "command": SCRIPT}
    files.write_json(tmp_path / "activation" / "environment.json", command)
    page = _Page(write_report([tmp_path]))
    assert not page.tags & {"script", "iframe"}
    assert SCRIPT in page.text  # the command
    assert "{{ 7 * 7 }}" in page.text

    for file in ("table.csv", "summary.csv"):
        table = pd.read_csv(tmp_path / file, dtype=str, keep_default_na=False)
        texts = set(table["run" if file == "table.csv" else "model"])
        assert {f"'{name}" for name in FORMULAS if name.isprintable()} <= texts
        assert not [text for text in texts if text.startswith(tuple("=+-@\t\r"))]

    assert cli.main(["list", "--runs-dir", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.split("\n")
    assert len(lines) == 2 + len(on_disk) + 1  # a line for each run, whatever its name
    assert all(line.isprintable() for line in lines)
    assert any(line.startswith("\\x1b[31mred  ") for line in lines)


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_hostile_names_can_be_drawn(name):
    figure, ax = drawing.new_figure(name, "x", "y")
    ax.plot([1, 2], [1, 2], label=name or "empty")
    assert drawing.picture(figure, name).data.startswith("iVBOR")  # PNG


def test_hostile_names_of_layers_are_drawn_as_text():
    inputs = keras.Input((4,))
    layer = keras.layers.Dense(2, name="$x_{$")
    figure = plot_filters(keras.Model(inputs, layer(inputs)), (2, 2))
    figure.canvas.draw()
    steps = [("$x_{$", step) for step in (1, 2)] + [("b", step) for step in (1, 2)]
    rows = [(1, name, "recurrent_kernel", step, "norm", 1.0) for name, step in steps]
    columns = GradientFlow().to_frame().columns
    ax = gradient_plots.plot_ratio(pd.DataFrame(rows, columns=columns))
    ax.figure.canvas.draw()
    assert [text.get_text() for text in ax.get_legend().get_texts()][:2] == [r"\$x_{\$", "b"]


def test_control_characters_reach_no_terminal(capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    cli._print_text("a\x1b[31m\x07b\n\tc")
    assert capsys.readouterr().out == "a\\x1b[31m\\x07b\n\tc"
    assert cli.main(["report", "a\x1b[31m"]) == 2
    error = capsys.readouterr().err
    assert error == "deeplstm: error: 'a\\x1b[31m' holds no keras_deeplstm runs\n"
