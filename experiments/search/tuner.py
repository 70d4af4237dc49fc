"""A tuner of keras-tuner whose trials are runs."""

import statistics
from collections.abc import Callable
from pathlib import Path

import grpc
import keras_tuner
import numpy as np

from keras_deeplstm import search
from keras_deeplstm.experiments import runs
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

    A trial that was begun goes on where its runs stand; those that are finished are not run again.

    Args:
        config: The search.
        folder: Its folder, in which several machines may work at once.
        data_dir: Folder with data sets.
        time_limit: No trial begins after this many seconds.
        sizes: Input shape and number of classes, if only the data tell; see `Task.sizes`.
        most: Raise `Renewal` after this many trials.
        **options: Further arguments of `training.train`.
    """

    def __init__(
        self,
        config: SearchConfig,
        folder: Path,
        data_dir: Path | None = None,
        time_limit: float | None = None,
        sizes: tuple[tuple[int, ...], int] | None = None,
        most: int | None = None,
        **options,
    ):
        self._left = most
        self._config = config
        self._folder = folder
        self._options = {"data_dir": data_dir, **options}
        super().__init__(
            ORACLES[config.tuner](config, folder, time_limit, sizes),
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
        if self._left is not None:
            self._left -= 1
            if not self._left:
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
        Renewal: This process has done its share; only with the option `most`.
        OSError: Something could not be written.
        Interrupted: SIGINT or SIGTERM came.
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
