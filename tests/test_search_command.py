"""`deeplstm search` from the outside, and the misuse that it meets."""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time

import keras_tuner
import pytest
from search_training import Training, told
from worker_here import WorkerHere

from keras_deeplstm import models
from keras_deeplstm.experiments import cli, runs
from keras_deeplstm.experiments.commands import RunCommand
from keras_deeplstm.experiments.search import records, results, runner
from keras_deeplstm.experiments.search import tuner as tuner_module
from keras_deeplstm.experiments.search.config import SearchConfig, command_of
from keras_deeplstm.experiments.search.oracles import ORACLES
from keras_deeplstm.experiments.search.report import write_search_report
from keras_deeplstm.experiments.search.view import View
from keras_deeplstm.experiments.settings.base import ConfigError
from keras_deeplstm.experiments.settings.classifiers import RunConfig
from keras_deeplstm.search import HyperModel

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SCRIPT = """
import signal, sys
from keras_deeplstm.experiments.cli import main

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may ignore it
    sys.exit(main())
"""
SPACE = {"depth": "2..4", "units": "4,8", "dropout": "0..0.3", "batch_size": "128", "epochs": 2}
OPTIONS = [word for k, v in SPACE.items() for word in (f"--{k.replace('_', '-')}", str(v))]
SEARCH = ["search", "digits", "--name", "a", *OPTIONS]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch, quick_pictures):
    monkeypatch.chdir(tmp_path)
    # For the second process: under this name, the package knows that Keras can wait.
    monkeypatch.setattr(sys, "argv", ["deeplstm"])
    (tmp_path / "deeplstm").write_text(SCRIPT)
    return tmp_path


@pytest.fixture
def in_this_process(monkeypatch):
    class Here(WorkerHere):
        def call(self, function, config, folder, options, environment, on_message):
            try:
                tuner_module.search_in(config, folder, on_message=on_message, **options)
            except Exception as error:
                return error

    monkeypatch.setattr(runner, "Worker", Here)


@pytest.fixture
def here(monkeypatch, in_this_process):
    """Search in this process, and let all training take no time."""
    training = Training()
    monkeypatch.setattr(tuner_module, "train", training)
    return training


def status(argv):
    try:
        return cli.main(argv)
    except SystemExit as exit:
        return exit.code


# Wrong usage of the command. What a notebook does with keras-tuner itself is below.

USAGE = {
    "objective": (
        "--objective val_acc",
        "Objective 'val_acc' not found. Available: ['loss', 'val_l",
    ),
    "trials-zero": (
        "--trials 0",
        "Argument `trials` must be a positive integer. Received: trials=0",
    ),
    "trials-negative": ("--trials -1", "Argument `trials` must be a positive integer"),
    "empty-space": (
        "--depth 2 --units 4 --dropout 0 --learning-rate 1e-3 --batch-size 64",
        "Search space is empty; nothing to tune",
    ),
    "range-order": ("--depth 9..2", "Argument `depth`: For HyperParameters.Int(name='depth'), "),
    "range-log": ("--learning-rate 0..1", "sampling='log' does not support negative values"),
    "range-text": ("--units few..many", "Argument `units` must be a range of numbers. Received"),
    "choice-mixed": (
        "--depth 2,few",
        "Argument `depth`: A `Choice` can contain only one type of value",
    ),
    "tuner": ("--tuner bayes", "Unknown tuner 'bayes'. Did you mean 'bayesian'?"),
    "hyperband-epochs": (
        "--tuner hyperband --epochs 2",
        "max_epochs, must be >= factor=3. Received: epoch",
    ),
    "block": ("--block unfolded", "Did you mean 'unfolded_lstm'?"),
    "cnn": ("--block cnn,dense", "Block 'cnn' cannot be searched"),
    "tied": ("--tied true,maybe", "Argument `model.tied` must be True or False."),
    "normalization": ("--normalization bach", "Did you mean 'batch'?"),
    "folds": ("--folds 1", "Argument `folds` must be an integer of at least 2."),
    "workers": ("--workers -1", "Argument `workers` must be an integer of at least 0."),
    "time": ("--time-limit 0", "Argument `time_limit` must be a positive number."),
    "name": ("--name ../x", "Invalid run name '../x'."),
    "seed": ("--seed -1", "Argument `seed` must be an integer in [0, 4294967295]."),
}


@pytest.mark.parametrize(("options", "message"), USAGE.values(), ids=USAGE)
def test_wrong_usage(options, message, here, capsys):
    assert status(["search", "digits", *options.split()]) == 2
    error = capsys.readouterr().err
    assert error.startswith("deeplstm: error: ")
    assert message in error
    assert "Traceback" not in error
    assert len(error) <= 300


def notebook(objective="val_accuracy", builder=models.classifier, **options):
    hypermodel = HyperModel(builder, (6,), 2, **{"depth": (2, 3), "units": [4, 8], **options})
    return keras_tuner.RandomSearch(hypermodel, objective, max_trials=2, directory="notebook")


def test_an_objective_of_unknown_direction():
    with pytest.raises(ValueError, match="Could not infer optimization direction"):
        notebook(objective="val_happiness")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"units": 4, "depth": 2, "dropout": 0.0, "tied": False, "normalization": None,
          "forget_bias": 1.0, "learning_rate": 1e-3, "batch_size": 32},
         ValueError, "Search space is empty; nothing to tune"),
        ({"depth": (9, 2)}, ValueError, "Argument `depth`: .* is greater than the max_value 2"),
        ({"units": (0, 9)}, ValueError, "Argument `units`: .*sampling='log' does not support"),
        ({"depth": [2, "3"]}, TypeError, "Argument `depth`: .*only one type of value"),
        ({"depth": []}, ValueError, "Argument `depth`: `values` must be provided"),
        ({"block": "unfolded"}, ValueError, "Did you mean 'unfolded_lstm'?"),
        ({"max_parameters": 0}, ValueError, "Argument `max_parameters` must be a positive integer"),
    ],
    ids=["empty-space", "range-order", "range-log", "choice-mixed", "choice-empty", "block",
         "budget"],
)  # fmt: skip
def test_wrong_spaces(options, error, message):
    with pytest.raises(error, match=message):
        notebook(**options)


def test_a_builder_that_returns_no_model():
    tuner = notebook()
    tuner.hypermodel.build = lambda hp: None
    with pytest.raises(keras_tuner.errors.FatalTypeError, match="to return a valid Keras Model"):
        tuner.search([[0.0] * 6], [0], verbose=0)


def test_callbacks_that_cannot_be_copied():
    class Stubborn:
        def __deepcopy__(self, memo):
            raise TypeError

    tuner = notebook()
    message = "All callbacks used during a search should be deep-copyable"
    with pytest.raises(keras_tuner.errors.FatalValueError, match=message):
        tuner.search([[0.0] * 6], [0], verbose=0, callbacks=[Stubborn()])


def test_failed_trials_are_told_and_three_in_a_row_end_the_search(here, capsys, folder):
    def fail(config):
        if config.model.depth == 3:
            raise ValueError("no luck\nat all")

    here.behave = fail
    config = [*SEARCH, "--tuner", "grid", "--learning-rate", "1e-3", "--dropout", "0"]
    assert status(config) == 0
    output = capsys.readouterr().out
    assert "trial 2: depth 3, units 4: FAILED: ValueError: no luck" in output
    assert "6 trials: 4 finished, 2 failed. The best, by val_accuracy:" in output

    here.behave = lambda config: 1 / 0
    assert status([*config, "--overwrite"]) == 1
    output = capsys.readouterr().out
    assert "Stopped: the last 3 trials failed. ZeroDivisionError: division by zero" in output
    assert len(records.read_all(folder / "runs" / "a")) == 3


def test_no_finite_objective_is_no_best_model(here, capsys):
    here.behave = lambda config: [float("nan")]
    assert status([*SEARCH, "--trials", "10", "--objective", "val_loss"]) == 1
    output = capsys.readouterr().out
    assert "All 10 trials ended with a non-finite 'val_loss'. No best model" in output


def test_damaged_files_are_set_aside(here, capsys, folder):
    assert status([*SEARCH, "--trials", "2"]) == 0
    (folder / "runs" / "a" / "search.json").write_text("{")
    (folder / "runs" / "a" / "trial_0000" / "record.json").write_text("{")
    capsys.readouterr()
    assert status([*SEARCH, "--trials", "2"]) == 0
    output = capsys.readouterr().out
    assert "search.json' is damaged. It is set aside" in output
    assert "record.json' is damaged. It is set aside, and its trial is run again" in output
    assert "2 trials: 2 finished" in output


def test_a_search_of_other_settings_is_not_resumed(here, capsys):
    assert status([*SEARCH, "--trials", "1"]) == 0
    capsys.readouterr()
    for options, message in {
        "--units 8": "search space differs: removed 'units'. Use --overwrite",
        "--tied true,false": "search space differs: added 'tied'.",
        "--depth 2..5": "search space differs: depth: 2..4 -> 2..5.",
        "--tuner grid": "search differs: tuner: random -> grid.",
        "--objective val_loss": "search differs: objective: val_accuracy -> val_loss.",
    }.items():
        assert status([*SEARCH, "--trials", "1", *options.split()]) == 3
        assert f"deeplstm: error: Cannot resume: {message}" in capsys.readouterr().err


def test_a_search_in_use_by_another_process_is_refused(here, capsys, folder):
    with runs.lock(folder / "runs" / "a"):
        assert status(SEARCH) == 3
    assert "'runs/a' is in use by another process" in capsys.readouterr().err


def test_a_mistyped_range_is_no_search(here, capsys):
    assert status([*SEARCH, "--depth", "9..2"]) == 2
    assert status([*SEARCH, "--trials", "1"]) == 0


def test_half_written_files_are_removed(here, folder):
    assert status([*SEARCH, "--trials", "2"]) == 0
    path = folder / "runs" / "a"
    for name in (".search.1.json", "trial_0000/.record.1.json"):
        (path / name).write_text("{")
    assert status([*SEARCH, "--trials", "2"]) == 0
    assert [p.name for p in path.rglob(".*")] == [".lock"]


def test_another_folder(here, capsys, folder):
    (folder / "runs" / "a").mkdir(parents=True)
    (folder / "runs" / "a" / "thesis.txt").write_text("important")
    assert status([*SEARCH, "--overwrite"]) == 3
    assert "exists and is not a search" in capsys.readouterr().err
    assert (folder / "runs" / "a" / "thesis.txt").exists()


def test_an_exhausted_space_ends_the_search(here, capsys):
    options = ["--learning-rate", "1e-3", "--dropout", "0", "--trials", "20"]
    assert status([*SEARCH, *options]) == 0
    assert "Search space exhausted after 6 of 20 trials" in capsys.readouterr().out


def test_a_search_without_a_completed_trial_says_so(here, capsys, folder):
    assert status([*SEARCH, "--time-limit", "1e-9"]) == 1
    output = capsys.readouterr().out
    assert "The time limit was reached after 0 of 20 trials" in output
    assert "No completed trial yet (0 of 20)" in output
    assert status(["report", "runs/a"]) == 2
    assert "No completed trial yet (0 of 20)" in capsys.readouterr().err


def test_models_that_are_too_large_are_skipped(here, capsys, folder):
    options = ["--depth", "2..1000", "--units", "1000,4", "--max-parameters", "100000000"]
    assert status([*SEARCH, *options, "--trials", "8"]) == 0
    output = capsys.readouterr().out
    text = r"trial (\d): .*: skipped: [\d,]+ parameters exceed max_parameters=100,000,000"
    skipped = re.findall(text, output)
    assert 1 <= len(skipped) < 8
    assert f"8 trials: {8 - len(skipped)} finished, {len(skipped)} skipped." in output
    page = (folder / "runs" / "a" / "report.html").read_text()
    assert f"trial {skipped[0]}</strong>: skipped" in page


# What comes out.


def test_commands_can_be_typed(monkeypatch):
    seen = []
    see = lambda command, line: seen.append(command.config) or 0  # noqa: E731
    monkeypatch.setitem(cli.ACTIONS, RunCommand, see)
    config = SearchConfig(
        "digits",
        block="unfolded_lstm,dense",
        tied="true,false",
        normalization="none,batch,layer",
        forget_bias="depth,none,2",
        clipnorm=None,
    )
    for seed in range(20):
        oracle = ORACLES["random"](SearchConfig("digits", seed=seed), None)
        hp = keras_tuner.HyperParameters()
        config.space()(hp)
        oracle.update_space(hp)
        run = config.run(oracle.populate_space("0")["values"])
        assert status(command_of(run).split()[1:]) == 0
        assert seen[-1] == run
    assert command_of(RunConfig("digits")) == "deeplstm run digits"


def test_report(here, folder):
    here.behave = lambda config: (
        [float("nan")] if config.model.depth == 2 else [0.5 + config.model.units / 20]
    )
    assert status([*SEARCH, "--trials", "6"]) == 0
    path = folder / "runs" / "a"
    page = (path / "report.html").read_text()
    assert page.count("data:image/png;base64") == 1 + 4 + 2  # parallel, marginals, size, gradient
    assert "The best of 6 trials: depth " in page
    assert "<code>deeplstm run digits --epochs 2 " in page
    assert "diverged (val_accuracy was never a finite number)" in page
    table = (path / "trials.csv").read_text().splitlines()
    assert table[0] == (
        "trial,depth,units,dropout,learning_rate,state,score,parameters,gradient_ratio,seconds,"
        "reason"
    )
    assert len(table) == 7
    assert write_search_report(path, folder / "b.html").exists()
    # Whatever a file says is text.
    record = records.read(path, "0000")
    record.outcome = records.Outcome("failed", "<script>alert(1)</script> $\\frac$")
    records.write(path, record)
    assert status(["report", "runs/a"]) == 0
    assert "<script>" not in (path / "report.html").read_text()


def test_search_and_retrain(in_this_process, folder, letters, capsys, eager):
    small = ["--depth", "2,3", "--units", "4", "--block", "dense", "--dropout", "0"]
    search = ["search", str(letters), "--name", "a", *small, "--epochs", "2", "--batch-size", "20"]
    assert status([*search, "--trials", "2", "--retrain"]) == 0
    output = capsys.readouterr().out
    assert re.search(r"2 trials in \d+ s without start-up, [\d.]+ per minute", output)
    path = folder / "runs" / "a"
    assert (path / "best" / "model.keras").exists()
    best = runs.load(path / "best")
    top = max(records.read_all(path), key=lambda record: record.outcome.score)
    assert best.metrics["val_accuracy"].max() == top.outcome.score
    trial = path / f"trial_{top.trial}" / "seed0"
    assert sorted(p.name for p in trial.iterdir() if not p.name.startswith(".")) == [
        *("config.json", "environment.json", "gradient_flow.csv", "metrics.csv", "result.json"),
        "state_gradients.csv",
    ]
    assert f"deeplstm run {letters} --epochs 2 " in output


def test_live_table(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "160")
    config = SearchConfig("digits")
    values = {"depth": 3, "units": 16, "dropout": 0.123456, "learning_rate": 1e-3, "batch_size": 32}
    outcomes = [
        records.Outcome("finished", score=0.9, parameters=1234, gradient_ratio=0.5, seconds=3.0),
        records.Outcome("finished", score=0.95, parameters=1234, seconds=3.0),
        records.Outcome("failed", "[bold]why"),
        None,
    ]
    found = [
        records.Record(
            f"{i:04d}", values, "tuner0", 2 * i, ended=outcome and 2 * i + 1, outcome=outcome
        )
        for i, outcome in enumerate(outcomes)
    ]
    with View(config) as view:
        view.update(found)
        table = view._table(found)
    with view._console.capture() as capture:
        view._console.print(table)
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in capture.get().splitlines()]
    text = " ".join(" ".join(lines).split())
    assert "failed: [bold]why" in text
    assert "running" in text
    assert "1,234" in text
    assert "best" in text
    assert [r.trial for r in results.ranked(found, config)] == ["0001", "0000"]


def test_worker_and_workers(monkeypatch, capsys, here):
    monkeypatch.setenv("KERASTUNER_TUNER_ID", "tuner0")
    monkeypatch.setenv("KERASTUNER_ORACLE_IP", "127.0.0.1")
    assert status([*SEARCH, "--workers", "2"]) == 2
    assert "--workers starts chief and workers here" in capsys.readouterr().err
    assert runner.is_worker()
    monkeypatch.setenv("KERASTUNER_TUNER_ID", "chief")
    assert not runner.is_worker()


# In processes of its own.


def start(*arguments, **environment):
    return subprocess.Popen(
        [sys.executable, "deeplstm", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": ROOT, **environment},
    )


def finish(process, code=0):
    output, error = process.communicate(timeout=300)
    assert process.returncode == code, output + error
    return output


def test_ctrl_c(folder):
    path = folder / "runs" / "a"
    process = start(*SEARCH, "--trials", "50")
    while not list(path.glob("trial_*/seed0/config.json")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert error == "deeplstm: interrupted. The same command goes on\n"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A random search of six trials in one process, in which nobody is killed."""
    path = tmp_path_factory.mktemp("undisturbed") / "a"
    path.mkdir()
    tuner_module.search_in(SearchConfig("digits", trials=6, **SPACE), path)
    return path


@pytest.mark.long
def test_twenty_kills_at_random(folder, undisturbed):
    path = folder / "runs" / "a"
    started = time.perf_counter()
    finish(start(*SEARCH, "--trials", "6"))
    seconds = time.perf_counter() - started
    assert told(path) == told(undisturbed)
    shutil.rmtree(path)

    generator = random.Random(0)
    kills = 0
    while kills < 20:
        process = start(*SEARCH, "--trials", "6")
        try:
            process.wait(generator.uniform(0, seconds))
        except subprocess.TimeoutExpired:
            # All of it, or only the process that shows how it goes.
            if generator.random() < 0.5:
                os.killpg(process.pid, signal.SIGKILL)
            else:
                process.kill()
            process.communicate()
            kills += 1
        else:  # done before it was killed 20 times: once more from the beginning
            finish(process)
            assert told(path) == told(undisturbed)
            shutil.rmtree(path)
    finish(start(*SEARCH, "--trials", "6"))
    assert told(path) == told(undisturbed)
    assert not [p for p in path.rglob(".*") if p.name != ".lock"]


@pytest.mark.long
def test_two_workers_and_each_is_killed(folder, undisturbed):
    path = folder / "runs" / "a"
    process = start(*SEARCH, "--trials", "6", "--workers", "2")

    def wait_for_trials(count):
        while sum(record.state == "finished" for record in records.read_all(path)) < count:
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)

    wait_for_trials(1)
    list_children = ["pgrep", "-P", str(process.pid), "-f", "spawn_main"]
    children = subprocess.run(list_children, capture_output=True, text=True).stdout.split()
    assert len(children) == 3  # the chief is one of them
    for count, child in enumerate(children, 2):
        os.kill(int(child), signal.SIGKILL)
        wait_for_trials(count)
    output = finish(process)
    assert output.count("the process was killed by SIGKILL") == 3
    assert output.count("Another one goes on") == 3
    assert told(path) == told(undisturbed)


@pytest.mark.long
def test_a_cluster(folder, undisturbed):
    """A chief and two workers that share nothing but a folder."""
    machines = runner._environments(2)
    assert list(machines) == ["chief", "tuner0", "tuner1"]
    processes = [start(*SEARCH, "--trials", "6", **one) for one in machines.values()]
    path = folder / "runs" / "a"
    while not list(path.glob("trial_*/record.json")):
        assert processes[0].poll() is None, processes[0].communicate()
        time.sleep(0.01)
    os.killpg(processes[2].pid, signal.SIGKILL)
    processes[2].communicate()
    processes[2] = start(*SEARCH, "--trials", "6", **machines["tuner1"])
    output = finish(processes[0])
    assert "6 trials: 6 finished." in output
    for process in processes[1:]:
        finish(process)
    assert told(path) == told(undisturbed)


def test_config_round_trip():
    config = SearchConfig("digits", "bayesian", trials=3, folds=3)
    assert SearchConfig.from_dict(config.to_dict()) == config
    with pytest.raises(ConfigError, match="Unknown key 'dept'"):
        SearchConfig.from_dict({"task": "digits", "dept": "2"})
