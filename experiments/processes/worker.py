"""A process beside this one that does the work, so that a crash does not end what is started here.

It executes one call after the other and is replaced when it dies: of a crash in native code, of
`os._exit`, of the system's lack of memory. It lives on between calls, because importing Keras takes
seconds. A process for each run would spend more time on that than small runs take.
"""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable
from multiprocessing import connection
from pathlib import Path
from typing import Any

from keras_deeplstm.experiments.processes import signals
from keras_deeplstm.experiments.settings import ConfigError
from keras_deeplstm.experiments.tasks import DataError

# TensorFlow keeps memory of every model that has been trained in a process, more of a deeper one,
# most of one that XLA has compiled. So a process is replaced after so many trainings or bytes.
TRAININGS, MEMORY = 25, 4 * 2**30

NAME = "deeplstm-worker"  # of such a process
UNGUARDED = 79  # its exit status if the user's file calls `main` while it is imported


class CallError(Exception):
    """The call raised an error, or its process died; says which."""


def memory_in_use() -> int:
    """Bytes of memory that this process has now; 0 where Linux' /proc is not there to tell."""
    try:
        pages = Path("/proc/self/statm").read_text().split()[1]
    except OSError:
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


class Worker:
    """Calls functions in another process. Use it as a context manager, which ends the process."""

    def __init__(self):
        self._process = None
        self.memory = 0
        """The `memory_in_use` of the process after the last call."""

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.renew()

    def stop(self):
        """Send the process SIGTERM: it ends at once, or at the end of a training step."""
        if self._process is not None:
            self._process.terminate()

    def renew(self):
        """End the process, which must be idle; the next call starts another one."""
        self.memory = 0
        self.stop()
        if self._process is not None:
            self._process.join()
            self._process = None

    def call(self, function: Callable, *arguments, on_message: Callable[[Any], None]) -> Any:
        """Return `function(send, *arguments)`, executed in the other process.

        The function is one of a module, so that it is found there, and `on_message` is called here
        with whatever it gives to `send`. Raises `CallError` if the function raised an error or the
        process died; a `DataError` stays one. ConfigError: the user's file has no guard.
        """
        if self._process is None:
            self._start()
        try:
            self._pipe.send((function, arguments))
            while True:
                kind, value = self._pipe.recv()
                if kind == "message":
                    on_message(value)
                    continue
                self.memory, value = value
                if kind == "error":
                    raise value
                return value
        except (EOFError, ConnectionError):
            process, self._process, self.memory = self._process, None, 0
            process.join()
            if process.exitcode == UNGUARDED:
                raise ConfigError(
                    f"'{sys.argv[0]}' calls main() whenever it is imported, and a second process "
                    f'imports it. Put that call below the line: if __name__ == "__main__":'
                ) from None
            raise CallError(_cause(process.exitcode)) from None

    def _start(self):
        context = multiprocessing.get_context("spawn")
        self._pipe, end = context.Pipe()
        self._process = context.Process(target=_serve, args=(end,), name=NAME, daemon=True)
        # Ctrl-C reaches all processes of a terminal. This one passes it on as SIGTERM; the other
        # one inherits that it is ignored.
        main = threading.current_thread() is threading.main_thread()
        previous = signal.signal(signal.SIGINT, signal.SIG_IGN) if main else None
        try:
            self._process.start()
        finally:
            if main:
                signal.signal(signal.SIGINT, previous)
        end.close()


def end_if_imported() -> None:
    """End a worker process whose import of the user's file has come to `main`."""
    if multiprocessing.current_process().name == NAME:
        os._exit(UNGUARDED)


def _cause(status):
    if status == -signal.SIGKILL:
        return "the process was killed by SIGKILL; most likely the memory did not suffice"
    if status < 0:
        return f"the process was killed by {signal.Signals(-status).name}"
    return f"the process ended with status {status}"


def _serve(pipe):
    parent = multiprocessing.parent_process()

    def die_with_parent():
        connection.wait([parent.sentinel])
        os._exit(1)  # whoever goes on with this run must not find it locked

    threading.Thread(target=die_with_parent, daemon=True).start()

    def send(message):
        pipe.send(("message", message))

    while True:
        function, arguments = pipe.recv()
        try:
            answer = "result", function(send, *arguments)
        except signals.Interrupted as interrupted:
            os._exit(interrupted.status)
        except DataError as error:
            answer = "error", error
        except Exception as error:
            answer = "error", CallError(f"{error or type(error).__name__}")
        kind, value = answer
        pipe.send((kind, (memory_in_use(), value)))
