"""Functions that tests call in another process."""

import os
import signal
import sys
from pathlib import Path

from keras_deeplstm.experiments import runs
from keras_deeplstm.experiments.runs import locks
from keras_deeplstm.experiments.tasks import DataError


def add(send, a, b):
    send("adding")
    return a + b


def leave(send, status):
    os._exit(status)


def kill_itself(send):
    os.kill(os.getpid(), signal.SIGKILL)


def fail(send):
    raise ValueError("no luck")


def lack_data(send):
    raise DataError("no data")


def modules(send):
    return "keras" in sys.modules, signal.getsignal(signal.SIGINT) == signal.SIG_IGN


def number(send):
    return os.getpid()


def compete(folder, rounds, barrier, answers):
    """Try to lock a folder at the same moment as others, and hold it until all have tried."""
    locks.SECONDS = 0
    won = []
    for number in range(rounds):
        barrier.wait()
        try:
            with runs.lock(Path(folder) / str(number)):
                barrier.wait()
            won.append(number)
        except runs.RunExistsError:
            barrier.wait()
    answers.put(won)


kept = []


def fill(send, size):
    kept.append(b"x" * size)
