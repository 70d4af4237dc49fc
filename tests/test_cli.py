import dataclasses
import os
import re
import subprocess
import sys
import time

import pandas as pd
import pytest
from event_files import assert_metrics

from keras_deeplstm.experiments import cli, commands, runs, studies
from keras_deeplstm.experiments.settings.classifiers import ModelConfig, RunConfig
from keras_deeplstm.experiments.tasks import DataError

# Under the name of the installed command, by which the package knows that Keras can wait.
SCRIPT = "import sys; from keras_deeplstm.experiments.cli import main; sys.exit(main())"
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SMALL = ["--model.depth", "3", "--model.units", "2", "--epochs", "2", "--gradient-every", "4"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch, eager, quick_pictures):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def status(argv):
    """Exit status of the command, also where tyro ends the program."""
    try:
        return cli.main(argv)
    except SystemExit as exit:
        return exit.code


def test_help(capsys):
    assert status(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in ("run", "study", "report", "list", "--debug"))
    assert status(["run", "--help"]) == 0
    text = capsys.readouterr().out
    assert "--model.forget-bias {None}|FLOAT|{depth}" in text
    assert "Number of steps over depth" in text


@pytest.mark.parametrize("command", [["deeplstm"], ["-m", "keras_deeplstm"]], ids=" ".join)
def test_help_is_instant(command, folder):
    (folder / "deeplstm").write_text(SCRIPT)
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *command, "--help"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": ROOT},
        check=True,
    )
    seconds = time.perf_counter() - started
    imported = {line.split("|")[-1].strip() for line in done.stderr.splitlines()}
    slow = {"keras", "tensorflow", "jax", "torch", "pandas", "matplotlib", "sklearn", "optuna"}
    assert not imported & slow
    assert seconds < 3  # far below on a machine that does nothing else
    assert "usage: deeplstm " in done.stdout


def test_the_package_is_the_command():
    done = subprocess.run(
        [sys.executable, "-m", "keras_deeplstm", "run", "mnits"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": ROOT},
    )
    assert done.returncode == 2
    assert done.stderr.startswith("deeplstm: error: Unknown task 'mnits'. Did you mean 'mnist'?")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("run mnits", "Unknown task 'mnits'. Did you mean 'mnist'?"),
        ("run digits --model.depth 0", "Argument `model.depth` must be a positive integer."),
        ("run digits --model.block dense --model.forget-bias 1", "no meaning for block 'dense'"),
        ("run digits --optimizer adm", "Did you mean 'adam'?"),
        ("run digits --learning-rate nan", "Argument `learning_rate` must be a finite number."),
        ("run digits --name ../x", "Invalid run name '../x'. Use letters, digits,"),
        ("run digits --model.activation tahn", "tahn"),
        ("study dept", "Did you mean 'depth'?"),
        ("study depth --dataset digit", "Did you mean 'digits'?"),
        ("study depth --seeds 0", "Argument `seeds` must be a positive integer."),
        ("study depth --folds 1", "Argument `folds` must be an integer of at least 2."),
        ("study depth --only nothing", "No run matches --only 'nothing'."),
        ("study depth --checkpoint-share 2", "`checkpoint_share` must be a number in [0, 1]."),
        ("run digits --name a --new", "--new has no meaning with --name."),
        ("run digits --overwrite", "--overwrite needs --name, the run that is to be replaced."),
        ("study depth --restarts -1", "`restarts` must be an integer of at least 0"),
        ("study depth --limit 0", "Argument `limit` must be a positive integer."),
        ("study depth --epochs 0", "Argument `epochs` must be a positive integer."),
        ("report nosuch", "'nosuch' holds no keras_deeplstm runs"),
        ("report", "at least one folder"),
        ("report nosuch --output none/a.html", "There is no folder 'none' for --output"),
    ],
)
def test_wrong_usage(arguments, message, capsys, folder):
    assert status(arguments.split()) == 2
    error = capsys.readouterr().err
    assert error.startswith("deeplstm: error: ")
    assert message in error
    assert "Traceback" not in error
    assert not os.listdir(folder)


@pytest.mark.parametrize(
    "arguments",
    ["", "rum digits", "run", "run digits --epoch 3", "run digits --epochs ten", "list run"],
)
def test_arguments_that_tyro_refuses(arguments, capsys):
    assert status(arguments.split()) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_data_error(folder, capsys):
    """Without the data the command ends with status 4 and makes no folder."""
    assert status(["run", "mnist", "--data-dir", str(folder)]) == 4
    assert "deeplstm: error: Dataset 'mnist' is not in" in capsys.readouterr().err
    assert not os.listdir(folder)


def test_run(folder, capsys):
    """A run writes its files; a finished one is told, and other settings are refused."""
    argv = ["run", "digits", *SMALL, "--name", "a"]
    assert status(argv) == 0
    lines = capsys.readouterr().out.splitlines()
    path = folder / "runs" / "a"
    assert lines[0] == "digits: UnfoldedLSTMBlock untied, depth 3"
    assert lines[1].startswith("epoch 1 of 2  loss ")
    assert lines[-2:] == ["Report: runs/a/report.html", (path / "report.html").as_uri()]
    assert sorted(os.listdir(path)) == [
        *(".lock", "config.json", "confusion.csv", "environment.json", "filters"),
        *(
            "gradient_flow.csv",
            "metrics.csv",
            "model.keras",
            "report.html",
            "result.json",
            "state_gradients.csv",
        ),
        *("summary.csv", "table.csv"),
    ]

    run = runs.load(path)
    model = ModelConfig(depth=3, units=2)
    assert run.config == RunConfig("digits", model, epochs=2, gradient_every=4)
    assert run.environment["command"] == "deeplstm run digits " + " ".join(SMALL) + " --name a"
    assert run.metrics["epoch"].tolist() == [1, 2]
    assert {"loss", "accuracy", "val_loss", "val_accuracy", "seconds"} < set(run.metrics)
    assert run.gradients["step"].unique().tolist() == [1, 4, 8, 12, 16, 20]

    import keras

    from keras_deeplstm.experiments.tasks import get_task

    model = keras.models.load_model(path / "model.keras")
    test = model.evaluate(*get_task("digits").load(None).test, verbose=0, return_dict=True)
    assert test["accuracy"] == pytest.approx(run.result["test_accuracy"])
    assert run.result["parameters"] == model.count_params()
    norms = run.gradients[run.gradients["weight"] == "recurrent_kernel"].set_index("step")["value"]
    first, last = norms.loc[1]
    assert run.result["gradient_ratio_start"] == pytest.approx(first / last)

    # The same settings and seed give the same result.
    assert status([*argv[:-1], "b", "--tensorboard"]) == 0
    again = runs.load(folder / "runs" / "b")
    assert again.config == run.config
    gradients = assert_metrics(again.folder / "tensorboard", again.metrics, "epoch")
    assert [step for step, _ in gradients["gradient_norm/block/kernel"]] == [1, 4, 8, 12, 16, 20]
    assert again.result["test_loss"] == run.result["test_loss"]
    pd.testing.assert_frame_equal(again.gradients, run.gradients)

    capsys.readouterr()
    assert status([*argv, "--tensorboard"]) == 0
    assert "Run 'a' is already finished: test accuracy" in capsys.readouterr().out
    assert status([*argv, "--seed", "1"]) == 3
    assert "Run 'a' has other settings (seed: 0 -> 1). Use --over" in capsys.readouterr().err

    assert status(["report", "runs/a", "runs/b", "--output", "ab.html"]) == 0
    assert "Report: ab.html\nfile://" in capsys.readouterr().out
    assert (folder / "ab.html").exists()

    assert status(["list"]) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split()[:4] == ["RUN", "STATE", "TASK", "MODEL"]
    assert [row.split()[:2] for row in rows] == [["a", "finished"], ["b", "finished"]]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (["--learning-rate", "1e30"], "The loss became nan in epoch 1"),
        # In the only step: its loss is that of the weights before.
        (["--learning-rate", "1e20", "--batch-size", "2000"], "val_loss is nan after the training"),
    ],
    ids=["loss", "validation"],
)
def test_a_number_that_is_none(folder, capsys, changes, reason):
    argv = ["run", "digits", *changes, "--name", "a", "--epochs", "1", "--model.block", "dense"]
    argv += ["--model.depth", "5", "--model.units", "8", "--model.activation", "relu"]
    assert status(argv) == 1
    assert f"deeplstm: error: {reason}" in capsys.readouterr().err
    run = runs.load(folder / "runs" / "a")
    assert (run.state, run.reason) == ("diverged", reason)


@pytest.fixture
def tiny_study(monkeypatch, worker_here):
    """The depth study with three models so small that they train in a second."""

    def configs(dataset):
        models = [ModelConfig(depth=2, units=4), ModelConfig(depth=3, units=4)]
        models.append(ModelConfig(block="dense", depth=3, units=4))
        return [RunConfig(dataset, model, epochs=1) for model in models]

    small = dataclasses.replace(studies.STUDIES["depth"], configs=configs)
    monkeypatch.setitem(studies.STUDIES, "depth", small)
    return small


@pytest.mark.usefixtures("quick_pictures", "eager")
def test_study(tiny_study, folder, capsys):
    """A study trains what is missing; a folder that is in use is refused."""
    assert status(["study", "depth", "--limit", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "3 runs, 1 to train now"
    assert lines[1].startswith("1/3 UnfoldedLSTMBlock, depth 2: test accuracy ")
    assert lines[-2] == "Report: runs/depth-digits/report.html"
    assert "digits-dense-depth3-units4-seed0</strong>: missing" in (
        folder / "runs/depth-digits/report.html"
    ).read_text(encoding="utf-8")

    # Only the others are trained when the study is started again.
    assert status(["study", "depth", "--tensorboard"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "3 runs (1 finished), 2 to train now"
    boards = list((folder / "runs/depth-digits").glob("*/tensorboard"))
    assert len(boards) == 2
    for board in boards:
        gradients = assert_metrics(board, runs.load(board.parent).metrics, "epoch")
        assert all(tag.startswith("gradient_norm/") for tag in gradients) and gradients
    assert lines[1].startswith("Estimated time: about ")
    assert lines[2].startswith("2/3 UnfoldedLSTMBlock, depth 3: test accuracy ")
    assert lines[3].startswith("3/3 DenseStack, depth 3: test accuracy ")
    table = pd.read_csv(folder / "runs/depth-digits/table.csv")
    assert table["depth"].tolist() == [2, 3, 3]

    with runs.lock(folder / "runs" / "depth-digits"):
        assert status(["study", "depth"]) == 3
    assert "runs/depth-digits' is in use by another process" in capsys.readouterr().err


def test_study_refuses_runs_of_other_settings(tiny_study, folder, capsys):
    name, config = next(iter(tiny_study.plan("digits").items()))
    other = dataclasses.replace(config, learning_rate=0.5)
    runs.begin(folder / "runs" / "depth-digits" / name, other)
    assert status(["study", "depth"]) == 3
    assert "other settings (learning_rate: 0.5 -> 0.001)" in capsys.readouterr().err


def test_the_depth_study_treats_all_models_alike():
    for dataset in studies.STUDIES["depth"].datasets:
        configs = studies.STUDIES["depth"].configs(dataset)
        settings = [{**config.to_dict(), "model": None} for config in configs]
        assert all(setting == settings[0] for setting in settings)
        assert len({config.slug for config in configs}) == len(configs)
        assert {10, 30} <= {config.model.depth for config in configs}


def test_list(folder, capsys):
    assert status(["list"]) == 0
    assert capsys.readouterr().out == "No runs in 'runs'\n"
    runs.begin(folder / "runs" / "a", RunConfig("digits"))
    (folder / "runs" / "b").mkdir()
    (folder / "runs" / "b" / "config.json").write_text("{")
    assert status(["list"]) == 0
    rows = capsys.readouterr().out.splitlines()[1:]
    assert rows == [
        "a    created  digits  UnfoldedLSTMBlock untied  10",
        "b    damaged",
    ]
    assert status(["list", "tasks"]) == 0
    names = [row.split()[0] for row in capsys.readouterr().out.splitlines()]
    own = ["FILE.npz", "FILE.csv", "./FOLDER"]
    assert names == ["digits", "mnist", "fashion-mnist", "rule-110", "rule-110-recall", *own]
    assert status(["list", "studies"]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert rows[0].split(maxsplit=1)[1].startswith("Does the gradient reach the bottom")
    assert len(rows) == len(studies.STUDIES)


def test_lists_fit_a_terminal(tiny_study, folder, capsys, monkeypatch):
    """Newest first, names without their middle, a study and a search in one line each."""
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    long = f"{'first-' * 12}rate0.01"
    names = "new", "depth-digits", "search-digits", long
    for name in names:
        place = folder / "runs" / name
        for run in ("one", "two") if name.count("digits") else (".",):
            runs.begin(place / run, RunConfig("digits"))
    runs.files.write_json(folder / "runs/depth-digits/study.json", {})
    runs.files.write_json(folder / "runs/search-digits/search.json", {})
    for age, name in enumerate(names):
        os.utime(folder / "runs" / name, (10_000 - age, 10_000 - age))
    assert status(["list"]) == 0
    head, *rows, hint = capsys.readouterr().out.splitlines()
    assert head.split() == ["RUN", "STATE", "TEST", "RESULT"]
    assert [row.split()[:2] for row in rows[:3]] == [
        ["new", "created"], ["depth-digits/", "study"], ["search-digits/", "search"]
    ]  # fmt: skip
    assert rows[1].endswith("0 of 2 runs finished")
    assert re.match(r"first-first\S*…\S*-rate0\.01 +created$", rows[3])
    assert hint == "The runs of one of them: deeplstm list --runs-dir runs/depth-digits"
    assert all(len(row) <= 80 for row in (head, *rows))
    assert status(["list", "--runs-dir", "runs/depth-digits"]) == 0
    rows = capsys.readouterr().out.splitlines()[1:]
    assert {row.split()[0] for row in rows} == {"one", "two"}
    assert status(["list", "studies"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80 and len(lines) > len(studies.STUDIES)
    assert lines[1].startswith(" " * 24)


def test_the_runs_of_a_study_are_listed(tiny_study, folder, capsys):
    names = list(tiny_study.plan("digits"))
    runs.begin(folder / "runs" / "depth-digits" / names[0], tiny_study.configs("digits")[0])
    assert status(["study", "depth", "--list"]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert rows == [f"created   {names[0]}", *(f"missing   {name}" for name in names[1:])]
    assert status(["study", "depth", "--list", "--only", "dense"]) == 0
    assert capsys.readouterr().out == f"missing   {names[2]}\n"
    assert status(["study", "depth", "--list", "--published", "data"]) == 2


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (KeyboardInterrupt(), 130),
        (BrokenPipeError(), 141),
        (DataError("x"), 4),
        (runs.RunExistsError("x"), 3),
        (RuntimeError("x"), 1),
    ],
)
def test_exit_status(error, code, monkeypatch, capfd):
    def fail(root):
        raise error

    monkeypatch.setattr(runs, "find", fail)
    assert status(["list"]) == code
    assert "Traceback" not in capfd.readouterr().err
    if code == 1:
        assert status(["list", "--debug"]) == 1
        assert "Traceback" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("option", "hint"),
    [("--epochs=3", "The same"), ("--overwrite", "Without --overwrite, the same")],
)
def test_how_an_interrupted_command_goes_on(option, hint, monkeypatch, capsys, folder):
    """With --overwrite it would begin anew."""

    def interrupted(command, line):
        raise KeyboardInterrupt

    monkeypatch.setitem(cli.ACTIONS, commands.RunCommand, interrupted)
    assert status(["run", "digits", "--name", "a", option]) == 130
    assert capsys.readouterr().err == f"deeplstm: interrupted. {hint} command resumes\n"


def test_a_reader_that_has_gone(folder):
    """The command ends without a word when nobody reads its output."""
    (folder / "deeplstm").write_text(SCRIPT)
    process = subprocess.Popen(
        [sys.executable, "deeplstm", "list", "tasks"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": ROOT},
    )
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 141
    process.stderr.close()
