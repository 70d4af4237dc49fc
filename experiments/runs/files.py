"""Files that are there whole or not at all, and what is read from them strictly.

Each file is written under another name and renamed when complete: whoever reads sees the old file
or the new one, never half of one.
"""

import json
import os
import re
import secrets
from contextlib import contextmanager
from pathlib import Path
from typing import Any

TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}(\.\w+)?")  # the other names


@contextmanager
def atomic(path: Path):
    """Yield a path to write to; it becomes `path` if the block ends without an error."""
    # The suffix stays, because `model.save` insists on it.
    temporary = path.with_name(f".{path.stem}.{secrets.token_hex(4)}{path.suffix}")
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        if error.filename is None:  # as when the disk is full
            raise named(error, path) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def temporaries(folder: Path) -> list[Path]:
    """What killed processes have half written in `folder`."""
    found = folder.glob(".*")
    return [path for path in found if TEMPORARY.fullmatch(path.name) and path.is_file()]


def named(error: OSError, path: Path) -> OSError:
    """The same error with the name of the file that was being written."""
    if error.errno is None:
        return OSError(f"Cannot write '{path}': {error}")
    return OSError(error.errno, error.strerror, str(path))


def _sync_folder(folder):
    """Make a rename in `folder` survive a power failure, where the system knows how to."""
    if hasattr(os, "O_DIRECTORY"):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_bytes(path: Path, content: bytes | memoryview) -> None:
    """Write `content` atomically."""
    with atomic(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write `text` atomically, in UTF-8 and with the line ends it has."""
    write_bytes(path, text.encode())


def write_json(path: Path, data: dict[str, Any]) -> None:
    """Write `data` atomically as strict JSON; a NaN or an infinity raises a ValueError."""
    write_text(path, json.dumps(data, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read what `write_json` wrote.

    Raises:
        OSError, ValueError: It cannot be read, or is no strict JSON with each key once.
    """
    text = path.read_text(encoding="utf-8")
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_not_finite)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _unique(pairs):
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"Duplicate key {next(key for key in keys if keys.count(key) > 1)!r}")
    return found


def _not_finite(name):
    raise ValueError(f"Non-finite number {name}")


def csv_of(frame, form: str | None = None) -> str:
    """A table as CSV. A text that a spreadsheet would take for a formula gets a leading '.

    Args:
        frame: The table.
        form: Of numbers that are no integers, such as "%.9g"; None keeps all their digits.
    """

    def harmless(value):
        formula = isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r"))
        return f"'{value}" if formula else value

    return frame.map(harmless).to_csv(index=False, float_format=form)
