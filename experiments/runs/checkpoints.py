"""Checkpoints: all that a run needs in order to go on after an epoch, in one file.

The file is `epoch_0012-<sha256>.npz`: its name says what its content must be. It is written under
another name and renamed when complete; whatever does not match its name does not count. The newest
two are kept, so that there is another one if the newest is damaged.
"""

import hashlib
import io
import json
import re
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_deeplstm.experiments.runs.files import write_bytes

VERSION = 1
KEPT = 2
NAME = re.compile(r"epoch_(\d+)-([0-9a-f]{16})\.npz")


class CheckpointError(Exception):
    """There are checkpoints, but none of them can be used."""


class Checkpoint(NamedTuple):
    """What `save` was given."""

    epoch: int
    arrays: dict[str, np.ndarray]
    notes: dict[str, Any]


def save(folder: Path, epoch: int, arrays: dict[str, np.ndarray], notes: dict[str, Any]) -> None:
    """Write a checkpoint after so many epochs, and remove all but the newest two.

    After an OSError the earlier ones are still there. `notes` is whatever JSON can hold.
    """
    text = json.dumps({"version": VERSION, **notes})
    file = io.BytesIO()
    # Not pickled: a checkpoint that somebody sends cannot run code.
    np.savez(file, notes=np.frombuffer(text.encode(), np.uint8), allow_pickle=False, **arrays)
    content = file.getbuffer()
    folder.mkdir(exist_ok=True)
    name = f"epoch_{epoch:04d}-{_digest(content)}.npz"
    write_bytes(folder / name, content)
    # Those of this epoch and later ones are damaged, or the run would have gone on from them.
    earlier = [path.name for number, path in _listed(folder) if number < epoch]
    for _, path in _listed(folder):
        if path.name not in (name, *earlier[: KEPT - 1]):
            path.unlink()


def newest(folder: Path) -> tuple[Checkpoint | None, list[int]]:
    """Return the newest intact checkpoint, if any, and the epochs of newer ones that are damaged.

    Raises:
        CheckpointError: All are damaged, or a newer version of the package wrote them.
    """
    damaged = []
    for epoch, path in _listed(folder):
        try:
            content = path.read_bytes()
        except OSError:
            content = b""
        if _digest(content) != path.stem.rpartition("-")[2]:
            damaged.append(epoch)
            continue
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as file:
                arrays = {key: file[key] for key in file.files}
            notes = json.loads(arrays.pop("notes").tobytes())
            version = int(notes["version"])
        # All the ways in which something else, of the right name, shows that it is no checkpoint.
        except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
            damaged.append(epoch)
            continue
        if version > VERSION:
            raise CheckpointError(
                f"'{path}' has version {version}, newer than this version of "
                f"keras_deeplstm supports ({VERSION}). Upgrade keras_deeplstm"
            )
        return Checkpoint(epoch, arrays, notes), damaged
    if damaged:
        raise CheckpointError(
            f"No intact checkpoint in '{folder}'. {len(damaged)} damaged, of epochs: "
            f"{', '.join(map(str, damaged))}. Remove that folder to train from the beginning"
        )
    return None, []


def _listed(folder):
    """Epoch and path of all checkpoints, the newest first."""
    found = [(NAME.fullmatch(path.name), path) for path in folder.glob("epoch_*.npz")]
    return sorted(((int(match[1]), path) for match, path in found if match), reverse=True)


def _digest(content):
    return hashlib.sha256(content).hexdigest()[:16]
