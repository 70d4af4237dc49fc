"""A tuner of keras-tuner whose trials are runs."""

import math
import statistics
from collections.abc import Callable
from pathlib import Path

import grpc
import keras_tuner
import numpy as np

from keras_deeplstm.experiments import runs
from keras_deeplstm.experiments.processes.worker import MEMORY, memory_in_use
from keras_deeplstm.experiments.search import records
from keras_deeplstm.experiments.search.config import SearchConfig
from keras_deeplstm.experiments.search.oracles import ORACLES, Recorded
from keras_deeplstm.experiments.search.records import Outcome
from keras_deeplstm.experiments.settings.base import ConfigError
from keras_deeplstm.experiments.tasks import DataError, get_task
from keras_deeplstm.experiments.training import train
from keras_deeplstm.experiments.training.journal import DivergedError

# What no other trial would escape.
FATAL = (DataError, OSError, runs.RunExistsError)


class Renewal(Exception):
    """A process has done its share of the trials; another one is to go on."""


class RunTuner(keras_tuner.Tuner):
    """A tuner of keras-tuner whose trials are runs in the folder of the search.

    Several machines may work in that folder. A trial that was begun goes on where its runs stand;
    those that are finished are not run again. No trial begins after `time_limit` seconds, and
    after `most` trials comes a `Renewal`. `options` are further arguments of `training.train`.
    """

    def __init__(self, config, folder, time_limit=math.inf, sizes=(), most=math.inf, **options):
        self._config, self._folder = config, folder
        self._left, self._options = most, options
        super().__init__(
            ORACLES[config.tuner](config, folder, time_limit, sizes),
            hypermodel=config.space(),
            directory=folder.parent,
            project_name=folder.name,
        )

    def save(self):
        """Write nothing; the records are there."""

    def run_trial(self, trial, *args, **kwargs):
        """Train the runs of a trial, and leave its outcome in its folder."""
        values = dict(trial.hyperparameters.values)
        folder = records.trial_folder(self._folder, trial.trial_id)
        try:
            outcome = records.read_outcome(self._folder, trial.trial_id, values)
            if outcome is None:
                for half_written in folder.glob(".outcome.*"):
                    half_written.unlink()
                outcome = self._outcome(values, folder)
                records.write_outcome(self._folder, trial.trial_id, values, outcome)
        except FATAL as error:
            raise keras_tuner.errors.FatalError(str(error)) from error
        if outcome.state != "finished":
            raise keras_tuner.errors.FailedTrialError(outcome.reason)
        return outcome.score

    def on_trial_end(self, trial):
        """End the process if this was the last trial of its share."""
        super().on_trial_end(trial)
        self._left -= 1
        if self._left == 0 or memory_in_use() > MEMORY:
            raise Renewal

    def _outcome(self, values, folder):
        results, scores = [], []
        for name, config in self._config.runs(values).items():
            try:
                results.append(self._train(config, folder / name))
            except FATAL:
                raise
            except DivergedError as error:
                return Outcome("diverged", str(error))
            except Exception as error:
                return Outcome("failed", f"{type(error).__name__}: {error}"[:1000])
            epochs = runs.load(folder / name).metrics[self._config.objective].astype(float)
            epochs = epochs[np.isfinite(epochs)]
            if epochs.empty:
                return Outcome("diverged", f"{self._config.objective} was never a finite number")
            scores.append(float(epochs.max() if self._config.maximize else epochs.min()))
        ratios = [r["gradient_ratio_end"] for r in results if r["gradient_ratio_end"] is not None]
        return Outcome(
            "finished",
            score=statistics.fmean(scores),
            scores=scores,
            parameters=results[0]["parameters"],
            gradient_ratio=statistics.median(ratios) if ratios else None,
            seconds=round(sum(result["seconds"] for result in results), 2),
        )

    def _train(self, config, folder):
        other = False
        if (folder / "config.json").exists():
            earlier = runs.load(folder).config
            if earlier is None:
                records.set_aside(folder)
            # The same number stands for another trial if its record was lost, and so its values.
            other = earlier is not None and earlier != config
        result = train(config, folder, overwrite=other, **self._options)
        # A search keeps numbers; --retrain makes the model of the best trial again.
        (folder / "model.keras").unlink(missing_ok=True)
        return result


def search_in(
    config: SearchConfig, folder: Path, *, on_message: Callable[[str], None] = print, **options
) -> None:
    """Search, or go on with a search, in this process; `options` are those of `RunTuner`.

    keras-tuner's environment variables make the process a chief or a worker of several. A
    ConfigError says that keras-tuner refuses a range, or that the records are of another search.
    """

    def damaged(path):
        on_message(f"'{path}' is damaged. It is set aside, and its trial is run again")
        records.set_aside(path)

    for path in folder.glob("*.json"):
        if path.name != "search.json":  # keras-tuner would take it for its own
            on_message(f"'{path}' is not of this search. It is set aside")
            records.set_aside(path)
    task = get_task(config.task)
    sizes = task.sizes(task.load(options.get("data_dir")))  # an error now, not in each trial
    try:
        tuner = RunTuner(config, folder, sizes=sizes, **options)
    except (ValueError, TypeError) as error:
        raise ConfigError(str(error)) from None
    if isinstance(tuner.oracle, Recorded):
        tuner.oracle.replay(records.read_all(folder, damaged))
    while True:
        try:
            return tuner.search(verbose=0)
        except keras_tuner.errors.FatalError as error:
            raise error.__cause__ or error from None
        except grpc.RpcError as error:
            # A chief that ends in the middle of a call. The next call waits for another one.
            if error.code() != grpc.StatusCode.UNAVAILABLE:
                raise
