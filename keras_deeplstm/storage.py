"""Where Optuna keeps a study: in memory, in a journal file, or in a database."""

import os
from pathlib import Path

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock

from keras_deeplstm import validation


def storage_of(given):
    """The storage that an argument stands for.

    Args:
        given: None for the memory of this process; the path of a journal file, which is made if it
            is not there; the URL of a database, `sqlite:///search.db`; or a storage of Optuna.

    Raises:
        ValueError: It is none of these.
    """
    if given is None:
        return optuna.storages.InMemoryStorage()
    if isinstance(given, optuna.storages.BaseStorage):
        return given
    if isinstance(given, str) and "://" in given:
        return optuna.storages.get_storage(given)
    if isinstance(given, str | Path) and str(given):
        # Optuna's lock is a link to the path, and one that leads nowhere it would never take away.
        path = Path(given).absolute()
        path.parent.mkdir(parents=True, exist_ok=True)
        storage = JournalFileBackend(str(path))
        cut_incomplete_line(path)
        return JournalStorage(storage)
    validation.refuse("storage", "a path, the URL of a database or a storage of Optuna", given)


def cut_incomplete_line(path: Path) -> None:
    """Remove what a killed process has left at the end of a journal file.

    Optuna passes over it, but then appends to it, and every later reader fails.
    """
    with open(path, "rb+") as file:
        if _is_complete(file):
            return
        # Nobody writes while this process has the lock; a killed process's is taken after 30 s.
        lock = JournalFileSymlinkLock(str(path))
        lock.acquire()
        try:
            if not _is_complete(file):
                file.seek(0)
                file.truncate(file.read().rfind(b"\n") + 1)
        finally:
            lock.release()


def _is_complete(file):
    size = file.seek(0, os.SEEK_END)
    if not size:
        return True
    file.seek(size - 1)
    return file.read(1) == b"\n"
