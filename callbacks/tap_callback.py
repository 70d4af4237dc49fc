"""The base of the callbacks that watch training steps through the tap: it counts the steps."""

import warnings

import keras
from keras import ops

from keras_deeplstm.callbacks.gradient_tap import GradientTap
from keras_deeplstm.callbacks.tapped_step import inner_optimizer
from keras_deeplstm.nested import leaf_layers


class TapCallback(keras.callbacks.Callback):
    """A callback that subscribes to the tap of its model for the time of each `fit`.

    A loop of one's own that calls a `keras.callbacks.CallbackList` is served too, if it calls
    `on_train_batch_begin` before each step.
    """

    wants_update = False  # whether it has a `summarize_update`
    wants_forward = False  # whether it has a `summarize_forward`

    def __init__(self):
        super().__init__()
        self._tap = None
        self._training = False
        self._step = 0  # training steps so far
        self._epoch_start = None  # number of steps and of the optimizer's iterations
        self.stepping = False  # whether the next step is one of a `fit` that calls this callback
        self.watched = False  # whether there was such a step

    def set_model(self, model):
        """Open the tap. `fit` calls this before it compiles the training step."""
        if self._tap is not None and self._tap.model is not model:
            self._tap.close(self)  # left by a fit of another model that raised
        super().set_model(model)
        self._tap = GradientTap.open(model, self)

    def on_train_begin(self, logs=None):
        """From here on it is `fit` that runs, whatever else `fit` calls."""
        self._training = True
        self.watched, self._epoch_start = False, None

    def on_epoch_begin(self, epoch, logs=None):
        """Remember where the epoch begins."""
        self._epoch_start = self._step, self._iterations()

    def on_train_batch_begin(self, batch, logs=None):
        """Watch the step, or the `steps_per_execution` steps, that `fit` runs next."""
        self.stepping = True

    def on_epoch_end(self, epoch, logs=None):
        """Count the steps that the last call of the epoch has run."""
        if self._epoch_start is None:
            return
        before, iterations = self._epoch_start
        steps = self._step - before
        if (self.params or {}).get("steps"):
            # After `stop_training` the epoch itself has fewer than these.
            steps = min(steps, self.params["steps"])
        elif self.model.steps_per_execution > 1 and not self._skips_steps:
            # Of data whose length is unknown only the optimizer knows how many steps there were.
            steps = min(steps, self._iterations() - iterations)
        self._step = before + steps

    def _build_optimizer(self):
        """Make the optimizer's variables, which TensorFlow would do in the first step."""
        # A subclassed model may call itself built before its layers have their weights.
        built = self.model.built and all(layer.built for layer in leaf_layers(self.model))
        if built and not self.model.optimizer.built:
            self.model.optimizer.build(self.model.trainable_variables)

    def _iterations(self):
        # A private attribute: while gradients are accumulated the public one counts their updates.
        return int(ops.convert_to_numpy(inner_optimizer(self.model.optimizer)._iterations))

    @property
    def _skips_steps(self):
        """Whether the optimizer leaves out steps whose gradients are not finite."""
        return isinstance(self.model.optimizer, keras.optimizers.LossScaleOptimizer)

    def on_train_end(self, logs=None):
        """Close the tap: the model is as it was before."""
        if self._epoch_start is not None and not self.watched:
            warnings.warn(
                f"{type(self).__name__} has seen no training step. A loop of your own has to call "
                "`on_train_batch_begin` of the callbacks before each `train_on_batch`",
                stacklevel=2,
            )
        self._training = False
        self._close()

    def on_test_end(self, logs=None):
        """Close the tap that `evaluate` had no use for."""
        self._close()

    def on_predict_end(self, logs=None):
        """Close the tap that `predict` had no use for."""
        self._close()

    def _close(self):
        if not self._training and self._tap is not None:
            self._tap.close(self)
            self._tap = None
