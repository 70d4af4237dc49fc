import os
import signal
import subprocess
import sys
import threading

import pytest

from keras_deeplstm.experiments.processes.signals import (
    Interrupted,
    delayed,
    handled_by,
    raise_interrupted,
)


@pytest.fixture(autouse=True)
def _interruptible():
    """As from a terminal: what a shell starts in the background ignores SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_first_signal_waits_for_its_moment(signum, status):
    before = signal.getsignal(signum)
    calls = []
    with pytest.raises(Interrupted) as caught, delayed(lambda: calls.append("first")) as check:
        check()
        os.kill(os.getpid(), signum)
        done = "the step"
        check()
    assert (caught.value.status, done, calls) == (status, "the step", ["first"])
    assert signal.getsignal(signum) is before


def test_a_terminal_is_told_what_the_first_signal_does(monkeypatch):
    told = []
    monkeypatch.setattr("os.isatty", lambda descriptor: True)
    monkeypatch.setattr("os.write", lambda descriptor, text: told.append((descriptor, text)))
    with pytest.raises(Interrupted), delayed():
        os.kill(os.getpid(), signal.SIGTERM)
    assert told == [(2, b"\nStopping; what is done is kept. Ctrl-C again leaves at once.\n")]


def test_the_end_of_the_block_is_such_a_moment():
    with pytest.raises(Interrupted), delayed():
        os.kill(os.getpid(), signal.SIGTERM)


def test_an_error_in_the_block_comes_first():
    with pytest.raises(ValueError), delayed():
        os.kill(os.getpid(), signal.SIGTERM)
        raise ValueError


def test_where_work_can_stop_at_any_moment():
    with pytest.raises(Interrupted), handled_by(raise_interrupted):
        os.kill(os.getpid(), signal.SIGTERM)
    # Still an interruption for whoever knows no other.
    assert issubclass(Interrupted, KeyboardInterrupt)


def test_ignored_signals_stay_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with delayed() as check:
            os.kill(os.getpid(), signal.SIGINT)
            check()
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_thread_gets_no_signals_and_asks_for_none():
    errors = []

    def work():
        try:
            with delayed() as check:
                check()
        except ValueError as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert not errors


def test_the_second_ctrl_c_leaves_at_once(tmp_path):
    script = tmp_path / "deeplstm"
    script.write_text(
        "import signal, time\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may ignore it\n"
        "from keras_deeplstm.experiments.processes.signals import delayed\n"
        "with delayed(lambda: print('first', flush=True)):\n"
        "    print('ready', flush=True)\n"
        "    for _ in range(600): time.sleep(0.1)\n"
    )
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    process = subprocess.Popen(
        [sys.executable, script],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": root},
    )
    for line in ("ready\n", "first\n"):
        assert process.stdout.readline() == line
        process.send_signal(signal.SIGINT)
    assert process.wait(5) == 130
    process.stdout.close()
