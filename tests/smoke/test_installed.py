"""What must work wherever the package is installed; needs nothing of the checkout.

Long: what other tests hold of the checkout, and this of an installed package.
"""

import pathlib
import subprocess
import sys
import time

import numpy as np
import pytest


def run(*arguments, **options):
    return subprocess.run(arguments, capture_output=True, text=True, timeout=300, **options)


@pytest.mark.long
def test_a_saved_model_loads_in_a_fresh_process(tmp_path):
    """Importing the package is enough to register its layers."""
    import keras

    from keras_deeplstm import models

    model = models.classifier((4, 4, 1), 3, depth=3, units=5, normalization="batch")
    path, x = tmp_path / "model.keras", np.ones((2, 4, 4, 1), "float32")
    model.save(path)
    np.save(tmp_path / "expected.npy", keras.ops.convert_to_numpy(model(x)))
    code = f"""
import keras_deeplstm, keras, numpy as np
model = keras.models.load_model(r"{path}")
got = keras.ops.convert_to_numpy(model(np.ones((2, 4, 4, 1), "float32")))
np.testing.assert_array_equal(got, np.load(r"{tmp_path / "expected.npy"}"))
"""
    result = run(sys.executable, "-c", code)
    assert result.returncode == 0, result.stderr


def test_every_subpackage_imports():
    import keras_deeplstm

    for name in ("callbacks", "diagnostics", "experiments", "initializers", "layers", "models"):
        assert getattr(keras_deeplstm, name).__name__ == f"keras_deeplstm.{name}"


def command():
    return str(pathlib.Path(sys.executable).with_name("deeplstm"))


def test_the_command_helps_at_once():
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        result = run(command(), "--help")
        seconds.append(time.perf_counter() - started)
        assert result.returncode == 0 and "study" in result.stdout
    print(f"deeplstm --help: {min(seconds):.2f} s")
    code = "import sys; sys.argv = ['deeplstm']; import keras_deeplstm.experiments.cli"
    modules = run(sys.executable, "-c", f"{code}; print('keras' in sys.modules)").stdout
    assert modules.strip() == "False"  # what makes it quick


@pytest.mark.long
def test_a_run_writes_a_report(tmp_path):
    result = run(
        command(), "run", "digits", "--epochs", "1", "--model.depth", "3", "--model.units", "4",
        "--name", "one", cwd=tmp_path,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "one" in run(command(), "list", cwd=tmp_path).stdout
    report = (tmp_path / "runs" / "one" / "report.html").read_text(encoding="utf-8")
    assert "data:image/png;base64," in report
