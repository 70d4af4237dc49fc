"""When the callbacks that measure weights by epoch do so."""

import keras


class EpochCallback(keras.callbacks.Callback):
    """Measure before the first epoch of each `fit`, after each `every`-th and after the last.

    A subclass has `measure(epochs)`. What it returns stands in `_measured` by the number of epochs
    done. A `fit` that begins at epoch n drops what was measured from n on: it is another training.
    """

    def __init__(self, every):
        super().__init__()
        self.every = every
        self._measured = {}
        self._epochs = None  # done
        self._begins = self._continues = False

    def _continue(self, epochs, measured):
        """Go on, in the next `fit`, after `epochs`: nothing is measured twice."""
        self._epochs, self._measured, self._continues = epochs, measured, bool(measured)

    def on_train_begin(self, logs=None):
        """Begin, or go on where `set_state` said."""
        self._begins, self._continues = not self._continues, False

    def on_epoch_begin(self, epoch, logs=None):
        """Measure before the first epoch of this `fit`, unless it continues another one."""
        if self._begins:
            self._measured = {n: value for n, value in self._measured.items() if n < epoch}
            if self.model.built:  # on TensorFlow that may come with the first step
                self._measure(epoch)
        self._begins = False

    def on_epoch_end(self, epoch, logs=None):
        """Measure after each `every`-th epoch."""
        self._epochs = epoch + 1
        if self._epochs % self.every == 0:
            self._measure(self._epochs)

    def on_train_end(self, logs=None):
        """Measure after the last epoch."""
        if self._epochs is not None and self._epochs not in self._measured:
            self._measure(self._epochs)

    def _measure(self, epochs):
        self._measured[epochs] = self.measure(epochs)
