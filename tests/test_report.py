import base64
import math
import re
from html.parser import HTMLParser

import pandas as pd
import pytest

from keras_deeplstm.experiments import runs
from keras_deeplstm.experiments.config import ConfigError, ModelConfig, RunConfig
from keras_deeplstm.experiments.report import write_report
from keras_deeplstm.experiments.studies import STUDIES, ratio_text

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJg"
    "gg=="
)
UNTIED = ModelConfig()
TIED = ModelConfig(tied=True)
TANH = ModelConfig(block="dense", activation="tanh")


def make_run(folder, model, start=1.0, end=1.0, accuracy=0.9):
    """A finished run whose gradient has a given first-to-last ratio, without training."""
    config = RunConfig("digits", model, epochs=2)
    runs.start(folder, config, "deeplstm run digits")
    metrics = {"epoch": [1, 2], "loss": [2.3, 0.1], "accuracy": [0.1, 1.0]}
    metrics |= {"val_loss": [2.3, 0.2], "val_accuracy": [0.1, accuracy], "seconds": [1.0, 0.5]}
    runs.write_text(folder / "metrics.csv", pd.DataFrame(metrics).to_csv(index=False))
    rows = [
        (step, "block", "recurrent_kernel", math.nan if model.tied else depth, "norm", norm)
        for step, ratio in ((1, start), (10, end))
        for depth, norm in ((2, ratio or 1.0), (3, 1.0))
    ]
    columns = ["step", "layer", "weight", "depth", "statistic", "value"]
    frame = pd.DataFrame(rows, columns=columns)
    runs.write_text(folder / "gradient_flow.csv", frame.to_csv(index=False))
    (folder / "filters").mkdir()
    for epoch in (0, 1, 2):
        (folder / "filters" / f"epoch_{epoch:04d}.png").write_bytes(PIXEL)
    result = {"state": "finished", "test_accuracy": accuracy, "test_loss": 0.3, "epochs": 2}
    result |= {"parameters": 1234, "seconds": 1.5, "seconds_per_epoch": 0.5}
    result |= {"gradient_ratio_start": start, "gradient_ratio_end": end}
    runs.write_json(folder / "result.json", result)
    return runs.load(folder)


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


def test_page_of_a_run(tmp_path):
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
    runs.start(tmp_path / "b", RunConfig("digits"), "")
    runs.write_json(tmp_path / "b" / "result.json", {"state": "failed", "reason": hostile})
    # Two runs of one model are told apart by their folders' names.
    make_run(tmp_path / "img src=x onerror=1 $x_{", UNTIED)
    page = Page(write_report([tmp_path]))
    assert "script" not in {tag for tag, _ in page.tags}
    assert hostile in page.text
    assert "img src=x onerror=1 $x_{" in page.text


def test_runs_without_a_result_are_named(tmp_path):
    make_run(tmp_path / "good", UNTIED)
    runs.start(tmp_path / "killed", RunConfig("digits"), "")
    runs.start(tmp_path / "diverged", RunConfig("digits"), "")
    reason = "FloatingPointError: The loss became nan in epoch 3"
    runs.write_json(tmp_path / "diverged" / "result.json", {"state": "failed", "reason": reason})
    make_run(tmp_path / "torn", TANH)
    (tmp_path / "torn" / "metrics.csv").write_text("")
    text = Page(write_report([tmp_path])).text
    assert "killed: unfinished" in text
    assert f"diverged: failed ({reason})" in text
    assert "torn: damaged" in text
    table = pd.read_csv(tmp_path / "table.csv")
    assert table["run"].tolist() == ["good"]


def test_no_finished_run_is_a_report_too(tmp_path):
    runs.start(tmp_path / "killed", RunConfig("digits"), "")
    assert "killed: unfinished" in Page(write_report([tmp_path / "killed"])).text


def test_folders_without_runs_are_refused(tmp_path):
    make_run(tmp_path / "a", UNTIED)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="empty' holds no keras_deeplstm runs"):
        write_report([tmp_path / "a", tmp_path / "empty"])


def test_page_of_a_study(tmp_path):
    make_run(tmp_path / "a", UNTIED, 0.5, 0.25)
    make_run(tmp_path / "b", TANH, 1e-7, 1e-9)
    make_run(tmp_path / "not part of it", TIED, None, None)
    runs.write_json(tmp_path / "study.json", {"study": "depth", "runs": ["a", "b", "c"]})
    page = Page(write_report([tmp_path]))
    assert STUDIES["depth"].question in page.text
    assert "arrives in UnfoldedLSTMBlock untied (90.0% test accuracy) and fades in" in page.text
    assert "c: missing" in page.text
    table = pd.read_csv(tmp_path / "table.csv")
    assert table["run"].tolist() == ["a", "b"]
    assert table["gradient_ratio_end"].tolist() == [0.25, 1e-9]


def test_a_tied_model_has_no_ratio(tmp_path):
    make_run(tmp_path / "a", TIED, None, None)
    page = Page(write_report([tmp_path / "a"]))
    assert "Gradient against depth" not in page.text
    assert pd.read_csv(tmp_path / "a" / "table.csv")["gradient_ratio_start"].isna().all()


def test_answer_of_the_depth_study(tmp_path):
    deep = ModelConfig(depth=30)
    finished = [
        make_run(tmp_path / "a", UNTIED, 1.0, 1.0, 0.95),
        make_run(tmp_path / "b", deep, 0.4, 0.012, 0.961),
        make_run(tmp_path / "c", ModelConfig(depth=30, tied=True), None, None),
        make_run(tmp_path / "d", ModelConfig("dense", 30), 1.3, 1.3e-7, 0.112),
        make_run(tmp_path / "e", ModelConfig("dense", 30, activation="elu"), 101.0, 1.0, 0.5),
        make_run(tmp_path / "f", ModelConfig("dense", 30, activation="relu"), 0.009, 1.0, 0.6),
    ]
    answer = STUDIES["depth"].answer(finished)
    assert answer[0] == (
        "At depth 30 the gradient arrives in UnfoldedLSTMBlock untied (96.1% test accuracy), "
        "fades in DenseStack (11.2% test accuracy) and DenseStack relu (60.0% test accuracy) "
        "and grows in DenseStack elu (50.0% test accuracy)."
    )
    assert answer[1] == (
        "At depth 10 the gradient arrives in UnfoldedLSTMBlock untied (95.0% test accuracy)."
    )
    assert len(answer) == 3
    assert STUDIES["depth"].answer(finished[2:3])[0] == (
        "No finished run has a gradient for each step."
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
