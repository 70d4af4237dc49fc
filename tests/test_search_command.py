"""`deeplstm search` from the outside, and the misuse that it meets."""

import contextlib
import io
import json
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from datetime import datetime

import keras_tuner
import numpy as np
import optuna
import pytest
from rich.console import Console
from search_training import Training, found_in, told
from worker_here import WorkerHere

from keras_deeplstm import hosts, models
from keras_deeplstm.experiments import cli, runs
from keras_deeplstm.experiments.commands import RunCommand, SolveCommand, TrainTextCommand
from keras_deeplstm.experiments.runs import files
from keras_deeplstm.experiments.search import results, runner, storages, trials
from keras_deeplstm.experiments.search import tuner as tuner_module
from keras_deeplstm.experiments.search.config import SAMPLERS, SearchConfig
from keras_deeplstm.experiments.search.report import write_search_report
from keras_deeplstm.experiments.search.trials import Outcome, Trial
from keras_deeplstm.experiments.search.view import View
from keras_deeplstm.experiments.settings import ConfigError, RunConfig
from keras_deeplstm.search import HyperModel, OptunaOracle, samplers

pytestmark = pytest.mark.usefixtures("any_memory")

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SCRIPT = """
import signal, sys
from keras_deeplstm.experiments.cli import main

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may ignore it
    sys.exit(main())
"""
SPACE = {"depth": "2..4", "units": "4,8", "dropout": "0..0.3", "batch_size": "128", "epochs": "2"}
OPTIONS = [word for k, v in SPACE.items() for word in (f"--{k.replace('_', '-')}", str(v))]
SEARCH = ["search", "digits", "--name", "a", "--sampler", "random", *OPTIONS]


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
        def call(
            self, function, number, config, folder, storage, study, options, since, on_message
        ):
            try:
                tuner_module.search_in(config, folder, storage, study, since=since, **options)
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
    "objective": ("--objective val_acc", "Did you mean 'val_accuracy'?"),
    "objectives": ("--objective loss loss", "`objective` must be one name, or two different ones"),
    "pruner": (
        "--pruner median --objective val_loss seconds",
        "judges the epochs of a trial by one",
    ),
    "pruned-by": ("--pruner median --objective parameters", "judges the epochs of a trial by one"),
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
    "range-log": ("--learning-rate 0..1", "Argument `learning_rate` must be a positive number."),
    "range-text": ("--units few..many", "Argument `units` must be a range of numbers. Received"),
    "range-float": ("--units 2..8.5", "Argument `units` must be a range of integers. Received"),
    "choice-mixed": ("--depth 2,few", "Argument `model.depth` must be a positive integer"),
    "set": ("--set dept=3", "`deeplstm run` has no setting 'dept'. Did you mean 'depth'?"),
    "set-form": ("--set depth", "Expected NAME=VALUE. Received: 'depth'"),
    "meaning": ("--block dense --set peepholes=true,false", "has no meaning for block 'dense'"),
    "sampler": ("--sampler tp", "Did you mean 'tpe'?"),
    "block": ("--block unfolded", "Did you mean 'unfolded_lstm'?"),
    "cnn": ("--block cnn --depth 2..50", "`model.depth` must be at most 5."),
    "tied": ("--tied true,maybe", "Argument `model.tied` must be True or False."),
    "normalization": ("--normalization bach", "Did you mean 'batch'?"),
    "folds": ("--folds 1", "Argument `folds` must be an integer of at least 2."),
    "workers": ("--workers 0", "Argument `workers` must be an integer of at least 1."),
    "time": ("--time-limit 0", "Argument `time_limit` must be a positive number."),
    "name": ("--name ../x", "Invalid run name '../x'."),
    "memory": ("--storage sqlite://", "it would be in the memory of one process"),
    "directory": (
        "--storage sqlite:////nowhere/x.db",
        "Cannot use the storage 'sqlite:////nowhere",
    ),
    "length": ("--pruner median --epochs 2..5", "compares trials of one length. Searched: ['epoc"),
    "cmaes": ("--sampler cmaes --objective loss seconds", "'cmaes' knows one objective only"),
    "twice": ("--depth 2..4 --set model.depth=3,4", "Given twice, by its option and by --set: dep"),
    "seed": ("--seed -1", "Argument `seed` must be an integer in [0, 4294967295]."),
    "storage": ("--storage nowhere://x", "Cannot use the storage 'nowhere://x'"),
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
    config = [*SEARCH, "--sampler", "grid", "--learning-rate", "1e-3", "--dropout", "0"]
    assert status(config) == 0
    output = capsys.readouterr().out
    assert "trial 2: depth 3, units 4: FAILED: ValueError: no luck" in output
    assert "6 trials: 4 finished, 2 failed. The best, by val_accuracy:" in output

    here.behave = lambda config: 1 / 0
    assert status([*config, "--overwrite"]) == 1
    output = capsys.readouterr().out
    assert "Stopped: the last 3 trials failed. ZeroDivisionError: division by zero" in output
    assert len(found_in(folder / "runs" / "a")) == 3
    # Today they do not count: their cause may be gone.
    here.behave = lambda config: None
    assert status(config) == 0
    assert "6 trials: 3 finished, 3 failed." in capsys.readouterr().out


def test_no_finite_objective_is_no_best_model(here, capsys):
    here.behave = lambda config: [float("nan")]
    assert status([*SEARCH, "--trials", "10", "--objective", "val_loss"]) == 1
    output = capsys.readouterr().out
    assert "All 10 trials ended with a non-finite 'val_loss'. No best model" in output


def test_a_damaged_file_is_set_aside(here, capsys, folder):
    assert status([*SEARCH, "--trials", "2"]) == 0
    expected = told(folder / "runs" / "a")
    (folder / "runs" / "a" / "search.json").write_text("{")
    capsys.readouterr()
    assert status([*SEARCH, "--trials", "2"]) == 0
    output = capsys.readouterr().out
    assert "search.json' is damaged. It is written again" in output
    assert "2 trials: 2 finished" in output
    assert told(folder / "runs" / "a") == expected


def test_a_damaged_journal_says_so(here, capsys, folder):
    assert status([*SEARCH, "--trials", "2"]) == 0
    journal = folder / "runs" / "a" / "study.log"
    journal.write_bytes(b"nonsense\n" + journal.read_bytes())
    capsys.readouterr()
    assert status([*SEARCH, "--trials", "2"]) == 2
    assert "Cannot use the storage 'study.log': " in capsys.readouterr().err
    assert status(["report", "runs/a"]) == 2
    assert "Cannot read 'runs/a/search.json': " in capsys.readouterr().err


def test_a_search_of_other_settings_is_not_resumed(here, capsys):
    assert status([*SEARCH, "--trials", "1"]) == 0
    capsys.readouterr()
    for options, message in {
        "--units 8": "units: 4,8 -> 8. Use --overwrite",
        "--tied true,false": "tied: None -> true,false.",
        "--depth 2..5": "depth: 2..4 -> 2..5.",
        "--sampler grid": "sampler: random -> grid.",
        "--objective val_loss": "objective: ('val_accuracy',) -> ('val_loss',).",
        "--set gradient_every=5": "set: () -> ('gradient_every=5',).",
    }.items():
        assert status([*SEARCH, "--trials", "1", *options.split()]) == 3
        expected = f"deeplstm: error: Cannot resume: search differs: {message}"
        assert expected in capsys.readouterr().err


def test_a_search_in_use_is_not_overwritten(here, capsys, folder):
    assert status([*SEARCH, "--trials", "1"]) == 0
    with runs.lock(folder / "runs" / "a" / "trial_0000" / "seed0"):
        assert status([*SEARCH, "--trials", "1", "--overwrite"]) == 3
    assert "'runs/a' is in use by another process" in capsys.readouterr().err
    assert status([*SEARCH, "--trials", "1", "--overwrite"]) == 0
    # Another machine, of which only the storage tells.
    study = storages.open_study(str(folder / "runs" / "a" / "study.log"), "a")
    lease = {"host": "elsewhere", "process": 1, "thread": 1, "token": "x", "attempt": 1}
    study.ask().set_user_attr("lease", {**lease, "time": "2999-01-01T00:00:00+00:00"})
    assert status([*SEARCH, "--trials", "1", "--overwrite"]) == 3
    (trial,) = study.get_trials(states=[optuna.trial.TrialState.RUNNING])
    study._storage.set_trial_user_attr(
        trial._trial_id, "lease", {**lease, "time": "2001-01-01T00:00:00+00:00"}
    )
    assert status([*SEARCH, "--trials", "1", "--overwrite"]) == 0
    # A process of this machine, whose run lies in another folder.
    study = storages.open_study(str(folder / "runs" / "a" / "study.log"), "a")
    study.ask().set_user_attr("lease", {**lease, "host": hosts.here(), "process": os.getppid()})
    assert status([*SEARCH, "--trials", "1", "--overwrite"]) == 3


def test_a_database(here, capsys, folder):
    """Of any folder; the report finds it again, and `--overwrite` leaves other studies there."""
    url = f"sqlite:///{folder}/all.db"
    for name in ("a", "b"):
        assert status([*SEARCH, "--trials", "2", "--storage", url, "--name", name]) == 0
    assert files.read_json(folder / "runs" / "a" / "search.json")["storage"] == url
    assert not (folder / "runs" / "a" / "study.log").exists()
    assert status([*SEARCH, "--trials", "3"]) == 0  # it is in search.json
    assert status(["report", "runs/a"]) == 0
    assert len((folder / "runs" / "a" / "trials.csv").read_text().splitlines()) == 4
    assert status([*SEARCH, "--trials", "1", "--overwrite"]) == 0
    found = {study.study_name: study.n_trials for study in optuna.get_all_study_summaries(url)}
    assert found == {"a": 1, "b": 2}
    # By such a study a trial was claimed, which is not to be claimed in the next search.
    optuna.create_study(storage=url, study_name="a: trial 0, attempt 2")
    assert status([*SEARCH, "--trials", "1", "--overwrite"]) == 0
    assert sorted(optuna.get_all_study_names(url)) == ["a", "b"]


def test_a_database_is_found_from_any_folder(here, capsys, folder, monkeypatch):
    assert status([*SEARCH, "--trials", "2", "--storage", "sqlite:///all.db"]) == 0
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir(folder / "elsewhere")
    assert status(["report", "../runs/a"]) == 0
    assert status([*SEARCH, "--trials", "3", "--runs-dir", "../runs"]) == 0
    assert "3 trials (2 done)" in capsys.readouterr().out
    assert not list((folder / "elsewhere").glob("*.db"))


def test_one_folder_has_one_storage(here, capsys, folder):
    assert status([*SEARCH, "--trials", "1"]) == 0
    other = [*SEARCH, "--trials", "1", "--depth", "7..9", "--storage", "other.log"]
    assert status(other) == 3
    assert "'runs/a' is the search in the storage 'study.log'" in capsys.readouterr().err
    # With --overwrite the folder goes, and what the other storage has of that name.
    for _ in range(2):
        assert status([*other, "--overwrite"]) == 0
        assert "1 trials\n" in capsys.readouterr().out
    assert status([*SEARCH, "--trials", "1", "--storage", "other.log", "--overwrite"]) == 0


@pytest.mark.parametrize("password", ["secret", "my'secret"], ids=["plain", "quoted"])
def test_a_password_is_not_shown(here, folder, monkeypatch, capsys, password):
    url = f"postgresql://me:{password}@10.0.0.1/all"
    assert storages.shown(url) == "postgresql://me:***@10.0.0.1/all"
    assert status([*SEARCH, "--storage", url]) == 2  # there is no driver
    monkeypatch.setattr(storages, "seen_from", lambda folder, storage: "study.log")
    assert status([*SEARCH, "--storage", url, "--trials", "1"]) == 0
    assert "secret" not in (folder / "runs" / "a" / "report.html").read_text()
    command = files.read_json(folder / "runs" / "a" / "search.json")["command"]
    assert "--storage 'postgresql://me:***@10.0.0.1/all' --trials 1" in command
    output = capsys.readouterr()
    assert "secret" not in output.out + output.err


def test_a_study_of_something_else(here, capsys):
    study = optuna.create_study(storage="sqlite:///mine.db", study_name="a", direction="maximize")
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    assert status([*SEARCH, "--trials", "1", "--storage", "sqlite:///mine.db"]) == 3
    assert "The study 'a' is not of a search" in capsys.readouterr().err
    assert len(study.trials) == 1


def test_another_search_in_the_study(here, folder, capsys):
    """Both have begun it before one of them had a trial."""
    path = folder / "runs" / "a"
    path.mkdir(parents=True)
    configs = [SearchConfig("digits", sampler="random", **SPACE, seed=seed) for seed in (0, 1)]
    two = SearchConfig("digits", objective=("loss", "seconds"))
    for config in (two, *configs):
        storages.open_study(str(path / "study.log"), "a", config).set_user_attr(
            "settings", config.to_dict()
        )
    with pytest.raises(runs.RunExistsError, match="Another search has begun in this study"):
        tuner_module.search_in(configs[0], path, str(path / "study.log"))
    tuner_module.search_in(configs[1], path, str(path / "study.log"))
    assert len(told(path)) == 20


def test_an_error_in_a_thread_ends_the_search(here, monkeypatch, capsys):
    def call(self, *arguments, on_message):
        raise ConfigError("'mine.py' calls main() whenever it is imported")

    monkeypatch.setattr(runner.Worker, "call", call)
    assert status(SEARCH) == 2
    assert "calls main() whenever it is imported" in capsys.readouterr().err


def test_names_of_folders(here, folder):
    small = ["--units", "4,8", "--sampler", "random", "--trials", "1", "--max-parameters", "1"]
    for task, name in {
        "adding:length=200": "adding-length-200",
        "my texts/war & peace.txt": "war-peace.txt",
    }.items():
        (folder / "my texts").mkdir(exist_ok=True)
        (folder / "my texts" / "war & peace.txt").write_text("abc " * 20_000)
        assert status(["search", task, *small]) == 1  # the model is too large
        assert (folder / "runs" / f"search-{name}-random").exists()


def test_a_journal_elsewhere_is_joined(here, capsys, folder):
    """From another folder, as on a machine that sees the storage only."""
    shared = ["--storage", "shared/study.log"]
    assert status([*SEARCH, *shared, "--trials", "2"]) == 0
    assert status([*SEARCH, *shared, "--trials", "3", "--runs-dir", "others"]) == 0
    assert "3 trials (2 done)" in capsys.readouterr().out
    study = storages.open_study("shared/study.log", "a")
    assert [trial.number for trial in trials.read(study)] == [0, 1, 2]
    assert sorted(path.name for path in (folder / "others" / "a").glob("trial_*")) == ["trial_0002"]


def test_a_mistyped_range_is_no_search(here, capsys):
    assert status([*SEARCH, "--depth", "9..2"]) == 2
    assert status([*SEARCH, "--trials", "1"]) == 0


def test_half_written_files_are_removed(here, folder):
    assert status([*SEARCH, "--trials", "2"]) == 0
    path = folder / "runs" / "a"
    (path / ".search.0a1b2c3d.json").write_text("{")
    assert status([*SEARCH, "--trials", "2"]) == 0
    assert [p.name for p in path.rglob(".*")] == [".lock"]


@pytest.mark.parametrize("name", ["thesis.txt", ".git"])
def test_another_folder(here, capsys, folder, name):
    (folder / "runs" / "a").mkdir(parents=True)
    (folder / "runs" / "a" / name).write_text("important")
    assert status([*SEARCH, "--overwrite"]) == 3
    assert "exists and is not a search" in capsys.readouterr().err
    assert (folder / "runs" / "a" / name).exists()


def test_an_exhausted_space_ends_the_search(here, capsys):
    options = ["--learning-rate", "1e-3", "--dropout", "0", "--trials", "20", "--sampler", "grid"]
    assert status([*SEARCH, *options, "--depth", "2,3,4"]) == 0
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


KINDS = {
    "run": (
        "digits",
        {
            "block": "unfolded_lstm,dense,deep_cnn",
            "tied": "true,false",
            "normalization": "none,batch,layer",
            "forget_bias": "depth,none,2",
            "optimizer": "adam,sgd",
            "set": (
                "clipnorm=none",
                "clipvalue=1,2",
                "connection=lstm,residual",
                "schedule=cosine",
            ),
        },
    ),
    "train-text": (
        "tinyshakespeare",
        {
            "block": "grid_lstm,lstm,transformer",
            "tied": "true,false",
            "set": ("connection=lstm,residual", "feedforward=false", "heads=2,4", "bytes=true"),
        },
    ),
    "solve": (
        "adding:length=20",
        {"block": "grid_lstm,lstm", "set": ("skip=true,false", "full=true", "sequences=2000")},
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_commands_can_be_typed(kind, monkeypatch):
    """Whatever is chosen is a run that its command, as it is printed, trains."""
    seen = []
    see = lambda command, line: seen.append(command.config) or 0  # noqa: E731
    for action in (RunCommand, TrainTextCommand, SolveCommand):
        monkeypatch.setitem(cli.ACTIONS, action, see)
    task, options = KINDS[kind]
    config = SearchConfig(task, trials=12, **options)
    assert config.command == kind
    oracle = OptunaOracle("val_loss", sampler="random", seed=0)
    hp = keras_tuner.HyperParameters()
    config.space.declare(hp)
    oracle.update_space(hp)
    for number in range(12):
        values = oracle.create_trial(str(number)).hyperparameters.values
        run = config.run(values)
        assert status(shlex.split(run.command_line())[1:]) == 0
        assert seen[-1] == run
        # What has no meaning there is left out, all else is what was chosen.
        flat = {name.removeprefix("model."): value for name, value in run.flat().items()}
        for name, value in values.items():
            same = str(flat[name]) == str(value) or flat[name] == pytest.approx(value, rel=5e-3)
            assert same, (name, value, flat[name])


def test_the_command_of_defaults():
    assert RunConfig("digits").command_line() == "deeplstm run digits"


def test_names_of_samplers():
    assert set(SAMPLERS) == set(samplers.NAMES)


def test_report(here, folder):
    here.behave = lambda config: (
        [float("nan")] if config.model.depth == 2 else [0.5 + config.model.units / 20]
    )
    assert status([*SEARCH, "--trials", "8"]) == 0
    path = folder / "runs" / "a"
    page = (path / "report.html").read_text()
    # Parallel axes, importance, marginals, size and gradient.
    assert page.count("data:image/png;base64") == 1 + 1 + 4 + 2
    assert "The best of 8 trials: depth " in page
    assert "<code>deeplstm run digits --epochs 2 " in page
    assert "diverged (val_accuracy was never a finite number)" in page
    table = (path / "trials.csv").read_text().splitlines()
    assert table[0] == (
        "trial,depth,units,dropout,learning_rate,state,val_accuracy,gradient_ratio,seconds,"
        "parameters,trained_epochs,reason"
    )
    assert len(table) == 9
    assert write_search_report(path, folder / "b.html").exists()
    # What counts here is units alone.
    said = re.search("Importance for val_accuracy: (.*?)\\.", page)[1]
    shares = {name: int(share) for name, share in re.findall(r"(\w+) (\d+)%", said)}
    assert max(shares, key=shares.get) == "units" and 98 <= sum(shares.values()) <= 102


def test_whatever_a_file_says_is_text(here, folder):
    here.behave = lambda config: (_ for _ in ()).throw(
        ValueError("<script>alert(1)</script> $\\frac$")
    )
    assert status([*SEARCH, "--trials", "1"]) == 1
    here.behave = lambda config: None
    assert status([*SEARCH, "--trials", "2"]) == 0
    page = (folder / "runs" / "a" / "report.html").read_text()
    assert "&lt;script&gt;alert(1)" in page and "<script>" not in page


def test_report_of_a_search_with_conditions(here, folder):
    """An option that not every trial has is said to be without an estimate, not unimportant."""
    options = ["--block", "dense,unfolded_lstm", "--set", "peepholes=true,false"]
    assert status([*SEARCH, *options, "--trials", "12"]) == 0
    page = (folder / "runs" / "a" / "report.html").read_text()
    assert "Not in every trial, and so without an estimate, is peepholes." in page
    assert "peepholes" not in re.search(r"Importance for val_accuracy: (.*?)\.", page)[1]


def test_report_of_pruned_trials(here, folder, capsys):
    here.behave = lambda config: [config.model.units / 20 + epoch / 100 for epoch in range(9)]
    options = ["--pruner", "hyperband", "--trials", "12", "--epochs", "9"]
    assert status([*SEARCH, *options]) == 0
    output = capsys.readouterr().out
    pruned = re.findall(r"trial (\d+): .*: pruned: after (\d) of 9 epochs", output)
    finished = 12 - len(pruned)
    assert f"12 trials: {finished} finished, {len(pruned)} pruned." in output and len(pruned) > 2
    page = (folder / "runs" / "a" / "report.html").read_text()
    epochs = 9 * finished + sum(int(count) for _, count in pruned)
    assert (
        f"{len(pruned)} trials were pruned: with the finished ones they trained for {epochs} of 108"
        in page
    )
    assert page.count("<td>pruned after ") == len(pruned)
    states = [
        line.split(",")[5] for line in (folder / "runs/a/trials.csv").read_text().splitlines()
    ]
    assert states.count("pruned") == len(pruned)


def test_report_of_searched_epochs_and_sizes(here, folder):
    options = ["--epochs", "2..5", "--set", "parameters=1000..9000", "--trials", "6"]
    assert status(["search", "digits", "--name", "a", "--depth", "2..4", *options]) == 0
    head, *rows = (folder / "runs" / "a" / "trials.csv").read_text().splitlines()
    assert head == (
        "trial,depth,dropout,learning_rate,batch_size,epochs,state,val_accuracy,gradient_ratio,"
        "seconds,parameters,trained_epochs,reason"
    )
    table = [dict(zip(head.split(","), row.split(","), strict=True)) for row in rows]
    assert {int(row["epochs"]) for row in table} <= {2, 3, 4, 5}
    assert {float(row["trained_epochs"]) for row in table} == {3.0}  # of the training in its place


def test_epochs_of_executions(here, folder):
    here.behave = lambda config: [config.model.units / 20 + epoch / 100 for epoch in range(9)]
    options = ["--pruner", "hyperband", "--trials", "9", "--epochs", "9", "--executions", "2"]
    assert status([*SEARCH, *options]) == 0
    page = (folder / "runs" / "a" / "report.html").read_text()
    trained, planned = re.search(r"trained for ([\d.]+) of (\d+) epochs", page).groups()
    found = found_in(folder / "runs" / "a")
    assert int(planned) == 2 * 9 * len(found)
    expected = sum(18 if one.state == "finished" else one.outcome.epochs for one in found)
    assert float(trained) == expected < int(planned)


def test_the_model_that_was_retrained_is_the_best(here, folder, monkeypatch):
    """A later trial may be better: then the page says nothing of the model that was kept."""
    monkeypatch.setattr(
        cli, "_train", lambda config, folder, **options: here(config, folder, **options)
    )
    assert status([*SEARCH, "--trials", "1", "--retrain"]) == 0
    page = folder / "runs" / "a" / "report.html"
    assert "Trained once more, as best: test accuracy 50.0%" in page.read_text()
    here.behave = lambda config: [0.999]
    assert status([*SEARCH, "--trials", "2"]) == 0
    assert "Trained once more" not in page.read_text()


def test_report_of_two_objectives(here, folder, capsys):
    options = ["--objective", "val_accuracy", "parameters", "--trials", "12", "--depth", "2..9"]
    assert status([*SEARCH, *options]) == 0
    output = capsys.readouterr().out
    lines = output.partition("The best, by val_accuracy and parameters:\n")[2].splitlines()
    front = [line for line in lines if line.startswith("  val_accuracy ")]
    page = (folder / "runs" / "a" / "report.html").read_text()
    assert page.count("<td>best</td>") == len(front) > 1
    assert "val_accuracy against parameters. On the line: " in page


def test_a_search_of_an_earlier_version(here, folder, capsys):
    """It is reported, and refused for going on."""
    shutil.copytree(f"{ROOT}/tests/version_0_1/runs/srch", "runs/srch")
    assert status(["report", "runs/srch"]) == 0
    page = (folder / "runs" / "srch" / "report.html").read_text()
    assert "The best of 2 trials: depth " in page
    table = (folder / "runs" / "srch" / "trials.csv").read_text().splitlines()
    assert [line.split(",")[5] for line in table] == ["state", "finished", "finished"]
    command = ["search", "digits", "--trials", "3", "--epochs", "1", "--depth", "2..3", "--units"]
    assert status([*command, "8", "--name", "srch"]) == 3
    assert "is a search of an earlier version" in capsys.readouterr().err
    assert status([*command, "8", "--name", "srch", "--overwrite"]) == 0
    assert "damaged" not in capsys.readouterr().out


def test_a_search_of_changed_data_is_refused(in_this_process, folder, letters, capsys, eager):
    path = shutil.copy(letters, folder / "mine.npz")
    search = ["search", path, "--name", "a", "--depth", "2", "--units", "4", "--epochs", "1"]
    search = [str(word) for word in [*search, "--batch-size", "20", "--retrain"]]
    assert status([*search, "--trials", "1"]) == 0
    with np.load(letters) as data:
        np.savez(path, x=-data["x"], y=data["y"])
    capsys.readouterr()
    assert status([*search, "--trials", "2"]) == 3
    first = os.path.join("runs", "a", "trial_0000", "seed0")
    refused = f"The data have changed since run '{first}' was trained, with which others are to be"
    assert refused in capsys.readouterr().err
    assert len(found_in(folder / "runs" / "a")) == 1
    shutil.rmtree(folder / "runs" / "a" / "best")  # nor is the best model trained on them
    assert status([*search, "--trials", "1"]) == 3
    assert status([*search, "--trials", "1", "--overwrite"]) == 0
    shutil.copy(letters, path)
    assert status([*search, "--trials", "2"]) == 3


def test_search_and_retrain(in_this_process, folder, letters, capsys, eager):
    small = ["--depth", "2,3", "--units", "4", "--block", "dense", "--dropout", "0"]
    search = ["search", str(letters), "--name", "a", *small, "--epochs", "2", "--batch-size", "20"]
    assert status([*search, "--trials", "2", "--retrain"]) == 0
    output = capsys.readouterr().out
    assert re.search(r"2 trials in \d+ s without start-up, [\d.]+ per minute", output)
    path = folder / "runs" / "a"
    assert (path / "best" / "model.keras").exists()
    best = runs.load(path / "best")
    top = max(found_in(path), key=lambda trial: trial.score)
    assert best.metrics["val_accuracy"].max() == top.score
    trial = path / f"trial_{top.number:04d}" / "seed0"
    assert sorted(p.name for p in trial.iterdir() if not p.name.startswith(".")) == [
        *("config.json", "confusion.csv", "environment.json", "gradient_flow.csv", "metrics.csv"),
        *("result.json", "state_gradients.csv"),
    ]
    assert f"deeplstm run {letters} --epochs 2 " in output
    # The page says what the model is worth on the test data.
    accuracy = f"{best.result['test_accuracy']:.1%}"
    assert (
        f"Trained once more, as best: test accuracy {accuracy}"
        in (path / "report.html").read_text()
    )


def test_live_table(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "160")
    config = SearchConfig("digits")
    values = {"depth": 3, "units": 16, "dropout": 0.123456, "learning_rate": 1e-3, "batch_size": 32}
    finished = {"parameters": 1234, "seconds": 3.0}
    outcomes = [
        Outcome("finished", scores=[0.9], gradient_ratio=0.5, **finished),
        Outcome("finished", scores=[0.95], **finished),
        Outcome("failed", "[bold]why"),
        Outcome("pruned", "after 3 of 9 epochs", scores=[0.4]),
        None,
    ]
    found = [
        Trial(number, values, outcome, outcome and datetime(2026, 1, 1, 0, number))
        for number, outcome in enumerate(outcomes)
    ]
    with View(config) as view:
        view.update(found)
        table = view._table(found)
    with view._console.capture() as capture:
        view._console.print(table)
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in capture.get().splitlines()]
    text = " ".join(" ".join(lines).split())
    assert "failed: [bold]why" in text
    assert "pruned: after 3 of 9 epochs" in text
    assert "running" in text
    assert "1,234" in text
    assert "best" in text
    assert [trial.number for trial in results.ranked(found, config)] == [1, 0]
    narrow = io.StringIO()
    Console(file=narrow, width=80, color_system=None).print(view._table(found))
    lines = narrow.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    heads, rows = lines[:2], lines[2:]
    assert "accuracy" in heads[1] and not any("…" in line for line in (*heads, *rows[:2]))
    assert " ".join(rows[1].split()) == "1 3 16 0.123 0.001 32 95.0% 1,234 – 3 best"
    assert rows[4].split()[-1] == "running"


def test_the_chief_is_gone(monkeypatch, capsys, here):
    monkeypatch.setenv("KERASTUNER_ORACLE_IP", "127.0.0.1")
    assert status(SEARCH) == 2
    assert "has no chief any more: unset it" in capsys.readouterr().err


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


@pytest.mark.long
def test_ctrl_c(folder):
    path = folder / "runs" / "a"
    process = start(*SEARCH, "--trials", "50")
    while not list(path.glob("trial_*/seed0/config.json")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert error == "deeplstm: interrupted. The same command resumes\n"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A random search of six trials in one process, in which nobody is killed."""
    path = tmp_path_factory.mktemp("undisturbed") / "a"
    path.mkdir()
    config = SearchConfig("digits", sampler="random", trials=6, **SPACE)
    tuner_module.search_in(config, path, str(path / "study.log"))
    return path


@pytest.mark.long
@pytest.mark.parametrize("workers", [1, 2])
def test_twenty_kills_at_random(folder, undisturbed, workers):
    path = folder / "runs" / "a"
    command = [*SEARCH, "--trials", "6", "--workers", str(workers)]
    started = time.perf_counter()
    finish(start(*command))
    seconds = time.perf_counter() - started
    assert told(path) == told(undisturbed)
    shutil.rmtree(path)

    generator = random.Random(0)
    kills = 0
    while kills < 20:
        process = start(*command)
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
    finish(start(*command))
    assert told(path) == told(undisturbed)
    assert not [p for p in path.rglob(".*") if p.name != ".lock"]


@pytest.mark.long
def test_two_workers_and_each_is_killed(folder, undisturbed):
    path = folder / "runs" / "a"
    process = start(*SEARCH, "--trials", "6", "--workers", "2")

    def wait_for_trials(count):
        while not (path / "study.log").exists() or count > sum(
            trial.state == "finished" for trial in found_in(path)
        ):
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)

    wait_for_trials(1)
    list_children = ["pgrep", "-P", str(process.pid), "-f", "spawn_main"]
    children = subprocess.run(list_children, capture_output=True, text=True).stdout.split()
    assert len(children) == 2
    for count, child in enumerate(children, 2):
        os.kill(int(child), signal.SIGKILL)
        wait_for_trials(count)
    output = finish(process)
    assert output.count("the process was killed by SIGKILL") == 2
    assert output.count("Another one goes on") == 2
    assert told(path) == told(undisturbed)


@pytest.mark.long
@pytest.mark.parametrize("storage", ["study.log", "sqlite:///study.db"])
def test_four_processes_and_one_storage(folder, undisturbed, storage):
    """The same command four times at once, one of them killed for good, is one search."""
    command = [*SEARCH, "--trials", "6", "--storage", storage]
    processes = [start(*command, "--runs-dir", f"runs{number}") for number in range(4)]
    study = None
    while study is None or not trials.read(study):
        assert processes[0].poll() is None, processes[0].communicate()
        time.sleep(0.1)
        with contextlib.suppress(KeyError, ValueError):  # not yet made
            study = study or storages.open_study(storage, "a")
    os.killpg(processes[3].pid, signal.SIGKILL)
    processes.pop().communicate()
    for process in processes:
        assert "6 trials: 6 finished." in finish(process)
    found = [(t.number, t.values, t.state, t.outcome.scores) for t in trials.read(study)]
    assert found == told(undisturbed)


@pytest.mark.long
def test_a_lock_of_a_killed_process(folder, undisturbed):
    """It is waited for, which Optuna says, and then taken away."""
    path = folder / "runs" / "a"
    finish(start(*SEARCH, "--trials", "3"))
    (path / "study.log.lock").symlink_to(path / "study.log")
    process = start(*SEARCH, "--trials", "6")
    _, error = process.communicate(timeout=300)
    assert process.returncode == 0
    assert "It is taking longer than 10.0 seconds to acquire the lock file" in error
    assert "Forcibly releasing the lock file" in error
    assert told(path) == told(undisturbed)


def test_config_round_trip():
    config = SearchConfig("digits", sampler="gp", trials=3, folds=3, set=("peepholes=true",))
    assert SearchConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    with pytest.raises(ConfigError, match="Unknown key 'dept'"):
        SearchConfig.from_dict({"task": "digits", "dept": "2"})
