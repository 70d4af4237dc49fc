"""Search in processes beside this one, and show how it goes."""

import os
import signal
import socket
import threading
import time
import traceback
from contextlib import ExitStack, redirect_stderr, redirect_stdout, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from keras_deeplstm.experiments import runs
from keras_deeplstm.experiments.processes import signals
from keras_deeplstm.experiments.processes.startup import load_keras
from keras_deeplstm.experiments.processes.worker import CallError, Worker
from keras_deeplstm.experiments.runs import RunExistsError, files
from keras_deeplstm.experiments.search import earlier, trials
from keras_deeplstm.experiments.search.config import SearchConfig
from keras_deeplstm.experiments.search.trials import JOURNAL, Trial
from keras_deeplstm.experiments.search.view import View
from keras_deeplstm.experiments.settings import ConfigError
from keras_deeplstm.experiments.tasks import DataError

# Several processes share what there is.
SHARING = {"TF_FORCE_GPU_ALLOW_GROWTH": "true", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
SILENT = 120  # seconds after which a process on another machine counts as gone


def search_here(send, number, config, folder, storage, options):
    """Search in the worker's process; return the error that ended it, None, or "renew"."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that started this one passes it on
    path = folder / f"worker{number}.log"
    with open(path, "a", encoding="utf-8") as log, redirect_stdout(log), redirect_stderr(log):
        load_keras()
        from keras_deeplstm.experiments.search.tuner import Renewal, search_in

        try:
            return search_in(config, folder, storage, on_message=send, **options)
        except Renewal:
            return "renew"
        except (ConfigError, RunExistsError, DataError) as error:
            return error
        except Exception as error:
            traceback.print_exc()
            return CallError(f"{type(error).__name__}: {error}")


def run_search(
    config: SearchConfig,
    folder: Path,
    *,
    storage: str | None = None,
    workers: int = 1,
    overwrite: bool = False,
    command: str = "",
    time_limit: float | None = None,
    **options,
) -> tuple[list[Trial], bool]:
    """Run the trials that are not yet done, and say so in the terminal.

    Other processes may do the same with the same storage: a path or the URL of a database; None is
    that of the search in `folder`, or a journal there. `command` is how the search was started, for
    the record. No trial begins after `time_limit` seconds. `options` are further arguments of
    `training.train`. Returns all trials, and whether the time limit was reached.
    """
    if "KERASTUNER_ORACLE_IP" in os.environ:
        raise ConfigError(
            "The environment variable KERASTUNER_ORACLE_IP is set, but a search has no chief any "
            "more: unset it. The same command, wherever it sees the storage, joins the search"
        )
    deadline = None if time_limit is None else time.monotonic() + time_limit
    with runs.lock(folder):
        study, storage = _begin(folder, config, storage, overwrite, command)
    with ExitStack() as stack:
        crew = _Crew(stack, config, folder, storage, study, options | {"name": study.study_name})
        crew.deadline = deadline
        check_signals = stack.enter_context(signals.delayed(crew.stop))
        view = stack.enter_context(View(config))
        crew.start(workers, view.say)
        while crew.is_working():
            view.update(trials.read(study))
            time.sleep(0.5)
        check_signals()
        view.update(trials.read(study))
    if crew.error is not None:
        raise crew.error
    view.say_pace()
    return trials.read(study), deadline is not None and time.monotonic() > deadline


def _begin(folder, config, storage, overwrite, command):
    """The study of a search, made or seen that it can go on, and its storage. Needs the lock."""
    from sqlalchemy.exc import SQLAlchemyError  # Optuna's; the command's help does not wait

    path = folder / "search.json"
    names = {entry.name for entry in folder.iterdir() if not entry.name.startswith(".")}
    if names and not names & {"search.json", "search.json.damaged", JOURNAL}:
        raise RunExistsError(f"'{folder}' exists and is not a search. Use another --name")
    runs.remove(folder.glob(".search.*"))  # what a killed process has half written
    if not overwrite and earlier.read(folder) is not None:
        raise RunExistsError(
            f"'{folder}' is a search of an earlier version, which this one can report but not go "
            f"on with: deeplstm report {folder}. Use --overwrite or another --name"
        )
    known = _read_known(path)
    if storage is None:
        storage = known.get("storage", JOURNAL)
    elif "://" not in storage:
        storage = os.path.abspath(storage)
    where, name = trials.storage_at(folder, storage), known.get("study", folder.name)
    directions = ["maximize" if m.direction == "max" else "minimize" for m in config.measures]
    if overwrite:
        _remove(folder, where, name)
    try:
        study = trials.open_study(where, name, directions=directions)
    except (ValueError, ImportError, SQLAlchemyError) as error:
        raise ConfigError(f"Cannot use the storage '{storage}': {error}") from None
    _check_same(study, config)
    study.set_user_attr("settings", config.to_dict())
    files.write_json(path, {"storage": storage, "study": name, "command": command})
    return study, where


def _read_known(path):
    """What `search.json` says of storage and study; nothing if it is not there."""
    try:
        found = files.read_json(path)
        return {name: str(found[name]) for name in ("storage", "study")}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError):
        print(f"'{path}' is damaged. It is set aside")
        os.replace(path, path.with_name(f"{path.name}.damaged"))
        return {}


def _remove(folder, storage, name):
    """Remove a search, unless somebody works at it."""
    import optuna

    locked = any(map(runs.is_locked, folder.glob("trial_*/*")))
    study: Any = None
    with suppress(KeyError, ValueError, ImportError):  # it is not there, or damaged
        study = trials.open_study(storage, name)
    if locked or (study is not None and any(map(_is_at_work, study.get_trials(deepcopy=False)))):
        raise RunExistsError(f"'{folder}' is in use by another process. Wait until it has ended")
    if study is not None and "://" in storage:
        optuna.delete_study(study_name=name, storage=storage)
    runs.remove(entry for entry in folder.iterdir() if entry.name != runs.LOCK)


def _is_at_work(trial):
    """Whether another machine has lately said that it works at a trial; see the leases."""
    lease = trial.user_attrs.get("lease")
    if trial.state.name != "RUNNING" or lease is None or lease["host"] == socket.gethostname():
        return False
    said = datetime.fromisoformat(lease["time"])
    return (datetime.now(said.tzinfo) - said).total_seconds() < SILENT


def _check_same(study, config):
    """Raise RunExistsError if the search cannot go on with these settings."""
    settings = study.user_attrs.get("settings")
    if settings is None or not trials.read(study):  # without a trial, nothing hangs on them
        return
    changes = SearchConfig.from_dict(settings).differences(config)
    if changes:
        raise RunExistsError(
            f"Cannot resume: search differs: {changes}. Use --overwrite or another --name for the "
            "new search"
        )


class _Crew:
    """The processes of a search. One that dies is replaced; another one takes up its trial."""

    def __init__(self, stack, config, folder, storage, study, options):
        self.error = None
        self.deadline = None
        self._stack, self._study = stack, study
        self._arguments = (config, folder, storage)
        self._options = {**options, "since": datetime.now()}
        self._workers, self._threads = [], []
        self._stopped = False

    def start(self, count, say):
        if count > 1:
            os.environ.update(SHARING)
        self._workers = [self._stack.enter_context(Worker()) for _ in range(count)]
        for number in range(count):
            thread = threading.Thread(target=self._work, args=(number, say), daemon=True)
            self._threads.append(thread)
            thread.start()

    def is_working(self):
        """Whether a process is still at it."""
        return any(thread.is_alive() for thread in self._threads)

    def stop(self):
        """Send all processes SIGTERM."""
        self._stopped = True
        for worker in self._workers:
            with suppress(AttributeError):  # it dies at this moment, and its thread sees to that
                worker.stop()

    def _work(self, number, say):
        while not self._stopped:
            before, options = self._standing(), self._options
            if self.deadline is not None:
                options = {**options, "time_limit": self.deadline - time.monotonic()}
            try:
                error = self._workers[number].call(
                    search_here, number, *self._arguments, options, on_message=say
                )
            except CallError as caught:
                error = caught
                if self._stopped:
                    return
                # It cannot go on like this for ever: each trial is taken up a few times only.
                if self._standing() != before:
                    say(f"worker {number}: {caught}. Another one goes on")
                    continue
            if error == "renew":
                self._workers[number].renew()
                continue
            if error is not None:
                self.error = self.error or error
                self.stop()
            return

    def _standing(self):
        """What changes with each trial that is begun, taken up or ended."""
        return [(trial.number, trial.state, trial.process) for trial in trials.read(self._study)]
