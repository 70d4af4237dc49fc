import sys

import pytest
import worker_calls

from keras_deeplstm.experiments.processes.worker import CallError, Worker
from keras_deeplstm.experiments.tasks import DataError


@pytest.fixture
def call(monkeypatch):
    # Under the name of the command, by which the package knows that Keras can wait.
    monkeypatch.setattr(sys, "argv", ["deeplstm"])
    with Worker() as worker:
        yield lambda function, *arguments: worker.call(
            function, *arguments, on_message=worker_messages.append
        )


worker_messages = []


def test_calls_and_deaths(call):
    """The worker tells errors and lives on; a worker that dies is replaced."""
    assert call(worker_calls.add, 2, 3) == 5
    assert worker_messages == ["adding"]
    assert call(worker_calls.modules) == (False, True)

    # Errors are told, and the process lives on.
    with pytest.raises(CallError, match=r"^no luck$"):
        call(worker_calls.fail)
    with pytest.raises(DataError, match=r"^no data$"):
        call(worker_calls.lack_data)
    assert call(worker_calls.add, 1, 1) == 2

    # A process that dies is replaced.
    with pytest.raises(CallError, match=r"^the process ended with status 7$"):
        call(worker_calls.leave, 7)
    with pytest.raises(CallError, match="killed by SIGKILL; most likely the memory"):
        call(worker_calls.kill_itself)
    assert call(worker_calls.add, 1, 1) == 2


def test_a_process_can_be_renewed(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["deeplstm"])
    with Worker() as worker:
        worker.renew()  # there is none yet
        first = worker.call(worker_calls.number, on_message=None)
        assert worker.call(worker_calls.number, on_message=None) == first
        before = worker.memory
        worker.call(worker_calls.fill, 50 * 2**20, on_message=None)
        if sys.platform == "linux":
            assert 45 * 2**20 < worker.memory - before < 60 * 2**20
        worker.renew()
        assert worker.memory == 0
        assert worker.call(worker_calls.number, on_message=None) != first
