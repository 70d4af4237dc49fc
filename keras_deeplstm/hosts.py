"""Which machine this is, and which processes it has."""

import os
import socket
from contextlib import suppress
from pathlib import Path


def here() -> str:
    """A name of this machine, as processes see it that can see each other.

    Containers may have the name of their host, or of each other, but not its processes.
    """
    parts = [socket.gethostname()]
    with suppress(OSError):  # where there is no Linux
        parts += [Path("/proc/sys/kernel/random/boot_id").read_text().strip()]
        parts += [os.readlink("/proc/self/ns/pid")]
    return " ".join(parts)


def is_running(process: int) -> bool:
    """Whether there is a process of this number on this machine, as far as can be told."""
    if os.name != "posix":  # where the signal 0 would be Ctrl-C
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
