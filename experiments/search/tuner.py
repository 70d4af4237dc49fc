"""A tuner of keras-tuner whose trials are runs, and its oracle."""

import math
import statistics
import time
from contextlib import suppress
from datetime import datetime
from functools import partial
from pathlib import Path

import keras_tuner
import numpy as np
import optuna
from keras_tuner.engine.trial import Trial, TrialStatus

from keras_deeplstm import search
from keras_deeplstm.experiments import runs
from keras_deeplstm.experiments.processes.worker import MEMORY, TRAININGS, memory_in_use
from keras_deeplstm.experiments.search import trials
from keras_deeplstm.experiments.search.config import OF_RESULT, SearchConfig
from keras_deeplstm.experiments.search.results import ended_in_failures
from keras_deeplstm.experiments.search.trials import Outcome, trial_folder
from keras_deeplstm.experiments.settings import ConfigError
from keras_deeplstm.experiments.tasks import DataError
from keras_deeplstm.experiments.training import prepare, train
from keras_deeplstm.experiments.training.journal import DivergedError

# What no other trial would escape.
FATAL = (DataError, OSError, runs.RunExistsError)


class Renewal(Exception):
    """A process has done its share of the trials; another one is to go on."""


class Pruned(BaseException):
    """The pruner ends a trial after this epoch; not an error, which the run would record."""


class SearchOracle(search.OptunaOracle):
    """The oracle of a search by command: it also knows when to stop, and sees the trials' folders.

    No trial begins after the time `deadline`. Failures before `since` do not end the search: their
    cause may be gone.
    """

    def __init__(self, config, folder, storage, name, deadline, since):
        pruner = config.pruner
        if pruner == "hyperband":  # which else waits for the first trial to tell the most
            pruner = optuna.pruners.HyperbandPruner(max_resource=config.resource)
        names = zip(config.objective, config.measures, strict=True)
        objectives = [keras_tuner.Objective(n, measure.direction) for n, measure in names]
        super().__init__(
            objectives if len(objectives) > 1 else objectives[0],
            config.trials,
            sampler=config.sampler,
            pruner=pruner,
            storage=storage,
            study_name=name,
            seed=config.seed,
            max_consecutive_failed_trials=None,
        )
        self.verbose = 0
        self._folder, self._deadline, self._since = folder, deadline, since

    def create_trial(self, tuner_id):
        """The next trial; its status is STOPPED after the deadline, and after failures in a row."""
        ended = [one for one in trials.read(self.study) if one.ended and one.ended > self._since]
        if time.time() > self._deadline or ended_in_failures(ended):
            return Trial(self.get_space(), trial_id="", status=TrialStatus.STOPPED)
        return super().create_trial(tuner_id)

    def may_take_up(self, trial_id):
        """Whether no process has the lock of one of the trial's runs."""
        return not any(map(runs.is_locked, self._runs(trial_id)))

    def progress(self, trial_id):
        """The newest checkpoint or result of the trial's runs."""
        found = [
            path.relative_to(self._folder)
            for run in self._runs(trial_id)
            for path in (*run.glob("result.json"), *run.glob("checkpoints/epoch_*.npz"))
        ]
        return str(max(found, default=""))

    def _runs(self, trial_id):
        return trial_folder(self._folder, int(trial_id)).glob("seed*")


class RunTuner(keras_tuner.Tuner):
    """A tuner of keras-tuner whose trials are runs in the folder of the search.

    A trial that was begun goes on where its runs stand; those that are finished are not run again.
    After its share of the trials comes a `Renewal`. `options` are further arguments of `train`.
    """

    def __init__(self, config, folder, oracle, data_dir=None, **options):
        self._config, self._folder = config, folder
        self._left, self._data_dir, self._options = TRAININGS, data_dir, options
        self._beside = None
        super().__init__(
            oracle, config.space.declare, directory=folder.parent, project_name=folder.name
        )

    def save(self):
        """Write nothing: the study has it."""

    def run_trial(self, trial, *args, **kwargs):
        """Train the runs of a trial, and let the study keep what came of it."""
        values = dict(trial.hyperparameters.values)
        try:
            outcome = self._outcome(values, trial.trial_id)
        except FATAL as error:
            raise keras_tuner.errors.FatalError(str(error)) from error
        if outcome.state != "failed":  # a search keeps numbers; --retrain makes a model again
            for name in ("checkpoints", "model.keras", "best.keras"):
                runs.remove(trial_folder(self._folder, int(trial.trial_id)).glob(f"*/{name}"))
        self.oracle.set_user_attr(trial.trial_id, "outcome", vars(outcome))
        if outcome.state != "finished":
            raise keras_tuner.errors.FailedTrialError(outcome.reason)
        scores = dict(zip(self._config.objective, outcome.scores, strict=True))
        objective = self.oracle.objective  # of two, one that keras-tuner makes of them
        return {objective.name: objective.get_value(scores)} | scores

    def on_trial_end(self, trial):
        """End the process if this was the last trial of its share."""
        super().on_trial_end(trial)
        self._left -= 1
        if self._left == 0 or memory_in_use() > MEMORY:
            raise Renewal

    def _outcome(self, values, trial_id):
        folder, found = trial_folder(self._folder, int(trial_id)), []
        try:
            planned = self._config.runs(values)
            self._check_size(next(iter(planned.values())))
            for number, (name, config) in enumerate(planned.items()):
                on_epoch = None
                if self._config.pruner is not None and not number:
                    on_epoch = partial(self._report, config)
                result = self._train(config, folder / name, on_epoch)
                if result.get("diverged"):
                    return Outcome("diverged", result["diverged"])
                scores = self._scores(folder / name, result)
                if None in scores:
                    name = self._config.objective[scores.index(None)]
                    return Outcome("diverged", f"{name} was never a finite number")
                found.append((scores, result, runs.load(folder / name).metrics["epoch"].max()))
        except Pruned as pruned:
            (epoch,), scores = pruned.args, self._scores(folder / name, {})
            reason = f"after {epoch:g} of {config.rounds:,} {self._config.counted}"
            seconds = round(float(runs.load(folder / name).metrics["seconds"].sum()), 2)
            scores = [score for score in scores if score is not None]
            return Outcome("pruned", reason, scores, scores, epochs=epoch, seconds=seconds)
        except (keras_tuner.errors.FailedTrialError, ConfigError) as error:  # too large; refused
            return Outcome("skipped", str(error))
        except FATAL:
            raise
        except DivergedError as error:
            return Outcome("diverged", str(error))
        except Exception as error:
            return Outcome("failed", f"{type(error).__name__}: {error}"[:1000])
        scores, results, epochs = zip(*found, strict=True)
        ratios = [r["gradient_ratio_end"] for r in results if r.get("gradient_ratio_end")]
        return Outcome(
            "finished",
            scores=[statistics.fmean(column) for column in zip(*scores, strict=True)],
            of_runs=[first for first, *_ in scores],
            parameters=results[0]["parameters"],
            epochs=float(sum(epochs)),
            gradient_ratio=statistics.median(ratios) if ratios else None,
            seconds=round(sum(result["seconds"] for result in results), 2),
        )

    def _check_size(self, config):
        if self._config.max_parameters is not None:
            design = prepare(config, self._data_dir).design()
            if design is not None:
                search.check_size(self._config.max_parameters, design)

    def _scores(self, folder, result):
        """The value of each objective in the best epoch of a run; None if none is finite."""
        metrics, found = runs.load(folder).metrics, []
        for name, measure in zip(self._config.objective, self._config.measures, strict=True):
            if name in OF_RESULT:
                found.append(float(result[name]))
                continue
            values = metrics[name].astype(float)
            values = values[np.isfinite(values)]
            best = values.max() if measure.direction == "max" else values.min()
            found.append(None if values.empty else float(best))
        return found

    def _report(self, config, row):
        """Tell the pruner how a run goes on."""
        value, rounds = row.get(self._config.objective[0]), config.rounds
        step = math.ceil(row["epoch"] * self._config.resource / rounds)
        if value is not None and self.oracle.report(float(value), step, row["epoch"] < rounds):
            raise Pruned(row["epoch"])

    def _train(self, config, folder, on_epoch):
        other = False
        if (folder / "config.json").exists():
            earlier = runs.load(folder).config
            # The same number stands for another trial if the journal was lost.
            other = earlier != config
            if on_epoch and not other:  # the last row may be one that nobody has told the pruner
                with suppress(OSError, ValueError):
                    on_epoch(runs.load(folder).metrics.iloc[-1].to_dict())
        return train(
            config, folder, overwrite=other, data_dir=self._data_dir, on_epoch=on_epoch,
            beside=self.beside(), **self._options,
        )  # fmt: skip

    def beside(self):
        """The folder of a finished run, whose data those of all others have to be; or None."""
        if self._beside is None:
            paths = sorted(self._folder.glob("trial_*/*/environment.json"))
            found = (runs.load(path.parent) for path in paths)
            known = (run.folder for run in found if run.state == "finished" and run.data)
            self._beside = next(known, None)
        return self._beside


def search_in(
    config: SearchConfig,
    folder: Path,
    storage: str,
    study: str | None = None,
    *,
    deadline: float = math.inf,
    since: datetime = datetime.min,
    data_dir: Path | None = None,
    **options,
) -> None:
    """Search, or go on with a search, in this process; `options` are those of `train`.

    A ConfigError says that keras-tuner refuses a range, or that a package of the sampler is absent;
    a RunExistsError that another process has begun another search in the study.
    """
    try:
        oracle = SearchOracle(config, folder, storage, study or folder.name, deadline, since)
        tuner = RunTuner(config, folder, oracle, data_dir, **options)
    except (ValueError, TypeError, ImportError) as error:
        raise ConfigError(str(error)) from None
    settings = oracle.study.user_attrs.get("settings")
    if settings and SearchConfig.from_dict(settings).differences(config):
        raise runs.RunExistsError("Another search has begun in this study. Use another --name")
    prepared = prepare(config.space.example(), data_dir)  # an error now, not in each trial
    if (beside := tuner.beside()) is not None:
        runs.check_same_data(beside, prepared.digest)
    try:
        tuner.search(verbose=0)
    except keras_tuner.errors.FatalError as error:
        raise error.__cause__ or error from None
