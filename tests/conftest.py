"""Test set-up that has to happen before Keras is imported, and what all tests share."""

import contextlib
import gc
import os
import warnings
from functools import partial

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("MPLBACKEND", "agg")

import numpy as np
import pytest
from matplotlib.figure import Figure

BACKEND = os.environ["KERAS_BACKEND"]

# Keras and the package are imported late in this file: the process that only hands out the tests
# (pytest-xdist) reads it too, and would take five seconds for them.


def pytest_sessionstart(session):
    if session.config.getoption("dist", "no") != "no":
        return
    # In one process with TensorFlow, torch has to come first.
    with contextlib.suppress(ImportError):
        import torch  # noqa: F401
    if BACKEND == "tensorflow":
        # XLA, too, optimizes for longer than the result runs; it reads this when it first compiles.
        quick = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
        os.environ.setdefault("XLA_FLAGS", quick)

        import tensorflow as tf

        # A graph here runs a few times: to optimize it takes longer. The demo, the notebooks and
        # all that tests start as a process keep TensorFlow's optimizer.
        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})


def pytest_collection_finish(session):
    """Spare the garbage collector what was imported: looking at it took a fifth of the time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


@pytest.fixture(autouse=True, scope="module")
def _survivors():
    """What outlives a file of tests, such as TensorFlow's graphs, is never looked at again.

    Keras collects garbage before each run, and so looked at all of them: a tenth of the time.
    """
    yield
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module")
def any_memory():
    """A search in this process does not end because of what the tests before it have left here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("keras_deeplstm.experiments.search.tuner.MEMORY", float("inf"))
        yield


@pytest.fixture(autouse=True)
def _seed():
    import keras

    keras.utils.set_random_seed(0)


@pytest.fixture(autouse=True)
def _registered():
    """What a test registers goes with it."""
    from keras_deeplstm.experiments.settings import OWN_BLOCKS
    from keras_deeplstm.experiments.studies import STUDIES
    from keras_deeplstm.experiments.tasks import TASKS

    registries = TASKS, STUDIES, OWN_BLOCKS
    before = [dict(registry) for registry in registries]
    yield
    for registry, items in zip(registries, before, strict=True):
        registry.clear()
        registry.update(items)


@pytest.fixture(autouse=True)
def _locks_at_once(monkeypatch):
    """No test waits for a lock: here no process that holds one is about to die."""
    from keras_deeplstm.experiments.runs import locks

    monkeypatch.setattr(locks, "SECONDS", 0)


@pytest.fixture(autouse=True, scope="session")
def _no_waiting_for_the_disk():
    """No test is about a machine that loses power: what is written need not reach the disk."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(autouse=True, scope="session")
def _few_fits():
    """Runs on images fit two Gabor filters, not 24: the fits took longer than the training."""
    from keras_deeplstm.callbacks import GaborSimilarity
    from keras_deeplstm.experiments.training import recorders

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recorders, "GaborSimilarity", partial(GaborSimilarity, 2))
        yield


@pytest.fixture
def eager():
    """Nothing is compiled on TensorFlow: for tests that train, but not about the compiled step."""
    if BACKEND != "tensorflow":
        yield
        return
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Even though the `tf.config.experimental_run_functions")
        yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture
def quick_pictures(monkeypatch):
    """Of each figure an empty one is saved in its place: for tests that count them."""
    save = Figure.savefig

    def savefig(figure, file, **options):
        save(Figure((1, 1)), file, format=options.get("format"), dpi=10)

    monkeypatch.setattr(Figure, "savefig", savefig)


@pytest.fixture
def worker_here(monkeypatch):
    """A study trains in the process of the test: for tests that are not about the worker."""
    from worker_here import WorkerHere

    from keras_deeplstm.experiments import runner

    monkeypatch.setattr(runner, "Worker", WorkerHere)


@pytest.fixture(scope="session")
def letters(tmp_path_factory):
    """A task without images, as a file: 60 rows of 12 features, 3 classes."""
    rng = np.random.default_rng(0)
    y = np.arange(60) % 3
    x = rng.normal(size=(60, 12)) + 3 * np.eye(3)[y] @ rng.normal(size=(3, 12))
    path = tmp_path_factory.mktemp("letters") / "letters.npz"
    np.savez(path, x=x.astype("float32"), y=y)
    return path
