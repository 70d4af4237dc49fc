import json
import os

import pytest

from keras_deeplstm.experiments import runs
from keras_deeplstm.experiments.runs import environment as machine
from keras_deeplstm.experiments.runs import files, locks
from keras_deeplstm.experiments.settings.base import ConfigError
from keras_deeplstm.experiments.settings.classifiers import ModelConfig, RunConfig

CONFIG = RunConfig("digits", epochs=3)


def test_atomic_write_leaves_the_old_file_when_the_writer_raises(tmp_path):
    path = tmp_path / "result.json"
    files.write_json(path, {"a": 1})
    with pytest.raises(ValueError), files.atomic(path) as temporary:
        temporary.write_text("half of")
        raise ValueError
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(path, {"a": float("nan")})
    assert json.loads(path.read_text()) == {"a": 1}
    assert os.listdir(tmp_path) == ["result.json"]


def test_states(tmp_path):
    folder = tmp_path / "a"
    runs.begin(folder, CONFIG, "deeplstm run digits")
    assert runs.load(folder).state == "created"
    (folder / "metrics.csv").touch()
    assert runs.load(folder).state == "interrupted"
    with runs.lock(folder):
        assert runs.load(folder).state == "running"
    assert runs.load(folder).state == "interrupted"

    files.write_json(folder / "result.json", {"state": "diverged", "reason": "in epoch 3"})
    assert runs.load(folder).state == "diverged"

    files.write_json(folder / "result.json", {"state": "failed", "reason": "no luck"})
    run = runs.load(folder)
    assert (run.state, run.reason, run.result) == ("failed", "no luck", {})

    numbers = dict.fromkeys(CONFIG.results, 0.5)
    files.write_json(folder / "result.json", {"state": "finished", **numbers})
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
    runs.begin(tmp_path / "a", CONFIG, "deeplstm run digits --epochs 3")
    text = (tmp_path / "a" / "environment.json").read_text()
    assert "hunter2" not in text
    environment = json.loads(text)
    assert environment["command"] == "deeplstm run digits --epochs 3"
    assert set(environment) == {
        *("command", "date", "backend", "python", "versions", "platform", "processor", "cpus")
    }
    assert {"keras", "numpy"} <= set(environment["versions"]) <= set(machine.PACKAGES)


@pytest.mark.parametrize(
    "name", ["", "../x", "a/b", ".hidden", "a" * 101, "<script>", "a\0", "a\n"]
)
def test_invalid_names(name):
    with pytest.raises(ConfigError, match="Invalid run name"):
        runs.check_name(name)


def test_valid_names():
    for name in ("a", "A-1_b.c", "a" * 100):
        assert runs.check_name(name) == name


def test_the_name_of_a_run_that_was_given_none(tmp_path):
    first = runs.name_for(tmp_path, CONFIG)
    assert first == "digits-unfolded_lstm-untied-depth10-units100-seed0-1"
    folder = tmp_path / first
    runs.begin(folder, CONFIG)
    # An unfinished run with exactly these settings goes on, unless a new one is wanted.
    assert runs.name_for(tmp_path, CONFIG) == first
    assert runs.name_for(tmp_path, CONFIG, new=True).endswith("-seed0-2")
    other = RunConfig("digits", epochs=4)
    assert runs.name_for(tmp_path, other).endswith("-seed0-2")
    with runs.lock(folder):
        assert runs.name_for(tmp_path, CONFIG).endswith("-seed0-2")
    for state in ("finished", "diverged"):
        files.write_json(folder / "result.json", {"state": state})
        assert runs.name_for(tmp_path, CONFIG).endswith("-seed0-2")
    files.write_json(folder / "result.json", {"state": "failed"})
    assert runs.name_for(tmp_path, CONFIG) == first


def test_a_folder_of_other_settings_is_refused(tmp_path):
    folder = tmp_path / "a"
    runs.check_usable(folder, CONFIG)
    runs.begin(folder, CONFIG)
    runs.check_usable(folder, CONFIG)
    other = RunConfig("digits", ModelConfig(depth=3), epochs=4)
    message = r"'a' has other settings \(epochs: 3 -> 4, model.depth: 10 -> 3\). Use --overwrite"
    for check in (runs.check_usable, runs.begin):
        with pytest.raises(runs.RunExistsError, match=message):
            check(folder, other)
    (folder / "metrics.csv").touch()
    runs.check_usable(folder, other, overwrite=True)
    runs.begin(folder, other, overwrite=True)
    assert runs.load(folder).config == other
    assert sorted(os.listdir(folder)) == ["config.json", "environment.json"]


def test_lock(tmp_path, monkeypatch):
    """A run that is locked can neither be used nor locked again."""
    monkeypatch.setattr(locks, "SECONDS", 0)
    folder = tmp_path / "a"
    assert not runs.is_locked(folder)
    with runs.lock(folder):
        assert runs.is_locked(folder)
        with pytest.raises(runs.RunExistsError, match="a' is in use by another process"):
            runs.check_usable(folder, CONFIG)
        with pytest.raises(runs.RunExistsError, match="in use"), runs.lock(folder):
            pass
    assert not runs.is_locked(folder)


def test_going_on_tidies(tmp_path):
    folder = tmp_path / "a"
    runs.begin(folder, CONFIG)
    (folder / "checkpoints").mkdir()
    leftover = ".epoch_0001-0a1b2c3d4e5f6071.89abcdef.npz"
    for path in (folder / ".model.0a1b2c3d.keras", folder / "checkpoints" / leftover):
        path.touch()
    (folder / ".git").mkdir()
    (folder / ".git" / ".index.0a1b2c3d.json").touch()  # of whoever keeps it there
    (folder / ".nextcloudsync.log").touch()
    files.write_json(folder / "result.json", {"state": "failed", "reason": "no luck"})
    assert runs.begin(folder, CONFIG).state == "failed"
    foreign = [".git", ".nextcloudsync.log"]
    assert sorted(os.listdir(folder)) == [
        *foreign,
        "checkpoints",
        "config.json",
        "environment.json",
    ]
    assert not os.listdir(folder / "checkpoints")
    assert os.listdir(folder / ".git") == [".index.0a1b2c3d.json"]

    numbers = dict.fromkeys(CONFIG.results, 0.5)
    files.write_json(folder / "result.json", {"state": "finished", **numbers})
    runs.tidy(folder)
    assert not (folder / "checkpoints").exists()


def test_only_runs_are_replaced(tmp_path):
    folder = tmp_path / "thesis"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "bert"}')
    (folder / "environment.json").touch()
    (tmp_path / "file").touch()
    runs.begin(tmp_path / "run", CONFIG)
    (tmp_path / "link").symlink_to(tmp_path / "run")
    for name in ("thesis", "file", "link"):
        with pytest.raises(runs.RunExistsError, match="exists and is not a run"):
            runs.begin(tmp_path / name, CONFIG)
    assert sorted(os.listdir(folder)) == ["config.json", "environment.json"]


BEGUN = {
    "environment.json": json.dumps({"command": "", "backend": "jax", "versions": {}}),
    "config.json": json.dumps(CONFIG.to_dict()),
    "result.json": json.dumps({"state": "failed", "reason": "the process ended"}),
    ".config.0a1b2c3d.json": '{"ta',
}


@pytest.mark.parametrize(
    "names", [[], [".config.0a1b2c3d.json"], ["environment.json"], ["config.json", "result.json"]]
)
def test_a_folder_killed_before_its_first_files_is_free(tmp_path, names):
    (tmp_path / "a").mkdir()
    for name in names:
        (tmp_path / "a" / name).write_text(BEGUN[name])
    runs.check_usable(tmp_path / "a", CONFIG)
    runs.begin(tmp_path / "a", CONFIG)
    assert sorted(os.listdir(tmp_path / "a")) == ["config.json", "environment.json"]


@pytest.mark.parametrize("overwrite", [False, True], ids=["begun", "overwritten"])
@pytest.mark.parametrize(
    ("name", "text"),
    [
        (".git", "precious"),
        (".notes.md", "precious"),
        ("config.json", '{"model_type": "bert"}'),
        ("environment.json", '{"PATH": "/bin"}'),
        ("result.json", '{"state": "failed", "reason": ""}'),
    ],
)
def test_a_folder_with_files_of_others_is_not_free(tmp_path, name, text, overwrite):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / name).write_text(text)
    for check in (runs.check_usable, runs.begin):
        with pytest.raises(runs.RunExistsError, match="exists and is not a run"):
            check(tmp_path / "a", CONFIG, overwrite=overwrite)
    assert os.listdir(tmp_path / "a") == [name]
    assert (tmp_path / "a" / name).read_text() == text


def test_find(tmp_path):
    for name in ("b", "study/a"):
        runs.begin(tmp_path / name, CONFIG)
    (tmp_path / "other").mkdir()
    assert [run.name for run in runs.find(tmp_path)] == ["b", "a"]
