"""The base of the callbacks that record some training steps: which ones, and to what files."""

import pathlib

from keras_deeplstm import validation
from keras_deeplstm.callbacks.tap_callback import TapCallback
from keras_deeplstm.callbacks.tensorboard import TensorBoardWriter


class StepRecorder(TapCallback):
    """Decides which steps are recorded, and writes the records at the end of each epoch.

    A subclass has `to_frame()`, and `write(writer)`, which hands what is new since its last call to
    a `TensorBoardWriter`, or to None.
    """

    def __init__(self, every, keep, tensorboard, csv):
        super().__init__()
        self.every = every
        if not (callable(every) or every == "epoch"):
            also = "'epoch' or a function"
            self.every = validation.positive_integer("every", every, or_else=also)
        self.keep = None if keep is None else validation.positive_integer("keep", keep)
        self.tensorboard = tensorboard
        self.csv = csv
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
        self.write(self._writer)
        if self.csv is not None:
            self._write_csv()

    def on_train_end(self, logs=None):
        """Close the tap: the model is as it was before."""
        self.write(None)
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        super().on_train_end(logs)

    def _write_csv(self):
        try:
            pathlib.Path(self.csv).parent.mkdir(parents=True, exist_ok=True)
            self.to_frame().to_csv(self.csv, index=False)
        except OSError as error:
            raise OSError(f"Cannot write logs to '{self.csv}': {error.strerror}") from error
