"""Where Optuna keeps a study: in memory, in a journal file, or in a database."""

import os
import time
from pathlib import Path

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from sqlalchemy.exc import DBAPIError

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
        return _database(given)
    if isinstance(given, str | Path) and str(given):
        # Optuna's lock is a link to the path, and one that leads nowhere it would never take away.
        path = Path(given).absolute()
        path.parent.mkdir(parents=True, exist_ok=True)
        return JournalStorage(JournalFileBackend(str(path), JournalLock(str(path))))
    validation.refuse("storage", "a path, the URL of a database or a storage of Optuna", given)


def _database(url):
    """The storage in a database. Of several processes that make its tables, all but one fail."""
    for wait in (0.1, 0.2, 0.4, 0.8, None):
        try:
            return optuna.storages.get_storage(url)
        except DBAPIError:
            if wait is None:
                raise
            time.sleep(wait)


class JournalLock(JournalFileSymlinkLock):
    """Optuna's lock of a journal file; whoever has it finds whole lines only.

    A killed process, or a full disk, may leave half a line. Optuna passes over it, but then appends
    to it, and every later reader fails.
    """

    def __init__(self, path):
        super().__init__(path)
        self._path = path

    def acquire(self):
        """Wait for the lock, and cut an incomplete last line."""
        super().acquire()
        try:
            self._cut()
        except BaseException:
            self.release()
            raise
        return True

    def _cut(self):
        if os.path.getsize(self._path):
            with open(self._path, "rb+") as file:
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    file.seek(0)
                    file.truncate(file.read().rfind(b"\n") + 1)
