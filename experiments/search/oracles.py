"""keras-tuner's oracles, with records from which a search goes on after any end.

The state of an oracle follows from what has happened to it: which trials it has created, and how
they ended, in that order. The records tell. A search that is started again lets a fresh oracle live
through the same events, and so comes to the same state: the next trial is the one that would have
come, also for grid search, whose own way to resume fails, and for Bayesian optimization, which does
not keep its random numbers. (Where a new version of a library chooses other values for a trial that
exists, the recorded ones count.)
"""

import dataclasses
import time

import keras_tuner
from keras_tuner.engine.trial import Trial, TrialStatus

from keras_deeplstm import models, search
from keras_deeplstm.experiments.search import records
from keras_deeplstm.experiments.search.config import HYPERBAND_FACTOR
from keras_deeplstm.experiments.search.records import Outcome, Record
from keras_deeplstm.experiments.search.results import ended_in_failures
from keras_deeplstm.experiments.settings.base import ConfigError
from keras_deeplstm.experiments.tasks import get_task

# A trial that takes its process down this often without a new checkpoint is given up.
ATTEMPTS = 5
TRIAL = "{:04d}"  # how keras-tuner writes the number of a trial if there is no largest one
LAG = 60  # seconds after which a network folder shows what another machine has written


class Recorded:
    """Mixed into an oracle of keras-tuner: keeps records, and when to stop.

    On one machine a single process calls it, on several a single thread of the chief's service.
    """

    # The oracle has them.
    trials: dict[str, Trial]
    ongoing_trials: dict[str, Trial]

    def __init__(self, config, folder, time_limit=None, sizes=None, **options):
        # Without `max_trials`, so that the numbers of the trials have the same form however many
        # there are to be. A seed of 0 would be none.
        super().__init__(
            objective=keras_tuner.Objective(config.objective, "max" if config.maximize else "min"),
            seed=config.seed + 1,
            max_consecutive_failed_trials=None,
            **options,
        )
        self.max_trials = None
        self.verbose = 0
        self._config = config
        self._folder = folder
        task = get_task(config.task)
        self._sizes = sizes or (task.input_shape, task.num_classes)
        self._records = {}
        self._events = 0
        self._before = 0  # the last event before this process
        self._unseen = []  # ids of tuners that had a trial when the search was last interrupted
        self._deadline = None if time_limit is None else time.monotonic() + time_limit

    # keras-tuner writes these in place, and they do not suffice to go on from.

    def save(self):
        """Write nothing; the records are there."""

    def reload(self):
        """Read nothing; `replay` does."""

    def _save_trial(self, trial):
        # Private, but without it a full disk is an error of TensorFlow's, in the middle of a trial.
        pass

    def replay(self, found: list[Record]) -> None:
        """Live through what the records tell.

        A trial between them whose record is lost is created again. If it also has no outcome, it
        counts as failed until the others are as they were, and then as not yet run.

        Raises:
            ConfigError: The oracle does not create the trials that the records tell of.
        """
        known = {int(record.trial): record for record in found}
        events: list[tuple[float, int, Record | None]] = []
        again = []
        began = 0.0
        for number in reversed(range(max(known, default=-1) + 1)):
            record = known.get(number)
            began = record.began if record else began - 1 / 2
            events.append((began, number, record))
            if record is None:
                again.append(number)
                events.append((began + 1 / 4, number, None))
            elif record.ended is not None:
                events.append((record.ended, number, record))
        for when, number, record in sorted(events, key=lambda event: event[0]):
            trial = self.trials.get(TRIAL.format(number))
            if trial is None:
                self._create_again(number, when, record)
            else:
                self._end(trial, record or self._recovered(trial, when))
        for number in again:
            self._reopen(self.trials[TRIAL.format(number)])
        self._events = int(max((when for when, *_ in events), default=0)) + 1
        self._before = self._events
        self._unseen = list(self.ongoing_trials)

    def _create_again(self, number, when, record):
        holder = f"replayed{number}"
        if record and record.ended is None and record.tuner not in self.ongoing_trials:
            holder = record.tuner
        for _ in range(1000):  # an oracle that was asked too early once is so again
            trial = super().create_trial(holder)
            if trial.status == TrialStatus.RUNNING:
                break
        else:
            raise ConfigError(
                f"Cannot resume: the records do not lead to trial {number}. Others are lost, or "
                f"keras-tuner has another version. Use --overwrite or another --name"
            )
        if record is None:
            record = Record(trial.trial_id, dict(trial.hyperparameters.values), holder, when)
        trial.hyperparameters.values = dict(record.values)
        self._records[trial.trial_id] = record

    def _recovered(self, trial, when):
        outcome = self._read_outcome(trial) or Outcome("failed")
        return dataclasses.replace(self._records[trial.trial_id], ended=when, outcome=outcome)

    def _read_outcome(self, trial, wait=0):
        values = self._records[trial.trial_id].values
        return records.read_outcome(self._folder, trial.trial_id, values, wait)

    def _reopen(self, trial):
        record = self._records[trial.trial_id]
        if self._read_outcome(trial) is None:
            record.ended = record.outcome = None
            trial.status = TrialStatus.RUNNING
            self.ongoing_trials[record.tuner] = trial
        records.write(self._folder, record)

    # What keras-tuner calls.

    def create_trial(self, tuner_id):
        """Return the next trial for a tuner: the one it had, a new one, or one nobody has."""
        while True:
            trial = self._next_trial(tuner_id)
            if trial.status != TrialStatus.RUNNING:
                if trial.status == TrialStatus.IDLE:
                    time.sleep(0.05)  # keras-tuner asks again at once
                return trial
            refused = self._hand_out(trial, tuner_id)
            if refused is None:
                return trial
            self._end_and_record(trial, refused)

    def _next_trial(self, tuner_id):
        if self._is_over():
            return self._stop(tuner_id)
        if tuner_id in self.ongoing_trials:
            if tuner_id in self._unseen:
                self._unseen.remove(tuner_id)
            return super().create_trial(tuner_id)
        trial = None
        if self._config.trials is None or len(self.trials) < self._config.trials:
            trial = super().create_trial(tuner_id)
            if trial.status == TrialStatus.RUNNING:
                return trial
        if self._unseen:
            # Whoever had it has had all this time to come back.
            lost = self._unseen.pop(0)
            self.tuner_ids.discard(lost)
            self.tuner_ids.add(tuner_id)
            self.ongoing_trials[tuner_id] = self.ongoing_trials.pop(lost)
            return self.ongoing_trials[tuner_id]
        return trial or self._stop(tuner_id)

    def _stop(self, tuner_id):
        # The chief waits for all that are in these sets.
        for one in (tuner_id, *self._unseen):
            self.tuner_ids.discard(one)
            self.ongoing_trials.pop(one, None)
        self._unseen = []
        return Trial(self.get_space(), trial_id="", status=TrialStatus.STOPPED)

    def _is_over(self):
        if self._deadline is not None and time.monotonic() > self._deadline:
            return True
        # Failures of earlier days do not count: their cause may be gone.
        ended = [r for r in self._records.values() if r.ended and r.ended > self._before]
        return ended_in_failures(ended)

    def _hand_out(self, trial, tuner_id):
        """Record that the tuner gets the trial, or return why nobody gets it."""
        record = self._records.get(trial.trial_id)
        if record is None:
            values = dict(trial.hyperparameters.values)
            record = Record(trial.trial_id, values, tuner_id, self._next_event())
            self._records[trial.trial_id] = record
        now = records.progress(self._folder, trial.trial_id)
        record.attempts = record.attempts + 1 if now == record.progress else 1
        record.progress = now
        record.tuner = tuner_id
        if record.attempts > ATTEMPTS:
            reason = f"its process ended {ATTEMPTS} times without a new checkpoint"
            return Outcome("failed", reason)
        refused = self._refused(record.values)
        if refused is None:
            records.write(self._folder, record)
        return refused

    def _refused(self, values):
        try:
            model = self._config.run(values).model
            search.check_size(
                self._config.max_parameters,
                getattr(models, model.builder),
                *self._sizes,
                **model.build_arguments(),
            )
        except keras_tuner.errors.FailedTrialError as error:
            return Outcome("skipped", str(error))
        except (ConfigError, ValueError) as error:
            return Outcome("failed", str(error))
        return None

    def end_trial(self, trial):
        """Record what the tuner has left in the trial's folder. Told twice, it is done once."""
        record = self._records[trial.trial_id]
        if record.ended is None:
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
        ended = dataclasses.replace(record, outcome=outcome, ended=self._next_event())
        # First on disk: whoever is killed now finds it there.
        records.write(self._folder, ended)
        self._end(trial, ended)

    def _end(self, trial, record):
        self._records[trial.trial_id] = record
        finished = record.state == "finished"
        trial.status = TrialStatus.COMPLETED if finished else TrialStatus.FAILED
        holders = [key for key, one in self.ongoing_trials.items() if one is trial]
        super().end_trial(trial)
        self.tuner_ids.difference_update(h for h in holders if h.startswith("replayed"))
        self._unseen = [one for one in self._unseen if one not in holders]

    def _next_event(self):
        self._events += 1
        return self._events


class _Random(Recorded, keras_tuner.oracles.RandomSearchOracle):
    pass


class _Bayesian(Recorded, keras_tuner.oracles.BayesianOptimizationOracle):
    pass


class _Grid(Recorded, keras_tuner.oracles.GridSearchOracle):
    pass


class _Hyperband(Recorded, keras_tuner.oracles.HyperbandOracle):
    def __init__(self, config, folder, time_limit=None, sizes=None):
        plan = {"max_epochs": config.epochs, "factor": HYPERBAND_FACTOR}
        super().__init__(config, folder, time_limit, sizes, **plan)


ORACLES = {"random": _Random, "bayesian": _Bayesian, "hyperband": _Hyperband, "grid": _Grid}
