"""`deeplstm solve`: settings, models, examinations, training until solved, going on, errors."""

import math
import os

import keras
import numpy as np
import pandas as pd
import pytest
from event_files import assert_metrics
from golden import whole_and_killed

from keras_deeplstm.experiments import cli, runs
from keras_deeplstm.experiments import settings as configs
from keras_deeplstm.experiments.reports.page import write_report
from keras_deeplstm.experiments.settings.base import ConfigError
from keras_deeplstm.experiments.settings.sequences import SequenceConfig, SequenceModelConfig
from keras_deeplstm.experiments.tasks.sequences import TASKS, parse
from keras_deeplstm.experiments.tasks.sequences.task import activated
from keras_deeplstm.experiments.training import examinations, train
from keras_deeplstm.experiments.training.examinations import (
    examine,
    inputs_of,
)
from keras_deeplstm.experiments.training.guessing import Guess
from keras_deeplstm.experiments.training.sequences import (
    Fresh,
    design,
    make_optimizer,
)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch, quick_pictures):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def status(*argv):
    try:
        return cli.main([str(argument) for argument in argv])
    except SystemExit as exit:
        return exit.code


def small(task="periodic-bits", block="lstm", **changes):
    model = SequenceModelConfig(block, units=8)
    settings = {"model": model, "learning_rate": 0.01, "evaluate_every": 256, "sequences": 1024}
    return SequenceConfig(task, **settings | changes)


# Settings.


def test_settings():
    config = SequenceConfig("adding:target=mean,length=200", SequenceModelConfig("lstm", units=8))
    assert config.task == "adding:length=200,target=mean"  # one name, whatever the order
    assert config.slug == "adding-length-200-target-mean-lstm-depth1-8units-seed0"
    assert configs.from_dict(config.to_dict()) == config
    with pytest.raises(ConfigError, match="`jit_compile` must be True, False or None"):
        SequenceConfig("adding", jit_compile=3)
    assert (config.steps_of_part, config.rounds) == (31, 100)
    assert config.repeated(3).seed == 3 and config.repeated(3).repetition == ", seed 3"
    with pytest.raises(ConfigError, match="Unknown key 'unit' in 'model'"):
        SequenceConfig.from_dict({"task": "adding", "model": {"unit": 3}})
    with pytest.raises(ConfigError, match="`task` must be a string"):
        configs.from_dict({"task": 5, "sequences": 100})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("addin", "Unknown sequence task: 'addin'. Did you mean 'adding'?"),
        ("adding:len=3", "Unknown parameter of 'adding': 'len'. Did you mean 'length'?"),
        ("adding --sequences 0", "`sequences` must be a positive integer"),
        ("adding --sequences 100", "`sequences` must be at least evaluate_every=1000"),
        ("adding --decay 0.5", "`decay` has no meaning for schedule 'constant'"),
        ("adding --evaluate-every 8", "`evaluate_every` must be at least batch_size=32"),
        ("adding --momentum 0.9", "`momentum` has no meaning for optimizer 'adam'"),
        ("adding --optimizer sgd --momentum 1", "`momentum` must be a float in the range [0, 1)"),
        ("adding --model.block dense", "has time. Argument `model.block` must be one of ['grid_"),
        ("parity", "has no time. Argument `model.block` must be one of ['unfolded_lstm', 'dense'"),
        ("adding --model.block lstm --model.tied True", "`model.tied` has no meaning for block"),
        ("parity --model.block dense --model.tied depth", "must be one of [False, True]"),
        ("adding --model.block lstm --model.output both", "`model.output` has no meaning for"),
        ("adding --input-noise -1", "`input_noise` must be at least 0"),
        ("adding --decay 2", "`decay` must be at most 1"),
        ("adding --model.units 3 --model.parameters 9", "Pass either `model.units` or"),
        ("adding --model.parameters 5", "parameters"),
        ("adding --model.skip", "`skip=True` needs `return_sequences=True`"),
        ("adding --model.block guess --model.depth 2", "Block 'guess' has one layer"),
        ("adding --model.block guess --learning-rate 7", "Its own options: sequences, seed"),
        ("adding --model.block guess --model.tied True", "`model.tied` has no meaning for block"),
    ],
)
def test_wrong_usage(arguments, message, capsys, folder):
    assert status("solve", *arguments.split()) == 2
    error = capsys.readouterr().err
    assert error.startswith("deeplstm: error: ") and message in error
    assert "Traceback" not in error
    assert os.listdir(folder) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("series:data=none.csv", "/none.csv'"),
        ("series", "--data-dir or set DEEPLSTM_DATA"),
    ],
)
def test_data_that_are_not_there(arguments, message, capsys, folder, monkeypatch):
    monkeypatch.delenv("DEEPLSTM_DATA", raising=False)
    assert status("solve", *arguments.split()) == 4
    error = capsys.readouterr().err
    assert error.startswith("deeplstm: error: ") and message in error
    assert not list(folder.glob("runs/*"))


def test_learning_rates():
    rate = make_optimizer(small(schedule="step", decay=0.5, decay_every=320)).learning_rate
    optimizer = make_optimizer(small(schedule="step", decay=0.5, decay_every=320))
    for step, expected in ((0, 0.01), (9, 0.01), (10, 0.005), (25, 0.0025)):
        optimizer.iterations.assign(step)
        assert float(optimizer.learning_rate) == pytest.approx(expected)
    assert float(rate) == pytest.approx(0.01)
    optimizer = make_optimizer(small(optimizer="sgd", momentum=0.9, clipnorm=None, clipvalue=0.5))
    assert (optimizer.momentum, optimizer.clipvalue, optimizer.clipnorm) == (0.9, 0.5, None)


# Models and examinations.


def model_of(config):
    return design(config, config.make_task())()


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("name", [name for name in TASKS if name != "series"])
def test_a_model_for_every_task(name):
    task = parse(name)
    block = "grid_lstm" if task.steps else "unfolded_lstm"
    config = SequenceConfig(name, SequenceModelConfig(block, units=4))
    batch = task.sample(np.random.default_rng(0), 3)
    outputs = design(config, task)().predict_on_batch(inputs_of(batch))
    assert outputs.shape == batch.y.shape
    found = examine(
        lambda x: np.zeros((len(x), *batch.y.shape[1:])), task, np.random.default_rng(0)
    )
    assert not found["solved"]


@pytest.mark.parametrize("block", ["grid_lstm", "lstm"])
def test_padding_changes_nothing(block):
    """The output at the end of a short sequence is that without padding."""
    task = parse("two-sequence:length=20")
    batch = task.sample(np.random.default_rng(0), 8)
    model = model_of(small("two-sequence:length=20", block))
    outputs = model.predict_on_batch(inputs_of(batch))
    lengths = batch.mask.sum(axis=1)
    assert lengths.min() < lengths.max()
    for x, length, output in zip(batch.x, lengths, outputs, strict=True):
        alone = model.predict_on_batch(x[None, :length])
        np.testing.assert_allclose(alone[0], output, atol=1e-6)


def test_gate_biases_of_both_blocks():
    for block, name in (("lstm", "block_1"), ("grid_lstm", "block")):
        model = SequenceModelConfig(block, units=2, forget_bias=4.0, input_gate_bias=-3.0)
        layer = model_of(small(model=model)).get_layer(name)
        bias = layer.cell.bias if block == "lstm" else layer.time_bias[0]
        expected = [-3, -3, 4, 4, 0, 0, 0, 0]
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(bias), expected)
    bias = model_of(small()).get_layer("block_1").cell.bias  # as Keras has it
    np.testing.assert_array_equal(np.array(bias)[8:16], np.ones(8))


def test_activations():
    outputs = np.array([[1.0, -2.0, 0.5], [1000.0, -1000.0, 0.0]])
    exponentials = np.exp(outputs[0])
    softmax = activated(outputs, "softmax")
    np.testing.assert_allclose(softmax[0], exponentials / exponentials.sum())
    np.testing.assert_array_equal(softmax[1], [1, 0, 0])
    np.testing.assert_allclose(activated(outputs, "sigmoid")[0], 1 / (1 + np.exp(-outputs[0])))
    np.testing.assert_array_equal(activated(outputs, "sigmoid")[1], [1, 0, 0.5])
    assert activated(outputs, "linear") is outputs


def test_an_examination_ends_when_it_has_failed():
    task = parse("temporal-order")  # 2000 sequences, none may be wrong
    calls = []

    def guess(x):
        calls.append(len(x))
        return np.zeros((len(x), 4))

    found = examine(guess, task, np.random.default_rng(0))
    assert found == {"wrong": 1.0, "error": 0.375, "seen": 256, "solved": False}
    assert calls == [256]
    found = examine(guess, task, np.random.default_rng(0), sequences=600)
    assert (found["seen"], calls[1:]) == (600, [256, 256, 88])


@pytest.mark.parametrize(("name", "strings"), [("reber", 512), ("counting", 10)])
def test_a_fixed_test_set_is_seen_once(name, strings):
    task, calls = parse(name), []

    def guess(x):
        calls.append(len(x))
        return np.zeros((*x.shape[:2], task.outputs))

    found = examine(guess, task, np.random.default_rng(0), sequences=2560)
    assert (found["seen"], calls) == (strings, [strings])


def test_the_criterion_of_a_series_does_not_look_at_the_test_windows(tmp_path):
    """A model that knows all before these by heart has solved the task, and fails in the test."""
    values = np.random.default_rng(0).normal(size=200).cumsum()
    (tmp_path / "walk.csv").write_text("\n".join(map(str, values)))
    task = parse(f"series:data={tmp_path}/walk.csv,inputs=5,horizon=3")
    validation = task.validation(None, 0)
    known = {x.tobytes(): y for x, y in zip(validation.x, validation.y, strict=True)}

    def predict(x):
        return np.stack([known.get(one.tobytes(), np.full(3, 99.0)) for one in x])

    found = examine(predict, task, None)
    assert found == {"wrong": 0.0, "error": 0.0, "seen": 24, "solved": True}
    found = examinations.test(predict, task)
    assert (found["wrong"], found["seen"], found["solved"]) == (1.0, 24, False)


def test_a_perfect_model_has_solved_the_task():
    task = parse("two-sequence:length=10")
    found = examine(lambda x: 100.0 * np.sign(x[:, :3].sum(axis=1)), task, np.random.default_rng(0))
    assert found["solved"] and found["wrong"] == 0 and found["error"] < 1e-6


def fresh(config):
    return Fresh(config, config.make_task())


def test_sequences_depend_on_seed_and_step_only():
    data, again, other = fresh(small()), fresh(small()), fresh(small(seed=1))
    again.set_epoch(1)
    for index in range(2):
        for one, same in zip(again[index], fresh(small())[index + len(data)], strict=True):
            np.testing.assert_array_equal(one, same)
    first = parse("two-sequence").sample(np.random.default_rng([0, 0, 0]), 2)
    np.testing.assert_array_equal(fresh(small("two-sequence", batch_size=2))[0][1], first.y)
    assert not np.array_equal(data[0][0], other[0][0])


# Training.


def metrics(folder):
    return pd.read_csv(folder / "metrics.csv").drop(columns="seconds")


@pytest.mark.backends
def test_a_killed_run_goes_on_with_the_same_bits(folder):
    config = small(
        "two-sequence:length=10", input_noise=0.1, full=True, evaluate_every=128, sequences=512
    )
    whole_and_killed(config, folder, "sequences", 256)
    whole = metrics(folder / "whole")
    assert whole["sequences"].tolist() == [128, 256, 384, 512]
    assert runs.load(folder / "run").state == "interrupted"
    keras.utils.set_random_seed(12345)  # no generator of the process has a part in it
    said = []
    train(config, folder / "run", on_message=said.append)
    assert said == ["Run 'run' goes on after 256 sequences of 512 sequences"]
    pd.testing.assert_frame_equal(metrics(folder / "run"), whole, check_exact=True)
    results = [runs.load(folder / name).result for name in ("whole", "run")]
    assert results[1].pop("resumed_after_steps") == [8]
    for result in results:
        for key in ("seconds", "sequences_per_second", "resumed_after_steps"):
            result.pop(key, None)
    assert results[0] == results[1]


def test_training_ends_when_the_task_is_solved(folder):
    """Seed 0; it is solved within half of the sequences that it may take."""
    config = small(sequences=20_000, learning_rate=0.02)
    whole_and_killed(config, folder, "solved", True)
    result = runs.load(folder / "whole").result
    rows = runs.load(folder / "whole").metrics
    assert result["solved"] and result["sequences"] == rows["sequences"].iloc[-1] <= 10_000
    assert result["test_wrong"] == 0
    assert rows["solved"].tolist() == [False] * (len(rows) - 1) + [True]
    model = keras.models.load_model(folder / "whole" / "model.keras")
    assert examine(model.predict_on_batch, config.make_task(), np.random.default_rng(5))["solved"]
    assert model.count_params() == result["parameters"]

    # Killed between the evaluation that has ended it and the result: nothing is trained again.
    train(config, folder / "run", on_message=lambda text: None)
    again = runs.load(folder / "run")
    assert again.result["sequences"] == result["sequences"]
    pd.testing.assert_frame_equal(metrics(folder / "run"), metrics(folder / "whole"))


def test_a_run_that_diverges(folder):
    config = small("sines:horizon=5", learning_rate=1e30, clipnorm=None, optimizer="sgd")
    result = train(config, folder / "run")
    assert (result["state"], result["solved"]) == ("finished", False)
    said = "An output became NaN or infinite after 256 sequences"
    assert (result["diverged"], result["trained_sequences"]) == (said, 256)
    assert config.outcome(result).startswith(f"not solved, diverged: {said}; ")
    page = write_report([folder / "run"]).read_text()  # it has a row, though no error
    assert "0 of 1" in page


@pytest.mark.usefixtures("eager")
def test_a_run_that_diverges_in_the_test(folder, monkeypatch):
    found = {"wrong": 1.0, "error": math.inf, "seen": 3, "solved": False}
    monkeypatch.setattr(examinations, "test", lambda predict, task: found)
    config = small("parity", model=SequenceModelConfig("dense", units=4), sequences=256)
    result = train(config, folder / "run")
    assert (result["state"], result["solved"], result["test_sequences"]) == ("finished", False, 0)
    assert result["diverged"] == "test_error is inf after the training"


@pytest.mark.usefixtures("eager", "quick_pictures")
def test_forecasts_are_kept_and_drawn(folder, capsys):
    step = np.arange(150)
    values = np.sin(step / 3) + step
    (folder / "data" / "timeseries").mkdir(parents=True)
    frame = pd.DataFrame({"when": step, "value": values})
    frame.to_csv(folder / "data" / "timeseries" / "Airline.csv", index=False)
    argv = ["--model.units", 4, "--model.depth", 1, "--sequences", 64, "--evaluate-every", 32]
    assert status("solve", "series", *argv, "--data-dir", folder / "data", "--name", "a") == 0
    run = runs.load(folder / "runs" / "a")
    assert run.examples["example"].unique().tolist() == ["first test window", "last test window"]
    last = run.examples[run.examples["example"] == "last test window"]
    assert last["step"].tolist() == list(range(36))
    assert last["forecast"].isna().sum() == 24
    # Values are differences to the last one read, divided by the same number.
    assert last["value"].iloc[23] == 0
    ratios = (last["value"] / last["value"].iloc[-1]).to_numpy()
    expected = (values[-36:] - values[-13]) / (values[-1] - values[-13])
    np.testing.assert_allclose(ratios, expected, rtol=1e-5, atol=1e-6)
    page = (folder / "runs" / "a" / "report.html").read_text()
    assert page.count("<img") == 4 and "Forecasts of last test window" in page
    # Other data are another run.
    frame["value"] += 1 + frame["when"] % 2
    frame.to_csv(folder / "data" / "timeseries" / "Airline.csv", index=False)
    overwritten = ["--data-dir", folder / "data", "--name", "b", *argv]
    assert status("solve", "series", *overwritten) == 0
    assert run.environment["data"] != runs.load(folder / "runs" / "b").environment["data"]


# Random weight guessing.


def test_a_guess_against_a_loop():
    task = parse("two-sequence:length=10")
    guess = Guess(task, 3, 4, np.random.default_rng(0))
    batch = task.sample(np.random.default_rng(1), 5)
    found = guess.predict(batch.x, batch.mask)
    assert found.shape == (4, 5, 1)
    for trial in (0, 3):
        w = {name: some[trial] for name, some in guess.weights.items()}
        assert all(np.abs(some).max() <= 100 for some in w.values())
        for row in range(5):
            h = np.zeros((1, 3))
            for x in batch.x[row, batch.mask[row]]:
                h = np.tanh(x[None] @ w["kernel"] + h @ w["recurrent_kernel"] + w["bias"])
            expected = h @ w["output_kernel"] + w["output_bias"]
            np.testing.assert_allclose(found[trial, row], expected[0])
            alone = guess.alone(trial).predict(batch.x, batch.mask)
            np.testing.assert_array_equal(alone[0], found[trial])
    assert guess.parameters == 3 + 9 + 3 + 3 + 1


def test_guessing_solves_what_needs_no_learning(folder, capsys):
    """Seed 0; a latch of one unit is found among the first hundreds of networks."""
    model = SequenceModelConfig("guess", units=1)
    config = SequenceConfig("two-sequence", model, sequences=100_000)
    result = train(config, folder / "run")
    assert result["solved"] and result["sequences"] == result["trained_sequences"] < 20_000
    assert result["test_wrong"] == 0 and result["parameters"] == 5
    assert train(config, folder / "again")["sequences"] == result["sequences"]
    weights = np.load(folder / "run" / "weights.npz")
    guess = object.__new__(Guess)
    guess.weights, guess.each_step = dict(weights), False
    task = config.make_task()
    batch = task.sample(np.random.default_rng(9), 500)
    outputs = activated(guess.predict(batch.x, batch.mask)[0], task.readout)
    assert task.score(outputs, batch)[0].all()

    argv = ["solve", "adding", "--model.block", "guess", "--sequences", 3200, "--name", "a"]
    assert status(*argv, "--model.units", 2, "--tensorboard") == 0
    a = folder / "runs" / "a"
    assert assert_metrics(a / "tensorboard", pd.read_csv(a / "metrics.csv"), "sequences") == {}
    assert "\nnot solved with 3,200 sequences; " in capsys.readouterr().out
    page = (folder / "runs" / "a" / "report.html").read_text()
    assert "0 of 1" in page and "<img" not in page


def test_commands(folder, capsys):
    argv = ["solve", "periodic-bits", "--model.block", "lstm", "--model.units", 8]
    argv += ["--learning-rate", 0.02, "--name", "a", "--tensorboard"]
    assert status(*argv) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "periodic-bits: LSTM, depth 1, 8 units"
    assert lines[2] == "Solved: all of 4 places to begin right"
    assert lines[3].startswith("992 sequences  loss ")
    assert lines[-3].startswith("solved with ")
    a = folder / "runs" / "a"
    assert assert_metrics(a / "tensorboard", pd.read_csv(a / "metrics.csv"), "sequences") == {}
    page = (folder / "runs" / "a" / "report.html").read_text()
    assert "1 of 1" in page and page.count("<img") == 2
    table = pd.read_csv(folder / "runs" / "a" / "table.csv")
    assert table["sequences"][0] == runs.load(folder / "runs" / "a").result["sequences"]
    assert status(*argv) == 0
    assert "Run 'a' is already finished: solved with" in capsys.readouterr().out
    assert status("list") == 0
    assert capsys.readouterr().out.splitlines()[1].split()[:3] == ["a", "finished", "periodic-bits"]
    assert status("list", "sequences") == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(TASKS)


def test_the_error_that_is_not_finite():
    assert math.isnan(
        examine(
            lambda x: np.full((len(x), 1), np.nan),
            parse("adding:length=10"),
            np.random.default_rng(0),
        )["error"]
    )
