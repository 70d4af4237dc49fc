"""`OptunaOracle`: values, counts and states of trials, alone and with others, and after an end."""

import concurrent.futures
import copy
import math
import os
import signal
import subprocess
import sys
import threading
import types

import keras
import keras_tuner
import numpy as np
import optuna
import pytest
from keras_tuner.engine.trial import TrialStatus
from optuna.trial import TrialState

from keras_deeplstm import models
from keras_deeplstm.search import HyperModel, OptunaOracle, PruningCallback, leases, optuna_oracle

PATH = filter(None, [os.environ.get("PYTHONPATH")])

optuna.logging.set_verbosity(optuna.logging.WARNING)


def count_trials(url):
    return len(oracle_of(storage=url).study.trials)


def space(hp=None):
    """All kinds of hyperparameters, some of which depend on others."""
    hp = hp or keras_tuner.HyperParameters()
    hp.Fixed("fixed", 7)
    hp.Boolean("flag")
    hp.Int("even", 2, 9, step=2)
    hp.Int("units", 4, 300, sampling="log")
    hp.Int("power", 2, 40, step=2, sampling="log")
    hp.Float("rate", 1e-4, 1e-1, sampling="log")
    hp.Float("half", 0.0, 1.2, step=0.5)
    hp.Float("late", 1.0, 100.0, sampling="reverse_log")
    kind = hp.Choice("kind", ["plain", "deep"])
    with hp.conditional_scope("kind", ["deep"]):
        if kind == "deep":
            hp.Int("depth", 2, 4)
            hp.Float("width", 0.5, 0.6)
    with hp.conditional_scope("kind", ["plain"]):
        if kind == "plain":
            hp.Int("depth", 10, 12)
    return hp


def full_space():
    """The same as an oracle knows it once it has seen both branches."""
    hp = space()
    hp.values["kind"] = "deep"
    return space(hp)


def small_space():
    hp = keras_tuner.HyperParameters()
    hp.Choice("a", [3, 1])
    hp.Int("b", 0, 2)
    with hp.conditional_scope("a", [1]):
        hp.values["a"] = 1
        hp.Boolean("c")
    return hp


class Quick(keras_tuner.Tuner):
    """Its trials are a function of their values."""

    def __init__(self, oracle, folder, function=None, **options):
        self.function = function or (lambda values: values["rate"])
        super().__init__(oracle=oracle, directory=folder, project_name="quick", **options)

    def run_trial(self, trial, **options):
        return self.function(trial.hyperparameters.values)


def oracle_of(hyperparameters=None, **options):
    options = {"max_trials": 6, "sampler": "random", "seed": 1, **options}
    return OptunaOracle(hyperparameters=hyperparameters or full_space(), **options)


def table(oracle):
    """What came of all trials, by number."""
    return [
        (trial.number, trial.state.name, trial.user_attrs["values"], trial.values)
        for trial in oracle.study.get_trials()
        if trial.state != TrialState.WAITING
    ]


def search(oracle, folder, function=None):
    Quick(oracle, folder, function).search(verbose=0)
    return table(oracle)


# Values.


@pytest.mark.parametrize("sampler", ["random", "tpe", "nsga2"])
def test_values_are_what_keras_tuner_allows(sampler, tmp_path):
    trials = search(oracle_of(max_trials=30, sampler=sampler), tmp_path)
    assert len(trials) == 30
    values = [one for _, _, one, _ in trials]
    for one in values:
        branch = {"deep": {"depth", "width"}, "plain": {"depth"}}[one["kind"]]
        shared = {"fixed", "flag", "even", "units", "power", "rate", "half", "late", "kind"}
        assert set(one) == shared | branch
        assert one["depth"] in ([2, 3, 4] if one["kind"] == "deep" else [10, 11, 12])
        assert 0.5 <= one.get("width", 0.5) <= 0.6
        assert 4 <= one["units"] <= 300 and 1e-4 <= one["rate"] <= 0.1 and 1 <= one["late"] <= 100
        types = [type(one[name]) for name in ("flag", "even", "units", "power", "rate", "late")]
        assert types == [bool, int, int, int, float, float]
    steps = {"fixed": [7], "even": [2, 4, 6, 8], "power": [2, 4, 8, 16, 32], "half": [0, 0.5, 1]}
    for name, allowed in steps.items():
        found = {one[name] for one in values}
        assert found == set(allowed) if sampler == "random" else found <= set(allowed)


@pytest.mark.long
def test_a_gaussian_process_knows_what_a_model_has_asked_for(tmp_path):
    """A sampler of all parameters together, and one that the first trial brings."""
    pytest.importorskip("torch")

    class Parabola(Quick):
        def run_trial(self, trial, **options):
            return (trial.hyperparameters.Float("x", -10.0, 10.0) - 2) ** 2

    oracle = OptunaOracle(max_trials=16, sampler="gp", seed=0)
    Parabola(oracle, tmp_path).search(verbose=0)
    assert oracle.get_best_trials()[0].score < 1e-4  # by chance: in 2 of 100 searches


def test_logarithms_of_both_directions(tmp_path):
    """A quarter of the values of a logarithm lies in each quarter of its decades."""
    trials = search(oracle_of(max_trials=400), tmp_path)
    rates = np.log10([values["rate"] for _, _, values, _ in trials])
    late = np.log10([101 - values["late"] for _, _, values, _ in trials])
    for found, low, high in ((rates, -4, -1), (late, 0, 2)):
        counts, _ = np.histogram(found, bins=4, range=(low, high))
        assert counts.sum() == 400 and counts.min() > 70


def test_a_grid_has_each_combination_once(tmp_path):
    oracle = oracle_of(small_space(), sampler="grid", max_trials=None)
    trials = search(oracle, tmp_path, lambda values: values["b"])
    threes = [{"a": 3, "b": b} for b in (0, 1, 2)]
    ones = [{"a": 1, "b": b, "c": c} for b in (0, 1, 2) for c in (True, False)]
    assert [values for _, _, values, _ in trials] == threes + ones
    assert [found.params for found in oracle.study.trials] == threes + ones


def test_a_grid_takes_ten_values_of_a_range(tmp_path):
    hp = keras_tuner.HyperParameters()
    hp.Float("rate", 1e-4, 1.0, sampling="log")
    hp.Float("late", 1.0, 100.0, sampling="reverse_log")
    trials = search(oracle_of(hp, sampler="grid", max_trials=None), tmp_path)
    rates, late = ([values[name] for _, _, values, _ in trials] for name in ("rate", "late"))
    places = np.arange(0.05, 1, 0.1)  # as keras-tuner's grid search has them
    np.testing.assert_allclose(rates, np.repeat(10 ** (4 * places - 4), 10))
    np.testing.assert_allclose(late, np.tile(101 - 100 ** (1 - places), 10))


def test_new_entries_are_searched_or_left_alone(tmp_path):
    def run(hp):
        return hp.Float("rate", 0.0, 1.0) + hp.Int("found", 1, 5)

    class Finding(Quick):
        def run_trial(self, trial, **options):
            return run(trial.hyperparameters)

    oracle = OptunaOracle(max_trials=8, sampler="random", seed=0)
    Finding(oracle, tmp_path).search(verbose=0)
    values = [values for _, _, values, _ in table(oracle)]
    assert values[0] == {"rate": 0.0, "found": 1}  # not known before
    assert [found.params for found in oracle.study.trials] == values
    assert len({one["found"] for one in values}) > 2
    hp = keras_tuner.HyperParameters()
    hp.Float("rate", 0.0, 1.0)
    # One that another trial has asked for, and a failed one not: nothing is made up.
    trial = OptunaOracle(max_trials=1, sampler="random", seed=0)
    begun = trial.create_trial("tuner0")
    trial.update_space(oracle.get_space())
    begun.status = TrialStatus.FAILED
    trial.end_trial(begun)
    assert [found.params for found in trial.study.trials] == [{}]
    oracle = OptunaOracle(
        max_trials=5, sampler="random", seed=0, hyperparameters=hp, tune_new_entries=False
    )
    Finding(oracle, tmp_path / "fixed").search(verbose=0)
    values = [values for _, _, values, _ in table(oracle)]
    assert {one["found"] for one in values} == {1} and len({one["rate"] for one in values}) == 5


# One study, several searches.


def storages(folder):
    yield str(folder / "study.log")
    yield f"sqlite:///{folder / 'study.db'}"


@pytest.mark.parametrize("kind", [0, pytest.param(1, marks=pytest.mark.long)], ids=["file", "db"])
@pytest.mark.parametrize("sampler", ["random", "tpe", "grid"])
def test_a_search_goes_on_where_another_has_ended(sampler, kind, tmp_path):
    whole = search(oracle_of(sampler=sampler, max_trials=14), tmp_path / "whole")
    storage = list(storages(tmp_path))[kind]
    for trials in (3, 4, 14):
        oracle = oracle_of(sampler=sampler, max_trials=trials, storage=storage)
        found = search(oracle, tmp_path / "parts")
        assert oracle.remaining_trials() == 0
    assert found == whole
    # Another process sees the same trials as the one that has run them.
    other = oracle_of(sampler=sampler, max_trials=14, storage=storage)
    best = min(whole, key=lambda trial: trial[-1])
    for one in (oracle, other):
        (trial,) = one.get_best_trials()
        assert (int(trial.trial_id), trial.score) == (best[0], best[-1][0])
        assert trial.hyperparameters.values == best[2]
        assert trial.metrics.get_best_value(one.objective.name) == best[-1][0]


def in_thread(function, *arguments):
    """What a function returns that another thread executes."""
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        return pool.submit(function, *arguments).result()


@pytest.mark.parametrize("sampler", ["random", "grid"])
def test_searches_side_by_side_have_the_trials_of_one(sampler, tmp_path, monkeypatch):
    monkeypatch.setattr(optuna_oracle, "WAIT", 0.01)
    whole = search(oracle_of(sampler=sampler, max_trials=10), tmp_path / "whole")
    storage, together = str(tmp_path / "study.log"), threading.Barrier(3)

    def one_of_three(number):
        oracle = oracle_of(sampler=sampler, max_trials=10, storage=storage)
        together.wait()
        # One may end while another sees that its last trial is one too many.
        Quick(oracle, tmp_path / str(number), None).search(verbose=0)
        return oracle

    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        oracles = list(pool.map(one_of_three, range(3)))
    for oracle in oracles:
        assert sorted(table(oracle), key=lambda trial: trial[0]) == whole
    assert sum(len(oracle.start_order) for oracle in oracles) == 10


def test_the_seed_is_that_of_the_study(tmp_path):
    storage = tmp_path / "study.log"
    seeds = [oracle_of(storage=storage, seed=seed).seed for seed in (None, None, 7, None)]
    assert seeds[0] == seeds[1] and seeds[2:] == [7, 7]
    assert oracle_of(seed=0).seed == 0  # which keras-tuner takes for none


def test_one_too_many_waits_for_a_larger_search(tmp_path, monkeypatch):
    """Two processes see room for one trial, and both ask for it."""
    storage = str(tmp_path / "study.log")
    oracles = [oracle_of(max_trials=1, storage=storage) for _ in range(2)]
    for oracle in oracles:
        monkeypatch.setattr(oracle, "_found", list)
    assert oracles[0].create_trial("tuner0").status == TrialStatus.RUNNING
    assert in_thread(oracles[1].create_trial, "tuner0").status == TrialStatus.IDLE
    states = [trial.state for trial in oracles[0].study.get_trials()]
    assert states == [TrialState.RUNNING, TrialState.WAITING]
    larger = oracle_of(max_trials=2, storage=storage)

    def ask_twice():
        return [larger.create_trial(tuner) for tuner in ("tuner0", "tuner1")]

    first, second = in_thread(ask_twice)
    assert first.trial_id == "0001" and second.status == TrialStatus.IDLE


def test_several_make_the_tables_of_a_database(tmp_path):
    """Optuna looks whether they are there, and then makes them: another one may be faster."""
    url = f"sqlite:///{tmp_path}/study.db"
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        found = list(pool.map(count_trials, [url] * 4))
    assert found == [0] * 4


def test_a_torn_last_line_is_cut(tmp_path):
    path = tmp_path / "study.log"
    whole = search(oracle_of(max_trials=3, storage=path), tmp_path)
    content = path.read_bytes()
    path.write_bytes(content + b'{"op_code": 4, "worker')
    assert search(oracle_of(max_trials=3, storage=path), tmp_path) == whole
    search(oracle_of(max_trials=4, storage=path), tmp_path)
    assert len(table(oracle_of(storage=path))) == 4
    # One that is torn while another process has it open: full disk, loss of power.
    opened = oracle_of(storage=path, max_trials=6)
    with open(path, "ab") as journal:
        journal.write(b'{"op_code":4,"work')
    search(opened, tmp_path)
    assert [state for _, state, _, _ in table(oracle_of(storage=path))] == ["COMPLETE"] * 6


# Ends of trials.


def test_failed_trials_are_tried_again_and_many_end_the_search(tmp_path):
    failures = iter([ValueError("no luck"), None, math.nan])

    def function(values):
        failure = next(failures, 1.0)
        if isinstance(failure, Exception):
            raise failure
        return 1.0 if failure is None else failure

    oracle = oracle_of(max_trials=3, max_retries_per_trial=1)
    trials = search(oracle, tmp_path, function)
    assert [(number, state) for number, state, _, _ in trials] == [
        (number, "COMPLETE") for number in range(3)
    ]

    def always(values):
        raise ValueError("never")

    oracle = oracle_of(max_trials=9)
    with pytest.raises(RuntimeError, match=r"(?s)failures exceeded the limit of 3.*never"):
        search(oracle, tmp_path / "failing", always)
    assert [state for _, state, _, _ in table(oracle)] == ["FAIL"] * 3
    assert oracle.get_best_trials() == []
    assert "never" in oracle.get_trial("0001").message


def test_a_pruned_trial_has_a_state_of_its_own(tmp_path):
    class Pruned(optuna.pruners.BasePruner):
        """Ends trials 0, 1, 2 and 4 after their second epoch."""

        def prune(self, study, trial):
            return trial.number != 3 and len(trial.intermediate_values) == 2

    class Model:
        stop_training = False

    oracle = oracle_of(objective="val_loss", max_trials=5, pruner=Pruned())
    callback = PruningCallback(oracle)

    class Training(Quick):
        def run_trial(self, trial, **options):
            one = copy.deepcopy(callback)
            assert one.oracle is oracle
            one.set_model(Model())
            one.set_params({"epochs": 4})
            number, losses = int(trial.trial_id), []
            for epoch in range(4):
                losses.append(10 - number - epoch)
                one.on_epoch_end(epoch, {"val_loss": losses[-1], "loss": 0})
                if one.model.stop_training:
                    break
            return {"val_loss": min(losses)}

    Training(oracle, tmp_path).search(verbose=0)
    states = [(state, values) for _, state, _, values in table(oracle)]
    assert states == [("PRUNED", [n]) if n != 4 else ("COMPLETE", [4]) for n in (9, 8, 7, 4, 5)]
    assert [trial.trial_id for trial in oracle.get_best_trials(9)] == ["0003"]
    with pytest.raises(ValueError, match="none of the metrics"):
        oracle.max_trials = 6
        oracle.create_trial("tuner0")
        callback.on_epoch_end(0, {"loss": 1})


def test_a_trial_that_is_through_is_not_pruned():
    class Always(optuna.pruners.BasePruner):
        def prune(self, study, trial):
            return True

    oracle = oracle_of(objective="val_loss", max_trials=1, pruner=Always())
    callback, trial = PruningCallback(oracle), oracle.create_trial("tuner0")
    callback.set_model(types.SimpleNamespace(stop_training=False))
    callback.set_params({"epochs": 2})
    callback.on_epoch_end(1, {"val_loss": 3.0})
    assert not callback.model.stop_training
    assert oracle.study.trials[0].intermediate_values == {2: 3.0}
    callback.on_epoch_end(0, {"val_loss": 4.0})
    assert callback.model.stop_training
    assert trial.trial_id == "0000"


def test_several_objectives(tmp_path):
    objectives = [
        keras_tuner.Objective("val_accuracy", "max"),
        keras_tuner.Objective("parameters", "min"),
    ]
    oracle = oracle_of(objective=objectives, max_trials=12, sampler="nsga2")

    def function(values):
        # The sum is what keras-tuner asks for.
        return {"val_accuracy": values["rate"], "parameters": values["units"], "multi_objective": 0}

    search(oracle, tmp_path, function)
    assert [d.name for d in oracle.study.directions] == ["MAXIMIZE", "MINIMIZE"]
    values = [values for _, _, _, values in table(oracle)]
    front = [
        number
        for number, (rate, units) in enumerate(values)
        if not any(r >= rate and u <= units and (r, u) != (rate, units) for r, u in values)
    ]
    assert sorted(trial.number for trial in oracle.study.best_trials) == front


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sampler": "tpee"}, "Did you mean 'tpe'"),
        ({"max_trials": 0}, "`max_trials` must be a positive integer"),
        ({"pruner": "mean"}, "`pruner` must be one of"),
        ({"objective": ["val_loss", "loss"], "pruner": "median"}, "A pruner judges trials by one"),
        ({"storage": 3}, "`storage` must be a path, the URL of a database or a storage"),
    ],
)
def test_wrong_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        oracle_of(**options)


def test_what_cannot_be(tmp_path, monkeypatch):
    for sampler, package in (("cmaes", "cmaes"), ("gp", "torch")):
        monkeypatch.setitem(sys.modules, package, None)  # as if it were not installed
        with pytest.raises(ImportError, match=f"'{sampler}' needs the package '{package}'"):
            oracle_of(sampler=sampler)
    storage = tmp_path / "study.log"
    oracle_of(objective="val_loss", storage=storage)
    with pytest.raises(ValueError, match=r"has the objectives \['minimize'\] in this storage"):
        oracle_of(objective="val_accuracy", storage=storage)
    with pytest.raises(ValueError, match="has no pruner"):
        PruningCallback(oracle_of())
    with pytest.raises(ValueError, match="`oracle` must be an OptunaOracle"):
        PruningCallback(keras_tuner.oracles.RandomSearchOracle())


def test_lines_of_a_notebook(eager, tmp_path):
    """A search of models, whose best one another process loads."""
    x = np.random.default_rng(0).normal(size=(40, 5)).astype("float32")
    y = (x.sum(axis=1) > 0).astype("int32")

    def tuner():
        hypermodel = HyperModel(models.classifier, (5,), 2, depth=(1, 3), units=(2, 8))
        oracle = OptunaOracle("val_accuracy", 2, seed=0, storage=tmp_path / "study.log")
        return keras_tuner.Tuner(
            hypermodel=hypermodel, oracle=oracle, directory=tmp_path, project_name="models"
        )

    first = tuner()
    first.search(x, y, validation_data=(x, y), epochs=1, verbose=0)
    second = tuner()
    second.search(x, y, validation_data=(x, y), epochs=1, verbose=0)
    assert len(table(second.oracle)) == 2
    best = [one.get_best_models()[0] for one in (first, second)]
    for model in best:
        assert isinstance(model, keras.Model)
    np.testing.assert_array_equal(*(model.predict(x, verbose=0) for model in best))


# Processes that are killed.

KILLED = """
import os, signal, sys
import keras_tuner
from test_optuna_oracle import Quick, oracle_of
oracle = oracle_of(storage=sys.argv[1])
def function(values):
    if len(oracle.study.get_trials()) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return values["rate"]
Quick(oracle, sys.argv[2], function).search(verbose=0)
"""


def test_the_trial_of_a_killed_process_is_taken_up(tmp_path):
    whole = search(oracle_of(), tmp_path / "whole")
    storage = str(tmp_path / "study.log")
    command = [sys.executable, "-c", KILLED, storage, str(tmp_path / "parts")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([os.path.dirname(__file__), *PATH])}
    assert subprocess.run(command, env=environment).returncode == -signal.SIGKILL
    oracle = oracle_of(storage=storage)
    states = [trial.state.name for trial in oracle.study.get_trials()]
    assert states == ["COMPLETE", "COMPLETE", "RUNNING"]
    assert search(oracle, tmp_path / "parts") == whole


@pytest.fixture
def elsewhere(tmp_path):
    """A study of which a process of another machine runs trial 0, and a clock."""
    oracle = oracle_of(storage=tmp_path / "study.log", max_trials=1)
    assert oracle.create_trial("tuner0").trial_id == "0000"
    (found,) = oracle.study.get_trials()
    lease = found.user_attrs["lease"] | {"host": "elsewhere"}

    def say(**changes):
        oracle._storage.set_trial_user_attr(found._trial_id, "lease", {**lease, **changes})

    say()
    now = [0.0]

    def another():
        other = oracle_of(storage=tmp_path / "study.log", max_trials=1)
        other._leases._clock = lambda: now[0]
        return other

    return say, now, another


def test_a_lease_that_is_renewed_is_left_alone(elsewhere, monkeypatch):
    say, now, another = elsewhere
    monkeypatch.setattr(optuna_oracle, "WAIT", 0)
    one = another()
    for minute in range(10):
        now[0] = 60.0 * minute
        say(time=str(minute))
        assert one.create_trial("tuner0").status == TrialStatus.IDLE
    now[0] += 119
    assert one.create_trial("tuner0").status == TrialStatus.IDLE
    now[0] += 2
    trial = one.create_trial("tuner0")
    assert (trial.trial_id, trial.status) == ("0000", TrialStatus.RUNNING)
    assert table(one)[0][2] == trial.hyperparameters.values
    (found,) = one.study.get_trials()
    assert found.user_attrs["lease"]["attempt"] == 2


def test_of_two_that_claim_a_trial_one_has_it(elsewhere, monkeypatch):
    _, now, another = elsewhere
    monkeypatch.setattr(optuna_oracle, "WAIT", 0)
    several = [another() for _ in range(3)]
    for one in several:
        assert one.create_trial("tuner0").status == TrialStatus.IDLE
    now[0] = 121.0
    found = [one._leases.abandoned() for one in several]  # all see it at the same time
    assert [len(trials) for trials in found] == [1, 1, 1]
    claims = [one._leases.claim(trial) for one, (trial,) in zip(several, found, strict=True)]
    assert claims == [1, None, None]
    # The faster one is killed before its lease is written: after two minutes comes the next.
    one = several[2]
    now[0] = 300.0
    assert one._leases.claim(found[2][0]) == 1
    (trial,) = one.study.get_trials()
    assert trial.user_attrs["lease"]["attempt"] == 3


def test_a_trial_that_kills_its_process_is_given_up(elsewhere):
    say, now, another = elsewhere
    say(attempt=5, wasted=4)
    one = another()
    one._leases.abandoned()
    now[0] = 121.0
    assert one.create_trial("tuner0").status == TrialStatus.STOPPED
    (trial,) = one.trials.values()
    assert trial.status == TrialStatus.FAILED
    assert trial.message == "its process ended 5 times without progress"


def test_a_subclass_may_know_better(elsewhere, monkeypatch):
    _, now, another = elsewhere
    monkeypatch.setattr(optuna_oracle, "WAIT", 0)
    one = another()
    one._leases.abandoned()
    now[0] = 121.0
    monkeypatch.setattr(one, "may_take_up", lambda trial_id: trial_id != "0000")
    assert one.create_trial("tuner0").status == TrialStatus.IDLE
    monkeypatch.undo()
    assert one.create_trial("tuner0").trial_id == "0000"


def test_a_search_that_was_interrupted_in_a_notebook(tmp_path, monkeypatch):
    """The process lives on; whoever asks in the same thread cannot be at work at another trial."""
    monkeypatch.setattr(optuna_oracle, "WAIT", 0)
    storage = tmp_path / "study.log"
    first, second = (oracle_of(storage=storage, max_trials=1) for _ in range(2))
    first.create_trial("tuner0")
    assert in_thread(second.create_trial, "tuner0").status == TrialStatus.IDLE
    assert second.create_trial("tuner0").trial_id == "0000"
    first._leases.renew()  # what it has no more
    (found,) = first.study.get_trials()
    assert found.user_attrs["lease"]["token"] == second._leases._token


def test_leases_are_renewed_as_long_as_a_trial_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(leases, "RENEWED", 0.01)
    oracle = oracle_of(storage=tmp_path / "study.log")
    renewed = threading.Event()
    monkeypatch.setattr(
        leases.Leases, "renew", lambda self, renew=leases.Leases.renew: (renew(self), renewed.set())
    )
    trial = oracle.create_trial("tuner0")
    assert renewed.wait(30)
    trial.status = TrialStatus.FAILED
    oracle.end_trial(trial)
    oracle._leases.renew()  # nothing is written to a trial that has ended
    assert oracle.study.get_trials()[0].state == TrialState.FAIL


def test_a_process_that_had_slept_lets_the_trial_go(elsewhere, tmp_path):
    """Another one has taken it up, and is not to be disturbed when the first one wakes."""
    _, now, another = elsewhere
    one = another()
    assert one.create_trial("tuner0").status == TrialStatus.IDLE
    now[0] = 121.0
    first = one.create_trial("tuner0")
    assert first.status == TrialStatus.RUNNING
    (trial,) = one.study.get_trials()
    taken = {**trial.user_attrs["lease"], "attempt": 3, "token": "another"}
    one._storage.set_trial_user_attr(trial._trial_id, "lease", taken)
    one._leases.renew()
    (trial,) = one.study.get_trials()
    assert trial.user_attrs["lease"] == taken
    # When it has ended there, it is not ended again here.
    one.study.tell(0, 5.0)
    first.status = TrialStatus.FAILED
    one.end_trial(first)
    assert one.study.get_trials()[0].value == 5.0


def test_a_lease_survives_an_error_of_the_network(monkeypatch, caplog):
    class Shaky:
        renewals = 0

        def renew(self):
            self.renewals += 1
            if self.renewals == 1:
                raise OSError("gone")

    shaky, seen = Shaky(), []
    monkeypatch.setattr(leases.time, "sleep", seen.append)
    leases._renew(lambda: shaky if shaky.renewals < 3 else None)
    assert shaky.renewals == 3 and seen == [leases.RENEWED] * 4
    assert "Cannot renew a lease: gone" in caplog.text


def test_of_two_that_see_a_trial_wait_one_has_it(tmp_path):
    """Also where one still sees it wait after the other has claimed it."""
    path = str(tmp_path / "study.log")
    oracles = [oracle_of(storage=path, max_trials=1) for _ in range(2)]
    oracles[0].study.enqueue_trial({})
    seen = [oracle.study.get_trials(states=[TrialState.WAITING]) for oracle in oracles]
    assert oracles[0]._leases.claim(*seen[0]) is not None
    assert oracles[1]._leases.claim(*seen[1]) is None
    (trial,) = oracles[1].study.get_trials()
    assert trial.state == TrialState.RUNNING
    assert trial.user_attrs["lease"]["token"] == oracles[0]._leases._token
