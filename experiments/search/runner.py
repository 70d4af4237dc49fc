"""Search in processes beside this one, and show how it goes."""

import math
import os
import signal
import socket
import threading
import time
import traceback
from contextlib import ExitStack, redirect_stderr, redirect_stdout, suppress
from pathlib import Path

from keras_deeplstm.experiments import runs
from keras_deeplstm.experiments.processes import signals
from keras_deeplstm.experiments.processes.startup import load_keras
from keras_deeplstm.experiments.processes.worker import TRAININGS, CallError, Worker
from keras_deeplstm.experiments.runs import RunExistsError, files
from keras_deeplstm.experiments.search import records
from keras_deeplstm.experiments.search.config import SearchConfig
from keras_deeplstm.experiments.search.view import View
from keras_deeplstm.experiments.settings.base import ConfigError
from keras_deeplstm.experiments.tasks import DataError

# Several processes share what there is.
SHARING = {"TF_FORCE_GPU_ALLOW_GROWTH": "true", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}


def search_here(send, config, folder, options, environment):
    """Search in the worker's process; return the error that ended it, None, or "renew"."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that started this one passes it on
    os.environ.update(environment)
    path = folder / f"{os.environ.get('KERASTUNER_TUNER_ID', 'tuner0')}.log"
    with open(path, "a", encoding="utf-8") as log, redirect_stdout(log), redirect_stderr(log):
        load_keras()
        from keras_deeplstm.experiments.search.tuner import Renewal, search_in

        try:
            return search_in(config, folder, on_message=send, most=TRAININGS, **options)
        except Renewal:
            return "renew"
        except (ConfigError, RunExistsError, DataError) as error:
            return error
        except Exception as error:
            traceback.print_exc()
            return CallError(f"{type(error).__name__}: {error}")


def is_worker() -> bool:
    """Whether keras-tuner's environment variables make this process the worker of a chief."""
    name = os.environ.get("KERASTUNER_TUNER_ID", "")
    return "KERASTUNER_ORACLE_IP" in os.environ and "chief" not in name


def run_search(
    config: SearchConfig,
    folder: Path,
    *,
    workers: int = 0,
    overwrite: bool = False,
    command: str = "",
    time_limit: float | None = None,
    **options,
) -> tuple[list[records.Record], bool]:
    """Run the trials that are not yet done, and say so in the terminal.

    With `workers`, a chief and as many workers do that; without, one process does both. `command`
    is how the search was started, for the record. No trial begins after `time_limit` seconds.
    `options` are further arguments of `training.train`. Returns the records of all trials, and
    whether the time limit was reached.
    """
    if workers and "KERASTUNER_ORACLE_IP" in os.environ:
        raise ConfigError(
            "--workers starts chief and workers here; the environment variables of keras-tuner say "
            "that this process is one of them. Use either"
        )
    deadline = time.monotonic() + (math.inf if time_limit is None else time_limit)
    with ExitStack() as stack:
        if is_worker():
            while not (folder / "search.json").exists():  # the chief writes it
                time.sleep(0.5)
            _check_same(folder, config)
        else:
            stack.enter_context(runs.lock(folder))
            _begin(folder, config, overwrite, command)
        crew = _Crew(stack, config, folder, options, deadline, _environments(workers))
        check_signals = stack.enter_context(signals.delayed(crew.stop))
        view = stack.enter_context(View(config))
        crew.start(view.say)
        while crew.is_working():
            view.update(records.read_all(folder))
            time.sleep(0.5)
        crew.finish()
        check_signals()
        view.update(records.read_all(folder))
    if crew.error is not None:
        raise crew.error
    view.say_pace()
    return records.read_all(folder), time.monotonic() > deadline


def _environments(workers):
    """Environment variables of each process by its name; keras-tuner finds its part in them."""
    if not workers:
        return {"search": {}}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"KERASTUNER_ORACLE_IP": "127.0.0.1", "KERASTUNER_ORACLE_PORT": str(port), **SHARING}
    names = ["chief", *(f"tuner{number}" for number in range(workers))]
    found = {name: {**shared, "KERASTUNER_TUNER_ID": name} for name in names}
    found["chief"]["CUDA_VISIBLE_DEVICES"] = ""  # it trains nothing
    return found


def _begin(folder, config, overwrite, command):
    """Make the folder of a search, or see that the search in it can go on. Needs its lock."""
    path = folder / "search.json"
    names = {entry.name for entry in folder.iterdir() if not entry.name.startswith(".")}
    if names and not names & {"search.json", "search.json.damaged"}:
        raise RunExistsError(f"'{folder}' exists and is not a search. Use another --name")
    if overwrite:
        runs.remove(entry for entry in folder.iterdir() if entry.name != runs.LOCK)
    elif path.exists() and records.read_all(folder):  # without a trial, nothing hangs on them
        _check_same(folder, config)
    for half_written in [*folder.glob(".search.*"), *folder.glob("trial_*/.record.*")]:
        half_written.unlink()
    files.write_json(path, {"settings": config.to_dict(), "command": command})


def _check_same(folder, config):
    """Raise RunExistsError if the search in `folder` cannot go on with these settings."""
    try:
        changes = read_config(folder).differences(config)
    except ConfigError:
        path = folder / "search.json"
        print(f"'{path}' is damaged. It is set aside; these settings are taken for those in it")
        records.set_aside(path)
        return
    if changes:
        raise RunExistsError(
            f"Cannot resume: {changes}. Use --overwrite or another --name for the new search"
        )


def read_config(folder: Path) -> SearchConfig:
    """The settings of the search in `folder`, or a ConfigError."""
    path = folder / "search.json"
    try:
        return SearchConfig.from_dict(files.read_json(path)["settings"])
    except (OSError, ValueError, KeyError, TypeError, ConfigError) as error:
        raise ConfigError(f"Cannot read '{path}': {error}") from None


class _Crew:
    """The processes of a search. One that dies is replaced and goes on with its trial."""

    def __init__(self, stack, config, folder, options, deadline, environments):
        self.error = None
        self._config, self._folder = config, folder
        self._options, self._deadline = options, deadline
        self._environments = environments
        self._workers = {name: stack.enter_context(Worker()) for name in environments}
        self._threads = {}
        self._stopped = False

    def start(self, say):
        for name in self._workers:
            self._threads[name] = threading.Thread(target=self._work, args=(name, say), daemon=True)
            self._threads[name].start()

    def is_working(self):
        """Whether a process is still at it; a chief whose workers are done only waits."""
        return any(one.is_alive() for name, one in self._threads.items() if name != "chief")

    def stop(self):
        """Send all processes SIGTERM."""
        self._stopped = True
        for worker in self._workers.values():
            with suppress(AttributeError):  # it dies at this moment, and its thread sees to that
                worker.stop()

    def finish(self):
        """End the chief, which would wait up to 20 seconds more."""
        self.stop()
        for thread in self._threads.values():
            thread.join()

    def _work(self, name, say):
        while not self._stopped:
            before = records.read_all(self._folder)
            options = {**self._options, "time_limit": self._deadline - time.monotonic()}
            arguments = (self._config, self._folder, options, self._environments[name])
            try:
                error = self._workers[name].call(search_here, *arguments, on_message=say)
            except CallError as caught:
                error = caught
                if self._stopped:
                    return
                # It cannot go on like this for ever: each trial is handed out a few times only.
                if records.read_all(self._folder) != before:
                    say(f"{name}: {caught}. Another one goes on")
                    continue
            if error == "renew":
                self._workers[name].renew()
                continue
            if error is not None:
                self.error = self.error or error
                self.stop()
            return
