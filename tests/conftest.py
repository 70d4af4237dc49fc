"""Test set-up that has to happen before Keras is imported."""

import contextlib
import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("MPLBACKEND", "agg")

# In one process with TensorFlow, torch has to come first.
with contextlib.suppress(ImportError):
    import torch  # noqa: F401

import keras
import pytest

from keras_deeplstm.experiments.settings import OWN_BLOCKS
from keras_deeplstm.experiments.studies import STUDIES
from keras_deeplstm.experiments.tasks import TASKS


@pytest.fixture(autouse=True)
def _seed():
    keras.utils.set_random_seed(0)


@pytest.fixture(autouse=True)
def _registered():
    """What a test registers goes with it."""
    registries = TASKS, STUDIES, OWN_BLOCKS
    before = [dict(registry) for registry in registries]
    yield
    for registry, items in zip(registries, before, strict=True):
        registry.clear()
        registry.update(items)
