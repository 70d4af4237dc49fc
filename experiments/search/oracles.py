"""keras-tuner's oracles, with records from which a search goes on after any end.

The state of an oracle follows from what has happened to it: which trials it has created, and how
they ended, in that order. The records tell. A search that is started again lets a fresh oracle live
through the same events, and so comes to the same state: the next trial is the one that would have
come, also for grid search, whose own way to resume fails, and for Bayesian optimization, which does
not keep its random numbers. (Where a new version of a library chooses other values for a trial that
exists, the recorded ones count.)
"""

import dataclasses
import itertools
import math
import time

import keras_tuner
from keras_tuner.engine.trial import Trial, TrialStatus

from keras_deeplstm import search
from keras_deeplstm.experiments.search import records
from keras_deeplstm.experiments.search.config import HYPERBAND_FACTOR
from keras_deeplstm.experiments.search.records import Outcome, Record
from keras_deeplstm.experiments.search.results import ended_in_failures
from keras_deeplstm.experiments.settings.base import ConfigError

# A trial that takes its process down this often without a new checkpoint is given up.
ATTEMPTS = 5
TRIAL = "{:04d}"  # how keras-tuner writes the number of a trial if there is no largest one
LAG = 60  # seconds after which a network folder shows what another machine has written


class Recorded:
    """Mixed into an oracle of keras-tuner: keeps records, and when to stop.

    On one machine a single process calls it, on several a single thread of the chief's service.
    """

    def __init__(self, config, folder, time_limit=math.inf, sizes=()):
        hyperband = {"max_epochs": config.epochs, "factor": HYPERBAND_FACTOR}
        plan = hyperband if config.tuner == "hyperband" else {}
        # Without `max_trials`, so that the numbers of the trials have the same form however many
        # there are to be. A seed of 0 would be none.
        super().__init__(
            objective=keras_tuner.Objective(config.objective, "max" if config.maximize else "min"),
            seed=config.seed + 1,
            max_consecutive_failed_trials=None,
            **plan,
        )
        self.max_trials = None
        self.verbose = 0
        self._config, self._folder, self._sizes = config, folder, sizes
        self._deadline = time.monotonic() + time_limit
        self._records = {}
        self._before = 0  # the last event before this process
        self._events = itertools.count(1)  # numbers of those to come
        self._unseen = []  # ids of tuners that had a trial when the search was last interrupted

    def save(self):
        """Write nothing; the records are there."""

    def _save_trial(self, trial):
        """Write nothing: on a full disk, TensorFlow's error would end a trial in its middle."""

    def replay(self, found):
        """Live through what the records tell, or raise a ConfigError if the oracle does not follow.

        A trial between them whose record is lost is created again. If it also has no outcome, it
        counts as failed until the others are as they were, and then as not yet run.
        """
        known = {int(record.trial): record for record in found}
        lost = [number for number in range(max(known, default=0)) if number not in known]
        for number in reversed(lost):  # as if it had begun and ended right before the next one
            when = known[number + 1].began
            known[number] = Record(TRIAL.format(number), {}, f"replayed{number}", when - 1 / 2)
            known[number].ended = when - 1 / 4
        events = [(record.began, number) for number, record in known.items()]
        events += [(r.ended, number) for number, r in known.items() if r.ended is not None]
        events.sort()
        for _, number in events:
            record = known[number]
            trial = self.trials.get(TRIAL.format(number))
            if trial is not None:
                self._end(trial, record)
                continue
            trial = self._create_again(number, record)
            self._records[trial.trial_id] = record
            if number in lost:
                record.values = dict(trial.hyperparameters.values)
                record.outcome = self._read_outcome(trial) or Outcome("failed")
            trial.hyperparameters.values = dict(record.values)
        for number in lost:
            self._reopen(self.trials[TRIAL.format(number)])
        self._before = int(events[-1][0]) + 1 if events else 1
        self._events = itertools.count(self._before + 1)
        self._unseen = list(self.ongoing_trials)

    def _create_again(self, number, record):
        holder = f"replayed{number}"
        if record.ended is None and record.tuner not in self.ongoing_trials:
            holder = record.tuner
        for _ in range(1000):  # an oracle that was asked too early once is so again
            trial = super().create_trial(holder)
            if trial.status == TrialStatus.RUNNING:
                return trial
        raise ConfigError(
            f"Cannot resume: the records do not lead to trial {number}. Others are lost, or "
            f"keras-tuner has another version. Use --overwrite or another --name"
        )

    def _reopen(self, trial):
        """Let a trial whose record was lost run again, unless its outcome is still there."""
        record = self._records[trial.trial_id]
        if self._read_outcome(trial) is None:
            record.ended = record.outcome = None
            trial.status = TrialStatus.RUNNING
            self.ongoing_trials[record.tuner] = trial
        records.write(self._folder, record)

    def _read_outcome(self, trial, wait=0):
        values = self._records[trial.trial_id].values
        return records.read_outcome(self._folder, trial.trial_id, values, wait)

    # What keras-tuner calls.

    def create_trial(self, tuner_id):
        """Return the next trial for a tuner: the one it had, a new one, or one nobody has."""
        while True:
            trial = self._next_trial(tuner_id)
            if trial.status == TrialStatus.IDLE:
                time.sleep(0.05)  # keras-tuner asks again at once
            if trial.status != TrialStatus.RUNNING:
                return trial
            refused = self._hand_out(trial, tuner_id)
            if refused is None:
                return trial
            self._end_and_record(trial, refused)

    def _next_trial(self, tuner_id):
        if self._is_over():
            return self._stop(tuner_id)
        if tuner_id in self.ongoing_trials:
            self._unseen = [one for one in self._unseen if one != tuner_id]
            return super().create_trial(tuner_id)
        trial = None
        if self._config.trials is None or len(self.trials) < self._config.trials:
            trial = super().create_trial(tuner_id)
        if self._unseen and (trial is None or trial.status != TrialStatus.RUNNING):
            # Whoever had the trial has had all this time to come back.
            holder = self._unseen.pop(0)
            trial = self.ongoing_trials.pop(holder)
            self.ongoing_trials[tuner_id] = trial
            self.tuner_ids.discard(holder)
            self.tuner_ids.add(tuner_id)
        return trial or self._stop(tuner_id)

    def _stop(self, tuner_id):
        # The chief waits for all that are in these sets.
        for one in (tuner_id, *self._unseen):
            self.tuner_ids.discard(one)
            self.ongoing_trials.pop(one, None)
        self._unseen = []
        return Trial(self.get_space(), trial_id="", status=TrialStatus.STOPPED)

    def _is_over(self):
        if time.monotonic() > self._deadline:
            return True
        # Failures of earlier days do not count: their cause may be gone.
        ended = [r for r in self._records.values() if r.ended and r.ended > self._before]
        return ended_in_failures(ended)

    def _hand_out(self, trial, tuner_id):
        """Record that the tuner gets the trial, or return why nobody gets it."""
        record = self._records.get(trial.trial_id)
        if record is None:
            values = dict(trial.hyperparameters.values)
            record = Record(trial.trial_id, values, tuner_id, next(self._events))
            self._records[trial.trial_id] = record
        now = records.progress(self._folder, trial.trial_id)
        record.attempts = record.attempts + 1 if now == record.progress else 1
        record.progress, record.tuner = now, tuner_id
        if record.attempts > ATTEMPTS:
            return Outcome("failed", f"its process ended {ATTEMPTS} times without a new checkpoint")
        try:
            model = self._config.run(record.values).model
            search.check_size(self._config.max_parameters, model.builder(), *self._sizes)
        except keras_tuner.errors.FailedTrialError as error:
            return Outcome("skipped", str(error))
        except (ConfigError, ValueError) as error:
            return Outcome("failed", str(error))
        records.write(self._folder, record)
        return None

    def end_trial(self, trial):
        """Record what the tuner has left in the trial's folder. Told twice, it is done once."""
        if self._records[trial.trial_id].ended is None:
            outcome = self._read_outcome(trial, wait=LAG)
            outcome = outcome or Outcome("failed", "its worker has left no outcome in its folder")
            self._end_and_record(self.trials[trial.trial_id], outcome)

    def update_trial(self, trial_id, metrics, step=0):
        """Do nothing: what counts is in the trial's folder, with the reason if it has failed."""
        return self.trials[trial_id]

    def score_trial(self, trial):
        """Take the score from the trial's record."""
        trial.score = self._records[trial.trial_id].outcome.score
        trial.best_step = 0

    def _end_and_record(self, trial, outcome):
        record = self._records[trial.trial_id]
        record = dataclasses.replace(record, outcome=outcome, ended=next(self._events))
        # First on disk: whoever is killed now finds it there.
        records.write(self._folder, record)
        self._end(trial, record)

    def _end(self, trial, record):
        self._records[trial.trial_id] = record
        finished = record.state == "finished"
        trial.status = TrialStatus.COMPLETED if finished else TrialStatus.FAILED
        holders = [key for key, one in self.ongoing_trials.items() if one is trial]
        super().end_trial(trial)
        self.tuner_ids.difference_update(h for h in holders if h.startswith("replayed"))
        self._unseen = [one for one in self._unseen if one not in holders]


KINDS = {
    "random": keras_tuner.oracles.RandomSearchOracle,
    "bayesian": keras_tuner.oracles.BayesianOptimizationOracle,
    "hyperband": keras_tuner.oracles.HyperbandOracle,
    "grid": keras_tuner.oracles.GridSearchOracle,
}
# By the name of the tuner, a class that is `Recorded` and keras-tuner's own.
ORACLES = {name: type(kind.__name__, (Recorded, kind), {}) for name, kind in KINDS.items()}
