"""SignalFlow: activations, states and gates by layer and depth step, while a model trains."""

import pandas as pd
from keras import ops

from keras_deeplstm import validation
from keras_deeplstm.callbacks import signal_plots
from keras_deeplstm.callbacks.step_recorder import StepRecorder
from keras_deeplstm.callbacks.verdict import signal_verdict
from keras_deeplstm.diagnostics import signals


class SignalFlow(StepRecorder):
    """Record the forward signals of a model while `model.fit` runs.

    With a probe batch, `diagnostics.SignalProbe` measures after some of the training steps: norm,
    mean and spread of what each layer returns, and the share of dead units; of layers of this
    package also of their states at each depth step, and the shares of gates that are closed or
    open. The probe is a function of its own, in inference mode.

    Without one, the outputs of the layers are taken from the training step itself: those of its own
    batch, with dropout, before the step changes the weights. States and gates are not, since the
    kernels of a training step do not return them; nor are layers that run in a loop of the model's
    own, or are rematerialized. Replicas of a MirroredStrategy give the mean of their statistics.

    In both cases training is not changed: not its kernels, its weights, its random numbers.

    Args:
        x: The probe batch, as for `predict`; 64 examples tell enough. None: the batch of the
            training step.
        every: Which training steps to record, as for `GradientFlow`.
        layers: Names of the layers to record, as for `SignalProbe`; None: all.
        tensorboard: Folder for TensorBoard; None writes none.
        csv: File for `to_frame()` at the end of each epoch; None writes none.
        log: A function `(values, step)`, as for `GradientFlow`; a tag is
            "signal_open/block/f/depth_002".
        keep: Keep only so many recorded steps, the last ones; None: all.

    A second `fit` with the same callback goes on recording where the first ended.

    Raises:
        ValueError: An argument is out of its range; in `fit`: the model is not compiled, or has no
            layer of one of the names.
        RuntimeError: In `fit`, without a probe batch: the forward pass of a custom `train_step`
            cannot be seen.

    Example:

    >>> import keras, numpy as np
    >>> from keras_deeplstm import models
    >>> from keras_deeplstm.callbacks import SignalFlow
    >>> model = models.classifier((4,), 3, depth=5, units=8)
    >>> model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    >>> x, y = np.ones((8, 4)), np.arange(8) % 3
    >>> flow = SignalFlow(x[:4], every=10)
    >>> history = model.fit(x, y, batch_size=2, epochs=5, verbose=0, callbacks=[flow])
    >>> frame = flow.to_frame()
    >>> frame.step.unique().tolist()
    [1, 10, 20]
    >>> frame[frame.signal == "f"].statistic.unique().tolist()
    ['closed', 'open']
    >>> flow.plot("gates").get_xlabel()
    'depth (1: next to the input)'
    """

    def __init__(
        self, x=None, every=1, layers=None, tensorboard=None, csv=None, log=None, keep=None
    ):
        super().__init__(every, tensorboard, csv, log, keep)
        self.x = x
        self.layers = None if layers is None else validation.names("layers", layers)
        self.wants_forward = x is None
        self._probe = None
        self._records = []  # steps and their frames

    # The tap. With a probe batch it counts the steps, and is compiled into none of them.

    def is_due(self, steps):
        """Whether to record: here what the step returns, or the probe after it."""
        self._wanted = super().is_due(steps)
        return self._wanted and self.x is None

    def summarize(self, step):
        """Nothing is taken from the gradients."""
        return {}

    def summarize_forward(self, inputs, outputs):
        """The statistics of what the layers return; traced into the compiled step."""
        layers = signals.chosen_layers(self._model, self.layers)
        names = {id(layer): name for name, layer in layers.items()}
        seen = [
            (names[id(layer)], [{"output": signals.output_statistics(output)}])
            for layer, output in outputs
            if id(layer) in names
        ]
        self._rows, values = signals.flattened(seen)
        return {"outputs": values}

    def receive(self, steps, summary, logs):
        """Count the steps, and keep what was recorded without waiting for the device."""
        self.count(steps, self._wanted)
        if self.x is not None or summary is None:
            return
        if not summary:
            raise RuntimeError(
                f"The forward pass of the `train_step` of {self._model.name!r} cannot be seen. "
                "Pass a probe batch to SignalFlow"
            )
        self._keep((self._rows, summary["outputs"]))

    # Keras hooks, and what is written.

    def on_train_begin(self, logs=None):
        """Forget the compiled probe of an earlier model."""
        super().on_train_begin(logs)
        self._probe, self._wanted = None, False
        if self.model.built:  # a wrong name is an error now
            signals.chosen_layers(self.model, self.layers)

    def on_train_batch_end(self, batch, logs=None):
        """Measure, if this step is to be recorded."""
        if self._wanted and self.x is not None:
            self._wanted = False
            if self._probe is None:
                self._probe = signals.SignalProbe(self.model, self.x, self.layers)
            self._keep(self._probe.measure())

    def _keep(self, frame):
        self._records.append((self._step, frame))
        if self.keep is not None:
            del self._records[: -self.keep]

    def on_train_end(self, logs=None):
        """Close the tap: the model is as it was before."""
        super().on_train_end(logs)
        self._probe = None

    def _recorded(self):
        if self._records and self._records[-1][0] > self._step:
            # The last call of an epoch may have run fewer steps.
            self._records[-1] = self._step, self._records[-1][1]
        for i, (step, one) in enumerate(self._records):
            if isinstance(one, tuple):  # still on the device
                rows, values = one
                self._records[i] = step, signals.frame_of(rows, ops.convert_to_numpy(values))
        return self._records

    def _frame(self, records):
        columns = ["step", *signals.COLUMNS]
        if not records:
            return pd.DataFrame(columns=columns)
        frames = [frame.assign(step=step) for step, frame in records]
        return pd.concat(frames, ignore_index=True)[columns]

    # Checkpoints.

    def get_state(self):
        """Return what was recorded and how far it counted, for `set_state`; call between epochs."""
        return {"step": self._step, "frame": self.to_frame().to_dict("list")}

    def set_state(self, state):
        """Go on, in the next `fit`, where `get_state` was called.

        Args:
            state: What `get_state` has returned.
        """
        self._step, self._continues = state["step"], True
        frame = pd.DataFrame(state["frame"])
        by_step = frame.groupby("step", sort=False) if len(frame) else []
        self._records = [
            (step, one.drop(columns="step").reset_index(drop=True)) for step, one in by_step
        ]
        self._handed_on = self._step

    # Results.

    def to_frame(self):
        """Return what was recorded: `step`, and the columns of `SignalProbe.measure`."""
        return self._frame(self._recorded())

    def verdict(self):
        """Return one sentence: does the signal pass, and are gates stuck or units dead?"""
        return signal_verdict(self.to_frame())

    def plot(self, kind="depth", ax=None, **options):
        """Draw what was recorded.

        Args:
            kind: "depth" (norm of the hidden state against depth, or of a chain's outputs layer by
                layer, at several moments of training), "gates" (shares of closed and open gates
                against depth at the end) or "dead" (share of dead units over training).
            ax: Matplotlib axes; new ones by default.
            **options: Of the function of that name in `callbacks.signal_plots`.

        Returns:
            The axes.
        """
        validation.one_of("kind", kind, ("depth", "gates", "dead"))
        return getattr(signal_plots, f"plot_{kind}")(self.to_frame(), ax=ax, **options)
