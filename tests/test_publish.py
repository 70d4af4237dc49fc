"""The page of results and its tables, from folders of finished runs."""

import dataclasses
import io
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from finished_runs import PIXEL, make_run
from PIL import Image

from keras_deeplstm.experiments import RunConfig, cli, runner, runs
from keras_deeplstm.experiments.reports import data, predictions
from keras_deeplstm.experiments.reports.findings import collect
from keras_deeplstm.experiments.reports.publish import FLOAT32, publish
from keras_deeplstm.experiments.runs import files
from keras_deeplstm.experiments.settings.base import ConfigError
from keras_deeplstm.experiments.settings.classifiers import ModelConfig
from keras_deeplstm.experiments.studies import STUDIES

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
    publish([folder], tmp_path / "tables", tmp_path / "pages")
    page = (tmp_path / "pages" / "depth-limit-digits.md").read_text()
    typed = "deeplstm study depth-limit --only '*a b*'\nKERAS_BACKEND=jax it's none"
    assert f"```\n{typed}\n```" in page


def test_tables_tell_numbers_of_32_bits_apart():
    values = np.random.default_rng(0).lognormal(sigma=20, size=1000).astype("float32")
    frame = pd.DataFrame({"parameters": 10_347_310, "value": values.astype(float)})
    found = pd.read_csv(io.StringIO(files.csv_of(frame, FLOAT32)))
    np.testing.assert_array_equal(found["value"].astype("float32"), values)
    assert set(found["parameters"]) == {10_347_310}


def test_page_tables_and_index(tmp_path):
    folder = make_study(tmp_path / "depth-limit-digits")
    pages = tmp_path / "docs" / "results"
    publish([folder], tmp_path / "tables", pages)

    rows = pd.read_csv(tmp_path / "tables" / "depth-limit-digits-runs.csv")
    assert rows["test_accuracy"].tolist() == [0.97, 0.98, 0.5]
    models = pd.read_csv(tmp_path / "tables" / "depth-limit-digits.csv")
    assert models["depth"].tolist() == [10, 30, 100]

    page = (pages / "depth-limit-digits.md").read_text()
    first = "Of 1 networks 0 train to depth 100."
    assert page.startswith("# depth-limit, digits\n") and f"\n**{first}**\n" in page
    assert "| UnfoldedLSTMBlock | 30 | 98.0% | 98.0% | 0.50 | 1.0 | 1,234 |" in page
    assert "<summary>1 planned runs are missing" in page and "\n- missing\n" in page
    assert "\n```\ndeeplstm run digits\n```\n" in page
    index = (pages / "index.md").read_text()
    assert f"\n## Depth\n\n- [depth-limit, digits](depth-limit-digits.md): {first}\n" in index

    # Three pictures; of the filters, those of the deepest network after training.
    names = [f"depth-limit-digits-{number}.png" for number in (1, 2, 3)]
    assert re.findall(r"^!.*\]\((.*)\)$", page, re.MULTILINE) == names
    assert sorted(path.name for path in pages.glob("*.png")) == names
    assert "## Depth\n\n![test error (%) against depth, digits" in page
    filters = page.partition("## Filters of the first layer")[2].partition("\n## ")[0]
    assert filters.count("![") == 1 and "depth 100, after 2 epochs" in filters


def test_a_picture_has_few_colors_and_keeps_its_size(tmp_path):
    """Of 40,000 colors there are 256, and each is near one of them."""
    folder = make_study(tmp_path / "depth-limit-digits")
    side = np.arange(200, dtype="uint8")
    pixels = np.stack(np.broadcast_arrays(side[:, None], side, np.uint8(9)), axis=-1)
    Image.fromarray(pixels).save(folder / "deeper" / "filters" / "epoch_0002.png")
    publish([folder], tmp_path / "tables", tmp_path / "pages")
    with Image.open(tmp_path / "pages" / "depth-limit-digits-3.png") as small:
        assert small.size == (200, 200) and len(small.convert("RGB").getcolors()) <= 256
        error = np.abs(np.asarray(small.convert("RGB"), "float64") - pixels).max()
    assert error < 16


def test_pages_of_other_studies_stay(tmp_path):
    folder = make_study(tmp_path / "depth-limit-digits")
    copy = make_study(tmp_path / "again")
    files.write_json(copy / "study.json", {"study": "depth", "command": "", "runs": ["deep"]})
    tables, pages = tmp_path / "tables", tmp_path / "pages"

    def texts():
        return {path.name: path.read_text() for path in pages.glob("*.md")}

    publish([folder, copy], tables, pages)
    both = texts()
    assert sorted(both) == ["again.md", "depth-limit-digits.md", "index.md"]
    assert both["index.md"].index("(again.md)") < both["index.md"].index("(depth-limit-digits.md)")
    for one in (folder, copy):
        publish([one], tables, pages)
        assert texts() == both

    path = folder / "shallow" / "result.json"
    files.write_json(path, files.read_json(path) | {"test_accuracy": 0.125})
    publish([folder], tables, pages)
    changed = texts()
    page = "depth-limit-digits.md"
    assert "| 10 | 97.0% | " in both[page] and "| 10 | 12.5% | " in changed[page]
    assert {name for name in both if both[name] != changed[name]} == {page}


def test_pictures_that_the_page_no_longer_shows_are_removed(tmp_path):
    folder = make_study(tmp_path / "depth-limit-digits")
    tables, pages = tmp_path / "tables", tmp_path / "pages"
    publish([folder], tables, pages)
    for name in ("old.png", "of-the-user.png"):
        (pages / name).write_bytes(PIXEL)
    page = pages / "depth-limit-digits.md"
    page.write_text(page.read_text() + "\n![once](old.png)\n")
    publish([folder], tables, pages)
    assert (pages / "depth-limit-digits-1.png").exists()
    assert not (pages / "old.png").exists()
    assert (pages / "of-the-user.png").exists()


@pytest.mark.parametrize("name", ["index.md", "depth-limit-digits.md"])
def test_a_file_of_the_user_is_no_page(name, tmp_path):
    folder = make_study(tmp_path / "depth-limit-digits")
    page = tmp_path / "pages" / name
    page.parent.mkdir()
    page.write_text("# My work\n")
    with pytest.raises(ConfigError, match="was not written by `deeplstm publish`"):
        publish([folder], tmp_path / "tables", tmp_path / "pages")
    assert page.read_text() == "# My work\n" and not (tmp_path / "tables").exists()


def test_two_studies_of_one_name_or_pages_that_are_a_file(tmp_path):
    """Nothing is written: the tables of one would have taken the place of the other's."""
    one = make_study(tmp_path / "depth-limit-digits")
    (tmp_path / "other").mkdir()
    other = make_study(tmp_path / "other" / "depth-limit-digits")
    with pytest.raises(ConfigError, match="Two studies have the name 'depth-limit-digits'"):
        publish([one, other], tmp_path / "tables", tmp_path / "pages")
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="is a file, not the folder of the pages"):
        publish([one], tmp_path / "tables", tmp_path / "file")
    assert not (tmp_path / "tables").exists() and not (tmp_path / "pages").exists()


def test_what_is_no_study(tmp_path, capsys):
    make_run(tmp_path / "run", ModelConfig())
    with pytest.raises(ConfigError, match="holds no study with a finished run"):
        publish([tmp_path / "run"], tmp_path / "tables", tmp_path / "pages")
    assert not (tmp_path / "pages").exists()
    assert cli.main(["publish"]) == 2
    assert "Name at least one folder of a study" in capsys.readouterr().err


def test_the_command_asks_before_it_writes_where_nothing_was_published(
    tmp_path, monkeypatch, capsys
):
    folder, asked = make_study(tmp_path / "depth-limit-digits"), []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    assert cli.main(["publish", str(folder)]) == 2
    question = f"Nothing was published in these folders yet: '{tmp_path / 'docs/results'}' and"
    assert question in " ".join(capsys.readouterr().err.split())
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)

    def answer(text):
        monkeypatch.setattr("builtins.input", lambda question: asked.append(question) or text)
        return cli.main(["publish", str(folder)])

    assert answer("") == 2 and not (tmp_path / "docs").exists()
    assert answer("y") == 0 and (tmp_path / "docs/results/depth-limit-digits.md").exists()
    assert answer("n") == 0  # it is ours now, nobody is asked
    assert len(asked) == 2 and asked[0].endswith("Write there? [y/N] ")


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
    publish([folder], tmp_path / "one", tmp_path / "pages one")
    published = tmp_path / "one" / "depth-limit-digits-data"
    assert sorted(path.name for path in published.iterdir()) == [
        "filters.csv.gz", "gradient_flow.csv.gz", "metrics.csv.gz", "runs.csv.gz",
        "state_gradients.csv.gz",
    ]  # fmt: skip
    sizes = [path.stat().st_size for path in published.iterdir()]
    assert sum(sizes) < 60_000
    gradients = pd.read_csv(published / "gradient_flow.csv.gz")
    deep = gradients[gradients["run"] == "deep"]
    assert set(deep["weight"]) == {"recurrent_kernel"} and len(deep) < 32 * 2 + 5 * 32
    steps = sorted(set(deep["step"]))
    assert 16 < len(steps) <= 32 and (steps[0], steps[-1]) == (1, 199)

    publish([published], tmp_path / "two", tmp_path / "pages two")
    pages = [
        (tmp_path / f"pages {name}" / "depth-limit-digits.md").read_text()
        for name in ("one", "two")
    ]
    assert pages[0] == pages[1] and pages[0].count("![") == 3
    for name in ("depth-limit-digits.csv", "depth-limit-digits-runs.csv"):
        assert (tmp_path / "one" / name).read_text() == (tmp_path / "two" / name).read_text()
    for path in published.iterdir():  # and the data of the data are the same
        again = tmp_path / "two" / "depth-limit-digits-data" / path.name
        pd.testing.assert_frame_equal(pd.read_csv(path), pd.read_csv(again))
        assert path.read_bytes() == again.read_bytes(), path
    for picture in (tmp_path / "pages one").glob("*.png"):
        assert (tmp_path / "pages two" / picture.name).exists()

    assert cli.main(["report", str(published), "--output", str(tmp_path / "page.html")]) == 0
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
    publish([folder], tmp_path / "one", tmp_path / "pages one")
    publish([tmp_path / "one" / "depth-digits-data"], tmp_path / "two", tmp_path / "pages two")
    one, two = (tmp_path / f"pages {name}" / "depth-digits.md" for name in ("one", "two"))
    page = two.read_text()
    assert page == one.read_text() and "damaged" not in page
    tied = "UnfoldedLSTMBlock(tied=True)" if others else "UnfoldedLSTMBlock"
    assert f"| {tied} | 3 | 90.0% |" in page


def test_names_stay_as_they_are(tmp_path):
    """Also those that pandas takes for missing values, and texts that are numbers."""
    folder = tmp_path / "depth-digits"
    for seed, (name, layer) in enumerate((("null", "NA"), ("01", "None"))):
        make_run(folder / name, ModelConfig(depth=3), seed=seed)
        gradients = folder / name / "gradient_flow.csv"
        gradients.write_text(gradients.read_text().replace("block", layer))
        (folder / name / "samples.txt").write_text("0123")
    files.write_json(
        folder / "study.json", {"study": "depth", "command": "", "runs": ["null", "01"]}
    )
    publish([folder], tmp_path / "tables", tmp_path / "pages")
    with data.unpacked([tmp_path / "tables" / "depth-digits-data"]) as (place,):
        found = {run.name: run for run in runs.find(place)}
        assert {name: set(run.gradients["layer"]) for name, run in found.items()} == {
            "null": {"NA"}, "01": {"None"},
        }  # fmt: skip
        assert [len(run.metrics) for run in found.values()] == [2, 2]
        texts = [path.read_text() for path in place.glob("*/samples.txt")]
        assert texts and set(texts) == {"0123"}


@pytest.mark.usefixtures("worker_here", "quick_pictures")
def test_a_study_goes_on_from_what_was_published(tmp_path, capsys):
    """Runs come with their results, but for those that are there or are wanted otherwise."""
    folder = tmp_path / "depth-digits"
    configs = {f"d{depth}": RunConfig("digits", ModelConfig(depth=depth)) for depth in (2, 3, 4)}
    for name, config in configs.items():
        make_run(folder / name, config.model, None)
    plan = {name: runs.load(folder / name).config for name in configs}
    content = {"study": "depth", "command": "", "runs": [*plan]}
    files.write_json(folder / "study.json", content)
    publish([folder], tmp_path / "tables", tmp_path / "pages")
    published, other = tmp_path / "tables" / "depth-digits-data", tmp_path / "other"

    wanted = {"d2": plan["d2"], "d3": dataclasses.replace(plan["d3"], learning_rate=0.5)}
    other.mkdir()
    assert data.restore(published, other, "depth", wanted) == 2
    assert data.restore(published, other, "depth", wanted) == 0
    found = {run.name: run for run in runs.find(other)}
    assert [*found] == ["d2", "d4"]  # d3 is to be trained anew; d4 was there before
    for name, run in found.items():
        assert run.state == "finished" and run.config == plan[name]
        assert run.result == runs.load(folder / name).result
    assert files.read_json(other / "study.json")["runs"] == ["d2", "d3", "d4"]

    again = tmp_path / "again"
    study = STUDIES["depth"]
    assert runner.run_study(study, plan, again, published=published)[0]
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [f"3 runs taken from '{published}'", "3 runs (3 finished), 0 to train now"]
    with pytest.raises(ConfigError, match="data of study 'depth', not of 'depth-limit'"):
        runner.run_study(STUDIES["depth-limit"], plan, tmp_path / "no", published=published)
    with pytest.raises(ConfigError, match="holds no data of a published study"):
        runner.run_study(study, plan, tmp_path / "no", published=folder)
    assert not (tmp_path / "no").exists()


def test_the_data_of_one_model_say_where_it_is_wrong(tmp_path):
    folder = tmp_path / "depth-digits"
    tables = {
        "confusion": "true,predicted,count\ncat,cat,7\ncat,007,2\n007,elk,3\n",
        "predictions": "output,true,predicted\n1,0.5,0.25\n1,1.0,2.0\n",
    }
    for seed in (0, 1):
        make_run(folder / f"seed{seed}", ModelConfig(), seed=seed)
        for name, text in tables.items():
            files.write_text(folder / f"seed{seed}" / f"{name}.csv", text)
    plan = {"study": "depth", "command": "", "runs": ["seed0", "seed1"]}
    files.write_json(folder / "study.json", plan)
    publish([folder], tmp_path / "one", tmp_path / "pages one")
    published = tmp_path / "one" / "depth-digits-data"
    publish([published], tmp_path / "two", tmp_path / "pages two")
    one, two = (tmp_path / f"pages {name}" / "depth-digits.md" for name in ("one", "two"))
    assert one.read_text() == two.read_text()
    for path in published.iterdir():
        again = tmp_path / "two" / "depth-digits-data" / path.name
        assert path.read_bytes() == again.read_bytes(), path
    sections = []
    for place in (folder, published):
        with data.unpacked([place]) as places:
            sections.append(predictions.section(collect(places).groups).text)
            for seed, kept in ((0, tables), (1, ["confusion"])):  # what pictures show
                for name in kept:
                    text = (places[0] / f"seed{seed}" / f"{name}.csv").read_text()
                    assert text == tables[name]
    assert sections[0] == sections[1] and "Sums over 2 runs." in sections[0]


def test_published_data_wherever_they_lie(tmp_path, monkeypatch):
    """Two folders have one name, or one is the folder that one is in."""
    folder = make_study(tmp_path / "depth-limit-digits")
    publish([folder], tmp_path / "tables", tmp_path / "pages")
    published = tmp_path / "tables" / "depth-limit-digits-data"
    shutil.copytree(published, tmp_path / "other" / published.name)
    report = ["report", str(published), str(tmp_path / "other" / published.name)]
    assert cli.main([*report, "--output", str(tmp_path / "both.html")]) == 0
    assert len(pd.read_csv(tmp_path / "both-table.csv")) == 6
    monkeypatch.chdir(published)
    assert cli.main(["report", ".", "--output", str(tmp_path / "one.html")]) == 0
    publish([Path(".")], tmp_path / "again", tmp_path / "pages again")
    assert (tmp_path / "pages again" / "depth-limit-digits.md").exists()


@pytest.mark.parametrize("name", ["notes.md", "depth-limit-digits.md", "index.md"])
def test_pages_that_are_no_text(tmp_path, name):
    """One of somebody else is none of the index; one of ours, damaged, is written again."""
    folder = make_study(tmp_path / "depth-limit-digits")
    publish([folder], tmp_path / "tables", tmp_path / "pages")
    expected = (tmp_path / "pages" / "index.md").read_text()
    with open(tmp_path / "pages" / name, "ab") as page:
        page.write(b"\xe9t\xe9 \xff\n")
    publish([folder], tmp_path / "tables", tmp_path / "pages")
    assert (tmp_path / "pages" / "index.md").read_text() == expected
    assert ((tmp_path / "pages" / name).read_bytes()[-2:] == b"\xff\n") == (name == "notes.md")


def test_data_that_are_none(tmp_path):
    (tmp_path / "x").mkdir()
    pd.DataFrame({"run": ["", "../y"], "config": ["{}", "{}"]}).to_csv(
        tmp_path / "x" / "runs.csv.gz", index=False
    )
    with pytest.raises(ConfigError, match=r"'\.\./y' is no name of a file"):
        publish([tmp_path / "x"], tmp_path / "t", tmp_path / "p")
    (tmp_path / "x" / "runs.csv.gz").write_bytes(b"no gzip")
    with pytest.raises(ConfigError, match="holds no data of a study"):
        publish([tmp_path / "x"], tmp_path / "t", tmp_path / "p")
    assert not (tmp_path / "t").exists() and not (tmp_path / "p").exists()
