"""The lock of a folder, which the kernel takes back from a process that dies."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

LOCK = ".lock"
SECONDS = 2  # how long to wait for a lock, which a dying process may hold a moment longer


class RunExistsError(Exception):
    """The folder of a run is taken: by other settings, another process or other files."""


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Hold the lock of a run's or a study's folder, which is made if absent.

    Raises:
        RunExistsError: Another process holds it.
    """
    held = FileLock(folder / LOCK, timeout=SECONDS)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held.acquire()
    except Timeout:
        raise in_use(folder) from None
    except OSError as error:
        raise OSError(f"Cannot write to folder '{folder}': {error.strerror}") from error
    try:
        yield
    finally:
        held.release()


def is_locked(folder: Path) -> bool:
    """Whether a living process works in `folder`."""
    if not (folder / LOCK).exists():
        return False
    try:
        with FileLock(folder / LOCK, timeout=0):
            return False
    except Timeout:
        return True
    except OSError:  # the folder is read-only, so nobody works in it
        return False


def in_use(folder: Path) -> RunExistsError:
    """The error to raise when another process holds the lock."""
    return RunExistsError(f"'{folder}' is in use by another process. Wait until it has ended")
