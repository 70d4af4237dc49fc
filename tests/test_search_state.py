"""What a search keeps: killed at every write, torn by hand, restarted, it ends as if never hurt."""

import contextlib
import dataclasses
import importlib.util
import math
import shutil
import types
from datetime import datetime

import numpy as np
import optuna
import pytest
from faults import watching
from search_training import Killed, Training, found_in, told

from keras_deeplstm.experiments.runs import files
from keras_deeplstm.experiments.search import results, storages
from keras_deeplstm.experiments.search import tuner as tuner_module
from keras_deeplstm.experiments.search.config import SearchConfig
from keras_deeplstm.experiments.search.tuner import Renewal, search_in
from keras_deeplstm.experiments.settings import ConfigError, RunConfig
from keras_deeplstm.experiments.training import prepare
from keras_deeplstm.experiments.training.journal import DivergedError
from keras_deeplstm.search import leases, optuna_oracle

pytestmark = pytest.mark.usefixtures("any_memory")

SMALL = {"depth": "2..6", "units": "4,8", "dropout": "0", "batch_size": "64", "epochs": "4"}
SAMPLERS = ("random", "grid", "tpe")


@pytest.fixture
def training(monkeypatch):
    fake = Training()
    # There are no other processes whose signs of life would have to be waited for.
    monkeypatch.setattr(leases, "STALE", -1)
    monkeypatch.setattr(optuna_oracle, "WAIT", 0)
    monkeypatch.setattr(tuner_module, "train", fake)
    monkeypatch.setattr(tuner_module, "prepare", lambda config, data_dir: None)
    return fake


def settings(sampler="random", number=8, **changes):
    if sampler == "grid":
        changes = {"learning_rate": "1e-3,1e-2", "depth": "2,3,4,5"} | changes
        number = None
    return SearchConfig("digits", sampler=sampler, **{"trials": number, **SMALL, **changes})


def search(config, folder, **options):
    folder.mkdir(exist_ok=True)
    search_in(config, folder, str(folder / storages.JOURNAL), **options)


def kill(config):
    raise Killed


@pytest.fixture(params=SAMPLERS)
def golden(request, tmp_path, training):
    """A search that nobody disturbs."""
    # Of TPE, ten trials are at random before it learns.
    config = settings(request.param, 14 if request.param == "tpe" else 8)
    folder = tmp_path / "golden" / "a"
    folder.parent.mkdir()
    search(config, folder)
    finished = len(training.finished)
    training.finished.clear()
    return config, told(folder), finished


def test_all_trials_once(golden, tmp_path, training):
    config, found, finished = golden
    assert [state for _, _, state, _ in found] == ["finished"] * len(found)
    assert finished == len(found) == {"grid": 16, "tpe": 14}.get(config.sampler, 8)
    folder = tmp_path / "golden" / "a"
    # Nothing of keras-tuner's that a resumed search could stumble over.
    assert {path.name for path in folder.iterdir()} == {
        "study.log", *(f"trial_{number:04d}" for number in range(len(found)))
    }  # fmt: skip
    search(config, folder)
    assert told(folder) == found and not training.finished


@pytest.mark.parametrize("share", [457, pytest.param(19, marks=pytest.mark.long)])
@pytest.mark.parametrize("when", ["torn", pytest.param("before", marks=pytest.mark.long)])
def test_killed_at_each_write(golden, tmp_path, training, monkeypatch, when, share):
    """A search goes on to the same trials wherever it was killed."""
    config, expected, finished = golden
    last, alive = 0, False

    def deadly(number, event, path):
        nonlocal alive
        # A lock that is left is taken away after 30 s; see test_a_lock_of_a_killed_process.
        if alive and number >= last and ".lock" not in path.name:
            alive = False
            if when == "torn" and path.name == storages.JOURNAL and event == "open":
                with open(path, "ab") as journal:
                    journal.write(b'{"op_code":8,"work')
            raise Killed

    while not alive:  # until it has fewer writes than that
        last, alive = last + share, True
        folder = tmp_path / str(last) / "a"
        folder.parent.mkdir()
        training.finished.clear()
        with watching(folder, deadly), contextlib.suppress(Killed):
            search(config, folder)
        search(config, folder)
        assert told(folder) == expected, last
        assert len(training.finished) == finished
        assert not [path for path in folder.rglob(".*") if path.suffix != ".lock"]
    assert last > 100


@pytest.mark.skipif(not importlib.util.find_spec("torch"), reason="needs torch")
def test_a_gaussian_process_goes_on_as_it_would_have(tmp_path, training):
    config = settings("gp", 12, units="8", learning_rate="1e-3")
    for name in ("golden", "killed"):
        (tmp_path / name).mkdir()
    search(config, tmp_path / "golden" / "a")

    def once(config):
        training.behave = lambda config: None
        raise Killed

    for number in (3, 11):  # at random still, and not any more
        search(dataclasses.replace(config, trials=number), tmp_path / "killed" / "a")
        training.behave = once
        with pytest.raises(Killed):
            search(config, tmp_path / "killed" / "a")
    search(config, tmp_path / "killed" / "a")
    assert told(tmp_path / "killed" / "a") == told(tmp_path / "golden" / "a")


def test_a_process_for_each_few_trials(golden, tmp_path, monkeypatch):
    config, expected, _ = golden
    monkeypatch.setattr(tuner_module, "TRAININGS", 3)
    processes = 1
    while True:
        try:
            search(config, tmp_path / "a")
            break
        except Renewal:
            processes += 1
            assert len(told(tmp_path / "a")) == 3 * (processes - 1)
    assert processes == len(expected) // 3 + 1
    assert told(tmp_path / "a") == expected


def test_folders_that_are_gone(tmp_path, training):
    """What has ended is in the study; what has not is trained anew."""
    config = settings()
    search(config, tmp_path / "golden", study="a")
    training.behave = lambda config: kill(config) if len(training.finished) == 12 else None
    with pytest.raises(Killed):
        search(config, tmp_path / "a")
    training.behave, training.finished = lambda config: None, []
    for path in (tmp_path / "a").glob("trial_*"):
        shutil.rmtree(path)
    search(config, tmp_path / "a")
    assert told(tmp_path / "a") == told(tmp_path / "golden", "a")
    assert [path.parent.name for path in training.finished] == [
        f"trial_{number:04d}" for number in range(4, 8)
    ]


def test_a_lost_journal(tmp_path, training):
    """Then the trials are created again, and their runs need no training."""
    search(settings(), tmp_path / "a")
    expected, training.finished = told(tmp_path / "a"), []
    (tmp_path / "a" / storages.JOURNAL).unlink()
    search(settings(), tmp_path / "a")
    assert told(tmp_path / "a") == expected and not training.finished
    # Of other settings, the folders hold other runs.
    (tmp_path / "a" / storages.JOURNAL).unlink()
    search(settings(seed=1), tmp_path / "a")
    assert len(training.finished) == 8
    search(settings(seed=1), tmp_path / "b", study="a")
    assert told(tmp_path / "b", "a") == told(tmp_path / "a")


def test_a_damaged_journal_is_an_error(tmp_path, training):
    search(settings(number=2), tmp_path / "a")
    journal = tmp_path / "a" / storages.JOURNAL
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([*lines[:3], b"{nonsense\n", *lines[3:]]))
    with pytest.raises(ConfigError):
        search(settings(number=2), tmp_path / "a")


def test_a_poisonous_trial_is_given_up(tmp_path, training):
    def behave(config):
        if config.model.depth == depth:
            raise Killed

    config = settings()
    search(config, tmp_path / "a")
    expected = told(tmp_path / "a")
    depth = expected[2][1]["depth"]
    training.behave = behave
    kills = 0
    while kills < 100:
        try:
            search(config, tmp_path / "b", study="a")
            break
        except Killed:
            kills += 1
    found = found_in(tmp_path / "b", "a")
    poisonous = [trial for trial in found if trial.values["depth"] == depth]
    assert kills == optuna_oracle.ATTEMPTS * len(poisonous) >= 5
    for trial in poisonous:
        assert trial.state == "failed"
        assert trial.outcome.reason == "its process ended 5 times without progress"
    assert [trial.values for trial in found] == [values for _, values, _, _ in expected]


def test_progress_is_patience(tmp_path, training):
    def behave(config):
        checkpoint = tmp_path / "a" / "trial_0000" / "seed0" / "checkpoints"
        checkpoint.mkdir(exist_ok=True)
        (checkpoint / f"epoch_{len(list(checkpoint.iterdir())):04d}-0.npz").touch()
        raise Killed

    training.behave = behave
    for _ in range(3 * optuna_oracle.ATTEMPTS):
        with pytest.raises(Killed):
            search(settings(), tmp_path / "a")
    (trial,) = found_in(tmp_path / "a")
    assert trial.state == "running"
    training.behave = lambda config: None
    search(settings(number=1), tmp_path / "a")
    assert found_in(tmp_path / "a")[0].state == "finished"


def test_a_trial_whose_run_is_locked_is_not_taken_up(tmp_path, training, monkeypatch):
    training.behave = kill
    with pytest.raises(Killed):
        search(settings(number=1), tmp_path / "a")
    training.behave = lambda config: None
    monkeypatch.setattr(tuner_module.runs, "is_locked", lambda folder: True)
    monkeypatch.setattr(optuna_oracle, "WAIT", 0)
    oracle = tuner_module.SearchOracle(
        settings(number=1), tmp_path / "a", str(tmp_path / "a" / storages.JOURNAL), "a",
        math.inf, datetime.min,
    )  # fmt: skip
    assert oracle.create_trial("tuner0").status == "IDLE"
    monkeypatch.undo()
    assert oracle.create_trial("tuner0").status == "RUNNING"


def test_more_trials_later(tmp_path, training):
    search(settings(number=3), tmp_path / "a")
    search(settings(number=12), tmp_path / "a")
    search(settings(number=12), tmp_path / "b", study="a")
    assert told(tmp_path / "a") == told(tmp_path / "b", "a")


def test_executions_and_folds(tmp_path, training):
    search(settings(number=2, executions=2, folds=3), tmp_path / "a")
    outcome = found_in(tmp_path / "a")[1].outcome
    assert len(outcome.of_runs) == 6 and outcome.epochs == 18
    assert outcome.scores == [pytest.approx(sum(outcome.of_runs) / 6)]
    names = sorted(path.name for path in (tmp_path / "a" / "trial_0001").glob("seed*"))
    assert names == [f"seed{seed}-fold{fold}of3" for seed in (0, 1) for fold in (1, 2, 3)]
    config = RunConfig.from_dict(
        files.read_json(tmp_path / "a" / "trial_0001" / names[-1] / "config.json")
    )
    assert (config.seed, config.fold, config.folds) == (1, 3, 3)


@pytest.mark.parametrize("objective", ["val_accuracy", "val_loss"])
def test_no_number_never_wins(tmp_path, training, objective):
    def behave(config):
        depth = config.model.depth
        if depth == 2:
            raise DivergedError("The loss became nan in epoch 1")
        return {
            3: [math.nan, math.nan], 4: [math.nan, 0.7], 5: [math.inf, 0.6], 6: [-math.inf, 0.5],
        }[depth]  # fmt: skip

    training.behave = behave
    config = settings("grid", depth="2,3,4,5,6", learning_rate="1e-3", units="8", dropout="0,0.1",
                      objective=(objective,))  # fmt: skip
    search(config, tmp_path / "a")
    found = found_in(tmp_path / "a")
    assert {(trial.values["depth"], trial.state) for trial in found} == {
        *((2, "diverged"), (3, "diverged")), *((4, "finished"), (5, "finished"), (6, "finished")),
    }  # fmt: skip
    best = results.ranked(found, config)
    assert [trial.values["depth"] for trial in best[::2]] == [4, 5, 6]
    assert best[0].score == pytest.approx(0.7 if objective == "val_accuracy" else 0.3)


def test_hyperband_ends_trials_early(tmp_path, training):
    """Those that are not among the best third after 1, 3 or 9 of 27 epochs, as its brackets say."""
    training.behave = lambda config: [config.model.depth / 100 + e / 1000 for e in range(27)]
    config = settings(number=24, depth="2..50", epochs="27", pruner="hyperband")
    search(config, tmp_path / "a")
    found = found_in(tmp_path / "a")
    assert {trial.state for trial in found} == {"finished", "pruned"}
    pruned = [trial for trial in found if trial.state == "pruned"]
    assert {trial.outcome.epochs for trial in pruned} <= {1, 3, 9} and len(pruned) > 8
    trial = pruned[0]
    assert trial.outcome.reason == f"after {trial.outcome.epochs} of 27 epochs"
    assert trial.outcome.scores == [trial.values["depth"] / 100 + (trial.outcome.epochs - 1) / 1000]
    best = max(trial.values["depth"] for trial in found)
    assert results.ranked(found, config)[0].values["depth"] == best
    states = optuna.trial.TrialState
    study = storages.open_study(str(tmp_path / "a" / storages.JOURNAL), "a")
    assert [trial.state for trial in study.trials].count(states.PRUNED) == len(pruned)


def test_a_kill_before_the_pruner_was_told(tmp_path, training, monkeypatch):
    """The last epoch of the killed process is judged when the trial is taken up."""
    config = settings(number=3, epochs="9", pruner="hyperband")
    with pytest.raises(Killed), monkeypatch.context() as patched:
        patched.setattr(tuner_module.RunTuner, "_report", lambda self, config, row: kill(config))
        search(config, tmp_path / "a")
    told_to = []
    report = tuner_module.SearchOracle.report
    monkeypatch.setattr(
        tuner_module.SearchOracle,
        "report",
        lambda self, value, step, more: told_to.append(step) or report(self, value, step, more),
    )
    search(dataclasses.replace(config, trials=1), tmp_path / "a")
    assert told_to == [1, 1, 2, 3]  # by the one that takes it up, and by the training anew


def test_weights_are_not_kept(tmp_path, training):
    """But of a run that has failed, and may go on."""

    def behave(config):
        folder = tmp_path / "a" / f"trial_{len(seen):04d}" / "seed0"
        seen.append(folder)
        for name in ("model.keras", "checkpoints/epoch_0001-0.npz"):
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).touch()
        if len(seen) == 2:
            raise ValueError("no luck")

    seen, training.behave = [], behave
    search(settings(number=2), tmp_path / "a")
    assert [trial.state for trial in found_in(tmp_path / "a")] == ["finished", "failed"]
    names = [{path.name for path in folder.iterdir()} for folder in seen]
    assert [{"model.keras", "checkpoints"} & found for found in names] == [
        set(), {"model.keras", "checkpoints"}
    ]  # fmt: skip


def test_what_a_run_refuses_is_skipped(tmp_path, training):
    """Ranges of which some combinations have no meaning."""
    config = SearchConfig(
        "adding:length=20",
        sampler="grid",
        depth="1",
        units="4",
        learning_rate="1e-3",
        batch_size="32,512",
        set=("evaluate_every=100,1000",),
    )
    training.behave = lambda config: [0.5]
    search(dataclasses.replace(config, objective=("loss",)), tmp_path / "a")
    states = [trial.state for trial in found_in(tmp_path / "a")]
    assert states.count("skipped") == 1


def test_two_objectives(tmp_path, training):
    config = settings("nsga2", 20, objective=("val_accuracy", "parameters"))
    search(config, tmp_path / "a")
    found = found_in(tmp_path / "a")
    front = results.best(found, config)
    assert 1 < len(front) < 20
    # Accuracy falls on both sides of depth 4, size grows with depth: none deeper is on the front.
    assert {trial.values["depth"] for trial in front} <= {2, 3, 4}
    for trial in found:
        beaten = any(
            other.result.scores[0] >= trial.result.scores[0]
            and other.result.scores[1] <= trial.result.scores[1]
            and other.result.scores != trial.result.scores
            for other in found
        )
        assert beaten == (trial not in front)
    ranks = results.ranked(found, config)
    assert ranks[: len(front)] == front and len(ranks) == 20
    assert [trial.score for trial in front] == sorted((t.score for t in front), reverse=True)


def test_time_limit(tmp_path, training):
    search(settings(), tmp_path / "a", deadline=0)
    assert not found_in(tmp_path / "a")
    # What was begun stays begun.
    training.behave = kill
    with pytest.raises(Killed):
        search(settings(), tmp_path / "a")
    search(settings(), tmp_path / "a", deadline=0)
    assert [trial.state for trial in found_in(tmp_path / "a")] == ["running"]


def test_sizes_of_own_data(tmp_path, training, monkeypatch):
    """What only the data tell, 12 features and 3 classes, decides which models are too large."""
    monkeypatch.setattr(tuner_module, "prepare", prepare)
    path = tmp_path / "letters.npz"
    np.savez(path, x=np.zeros((30, 12)), y=np.arange(30) % 3)
    changes = {"depth": "2", "units": "4,5", "learning_rate": "1e-3"}
    # Input, recurrent matrix, biases of two steps, readout.
    parameters = {n: 4 * (12 * n + n * n + 2 * n) + 3 * (n + 1) for n in (4, 5)}
    config = settings("grid", **changes, max_parameters=parameters[5] - 1)
    config = dataclasses.replace(config, task=str(path))
    search(config, tmp_path / "search")
    found = found_in(tmp_path / "search")
    assert [trial.state for trial in found] == ["finished", "skipped"]
    assert found[1].outcome.reason == (
        f"{parameters[5]:,} parameters exceed max_parameters={parameters[5] - 1:,}"
    )
    assert config.subject == "letters"


def test_sequence_tasks_and_texts(tmp_path, training):
    """Runs of all kinds: their metrics and results tell the objectives."""

    def of(task, columns, rows, result, **changes):
        def train(config, folder, **options):
            folder.mkdir(parents=True)
            files.write_json(folder / "config.json", config.to_dict())
            table = [",".join(columns), *(",".join(map(str, row)) for row in rows), ""]
            files.write_text(folder / "metrics.csv", "\n".join(table))
            return result

        tuner_module.train = train  # `training` puts it back
        config = SearchConfig(task, trials=1, **changes)
        folder = tmp_path / config.command
        search(config, folder)
        (trial,) = found_in(folder)
        return config, trial

    result = {"parameters": 7, "seconds": 1.5, "diverged": None, "trained_sequences": 3200}
    solved = of(
        "adding:length=20",
        ("epoch", "loss", "wrong", "error", "sequences"),
        [(1, 0.2, 0.9, 0.3, 1600), (2, 0.1, 0.25, 0.2, 3200)],
        result,
        objective=("wrong", "trained_sequences"),
    )
    assert solved[1].outcome.scores == [0.25, 3200]
    assert results.texts(solved[1], solved[0]) == {
        "wrong": "25.0%", "trained_sequences": "3,200", "parameters": "7", "seconds": "2"
    }  # fmt: skip
    result = {"parameters": 9, "seconds": 2.5}
    config, written = of(
        "tinyshakespeare",
        ("step", "epoch", "loss", "bits", "val_loss", "val_bits"),
        [(100, 0.5, 3.0, 4.3, "", ""), (200, 1.0, 2.5, 3.6, 2.4, 3.5)],
        result,
    )
    assert written.outcome.scores == [3.5] and config.objective == ("val_bits",)
    assert written.outcome.epochs == 1.0
    diverged = {**result, "diverged": "The loss became nan", "trained_sequences": 5}
    rows = [(1, 0.2, 0.9, 0.3, 1600)]
    columns = ("epoch", "loss", "wrong", "error", "sequences")
    shutil.rmtree(tmp_path / "solve")
    _, lost = of("adding:length=20", columns, rows, diverged)
    assert (lost.state, lost.outcome.reason) == ("diverged", "The loss became nan")


def test_shares_of_a_text_s_training(monkeypatch):
    """A pruner counts in 27 parts of the training, for a text is evaluated at any moment."""
    said = []
    config = SearchConfig("tinyshakespeare", pruner="hyperband", epochs="2")
    report = lambda *step: said.append(step)  # noqa: E731
    run = config.space.example()
    tuner = types.SimpleNamespace(_config=config, oracle=types.SimpleNamespace(report=report))
    for row in (
        {"epoch": 0.1},
        {"epoch": 0.25, "val_bits": 3.0},
        {"epoch": 1.0, "val_bits": 2.5},
        {"epoch": 2.0, "val_bits": 2.0},
    ):
        tuner_module.RunTuner._report(tuner, run, row)
    assert said == [(3.0, 4, True), (2.5, 14, True), (2.0, 27, False)]
    # Whole epochs are whole steps.
    for epochs in range(1, 101):
        said.clear()
        tuner._config = SearchConfig("digits", pruner="hyperband", epochs=str(epochs))
        for epoch in range(1, epochs + 1):
            row = {"epoch": epoch, "val_accuracy": 0.5}
            tuner_module.RunTuner._report(tuner, tuner._config.space.example(), row)
        assert [step for _, step, _ in said] == list(range(1, epochs + 1))
