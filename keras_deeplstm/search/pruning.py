"""Trials that end early because others were better by then."""

import keras
import optuna

from keras_deeplstm import validation
from keras_deeplstm.search.optuna_oracle import OptunaOracle


class PruningCallback(keras.callbacks.Callback):
    """Reports the objective of each epoch to the pruner of an `OptunaOracle`, and obeys it.

    A trial that is pruned ends with that epoch, and has a state of its own: it is neither among the
    best trials nor a failed one.

    Args:
        oracle: The `OptunaOracle`, with a pruner.

    Raises:
        ValueError: It is none, or has no pruner; after an epoch: the objective is none of the
            metrics.

    Example:

    >>> from keras_deeplstm.search import OptunaOracle, PruningCallback
    >>> oracle = OptunaOracle("val_loss", max_trials=20, pruner="median", seed=0)
    >>> callback = PruningCallback(oracle)  # for `tuner.search(..., callbacks=[callback])`
    """

    def __init__(self, oracle):
        super().__init__()
        if not isinstance(oracle, OptunaOracle):
            validation.refuse("oracle", "an OptunaOracle", oracle)
        if isinstance(oracle.study.pruner, optuna.pruners.NopPruner):
            raise ValueError("The oracle has no pruner, which `pruner` of `OptunaOracle` gives it")
        self.oracle = oracle

    def __deepcopy__(self, memo):
        """keras-tuner copies callbacks for each training: the oracle stays the same."""
        return type(self)(self.oracle)

    def on_epoch_end(self, epoch, logs=None):
        """Report, and end the training if the pruner wants it.

        Args:
            epoch: Its number, from 0.
            logs: The metrics of the epoch.

        Raises:
            ValueError: The objective is none of them.
        """
        name = self.oracle.objectives[0].name
        if name not in (logs or {}):
            raise ValueError(f"Objective {name!r} is none of the metrics: {sorted(logs or {})}")
        if self.oracle.report(float(logs[name]), epoch + 1, epoch + 1 < self.params["epochs"]):
            self.model.stop_training = True
