"""Folders of runs: begun, locked, read back."""

from keras_deeplstm.experiments.runs.folder import (
    begin,
    check_name,
    check_same_data,
    check_usable,
    name_for,
    remove,
    tidy,
)
from keras_deeplstm.experiments.runs.locks import LOCK, RunExistsError, is_locked, lock
from keras_deeplstm.experiments.runs.reading import Run, find, known_by, load

__all__ = [
    "LOCK", "Run", "RunExistsError", "begin", "check_name", "check_same_data", "check_usable",
    "find", "is_locked", "known_by", "load", "lock", "name_for", "remove", "tidy",
]  # fmt: skip
