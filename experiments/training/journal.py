"""The journal of a run: what it leaves behind after each epoch, and how it goes on from there."""

import math
import time

import keras
import numpy as np
import pandas as pd

from keras_deeplstm.experiments.runs import checkpoints, files


class DivergedError(Exception):
    """The loss, a weight, or what was measured in the end, is no longer a finite number."""


def check_finite(numbers: dict[str, float]) -> None:
    """Raise `DivergedError` unless all that was measured in the end, by name, is finite."""
    for name, value in numbers.items():
        if not math.isfinite(value):
            raise DivergedError(f"{name} is {value} after the training")


class Journal(keras.callbacks.Callback):
    """After each epoch: its row of `metrics.csv`, and a checkpoint if the time for one is there.

    Its arguments are those of `Session.resume`. What the recorders have recorded is part of a
    checkpoint.
    """

    def __init__(self, session, data, recorders, epoch_name):
        super().__init__()
        self.session, self.folder = session, session.folder
        self.data = data
        self.recorders = recorders
        self.epoch_name = epoch_name
        self.first = 0  # epochs that are behind when this process begins
        self.rows = []
        self.torch_rng = None  # to be set at the begin of the first epoch
        self.resumed_after = []  # epochs
        self.seconds = 0.0  # of training before this process
        self.started = self.saving = 0.0

    def restore(self, checkpoint: checkpoints.Checkpoint) -> None:
        """Put back what a checkpoint holds; the model must be set already."""
        for kind, variables in self._variables().items():
            arrays = [v for k, v in checkpoint.arrays.items() if k.startswith(f"{kind}/")]
            if [a.shape for a in arrays] != [tuple(v.shape) for v in variables]:
                raise checkpoints.CheckpointError(
                    f"State of the {kind} does not match: the checkpoint has {len(arrays)} "
                    f"variables, the {kind} has {len(variables)}, or they differ in shape. "
                    f"Training was not resumed"
                )
            for variable, array in zip(variables, arrays, strict=True):
                variable.assign(array)
        for name, recorder in self.recorders.items():
            if name not in checkpoint.notes:  # of a version that did not record this
                continue
            both = [(key.partition("/"), array) for key, array in checkpoint.arrays.items()]
            state = {key: array for (owner, _, key), array in both if owner == name}
            recorder.set_state(checkpoint.notes[name] | state)
        self.torch_rng = checkpoint.arrays.get("torch_rng")
        self.rows = checkpoint.notes["rows"]
        self.seconds = checkpoint.notes["seconds"]
        self.first = checkpoint.epoch
        self.resumed_after = [*checkpoint.notes["resumed_after"], checkpoint.epoch]

    def _variables(self):
        # Those of the model include the states of its seed generators; Keras' files do not.
        return {"model": self.model.variables, "optimizer": self.model.optimizer.variables}

    def elapsed(self) -> float:
        """Seconds of training so far, those of earlier processes included."""
        return self.seconds + time.perf_counter() - self.started

    def on_train_begin(self, logs=None):
        """Start the clock."""
        self.started = time.perf_counter()

    def on_epoch_begin(self, epoch, logs=None):
        """Put the data in this epoch's order."""
        self.data.set_epoch(epoch)
        if self.torch_rng is not None:
            import torch

            torch.set_rng_state(torch.from_numpy(self.torch_rng))
            self.torch_rng = None
        self.epoch_started = time.perf_counter()

    # At the begin of the next step the last one is finished. A hook at its end would make Keras
    # wait for the logs of every single step.
    def on_train_batch_begin(self, batch, logs=None):
        """Stop here if a signal came."""
        self.session.check_signals()

    on_test_batch_begin = on_train_batch_begin

    def on_epoch_end(self, epoch, logs=None):
        """Write the row, and a checkpoint if the last ones have not taken too long."""
        seconds = round(time.perf_counter() - self.epoch_started, 3)
        row = {"epoch": epoch + 1, "loss": logs["loss"], **logs, "seconds": seconds}
        self.rows.append(row)
        files.write_text(self.folder / "metrics.csv", pd.DataFrame(self.rows).to_csv(index=False))
        self.session.log_row(row)
        if not math.isfinite(row["loss"]):
            raise DivergedError(f"The loss became {row['loss']} in {self.epoch_name(epoch + 1)}")
        if self.saving <= self.session.share * (time.perf_counter() - self.started):
            started = time.perf_counter()
            self._save(epoch + 1)
            self.saving += time.perf_counter() - started
        if self.session.on_epoch is not None:
            self.session.on_epoch(row)

    def on_train_end(self, logs=None):
        """Look at the weights: the last checkpoint, before which they are, may be epochs back."""
        self._arrays(len(self.rows))

    def _arrays(self, epoch):
        """What a checkpoint holds of model and optimizer, if it is finite."""
        arrays = {
            f"{kind}/{number}": keras.ops.convert_to_numpy(variable)
            for kind, variables in self._variables().items()
            for number, variable in enumerate(variables)
        }
        for array in arrays.values():
            if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
                raise DivergedError(f"A weight became NaN or infinite in {self.epoch_name(epoch)}")
        return arrays

    def _save(self, epoch):
        arrays = self._arrays(epoch)
        if keras.backend.backend() == "torch":
            import torch

            # Keras draws from torch's own generator where a layer has no seed of its own.
            arrays["torch_rng"] = torch.get_rng_state().numpy()
        notes = {
            "rows": self.rows,
            "seconds": self.elapsed(),
            "resumed_after": self.resumed_after,
        }
        for name, recorder in self.recorders.items():
            state = recorder.get_state()
            notes[name] = {k: v for k, v in state.items() if not isinstance(v, np.ndarray)}
            arrays |= {f"{name}/{k}": v for k, v in state.items() if isinstance(v, np.ndarray)}
        checkpoints.save(self.folder / "checkpoints", epoch, arrays, notes)
