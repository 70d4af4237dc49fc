"""An oracle of keras-tuner that lets Optuna choose and remember the trials."""

import functools
import itertools
import math
import os
import time

import keras_tuner
import optuna
from keras_tuner.engine.trial import Trial, TrialStatus
from optuna.trial import TrialState

from keras_deeplstm import validation
from keras_deeplstm.search import samplers
from keras_deeplstm.search.distributions import parameters, suggest, suggested
from keras_deeplstm.search.leases import ATTEMPTS, Leases
from keras_deeplstm.storage import storage_of

PRUNERS: dict[str, type[optuna.pruners.BasePruner]] = {
    "median": optuna.pruners.MedianPruner,
    "hyperband": optuna.pruners.HyperbandPruner,
}
WAIT = 0.5  # seconds before a tuner without a trial asks again
ENDED = ("metrics", "score", "best_step", "message")  # what the study keeps of an ended trial
STATUS = {
    TrialState.COMPLETE: TrialStatus.COMPLETED,
    TrialState.PRUNED: TrialStatus.STOPPED,
    TrialState.FAIL: TrialStatus.FAILED,
    TrialState.RUNNING: TrialStatus.RUNNING,
    TrialState.WAITING: TrialStatus.IDLE,
}


def synchronized(method):
    """keras-tuner's lock for calls from several threads, which hides the docstring."""
    return functools.wraps(method)(keras_tuner.synchronized(method))


class OptunaOracle(keras_tuner.Oracle):
    """Chooses the trials of any tuner of keras-tuner by a sampler of Optuna.

    The study of Optuna is the only truth: it counts the trials, and holds their values, metrics and
    states. With a storage that is a file or a database, a search goes on where another process has
    ended, and several processes share one search. keras-tuner's own files are not read back.

    The id of a trial is its number in the study, `"0007"`. Its values follow from `seed`, that
    number and, of samplers that learn, from the trials that have ended. So "random" and "grid" give
    the same table of trials whatever the number of processes.

    A process that works at a trial renews a lease of it in the storage each 15 seconds. If the
    process is killed, another one takes the trial up from its beginning, under the same number: at
    once on the same machine, else after two minutes without a renewal; at most five times. A search
    that has no further trial to begin waits for those of other processes to end.

    Args:
        objective: As for any oracle: a name, a `keras_tuner.Objective`, or a list of these for
            several objectives, of which "nsga2" seeks the best compromises. A trial counts with its
            best epoch, which for several is that of the lowest sum, those to be maximized negative.
        max_trials: The most trials of the study, of all processes together; None for as many as
            come.
        sampler: "random", "tpe", "nsga2", "gp" (Gaussian process; needs torch), "cmaes" (needs
            cmaes) or "grid", which tries all combinations once, of ranges without steps ten values
            each. Or a function from a seed to a sampler of Optuna.
        pruner: "median", "hyperband", a pruner of Optuna, or None. It needs a `PruningCallback`.
        storage: None for the memory of this process; the path of a journal file; the URL of a
            database, `sqlite:///search.db`; or a storage of Optuna.
        study_name: Name of the study in the storage.
        seed: An int; None takes that of the study in the storage, or draws one.
        hyperparameters, allow_new_entries, tune_new_entries: As for any oracle.
        max_retries_per_trial: As for any oracle: how often a trial is tried again that has ended
            with an error.
        max_consecutive_failed_trials: So many failed trials in a row end the search with a
            RuntimeError. Pruned ones have not failed.

    Attributes:
        study: The `optuna.Study`, for Optuna's own pictures and importances.

    Raises:
        ValueError: An argument is out of its range; a pruner with several objectives, which Optuna
            does not support; or the study in the storage has other objectives.
        ImportError: The sampler needs a package that is not installed.

    Example:

    >>> import keras_tuner, tempfile
    >>> from keras_deeplstm.search import OptunaOracle
    >>> class Parabola(keras_tuner.Tuner):
    ...     def run_trial(self, trial, **options):
    ...         x = trial.hyperparameters.Float("x", -10.0, 10.0)
    ...         return (x - 2) ** 2
    >>> oracle = OptunaOracle(max_trials=30, sampler="tpe", seed=0)
    >>> tuner = Parabola(oracle=oracle, directory=tempfile.mkdtemp())
    >>> tuner.search(verbose=0)
    >>> abs(tuner.get_best_hyperparameters()[0]["x"] - 2) < 1, len(oracle.study.trials)
    (True, 30)
    """

    def __init__(
        self,
        objective=None,
        max_trials=None,
        *,
        sampler="tpe",
        pruner=None,
        storage=None,
        study_name="search",
        seed=None,
        hyperparameters=None,
        allow_new_entries=True,
        tune_new_entries=True,
        max_retries_per_trial=0,
        max_consecutive_failed_trials=3,
    ):
        super().__init__(
            objective=objective,
            max_trials=max_trials,
            hyperparameters=hyperparameters,
            allow_new_entries=allow_new_entries,
            tune_new_entries=tune_new_entries,
            seed=seed,
            max_retries_per_trial=max_retries_per_trial,
            max_consecutive_failed_trials=max_consecutive_failed_trials,
        )
        if max_trials is not None:
            validation.positive_integer("max_trials", max_trials)
        self.sampler = samplers.checked(sampler)
        self.objectives = getattr(self.objective, "objectives", [self.objective])
        several = len(self.objectives) > 1
        if pruner is not None and several:
            raise ValueError(
                "A pruner judges trials by one objective. "
                f"Received: pruner={pruner!r}, with {len(self.objectives)} objectives"
            )
        if isinstance(pruner, str):
            pruner = PRUNERS[validation.one_of("pruner", pruner, tuple(PRUNERS))]()
        self._storage = storage_of(storage)
        self.study = optuna.create_study(
            storage=self._storage,
            study_name=study_name,
            pruner=pruner or optuna.pruners.NopPruner(),
            directions=self._directions(),
            load_if_exists=True,
        )
        found = [direction.name.lower() for direction in self.study.directions]
        if found != self._directions():
            raise ValueError(
                f"Study {study_name!r} has the objectives {found} in this storage. "
                f"Received: {self._directions()}"
            )
        self.seed = self._agreed_seed(seed)
        self.study.sampler = samplers.PerTrial(self._sampler, self.seed)
        self._leases = Leases(self.study, self._storage)
        self._retries = []  # trials of this process that are to be tried again
        self._reporting = {}  # trials of this process as Optuna has them, by id
        self._pruned = set()  # ids of trials that the pruner has ended

    def _directions(self):
        return ["maximize" if one.direction == "max" else "minimize" for one in self.objectives]

    def _agreed_seed(self, seed):
        """The seed that is given, or else that of the processes before this one."""
        if seed is not None:
            validation.seed("seed", seed)
        elif "seed" in self.study.user_attrs:
            return self.study.user_attrs["seed"]
        seed = self.seed if seed is None else seed
        self.study.set_user_attr("seed", seed)
        return seed

    def _sampler(self, seed):
        if self.sampler == "grid":
            return optuna.samplers.RandomSampler(seed)  # of what a grid does not know
        make = samplers.SAMPLERS.get(self.sampler, self.sampler)
        return make(seed) if make is self.sampler else make(seed=seed)

    # The trials, from the study.

    @property
    def trials(self):
        """All trials by their ids, those of this process as its tuner has them."""
        own = {trial.trial_id: trial for trial in self.ongoing_trials.values()}
        return {one.trial_id: own.get(one.trial_id, one) for one in map(self._trial, self._found())}

    @trials.setter
    def trials(self, value):
        """keras-tuner's oracle begins with none."""

    def _found(self):
        """Optuna's trials that count: not those that only wait for their turn."""
        states = [state for state in TrialState if state != TrialState.WAITING]
        return self.study.get_trials(deepcopy=False, states=states)

    def _trial(self, found):
        """A trial of Optuna as one of keras-tuner."""
        known = found.user_attrs
        space = self.hyperparameters.copy()
        space.values = dict(known.get("values", {}))
        trial = Trial(space, _id(found.number), STATUS[found.state])
        ended = {name: known[name] for name in ENDED if name in known}
        return Trial.from_state(trial.get_state() | ended)

    def get_trial(self, trial_id):
        """The trial with an id.

        Args:
            trial_id: Its number as four digits.

        Returns:
            A `Trial` of keras-tuner.

        Raises:
            KeyError: There is none.
        """
        for trial in self.ongoing_trials.values():
            if trial.trial_id == trial_id:
                return trial
        for found in self._found():
            if _id(found.number) == trial_id:
                return self._trial(found)
        raise KeyError(trial_id)

    def get_best_trials(self, num_trials=1):
        """The finished trials, the best first; pruned ones are none of them.

        Args:
            num_trials: The most to be returned.

        Returns:
            A list of `Trial`s of keras-tuner.
        """
        # Of those that were not ended by an oracle there is no score.
        done = [one for one in self._found() if one.state == TrialState.COMPLETE]
        done = [one for one in done if "score" in one.user_attrs]
        best = self.objective.direction == "max"
        done.sort(key=lambda one: one.user_attrs["score"], reverse=best)
        return [self._trial(one) for one in done[:num_trials]]

    def remaining_trials(self):
        """How many trials may still begin.

        Returns:
            An int; None if their number has no limit.
        """
        return None if self.max_trials is None else max(self.max_trials - len(self._found()), 0)

    # What a tuner asks for.

    @synchronized
    def create_trial(self, tuner_id):
        """The next trial for a tuner.

        Args:
            tuner_id: Name of the tuner; if it has a trial, it gets that again.

        Returns:
            A `Trial` of keras-tuner. Its status is STOPPED if there is none, and IDLE as long as
            other processes are at work.

        Raises:
            RuntimeError: Too many trials in a row have failed.
        """
        if tuner_id in self.ongoing_trials:
            return self.ongoing_trials[tuner_id]
        self._check_consecutive_failures()
        self.tuner_ids.add(tuner_id)
        trial = self._retries.pop() if self._retries else self._taken_up()
        if trial is None and not self._leases.unclear:
            trial = self._asked()
        if trial is None:
            others = self._leases.others()
            if others:  # one of them may be killed, and its trial is then to be taken up
                time.sleep(WAIT)
            else:
                self.tuner_ids.discard(tuner_id)
            status = TrialStatus.IDLE if others else TrialStatus.STOPPED
            return Trial(self.get_space(), _id(len(self._found())), status)
        self.ongoing_trials[tuner_id] = trial
        self.start_order.append(trial.trial_id)
        self._display.on_trial_begin(trial)
        return trial

    def _taken_up(self):
        """A trial of the study whose process has been killed, or None."""
        for found in self._leases.abandoned():
            if not self.may_take_up(_id(found.number)):
                continue
            wasted = self._leases.claim(found, self.progress(_id(found.number)))
            if wasted == ATTEMPTS:
                self._leases.end(found.number)
                reason = f"its process ended {ATTEMPTS} times without progress"
                self._storage.set_trial_user_attr(found._trial_id, "message", reason)
                self.study.tell(found.number, state=TrialState.FAIL)
            elif wasted is not None:
                return self._begun(self._asking(found._trial_id))
        return None

    def may_take_up(self, trial_id):
        """Whether a trial whose lease is stale is really abandoned, as far as can be seen.

        Args:
            trial_id: Its id.

        Returns:
            True; a subclass may know more.
        """
        return True

    def progress(self, trial_id):
        """How far a trial is whose process was killed.

        Args:
            trial_id: Its id.

        Returns:
            A text that changes with what is not lost; "" as long as a trial begins anew each time.
        """
        return ""

    def _asked(self):
        """A new trial of the study, or None."""
        if self._is_full(len(self._found())):
            return None
        waiting = self.study.get_trials(deepcopy=False, states=[TrialState.WAITING])
        if not waiting:
            # Not by `ask`: so it has a lease from its beginning, and is never unclear whose it is.
            lease = {"lease": self._leases.lease()} if self._leases.shared else {}
            new = optuna.trial.create_trial(state=TrialState.RUNNING, user_attrs=lease)
            study_id = self._storage.get_study_id_from_name(self.study.study_name)
            asked = self._asking(self._storage.create_new_trial(study_id, new))
            self._leases.take(asked._trial_id, asked.number)
        elif self._leases.claim(waiting[0]) is None:
            return None
        else:
            asked = self._asking(waiting[0]._trial_id)
        if self._is_full(asked.number):  # another process was faster
            # It waits, so that a later search with more trials takes it up.
            self._leases.end(asked.number)
            self._storage.set_trial_state_values(asked._trial_id, TrialState.WAITING)
            return None
        return self._begun(asked)

    def _asking(self, trial_id):
        """A running trial, as it asks the sampler for values: by a study that has seen no trial.

        Optuna's samplers look at the trials that their study has found at first.
        """
        study = optuna.load_study(
            study_name=self.study.study_name,
            storage=self._storage,
            sampler=self.study.sampler,
            pruner=self.study.pruner,
        )
        return optuna.trial.Trial(study, trial_id)

    def _begun(self, asked):
        """A trial of Optuna with its values, which it may have already, as one of keras-tuner."""
        values = asked.user_attrs.get("values")
        if values is None and self.sampler == "grid":
            values = samplers.grid_entry(self.hyperparameters, asked.number)
            self._note(asked, values)
        elif values is None:
            values = suggested(self.hyperparameters, asked)
        asked.set_user_attr("values", values)
        self._reporting[_id(asked.number)] = asked
        space = self.get_space()
        space.values = dict(values)
        return Trial(space, _id(asked.number), TrialStatus.RUNNING)

    def _note(self, asked, values):
        """Let the study have values as parameters that no sampler has chosen."""
        known = parameters(self.hyperparameters, values)
        with self.study.sampler.fixed(
            asked.number, {name: one for name, (_, one) in known.items()}
        ):
            for name, (distribution, _) in known.items():
                suggest(asked, name, distribution)

    def _is_full(self, number):
        """Whether there is no trial of this number."""
        if self.max_trials is not None and number >= self.max_trials:
            return True
        grid = self.sampler == "grid"
        return grid and samplers.grid_entry(self.hyperparameters, number) is None

    def set_user_attr(self, trial_id, name, value):
        """Let the study keep something about a trial that this process has.

        Args:
            trial_id: Its id.
            name: What it is called there.
            value: What JSON can hold.
        """
        self._reporting[trial_id].set_user_attr(name, value)

    @synchronized
    def update_trial(self, trial_id, metrics, step=0):
        """Take the metrics of a trial; the study gets them when it ends.

        Args:
            trial_id: Its id.
            metrics: Name -> value, the objectives among them.
            step: Number of the epoch.

        Returns:
            The `Trial`.

        Raises:
            ValueError: An objective is missing.
        """
        trial = self.get_trial(trial_id)
        self._check_objective_found(metrics)
        directions = {one.name: one.direction for one in (self.objective, *self.objectives)}
        for name, value in metrics.items():
            if not trial.metrics.exists(name):
                trial.metrics.register(name, direction=directions.get(name))
            trial.metrics.update(name, value, step=step)
        return trial

    @synchronized
    def end_trial(self, trial):
        """Tell the study how a trial has ended, or keep it to be tried again.

        Args:
            trial: The `Trial`, whose status says how.
        """
        known = self.get_trial(trial.trial_id)
        known.hyperparameters, known.status = trial.hyperparameters, trial.status
        known.message = trial.message
        self.update_space(known.hyperparameters)
        number, values = int(known.trial_id), None
        if known.status == TrialStatus.COMPLETED:
            self.score_trial(known)
            values = [known.metrics.get_best_value(one.name) for one in self.objectives]
            if not all(value is not None and math.isfinite(value) for value in values):
                known.status, known.message = TrialStatus.INVALID, f"objective {values}"
        self._run_times[known.trial_id] += 1
        if known.status == TrialStatus.INVALID:
            if self._run_times[known.trial_id] <= self.max_retries_per_trial:
                # Without what the failed attempt has measured.
                new = Trial(known.hyperparameters, known.trial_id, TrialStatus.RUNNING)
                self._retries.append(new)
            else:
                known.status = TrialStatus.FAILED
        self._forget(known)
        if known.status != TrialStatus.INVALID:
            self._tell(number, known, values)
            self.end_order.append(known.trial_id)
        self._display.on_trial_end(known)

    def report(self, value, step, more=True):
        """Tell the pruner what the objective of the running trial is.

        Args:
            value: The objective.
            step: How many epochs it has trained.
            more: Whether more are to come. A trial that is through is not pruned.

        Returns:
            Whether the trial is to end.
        """
        (trial,) = self.ongoing_trials.values()
        asked = self._reporting[trial.trial_id]
        asked.report(value, step)
        if more and asked.should_prune():
            self._pruned.add(trial.trial_id)
        return trial.trial_id in self._pruned

    def _forget(self, trial):
        for tuner_id, one in list(self.ongoing_trials.items()):
            if one is trial:
                del self.ongoing_trials[tuner_id]

    def _tell(self, number, trial, values):
        self._leases.end(number)
        (frozen,) = [one for one in self._found() if one.number == number]
        if frozen.state.is_finished():  # this process had slept, and another one was faster
            return
        # What the model has asked for and the oracle had not known. Samplers that look at all
        # parameters together would else leave it to chance in all trials to come.
        self._note(self._reporting.pop(trial.trial_id), trial.hyperparameters.values)
        known = trial.get_state()
        known = {"values": dict(trial.hyperparameters.values)} | {n: known[n] for n in ENDED}
        for name, value in known.items():
            self._storage.set_trial_user_attr(frozen._trial_id, name, value)
        if trial.trial_id in self._pruned:
            self.study.tell(number, state=TrialState.PRUNED)
        elif trial.status == TrialStatus.COMPLETED:
            self.study.tell(number, values)
        else:
            self.study.tell(number, state=TrialState.FAIL)

    def _check_consecutive_failures(self):
        """RuntimeError if so many trials in a row have failed, in whatever process."""
        ended = [one for one in self._found() if one.state.is_finished()]
        ended.sort(key=lambda one: one.datetime_complete)
        failed = itertools.takewhile(lambda one: one.state == TrialState.FAIL, reversed(ended))
        last = [one.user_attrs.get("message") for one in failed]
        most = self.max_consecutive_failed_trials
        if most is not None and len(last) >= most:
            raise RuntimeError(
                f"Number of consecutive failures exceeded the limit of {most}.\n{last[0] or ''}"
            )

    # keras-tuner's files.

    def save(self):
        """Write nothing: the study has it."""

    def reload(self):
        """Read nothing: the study has it."""

    def _save_trial(self, trial):
        """Write nothing: the study has it."""

    def _set_project_dir(self, directory, project_name):
        super()._set_project_dir(directory, project_name)
        # A tuner that finds its file would not look for the hyperparameters of its model.
        name = f"{os.environ.get('KERASTUNER_TUNER_ID', 'tuner0')}.json"
        path = os.path.join(str(directory), project_name, name)
        if os.path.exists(path):
            os.remove(path)


def _id(number):
    return f"{number:04d}"
