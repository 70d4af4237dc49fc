"""The bases of the callbacks that record some training steps: which ones, and who reads them."""

import math
import pathlib

from keras_deeplstm import validation
from keras_deeplstm.callbacks.gradient_records import Records
from keras_deeplstm.callbacks.tap_callback import TapCallback
from keras_deeplstm.callbacks.tensorboard import TensorBoardWriter


class StepRecorder(TapCallback):
    """Decides which steps are recorded, and hands the records on at the end of each epoch.

    A subclass has `to_frame()`; `_recorded()`, a list of records, tuples that begin with the number
    of the step; and `_frame(records)`, the frame of some of them.
    """

    def __init__(self, every, tensorboard, csv, log, keep):
        super().__init__()
        self.every = every
        if not (callable(every) or every == "epoch"):
            also = "'epoch' or a function"
            self.every = validation.positive_integer("every", every, or_else=also)
        self.keep = None if keep is None else validation.positive_integer("keep", keep)
        self.tensorboard = tensorboard
        self.csv = csv
        if log is not None and not callable(log):
            validation.refuse("log", "a function of a dict and a step, or None", log)
        self.log = log
        self._handed_on = 0  # the last step whose record was
        self._step = None  # the optimizer's, before the first `fit`
        self._continues = False  # whether the next `fit` continues another one
        self._writer = None

    def is_due(self, steps):
        """Whether the last of the next `steps` training steps is to be recorded."""
        step = self._step + steps
        if callable(self.every):
            return bool(self.every(step))
        if self.every == "epoch":
            return not self._seen_in_epoch
        return not self._seen_in_fit or step // self.every > self._step // self.every

    def count(self, steps, recorded):
        """Count the steps that have run, the last of which was recorded or not."""
        self._step += steps
        if recorded:
            self._seen_in_epoch = self._seen_in_fit = True

    # Keras hooks.

    def on_train_begin(self, logs=None):
        """Start to count where this callback, or the optimizer, stands."""
        super().on_train_begin(logs)
        self._seen_in_fit, self._seen_in_epoch = self._continues, False
        self._continues = False
        if self._step is None:
            self._step = self._iterations()
        if self.csv is not None:
            self._write_csv()  # a file that cannot be written is an error now, not after an epoch
        if self.tensorboard is not None:
            self._writer = TensorBoardWriter(self.tensorboard)

    def on_epoch_begin(self, epoch, logs=None):
        """Remember where the epoch begins."""
        super().on_epoch_begin(epoch, logs)
        self._seen_in_epoch = False

    def on_epoch_end(self, epoch, logs=None):
        """Write what the epoch recorded."""
        super().on_epoch_end(epoch, logs)
        self._hand_on()
        if self.csv is not None:
            self._write_csv()

    def on_train_end(self, logs=None):
        """Close the tap: the model is as it was before."""
        self._hand_on()  # what a loop of one's own has not ended with an epoch
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        super().on_train_end(logs)

    def _hand_on(self):
        """Hand what is new to TensorBoard and to `log`, and return it."""
        new = [record for record in self._recorded() if record[0] > self._handed_on]
        self._handed_on = self._step  # before anything can fail: no step is handed on twice
        sinks = [self._writer and self._writer.scalars, self.log]
        sinks = [sink for sink in sinks if sink is not None]
        for step, values in by_step(self._frame(new)) if sinks else ():
            for sink in sinks:
                sink(values, step)
        return new

    def _write_csv(self):
        try:
            pathlib.Path(self.csv).parent.mkdir(parents=True, exist_ok=True)
            self.to_frame().to_csv(self.csv, index=False)
        except OSError as error:
            raise OSError(f"Cannot write logs to '{self.csv}': {error.strerror}") from error


class WeightRecorder(StepRecorder):
    """Keeps a record of weights, of `gradient_records`, for each recorded step."""

    def __init__(self, every, tensorboard, csv, log, keep):
        super().__init__(every, tensorboard, csv, log, keep)
        self._records = Records(self.keep)

    def _paths(self, variables):
        # Keras puts the name of some models, but not of all, before the names of their layers.
        paths, prefix = [v.path for v in variables], f"{self._model.name}/"
        if all(path.startswith(prefix) and path.count("/") > 1 for path in paths):
            return [path.removeprefix(prefix) for path in paths]
        return paths

    def _recorded(self):
        return self._records.fetch(last=self._step)

    def get_state(self):
        """Return what was recorded and how far it counted, for `set_state`; call between epochs.

        Returns:
            A dict: `step`, a number; `layouts`, nested lists that say which weights and statistics
            a record holds; NumPy arrays `steps` and `layout` with an entry for each record, and
            `values`, all their values one after the other.
        """
        self._recorded()
        return {"step": self._step, **self._records.get_state()}

    def set_state(self, state):
        """Go on, in the next `fit`, where `get_state` was called.

        That `fit` continues another one, so its first step is recorded only if it is due.

        Args:
            state: What `get_state` has returned.
        """
        self._step, self._continues = state["step"], True
        self._records.set_state(state)
        self._handed_on = self._step


def by_step(frame):
    """The scalars of a frame of `GradientFlow` or `SignalFlow`, as TensorBoard names them.

    Yields:
        `(step, values)` of each recorded step, in order: its number, and a dict from tags, such as
        "gradient_norm/block/kernel/depth_002" or "signal_open/block/f/depth_002", to floats.
    """
    kind, part = ("signal", "signal") if "signal" in frame else ("gradient", "weight")
    for step, rows in frame.groupby("step", sort=False):
        values = {}
        for row in rows.itertuples():
            place = f"{row.layer}/{getattr(row, part)}".removeprefix("/")  # of no layer
            tag = f"{kind}_{row.statistic}/{place}"
            if not math.isnan(row.depth):
                tag += f"/{getattr(row, 'direction', 'depth')}_{row.depth:03.0f}"
            values[tag] = row.value
        yield int(step), values
