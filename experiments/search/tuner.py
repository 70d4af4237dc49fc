"""keras-tuner's oracles and a tuner, with records from which a search goes on after any end.

The state of an oracle follows from what has happened to it: which trials it has created, and how
they ended, in that order. The records tell. A search that is started again lets a fresh oracle live
through the same events, and so comes to the same state: the next trial is the one that would have
come, also for grid search, whose own way to resume fails, and for Bayesian optimization, which does
not keep its random numbers. (Where a new version of a library chooses other values for a trial that
exists, the recorded ones count.)
"""

import dataclasses
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import keras_tuner
import numpy as np
from keras_tuner.engine.trial import Trial, TrialStatus

from keras_deeplstm import models, search
from keras_deeplstm.experiments import runs
from keras_deeplstm.experiments.config import ConfigError
from keras_deeplstm.experiments.devices import using
from keras_deeplstm.experiments.search import records
from keras_deeplstm.experiments.search.config import HYPERBAND_FACTOR, SearchConfig
from keras_deeplstm.experiments.search.records import Outcome, Record
from keras_deeplstm.experiments.search.results import ended_in_failures
from keras_deeplstm.experiments.tasks import DataError, get_task
from keras_deeplstm.experiments.training import DivergedError, train

# A trial that takes its process down this often without a new checkpoint is given up.
ATTEMPTS = 5
TRIAL = "{:04d}"  # how keras-tuner writes the number of a trial if there is no largest one
# What no other trial would escape.
FATAL = (DataError, OSError, runs.RunExistsError)


class _Recorded:
    """Mixed into an oracle of keras-tuner: keeps records, and when to stop.

    On one machine a single process calls it, on several a single thread of the chief's service.
    """

    def __init__(self, config, folder, time_limit=None, **options):
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
        self._records = {}
        self._events = 0
        self._unseen = []  # ids of tuners that had a trial when the search was last interrupted
        self._deadline = None if time_limit is None else time.monotonic() + time_limit

    # keras-tuner writes these in place, and they do not suffice to go on from.

    def save(self):
        """Write nothing; the records are there."""

    def reload(self):
        """Read nothing; `replay` does."""

    def replay(self, found: list[Record]) -> None:
        """Live through what the records tell.

        A trial between them whose record is lost is created again. If it also has no outcome, it
        counts as failed until the others are as they were, and then as not yet run.

        Raises:
            ConfigError: The oracle does not create the trials that the records tell of.
        """
        known = {int(record.trial): record for record in found}
        events, again = [], []
        began = 0
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
                f"Cannot resume: another version of keras-tuner has planned trial {number}. "
                f"Use --overwrite or another --name"
            )
        if record is None:
            record = Record(trial.trial_id, dict(trial.hyperparameters.values), holder, when)
        trial.hyperparameters.values = dict(record.values)
        self._records[trial.trial_id] = record

    def _recovered(self, trial, when):
        outcome = records.read_outcome(self._folder, trial.trial_id) or Outcome("failed")
        return dataclasses.replace(self._records[trial.trial_id], ended=when, outcome=outcome)

    def _reopen(self, trial):
        record = self._records[trial.trial_id]
        if records.read_outcome(self._folder, trial.trial_id) is None:
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
        return ended_in_failures(list(self._records.values()))

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
        task = get_task(self._config.task)
        try:
            model = self._config.run(values).model
            search.check_size(
                self._config.max_parameters,
                models.classifier,
                task.input_shape,
                task.num_classes,
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
            outcome = records.read_outcome(self._folder, trial.trial_id)
            outcome = outcome or Outcome("failed", _last_line(trial.message))
            self._end_and_record(self.trials[trial.trial_id], outcome)

    def update_trial(self, trial_id, metrics, step=0):
        """Do nothing: what counts is in the trial's folder, with all digits."""
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

    def _next_event(self):
        self._events += 1
        return self._events


class _Random(_Recorded, keras_tuner.oracles.RandomSearchOracle):
    pass


class _Bayesian(_Recorded, keras_tuner.oracles.BayesianOptimizationOracle):
    pass


class _Grid(_Recorded, keras_tuner.oracles.GridSearchOracle):
    pass


class _Hyperband(_Recorded, keras_tuner.oracles.HyperbandOracle):
    def __init__(self, config, folder, time_limit=None):
        plan = {"max_epochs": config.epochs, "factor": HYPERBAND_FACTOR}
        super().__init__(config, folder, time_limit, **plan)


ORACLES = {"random": _Random, "bayesian": _Bayesian, "hyperband": _Hyperband, "grid": _Grid}


class RunTuner(keras_tuner.Tuner):
    """A tuner of keras-tuner whose trials are runs in the folder of the search.

    A trial that was begun goes on where its runs stand; those that are finished are not run again.

    Args:
        config: The search.
        folder: Its folder, in which several machines may work at once.
        data_dir: Folder with data sets.
        time_limit: No trial begins after this many seconds.
        devices: As for `devices.using`.
        **options: Further arguments of `training.train`.
    """

    def __init__(
        self,
        config: SearchConfig,
        folder: Path,
        data_dir: Path | None = None,
        time_limit: float | None = None,
        devices: str = "one",
        **options,
    ):
        self._config = config
        self._folder = folder
        self._devices = devices
        self._options = {"data_dir": data_dir, **options}
        super().__init__(
            ORACLES[config.tuner](config, folder, time_limit),
            hypermodel=search.Space(config.ranges),
            directory=folder.parent,
            project_name=folder.name,
        )

    def save(self):
        """Write nothing; the records are there."""

    def reload(self):
        """Read nothing; `search_in` replays the records."""

    def run_trial(self, trial, *args, **kwargs):
        """Train the runs of a trial, and leave its outcome in its folder."""
        folder = records.trial_folder(self._folder, trial.trial_id)
        outcome = records.read_outcome(self._folder, trial.trial_id)
        if outcome is None:
            # Not those of `trial`, whose digits may be fewer after the way from the chief.
            values = records.read(self._folder, trial.trial_id).values
            outcome = self._outcome(values, folder)
            records.write_outcome(self._folder, trial.trial_id, outcome)
        if outcome.state != "finished":
            raise keras_tuner.errors.FailedTrialError(outcome.reason)
        return outcome.score

    def _outcome(self, values, folder):
        results, scores = [], []
        for name, config in self._config.runs(values).items():
            try:
                results.append(self._train(config, folder / name))
            except FATAL as error:
                raise keras_tuner.errors.FatalError(str(error)) from error
            except DivergedError as error:
                return Outcome("diverged", str(error))
            except Exception as error:
                return Outcome("failed", f"{type(error).__name__}: {error}"[:1000])
            score = best(runs.load(folder / name).metrics[self._config.objective], self._config)
            if score is None:
                return Outcome("diverged", f"{self._config.objective} was never a finite number")
            scores.append(score)
        ratios = [result["gradient_ratio_end"] for result in results]
        ratios = [ratio for ratio in ratios if ratio is not None]
        return Outcome(
            "finished",
            score=statistics.fmean(scores),
            scores=scores,
            parameters=results[0]["parameters"],
            gradient_ratio=statistics.median(ratios) if ratios else None,
            seconds=round(sum(result["seconds"] for result in results), 2),
        )

    def _train(self, config, folder):
        if (folder / "config.json").exists() and runs.load(folder).config is None:
            records.set_aside(folder)
        # The same number stands for another trial if its record was lost, and with it its values.
        other = (folder / "config.json").exists() and runs.load(folder).config != config
        with using(self._devices):
            result = train(config, folder, overwrite=other, **self._options)
        # A search keeps numbers; --retrain makes the model of the best trial again.
        (folder / "model.keras").unlink(missing_ok=True)
        return result


def best(values, config: SearchConfig) -> float | None:
    """The best finite one of the values of the objective after each epoch, or None."""
    values = np.asarray(values, float)
    values = values[np.isfinite(values)]
    if not len(values):
        return None
    return float(values.max() if config.maximize else values.min())


def search_in(
    config: SearchConfig,
    folder: Path,
    *,
    on_message: Callable[[str], None] = print,
    **options,
) -> None:
    """Search, or go on with a search, in this process.

    keras-tuner's environment variables make it a chief or a worker of several.

    Args:
        config: The search.
        folder: Its folder.
        on_message: Called with what the user should know.
        **options: As for `RunTuner`.

    Raises:
        ConfigError: keras-tuner refuses a range.
        DataError: The data are absent or damaged.
        RunExistsError: Another process trains one of the runs.
        OSError: Something could not be written.
        Interrupted: SIGINT or SIGTERM came.
    """

    def damaged(path):
        on_message(f"'{path}' is damaged. It is set aside, and its trial is run again")
        records.set_aside(path)

    get_task(config.task).load(options.get("data_dir"))  # an error now, not in each trial
    try:
        tuner = RunTuner(config, folder, **options)
    except (ValueError, TypeError) as error:
        raise ConfigError(str(error)) from None
    if isinstance(tuner.oracle, _Recorded):
        tuner.oracle.replay(records.read_all(folder, damaged))
    try:
        tuner.search(verbose=0)
    except keras_tuner.errors.FatalError as error:
        raise error.__cause__ or error from None


def _last_line(message):
    lines = (message or "").strip().splitlines()
    return lines[-1] if lines else "keras-tuner gave no reason"
