"""What must not grow with time: memory, open files, threads, processes, files."""

import gc
import multiprocessing

import keras
import numpy as np
import psutil
import pytest

from keras_deeplstm import models
from keras_deeplstm.callbacks import (
    DivergenceGuard,
    FilterImages,
    GaborSimilarity,
    GradientFlow,
    StateGradients,
)
from keras_deeplstm.experiments import runs
from keras_deeplstm.experiments.processes.worker import TRAININGS
from keras_deeplstm.experiments.runner import run_study
from keras_deeplstm.experiments.settings.classifiers import ModelConfig, RunConfig
from keras_deeplstm.experiments.studies import Study

pytestmark = pytest.mark.long

MIB = 2**20
RUNS, FITS, WARM_UP = 200, 60, 20


def growth(memory):
    """MiB for each further run or fit once all is warm: the slope of a straight line."""
    later = np.asarray(memory[WARM_UP:]) / MIB
    return np.polyfit(np.arange(len(later)), later, 1)[0]


def test_two_hundred_runs_in_one_study(tmp_path, monkeypatch):
    """In the process that is started and in the one that trains."""
    plan = {
        f"run{number}": RunConfig(
            "digits", ModelConfig("dense", 2, 4), epochs=1, batch_size=600, seed=number
        )
        for number in range(RUNS)
    }
    study = Study("many", "Does it last?", ("digits",), lambda task: list(plan.values()))
    seen = []

    def measure(config, result):
        parent = psutil.Process()
        # Beside it runs a small one of Python's own.
        worker = max(parent.children(), key=lambda child: child.memory_info().rss)
        seen.append(
            [
                (process.memory_info().rss, process.num_fds(), process.num_threads())
                for process in (parent, worker)
            ]
        )
        return ""

    monkeypatch.setattr(RunConfig, "outcome", measure)
    succeeded, _ = run_study(study, plan, tmp_path / "many")
    assert succeeded and len(seen) == RUNS
    for name, measured in zip(("parent", "worker"), zip(*seen, strict=True), strict=True):
        memory, files, threads = zip(*measured, strict=True)
        peaks = [max(memory[first : first + TRAININGS]) for first in range(0, RUNS, TRAININGS)]
        print(name, [round(peak / MIB) for peak in peaks], "MiB", set(files), set(threads))
        # A process of the worker grows, with TensorFlow's own; the next one begins anew.
        assert max(peaks[2:]) < 1.05 * peaks[1]
        assert max(files) <= files[0] + 3 and max(threads) <= threads[0] + 10
    assert not multiprocessing.active_children()
    assert not [path for path in tmp_path.rglob(".*") if path.name != runs.LOCK]


def test_sixty_fits_with_all_callbacks(tmp_path):
    """In one process, as in a notebook that is used for a day: they add no more than two models.

    TensorFlow keeps memory of every model that has been trained. `GradientFlow` trains with a step
    that gives gradients out, in turn with the one that does not, and `StateGradients` has functions
    of its own: together as much as if three models had been trained in place of one.
    """
    growths = {}
    for watched in (False, True):
        seen = [fit(tmp_path / f"{watched}{number}", watched) for number in range(FITS)]
        memory, files, threads = zip(*seen, strict=True)
        growths[watched] = growth(memory)
        print(
            f"{watched}: {growths[watched]:.3f} MiB a fit, {files[-1]} files, {threads[-1]} threads"
        )
        assert len(set(files[WARM_UP:])) == 1
        assert len(set(threads[WARM_UP:])) == 1
    assert growths[True] < 3 * growths[False]


def fit(folder, watched):
    """Train a new model, with all callbacks or none; return memory, open files and threads."""
    keras.backend.clear_session()
    x, y = np.random.default_rng(0).normal(size=(64, 16)).astype("float32"), np.arange(64) % 4
    model = models.classifier((16,), 4, depth=4, units=8)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=["accuracy"])
    callbacks = [
        GradientFlow(every=2, tensorboard=folder / "logs"),
        StateGradients(x[:8], y[:8]),
        FilterImages(folder / "filters", image_shape=(4, 4, 1), tensorboard=folder / "logs"),
        GaborSimilarity(image_shape=(4, 4, 1)),
        DivergenceGuard(),
    ]
    options = {"callbacks": callbacks} if watched else {}
    model.fit(x, y, batch_size=16, epochs=2, verbose=0, **options)
    assert not watched or len(callbacks[0].to_frame())
    del model, callbacks, options
    gc.collect()
    process = psutil.Process()
    return process.memory_info().rss, process.num_fds(), process.num_threads()
