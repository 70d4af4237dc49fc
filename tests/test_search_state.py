"""What a search keeps: killed at every write, torn by hand, restarted, it ends as if never hurt."""

import dataclasses
import math
import os

import numpy as np
import pytest
from search_training import Training, told

from keras_deeplstm.experiments.runs import files
from keras_deeplstm.experiments.search import records, results
from keras_deeplstm.experiments.search import tuner as tuner_module
from keras_deeplstm.experiments.search.config import TUNERS, SearchConfig
from keras_deeplstm.experiments.search.oracles import ATTEMPTS
from keras_deeplstm.experiments.search.tuner import Renewal, RunTuner, search_in
from keras_deeplstm.experiments.settings.base import ConfigError
from keras_deeplstm.experiments.settings.classifiers import RunConfig
from keras_deeplstm.experiments.training.journal import DivergedError

SMALL = {"depth": "2..6", "units": "4,8", "dropout": "0", "batch_size": "64", "epochs": 4}


class Killed(BaseException):
    """What keras-tuner does not catch, like the end of its process."""


@pytest.fixture
def training(monkeypatch):
    fake = Training()
    monkeypatch.setattr(tuner_module, "train", fake)
    return fake


def settings(tuner="random", trials=8, **changes):
    if tuner == "grid":
        changes = {"learning_rate": "1e-3,1e-2", "depth": "2,3,4,5", "trials": None} | changes
    if tuner == "hyperband":
        changes = {"trials": None, "epochs": 9} | changes
    return SearchConfig("digits", tuner, **{"trials": trials, **SMALL, **changes})


def search(config, folder, **options):
    folder.mkdir(exist_ok=True)
    said = []
    search_in(config, folder, on_message=said.append, **options)
    return said


@pytest.fixture(params=TUNERS)
def golden(request, tmp_path, training):
    """A search that nobody disturbs."""
    config = settings(request.param)
    folder = tmp_path / "golden"
    search(config, folder)
    finished = len(training.finished)
    training.finished.clear()
    return config, told(folder), finished


def test_all_trials_once(golden, tmp_path):
    config, trials, finished = golden
    assert [state for _, _, state, _ in trials] == ["finished"] * len(trials)
    assert finished == len(trials) == {"grid": 16, "hyperband": 23}.get(config.tuner, 8)
    # Nothing of keras-tuner's that a resumed search could stumble over.
    assert not list((tmp_path / "golden").glob("*.json"))
    search(config, tmp_path / "golden")
    assert told(tmp_path / "golden") == trials


@pytest.mark.parametrize("when", ["before", "after", "torn"])
def test_killed_at_each_write(golden, tmp_path, training, monkeypatch, when):
    """A search goes on to the same trials wherever it was killed."""
    config, trials, finished = golden
    if config.tuner == "bayesian":
        pytest.skip("its proposals take seconds; test_bayesian_goes_on_as_it_would_have")
    write, count = files.write_bytes, 0

    def deadly(path, content):
        nonlocal count
        count -= 1
        if count == 0 and when == "torn":
            path.write_bytes(content[: len(content) // 2])
        if count != 0 or when == "after":
            write(path, content)
        if count == 0:
            raise Killed

    monkeypatch.setattr(files, "write_bytes", deadly)
    # One search that is killed at its first write, goes on, is killed at its second one, ...
    folder = tmp_path / "killed"
    for number in range(1, 200):
        count = number
        try:
            search(config, folder)
        except Killed:
            continue
        break
    assert number > 10
    assert told(folder) == trials
    if when != "torn":
        assert len(training.finished) == finished


@pytest.mark.parametrize("golden", ["random", "grid", "hyperband"], indirect=True)
def test_a_process_for_each_few_trials(golden, tmp_path):
    config, trials, _ = golden
    processes = 1
    while True:
        try:
            search(config, tmp_path / "shared", most=3)
            break
        except Renewal:
            processes += 1
            assert len(told(tmp_path / "shared")) == 3 * (processes - 1)
    assert processes == len(trials) // 3 + 1
    assert told(tmp_path / "shared") == trials


def test_bayesian_goes_on_as_it_would_have(tmp_path, training):
    # With one hyperparameter the Gaussian process takes over after three trials.
    ranges = {"depth": "2..50", "units": "4", "batch_size": "64", "learning_rate": "1e-3"}
    config = settings("bayesian", 6, **ranges)
    search(config, tmp_path / "golden")

    def once(config):
        training.behave = lambda config: None
        raise Killed

    for killed in range(1, 7):
        folder = tmp_path / f"killed{killed}"
        search(settings("bayesian", killed, **ranges), folder)  # more trials are no other search
        training.behave = once
        if killed < 6:
            with pytest.raises(Killed):
                search(config, folder)
        training.behave = lambda config: None
        if killed in (3, 5):
            search(config, folder)
            assert told(folder) == told(tmp_path / "golden")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"trial": 3}', "\0"])
@pytest.mark.parametrize("name", ["record.json", "outcome.json", "seed0/config.json"])
@pytest.mark.parametrize("golden", ["random", "grid", "hyperband"], indirect=True)
def test_damaged_by_hand(golden, tmp_path, training, name, content):
    """A search with a damaged file goes on to the same trials."""
    config, trials, _ = golden
    folder = tmp_path / "golden"
    number = "0003" if name == "record.json" else trials[-1][0]
    path = folder / f"trial_{number}" / name
    path.write_text(content)
    if name != "record.json":  # so that the last trial is still to be ended
        record = records.read(folder, number)
        record.outcome = record.ended = None
        records.write(folder, record)
    if name == "seed0/config.json":
        (folder / f"trial_{number}" / "outcome.json").unlink()
    said = search(config, folder)
    assert told(folder) == trials
    if name == "record.json":
        expected = f"'{path}' is damaged. It is set aside, and its trial is run again"
        assert said == [expected]
        assert not training.finished  # its outcome was still there
    elif name == "outcome.json":
        assert not training.finished  # its run was
    else:
        assert training.finished == [path.parent]
    assert list(folder.glob(f"trial_{number}/*.damaged"))


@pytest.mark.parametrize("golden", ["random", "grid", "hyperband"], indirect=True)
def test_all_of_a_trial_is_lost(golden, tmp_path, training):
    config, trials, _ = golden
    folder = tmp_path / "golden"
    os.rename(folder / "trial_0003", tmp_path / "elsewhere")
    if config.tuner == "hyperband":  # which went on with the best of several, this one among them
        with pytest.raises(ConfigError, match=r"Cannot resume: the records do not lead to trial"):
            search(config, folder)
        return
    search(config, folder)
    assert [path.parent.name for path in training.finished] == ["trial_0003"]
    assert told(folder) == trials


def test_foreign_files_do_no_harm(tmp_path, training):
    config = settings()
    for name in ("oracle.json", "tuner0.json"):
        (tmp_path / "a").mkdir(exist_ok=True)
        (tmp_path / "a" / name).write_text("{")
    assert len(search(config, tmp_path / "a")) == 2  # both are set aside
    (tmp_path / "a" / "trial_0002" / "trial.json").write_text("{")
    search(config, tmp_path / "a")
    search(config, tmp_path / "b")
    assert told(tmp_path / "a") == told(tmp_path / "b")


def test_a_poisonous_trial_is_given_up(tmp_path, training):
    def kill(config):
        if config.model.depth == depth:
            raise Killed

    config = settings()
    search(config, tmp_path / "golden")
    depth = records.read(tmp_path / "golden", "0002").values["depth"]
    training.behave = kill
    kills = 0
    while kills < 100:
        try:
            search(config, tmp_path / "a")
            break
        except Killed:
            kills += 1
    poisonous = [r for r in records.read_all(tmp_path / "a") if r.values["depth"] == depth]
    assert kills == ATTEMPTS * len(poisonous)
    for record in poisonous:
        assert record.state == "failed"
        assert record.outcome.reason == "its process ended 5 times without a new checkpoint"
    values = [record.values for record in records.read_all(tmp_path / "golden")]
    assert [record.values for record in records.read_all(tmp_path / "a")] == values


def test_progress_is_patience(tmp_path, training):
    def kill(config):
        checkpoint = tmp_path / "a" / "trial_0000" / "seed0" / "checkpoints"
        checkpoint.mkdir(exist_ok=True)
        (checkpoint / f"epoch_{len(list(checkpoint.iterdir())):04d}-0.npz").touch()
        raise Killed

    training.behave = kill
    for _ in range(3 * ATTEMPTS):
        with pytest.raises(Killed):
            search(settings(), tmp_path / "a")
    assert records.read(tmp_path / "a", "0000").attempts == 1


def test_more_trials_later(tmp_path, training):
    search(settings(trials=3), tmp_path / "a")
    search(settings(trials=12), tmp_path / "a")
    search(settings(trials=12), tmp_path / "b")
    assert told(tmp_path / "a") == told(tmp_path / "b")


def test_executions_and_folds(tmp_path, training):
    search(settings(trials=2, executions=2, folds=3), tmp_path / "a")
    outcome = records.read(tmp_path / "a", "0001").outcome
    assert len(outcome.scores) == 6
    assert outcome.score == pytest.approx(sum(outcome.scores) / 6)
    names = sorted(path.name for path in (tmp_path / "a" / "trial_0001").glob("seed*"))
    assert names == [f"seed{seed}-fold{fold}of3" for seed in (0, 1) for fold in (1, 2, 3)]
    config = RunConfig.from_dict(
        files.read_json(tmp_path / "a" / "trial_0001" / names[-1] / "config.json")
    )
    assert (config.seed, config.fold, config.folds) == (1, 3, 3)


@pytest.mark.parametrize("direction", ["val_accuracy", "val_loss"])
def test_no_number_never_wins(tmp_path, training, direction):
    def behave(config):
        depth = config.model.depth
        if depth == 2:
            raise DivergedError("The loss became nan in epoch 1")
        # keras-tuner takes infinity for the best, and the first NaN for all that comes.
        return {
            3: [math.nan, math.nan], 4: [math.nan, 0.7], 5: [math.inf, 0.6], 6: [-math.inf, 0.5],
        }[depth]  # fmt: skip

    training.behave = behave
    config = settings("grid", depth="2,3,4,5,6", learning_rate="1e-3", units="8", trials=None)
    config = SearchConfig(**{**config.to_dict(), "objective": direction, "dropout": "0,0.1"})
    search(config, tmp_path / "a")
    found = records.read_all(tmp_path / "a")
    states = {(r.values["depth"], r.state) for r in found}
    assert states == {
        *((2, "diverged"), (3, "diverged")), *((4, "finished"), (5, "finished"), (6, "finished")),
    }  # fmt: skip
    best = results.ranked(found, config)
    assert [record.values["depth"] for record in best[::2]] == [4, 5, 6]
    score = best[0].outcome.score
    assert score == pytest.approx(0.7 if direction == "val_accuracy" else 0.3)


def test_hyperband_plans_epochs(tmp_path, training):
    search(settings("hyperband"), tmp_path / "a")
    found = records.read_all(tmp_path / "a")
    epochs = [record.values["tuner/epochs"] for record in found]
    assert set(epochs) == {1, 3, 9}
    again = [record for record in found if "tuner/trial_id" in record.values]
    assert again
    for record in again:
        earlier = records.read(tmp_path / "a", record.values["tuner/trial_id"])
        assert earlier.values["units"] == record.values["units"]
    config = settings("hyperband")
    assert {config.run(record.values).epochs for record in found} == {1, 3, 9}


def test_time_limit(tmp_path, training):
    search(settings(), tmp_path / "a", time_limit=1e-9)
    assert not records.read_all(tmp_path / "a")
    # What was begun stays begun.
    training.behave = lambda config: (_ for _ in ()).throw(Killed)
    with pytest.raises(Killed):
        search(settings(), tmp_path / "a")
    search(settings(), tmp_path / "a", time_limit=1e-9)
    assert [record.state for record in records.read_all(tmp_path / "a")] == ["running"]


def test_another_machine_s_trials(tmp_path, training):
    """What a worker left that does not come back is run by another one, in the end."""
    training.behave = lambda config: (_ for _ in ()).throw(Killed)
    with pytest.raises(Killed):
        search(settings(), tmp_path / "a")
    record = records.read(tmp_path / "a", "0000")
    record.tuner = "another"
    records.write(tmp_path / "a", record)
    training.behave = lambda config: None
    search(settings(), tmp_path / "a")
    assert training.finished[-1].parent.name == "trial_0000"
    search(settings(), tmp_path / "b")
    assert told(tmp_path / "a") == told(tmp_path / "b")


def test_a_worker_outlives_its_chief(tmp_path, training):
    """It delivers the trial that it got from the last chief, and then asks for more."""
    config, folder = settings(), tmp_path / "a"
    training.behave = lambda config: (_ for _ in ()).throw(Killed)
    with pytest.raises(Killed):
        search(config, folder)
    training.behave = lambda config: None
    worker = RunTuner(config, folder)
    worker.oracle.replay(records.read_all(folder))
    trial = worker.oracle.trials["0000"]
    worker.run_trial(trial)
    for _ in range(2):  # the first answer may be lost
        worker.oracle.end_trial(trial)
    worker.search(verbose=0)
    search(config, tmp_path / "b")
    assert told(folder) == told(tmp_path / "b")
    assert not worker.oracle.ongoing_trials and not worker.oracle.tuner_ids


def test_records_of_another_plan(tmp_path, training):
    search(settings("grid", depth="2,3", units="4", learning_rate="1e-3"), tmp_path / "a")
    with pytest.raises(ConfigError, match=r"Cannot resume: the records do not lead to trial 1"):
        search(settings("grid", depth="2..2", units="4", learning_rate="1e-3"), tmp_path / "a")


def test_sizes_of_own_data(tmp_path, training):
    """What only the data tell, 12 features and 3 classes, decides which models are too large."""
    path = tmp_path / "letters.npz"
    np.savez(path, x=np.zeros((30, 12)), y=np.arange(30) % 3)
    changes = {"depth": "2", "units": "4,5", "learning_rate": "1e-3"}
    # Input, recurrent matrix, biases of two steps, readout.
    parameters = {n: 4 * (12 * n + n * n + 2 * n) + 3 * (n + 1) for n in (4, 5)}
    config = settings("grid", **changes, max_parameters=parameters[5] - 1)
    config = dataclasses.replace(config, task=str(path))
    search(config, tmp_path / "search")
    found = records.read_all(tmp_path / "search")
    assert [record.state for record in found] == ["finished", "skipped"]
    assert found[1].outcome.reason == (
        f"{parameters[5]:,} parameters exceed max_parameters={parameters[5] - 1:,}"
    )
    assert config.subject == "letters"
