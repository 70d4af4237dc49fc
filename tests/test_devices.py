"""--devices all: two virtual devices give the loss curve of one, on each engine."""

import os
import subprocess
import sys

import keras
import numpy as np
import pandas as pd
import pytest

from keras_deeplstm.experiments.settings.base import ConfigError
from keras_deeplstm.experiments.settings.classifiers import ModelConfig, RunConfig
from keras_deeplstm.experiments.training import classifiers, devices, train
from keras_deeplstm.experiments.training.classifiers import Shuffled
from keras_deeplstm.experiments.training.devices import using_devices

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# In another process: the number of devices is fixed when the backend starts. An epoch is a step.
SCRIPT = """
import pathlib
import sys
import keras
if keras.backend.backend() == "tensorflow":
    import tensorflow as tf
    two = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], two)
import numpy as np
from keras_deeplstm import experiments
from keras_deeplstm.experiments import ModelConfig, RunConfig, Splits, Task

def load(data_dir):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(112, 6)).astype("float32"), rng.integers(0, 3, 112)
    parts = (slice(48), slice(48, 78), slice(78, None))  # 48, 30 and 34 examples
    return Splits(*((x[part], y[part]) for part in parts))

experiments.register(Task("few", "few examples", (6,), 3, load, criterion=0.5))
from keras_deeplstm.experiments.training.classifiers import train
from keras_deeplstm.experiments.training.devices import number_of_devices, using_devices
with using_devices(sys.argv[1]):
    assert number_of_devices() == {"one": 1, "all": 2}[sys.argv[1]]
assert number_of_devices() == 1
config = RunConfig("few", ModelConfig(depth=4, units=16), epochs=50, batch_size=48)
train(config, pathlib.Path(sys.argv[1]), devices=sys.argv[1])
"""


def run(backend, which, folder):
    (folder / "script.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "script.py", which],
        cwd=folder,
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "KERAS_BACKEND": backend,
            "PYTHONPATH": ROOT,
            "JAX_NUM_CPU_DEVICES": "2",
            "CUDA_VISIBLE_DEVICES": "",
        },
    )
    assert done.returncode == 0, done.stderr[-3000:]
    names = ("metrics.csv", "gradient_flow.csv", "state_gradients.csv")
    return [pd.read_csv(folder / which / name) for name in names]


@pytest.mark.long
@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_two_devices_learn_as_one(backend, tmp_path):
    pytest.importorskip(backend)
    one, two = (run(backend, which, tmp_path) for which in ("one", "all"))
    for column in ("loss", "val_loss"):
        np.testing.assert_allclose(two[0][column], one[0][column], rtol=0, atol=1e-5)
    assert one[0]["loss"].iloc[-1] < one[0]["loss"].iloc[0] - 0.05  # it does learn
    for which in (1, 2):
        np.testing.assert_allclose(two[which]["value"], one[which]["value"], rtol=1e-3)


def test_the_parts_of_a_batch_are_equal():
    x, y = np.arange(1257), np.arange(1257)
    for parts, last in ((1, 105), (2, 104), (8, 104), (16, 96)):
        data = Shuffled(x, y, 128, seed=0, parts=parts)
        sizes = [len(data[i][0]) for i in range(len(data))]
        assert sizes == [128] * 9 + [last]
    data = Shuffled(x[:129], y[:129], 128, seed=0, parts=2)
    assert len(data) == 1


@pytest.mark.usefixtures("eager")
def test_a_result_counts_the_examples_that_were_tested(tmp_path, monkeypatch):
    """360 of the digits are for testing; seven devices get equal parts of 357."""
    for module in (classifiers, devices):
        monkeypatch.setattr(module, "number_of_devices", lambda: 7)
    config = RunConfig("digits", ModelConfig("dense", 2, 4), epochs=1, batch_size=700)
    assert train(config, tmp_path / "a")["test_examples"] == 357


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="what torch cannot do")
def test_torch_says_so():
    """On torch, `--devices all` is refused with a reason."""
    message = "--devices all needs TensorFlow or JAX"
    with pytest.raises(ConfigError, match=message), using_devices("all"):
        pass
