"""A run that was interrupted ends with the same bits as one that was not."""

import dataclasses
import os
import resource
import shutil
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pandas as pd
import pytest
from event_files import assert_metrics
from golden import assert_same, whole_and_killed

from keras_deeplstm.callbacks.tensorboard import TensorBoardWriter
from keras_deeplstm.diagnostics import state_gradients
from keras_deeplstm.experiments import cli, runs
from keras_deeplstm.experiments.processes.signals import Interrupted
from keras_deeplstm.experiments.runs import checkpoints, files
from keras_deeplstm.experiments.settings.base import ConfigError
from keras_deeplstm.experiments.settings.classifiers import ModelConfig, RunConfig
from keras_deeplstm.experiments.tasks import get_task
from keras_deeplstm.experiments.training import session, train
from keras_deeplstm.experiments.training.journal import DivergedError

# Everything that has a state: dropout, moving averages of batch normalization, Adam.
CONFIG = RunConfig(
    "digits",
    ModelConfig(depth=3, units=8, dropout=0.2, normalization="batch"),
    epochs=4,
    batch_size=300,
    gradient_every=3,
)


ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class Killed(BaseException):
    """Ends a run as SIGKILL does: nobody handles it."""


def go_on(
    folder, config=CONFIG, kill_after=None, share=1.0, at_epoch=lambda epoch: None, **options
):
    """Train; die after an epoch; return what the user is told."""
    said = []

    def on_epoch(row):
        at_epoch(row["epoch"])
        if row["epoch"] == kill_after:
            raise Killed

    told = {"on_epoch": on_epoch, "on_message": said.append}
    train(config, folder, checkpoint_share=share, **told, **options)
    return said


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run that nothing disturbs, and one that was killed after two of its four epochs."""
    return whole_and_killed(CONFIG, tmp_path_factory.mktemp("trained"), "epoch", 2)


@pytest.fixture
def reference(trained):
    return trained[0]


@pytest.fixture
def folder(tmp_path, trained):
    return shutil.copytree(trained[1], tmp_path / "run")


def test_steps_are_told_while_an_epoch_runs(tmp_path, monkeypatch):
    """5 steps of each of 4 epochs, the mean loss of which is that of the row."""
    config = dataclasses.replace(CONFIG, model=ModelConfig("dense", depth=1, units=2))
    monkeypatch.setattr(session, "PAUSE", -1)
    seen, rows = [], []
    train(config, tmp_path / "a", on_step=lambda *told: seen.append(told), on_epoch=rows.append)
    assert [told[:2] for told in seen] == [(step, 5) for step in (1, 2, 3, 4, 5)] * 4
    assert [loss for step, _, loss in seen if step == 5] == [row["loss"] for row in rows]
    plain = train(config, tmp_path / "b")
    assert plain["test_loss"] == runs.load(tmp_path / "a").result["test_loss"]
    monkeypatch.setattr(session, "PAUSE", 1e9)
    few = []
    train(config, tmp_path / "c", on_step=lambda *told: few.append(told[:2]))
    assert few == [(5, 5)] * 4


@pytest.mark.backends
def test_a_killed_run_goes_on(folder, reference):
    assert runs.load(folder).state == "interrupted"
    # What a kill in the middle of a write leaves.
    for name in (".metrics.0a1b2c3d.csv", "checkpoints/.epoch_0003-ab.0a1b2c3d.npz"):
        (folder / name).touch()
    # A process that was killed was ahead of its last checkpoint.
    events = TensorBoardWriter(folder / "tensorboard")
    for epoch in (1, 2, 3):
        events.scalars({"loss": 9.0}, epoch)
    events.close()
    keras.utils.set_random_seed(12345)  # no generator of the process has a part in it
    assert go_on(folder, tensorboard=True) == ["Run 'run' goes on after epoch 2 of 4"]
    run = runs.load(folder)
    gradients = assert_metrics(folder / "tensorboard", run.metrics, "epoch")
    frame = run.gradients[run.gradients["weight"] == "recurrent_kernel"]
    for depth, rows in frame.groupby("depth"):
        tag = f"gradient_norm/{rows['layer'].iloc[0]}/recurrent_kernel/depth_{depth:03.0f}"
        steps, values = zip(*gradients[tag], strict=True)
        assert steps == tuple(rows["step"]) == (1, 3, 6, 9, 12, 15, 18)
        np.testing.assert_allclose(values, rows["value"], rtol=1e-6)
    assert len(gradients) * 7 == len(run.gradients)
    shutil.rmtree(folder / "tensorboard")
    assert_same(folder, reference)  # which was trained without
    assert ".lock" in os.listdir(folder) and "checkpoints" not in os.listdir(folder)

    # A finished run is not trained again.
    before = (folder / "result.json").read_bytes()
    assert go_on(folder, kill_after=1) == []
    assert (folder / "result.json").read_bytes() == before


@pytest.mark.backends
def test_the_reference_has_the_gradients_of_states_before_and_after(reference):
    """As a measurement of the saved model; the numbers of the result are read off."""
    run = runs.load(reference)
    frame = run.states
    assert frame["epoch"].unique().tolist() == [0, 4]
    x, y = get_task("digits").load().validation
    model = keras.models.load_model(reference / "model.keras")
    # The readout gives logits.
    model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    after = frame[frame["epoch"] == 4]
    now = state_gradients(model, x[:64], y[:64])
    np.testing.assert_allclose(after["value"], now["value"], rtol=1e-4)
    for epoch, when in ((0, "start"), (4, "end")):
        of_c = frame[(frame["epoch"] == epoch) & (frame["state"] == "c")].set_index("depth")
        total = of_c[of_c["path"] == "total"]["value"]
        memory = of_c[of_c["path"] == "memory"]["value"]
        expected = total[1] / total[3]
        assert run.result[f"state_gradient_ratio_{when}"] == pytest.approx(expected)
        assert run.result[f"memory_path_ratio_{when}"] == pytest.approx(memory[1] / total[1])
        assert 0 < run.result[f"gabor_r2_{when}"] < 1


def test_a_run_of_an_older_version_goes_on(folder, reference):
    """Its checkpoints have neither gradients of states nor filters; what was before stays open."""
    checkpoint, _ = checkpoints.newest(folder / "checkpoints")
    arrays = {k: v for k, v in checkpoint.arrays.items() if not k.startswith("gabor/")}
    notes = {k: v for k, v in checkpoint.notes.items() if k not in ("states", "gabor")}
    checkpoints.save(folder / "checkpoints", 2, arrays, notes)
    assert go_on(folder) == ["Run 'run' goes on after epoch 2 of 4"]
    result, expected = (runs.load(path).result for path in (folder, reference))
    for name in ("state_gradient_ratio", "memory_path_ratio", "gabor_r2"):
        assert result[f"{name}_start"] is None
        assert result[f"{name}_end"] == expected[f"{name}_end"]


@pytest.mark.backends
def test_the_order_of_the_data_is_a_function_of_seed_and_epoch():
    from keras_deeplstm.experiments.training.classifiers import Shuffled

    x = np.arange(10)
    orders = {}
    for seed in (0, 1):
        for epoch in (0, 1, 0):
            data = Shuffled(x, x, 4, seed)
            data.set_epoch(epoch)
            batches = [data[i][0].tolist() for i in range(len(data))]
            assert [len(batch) for batch in batches] == [4, 4, 2]
            order = [row for batch in batches for row in batch]
            assert sorted(order) == x.tolist()
            assert orders.setdefault((seed, epoch), order) == order
    assert len(set(map(tuple, orders.values()))) == 4
    assert orders[0, 0] == [4, 6, 2, 7, 3, 5, 9, 0, 8, 1]


@pytest.mark.backends
def test_how_images_are_moved_is_a_function_of_seed_epoch_and_batch():
    from keras_deeplstm.experiments.training.classifiers import Shuffled

    x = np.zeros((400, 7, 9, 1), "float32")
    x[:, 3, 4] = 1
    data = Shuffled(x, x, 200, seed=0, shift=2)

    def places(index, epoch=0):
        data.set_epoch(epoch)
        images, targets = data[index]
        assert images.sum() == 200 and (targets == x[:200]).all()
        return np.argwhere(images)[:, 1:3]

    seen = places(0)
    steps = {tuple(step) for step in seen - [3, 4]}
    assert steps == {(down, right) for down in range(-2, 3) for right in range(-2, 3)}
    np.testing.assert_array_equal(places(0), seen)
    assert (places(1) != seen).any() and (places(0, epoch=1) != seen).any()
    assert (x[:, 3, 4] == 1).all() and x.sum() == 400  # the data stay


def test_only_images_are_moved(tmp_path, letters):
    config = RunConfig(str(letters), ModelConfig("dense", depth=1, units=4), shift=2)
    with pytest.raises(ConfigError, match=r"`shift` is for images, .* are \(12,\)"):
        train(config, tmp_path / "run")


# What does not depend on the backend, on runs that take less time.


@pytest.fixture(scope="module")
def light(letters, tmp_path_factory):
    """The settings of such a run, one that nothing disturbs, and one that was killed as above."""
    model = ModelConfig("dense", depth=2, units=4, dropout=0.2)
    config = RunConfig(str(letters), model, epochs=4, batch_size=30, gradient_every=1)
    return config, *whole_and_killed(config, tmp_path_factory.mktemp("light"), "epoch", 2)


@pytest.fixture
def config(light):
    return light[0]


@pytest.fixture
def whole(light):
    return light[1]


@pytest.fixture
def killed(tmp_path, light):
    return shutil.copytree(light[2], tmp_path / "run")


def test_checkpoints_take_no_more_than_their_share(tmp_path, config, whole):
    folder = tmp_path / "run"
    found = []

    def look(epoch):
        found.append(checkpoints.newest(folder / "checkpoints")[0].epoch)

    with pytest.raises(Killed):
        go_on(folder, config, kill_after=3, share=0.0, at_epoch=look)
    assert found == [1, 1, 1]  # the first costs what it costs, then the share of zero is used up
    assert len(runs.load(folder).metrics) == 3
    assert go_on(folder, config, share=0.0) == ["Run 'run' goes on after epoch 1 of 4"]
    assert_same(folder, whole)


def test_a_damaged_checkpoint_costs_one_epoch(killed, config, whole):
    newest = max((killed / "checkpoints").iterdir())
    newest.write_bytes(newest.read_bytes()[:1000])
    assert go_on(killed, config) == [
        "The checkpoint after epoch 2 of run 'run' is damaged",
        "Run 'run' goes on after epoch 1 of 4",
    ]
    assert_same(killed, whole)


def test_sigterm_finishes_the_step(killed, config, whole):
    with pytest.raises(Interrupted) as caught:
        go_on(killed, config, at_epoch=lambda epoch: os.kill(os.getpid(), signal.SIGTERM))
    assert caught.value.status == 143
    assert runs.load(killed).state == "interrupted"
    assert go_on(killed, config) == ["Run 'run' goes on after epoch 3 of 4"]
    assert_same(killed, whole)
    assert runs.load(killed).result["resumed_after_epochs"] == [2, 3]


def test_all_checkpoints_damaged(killed, config):
    """The run does not go on, and no checkpoint is deleted."""
    for path in (killed / "checkpoints").iterdir():
        path.write_bytes(b"")
    for _ in range(2):
        with pytest.raises(checkpoints.CheckpointError, match="2 damaged, of epochs: 2, 1"):
            go_on(killed, config)
    assert len(list((killed / "checkpoints").iterdir())) == 2


def test_a_checkpoint_of_another_model_is_refused(killed, config):
    checkpoint, _ = checkpoints.newest(killed / "checkpoints")
    arrays = {k: v for k, v in checkpoint.arrays.items() if k != "optimizer/3"}
    checkpoints.save(killed / "checkpoints", 2, arrays, checkpoint.notes)
    with pytest.raises(checkpoints.CheckpointError, match="State of the optimizer does not match"):
        go_on(killed, config)


def test_another_backend_is_refused(killed, config):
    environment = files.read_json(killed / "environment.json")
    files.write_json(killed / "environment.json", environment | {"backend": "numpy"})
    with pytest.raises(runs.RunExistsError, match="was started with backend 'numpy', the current"):
        go_on(killed, config)


def test_disk_full(killed, config, whole):
    """The error is told, the last checkpoint is intact, and with room the run goes on."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    def fill(epoch):
        resource.setrlimit(resource.RLIMIT_FSIZE, (4000, limits[1]))

    try:
        with pytest.raises(OSError):
            go_on(killed, config, at_epoch=fill)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    run = runs.load(killed)
    assert run.state == "failed"
    assert "OSError" in run.reason
    assert go_on(killed, config) == ["Run 'run' goes on after epoch 3 of 4"]
    assert_same(killed, whole)


@pytest.mark.usefixtures("eager")
def test_a_diverged_run_keeps_its_last_good_checkpoint(tmp_path, letters):
    model = ModelConfig("dense", 3, 8, activation="relu")
    config = RunConfig(str(letters), model, epochs=3, learning_rate=1e-3)
    folder = tmp_path / "run"
    with pytest.raises(Killed):
        go_on(folder, config, kill_after=1)
    # From here on, every weight is too large.
    checkpoint, _ = checkpoints.newest(folder / "checkpoints")
    arrays = {
        key: array * np.float32(1e30) if key.startswith("model/") else array
        for key, array in checkpoint.arrays.items()
    }
    checkpoints.save(folder / "checkpoints", 1, arrays, checkpoint.notes)
    for _ in range(2):
        with pytest.raises(DivergedError, match="The loss became nan in epoch 2"):
            go_on(folder, config)
    run = runs.load(folder)
    assert (run.state, run.reason) == ("diverged", "The loss became nan in epoch 2")
    assert checkpoints.newest(folder / "checkpoints")[0].epoch == 1


@pytest.mark.usefixtures("eager")
def test_weights_are_looked_at_in_the_end(tmp_path, letters, monkeypatch):
    """Those of the last step, whose loss was that of the weights before, have no checkpoint."""

    def spoil(self, batch, logs=None):
        if self.model.optimizer.iterations == 2 * self.params["steps"]:
            weight = self.model.trainable_variables[0]
            weight.assign(weight * np.nan)

    monkeypatch.setattr(session.Steps, "on_train_batch_end", spoil)
    config = RunConfig(str(letters), ModelConfig("dense", 3, 8), epochs=2, batch_size=20)
    reason = "A weight became NaN or infinite in epoch 2"
    with pytest.raises(DivergedError, match=reason):
        train(config, tmp_path / "run", checkpoint_share=0, on_step=lambda *said: None)
    assert runs.load(tmp_path / "run").reason == reason


@pytest.mark.backends
def test_one_process_per_run(tmp_path, letters, capsys):
    """One process works, the other says so and leaves; the first is stopped, and goes on.

    It is stopped while the next batch is being made: TensorFlow's thread for it and Python must not
    wait for each other at the end.
    """
    script, stop = tmp_path / "deeplstm", tmp_path / "stop"
    script.write_text(
        "import os, pathlib, signal, sys, time\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may ignore it\n"
        "from keras_deeplstm.experiments import cli\n"
        "from keras_deeplstm.experiments.training import classifiers\n"
        "original = classifiers.Shuffled.__getitem__\n"
        "def slow(self, index):\n"
        f"    stop = pathlib.Path({str(stop)!r})\n"
        "    if stop.exists():\n"
        "        stop.unlink()\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "    until = time.perf_counter() + 0.1\n"
        "    while time.perf_counter() < until:\n"
        "        pass\n"
        "    return original(self, index)\n"
        "classifiers.Shuffled.__getitem__ = slow\n"
        "sys.exit(cli.main())\n"
    )
    arguments = ["run", str(letters), "--model.block", "dense", "--model.depth", "2"]
    arguments += ["--model.units", "4", "--batch-size", "7", "--name", "a"]
    arguments += ["--epochs", "1000", "--runs-dir", str(tmp_path / "runs")]
    process = subprocess.Popen(
        [sys.executable, script, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": ROOT},
    )
    lines = iter(process.stdout.readline, "")
    assert next(line for line in lines if line.startswith("epoch 2 of 1000"))
    assert runs.load(tmp_path / "runs" / "a").state == "running"
    started = time.perf_counter()
    assert cli.main(arguments) == 3
    assert time.perf_counter() - started < 5
    assert "runs/a' is in use by another process" in capsys.readouterr().err

    stop.touch()
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "deeplstm: interrupted. The same command resumes" in error
    assert "Traceback" not in error
    assert runs.load(tmp_path / "runs" / "a").state == "interrupted"


@pytest.mark.backends
@pytest.mark.usefixtures("eager")
def test_the_state_of_gradient_flow_holds_all_statistics():
    from keras_deeplstm.callbacks import GradientFlow
    from keras_deeplstm.callbacks.gradient_flow import STATISTICS
    from keras_deeplstm.models import classifier

    model = classifier((4,), 2, depth=3, units=2)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    flow = GradientFlow(every=3, statistics=STATISTICS)
    x, y = np.ones((10, 4), "float32"), np.arange(10) % 2
    model.fit(x, y, batch_size=2, epochs=1, verbose=0, callbacks=[flow])
    other = GradientFlow(every=3, statistics=STATISTICS)
    other.set_state(flow.get_state())
    pd.testing.assert_frame_equal(other.to_frame(), flow.to_frame())
    pd.testing.assert_frame_equal(other.histograms(), flow.histograms())
    # It goes on counting: steps 1 and 3 are recorded, then 6 and 9, but not step 6's neighbour 7.
    model.fit(x, y, batch_size=2, epochs=1, verbose=0, callbacks=[other])
    assert other.to_frame()["step"].unique().tolist() == [1, 3, 6, 9]
