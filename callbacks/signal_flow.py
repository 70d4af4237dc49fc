"""SignalFlow: activations, states and gates by layer and depth step, on a probe batch."""

import pandas as pd

from keras_deeplstm import validation
from keras_deeplstm.callbacks import signal_plots
from keras_deeplstm.callbacks.step_recorder import StepRecorder
from keras_deeplstm.diagnostics import signals


class SignalFlow(StepRecorder):
    """Record the forward signals of a model on a fixed probe batch while `model.fit` runs.

    What `diagnostics.SignalProbe` measures, after some of the training steps: norm, mean and spread
    of what each layer returns, and the share of dead units; of layers of this package also of their
    states at each depth step, and the shares of gates that are closed or open. The probe is a
    function of its own, in inference mode: the training step, its kernels, the model's weights and
    its random numbers are not touched.

    Args:
        x: The probe batch, as for `predict`; 64 examples tell enough.
        every: After which training steps to record, as for `GradientFlow`.
        layers: Names of the layers to record; None: all.
        tensorboard: Folder for TensorBoard; None writes none.
        csv: File for `to_frame()` at the end of each epoch; None writes none.
        log: A function `(values, step)`, as for `GradientFlow`; a tag is
            "signal_open/block/f/depth_002".

    A second `fit` with the same callback goes on recording where the first ended.

    Raises:
        ValueError: An argument is out of its range; in `fit`: the model is not compiled, or has no
            layer of one of the names.

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

    def __init__(self, x, every=1, layers=None, tensorboard=None, csv=None, log=None):
        super().__init__(every, tensorboard, csv, log)
        self.x = x
        self.layers = None if layers is None else validation.names("layers", layers)
        self._probe = None
        self._records = []  # steps and their frames

    # The tap: it counts the steps, and none of them is compiled with anything in it.

    def is_due(self, steps):
        """Nothing is taken from the training step; note whether to measure after it."""
        self._wanted = super().is_due(steps)
        return False

    def summarize(self, step):
        """Nothing is taken from the training step."""
        return {}

    def receive(self, steps, summary, logs):
        """Count the steps."""
        self.count(steps, self._wanted)

    # Keras hooks, and what is written.

    def on_train_begin(self, logs=None):
        """Forget the compiled probe of an earlier model."""
        super().on_train_begin(logs)
        self._probe, self._wanted = None, False
        if self.model.built:
            self._make_probe()  # a wrong name is an error now

    def on_train_batch_end(self, batch, logs=None):
        """Measure, if this step is to be recorded."""
        if self._wanted:
            self._wanted = False
            if self._probe is None:
                self._make_probe()
            # Asking for `self.model` brings the weights up to date on JAX.
            self._probe.model = self.model
            self._records.append((self._step, self._probe.measure()))

    def _make_probe(self):
        self._probe = signals.SignalProbe(self.model, self.x, self.layers)

    def on_train_end(self, logs=None):
        """Close the tap: the model is as it was before."""
        super().on_train_end(logs)
        self._probe = None

    def _recorded(self):
        if self._records and self._records[-1][0] > self._step:
            # The last call of an epoch may have run fewer steps.
            self._records[-1] = self._step, self._records[-1][1]
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
        self._handed_on = len(self._records)

    # Results.

    def to_frame(self):
        """Return what was recorded: `step`, and the columns of `SignalProbe.measure`."""
        return self._frame(self._recorded())

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
