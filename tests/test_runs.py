import json
import os

import pytest

from keras_deeplstm.experiments import runs
from keras_deeplstm.experiments.config import ConfigError, RunConfig

CONFIG = RunConfig("digits", epochs=3)


def test_atomic_write_leaves_the_old_file_when_the_writer_raises(tmp_path):
    path = tmp_path / "result.json"
    runs.write_json(path, {"a": 1})
    with pytest.raises(ValueError), runs.atomic(path) as temporary:
        temporary.write_text("half of")
        raise ValueError
    with pytest.raises(ValueError, match="JSON"):
        runs.write_json(path, {"a": float("nan")})
    assert json.loads(path.read_text()) == {"a": 1}
    assert os.listdir(tmp_path) == ["result.json"]


def test_states(tmp_path):
    folder = tmp_path / "a"
    runs.start(folder, CONFIG, "deeplstm run digits")
    assert runs.load(folder).state == "unfinished"

    runs.write_json(folder / "result.json", {"state": "failed", "reason": "no luck"})
    run = runs.load(folder)
    assert (run.state, run.reason, run.result) == ("failed", "no luck", {})

    runs.write_json(folder / "result.json", {"state": "finished", "test_accuracy": 0.5})
    run = runs.load(folder)
    assert (run.name, run.config, run.state) == ("a", CONFIG, "finished")
    assert run.result["test_accuracy"] == 0.5

    (folder / "result.json").write_text('{"state": "fin')
    assert runs.load(folder).state == "damaged"
    (folder / "config.json").write_text('{"task": "digits", "epochs": 0}')
    run = runs.load(folder)
    assert (run.config, run.state) == (None, "damaged")
    assert "`epochs` must be a positive integer" in run.reason


def test_environment_holds_no_more_than_it_says(tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET_TOKEN", "hunter2")
    runs.start(tmp_path / "a", CONFIG, "deeplstm run digits --epochs 3")
    text = (tmp_path / "a" / "environment.json").read_text()
    assert "hunter2" not in text
    environment = json.loads(text)
    assert environment["command"] == "deeplstm run digits --epochs 3"
    assert set(environment) == {
        *("command", "date", "backend", "python", "versions", "platform", "processor", "cpus")
    }
    assert {"keras", "numpy"} <= set(environment["versions"]) <= set(runs.PACKAGES)


@pytest.mark.parametrize(
    "name", ["", "../x", "a/b", ".hidden", "a" * 101, "<script>", "a\0", "a\n"]
)
def test_invalid_names(name):
    with pytest.raises(ConfigError, match="Invalid run name"):
        runs.check_name(name)


def test_valid_names():
    for name in ("a", "A-1_b.c", "a" * 100):
        assert runs.check_name(name) == name


def test_new_names_are_new(tmp_path):
    first = runs.new_name(tmp_path, CONFIG)
    assert first == "digits-unfolded_lstm-untied-depth10-units100-seed0-1"
    (tmp_path / first).mkdir()
    assert runs.new_name(tmp_path, CONFIG).endswith("-seed0-2")


def test_a_taken_folder_is_refused(tmp_path):
    folder = tmp_path / "a"
    runs.check_free(folder)
    runs.start(folder, CONFIG, "")
    with pytest.raises(runs.RunExistsError, match=r"'a' already exists \(unfinished\)"):
        runs.check_free(folder)
    runs.write_json(folder / "result.json", {"state": "finished"})
    with pytest.raises(runs.RunExistsError, match=r"\(finished, 3 epochs\). Use --overwrite"):
        runs.check_free(folder)

    runs.start(folder, CONFIG, "")  # replaces
    assert sorted(os.listdir(folder)) == ["config.json", "environment.json"]


def test_only_runs_are_replaced(tmp_path):
    folder = tmp_path / "thesis"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "file").touch()
    runs.start(tmp_path / "run", CONFIG, "")
    (tmp_path / "link").symlink_to(tmp_path / "run")
    for name in ("thesis", "file", "link"):
        with pytest.raises(runs.RunExistsError, match="exists and is not a run"):
            runs.start(tmp_path / name, CONFIG, "")
    assert os.listdir(folder) == ["config.json"]


def test_a_folder_killed_before_its_first_file_is_free(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / ".config.0a1b2c3d.json").touch()
    runs.check_free(tmp_path / "a")


def test_find(tmp_path):
    for name in ("b", "study/a"):
        runs.start(tmp_path / name, CONFIG, "")
    (tmp_path / "other").mkdir()
    assert [run.name for run in runs.find(tmp_path)] == ["b", "a"]
