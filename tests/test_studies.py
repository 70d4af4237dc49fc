"""Studies from the outside: the file of docs/own-task.md, killed and started again."""

import dataclasses
import os
import pathlib
import random
import re
import runpy
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
from finished_runs import make_run
from golden import content

from keras_deeplstm import experiments
from keras_deeplstm.experiments import runner, runs
from keras_deeplstm.experiments.runs import files, locks
from keras_deeplstm.experiments.settings import OWN_BLOCKS
from keras_deeplstm.experiments.settings.base import COMPILING, ConfigError
from keras_deeplstm.experiments.settings.classifiers import ModelConfig, RunConfig
from keras_deeplstm.experiments.settings.sequences import SequenceConfig
from keras_deeplstm.experiments.studies import STUDIES, Study, best_first, grid
from keras_deeplstm.experiments.studies.plan import matching, read_plan, restarts_of, write_plan
from keras_deeplstm.experiments.tasks import TASKS, DataError, Task, get_task, resolve

ROOT = pathlib.Path(__file__).parent.parent
PAGE = ROOT / "docs" / "own-task.md"
# The runs of the page's study that a test trains: two, with dropout.
TWO = "batch_size50"
STUDY = ["study", "how-deep", "--only", TWO, "--checkpoint-share", "1"]


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """The file of the page, under the name by which the package knows that Keras can wait."""
    code = re.search(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)[1]
    path = tmp_path_factory.mktemp("own") / "deeplstm"
    # A shell that starts tests in the background may ignore Ctrl-C.
    handler = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    path.write_text(handler + code)
    return path


@pytest.fixture(scope="module", autouse=True)
def registered(file):
    """The page's task and study, in this process as well."""
    handler = signal.getsignal(signal.SIGINT)
    names = runpy.run_path(str(file), run_name="own_task")
    signal.signal(signal.SIGINT, handler)
    yield names
    del TASKS["parity"], OWN_BLOCKS["wide"], STUDIES["how-deep"]


def start(file, runs_dir, *arguments):
    return subprocess.Popen(
        [sys.executable, file, *arguments, "--runs-dir", runs_dir],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def chosen():
    return matching(STUDIES["how-deep"].plan("parity"), TWO)


@pytest.fixture
def _optimized():
    """TensorFlow's optimizer is on, as in a process of its own: it may change the last bits."""
    import tensorflow as tf

    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": False})
    yield
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})


def train_undisturbed(folder):
    """The runs of the study, trained in this process."""
    from keras_deeplstm.experiments.training import train

    for name, config in chosen().items():
        train(config, folder / name)
    return folder


def assert_same(folder, undisturbed):
    for name in (path.name for path in undisturbed.iterdir()):
        found, expected = (content(path / name) for path in (folder, undisturbed))
        assert list(found) == list(expected)
        for file in found.keys() - {"environment.json"}:  # where the command stands
            assert found[file] == expected[file], file
    hidden = [path for path in folder.rglob(".*") if path.name != ".lock"]
    assert not hidden


def lost_epochs(folder):
    """Epochs of the unfinished runs in `folder` that will be trained again."""
    lost = []
    for run in runs.find(folder):
        if run.state not in ("finished", "created"):
            done = [int(p.name[6:10]) for p in (run.folder / "checkpoints").glob("epoch_*")]
            lost.append(len(run.metrics) - max(done, default=0))
    return lost


def wait_for(condition, process):
    while not condition():
        assert process.poll() is None, process.communicate()
        time.sleep(0.002)


def kill(process):
    process.kill()  # the worker has to notice by itself
    process.communicate()


@pytest.mark.long
@pytest.mark.usefixtures("_optimized", "worker_here")
def test_kills_and_ctrl_c(file, tmp_path, capsys):
    undisturbed = train_undisturbed(tmp_path / "undisturbed")
    folder = tmp_path / "runs" / "how-deep-parity"
    first, last = (folder / name for name in chosen())
    moments = [
        lambda: list(first.glob("checkpoints/epoch_0002*.npz")),
        lambda: (first / "gradient_flow.csv").exists(),
        lambda: list(last.glob("checkpoints/epoch_0001*.npz")),
    ]
    for moment in moments:
        process = start(file, tmp_path / "runs", *STUDY)
        wait_for(moment, process)
        kill(process)
        assert all(lost <= 1 for lost in lost_epochs(folder.parent))

    process = start(file, tmp_path / "runs", *STUDY)
    wait_for(lambda: list(last.glob("checkpoints/epoch_0003*.npz")), process)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert error.endswith("deeplstm: interrupted. The same command resumes\n")
    assert "Traceback" not in error

    # The rest without a process: this is not about it.
    assert experiments.main([*STUDY, "--runs-dir", str(tmp_path / "runs")]) == 0
    output = capsys.readouterr().out
    assert "2 of 6 runs (1 finished, 1 begun), 1 to train now" in output
    assert re.search(r"goes on after epoch [3-7] of 8", output)
    assert_same(folder, undisturbed)

    table = pd.read_csv(folder / "table.csv")
    assert table["run"].tolist() == list(chosen())
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "On parity, the highest test accuracy is that of" in page
    assert page.count(": missing") == 6 - len(table)  # the runs that --only has left out


@pytest.mark.long
@pytest.mark.usefixtures("_optimized")
def test_fifty_kills_at_random(file, tmp_path):
    """The study ends with the same results as one that nobody kills."""
    undisturbed = train_undisturbed(tmp_path / "undisturbed")
    started = time.perf_counter()
    process = start(file, tmp_path / "timed", *STUDY)
    process.communicate()
    seconds = time.perf_counter() - started
    assert_same(tmp_path / "timed" / "how-deep-parity", undisturbed)

    generator = random.Random(0)
    kills = 0
    folder = tmp_path / "killed" / "how-deep-parity"
    while kills < 50:
        started = time.perf_counter()
        process = start(file, tmp_path / "killed", *STUDY)
        try:
            process.wait(generator.uniform(0, seconds))
        except subprocess.TimeoutExpired:
            kill(process)
            kills += 1
            assert all(lost <= 1 for lost in lost_epochs(folder))
        else:  # done before it was killed 50 times: once more from the beginning
            seconds = min(seconds, time.perf_counter() - started)  # the machine may be quieter now
            assert process.returncode == 0, process.communicate()
            process.communicate()
            assert_same(folder, undisturbed)
            shutil.rmtree(folder)
    process = start(file, tmp_path / "killed", *STUDY)
    _, error = process.communicate()
    assert process.returncode == 0, error
    assert_same(folder, undisturbed)


TROUBLE = """
import os, sys
from keras_deeplstm.experiments.processes.worker import CallError

def die(data_dir):
    if os.path.basename(sys.argv[0]) != "deeplstm":  # in the process of a test
        raise CallError("the process ended with status 9")
    os._exit(9)

register(Task("deadly", "ends the process", (6,), 2, die, criterion=0.5))
register(Study("trouble", "What if?", ("parity",), lambda task: [
    RunConfig("deadly", ModelConfig(units=4), epochs=1),
    RunConfig(task, ModelConfig("dense", 3, 4, activation="relu"), epochs=1, learning_rate=1e30),
    RunConfig(task, ModelConfig("dense", 2, 4), epochs=1),
]))
"""


@pytest.mark.usefixtures("worker_here", "eager", "quick_pictures")
def test_runs_that_fail_do_not_end_the_study(registered, tmp_path, capsys):
    exec(TROUBLE, dict(registered))
    assert experiments.main(["study", "trouble", "--runs-dir", str(tmp_path)]) == 1
    check_trouble(tmp_path / "trouble-parity", capsys.readouterr().out)


@pytest.mark.long
def test_a_process_that_dies_does_not_end_the_study(file, tmp_path):
    script = tmp_path / "deeplstm"
    code = file.read_text()
    place = code.index("if __name__")
    script.write_text(code[:place] + TROUBLE + code[place:])
    process = start(script, tmp_path, "study", "trouble")
    output, error = process.communicate()
    assert process.returncode == 1, error
    check_trouble(tmp_path / "trouble-parity", output)


@pytest.mark.long
def test_a_file_run_by_the_command_is_quiet(file, tmp_path):
    """Neither it nor its worker shows what TensorFlow says when it starts."""
    script = shutil.copy(file, tmp_path / "parity.py")
    command = [sys.executable, "-m", "keras_deeplstm", script, *STUDY, "--limit", "1"]
    done = subprocess.run(
        [*command, "--runs-dir", tmp_path],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert (done.returncode, done.stderr) == (0, "")
    (run,) = (run for run in runs.find(tmp_path) if run.state == "finished")
    assert run.environment["command"].startswith(f"deeplstm {script} study how-deep")


def check_trouble(folder, output):
    lines = output.splitlines()
    assert lines[0] == "3 runs, 3 to train now"
    died = "deadly, UnfoldedLSTMBlock, depth 10: FAILED: the process ended with status 9"
    assert lines[1] == f"1/3 {died}"
    diverged = "parity, DenseStack, depth 3"
    assert lines[2] == f"2/3 {diverged}: DIVERGED: The loss became nan in epoch 1"
    assert lines[3] == f"2/3 {diverged}, seed 1000: DIVERGED: The loss became nan in epoch 1"
    assert lines[4].startswith("3/3 parity, DenseStack, depth 2: test ")
    states = [files.read_json(path)["state"] for path in folder.glob("*/result.json")]
    assert sorted(states) == ["diverged", "diverged", "failed", "finished"]
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "failed (the process ended with status 9)" in page
    assert "tried again with seed 1000" in page


@pytest.mark.usefixtures("worker_here", "eager", "quick_pictures")
def test_a_report_is_there_before_all_runs_are_finished(tmp_path, capsys, monkeypatch):
    """Written after the first run, and not again at once: a twentieth of the time is for it."""
    monkeypatch.setattr(runner, "FIRST_REPORT", 0)
    plan = {
        name: RunConfig("digits", ModelConfig("dense", depth, 4), epochs=1, batch_size=500)
        for depth, name in ((2, "a"), (3, "b"), (4, "c"))
    }
    reports, write = [], runner.report_here
    monkeypatch.setattr(
        runner,
        "report_here",
        lambda send, folders: reports.append(len(runs.find(tmp_path))) or write(send, folders),
    )
    assert runner.run_study(STUDIES["depth"], plan, tmp_path)[0]
    assert reports == [1, 3]
    lines = capsys.readouterr().out.splitlines()
    assert lines[2] == f"Report so far: {tmp_path / 'report.html'}"
    assert lines[3].startswith("2/3 DenseStack, depth 3: test ")


@pytest.mark.usefixtures("worker_here", "eager", "quick_pictures")
def test_a_report_that_fails_does_not_end_the_study(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(runner, "FIRST_REPORT", 0)
    plan = {
        name: RunConfig("digits", ModelConfig("dense", depth, 4), epochs=1, batch_size=500)
        for depth, name in ((2, "a"), (3, "b"))
    }
    write = runner.report_here

    def report(send, folders):
        if len(runs.find(tmp_path)) < len(plan):
            raise OSError("no space left")
        return write(send, folders)

    monkeypatch.setattr(runner, "report_here", report)
    assert runner.run_study(STUDIES["depth"], plan, tmp_path) == (True, tmp_path / "report.html")
    assert "No report yet: no space left" in capsys.readouterr().out.splitlines()


@pytest.mark.usefixtures("worker_here", "eager", "quick_pictures")
def test_a_study_of_changed_data_is_refused(tmp_path, letters, capsys):
    path = shutil.copy(letters, tmp_path / "mine.npz")

    def configs(dataset):
        return [RunConfig(dataset, ModelConfig("dense", 2, 4), epochs=1, batch_size=20)]

    experiments.register(Study("small", "?", ("digits",), configs, own_data=True))
    study = ["study", "small", "--dataset", str(path), "--runs-dir", str(tmp_path / "runs")]
    assert experiments.main(study) == 0
    with np.load(letters) as data:
        np.savez(path, x=-data["x"], y=data["y"])
    capsys.readouterr()
    assert experiments.main([*study, "--seeds", "2"]) == 3
    folder = tmp_path / "runs" / "small-mine"
    (first,) = (run.folder for run in runs.find(folder))  # no folder of another was made
    assert capsys.readouterr().err == (
        f"deeplstm: error: The data have changed since run '{first}' was trained, with which "
        f"others are to be compared. Put them back, or use --overwrite or another place for all "
        f"runs\n"
    )
    assert experiments.main([*study, "--seeds", "2", "--overwrite", "--only", "seed1"]) == 3
    assert experiments.main([*study, "--seeds", "2", "--overwrite"]) == 0
    assert len({run.data for run in runs.find(folder)}) == 1


def test_plan():
    study = STUDIES["how-deep"]
    plan = study.plan("parity")
    assert list(plan) == [
        f"parity-unfolded_lstm-untied-dropout0.1-depth{depth}-units16-seed0-batch_size{size}"
        for depth in (2, 4)
        for size in (25, 50)
    ] + [f"parity-wide-width-{width}-depth1-seed0-batch_size128" for width in (32, 256)]
    more = study.plan("parity", epochs=3, seeds=2, folds=5)
    assert len(more) == 6 * 2 * 5
    assert {config.epochs for config in more.values()} == {3}
    assert [config.seed for config in more.values()] == [0] * 30 + [1] * 30
    assert next(iter(more)).endswith("seed0-fold1of5-batch_size25")
    # More seeds are more runs of the same study.
    assert list(study.plan("parity", seeds=2))[:6] == list(plan)
    assert study.folder_name("parity") == "how-deep-parity"
    assert study.folder_name("parity", 3, 5) == "how-deep-parity-epochs3-folds5"


@pytest.mark.parametrize(
    ("study", "dataset", "number", "name"),
    [
        ("depth", "digits", 15, "digits-dense-relu-he_normal-depth10-units100-seed0"),
        (
            *("depth-limit", "mnist", 72),
            "mnist-unfolded_lstm-untied-input-bias-depth-depth10-parameters249310-seed0-epochs10"
            "-learning_rate0.01",
        ),
        (
            *("depth-lstm", "tinyshakespeare", 31),
            "text-tinyshakespeare-transformer-lstm-tied-input_gate_bias-depth-depth6-64units-seed0"
            "-learning_rate0.01",
        ),
        ("algorithms", "", 12, "addition-digits-2-lstm-depth4-100units-seed0"),
        (
            *("sines", "", 24),
            "sines-lstm-depth1-150units-seed0-sequences-100000-learning_rate-0.005-schedule-cosine"
            "-clipnorm-1.0",
        ),
    ],
)
def test_names_of_runs_stay(study, dataset, number, name):
    """By them published and unfinished runs are found."""
    names = list(STUDIES[study].plan(dataset))
    assert (len(names), name in names) == (number, True)


def _planned(configs, **options):
    return list(Study("some", "?", (), lambda dataset: configs).plan("", **options))


def test_runs_whose_names_coincide(tmp_path):
    names = ("model.kernel_initializer", "model.recurrent_initializer")
    configs = grid(RunConfig("digits"), dict.fromkeys(names, (None, "orthogonal")))
    one, same = "digits-unfolded_lstm-untied", "-depth10-units100-seed0"
    some = f"{one}-orthogonal{same}-"
    kernel, recurrent = "model.kernel_initializer", "model.recurrent_initializer"
    expected = [
        f"{one}{same}",
        f"{some}{kernel}-None-{recurrent}-orthogonal",
        f"{some}{kernel}-orthogonal-{recurrent}-None",
        f"{some}{kernel}-orthogonal-{recurrent}-orthogonal",
    ]
    assert _planned(configs) == expected
    # The same run twice is one; what tells runs apart does not hang on the seeds of others.
    most = Study("some", "?", (), lambda d: 2 * configs, most_seeds=lambda c: 1 + (c == configs[1]))
    assert list(most.plan("", seeds=2)) == [*expected, expected[1].replace("seed0", "seed1")]

    paths = [str(tmp_path / name / "data.npz") for name in ("a", "b")]
    first, second = _planned([RunConfig(path) for path in paths])
    assert first.startswith("data-unfolded_lstm") and first.endswith("-a-data.npz")
    assert second == f"{first.removesuffix('-a-data.npz')}-b-data.npz"


def test_runs_that_no_name_tells_apart(tmp_path):
    configs = [RunConfig(str(tmp_path / name / ("x" * 70) / "a.npz")) for name in ("a", "b")]
    with pytest.raises(
        ConfigError, match=r"Two runs of study 'some' have the name 'a-unf.*in task"
    ):
        _planned(configs)


@pytest.mark.parametrize(
    ("target", "folder"),
    [("km/h", "depth-speed-km_h-epochs1"), ("x" * 300, f"depth-speed-{'x' * 94}-epochs1")],
    ids=["slash", "long"],
)
def test_the_folder_of_a_column_of_any_name(target, folder, tmp_path):
    table = resolve(str(tmp_path / "speed.csv"), target=(target,), kind="regression")
    assert STUDIES["depth"].folder_name(table, epochs=1) == folder


def test_grid():
    base = RunConfig("digits", ModelConfig(units=8), epochs=2)
    configs = grid(base, {"model.depth": (2, 3), "optimizer": ("adam", "sgd")})
    assert [(config.model.depth, config.optimizer) for config in configs] == [
        *((2, "adam"), (2, "sgd"), (3, "adam"), (3, "sgd"))
    ]
    assert {(config.model.units, config.epochs) for config in configs} == {(8, 2)}
    for name in ("model.dept", "optimiser", "modle.depth"):
        with pytest.raises(ConfigError, match="Unknown key"):
            grid(base, {name: (1,)})
    with pytest.raises(ConfigError, match=re.escape("`model.depth` must be a positive integer")):
        grid(base, {"model.depth": (2, 0)})


def test_only():
    plan = STUDIES["how-deep"].plan("parity")
    assert len(matching(plan, None)) == 6
    (name,) = matching(plan, "depth4*size25")
    assert name.endswith("depth4-units16-seed0-batch_size25")
    with pytest.raises(ConfigError, match="No run matches --only 'depth5'"):
        matching(plan, "depth5")


def test_restarts():
    config = RunConfig("digits", seed=3)
    restarts = restarts_of("name", config, 2)
    assert {name: run.seed for name, run in restarts.items()} == {
        "name": 3,
        "name-restart1": 1003,
        "name-restart2": 2003,
    }


def test_a_study_that_is_started_with_fewer_seeds(tmp_path):
    """The runs of the other seeds, and the restarts, stay in its report; other models do not."""
    config = RunConfig("digits", ModelConfig(depth=2), epochs=2)
    make_run(tmp_path / "a", config.model)
    make_run(tmp_path / "b", config.model, seed=1)
    make_run(tmp_path / "c", ModelConfig(depth=3))
    plan = {"study": "x", "command": "", "runs": ["a", "b", "c", "missing"], "restarts": 2}
    files.write_json(tmp_path / "study.json", plan)
    write_plan(tmp_path, "x", "", {"a": config}, 1)
    assert read_plan(tmp_path) == plan | {"runs": ["a", "b"]}
    (tmp_path / "study.json").write_text("{")
    write_plan(tmp_path, "x", "", {"a": config}, 1)
    assert read_plan(tmp_path) == plan | {"runs": ["a"], "restarts": 1}


def test_a_restart_of_other_settings_is_refused(tmp_path):
    config = RunConfig("digits", ModelConfig(depth=2), epochs=3)
    make_run(tmp_path / "a-restart1", config.model, seed=1000)  # with 2 epochs
    plan = {"a": config}
    with pytest.raises(runs.RunExistsError, match=r"'a-restart1' has other settings \(epochs: 2"):
        runner.run_study(STUDIES["depth"], plan, tmp_path, restarts=1)
    assert not (tmp_path / "study.json").exists()


def test_a_run_that_diverged_before_is_no_success_later(tmp_path, capsys):
    config = RunConfig("digits", ModelConfig(depth=2), epochs=2)
    make_run(tmp_path / "a", config.model)
    files.write_json(tmp_path / "a" / "result.json", {"state": "diverged", "reason": "x"})
    one = runner._Runner(None, None, tmp_path, {"overwrite": False}, 1)
    assert not one.run({"a": config}, None, 0)
    assert "1 runs (1 diverged and are not run again), 0 to train now" in capsys.readouterr().out


def test_a_finished_run_is_tidied_unless_somebody_works_in_it(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "SECONDS", 0)
    run = make_run(tmp_path / "a", ModelConfig(depth=2))
    half, own = tmp_path / "a" / ".model.0a1b2c3d.keras", tmp_path / "a" / ".gitignore"
    for path in (half, own):
        path.touch()
    one = runner._Runner(None, None, tmp_path, {"overwrite": False}, 1)
    with runs.lock(tmp_path / "a"):
        assert one.run({"a": run.config}, None, 0)
        assert half.exists()
    assert one.run({"a": run.config}, None, 0)
    assert own.exists()
    assert not half.exists()


def test_the_time_of_runs_that_end_when_they_are_solved():
    """It is the mean of those before; a share of the most sequences would say hours."""
    config = SequenceConfig("adding", sequences=100_000)
    assert config.work == 1
    full = dataclasses.replace(config, full=True)
    assert full.work == full.model.depth * (full.rounds + COMPILING)


def test_register():
    task = TASKS["parity"]
    experiments.register(task)  # the same again is no conflict
    other = Task("parity", "another", (6,), 2, task.load, criterion=0.5)
    with pytest.raises(ValueError, match="There is already a task called 'parity'"):
        experiments.register(other)
    study = Study("depth", "?", ("digits",), lambda task: [])
    with pytest.raises(ValueError, match="There is already a study called 'depth'"):
        experiments.register(study)
    assert study.answer is best_first


def test_a_config_cannot_name_code(tmp_path):
    """A path is one of data: a file of Python is none, and is not run."""
    code = tmp_path / "evil.py"
    code.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    config = RunConfig.from_dict({"task": str(code)})
    with pytest.raises(DataError):
        get_task(config.task).load()
    assert not (tmp_path / "ran").exists()
    with pytest.raises(ConfigError, match="Unknown task"):
        RunConfig.from_dict({"task": "os.path"})
