"""Ctrl-C and SIGTERM: the first finishes the training step, the second leaves at once."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

STOPPING = (signal.SIGINT, signal.SIGTERM)
FIRST = b"\nStopping; what is done is kept. Ctrl-C again leaves at once.\n"


class Interrupted(KeyboardInterrupt):
    """A signal ended the work. `status` is the exit status by convention: 130 or 143."""

    def __init__(self, signum: int):
        super().__init__(signal.Signals(signum).name)
        self.status = 128 + signum


def raise_interrupted(signum, frame):
    """A signal handler for where work can stop at any moment."""
    raise Interrupted(signum)


@contextmanager
def handled_by(handler: Callable) -> Iterator[None]:
    """Inside, `handler` gets SIGINT and SIGTERM, unless they are ignored as `nohup` does."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Python gives signals to the main thread only
        return
    signals = [signum for signum in STOPPING if signal.getsignal(signum) is not signal.SIG_IGN]
    previous = [signal.signal(signum, handler) for signum in signals]
    try:
        yield
    finally:
        for signum, old in zip(signals, previous, strict=True):
            signal.signal(signum, old)


@contextmanager
def delayed(on_first: Callable[[], None] = lambda: None) -> Iterator[Callable[[], None]]:
    """Inside, a signal waits for a moment at which the work can stop.

    Yields a function to call at such moments: it raises `Interrupted` if a signal has come. So does
    the end of the block. The first signal says so and calls `on_first`, a second one ends the
    process.
    """
    received: list[int] = []

    def handler(signum, frame):
        if received:
            if os.isatty(1):
                os.write(1, b"\x1b[?25h")  # show the cursor that a progress bar has hidden
            os._exit(128 + signum)
        received.append(signum)
        # Of the processes of one command, the one that the user has started says it.
        if os.isatty(2) and multiprocessing.parent_process() is None:
            os.write(2, FIRST)
        on_first()

    def check():
        if received:
            raise Interrupted(received[0])

    with handled_by(handler):
        yield check
    check()
