"""DivergenceGuard: stops a run that has gone wrong, and keeps its last good weights."""

import warnings

import keras
import numpy as np
from keras import ops

from keras_deeplstm import validation
from keras_deeplstm.callbacks.tap_callback import TapCallback
from keras_deeplstm.nested import named_layers


class DivergenceGuard(TapCallback):
    """Stop `model.fit` on NaN, infinity or a loss far above the first, with the good weights back.

    Every training step is watched: the loss that Keras reports (the mean of the epoch so far), what
    each layer returns, and all gradients. When loss or gradients go wrong, training stops, and
    weights and optimizer get the values that they had at the end of the last good epoch (or before
    the first). Put it before callbacks that save, such as `ModelCheckpoint`: what they then save at
    the end of the epoch is good.

    The layer that went wrong first is named: on the way forward the first one whose output is not
    finite, else, on the way back, the last one whose gradient is not.

    Gradients that are not finite are no divergence under dynamic loss scaling, which skips such
    steps: with a `LossScaleOptimizer` only the loss is watched.

    Args:
        factor: The loss counts as diverged above `factor` times the size of the first loss that is
            not 0.

    Attributes:
        diverged: Whether training was stopped.
        step: The training step at which it was, counted from 1; None if it was not.
        layer: Name of the layer that went wrong first; None if no layer did, or it was not seen:
            one in a loop of the model's own, or within a forward pass of a custom `train_step`.
        reason: Why, in words; "" if it was not.

    Raises:
        ValueError: `factor` is not a number above 1; in `fit`: the model is not compiled.

    Example:

    >>> import keras, numpy as np
    >>> from keras_deeplstm import models
    >>> from keras_deeplstm.callbacks import DivergenceGuard
    >>> model = models.classifier((4,), 3, depth=5, units=8)
    >>> model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    >>> x, y = np.full((8, 4), np.nan), np.zeros(8)
    >>> guard = DivergenceGuard()
    >>> history = model.fit(x, y, epochs=5, verbose=0, callbacks=[guard])
    >>> guard.diverged, guard.step, guard.reason, len(history.epoch)
    (True, 1, 'the loss is nan, and the inputs are not finite', 1)
    """

    wants_forward = True

    def __init__(self, factor=10.0):
        super().__init__()
        self.factor = validation.finite("factor", factor, positive=True)
        if self.factor <= 1:
            raise ValueError(f"Argument `factor` must be above 1. Received: factor={factor!r}")
        self._forget()

    def _forget(self):
        self.diverged, self.step, self.layer, self.reason = False, None, None, ""

    # The tap.

    def is_due(self, steps):
        """Every step is watched."""
        return True

    def summarize(self, step):
        """Which gradients are finite; traced into the compiled step."""
        self._paths = [v.path for v in step.variables]
        gradients = step.gradients
        if isinstance(step.optimizer, keras.optimizers.LossScaleOptimizer):
            gradients = []
        # A sum is finite only if all are; half precision could overflow in it.
        sums = [ops.sum(ops.cast(g, "float32")) for g in gradients]
        return {"gradients": _as_numbers(ops.isfinite(ops.stack(sums)))} if sums else {}

    def summarize_forward(self, inputs, outputs):
        """Whether inputs and outputs of the layers are finite; traced into the compiled step."""
        names = {id(layer): name for name, layer in named_layers(self._model).items()}
        self._layers = [names[id(layer)] for layer, _ in outputs]
        floats = [x for x in inputs if keras.backend.is_float_dtype(x.dtype)]
        finite = [ops.all(ops.isfinite(output)) for _, output in outputs]
        finite.insert(0, ops.all(ops.stack([ops.all(ops.isfinite(x)) for x in floats] or [True])))
        return {"forward": _as_numbers(ops.stack(finite))}

    def receive(self, steps, summary, logs):
        """Judge the step before: it is done by now, so that nobody waits for the device."""
        self._judge()
        self._step += steps
        self._waiting = (self._step, summary or {}, logs.get("loss"))

    def _judge(self):
        if self._waiting is None or self.diverged:
            return
        (step, summary, loss), self._waiting = self._waiting, None
        step = min(step, self._step)  # the last call of an epoch may have run fewer
        loss = None if loss is None else float(ops.convert_to_numpy(loss))
        forward, gradients = (
            ops.convert_to_numpy(summary[key]) == 1 if key in summary else np.ones(0, bool)
            for key in ("forward", "gradients")
        )
        layer = None
        if self._first_loss is None and loss:
            self._first_loss = abs(loss)
        if loss is not None and not abs(loss) < float("inf"):
            reason = f"the loss is {loss}"
            if len(forward) and not forward[0]:
                reason += ", and the inputs are not finite"
            elif not forward.all():
                layer = self._layers[forward.argmin() - 1]
                reason += f", and layer '{layer}' the first whose output is not finite"
            elif len(forward) > 1:
                reason += ", though all layers return finite values"
        elif not gradients.all():
            # It spreads from there to the layers below.
            path = [path for path, ok in zip(self._paths, gradients, strict=True) if not ok][-1]
            layer = path.rpartition("/")[0].rpartition("/")[-1] or None
            reason = f"the gradient of {path} is not finite"
        elif None not in (loss, self._first_loss) and loss > self.factor * self._first_loss:
            reason = f"the loss {loss:.4g} is above {self.factor:g} x {self._first_loss:.4g}"
        else:
            return
        self.diverged, self.step, self.layer, self.reason = True, step, layer, reason
        self._model.stop_training = True

    # When Keras calls.

    def on_train_begin(self, logs=None):
        """Start anew."""
        super().on_train_begin(logs)
        self._forget()
        self._waiting, self._first_loss, self._good, self._step = None, None, None, 0

    def on_epoch_begin(self, epoch, logs=None):
        """Keep the weights from before the first epoch."""
        super().on_epoch_begin(epoch, logs)
        if self._good is None and self.model.built:
            self._build_optimizer()
            self._keep("from before the first epoch")

    def on_epoch_end(self, epoch, logs=None):
        """Keep the weights of a good epoch; put those of the last good one back after a bad."""
        super().on_epoch_end(epoch, logs)
        self._judge()
        if not self.diverged:
            self._keep("of the last good epoch")
            return
        message = f"Training diverged in step {self.step}: {self.reason}."
        if self._good is None:
            message += " There are no earlier weights: the model was not built before."
        else:
            self._restore()
            message += f" The weights are those {self._good[0]}."
        warnings.warn(message, stacklevel=2)

    def _keep(self, when):
        variables = [*self.model.variables, *self.model.optimizer.variables]
        # Not a part of torch's graph, which could not be deep-copied.
        self._good = when, [(v, ops.copy(ops.stop_gradient(v))) for v in variables]

    def _restore(self):
        for variable, value in self._good[1]:
            variable.assign(value)

    def on_train_end(self, logs=None):
        """Close the tap: the model is as it was before."""
        if self.diverged and self._good is not None:
            # An optimizer with `use_ema` has put its averages in the place of the weights.
            self._restore()
        self._good = None
        super().on_train_end(logs)


def _as_numbers(truths):
    """0 and 1, of which a MirroredStrategy takes the means over its replicas."""
    return ops.cast(truths, "float32")
