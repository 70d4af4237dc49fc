"""Functions that tests call in another process."""

import os
import signal
import sys

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
