"""Tasks, metrics and blocks of a stranger's own: run, study, report, list, search, publish.

The file is one that registers them and calls `main`; without it the same folders are unknown.
"""

import json
import os
import pathlib
import re
import runpy
import subprocess
import sys

import keras
import numpy as np
import pandas as pd
import pytest

from keras_deeplstm.experiments import (
    Block,
    ModelConfig,
    RunConfig,
    Splits,
    Study,
    Task,
    grid,
    main,
    register,
    runs,
    settings,
)
from keras_deeplstm.experiments.settings import ConfigError, UnknownError
from keras_deeplstm.experiments.studies import STUDIES
from keras_deeplstm.experiments.tasks import TASKS
from keras_deeplstm.experiments.training import train

pytestmark = pytest.mark.usefixtures("any_memory")

ROOT = pathlib.Path(__file__).parent.parent


def load(data_dir=None):
    x = np.random.default_rng(0).normal(size=(200, 3)).astype("float32")
    y = np.stack([x.sum(axis=1), x[:, 0]], axis=1).astype("float32")
    return Splits((x[:140], y[:140]), (x[140:160], y[140:160]), (x[160:], y[160:]))


def test_a_model_of_images_needs_no_filters(tmp_path, eager):
    """One whose first layer has none, and one whose filters are too small to show anything."""

    def build(input_shape, outputs, filters):
        first = keras.layers.Conv2D(4, 3) if filters else keras.layers.GlobalAveragePooling2D()
        layers = [first, keras.layers.Flatten(), keras.layers.Dense(outputs)]
        return keras.Sequential([keras.Input(input_shape), *layers])

    register(Block("bare", build, options={"filters": True}))
    try:
        for filters in (True, False):
            model = ModelConfig("bare", options={"filters": filters})
            result = train(RunConfig("digits", model, epochs=1), tmp_path / f"{filters}")
            assert result["gabor_r2_end"] is None
            assert not (tmp_path / f"{filters}" / "filters").exists()
    finally:
        del settings.OWN_BLOCKS["bare"]


def test_a_file_is_a_command(tmp_path, monkeypatch, capsys):
    """`deeplstm FILE.py ...` runs the file as Python would, and says so in the record."""
    from keras_deeplstm.experiments.processes import startup

    code = "import sys\nfrom beside import main\nif __name__ == '__main__':\n"
    path = tmp_path / "mine.py"
    path.write_text(f"{code}    print(sys.argv[1:])\n    raise SystemExit(main())\n")
    (tmp_path / "beside.py").write_text("from keras_deeplstm.experiments import main\n")
    monkeypatch.setattr(sys, "argv", ["deeplstm", str(path), "list", "tasks"])
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "['list', 'tasks']" and lines[1].startswith("digits ")
    assert startup.program() == ["deeplstm", str(path)]
    assert main([str(tmp_path / "absent.py"), "list"]) == 2
    assert "There is no file" in capsys.readouterr().err
    path.write_text("prices = 1 / 0\n")
    with pytest.raises(ZeroDivisionError):  # with its traceback, as Python shows it
        main([str(path), "list"])


def one_number(data_dir=None):
    return Splits(*((x, y[:, 0]) for x, y in load()))


def two_classes(data_dir=None):
    return Splits(*((x, (y[:, 0] > 0).astype("int64")) for x, y in load()))


@keras.saving.register_keras_serializable("own_file")
class Largest(keras.metrics.Metric):
    """The largest absolute error."""

    def __init__(self, name="largest", **kwargs):
        super().__init__(name=name, **kwargs)
        self.largest = self.add_variable((), "zeros", name="largest")

    def update_state(self, y_true, y_pred, sample_weight=None):
        error = keras.ops.max(keras.ops.abs(keras.ops.reshape(y_true, (-1, 1)) - y_pred))
        self.largest.assign(keras.ops.maximum(self.largest, error))

    def result(self):
        return self.largest


MSE = {"loss": "mean_squared_error"}
CROSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
TOP = keras.metrics.SparseTopKCategoricalAccuracy(k=1, name="top1")
AUC = keras.metrics.AUC(from_logits=True, name="auc")
KINDS = {  # name: task, and whether the higher value is the better one
    "mae": (Task("t", "d", (3,), 1, one_number, **MSE, metric="mean_absolute_error"), False),
    "r2": (Task("t", "d", (3,), 2, load, **MSE, metric="r2_score", form=".3f"), True),
    "top": (Task("t", "d", (3,), 2, two_classes, loss=CROSS, metric=TOP), True),
    "auc": (
        Task(
            "t", "d", (3,), 1, two_classes, metric=AUC,
            loss=keras.losses.BinaryCrossentropy(from_logits=True),
        ),
        True,
    ),
    "own": (
        Task("t", "d", (3,), 1, one_number, **MSE, metric=Largest(), direction="min"),
        False,
    ),
}  # fmt: skip


def build(input_shape, outputs, depth, width, activation):
    inputs = x = keras.Input(input_shape)
    for _ in range(depth):
        x = keras.layers.Dense(width, activation)(x)
    return keras.Model(inputs, keras.layers.Dense(outputs)(x))


BLOCK = Block("wide", build, options={"depth": 2, "width": 8, "activation": "tanh"})


@pytest.fixture(autouse=True)
def _here(monkeypatch, tmp_path, eager, quick_pictures):
    register(BLOCK)
    monkeypatch.chdir(tmp_path)


def quick(task="t", model=None, **options):
    model = model or ModelConfig("dense", depth=2, units=4)
    return RunConfig(
        task, model, **{"epochs": 1, "batch_size": 70, "learning_rate": 0.01, **options}
    )


def study_of(task, configs):
    return Study("which", "Which is best?", (task.name,), lambda name: configs)


# The fast one: of numbers, where less is better.
@pytest.mark.parametrize(
    "kind", [k if k == "mae" else pytest.param(k, marks=pytest.mark.long) for k in KINDS]
)
def test_the_better_model_wins_whatever_the_metric(kind, capsys):
    task, higher = KINDS[kind]
    register(task)
    name = task.measure.name
    # One that learns, and one that cannot.
    configs = [quick(learning_rate=1e-6), quick(epochs=8, learning_rate=0.1)]
    register(study_of(task, configs))
    folder = pathlib.Path("runs/which-t")
    folder.mkdir(parents=True)
    names = list(STUDIES["which"].plan("t"))
    for one, config in zip(names, configs, strict=True):
        train(config, folder / one)
    files = {"study": "which", "command": "", "runs": names, "restarts": 0}
    (folder / "study.json").write_text(json.dumps(files))
    values = [runs.load(folder / one).result[f"test_{name}"] for one in names]
    assert (values[1] > values[0]) == higher  # else the test shows nothing
    assert main(["report", str(folder)]) == 0
    page = (folder / "report.html").read_text("utf-8")
    best = "highest" if higher else "lowest"
    words = name.replace("_", " ")
    answer = re.search(r"<p>(On t, .*)</p>", page)[1]
    assert answer.startswith(f"On t, the {best} test {words} is that of ")
    assert f"({task.measure.text(values[1])})" in answer and "epochs=8" in answer
    assert "accuracy" not in page.lower() or "accuracy" in name
    assert f">test {words}<" in page and f">validation {words}<" in page
    table = pd.read_csv(folder / "table.csv")
    assert table[f"test_{name}"].tolist() == pytest.approx(values)
    capsys.readouterr()
    assert main(["list"]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert sorted(row.split(words)[1].strip() for row in rows[1:]) == sorted(
        task.measure.text(value) for value in values
    )
    assert main(["publish", str(folder), "--tables", "tables", "--pages", "pages", "--yes"]) == 0
    assert answer in pathlib.Path("pages", f"{folder.name}.md").read_text("utf-8")
    assert f"test_{name}" in pd.read_csv("tables/which-t.csv").columns


def test_a_run_from_the_command(capsys):
    register(KINDS["mae"][0])
    arguments = ["run", "t", "--epochs", "2", "--model.depth", "2", "--model.units", "4"]
    assert main([*arguments, "--name", "a"]) == 0
    lines = capsys.readouterr().out.splitlines()
    result = runs.load(pathlib.Path("runs/a")).result
    assert re.match(r"epoch 2 of 2  loss \d\.\d+  val_mean_absolute_error \d\.\d+  ", lines[2])
    assert lines[3].startswith(
        f"test mean absolute error {result['test_mean_absolute_error']:.4g},"
    )
    assert "test_accuracy" not in result and "val_mean_absolute_error" in result


def test_a_block_from_the_command(capsys):
    register(KINDS["mae"][0])
    options = ["--model.block", "wide", "--model.options", "width=16", "--model.depth", "3"]
    assert main(["run", "t", *options, "--epochs", "1", "--name", "a"]) == 0
    assert "t: wide width=16, depth 3" in capsys.readouterr().out
    run = runs.load(pathlib.Path("runs/a"))
    assert run.result["options"] == {"width": 16, "activation": "tanh"}
    assert run.result["parameters"] == (3 + 1) * 16 + 2 * (16 + 1) * 16 + 17
    assert run.config == RunConfig.from_dict(run.config.to_dict())
    assert main(["run", "t", *options, "--epochs", "1", "--name", "a"]) == 0
    assert "already finished" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"block": "wdie"}, "Unknown block 'wdie'. Did you mean 'wide'?"),
        (
            {"block": "wide", "options": {"wdth": 3}},
            "no option 'wdth'. Did you mean 'width'?",
        ),
        ({"block": "wide", "options": {"width": "x"}}, "`model.options width` must be an integer"),
        ({"block": "wide", "options": {"width": 1.5}}, "`model.options width` must be an integer"),
        (
            {"block": "wide", "options": {"activation": 1}},
            "`model.options activation` must be a",
        ),
        ({"block": "wide", "units": 5}, "`model.units` has no meaning for block 'wide'"),
        ({"block": "dense", "options": {"width": 3}}, "`model.options` is for blocks of your own"),
    ],
)
def test_wrong_options_of_a_block(model, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        ModelConfig(**model)


def test_a_block_is_labelled_without_units_that_it_does_not_have():
    configs = [RunConfig("digits", model) for model in (ModelConfig(units=4), ModelConfig("wide"))]
    assert runs.groups.labels(configs) == ["UnfoldedLSTMBlock", "wide"]


def test_what_cannot_be_registered():
    with pytest.raises(ValueError, match="There is already a block called 'dense'"):
        register(Block("dense", build))
    with pytest.raises(ValueError, match="There is already a block called 'wide'"):
        register(Block("wide", build))
    with pytest.raises(ValueError, match="letters, digits"):
        Block("a b", build)
    with pytest.raises(ValueError, match="a default of type bool, int, float or str"):
        Block("x", build, options={"width": None})
    register(Block("flat", lambda shape, outputs: keras.Sequential([keras.Input(shape)])))
    register(KINDS["mae"][0])
    with pytest.raises(ConfigError, match=r"block 'flat' must have outputs of shape \(None, 1\)"):
        train(quick(model=ModelConfig("flat")), pathlib.Path("flat"))
    assert not pathlib.Path("flat").exists()


def test_the_depth_of_a_block():
    assert ModelConfig("wide").depth == 2
    assert ModelConfig("wide", depth=10).depth == 10
    assert ModelConfig("wide", options={"depth": 5}) == ModelConfig("wide", depth=5)
    register(KINDS["mae"][0])
    config = quick(model=ModelConfig("wide", depth=10))
    assert RunConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    depths = grid(config, {"model.depth": (1, 4), "model.options": ({"width": 3},)})
    assert [(c.model.depth, dict(c.model.options)["width"]) for c in depths] == [(1, 3), (4, 3)]


def test_a_search_over_options(capsys):
    register(KINDS["mae"][0])
    argv = ["search", "t", "--block", "wide", "--options", "width=4..16", "activation=relu,tanh"]
    argv += ["--trials", "2", "--epochs", "1", "--name", "s"]
    config = None
    from keras_deeplstm.experiments import commands

    config = commands.parse(argv).config
    assert config.searched == [
        "depth", "learning_rate", "batch_size", "options.width", "options.activation"
    ]  # fmt: skip
    assert config.objective == ("val_mean_absolute_error",)
    assert config.measures[0].direction == "min"
    from keras_deeplstm.experiments.search.tuner import search_in

    folder = pathlib.Path("runs/s")
    folder.mkdir(parents=True)
    search_in(config, folder, str(folder / "study.log"))
    found = [runs.load(path.parent) for path in folder.glob("trial_*/*/result.json")]
    assert len(found) == 2
    for run in found:
        assert run.state == "finished" and 4 <= run.config.model.options["width"] <= 16
        assert run.config.model.options["activation"] in ("relu", "tanh")


def test_unknown_is_not_damaged(capsys):
    register(KINDS["mae"][0])
    configs = [quick(), quick(model=ModelConfig("wide"))]
    register(study_of(TASKS["t"], configs))
    folder = pathlib.Path("runs/which-t")
    for name, config in STUDIES["which"].plan("t").items():
        train(config, folder / name, command="python here/own.py study which")
    names = list(STUDIES["which"].plan("t"))
    files = {"study": "which", "command": "python here/own.py study which", "runs": names}
    (folder / "study.json").write_text(json.dumps(files))
    assert main(["report", str(folder)]) == 0
    assert main(["publish", str(folder), "--tables", "tables", "--pages", "pages", "--yes"]) == 0
    before = {path: path.read_bytes() for path in pathlib.Path().rglob("*") if path.is_file()}

    for known in (TASKS, settings.OWN_BLOCKS, STUDIES):  # as for `deeplstm`
        known.pop("t", None), known.pop("wide", None), known.pop("which", None)
    capsys.readouterr()
    assert main(["list"]) == 0
    text = capsys.readouterr().out
    assert "damaged" not in text and text.count("finished  t (unknown here)") == 2
    assert text.count("mean_absolute_error 0.") + text.count("mean_absolute_error 1.") == 2
    assert "Unknown task 't'. Use the command that knows it: python here/own.py" in text
    for argv in (["report", str(folder)], ["publish", str(folder), "--pages", "pages", "--yes"]):
        assert main(argv) == 2
        assert "python here/own.py" in capsys.readouterr().err
    register(KINDS["mae"][0])
    register(BLOCK)
    assert main(["report", str(folder)]) == 2  # the runs are known now, the study is not
    assert "Unknown study 'which'" in capsys.readouterr().err
    TASKS.pop("t")
    with pytest.raises(runs.RunExistsError, match=r"Unknown task 't'\. Use the command that knows"):
        runs.check_usable(folder / names[0], RunConfig("digits"))
    after = {path: path.read_bytes() for path in pathlib.Path().rglob("*") if path.is_file()}
    assert after == before
    with pytest.raises(UnknownError, match="Unknown task 't'"):
        RunConfig("t")


SCRIPT = """
import numpy as np
from keras_deeplstm.experiments import ModelConfig, RunConfig, Splits, Study, Task, main, register

def load(data_dir=None):
    x = np.random.default_rng(0).normal(size=(60, 3)).astype("float32")
    return Splits.of(x, x[:, 0])

def configs(task):
    return [RunConfig(task, ModelConfig(depth=2, units=4), epochs=1)]

register(Task("t", "d", (3,), 1, load, loss="mean_squared_error", metric="mean_absolute_error"))
register(Study("s", "?", ("t",), configs))
"""


GUARDED = 'if __name__ == "__main__":\n    raise SystemExit(main())\n'


def test_a_file_with_the_guard(tmp_path, monkeypatch, worker_here):
    """Here in one process; `test_studies.py` starts the file of docs/own-task.md with a worker."""
    (tmp_path / "own.py").write_text(SCRIPT + GUARDED)
    monkeypatch.setattr(sys, "argv", ["own.py", "study", "s"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path("own.py", run_name="__main__")
    assert ended.value.code == 0
    [run] = (tmp_path / "runs" / "s-t").glob("*/environment.json")
    assert json.loads(run.read_text())["command"] == "python own.py study s"


def test_a_file_without_the_guard(tmp_path):
    # Under the name by which the package knows that Keras can wait.
    (tmp_path / "deeplstm").write_text(SCRIPT + "main()\n")
    ended = subprocess.run(
        [sys.executable, "deeplstm", "study", "s"],
        cwd=tmp_path, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert "'deeplstm' calls main() whenever it is imported" in ended.stderr
    assert 'if __name__ == "__main__":' in ended.stderr
    assert not list(tmp_path.glob("runs/s-t/*/result.json"))
