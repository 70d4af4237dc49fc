"""The tap: gradients of the actual training step, taken out of the compiled step.

How it works, on every backend: `train_step` returns summaries of the gradients as a private extra
output, and a wrapper round the compiled `train_function` pops it before `fit` sees the logs. Thus
there is no second backward pass, no variable is added to model or optimizer, and nothing shows up
in `History`, progress bar or checkpoints.

What is wrapped, on the instances and only during `fit`:

- the optimizer's `apply` (TensorFlow, torch) or `stateless_apply` (JAX), where gradients pass;
- the model's `train_step`, which adds the summaries to the logs it returns;
- the model's `make_train_function`. It makes two functions, the step with the tap and the step as
  it would be without, and each call takes the one that it needs: a step that nobody records costs
  nothing. Each is compiled only when it is first used;
- the model's `train_on_batch`, to tell a loop of one's own from a `fit`.

There is one tap per model. Callbacks subscribe to it, so that two of them do not undo each other.
A `fit` that raises leaves them subscribed, but they watch no step of a `fit` that does not call
them.
"""

import contextlib
import functools
import threading
import warnings
from typing import Any, NamedTuple

import keras
from keras import ops

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
        if not any(other is subscriber for other in tap._subscribers):
            tap._subscribers.append(subscriber)
        model.train_function = None  # to be compiled with this subscriber in it
        return tap

    def close(self, subscriber):
        """Remove `subscriber`; with the last one the model is as it was before."""
        self._subscribers = [other for other in self._subscribers if other is not subscriber]
        self.model.train_function = None
        if not self._subscribers and self.model.__dict__.get(_ATTRIBUTE) is self:
            self._remove()

    def __init__(self, model):
        self.model = model
        self._optimizer = model.optimizer
        self._jax = keras.backend.backend() == "jax"
        self._apply_name = "stateless_apply" if self._jax else "apply"
        self._subscribers = []
        # By the threads that trace a step: of a MirroredStrategy each replica is one, and they take
        # turns in the middle of a step.
        self._summaries = {}
        self._on_batch = False
        self._apply = getattr(model.optimizer, self._apply_name)
        self._train_step = model.train_step
        self._make_train_function = model.make_train_function
        self._train_on_batch = model.train_on_batch
        # Past Keras' attribute tracking: these are no parts of the model.
        object.__setattr__(model.optimizer, self._apply_name, self._tapped_apply)
        self._set_train_step(True)
        object.__setattr__(model, "make_train_function", self._tapped_make_train_function)
        object.__setattr__(model, "train_on_batch", self._tapped_train_on_batch)
        object.__setattr__(model, _ATTRIBUTE, self)

    def _remove(self):
        object.__delattr__(self._optimizer, self._apply_name)
        for name in ("train_step", "make_train_function", "train_on_batch", _ATTRIBUTE):
            object.__delattr__(self.model, name)
        self.model.train_function = None

    def _tapped_train_on_batch(self, *args, **kwargs):
        self._on_batch = True
        try:
            return self._train_on_batch(*args, **kwargs)
        finally:
            self._on_batch = False

    def _tapped_make_train_function(self, force=False):
        if not self._on_batch:  # a `fit` begins, perhaps of other callbacks
            for subscriber in self._subscribers:
                subscriber.stepping = False
        if self.model.train_function is not None and not force:
            return
        functions = {}
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
        thread = threading.get_ident()
        self._summaries[thread] = None
        try:
            result = self._train_step(*args, **kwargs)
        finally:
            summaries = self._summaries.pop(thread)
        if not self.model.trainable_variables:
            warnings.warn(
                f"Model {self.model.name!r} has no trainable variables: there are no gradients",
                stacklevel=2,
            )
            return result
        if summaries is None:
            raise RuntimeError(
                f"The `train_step` of {self.model.name!r} did not call "
                f"`self.optimizer.{self._apply_name}`, so that its gradients cannot be watched"
            )
        logs = result[0] if self._jax else result
        logs = {**logs, KEY: summaries}
        return (logs, *result[1:]) if self._jax else logs

    def _tapped_apply(self, *args, **kwargs):
        thread = threading.get_ident()
        if thread not in self._summaries:
            return self._apply(*args, **kwargs)
        if self._summaries[thread] is not None:
            raise RuntimeError(
                f"The `train_step` of {self.model.name!r} applies gradients more than once, so "
                "that it is not clear which are its gradients"
            )
        step = self._tapped(*args, **kwargs)
        summaries = {str(i): s.summarize(step) for i, s in enumerate(self._subscribers)}
        self._summaries[thread] = summaries
        updated = {str(i): s for i, s in enumerate(self._subscribers) if s.wants_update}
        if not updated:
            return self._apply(*args, **kwargs)
        before = [ops.copy(value) for value in step.values]
        with _before_averaging(self._optimizer, step.variables) as values:
            result = self._apply(*args, **kwargs)
        if not values:
            values = [result[0][i] for i in step.numbers] if self._jax else step.variables
        step = step._replace(values=before)
        for i, subscriber in updated.items():
            summaries[i] |= subscriber.summarize_update(step, values)
        return result

    def _tapped(self, *args, **kwargs):
        if self._jax:
            names = ("optimizer_variables", "grads", "trainable_variables")
        else:
            names = ("grads", "trainable_variables")
        given = {**dict(zip(names, args, strict=False)), **kwargs}
        gradients = list(given["grads"])
        variables = list((not self._jax and given.get("trainable_variables")) or [])
        variables = variables or list(self.model.trainable_variables)
        if len(gradients) != len(variables):
            raise RuntimeError(
                f"The `train_step` of {self.model.name!r} hands {len(gradients)} gradients to the "
                f"optimizer, but {len(variables)} variables are trainable: they cannot be told "
                "apart"
            )
        scope = functools.partial(self._scope, given.get("optimizer_variables"))
        with scope():
            # What the loss was multiplied by: `loss_scale_factor`, or a dynamic scale.
            scale = self._optimizer.scale_loss(1.0)
        values = given["trainable_variables"] if self._jax else variables
        # With overwrite_with_gradient, what arrives is a new value, not a gradient.
        numbers = [
            i
            for i, (variable, gradient) in enumerate(zip(variables, gradients, strict=True))
            if gradient is not None and not variable.overwrite_with_gradient
        ]
        return TappedStep(
            self._optimizer,
            numbers,
            [variables[i] for i in numbers],
            [values[i] for i in numbers],
            [_true_gradient(gradients[i], scale) for i in numbers],
            scope,
        )

    def _scope(self, optimizer_variables):
        if optimizer_variables is None:
            return contextlib.nullcontext()
        mapping = zip(self._optimizer.variables, optimizer_variables, strict=True)
        return keras.StatelessScope(state_mapping=list(mapping))


class TappedStep(NamedTuple):
    """A training step that is about to be applied, in the training step that is being traced.

    Attributes:
        optimizer: The optimizer.
        numbers: The places of the variables below among all trainable ones.
        variables: The trainable variables that have a gradient.
        values: Their values before the step.
        gradients: Their true gradients: loss scale divided out, duplicate rows of sparse gradients
            summed, replicas all-reduced.
        scope: A function to a context in which the optimizer's variables have their values.
    """

    optimizer: Any
    numbers: list
    variables: list
    values: list
    gradients: list
    scope: Any


def inner_optimizer(optimizer):
    """The optimizer itself, or the one that a `LossScaleOptimizer` wraps."""
    return getattr(optimizer, "inner_optimizer", optimizer)


@contextlib.contextmanager
def _before_averaging(optimizer, variables):
    """The values that a step gives the variables, before it puts their averages in their place.

    With `ema_overwrite_frequency` the optimizer does that at some steps. The values come in a list,
    which stays empty if no step does it, and within a `LossScaleOptimizer`: on TensorFlow that runs
    the step as a branch, out of which no value comes.
    """
    values = []
    if not (optimizer.use_ema and optimizer.ema_overwrite_frequency):
        yield values
        return
    # A private method: nothing that is public is called between the step and the averages.
    name = "_update_model_variables_moving_average"
    update = getattr(optimizer, name)

    def observed(trainable_variables):
        for variable in variables:
            value = ops.copy(variable)
            values.append(variable.constraint(value) if variable.constraint else value)
        return update(trainable_variables)

    object.__setattr__(optimizer, name, observed)
    try:
        yield values
    finally:
        object.__delattr__(optimizer, name)


def _true_gradient(gradient, scale):
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        # Of an embedding: rows with their indices, some of them more than once. Dense sums them.
        gradient = tf.convert_to_tensor(gradient)
        replica = tf.distribute.get_replica_context()
        if replica is not None and replica.num_replicas_in_sync > 1:
            # Keras divides the loss of each replica by their number.
            gradient = replica.all_reduce(tf.distribute.ReduceOp.SUM, gradient)
    if isinstance(scale, float) and scale == 1.0:
        return gradient
    return ops.divide(gradient, ops.cast(scale, gradient.dtype))
