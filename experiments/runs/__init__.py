"""Folders of runs: begun, locked, read back."""

from keras_deeplstm.experiments.runs.folder import (
    LOCK,
    Run,
    RunExistsError,
    begin,
    check_name,
    check_usable,
    environment,
    find,
    is_locked,
    load,
    lock,
    name_for,
    remove,
    tidy,
)

__all__ = [
    "LOCK",
    "Run",
    "RunExistsError",
    "begin",
    "check_name",
    "check_usable",
    "environment",
    "find",
    "is_locked",
    "load",
    "lock",
    "name_for",
    "remove",
    "tidy",
]
