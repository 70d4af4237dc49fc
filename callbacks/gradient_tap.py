"""The tap: gradients of the actual training step, taken out of the compiled step.

How it works, on every backend: `train_step` returns summaries of the gradients as a private extra
output, and a wrapper round the compiled `train_function` pops it before `fit` sees the logs. Thus
there is no second backward pass, no variable is added to model or optimizer, and nothing shows up
in `History`, progress bar or checkpoints.

What is wrapped, on the instances and only during `fit`:

- the optimizer's `apply` (TensorFlow, torch) or `stateless_apply` (JAX), where gradients pass;
- the model's `train_step`, which adds the summaries to the logs it returns;
- on JAX the model's `compute_loss_and_updates`: what is taken from the forward pass leaves the
  differentiated function at the end of the non-trainable variables;
- the model's `make_train_function`. It makes two functions, the step with the tap and the step as
  it would be without, and each call takes the one that it needs: a step that nobody records costs
  nothing. Each is compiled only when it is first used;
- the model's `train_on_batch`, to tell a loop of one's own from a `fit`.

There is one tap per model. Callbacks subscribe to it, so that two of them do not undo each other.
A `fit` that raises leaves them subscribed, but they watch no step of a `fit` that does not call
them, and go when one begins that calls others.
"""

import contextlib
import threading
import warnings

import keras
from keras import ops

from keras_deeplstm.callbacks.layer_outputs import LayerOutputs
from keras_deeplstm.callbacks.tapped_step import before_averaging, tapped_step
from keras_deeplstm.diagnostics.untouched import replaced

KEY = "__keras_deeplstm_gradients__"
_ATTRIBUTE = "_keras_deeplstm_tap"


class GradientTap:
    """The one tap of a model; see the module's text.

    A subscriber is a `TapCallback`, of which the tap reads and sets `stepping` and `watched`, with
    these methods:

    - `is_due(steps)` is asked before each call of the train function by a `fit` that calls the
      callback. That runs `steps` training steps (`steps_per_execution`): are the gradients of the
      last of them wanted?
    - `summarize(step)` is traced into the compiled step, where it is about to be applied; see
      `TappedStep`. It returns a dict of tensors;
    - `summarize_update(step, values)`, if its `wants_update` is true, is traced after the step,
      with the values that it has given `step.variables`. It returns a dict, too;
    - `summarize_forward(inputs, outputs)`, if its `wants_forward` is true, is traced after the
      forward pass, with the tensors of x and the list of `LayerOutputs.watched`. It returns a dict,
      too. It is not called if a custom `train_step` has a forward pass that cannot be seen;
    - `receive(steps, summary, logs)` is called after each such call, with these tensors, on the
      device, or None where nothing was due, and with the step's logs.
    """

    @classmethod
    def open(cls, model, subscriber):
        """Return the tap of `model`, created if there is none, with `subscriber` added to it."""
        if getattr(model, "optimizer", None) is None:
            raise ValueError(
                "The model must be compiled before its gradients can be watched: call `compile()` "
                f"first. Received: model={model.name!r}"
            )
        tap = model.__dict__.get(_ATTRIBUTE)
        if tap is not None and tap._optimizer is not model.optimizer:
            tap._remove()  # left by a fit that raised, before the model was compiled again
            tap = None
        tap = tap or cls(model)
        tap._subscribers = [*tap._without(subscriber), subscriber]
        tap._opened.append(subscriber)
        tap._stale = True
        return tap

    def close(self, subscriber):
        """Remove `subscriber`; with the last one the model is as it was before."""
        self._subscribers = self._without(subscriber)
        self._stale = True
        if not self._subscribers and self.model.__dict__.get(_ATTRIBUTE) is self:
            self._remove()

    def _without(self, subscriber):
        return [other for other in self._subscribers if other is not subscriber]

    def __init__(self, model):
        self.model = model
        self._optimizer = model.optimizer
        self._jax = keras.backend.backend() == "jax"
        self._apply_name = "stateless_apply" if self._jax else "apply"
        self._subscribers = []
        self._opened = []  # those that have come since a `fit` began
        self._stale = self._made = False  # has the train function other subscribers? is it ours?
        # By the threads that trace a step: of a MirroredStrategy each replica is one, and they take
        # turns in the middle of a step.
        self._running = {}
        self._outputs = LayerOutputs(model)
        self._on_batch = False
        self._apply = getattr(model.optimizer, self._apply_name)
        self._train_step = model.train_step
        self._make_train_function = model.make_train_function
        self._train_on_batch = model.train_on_batch
        methods = {
            "train_step": self._tapped_train_step,
            "make_train_function": self._tapped_make_train_function,
            "train_on_batch": self._tapped_train_on_batch,
            _ATTRIBUTE: self,
        }
        if self._jax:
            self._compute_loss = model.compute_loss_and_updates
            methods["compute_loss_and_updates"] = self._tapped_compute_loss
        self._replaced = contextlib.ExitStack()
        self._replaced.enter_context(replaced(model, **methods))
        apply = {self._apply_name: self._tapped_apply}
        self._replaced.enter_context(replaced(self._optimizer, **apply))

    def _remove(self):
        self._replaced.close()
        if self._made:
            self.model.train_function = None

    def _tapped_train_on_batch(self, *args, **kwargs):
        self._on_batch = True
        try:
            return self._train_on_batch(*args, **kwargs)
        finally:
            self._on_batch = False

    def _tapped_make_train_function(self, force=False):
        if not self._on_batch:  # a `fit` begins
            if self._opened:  # with these callbacks; others are left by one that raised
                self._subscribers = [s for s in self._subscribers if s in self._opened]
                self._opened = []
            for subscriber in self._subscribers:
                subscriber.stepping = False
        if self.model.train_function is not None and not (force or self._stale):
            return
        functions, self._stale, self._made = {}, False, True
        for due in (False, True):
            self._set_train_step(due)
            self._make_train_function(True)
            functions[due] = self.model.train_function

        def train_function(*args, **kwargs):
            steps = self.model.steps_per_execution
            watching = {str(i): s for i, s in enumerate(self._subscribers) if s.stepping}
            for subscriber in watching.values():
                subscriber.stepping = False
                subscriber.watched = True
            due = {i for i, subscriber in watching.items() if subscriber.is_due(steps)}
            self._set_train_step(bool(due))  # torch looks it up at each call
            result = functions[bool(due)](*args, **kwargs)
            logs = result[0] if self._jax else result
            summaries = logs.pop(KEY, {})
            for i, subscriber in watching.items():
                subscriber.receive(steps, summaries.get(i) if i in due else None, logs)
            return result

        self.model.train_function = train_function

    def _set_train_step(self, tapped):
        step = self._tapped_train_step if tapped else self._train_step
        object.__setattr__(self.model, "train_step", step)

    def _tapped_train_step(self, *args, **kwargs):
        if self.model.optimizer is not self._optimizer:
            return self._train_step(*args, **kwargs)  # compiled anew since; this tap is dead
        running = _RunningStep(_inputs_of(args[-1] if args else kwargs["data"]))
        outputs = contextlib.nullcontext() if self._jax else self._watched_outputs()
        thread = threading.get_ident()
        self._running[thread] = running
        try:
            with outputs as seen:
                result = self._train_step(*args, **kwargs)
        finally:
            del self._running[thread]
        if seen is not None:
            running.add(self._summarize_forward(running.inputs, seen))
        if self._jax:
            logs, (trainable, others, *state) = result
            if others and isinstance(others[-1], dict):  # from `_tapped_compute_loss`
                *others, summaries = others
                running.add(summaries)
            result = logs, (trainable, others, *state)
        if not self.model.trainable_variables:
            warnings.warn(
                f"Model {self.model.name!r} has no trainable variables: there are no gradients",
                stacklevel=2,
            )
        elif not running.applied:
            raise RuntimeError(
                f"The `train_step` of {self.model.name!r} did not call "
                f"`self.optimizer.{self._apply_name}`, so that its gradients cannot be watched"
            )
        if not running.summaries:
            return result
        logs = result[0] if self._jax else result
        logs = {**logs, KEY: running.summaries}
        return (logs, *result[1:]) if self._jax else logs

    def _watched_outputs(self):
        wanted = any(subscriber.wants_forward for subscriber in self._subscribers)
        return self._outputs.watched() if wanted else contextlib.nullcontext()

    def _summarize_forward(self, inputs, outputs):
        return {
            str(i): subscriber.summarize_forward(inputs, outputs)
            for i, subscriber in enumerate(self._subscribers)
            if subscriber.wants_forward
        }

    def _tapped_compute_loss(self, *args, **kwargs):
        running = self._running.get(threading.get_ident())
        with self._watched_outputs() if running else contextlib.nullcontext() as outputs:
            loss, aux = self._compute_loss(*args, **kwargs)
        if outputs is None or len(aux) != 4:  # Keras' method, or one of the user's own?
            return loss, aux
        unscaled_loss, y_pred, others, metrics = aux
        others = [*others, self._summarize_forward(running.inputs, outputs)]
        return loss, (unscaled_loss, y_pred, others, metrics)

    def _tapped_apply(self, *args, **kwargs):
        running = self._running.get(threading.get_ident())
        if running is None:
            return self._apply(*args, **kwargs)
        if running.applied:
            raise RuntimeError(
                f"The `train_step` of {self.model.name!r} applies gradients more than once, so "
                "that it is not clear which are its gradients"
            )
        running.applied = True
        step = tapped_step(self.model, running.inputs, *args, **kwargs)
        running.add({str(i): s.summarize(step) for i, s in enumerate(self._subscribers)})
        updated = {str(i): s for i, s in enumerate(self._subscribers) if s.wants_update}
        if not updated:
            return self._apply(*args, **kwargs)
        before = [ops.copy(value) for value in step.values]
        with before_averaging(self._optimizer, step.variables) as values:
            result = self._apply(*args, **kwargs)
        if not values:
            values = [result[0][i] for i in step.numbers] if self._jax else step.variables
        step = step._replace(values=before)
        running.add({i: s.summarize_update(step, values) for i, s in updated.items()})
        return result


class _RunningStep:
    """What a thread has seen of the training step that it traces, or on torch runs."""

    def __init__(self, inputs):
        self.inputs = inputs
        self.applied = False  # whether gradients have been handed to the optimizer
        self.summaries = {}  # by the number of the subscriber

    def add(self, summaries):
        for i, summary in summaries.items():
            self.summaries[i] = {**self.summaries.get(i, {}), **summary}


def _inputs_of(data):
    """The tensors of x in what a `train_step` gets."""
    x = data[0] if isinstance(data, (tuple, list)) and data else data
    return [tensor for tensor in keras.tree.flatten(x) if tensor is not None]
