import math
import re
import shutil
from html.parser import HTMLParser

import pandas as pd
import pytest
from finished_runs import make_run

from keras_deeplstm.callbacks import gradient_plots
from keras_deeplstm.experiments import runs
from keras_deeplstm.experiments.reports import states
from keras_deeplstm.experiments.reports.page import write_report
from keras_deeplstm.experiments.runs import files
from keras_deeplstm.experiments.runs.groups import (
    Estimate,
    estimate,
    group_runs,
    labels,
)
from keras_deeplstm.experiments.settings.base import ConfigError
from keras_deeplstm.experiments.settings.classifiers import ModelConfig, RunConfig
from keras_deeplstm.experiments.settings.sequences import SequenceConfig
from keras_deeplstm.experiments.studies import STUDIES, best_first
from keras_deeplstm.experiments.words import (
    estimate_text,
    ratio_text,
    ratios_text,
    share_text,
)


@pytest.fixture(autouse=True)
def _pictures(request):
    """Most of these tests are about what is said: they draw nothing but by `drawn`."""
    if "drawn" not in request.fixturenames:
        request.getfixturevalue("quick_pictures")


@pytest.fixture
def drawn():
    """The pictures of the page are drawn as for people."""


UNTIED = ModelConfig()
TIED = ModelConfig(tied=True)
TANH = ModelConfig(block="dense", activation="tanh")


class Page(HTMLParser):
    """Tags and attributes of a page, and its text outside style."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.text, self.inside = [], "", []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.inside.append(tag)

    def handle_endtag(self, tag):
        self.inside.append(f"/{tag}")

    def handle_data(self, data):
        if self.inside[-1:] != ["style"]:
            self.text += data


def test_runs_on_other_data_are_not_compared(tmp_path):
    for name, data in {"a": "1", "b": "2", "c": "2", "d": None}.items():
        make_run(tmp_path / name, UNTIED, seed=ord(name))
        environment = files.read_json(tmp_path / name / "environment.json")
        if data is not None:
            files.write_json(tmp_path / name / "environment.json", environment | {"data": data})
    text = Page(write_report([tmp_path])).text
    assert "a: finished (on other data than b)" in " ".join(text.split())
    assert pd.read_csv(tmp_path / "table.csv")["run"].tolist() == ["b", "c", "d"]


def test_page_of_a_run(tmp_path, drawn):
    make_run(tmp_path / "a", UNTIED, 0.5, 2.1e-7, 0.961)
    path = write_report([tmp_path / "a"])
    assert path == tmp_path / "a" / "report.html"
    page = Page(path)
    assert "digits: UnfoldedLSTMBlock untied, depth 10" in page.text
    for number in ("96.1%", "0.50", "2.1e-7", "1,234", "deeplstm run digits"):
        assert number in page.text
    # accuracy, loss, gradient against depth, heat map, ratio, filters before and after
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    assert len(images) == 7
    assert all(image["src"].startswith("data:image/png;base64,") for image in images)
    assert all(image["alt"] for image in images)


def test_the_page_of_one_run_begins_with_what_came_out(tmp_path):
    """961 of 1,000 test examples: a Wilson interval that SciPy knows."""
    make_run(tmp_path / "a", UNTIED, 0.5, 2.1e-7, 0.961)
    path = tmp_path / "a" / "result.json"
    files.write_json(path, files.read_json(path) | {"test_examples": 1000})
    text = Page(write_report([tmp_path / "a"])).text
    assert "Test accuracy 96.1% (solved), first/last gradient 0.50 -> 2.1e-7" in text
    assert "1,000 test examples: the 95 % interval of the accuracy is 94.7% to 97.1%." in text
    alts = [tag["alt"] for name, tag in Page(tmp_path / "a" / "report.html").tags if name == "img"]
    assert "accuracy against epoch, digits, depth" in alts[0]
    assert re.search(r"At the end: training [\d.]+; validation [\d.]+\.", alts[0])
    assert alts[1].startswith("loss against epoch")

    make_run(tmp_path / "b", TANH, 0.5, 0.5, 0.9)
    page = Page(write_report([tmp_path]))
    assert (
        "On digits, the highest test accuracy is that of UnfoldedLSTMBlock, depth 10" in page.text
    )


def test_page_needs_and_runs_nothing(tmp_path):
    make_run(tmp_path / "a", UNTIED)
    page = Page(write_report([tmp_path / "a"]))
    policy = {
        "http-equiv": "Content-Security-Policy",
        "content": "default-src 'none'; img-src data:; style-src 'unsafe-inline'",
    }
    assert ("meta", policy) in page.tags
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in page.tags}
    for _, attributes in page.tags:
        assert not any(name.startswith("on") or name == "href" for name in attributes)
    html = (tmp_path / "a" / "report.html").read_text()
    assert not re.findall(r"https?://|url\(|@import", html)


def test_hostile_names_and_reasons_are_text(tmp_path):
    hostile = "<script>alert('&')</script>$x_{"
    make_run(tmp_path / "a", UNTIED)
    runs.begin(tmp_path / "b", RunConfig("digits"), "")
    files.write_json(tmp_path / "b" / "result.json", {"state": "failed", "reason": hostile})
    # Two runs of one model are told apart by their folders' names.
    make_run(tmp_path / "img src=x onerror=1 $x_{", UNTIED)
    page = Page(write_report([tmp_path]))
    assert "script" not in {tag for tag, _ in page.tags}
    assert hostile in page.text
    assert "img src=x onerror=1 $x_{" in page.text


def test_runs_without_a_result_are_named(tmp_path):
    make_run(tmp_path / "good", UNTIED)
    runs.begin(tmp_path / "killed", RunConfig("digits"), "")
    runs.begin(tmp_path / "diverged", RunConfig("digits"), "")
    reason = "FloatingPointError: The loss became nan in epoch 3"
    files.write_json(tmp_path / "diverged" / "result.json", {"state": "failed", "reason": reason})
    make_run(tmp_path / "torn", TANH)
    (tmp_path / "torn" / "metrics.csv").write_text("")
    text = Page(write_report([tmp_path])).text
    assert "killed: created" in text
    assert f"diverged: failed ({reason})" in text
    assert "torn: damaged" in text
    table = pd.read_csv(tmp_path / "table.csv")
    assert table["run"].tolist() == ["good"]


def test_no_finished_run_is_a_report_too(tmp_path):
    runs.begin(tmp_path / "killed", RunConfig("digits"), "")
    assert "killed: created" in Page(write_report([tmp_path / "killed"])).text


def test_folders_without_runs_are_refused(tmp_path):
    make_run(tmp_path / "a", UNTIED)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="empty' holds no keras_deeplstm runs"):
        write_report([tmp_path / "a", tmp_path / "empty"])


def test_page_of_a_study(tmp_path):
    make_run(tmp_path / "a", UNTIED, 0.5, 0.25)
    make_run(tmp_path / "b", TANH, 1e-7, 1e-9)
    make_run(tmp_path / "not part of it", TIED, None, None)
    files.write_json(tmp_path / "study.json", {"study": "depth", "runs": ["a", "b", "c"]})
    page = Page(write_report([tmp_path]))
    assert STUDIES["depth"].question in page.text
    assert "arrives in UnfoldedLSTMBlock (90.0% test accuracy) and vanishes in" in page.text
    assert "c: missing" in page.text
    table = pd.read_csv(tmp_path / "table.csv")
    assert table["run"].tolist() == ["a", "b"]
    assert table["gradient_ratio_end"].tolist() == [0.25, 1e-9]


def test_a_tied_model_has_no_ratio(tmp_path):
    make_run(tmp_path / "a", TIED, None, None)
    page = Page(write_report([tmp_path / "a"]))
    assert "Gradient against depth" not in page.text
    assert pd.read_csv(tmp_path / "a" / "table.csv")["gradient_ratio_start"].isna().all()


def record_states(run, first, memory):
    """Give a run of `make_run` gradients of states: 1 at the last of three steps, `first` at step 1
    in total and `memory` along the memory path alone; ten times as much after training."""
    rows = [
        ("block", "depth", "c", path, depth, math.nan, scale * value, epoch)
        for epoch, scale in ((0, 1.0), (2, 10.0))
        for path, at_first in (("total", first), ("memory", memory))
        for depth, value in ((1, at_first), (2, 1.0), (3, 1.0))
    ]
    rows += [(*row[:2], "h", *row[3:]) for row in rows if row[3] == "total"]
    columns = ["layer", "direction", "state", "path", "depth", "time", "value", "epoch"]
    text = pd.DataFrame(rows, columns=columns).to_csv(index=False)
    files.write_text(run.folder / "state_gradients.csv", text)
    numbers = {"state_gradient_ratio_start": first, "memory_path_ratio_start": memory / first}
    numbers |= {"gabor_r2_start": 0.25, "gabor_r2_end": 0.375}
    files.write_json(run.folder / "result.json", run.result | {"state": "finished"} | numbers)


@pytest.mark.parametrize("dead", [["dead"], ["alive", "dead"]], ids=["alone", "beside"])
def test_what_has_no_logarithm_is_drawn(tmp_path, dead, recwarn, drawn):
    """Gradients that have died, and a loss below zero, are no warning in the terminal."""
    for name in dead:
        make_run(tmp_path / name, UNTIED if name == "alive" else TANH)
    for name, column in (("gradient_flow", "value"), ("metrics", "loss")):
        path = tmp_path / "dead" / f"{name}.csv"
        frame = pd.read_csv(path)
        frame[column] = 0.0 if column == "value" else -frame[column]
        frame.to_csv(path, index=False)
    write_report([tmp_path])
    assert not [str(one.message) for one in recwarn]


def test_gradients_of_states_side_by_side(tmp_path):
    for seed, first in enumerate((0.5, 0.25, 2.0)):
        record_states(make_run(tmp_path / f"u{seed}", UNTIED, seed=seed), first, first / 4)
    record_states(make_run(tmp_path / "t", TIED, None, None), 0.125, 0.125)
    make_run(tmp_path / "old", TANH)
    page = Page(write_report([tmp_path]))
    assert "Gradient of the states" in page.text
    assert "first / last 0.50 → –; memory / total 0.25 → –" in page.text
    alts = [attributes["alt"] for tag, attributes in page.tags if tag == "img"]
    norms = "Norms of the gradients of the states against depth,"
    assert [alt for alt in alts if "dL/dh" in alt or "of the states" in alt] == [
        "Norm of dL/dh against depth, all models, digits, depth 10, before training.",
        "Norm of dL/dh against depth, all models, digits, depth 10, after training.",
        f"{norms} UnfoldedLSTMBlock(tied=True), depth 10.",
        f"{norms} UnfoldedLSTMBlock, depth 10.",
    ]
    assert "UnfoldedLSTMBlock(tied=True), depth 10, before training; Gabor R² 0.25" in page.text
    assert "UnfoldedLSTMBlock(tied=True), depth 10, after 2 epochs; Gabor R² 0.38" in page.text
    table = pd.read_csv(tmp_path / "table.csv").set_index("run")
    assert table.loc["u2", "memory_path_ratio_start"] == 0.25
    assert table.loc["old", ["state_gradient_ratio_start", "gabor_r2_end"]].isna().all()
    summary = pd.read_csv(tmp_path / "summary.csv").set_index("model")
    names = ["state_gradient_ratio_start", "state_gradient_ratio_start_low", "gabor_r2_end"]
    assert summary.loc["UnfoldedLSTMBlock", names].tolist() == [0.5, 0.25, 0.375]


def test_curves_are_medians_of_one_scale(tmp_path, monkeypatch):
    members = []
    for seed, first in enumerate((0.5, 0.25, 2.0)):
        record_states(make_run(tmp_path / f"u{seed}", UNTIED, seed=seed), first, 1e-20)
        members.append(runs.load(tmp_path / f"u{seed}"))
    record_states(make_run(tmp_path / "t", TIED, None, None), 0.125, 0.125)
    groups = group_runs([*members, runs.load(tmp_path / "t")])
    drawn = []
    monkeypatch.setattr(states, "picture", lambda figure, alt, caption="": drawn.append(figure))
    colors = dict.fromkeys([group.label for group in groups], "k")
    states.section([("digits", groups)], colors, "examples")
    before, after, untied, _ = (figure.axes[0] for figure in drawn)
    assert [line.get_ydata().tolist() for line in before.lines] == [[0.5, 1, 1], [0.125, 1, 1]]
    assert [line.get_ydata().tolist() for line in after.lines] == [[5, 10, 10], [1.25, 10, 10]]
    curves = {
        (line.get_color(), line.get_linestyle()): line.get_ydata().tolist() for line in untied.lines
    }
    memory = gradient_plots.CURVES["c", "memory"][1]
    assert curves[memory, "--"] == [1e-20, 1, 1]
    assert curves[memory, "-"] == pytest.approx([1e-19, 10, 10])
    # From twice the largest, 10, down: the vanished curves do not flatten the others.
    assert {figure.axes[0].get_ylim() for figure in drawn} == {(2e-7, 20.0)}


def test_answer_of_the_depth_study(tmp_path):
    deep = ModelConfig(depth=30)
    finished = [
        make_run(tmp_path / "a", UNTIED, 1.0, 1.0, 0.95),
        make_run(tmp_path / "b", deep, 0.004, 0.12, 0.961),
        make_run(tmp_path / "c", ModelConfig(depth=30, tied=True), None, None),
        make_run(tmp_path / "d", ModelConfig("dense", 30), 1.3, 1.3e-7, 0.112),
        make_run(tmp_path / "e", ModelConfig("dense", 30, activation="elu"), 1.0, 11.0, 0.5),
        make_run(tmp_path / "f", ModelConfig("dense", 30, activation="relu"), 1.0, 0.09, 0.6),
    ]
    answer = STUDIES["depth"].answer(group_runs(finished))
    assert answer[0] == (
        "At depth 30 the gradient arrives in UnfoldedLSTMBlock (96.1% test accuracy), vanishes in "
        'DenseStack (11.2% test accuracy), grows in DenseStack(activation="elu") (50.0% test '
        'accuracy) and falls in DenseStack(activation="relu") (60.0% test accuracy).'
    )
    assert answer[1] == (
        "At depth 10 the gradient arrives in UnfoldedLSTMBlock (95.0% test accuracy)."
    )
    assert len(answer) == 3
    assert STUDIES["depth"].answer(group_runs(finished[2:3]))[0] == (
        "No finished run has a gradient for each step."
    )
    # 0 / 0: a gradient that has vanished everywhere, in weights of their own for each step.
    nowhere = [make_run(tmp_path / "g", deep, None, None, 0.1)]
    assert STUDIES["depth"].answer(group_runs(nowhere))[0] == (
        "At depth 30 the gradient vanishes in UnfoldedLSTMBlock (10.0% test accuracy)."
    )


@pytest.mark.parametrize(
    ("ratio", "text"),
    [
        *((None, "–"), (0.0, "0.0"), (1.0, "1.0"), (0.4142, "0.41"), (12.34, "12")),
        *((4321.0, "4321"), (1.26e-7, "1.3e-7"), (0.001, "0.0010"), (9.9e5, "9.9e5")),
    ],
)
def test_ratio_text(ratio, text):
    assert ratio_text(ratio) == text


def test_ratios_text():
    assert ratios_text([]) == "–"
    assert ratios_text([0.5]) == "0.50"
    assert ratios_text([0.5, 1e-5, 20.0]) == "0.50 (1.0e-5–20)"


def test_estimate():
    assert estimate([0.5]) == Estimate(0.5, 0.5, 0.5, 1)
    assert estimate([0.5, 0.75]) == Estimate(0.625, 0.5, 0.75, 2)
    # mean 2, standard deviation 1, t(0.975; 2) = 4.30265: half width 4.30265 / sqrt(3)
    three = estimate([1.0, 2.0, 3.0])
    assert three.mean == 2
    assert (three.low, three.high) == pytest.approx((2 - 2.484138, 2 + 2.484138), abs=1e-6)
    assert estimate_text(Estimate(0.9, 0.9, 0.9, 1), ".1%") == "90.0%"
    assert estimate_text(Estimate(0.9, 0.88, 0.92, 2), ".1%") == "90.0% (88.0–92.0)"
    assert estimate_text(Estimate(0.9, 0.88, 0.92, 3), ".1%") == "90.0% ± 2.0"


def test_labels_tell_what_differs():
    configs = [
        RunConfig("digits", ModelConfig(units=units), learning_rate=rate, seed=seed)
        for seed, (units, rate) in enumerate([(8, 0.1), (9, 0.1), (9, 0.2)])
    ]
    assert labels(configs)[1:] == [
        "UnfoldedLSTMBlock(units=9, learning_rate=0.1)",
        "UnfoldedLSTMBlock(units=9, learning_rate=0.2)",
    ]
    assert labels(configs[:1]) == ["UnfoldedLSTMBlock"]
    assert labels([]) == []


def test_page_of_several_seeds(tmp_path):
    names = []
    for seed, (accuracy, end) in enumerate([(0.9, 0.5), (0.92, 0.25), (0.94, 1e-9)]):
        names += [f"u{seed}", f"t{seed}"]
        make_run(tmp_path / f"u{seed}", UNTIED, 1.0, end, accuracy, seed=seed)
        make_run(tmp_path / f"t{seed}", TIED, None, None, accuracy - 0.3, seed=seed)
    files.write_json(tmp_path / "study.json", {"study": "depth", "runs": names, "restarts": 1})
    page = Page(write_report([tmp_path]))
    assert "arrives in UnfoldedLSTMBlock (92.0% ± 5.0 test accuracy, in 2 of 3 runs)" in page.text
    assert "0.25 (1.0e-9–0.50)" in page.text
    assert "95 % t-interval" in page.text
    summary = pd.read_csv(tmp_path / "summary.csv")
    assert summary["runs"].tolist() == [3, 3]
    assert summary["test_accuracy"].tolist() == pytest.approx([0.92, 0.62])
    # t(0.975; 2) * 0.02 / sqrt(3)
    assert summary["test_accuracy_high"][0] == pytest.approx(0.92 + 0.0496828, abs=1e-6)
    table = pd.read_csv(tmp_path / "table.csv")
    assert table["seed"].tolist() == [0, 1, 2, 0, 1, 2]
    assert table["fold"].isna().all()


def test_page_of_folds(tmp_path):
    for fold in (1, 2):
        make_run(tmp_path / f"f{fold}", UNTIED, accuracy=0.8 + fold / 10, folds=2, fold=fold)
    page = Page(write_report([tmp_path]))
    assert "validation accuracy" in page.text
    assert "95.0% (90.0–100.0)" in page.text
    assert pd.read_csv(tmp_path / "table.csv")["fold"].tolist() == [1, 2]


def test_a_restart_stands_for_the_run_that_diverged(tmp_path):
    runs.begin(tmp_path / "a", RunConfig("digits", UNTIED, epochs=2))
    files.write_json(tmp_path / "a" / "result.json", {"state": "diverged", "reason": "in epoch 1"})
    make_run(tmp_path / "a-restart1", UNTIED, seed=1000)
    files.write_json(tmp_path / "study.json", {"study": "depth", "runs": ["a"], "restarts": 1})
    page = Page(write_report([tmp_path]))
    assert "a: diverged (in epoch 1; tried again with seed 1000)" in page.text
    assert pd.read_csv(tmp_path / "table.csv")["run"].tolist() == ["a-restart1"]


def test_a_restart_stands_for_the_run_that_has_not_solved_its_task(tmp_path):
    config = SequenceConfig("two-sequence:length=10", sequences=64, evaluate_every=32, batch_size=8)
    for name, seed, solved in (("a", 0, False), ("a-restart1", 1000, True)):
        runs.begin(tmp_path / name, config.repeated(seed))
        row = {"epoch": 1, "sequences": 32, "error": 0.1, "wrong": 0.1, "seconds": 1.0}
        pd.DataFrame([row]).to_csv(tmp_path / name / "metrics.csv", index=False)
        result = {"state": "finished", "solved": solved, "sequences": 32 if solved else None}
        result |= {"units": 100, "parameters": 5, "seconds": 1.0, "trained_sequences": 32}
        files.write_json(tmp_path / name / "result.json", result)
    study = {"study": "hochreiter-1997", "runs": ["a"], "restarts": 1}
    files.write_json(tmp_path / "study.json", study)
    page = Page(write_report([tmp_path]))
    assert "a: finished (not solved; tried again with seed 1000)" in page.text
    assert pd.read_csv(tmp_path / "table.csv")["run"].tolist() == ["a-restart1"]


def test_shares():
    assert share_text(2, 2) == "2 of 2"
    assert share_text(9, 10) == "9 of 10 (60%–98%)"  # Wilson's interval
    assert share_text(0, 3) == "0 of 3 (0%–56%)"


def test_the_answer_of_any_study(tmp_path):
    finished = [
        make_run(tmp_path / "a", UNTIED, accuracy=0.8),
        make_run(tmp_path / "b", TANH, accuracy=0.9),
    ]
    assert best_first(group_runs(finished)) == [
        "On digits, the highest test accuracy is that of DenseStack, depth 10 (90.0%).",
        "Then come UnfoldedLSTMBlock, depth 10 (80.0%).",
    ]


def make_study(folder):
    folder.mkdir()
    for name, depth in (("one", 10), ("two", 30)):
        make_run(folder / name, ModelConfig(depth=depth))
    names = {"study": "depth-limit", "command": "", "runs": ["one", "two"]}
    files.write_json(folder / "study.json", names)
    return folder


def test_a_copy_of_a_run_is_not_the_run(tmp_path):
    study = make_study(tmp_path / "depth-limit-digits")
    shutil.copytree(study / "one", study / "zz" / "one")
    result = files.read_json(study / "zz" / "one" / "result.json")
    files.write_json(study / "zz" / "one" / "result.json", result | {"test_accuracy": 0.999})
    write_report([study])
    assert pd.read_csv(study / "table.csv")["test_accuracy"].tolist() == [0.9, 0.9]


def test_a_report_of_some_runs_of_a_study(tmp_path):
    """It takes a file of its own, and that of the study stays."""
    study = make_study(tmp_path / "depth-limit-digits")
    with pytest.raises(ConfigError, match=r"has a report of its own.* Use --output FILE"):
        write_report([study / "one", study / "two"])
    write_report([study])
    write_report([study / "one", study / "two"], study / "both.html")
    assert "Study: depth-limit" in (study / "report.html").read_text()
    assert "2 runs in depth-limit-digits" in (study / "both.html").read_text()
    for name in ("table.csv", "both-table.csv", "both-summary.csv"):
        assert len(pd.read_csv(study / name)) == 2
