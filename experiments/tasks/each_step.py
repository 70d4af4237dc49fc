"""Loss and metric of tasks in which each step of a model over depth has a target of its own.

Targets are 0 or 1, `(batch, steps, numbers)`; a model gives logits of as many steps, or fewer.
"""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_deeplstm")
class FirstSteps(keras.losses.Loss):
    """Binary cross-entropy of the first steps; the others are free."""

    def __init__(self, steps, name="first_steps", **kwargs):
        super().__init__(name=name, **kwargs)
        self.steps = steps

    def call(self, y_true, y_pred):
        """A loss for each example and step, `(batch, steps)`."""
        true, told = y_true[:, : self.steps], y_pred[:, : self.steps]
        return keras.losses.binary_crossentropy(true, told, from_logits=True)

    def get_config(self):
        """Return the arguments of the constructor."""
        return {**super().get_config(), "steps": self.steps}


@keras.saving.register_keras_serializable(package="keras_deeplstm")
class ExactMatchAtLastStep(keras.metrics.Mean):
    """The share of examples with all numbers right at the last step of the model."""

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Count a batch."""
        steps = y_pred.shape[1]
        right = ops.equal(y_pred[:, steps - 1] > 0, y_true[:, steps - 1] > 0.5)
        return super().update_state(ops.all(right, axis=-1), sample_weight)
