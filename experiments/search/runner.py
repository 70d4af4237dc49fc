"""Search in processes beside this one, and show how it goes."""

import math
import os
import signal
import threading
import time
import traceback
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from datetime import datetime
from pathlib import Path

from keras_deeplstm.experiments import runs
from keras_deeplstm.experiments.processes import signals
from keras_deeplstm.experiments.processes.startup import load_keras
from keras_deeplstm.experiments.processes.worker import CallError, Worker
from keras_deeplstm.experiments.runs import RunExistsError, files
from keras_deeplstm.experiments.search import earlier, storages, trials
from keras_deeplstm.experiments.search.config import SearchConfig
from keras_deeplstm.experiments.search.storages import JOURNAL
from keras_deeplstm.experiments.search.trials import Trial
from keras_deeplstm.experiments.search.view import View
from keras_deeplstm.experiments.settings import ConfigError
from keras_deeplstm.experiments.tasks import DataError

# Several processes share what there is.
SHARING = {"TF_FORCE_GPU_ALLOW_GROWTH": "true", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}


def search_here(send, number, config, folder, storage, study, options, since):
    """Search in the worker's process; return the error that ended it, None, or "renew"."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that started this one passes it on
    path = folder / f"worker{number}.log"
    with open(path, "a", encoding="utf-8") as log, redirect_stdout(log), redirect_stderr(log):
        load_keras()
        from keras_deeplstm.experiments.search.tuner import Renewal, search_in

        try:
            return search_in(
                config, folder, storage, study, since=since, on_message=send, **options
            )
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
    options["deadline"] = math.inf if time_limit is None else time.time() + time_limit
    with runs.lock(folder):
        study, storage = _begin(folder, config, storage, overwrite, command)
    found = trials.read(study)
    with ExitStack() as stack:
        crew = _Crew(stack, (config, folder, storage, study.study_name, options), study)
        check_signals = stack.enter_context(signals.delayed(crew.stop))
        view = stack.enter_context(View(config))
        crew.start(workers, view.say)
        while crew.is_working():
            # A storage that is gone for a moment ends the workers, or not.
            with suppress(Exception):
                found = trials.read(study)
            view.update(found)
            crew.wait()
        check_signals()
        found = trials.read(study)
        view.update(found)
    if crew.error is not None:
        raise crew.error
    view.say_pace()
    return found, time.time() > options["deadline"]


def _begin(folder, config, storage, overwrite, command):
    """The study of a search, made or seen that it can go on, and its storage. Needs the lock."""
    path = folder / "search.json"
    runs.remove(files.temporaries(folder))
    names = {entry.name for entry in folder.iterdir()} - {runs.LOCK}
    if names and not names & {"search.json", JOURNAL}:
        raise RunExistsError(f"'{folder}' exists and is not a search. Use another --name")
    is_old = earlier.read(folder) is not None
    if is_old and not overwrite:
        raise RunExistsError(
            f"'{folder}' is a search of an earlier version, which this one can report but not go "
            f"on with: deeplstm report {folder}. Use --overwrite or another --name"
        )
    known = {} if is_old else _read_known(path)
    with _storage_errors(storage):
        storage = storages.absolute(storage) or known.get("storage", JOURNAL)
    name = known.get("study", folder.name)
    if not overwrite and storage != known.get("storage", storage):
        raise RunExistsError(
            f"'{folder}' is the search in the storage '{storages.shown(known['storage'])}'. Use "
            "--overwrite or another --name"
        )
    where = storages.seen_from(folder, storage)
    with _storage_errors(storage):
        if overwrite:
            _remove(folder, where, name)
        study = storages.open_study(where, name, config)
    _check_same(study, config)
    study.set_user_attr("settings", config.to_dict())
    files.write_json(path, {"storage": storage, "study": name, "command": command})
    return study, where


@contextmanager
def _storage_errors(storage):
    """Inside, an error of a storage becomes a ConfigError."""
    from sqlalchemy.exc import SQLAlchemyError  # the command's help does not wait for it

    try:
        yield
    except (ValueError, ImportError, SQLAlchemyError) as error:
        reason = str(error).partition("\n")[0]
        raise ConfigError(f"Cannot use the storage '{storages.shown(storage)}': {reason}") from None


def _read_known(path):
    """What `search.json` says of storage and study; nothing if it is not there."""
    try:
        found = files.read_json(path)
        return {name: str(found[name]) for name in ("storage", "study")}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError):
        print(f"'{path}' is damaged. It is written again")
        return {}


def _remove(folder, storage, name):
    """Remove a search, unless somebody works at it."""
    locked = any(map(runs.is_locked, folder.glob("trial_*/*")))
    if locked or not storages.remove_study(storage, name):
        raise RunExistsError(f"'{folder}' is in use by another process. Wait until it has ended")
    runs.remove(entry for entry in folder.iterdir() if entry.name != runs.LOCK)


def _check_same(study, config):
    """Raise RunExistsError if the search cannot go on with these settings."""
    if not study.get_trials(deepcopy=False):  # nothing hangs on them
        return
    settings = study.user_attrs.get("settings")
    if settings is None:
        raise RunExistsError(
            f"The study '{study.study_name}' is not of a search. Use another --name"
        )
    changes = SearchConfig.from_dict(settings).differences(config)
    if changes:
        raise RunExistsError(
            f"Cannot resume: search differs: {changes}. Use --overwrite or another --name for the "
            "new search"
        )


class _Crew:
    """The processes of a search. One that dies is replaced; another one takes up its trial."""

    def __init__(self, stack, arguments, study):
        self.error = None
        self._stack, self._study = stack, study
        self._arguments = (*arguments, datetime.now())
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

    def wait(self):
        """Half a second, or until all have ended."""
        deadline = time.monotonic() + 0.5
        for thread in self._threads:
            thread.join(max(0, deadline - time.monotonic()))

    def stop(self):
        """Send all processes SIGTERM."""
        self._stopped = True
        for worker in self._workers:
            with suppress(AttributeError):  # it dies at this moment, and its thread sees to that
                worker.stop()

    def _work(self, number, say):
        if hasattr(signal, "pthread_sigmask"):  # Ctrl-C is passed on; see `Worker`
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            while not self._stopped and self._call(number, say):
                pass
        except Exception as error:
            self.error = self.error or error
            self.stop()

    def _call(self, number, say):
        """Let a worker search; return whether there is more to do."""
        before = self._standing()
        try:
            error = self._workers[number].call(
                search_here, number, *self._arguments, on_message=say
            )
        except CallError as caught:
            if self._stopped:
                return False
            # It cannot go on like this for ever: each trial is taken up a few times only.
            if self._standing() == before:
                raise
            say(f"worker {number}: {caught}. Another one goes on")
            return True
        if error == "renew":
            self._workers[number].renew()
            return True
        if error is not None:
            raise error
        return False

    def _standing(self):
        """What changes with each trial that is begun, taken up or ended."""
        return [(trial.number, trial.state, trial.process) for trial in trials.read(self._study)]
