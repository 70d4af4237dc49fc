"""Faults of the disk, at each moment at which Python is about to change something on it.

An audit hook sees all of these moments, so nothing that writes can be forgotten here.
"""

import errno
import os
import re
import resource
import shutil
import signal
import sys
from contextlib import contextmanager
from pathlib import Path

_TOKEN = re.compile(r"\.[0-9a-f]{8}\.")  # of a file that is being written
_watcher = None  # a hook cannot be removed, but it can be told to do nothing


def _hook(event, arguments):
    if _watcher is not None:
        _watcher(event, arguments)


sys.addaudithook(_hook)


def _is_change(event, arguments):
    if event == "open":
        _, mode, flags = arguments
        return flags & (os.O_WRONLY | os.O_RDWR) if mode is None else set(mode) & set("wax+")
    return event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.fsync")


@contextmanager
def watching(folder: Path, before):
    """Inside, `before(number, event, path)` is called before each change of something in `folder`.

    The changes are numbered from 1 on. If `before` raises an error, the change does not happen.
    """
    global _watcher
    number = 0

    def watch(event, arguments):
        nonlocal number
        global _watcher
        if not _is_change(event, arguments) or not isinstance(arguments[0], str | os.PathLike):
            return
        path = Path(arguments[0])
        if path != folder and folder not in path.parents:
            return
        number += 1
        _watcher, this = None, _watcher  # what `before` does to the disk is no fault
        try:
            before(number, event, path)
        finally:
            _watcher = this

    # There is no audit event for it.
    fsync = os.fsync

    def watched_fsync(descriptor):
        sys.audit("os.fsync", os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    os.fsync = watched_fsync
    _watcher = watch
    try:
        yield
    finally:
        _watcher = None
        os.fsync = fsync


def moments(folder: Path, target: Path, work) -> list[Path]:
    """Do `work`; return copies of `folder`, all that a sudden end of the process could leave there.

    There is a copy of each moment before a change, without those that equal an earlier one, and
    for each file that is renamed when complete, one in which half of it is missing.
    """
    copies, known = [], set()

    def copy(cut=None):
        if not folder.exists():
            return
        files = {
            _TOKEN.sub(".", str(path.relative_to(folder))): path.is_file() and path.read_bytes()
            for path in folder.rglob("*")
        }
        content = frozenset(files.items()) | {cut}
        if content not in known:
            known.add(content)
            copies.append(shutil.copytree(folder, target / f"{len(copies):03}"))
            if cut is not None:
                path = copies[-1] / cut.relative_to(folder)
                os.truncate(path, path.stat().st_size // 2)

    def before(number, event, path):
        copy()
        if event == "os.rename":
            copy(cut=path)

    with watching(folder, before):
        work()
    return copies


@contextmanager
def error_at(folder: Path, number: int):
    """Inside, the change of this number in `folder` fails. Yields a list: of the change, if any."""
    happened = []

    def before(this, event, path):
        if this == number:
            happened.append((event, path))
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))

    with watching(folder, before):
        yield happened


@contextmanager
def full_disk_at(folder: Path, number: int):
    """As `error_at`, but from this change on there is no room.

    Files can still be made, but not grow beyond some bytes; what is written up to there stays.
    """
    happened = []
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    def before(this, event, path):
        if this == number:
            happened.append((event, path))
            resource.setrlimit(resource.RLIMIT_FSIZE, (20, limits[1]))

    try:
        with watching(folder, before):
            yield happened
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
