"""The page of results and its tables, from folders of finished runs."""

import numpy as np
import pandas as pd
import pytest
from finished_runs import PIXEL, make_run

from keras_deeplstm.experiments import cli
from keras_deeplstm.experiments.reports.publish import publish
from keras_deeplstm.experiments.runs import files
from keras_deeplstm.experiments.settings.base import ConfigError
from keras_deeplstm.experiments.settings.classifiers import ModelConfig

pytestmark = pytest.mark.usefixtures("quick_pictures")


def make_study(folder, planned=("shallow", "deep", "deeper", "missing")):
    folder.mkdir()
    for name, depth, accuracy in (("shallow", 10, 0.97), ("deep", 30, 0.98), ("deeper", 100, 0.5)):
        make_run(folder / name, ModelConfig(depth=depth), 0.5, 1.0, accuracy)
    study = {"study": "depth-limit", "command": "", "runs": list(planned)}
    files.write_json(folder / "study.json", study)
    return folder


def test_commands_are_shown_without_the_folders_of_who_typed_them(tmp_path):
    folder = make_study(tmp_path / "depth-limit-digits")
    for name, where in (("shallow", "--runs-dir /here"), ("deep", "--data-dir d --runs-dir=x")):
        path = folder / name / "environment.json"
        command = f"deeplstm study depth-limit {where} --only '*a b*'"
        files.write_json(path, files.read_json(path) | {"command": command})
    path = folder / "deeper" / "environment.json"
    files.write_json(path, files.read_json(path) | {"command": "it's none", "backend": "jax"})
    publish([folder], tmp_path / "tables", tmp_path / "results.md")
    page = (tmp_path / "results.md").read_text()
    typed = "deeplstm study depth-limit --only '*a b*'\nKERAS_BACKEND=jax it's none"
    assert f"```\n{typed}\n```" in page


def test_page_and_tables(tmp_path):
    folder = make_study(tmp_path / "depth-limit-digits")
    publish([folder], tmp_path / "tables", tmp_path / "docs" / "results.md")

    rows = pd.read_csv(tmp_path / "tables" / "depth-limit-digits-runs.csv")
    assert rows["test_accuracy"].tolist() == [0.97, 0.98, 0.5]
    models = pd.read_csv(tmp_path / "tables" / "depth-limit-digits.csv")
    assert models["depth"].tolist() == [10, 30, 100]

    page = (tmp_path / "docs" / "results.md").read_text()
    first = "The deepest network that trains is UnfoldedLSTMBlock untied, depth 30 (98.0%)."
    assert f"- [depth-limit, digits](#depth-limit-digits): {first}" in page
    assert f"\n**{first}**\n" in page
    assert "| UnfoldedLSTMBlock untied | 30 | 98.0% | 98.0% | 0.50 | 1.0 | 1,234 |" in page
    assert "<summary>1 planned runs are missing" in page and "\n- missing\n" in page
    assert "\n```\ndeeplstm run digits\n```\n" in page
    pictures = sorted(path.name for path in (tmp_path / "docs" / "results").iterdir())
    assert pictures == sorted(
        line.partition("](results/")[2][:-1] for line in page.splitlines() if line.startswith("![")
    )
    # Of the filters, those of the deepest network after training.
    filters = page.partition("### Filters of the first layer")[2]
    assert filters.count("![") == 1 and "depth 100, after 2 epochs" in filters
    name = filters.partition("](results/")[2].partition(")")[0]
    assert (tmp_path / "docs" / "results" / name).read_bytes() == PIXEL
    assert "Depth\n\n![test accuracy against depth, digits" in page


def test_a_page_keeps_its_sections_on_other_studies(tmp_path):
    folder = make_study(tmp_path / "depth-limit-digits")
    copy = make_study(tmp_path / "again")
    files.write_json(copy / "study.json", {"study": "depth", "command": "", "runs": ["deep"]})
    tables, page = tmp_path / "tables", tmp_path / "results.md"
    publish([folder, copy], tables, page)
    both = page.read_text()
    assert both.count("\n## ") == 3 and both.count("\n- [") == 2

    publish([folder], tables, page)
    assert page.read_text() == both
    publish([copy], tables, page)
    assert page.read_text() == both

    path = folder / "shallow" / "result.json"
    files.write_json(path, files.read_json(path) | {"test_accuracy": 0.125})
    publish([folder], tables, page)
    changed = page.read_text()
    assert both.count("| 10 | 97.0% | ") == 1
    before, others = both.split("\n## depth, ")
    after, same = changed.split("\n## depth, ")
    assert "| 10 | 12.5% | " in after and "| 10 | 97.0% | " not in after
    assert same == others and after.splitlines()[:12] == before.splitlines()[:12]


def test_pictures_that_the_page_no_longer_shows_are_removed(tmp_path):
    folder = make_study(tmp_path / "depth-limit-digits")
    tables, page = tmp_path / "tables", tmp_path / "results.md"
    publish([folder], tables, page)
    pictures = tmp_path / "results"
    for name in ("old.png", "of-the-user.png"):
        (pictures / name).write_bytes(PIXEL)
    page.write_text(page.read_text() + "\n![once](results/old.png)\n")
    publish([folder], tables, page)
    assert (pictures / "depth-limit-digits-1.png").exists()
    assert not (pictures / "old.png").exists()
    assert (pictures / "of-the-user.png").exists()


def test_a_file_of_the_user_is_no_page(tmp_path):
    folder = make_study(tmp_path / "depth-limit-digits")
    page = tmp_path / "README.md"
    page.write_text("# My work\n")
    with pytest.raises(ConfigError, match="was not written by `deeplstm publish`"):
        publish([folder], tmp_path / "tables", page)
    assert page.read_text() == "# My work\n" and not (tmp_path / "tables").exists()


def test_two_studies_of_one_name_or_a_page_that_is_a_folder(tmp_path):
    """Nothing is written: the tables of one would have taken the place of the other's."""
    one = make_study(tmp_path / "depth-limit-digits")
    (tmp_path / "other").mkdir()
    other = make_study(tmp_path / "other" / "depth-limit-digits")
    with pytest.raises(ConfigError, match="Two studies have the name 'depth-limit-digits'"):
        publish([one, other], tmp_path / "tables", tmp_path / "results.md")
    with pytest.raises(ConfigError, match="is a folder, not the file of a page"):
        publish([one], tmp_path / "tables", tmp_path / "other")
    assert not (tmp_path / "tables").exists() and not (tmp_path / "results.md").exists()


def test_what_is_no_study(tmp_path, capsys):
    make_run(tmp_path / "run", ModelConfig())
    with pytest.raises(ConfigError, match="holds no study with a finished run"):
        publish([tmp_path / "run"], tmp_path / "tables", tmp_path / "results.md")
    assert not (tmp_path / "results.md").exists()
    assert cli.main(["publish"]) == 2
    assert "Name at least one folder of a study" in capsys.readouterr().err


def test_the_data_of_a_study_give_the_same_page_without_training(tmp_path):
    """At a tenth of the rows: depth steps that no picture shows are left out."""
    folder = make_study(tmp_path / "depth-limit-digits")
    generator = np.random.default_rng(0)
    rows = [
        (step, "block", weight, depth, "norm", generator.lognormal())
        for step in range(1, 200)
        for weight in ("recurrent_kernel", "kernel")
        for depth in range(2, 301)
    ]
    columns = ["step", "layer", "weight", "depth", "statistic", "value"]
    pd.DataFrame(rows, columns=columns).to_csv(folder / "deep" / "gradient_flow.csv", index=False)
    rows = [
        ("block", "forward", state, path, depth, epoch, generator.lognormal())
        for epoch in (0, 2)
        for state in "hc"
        for path in ("total", "memory", "hidden")
        for depth in range(1, 301)
    ]
    columns = ["layer", "direction", "state", "path", "depth", "epoch", "value"]
    pd.DataFrame(rows, columns=columns).to_csv(folder / "deep" / "state_gradients.csv", index=False)
    publish([folder], tmp_path / "one", tmp_path / "one.md")
    data = tmp_path / "one" / "depth-limit-digits-data"
    assert sorted(path.name for path in data.iterdir()) == [
        "filters.csv.gz", "gradient_flow.csv.gz", "metrics.csv.gz", "runs.csv.gz",
        "state_gradients.csv.gz",
    ]  # fmt: skip
    sizes = [path.stat().st_size for path in data.iterdir()]
    assert sum(sizes) < 60_000
    gradients = pd.read_csv(data / "gradient_flow.csv.gz")
    deep = gradients[gradients["run"] == "deep"]
    assert set(deep["weight"]) == {"recurrent_kernel"} and len(deep) < 199 * 2 + 5 * 64
    assert sorted(set(deep["step"])) == list(range(1, 200))

    publish([data], tmp_path / "two", tmp_path / "two.md")
    pages = [
        (tmp_path / f"{name}.md").read_text().replace("(two/", "(one/") for name in ("one", "two")
    ]
    assert pages[0] == pages[1] and pages[0].count("![") > 6
    for name in ("depth-limit-digits.csv", "depth-limit-digits-runs.csv"):
        assert (tmp_path / "one" / name).read_text() == (tmp_path / "two" / name).read_text()
    for path in data.iterdir():  # and the data of the data are the same
        again = tmp_path / "two" / "depth-limit-digits-data" / path.name
        pd.testing.assert_frame_equal(pd.read_csv(path), pd.read_csv(again))
        assert path.read_bytes() == again.read_bytes(), path
    for picture in (tmp_path / "one").glob("*.png"):
        assert (tmp_path / "two" / picture.name).read_bytes()[:8] == picture.read_bytes()[:8]

    assert cli.main(["report", str(data), "--output", str(tmp_path / "page.html")]) == 0
    assert (tmp_path / "page.html").read_text("utf-8").count("<img") > 6


@pytest.mark.parametrize("others", [{}, {"untied": False}], ids=["all tied", "one tied"])
def test_the_data_of_tied_weights(tmp_path, others):
    """Their gradients are of no depth step: nothing is shown of them, but the run is no less."""
    folder = tmp_path / "depth-digits"
    models = {
        name: ModelConfig(depth=3, tied=tied) for name, tied in ({"tied": True} | others).items()
    }
    for name, model in models.items():
        make_run(folder / name, model, None)
    files.write_json(folder / "study.json", {"study": "depth", "command": "", "runs": [*models]})
    publish([folder], tmp_path / "one", tmp_path / "one.md")
    publish([tmp_path / "one" / "depth-digits-data"], tmp_path / "two", tmp_path / "two.md")
    page = (tmp_path / "two.md").read_text().replace("(two/", "(one/")
    assert page == (tmp_path / "one.md").read_text() and "damaged" not in page
    assert "| UnfoldedLSTMBlock tied | 3 | 90.0% |" in page


def test_data_that_are_none(tmp_path):
    (tmp_path / "x").mkdir()
    pd.DataFrame({"run": ["", "../y"], "config": ["{}", "{}"]}).to_csv(
        tmp_path / "x" / "runs.csv.gz", index=False
    )
    with pytest.raises(ConfigError, match=r"'\.\./y' is no name of a file"):
        publish([tmp_path / "x"], tmp_path / "t", tmp_path / "p.md")
    (tmp_path / "x" / "runs.csv.gz").write_bytes(b"no gzip")
    with pytest.raises(ConfigError, match="holds no data of a study"):
        publish([tmp_path / "x"], tmp_path / "t", tmp_path / "p.md")
    assert not (tmp_path / "t").exists() and not (tmp_path / "p.md").exists()
