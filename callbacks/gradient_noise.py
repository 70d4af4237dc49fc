"""GradientNoise: how large the noise of the gradient is, from consecutive training steps."""

import functools
import math

import numpy as np
from keras import ops

from keras_deeplstm.callbacks import gradient_plots
from keras_deeplstm.callbacks.gradient_records import frame_of, weight_of
from keras_deeplstm.callbacks.gradient_tables import noise_scale
from keras_deeplstm.callbacks.step_recorder import WeightRecorder

STATISTICS = ("signal", "noise")


class GradientNoise(WeightRecorder):
    """Estimate the gradient noise scale while `model.fit` runs, without per-sample gradients.

    The simple noise scale of McCandlish et al. (arXiv 1812.06162, section 2.2) is the batch size at
    which the noise of a gradient is as large as the gradient itself: `tr(S) / |G|^2`, where G is
    the true gradient and S the covariance of the gradients of single examples. A batch much smaller
    than that averages little noise away; of one much larger, most examples are spent for little.

    Two consecutive steps with the gradients g1, g2 and the batch sizes B1, B2 give an estimate of
    both without bias (appendix A.1 there, with the two batches as small ones and their union as the
    large one), as long as the weights hardly change in between:

        |G|^2 = g1 . g2,    tr(S) = |g1 - g2|^2 / (1/B1 + 1/B2)

    A single pair tells little: sums over many pairs are divided (`noise_scale`).

    What it cannot say: the best batch size, which also depends on curvature and optimizer, and is
    larger late in training. It is too large where a step changes the gradient itself, at high
    learning rates, and where a batch is no small part of the data. With dropout the noise of the
    masks is in it. It counts examples, not time steps.

    The gradients are those that `GradientFlow` sees. Both gradients of a pair stay on the device
    until the second one is there; training is not changed.

    Args:
        every: At which training steps a pair begins, as for `GradientFlow`.
        tensorboard, csv, log, keep: As for `GradientFlow`.

    Raises:
        ValueError: An argument is out of its range; in `fit`: the model is not compiled, or has
            `steps_per_execution` above 1, of which only the last step can be seen.

    Example:

    >>> import keras, numpy as np
    >>> from keras_deeplstm.callbacks import GradientNoise
    >>> x = np.array([[1.0], [1.0], [1.0], [3.0]])
    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    >>> model.compile(keras.optimizers.SGD(0.0), "mse")
    >>> model.set_weights([np.ones((1, 1))])
    >>> noise = GradientNoise()
    >>> history = model.fit(x, 0 * x, batch_size=2, shuffle=False, verbose=0, callbacks=[noise])
    >>> noise.to_frame()[["step", "weight", "statistic", "value"]].values.tolist()
    [[2, 'kernel', 'signal', 20.0], [2, 'kernel', 'noise', 64.0]]
    >>> noise.noise_scale()  # in examples
    3.2
    """

    def __init__(self, every=1, tensorboard=None, csv=None, log=None, keep=None):
        super().__init__(every, tensorboard, csv, log, keep)
        self._weights, self._axes = [], []
        self._first = None  # of a pair: the gradients, and the size of their batch
        self._begins = False

    # The tap.

    def is_due(self, steps):
        """Whether the next step is one of a pair."""
        if steps > 1:
            raise ValueError(
                "GradientNoise needs consecutive steps, of which `steps_per_execution` hides some. "
                f"Received: steps_per_execution={steps}"
            )
        self._begins = super().is_due(steps)
        return self._begins or self._first is not None

    def summarize(self, step):
        """The gradients themselves, and the batch size; traced into the compiled step."""
        measured = list(map(weight_of, self._paths(step.variables), step.variables))
        self._weights, self._axes = [w for w, _ in measured], [axes for _, axes in measured]
        gradients = {str(i): ops.cast(g, "float32") for i, g in enumerate(step.gradients)}
        return {**gradients, "batch_size": ops.cast(step.batch_size, "float32")}

    def receive(self, steps, summary, logs):
        """Compare the second step of a pair with the first, without waiting for the device."""
        self.count(steps, recorded=self._begins)
        first, self._first = self._first, None
        if not summary:
            return
        if first is not None:
            entries, tensors = [], []
            share = 1 / first["batch_size"] + 1 / summary["batch_size"]
            for i, axes in enumerate(self._axes):
                g1, g2 = first[str(i)], summary[str(i)]
                total = functools.partial(ops.sum, axis=axes)
                values = total(g1 * g2), total(ops.square(g1 - g2)) / share
                for name, value in zip(STATISTICS, values, strict=True):
                    entries.append((i, name, tuple(value.shape)))
                    tensors.append(ops.reshape(value, (-1,)))
            self._records.add(self._step, self._weights, entries, tensors)
        if self._begins:
            self._first = summary

    # Keras hooks, and what is handed on.

    def on_train_begin(self, logs=None):
        """Begin with the first step of a pair."""
        super().on_train_begin(logs)
        self._first = None

    def on_train_end(self, logs=None):
        """Let go of the gradients that still wait for a second step."""
        super().on_train_end(logs)
        self._first = None

    def _frame(self, records):
        return frame_of(records, STATISTICS)

    # Results.

    def to_frame(self):
        """Return what was recorded, the columns of `GradientFlow.to_frame`.

        `step` is that of the second step of a pair; the statistics are "signal", the estimate of
        |G|^2, which may be negative, and "noise", that of tr(S), of each weight and depth step.
        """
        return self._frame(self._recorded())

    def noise_scale(self):
        """Return the noise scale at the end of training, in examples.

        That of the last tenth of the recorded pairs; NaN if their signal is not above 0: then the
        noise drowns the gradient.
        """
        scales = noise_scale(self.to_frame())
        return float(scales.noise_scale.iloc[-1]) if len(scales) else math.nan

    def verdict(self):
        """Return one sentence: how large is the noise of the gradient?"""
        scales = noise_scale(self.to_frame())
        if scales.empty:
            return "No pairs of consecutive steps were recorded."
        last = scales.iloc[-1]
        pairs = f"{last.pairs:.0f} pair{'' if last.pairs == 1 else 's'} of steps"
        if np.isnan(last.noise_scale):
            return f"The gradient is lost in its noise: by {pairs} it is not above 0."
        return f"The gradient noise scale is {last.noise_scale:.3g} examples, by {pairs}."

    def plot(self, ax=None):
        """Draw the noise scale over training.

        Args:
            ax: Matplotlib axes; new ones by default.

        Returns:
            The axes.
        """
        return gradient_plots.plot_noise(self.to_frame(), ax=ax)
