"""`deeplstm train-text` and `deeplstm sample`: texts, splits, training, going on, errors."""

import contextlib
import dataclasses
import functools
import gzip
import hashlib
import math
import os
import shutil
import subprocess
import sys
import zipfile

import keras
import numpy as np
import pandas as pd
import pytest
from event_files import assert_metrics
from golden import whole_and_killed

from keras_deeplstm.experiments import cli, runs
from keras_deeplstm.experiments.reports.page import write_report
from keras_deeplstm.experiments.runs import checkpoints, files
from keras_deeplstm.experiments.settings.base import ConfigError
from keras_deeplstm.experiments.settings.classifiers import RunConfig
from keras_deeplstm.experiments.settings.text import TextConfig, TextModelConfig
from keras_deeplstm.experiments.tasks import DataError
from keras_deeplstm.experiments.tasks.text import sources
from keras_deeplstm.experiments.tasks.text.streams import Pieces, Plan, Streams, Windows, plan
from keras_deeplstm.experiments.training import train
from keras_deeplstm.experiments.training.journal import DivergedError
from keras_deeplstm.experiments.training.text import make_optimizer
from keras_deeplstm.text import Vocabulary

DATA = os.environ.get("DEEPLSTM_DATA")
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TEXT = "".join(f"{n} and {n * n} make {n + n * n}.\n" for n in range(250))
SHORT = TEXT[:2300]
SMALL = ["--model.units", "8", "--batch-size", "8", "--sequence-length", "10"]
SMALL += ["--report-every", "20", "--evaluate-every", "40", "--sample-length", "70"]
LSTM = ["--model.block", "lstm", "--model.depth", "1"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch, quick_pictures):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DEEPLSTM_DATA", raising=False)
    (tmp_path / "numbers.txt").write_text(TEXT)
    return tmp_path


def status(*argv):
    try:
        return cli.main([str(argument) for argument in argv])
    except SystemExit as exit:
        return exit.code


# Texts.


def test_the_text_in_every_python(monkeypatch):
    text = sources.load("python-reference")
    assert len(text) > 300_000
    assert text.startswith('The "assert" statement\n****')
    assert text.index('The "assert" statement') < text.index('The "while" statement')


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "Text 'file' is empty"),
        (b"\xef\xbb\xbf", "Text 'file' is empty"),
        (b"aaaa", "Text 'file' has a single symbol, 'a': nothing to learn"),
        (b"ab\xff", "not UTF-8: byte 0xff at position 2. Convert it, or read its bytes with --by"),
        (b"ab\0", "'file' is no text: NUL at position 2. --bytes reads it anyway"),
        (None, "There is no file 'file'. Texts that need no file: python-reference, tinyshak"),
    ],
)
def test_files_that_are_no_text(content, message, folder):
    if content is not None:
        (folder / "file").write_bytes(content)
    with pytest.raises(DataError, match=message.replace(".", r"\.")):
        sources.load("file")


def test_files(folder):
    (folder / "file").write_bytes(b"\xef\xbb\xbfa\r\n\xc3\xa9")
    assert sources.load("file") == "a\r\né"  # without the mark at its begin
    assert sources.load("file", as_bytes=True) == b"\xef\xbb\xbfa\r\n\xc3\xa9"
    with pytest.raises(DataError, match=r"Cannot read '.': Is a directory"):
        sources.load(".")
    with pytest.raises(DataError, match=r"'tinyshakespear'. Did you mean 'tinyshakespeare'"):
        sources.load("tinyshakespear")


@pytest.fixture
def small_corpora(monkeypatch):
    """The corpora as they are, but short."""
    for name, content in (("tinyshakespeare", b"To be"), ("enwik8", b"<mediawiki")):
        corpus = sources.CORPORA[name]
        digest = hashlib.sha256(content).hexdigest()
        changed = {**vars(corpus), "size": len(content), "sha256": digest}
        monkeypatch.setitem(sources.CORPORA, name, sources.Corpus(**changed))


@pytest.mark.usefixtures("small_corpora")
def test_corpora(folder, monkeypatch):
    """A corpus is found packed and unpacked; an absent or damaged one is an error."""
    (folder / "tinyshakespeare").mkdir()
    (folder / "tinyshakespeare" / "input.txt").write_bytes(b"To be")
    assert sources.load("tinyshakespeare", data_dir=folder) == "To be"
    monkeypatch.setenv("DEEPLSTM_DATA", str(folder))
    assert sources.load("tinyshakespeare") == "To be"
    with pytest.raises(DataError, match=r"'enwik8' is not in '.*': none of enwik8/enwik8, enwik8/"):
        sources.load("enwik8")
    with zipfile.ZipFile(folder / "enwik8.zip", "w") as archive:
        archive.writestr("enwik8", "<mediawiki")
    assert sources.load("enwik8") == b"<mediawiki"  # always bytes
    (folder / "enwik8.gz").write_bytes(gzip.compress(b"<mediawiki"))
    assert sources.load("enwik8") == b"<mediawiki"
    (folder / "enwik8").write_bytes(b"<media")
    with pytest.raises(DataError, match="is not enwik8, which has 10 bytes: it has 6"):
        sources.load("enwik8")
    (folder / "enwik8").write_bytes(b"<mediawiki>")
    with pytest.raises(DataError, match="is not enwik8, which has 10 bytes: it has more"):
        sources.load("enwik8")
    (folder / "enwik8").write_bytes(b"<mediaWiki")
    with pytest.raises(DataError, match=r"is damaged: its sha256 is [0-9a-f]{12}..., not [0-9a-f]"):
        sources.load("enwik8")
    (folder / "enwik8").unlink()
    (folder / "enwik8.gz").write_bytes(b"no gzip")
    with pytest.raises(DataError, match=r"enwik8.gz' is damaged: Not a gzipped file"):
        sources.load("enwik8")


def test_a_corpus_that_cannot_be_downloaded(monkeypatch, folder):
    def fail(*arguments, **options):
        raise Exception("URL fetch failure")

    monkeypatch.setattr(keras.utils, "get_file", fail)
    monkeypatch.setenv("KERAS_HOME", str(folder))
    message = "not in the cache '.*datasets' and could not be downloaded: URL fetch failure. Pass"
    with pytest.raises(DataError, match=message):
        sources.load("tinyshakespeare")


@pytest.mark.skipif(not DATA, reason="needs DEEPLSTM_DATA")
def test_the_real_corpus():
    text = sources.load("tinyshakespeare", data_dir=DATA)
    assert len(text) == 1_115_394 and len(Vocabulary.of(text)) == 65
    assert text.startswith("First Citizen:\n")


# Batches.


def test_streams():
    data = Streams(np.arange(24, dtype="uint8"), batch_size=2, length=3)
    # Eleven symbols for each stream, three whole steps; the last two symbols are left out.
    assert len(data) == data.steps_of_pass == 3
    (inputs, begins), targets = data[0]
    assert inputs.tolist() == [[0, 1, 2], [11, 12, 13]] and inputs.dtype == "int32"
    assert targets.tolist() == [[1, 2, 3], [12, 13, 14]]
    assert begins.tolist() == [True, True]
    (inputs, begins), targets = data[2]
    assert inputs.tolist() == [[6, 7, 8], [17, 18, 19]]
    assert targets.tolist() == [[7, 8, 9], [18, 19, 20]]
    assert begins.tolist() == [False, False]
    # In parts: the place is a function of the part's number, and a pass begins with zeros.
    data.follow(parts=3, steps=1)
    firsts = []
    for part in (0, 1, 2, 3, 4):
        data.set_epoch(part)
        assert len(data) == 1
        (inputs, begins), _ = data[0]
        firsts.append((inputs[0, 0], begins[0]))
    assert firsts == [(0, True), (3, False), (6, False), (0, True), (3, False)]


def test_windows():
    """A transformer trains on random windows, the same for every model with the same seed."""
    text = np.arange(50, dtype="uint8")
    data = Windows(text, batch_size=2, length=10, seed=3)
    assert len(data) == data.steps_of_pass == 2
    (first, targets), (second, _) = data[0], data[1]
    assert first.shape == (2, 10) and first.dtype == targets.dtype == "int32"
    np.testing.assert_array_equal(targets, first + 1)
    np.testing.assert_array_equal(first, first[:, :1] + np.arange(10))
    data.follow(parts=2, steps=1)
    found = []
    for part in (0, 1, 2):  # a second pass has other windows
        data.set_epoch(part)
        found.append(data[0][0])
    np.testing.assert_array_equal(found[:2], [first, second])
    assert not any(np.array_equal(found[2], one) for one in (first, second))
    begins = [
        begin
        for seed in range(200)
        for begin in Windows(text, batch_size=2, length=10, seed=seed)[0][0][:, 0]
    ]
    assert set(begins) == set(range(40))  # all that leave room for ten symbols and the next
    pieces = Pieces(text, batch_size=2, length=10)
    assert [x[:, 0].tolist() for x, _ in (pieces[0], pieces[1])] == [[0, 24], [10, 34]]


@pytest.mark.parametrize(
    ("steps", "evaluate_every", "report_every", "expected"),
    [
        (401, 1000, 100, Plan(1, 5, 80)),
        (400, 1000, 100, Plan(1, 4, 100)),
        (36_000, 1000, 100, Plan(36, 10, 100)),
        (2500, 1000, 2000, Plan(3, 1, 833)),
        (1, 1000, 100, Plan(1, 1, 1)),
        (7, 2, 1, Plan(4, 1, 1)),
    ],
)
def test_plan(steps, evaluate_every, report_every, expected):
    found = plan(steps, evaluate_every, report_every)
    assert found == expected
    assert found.steps <= report_every and found.parts * found.steps <= evaluate_every
    assert steps - found.parts_of_pass < found.parts_of_pass * found.steps <= steps


# Settings.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--model.block lstm --model.tied True", "Argument `model.tied` has no meaning for block "),
        ("--model.block lstm --model.priority None", "`model.priority` has no meaning for block"),
        ("--model.units 3 --model.parameters 9", "Pass either `model.units` or `model.parameters`"),
        (
            "--model.parameters 20 --batch-size 4 --sequence-length 10",
            "No `units` fit the budget: one unit needs",
        ),
        (
            "--model.block transformer --model.connection scaled --model.forget-bias 1",
            "Argument `model.forget_bias` has no meaning for connection 'scaled'",
        ),
        (
            "--model.block transformer --model.connection scaled --model.tied True",
            "Argument `model.tied` needs `model.feedforward` to be false",
        ),
        ("--model.block transformer --model.peepholes", "`model.peepholes` has no meaning for blo"),
        ("--warmup 5", "Argument `warmup` has no meaning for schedule 'decay'."),
        (
            "--schedule cosine --warmup 999 --epochs 2 --batch-size 4 --sequence-length 10",
            "Argument `warmup` must be at most the number of training steps, ",
        ),
        ("--optimizer sgd --beta-2 0.9", "Argument `beta_2` has no meaning for optimizer 'sgd'."),
        ("--model.depth 0", "Argument `model.depth` must be a positive integer."),
        ("--model.dropout 1", "Argument `model.dropout` must be a float in the range [0, 1)."),
        ("--split 0.9 0.2 0.1", "Argument `split` must be three positive numbers with the sum 1."),
        ("--split 0.9 0.1 0", "Argument `split` must be a positive number."),
        ("--sequence-length 0", "Argument `sequence_length` must be a positive integer."),
        ("--optimizer adm", "Did you mean 'adam'?"),
        ("--clipvalue 5", "Pass either `clipnorm` or `clipvalue`, and None for the other."),
        ("--decay 1.5", "Argument `decay` must be at most 1."),
        ("--schedule cosine --decay 0.9", "Argument `decay` has no meaning for schedule 'cosine'."),
        ("--sample-length -1", "Argument `sample_length` must be an integer of at least 0."),
        ("--seed -1", "Argument `seed` must be an integer in [0, 4294967295]."),
        ("--name ../x", "Invalid run name '../x'."),
    ],
)
def test_wrong_usage(arguments, message, capsys, folder):
    assert status("train-text", "numbers.txt", *arguments.split()) == 2
    assert message in capsys.readouterr().err
    assert os.listdir(folder) == ["numbers.txt"]


def test_settings():
    config = TextConfig("a/b c.txt", TextModelConfig(tied="depth", dropout=0.25), bytes=True)
    assert config.text == os.path.abspath("a/b c.txt")  # goes on from any folder
    assert TextConfig().text == "python-reference"
    assert TextConfig.from_dict(config.to_dict()) == config
    assert config.title == "b c.txt: GridLSTM2D tied=depth dropout0.25, depth 2, 128 units"
    assert config.slug == "text-b_c.txt-grid_lstm-tied-depth-dropout0.25-depth2-128units-seed0"
    runs.check_name(config.slug)
    assert config.flat()["model.tied"] == "depth"
    with pytest.raises(ConfigError, match=r"'epoch' in 'config'. Did you mean 'epochs'"):
        TextConfig.from_dict({"text": "a", "epoch": 1})


def test_learning_rates():
    def rates(**options):
        config = TextConfig("a", epochs=4, learning_rate=1.0, **options)
        optimizer = make_optimizer(config, steps_of_pass=10)
        found = []
        for step in (0, 9, 10, 19, 20, 29, 30, 39):
            optimizer.iterations.assign(step)
            found.append(float(keras.ops.convert_to_numpy(optimizer.learning_rate)))
        return found

    assert rates(schedule="constant") == [1] * 8
    assert rates(decay_after=10) == [1] * 8
    halves = [1, 1, 1, 1, 0.5, 0.5, 0.25, 0.25]
    assert rates(decay_after=2, decay=0.5) == halves
    cosine = [(1 + math.cos(math.pi * step / 40)) / 2 for step in (0, 9, 10, 19, 20, 29, 30, 39)]
    np.testing.assert_allclose(rates(schedule="cosine"), cosine, atol=1e-6)
    cosine = [(1 + math.cos(math.pi * step / 30)) / 2 for step in (0, 9, 10, 19, 20, 29)]
    warm = rates(schedule="cosine", warmup=10)
    np.testing.assert_allclose(warm, [0, 0.9, *cosine], atol=1e-6)


def test_a_text_that_is_too_short(capsys, folder):
    assert status("train-text", "numbers.txt") == 4
    error = capsys.readouterr().err
    assert "numbers.txt' is too short: its validation part has 305 symbols" in error
    assert "batch_size * sequence_length + 1 = 2,501" in error
    assert os.listdir(folder) == ["numbers.txt"]


# Training.


def small(text="numbers.txt", block="lstm", **changes):
    settings = {
        "model": TextModelConfig(block, units=8, dropout=0.3),
        "sequence_length": 10,
        "batch_size": 8,
        "epochs": 2,
        "evaluate_every": 15,
        "report_every": 8,
        "sample_length": 20,
        "learning_rate": 0.05,
    }
    return TextConfig(str(text), **settings | changes)


class Killed(BaseException):
    """Ends a run as SIGKILL does: nobody handles it."""


def go_on(folder, config, kill_at=None):
    """Train; die after a step; return what the user is told."""
    said = []

    def on_epoch(row):
        if row["step"] == kill_at:
            raise Killed

    with pytest.raises(Killed) if kill_at else contextlib.nullcontext():
        train(config, folder, checkpoint_share=1, on_epoch=on_epoch, on_message=said.append)
    return said


def metrics(folder):
    return pd.read_csv(folder / "metrics.csv").drop(columns="seconds")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Gives, for a block, a run that nothing disturbs and one that was killed within a pass."""
    path = tmp_path_factory.mktemp("trained")
    (path / "numbers.txt").write_text(SHORT)

    @functools.cache
    def of(block):
        config = small(path / "numbers.txt", block)
        return config, *whole_and_killed(config, path / block, "step", 18)

    return of


@pytest.mark.backends
@pytest.mark.parametrize(
    ("block", "kills"),
    [
        ("grid_lstm", [18]),
        pytest.param("transformer", [18], marks=pytest.mark.long),
        pytest.param("lstm", [18], marks=pytest.mark.long),
        pytest.param("grid_lstm", [18, 30], marks=pytest.mark.long),
    ],
)
def test_a_killed_run_goes_on_with_the_same_bits(block, kills, trained, folder):
    config, reference, killed = trained(block)
    whole = metrics(reference)
    assert whole["step"].tolist() == [6, 12, 18, 24, 30, 36, 42, 48]
    assert whole["epoch"].tolist()[3] == 1.0
    evaluated = whole["val_loss"].notna().tolist()
    assert evaluated == [False, True] * 4
    shutil.copytree(killed, folder / "run")
    for kill in kills[1:]:
        go_on(folder / "run", config, kill)
    assert runs.load(folder / "run").state == "interrupted"
    keras.utils.set_random_seed(12345)  # no generator of the process has a part in it
    said = go_on(folder / "run", config)
    assert said == [f"Run 'run' goes on after step {kills[-1]} of 48"]
    pd.testing.assert_frame_equal(metrics(folder / "run"), whole, check_exact=True)
    results = [runs.load(path).result for path in (reference, folder / "run")]
    for key in ("test_loss", "val_loss", "best_step"):
        assert results[0][key] == results[1][key]
    assert results[1]["resumed_after_steps"] == kills
    samples = [(path / "samples.txt").read_text() for path in (reference, folder / "run")]
    assert samples[0] == samples[1]
    assert samples[0].count("--- step ") == 4


def test_results(trained):
    config, folder, _ = trained("grid_lstm")
    run = runs.load(folder)
    result, rows = run.result, run.metrics
    best = rows.loc[rows["val_loss"].idxmin()]
    assert (result["val_loss"], result["best_step"]) == (best["val_loss"], best["step"])
    assert result["test_bits"] == pytest.approx(result["test_loss"] / math.log(2))
    np.testing.assert_allclose(rows["bits"], rows["loss"] / math.log(2))
    np.testing.assert_allclose(rows["val_bits"], rows["val_loss"] / math.log(2))
    assert rows["loss"].iloc[-1] < 0.8 * rows["loss"].iloc[0]

    # The best model is an ordinary one, and the test loss is its loss on the test text.
    known = files.read_json(folder / "vocabulary.json")
    vocabulary = Vocabulary.from_config(known)
    assert vocabulary.symbols == "".join(sorted(set(SHORT)))
    model = keras.models.load_model(folder / "best.keras")
    assert result["parameters"] == model.count_params()
    codes = vocabulary.encode(SHORT)
    start = round(0.95 * len(codes))
    assert known["opening"] in SHORT[round(0.9 * len(codes)) :][:200]
    assert known["opening"].endswith("\n")
    test = codes[start:]
    streams, width = config.batch_size, (len(test) - 1) // config.batch_size
    steps = width // 10 * 10
    x = test[: streams * width].reshape(streams, width)[:, :steps]
    y = test[1 : streams * width + 1].reshape(streams, width)[:, :steps]
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    expected = float(loss(y, model.predict_on_batch(x)))
    assert result["test_loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.long
def test_a_transformer_records_the_gradients_of_its_states(folder):
    (folder / "numbers.txt").write_text(SHORT)
    go_on(folder / "run", small(block="transformer", sample_length=0, evaluate_every=30))
    run = runs.load(folder / "run")
    assert sorted(set(run.states["epoch"])) == [0, 2]  # before and after all passes
    assert set(run.states["path"]) == {"total", "hidden", "memory"}
    c = run.states[(run.states["state"] == "c") & (run.states["depth"] == 1)]
    c = c.set_index(["epoch", "path"])["value"]
    for epoch, when in ((0, "start"), (2, "end")):
        expected = c[epoch, "memory"] / c[epoch, "total"]
        assert run.result[f"memory_path_ratio_{when}"] == pytest.approx(expected, rel=1e-6)
    page = write_report([run.folder], folder / "page.html").read_text()
    assert "<h2>Gradient of the states</h2>" in page


def test_another_text_of_the_same_name(trained, folder):
    config, _, killed = trained("grid_lstm")
    config = dataclasses.replace(config, text=str(folder / "numbers.txt"))
    shutil.copytree(killed, folder / "run")
    files.write_json(folder / "run" / "config.json", config.to_dict())
    (folder / "numbers.txt").write_text(SHORT.replace("make", "give"))
    with pytest.raises(runs.RunExistsError, match="The data of run 'run' have changed since"):
        go_on(folder / "run", config)
    (folder / "numbers.txt").write_text(SHORT)
    assert go_on(folder / "run", config, 24) == ["Run 'run' goes on after step 18 of 48"]


def test_a_damaged_checkpoint(trained, folder):
    """The run goes on from the checkpoint before it."""
    config, _, killed = trained("grid_lstm")
    shutil.copytree(killed, folder / "run")
    newest = max((folder / "run" / "checkpoints").iterdir())
    newest.write_bytes(b"")
    assert go_on(folder / "run", config, 18) == [
        "The checkpoint after step 18 of run 'run' is damaged",
        "Run 'run' goes on after step 12 of 48",
    ]


@pytest.mark.long
def test_a_run_that_diverges_in_the_test(folder, monkeypatch):
    evaluate = keras.Model.evaluate

    def diverged(self, *arguments, **options):
        loss = evaluate(self, *arguments, **options)
        return loss if options.get("return_dict") else loss * math.nan  # that of `fit`

    monkeypatch.setattr(keras.Model, "evaluate", diverged)
    config = small(model=TextModelConfig("lstm", depth=1, units=8))
    with pytest.raises(DivergedError, match="test_loss is nan after the training"):
        go_on(folder / "run", config)
    assert runs.load(folder / "run").state == "diverged"


def test_a_run_that_diverges_and_a_report_of_runs_that_have_not_come_far(trained, folder):
    """One has diverged at its first part, one has files that cannot be read."""
    model = TextModelConfig("lstm", depth=1, units=8)
    config = small(model=model, learning_rate=1e38, optimizer="sgd")
    with pytest.raises(DivergedError, match=r"The loss became (nan|inf) in step 6"):
        go_on(folder / "runs" / "diverged", config)
    assert runs.load(folder / "runs" / "diverged").state == "diverged"
    for name in ("killed", "torn"):
        shutil.copytree(trained("grid_lstm")[2], folder / "runs" / name)
    (folder / "runs" / "torn" / "metrics.csv").write_text("")
    (folder / "runs" / "killed" / "samples.txt").write_bytes(b"\xff--- step 1\n")
    page = write_report([folder / "runs"]).read_text()
    assert "diverged</strong>: diverged" in page and "torn</strong>: damaged" in page
    assert "killed</strong>: interrupted" in page
    assert page.count("<img") == 1  # the one evaluation is no curve


# The commands.


def test_commands(folder, capsys):
    argv = ["train-text", "numbers.txt", *SMALL, "--epochs", "2", "--name", "a", "--tensorboard"]
    assert status(*argv) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "numbers.txt: GridLSTM2D, depth 2, 8 units"
    assert lines[1].startswith("step 17  epoch 0.25 of 2  loss ")
    assert any("validation" in line and "bits)" in line for line in lines)
    assert any(line.startswith("    | ") for line in lines)
    assert lines[-1] == "Sample: deeplstm sample runs/a"
    assert sorted(os.listdir(folder / "runs" / "a")) == [
        *(".lock", "best.keras", "config.json", "environment.json", "metrics.csv"),
        *("report.html", "result.json", "samples.txt", "summary.csv", "table.csv"),
        *("tensorboard", "vocabulary.json"),
    ]
    table = pd.read_csv(folder / "runs" / "a" / "metrics.csv")
    assert {"loss", "bits", "val_loss", "learning_rate"} < set(table)
    assert assert_metrics(folder / "runs" / "a" / "tensorboard", table, "step") == {}
    page = (folder / "runs" / "a" / "report.html").read_text()
    assert "<h2>Samples</h2>" in page and "data:image/png" in page and "numbers.txt" in page
    assert runs.load(folder / "runs" / "a").config.text == str(folder / "numbers.txt")

    assert status(*argv) == 0
    assert "Run 'a' is already finished: test " in capsys.readouterr().out
    assert status(*argv, "--seed", "1") == 3
    assert "Run 'a' has other settings (seed: 0 -> 1)" in capsys.readouterr().err
    assert status("run", "digits", "--name", "a") == 3
    assert "it is a run of another kind" in capsys.readouterr().err

    sampled = ["sample", "runs/a", "--length", "90", "--seed", "1"]
    assert status(*sampled, "--prompt", "7 and ") == 0
    first = capsys.readouterr().out
    assert first.startswith("7 and ") and len(first) == 6 + 90 + 1
    assert status(*sampled, "--prompt", "7 and ") == 0
    assert capsys.readouterr().out == first
    assert status("sample", "a", "--length", "5", "--temperature", "0", "--top-k", "2") == 0
    assert len(capsys.readouterr().out) == 6
    assert status(*sampled, "--prompt", "x+y") == 2
    assert "characters that are not in the vocabulary: '+', 'x', 'y'" in capsys.readouterr().err
    assert status(*sampled, "--temperature", "-1") == 2

    runs.begin(folder / "runs" / "b", RunConfig("digits"))
    assert status("sample", "b") == 2
    assert (
        "Run 'b' is one of task 'digits'. Only runs of `deeplstm train" in capsys.readouterr().err
    )
    assert status("list") == 0
    rows = capsys.readouterr().out.splitlines()
    assert rows[1].split()[:5] == ["a", "finished", "text:", "numbers.txt", "GridLSTM2D"]
    assert rows[1].endswith(" bits")
    assert status("report", "runs") == 0
    assert "it has a report of its own" in (folder / "runs" / "report.html").read_text()

    (folder / "runs" / "a" / "best.keras").write_bytes(b"x")
    assert status("sample", "a") == 4
    assert "best.keras' is damaged, or not of this run" in capsys.readouterr().err
    (folder / "runs" / "a" / "best.keras").unlink()
    assert status("sample", "a") == 2
    assert "has no model yet: the first one is kept after" in capsys.readouterr().err
    assert status("sample", "nosuch") == 2
    assert "'runs/nosuch' is not the folder of a run" in capsys.readouterr().err


def test_bytes(folder, capsys):
    (folder / "data").write_bytes(bytes(range(256)) * 20)
    assert status("train-text", "data", *SMALL) == 4
    assert "--bytes" in capsys.readouterr().err
    assert (
        status("train-text", "data", "--bytes", *SMALL, *LSTM, "--epochs", "1", "--name", "a") == 0
    )
    capsys.readouterr()
    assert status("sample", "a", "--length", "20", "--prompt", "é") == 0
    assert capsys.readouterr().out.startswith("é")


@pytest.mark.long
def test_kill_and_go_on(folder):
    """A real process, killed by SIGKILL."""
    (folder / "deeplstm").write_text(
        "import sys; from keras_deeplstm.experiments.cli import main; sys.exit(main())"
    )
    argv = ["train-text", "numbers.txt", *SMALL, "--epochs", "500", "--checkpoint-share", "1"]
    process = subprocess.Popen(
        [sys.executable, "deeplstm", *argv],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": ROOT},
    )
    assert next(line for line in iter(process.stdout.readline, "") if line.startswith("step 51 "))
    process.kill()
    process.communicate()
    (run,) = runs.find(folder / "runs")
    assert run.state == "interrupted"
    assert checkpoints.newest(run.folder / "checkpoints")[0].epoch >= 2
