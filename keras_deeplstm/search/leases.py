"""Who works at which trial of a study, and which trials nobody works at any more.

Whoever runs a trial has a lease of it in the storage: host, process and time, renewed while it
runs. A process that is killed leaves its trial running in the storage, but renews its lease no
more. Another one then takes the trial up, under the same number. Journal files have no heartbeat of
Optuna's own.
"""

import datetime
import logging
import os
import threading
import time
import uuid
import weakref

import optuna
from optuna.storages import InMemoryStorage
from optuna.study import StudyDirection
from optuna.trial import TrialState

from keras_deeplstm import hosts

RENEWED = 15  # seconds from one renewal of a lease to the next
STALE = 120  # seconds without a renewal, after which a trial is taken up
ATTEMPTS = 5  # after which a trial is given up that has taken its process down each time


_HERE: "weakref.WeakValueDictionary[str, Leases]" = weakref.WeakValueDictionary()  # this process


class Leases:
    """The leases of one process, and those of others, in one study.

    Args:
        study: The `optuna.Study`.
        storage: Its storage.
        clock: A function that returns seconds.
    """

    def __init__(self, study, storage, clock=time.monotonic):
        self._study, self._storage, self._clock = study, storage, clock
        self._token = uuid.uuid4().hex
        self._held = {}  # number of a trial -> (its id in the storage, what the lease says)
        self._seen = {}  # a trial, or an attempt at it -> (the last sign of life, since when)
        self._renewal = threading.Lock()
        self.shared = not isinstance(storage, InMemoryStorage)
        """Whether other processes can see the study at all."""
        self.unclear = False
        """Whether somebody has taken a trial up who has not yet said so. Or was killed just then:
        what comes after it would then come before it."""
        self._thread = None
        _HERE[self._token] = self

    def take(self, trial_id, number, attempt=1, progress="", wasted=0):
        """Have the lease of a trial, which is renewed until `end`."""
        if not self.shared:
            return
        self._held[number] = (trial_id, self.lease(attempt, progress, wasted))
        self._write(number)
        if self._thread is None:
            self._thread = threading.Thread(target=_renew, args=(weakref.ref(self),), daemon=True)
            self._thread.start()

    def lease(self, attempt=1, progress="", wasted=0):
        """What the lease of a trial says, but the time."""
        return {
            "host": hosts.here(),
            "process": os.getpid(),
            "thread": threading.get_ident(),
            "token": self._token,
            "attempt": attempt,
            "progress": progress,
            "wasted": wasted,
        }

    def end(self, number):
        """Renew the lease of a trial no more."""
        with self._renewal:
            self._held.pop(number, None)

    def renew(self):
        """Renew all leases of this process."""
        for number in list(self._held):
            self._write(number)

    def _write(self, number):
        with self._renewal:  # so that nothing is written to a trial that has ended
            if number in self._held:
                trial_id, lease = self._held[number]
                found = self._storage.get_trial(trial_id)
                if found.user_attrs.get("lease", lease)["attempt"] > lease["attempt"]:
                    # This process had slept, and another one has taken the trial up.
                    del self._held[number]
                    return
                now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
                try:
                    self._storage.set_trial_user_attr(trial_id, "lease", {**lease, "time": now})
                except optuna.exceptions.UpdateFinishedTrialError:
                    del self._held[number]  # the other one has ended it

    def others(self):
        """The trials that run, but not in this process, as Optuna has them."""
        running = self._study.get_trials(deepcopy=False, states=[TrialState.RUNNING])
        return [trial for trial in running if self.shared and trial.number not in self._held]

    def abandoned(self):
        """Those of them that nobody works at."""
        self.unclear = False
        return [trial for trial in self.others() if self._is_abandoned(trial)]

    def _is_abandoned(self, trial):
        lease = trial.user_attrs.get("lease")
        if lease is not None and lease["host"] == hosts.here():
            if lease["process"] == os.getpid():
                # Whoever asks in the thread that worked at it works at it no more: in a notebook,
                # a search was interrupted.
                others = {one.ident for one in threading.enumerate()} - {threading.get_ident()}
                return lease["thread"] not in others or lease["token"] not in _HERE
            if not hosts.is_running(lease["process"]):
                return True
        return self._has_been_still(trial.number, lease)

    def _has_been_still(self, number, sign):
        """Whether a sign of life has not changed for too long, by the clock of this process."""
        last, since = self._seen.get(number, (None, None))
        if since is None or last != sign:
            self._seen[number] = (sign, self._clock())
            return False
        return self._clock() - since > STALE

    def claim(self, trial, progress=""):
        """Take up an abandoned trial, or one that waits, unless another process was faster.

        Of several processes exactly one can make a study with a certain name, on any storage.

        Args:
            trial: One of `abandoned`, or a waiting one.
            progress: A text that changes when the trial has come farther.

        Returns:
            How many processes in a row have been killed without progress; None if another one was
            faster.
        """
        lease = trial.user_attrs.get("lease") or {"attempt": 1}
        wasted = lease.get("wasted", 0) + 1 if lease.get("progress", "") == progress else 1
        attempt = lease["attempt"] + 1
        while True:
            name = f"{self._study.study_name}: trial {trial.number}, attempt {attempt}"
            try:
                self._storage.create_new_study([StudyDirection.MINIMIZE], name)
            except optuna.exceptions.DuplicatedStudyError:
                # Whoever was faster has not yet said so in the lease. Or it was killed just then.
                if not self._has_been_still((trial.number, attempt), lease):
                    self.unclear = True
                    return None
                attempt += 1
            else:
                # Before the lease is there: who still sees the trial wait claims the same attempt.
                if trial.state == TrialState.WAITING:
                    self._storage.set_trial_state_values(trial._trial_id, TrialState.RUNNING)
                if lease.get("token") in _HERE:
                    _HERE[lease["token"]].end(trial.number)
                self.take(trial._trial_id, trial.number, attempt, progress, wasted)
                return wasted


def _renew(reference):
    """Renew the leases as long as there is somebody to have them."""
    while True:
        time.sleep(RENEWED)
        leases = reference()
        if leases is None:
            return
        try:
            leases.renew()
        except Exception as error:  # a network that is gone for a moment: the next time, perhaps
            logging.getLogger(__name__).warning("Cannot renew a lease: %s", error)
        del leases
