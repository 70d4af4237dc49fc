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


@pytest.fixture(autouse=True)
def _seed():
    keras.utils.set_random_seed(0)
