"""States of recurrent models that are passed in and out, or carried from batch to batch.

Keras' `stateful=True` keeps the states of a layer out of its variables. On JAX, where a compiled
step changes nothing but variables, `keras.layers.LSTM` therefore begins every batch with the same
state. Here states are ordinary inputs and outputs of a model, or ordinary variables of a layer, so
that every backend, checkpoint and compiled loop treats them as such.
"""

import keras
from keras import ops

from keras_deeplstm import validation
from keras_deeplstm.layers import PositionEmbedding
from keras_deeplstm.layers.configured_layer import ConfiguredLayer
from keras_deeplstm.layers.scan import with_rows

MAX_BATCH = 65_536


def with_states(model, inference=False):
    """A copy of a sequence model that takes the states of its layers, and returns the new ones.

    Two half sequences, the second with the states that the first one has left, give what the whole
    sequence gives, but for masked times at the begin of the second: they have no output before them
    to repeat, and give 0. Masks go from layer to layer as in the model.

    Args:
        model: A chain of layers, such as `models.character_language_model` returns: each takes the
            output of the one before. Weights are copied, not shared; `set_weights` with the other's
            `get_weights` makes the two equal again.
        inference: Whether the copy only serves to go on step by step: recurrent layers write their
            loops out and have no dropout. Keras' draw its random numbers at inference as well,
            which on JAX is not possible inside a loop.

    Returns:
        A `keras.Model` from `[inputs, *states]` to `[outputs, *states]`, the states in the order of
        the layers, each `(batch, units)`.

    Raises:
        ValueError: The model is no chain, or one of its layers is a model itself, reads sequences
            backwards or counts positions.

    Example:

    >>> from keras_deeplstm import models, states
    >>> model = models.character_language_model(65, block="lstm", depth=2, units=32)
    >>> [x.shape for x in states.with_states(model).inputs]
    [(None, None), (None, 32), (None, 32), (None, 32), (None, 32)]
    """
    layers = _chain(model)
    given = model.inputs[0]  # which a Sequential has, while it has no `input`
    x = inputs = keras.Input(given.shape[1:], dtype=given.dtype)
    before, after, mask = [], [], None
    for layer in layers:
        config, recurrent, seen = layer.get_config(), hasattr(layer, "get_initial_state"), x
        if recurrent:
            config |= {"return_state": True, "stateful": False}
            if inference:
                changes = {"unroll": True, "dropout": 0.0, "recurrent_dropout": 0.0}
                config |= {name: changes[name] for name in changes if name in config}
        layer = type(layer).from_config(config)
        if recurrent:
            states = [
                keras.Input(zeros.shape[1:], dtype=layer.compute_dtype)
                for zeros in layer.get_initial_state(1)
            ]
            # With states Keras does not hand the mask on by itself.
            x, *new = layer(x, initial_state=states, mask=mask)
            before += states
            after += new
        else:
            x = layer(x)
        mask = layer.compute_mask(seen, mask) if layer.supports_masking else None
        mask = mask[0] if isinstance(mask, list) else mask
    copy = keras.Model([inputs, *before], [x, *after])
    copy.set_weights(model.get_weights())
    return copy


def _chain(model):
    """The layers of a model in order, without its input."""
    inputs = getattr(model, "inputs", None) or [None]
    last = inputs[0] if len(inputs) == 1 else None
    # One that has grown by `add` has called its layers several times.
    sequential = isinstance(model, keras.Sequential) and last is not None
    layers = [x for x in model.layers if not isinstance(x, keras.layers.InputLayer)]
    for layer in layers:
        if getattr(layer, "layers", None):
            raise ValueError(
                f"Layer {layer.name!r} is a model itself, whose states would not be seen. The "
                f"model must be a chain of layers"
            )
        if isinstance(layer, PositionEmbedding):
            raise ValueError(
                f"Layer {layer.name!r} counts positions from the begin of each sequence, so that "
                f"no state can be carried from one to the next"
            )
        backwards = getattr(layer, "go_backwards", False)
        if backwards or isinstance(layer, keras.layers.Bidirectional):
            raise ValueError(
                f"Layer {layer.name!r} reads its sequences backwards, so that no state can be "
                f"carried from one to the next"
            )
        if sequential:
            continue
        if last is None or layer.input is not last:
            raise ValueError(
                f"The model must be a chain of layers, each taking the output of the one before. "
                f"This is not so for layer {layer.name!r} of model {model.name!r}"
            )
        last = layer.output
    return layers


@keras.saving.register_keras_serializable(package="keras_deeplstm")
class CarriedStates(ConfiguredLayer):
    """Runs a model of `with_states`, and carries its states from batch to batch.

    Row i of a batch goes on where row i of the batch before has ended, unless it begins anew.
    Training and evaluation have states of their own: an evaluation between two training steps
    changes nothing for the second one.

    Args:
        model: From `[inputs, *states]` to `[outputs, *states]`.
        batch_size: Number of sequences in every batch.
        **kwargs: `name`, ... of `keras.layers.Layer`.

    Call arguments:
        inputs: `(batch_size, ...)`, what the model takes.
        begins: Booleans `(batch_size,)`: the rows that begin with a state of zeros.
        training: Which of the two sets of states is carried, and what the model gets.

    Returns:
        The outputs of the model.

    Weights:
        Those of the model, and two sets of states, `(batch_size, units)` each, not trainable.

    Raises:
        ValueError: The model is none, or the batch size is no integer in 1 ... 65,536; when called:
            the inputs have another number of rows.

    Example:

    >>> import keras, numpy as np
    >>> from keras_deeplstm import models, states
    >>> model = models.character_language_model(65, block="lstm", depth=1, units=4)
    >>> carried = states.CarriedStates(states.with_states(model), batch_size=1)
    >>> text = np.array([[7, 8, 9, 10]])
    >>> first = carried(text[:, :2], begins=np.array([True]))
    >>> second = carried(text[:, 2:], begins=np.array([False]))
    >>> whole, halves = model(text), keras.ops.concatenate([first, second], axis=1)
    >>> tuple(halves.shape), bool(keras.ops.max(keras.ops.abs(whole - halves)) < 1e-6)
    ((1, 4, 65), True)
    """

    def __init__(self, model, batch_size, **kwargs):
        super().__init__(**kwargs)
        if not isinstance(model, keras.Model):
            raise ValueError(
                "Argument `model` must be a model of `with_states`. "
                f"Received: model={validation.shown(model)} (of type {type(model)})"
            )
        self.model = model
        self.batch_size = validation.positive_integer("batch_size", batch_size, MAX_BATCH)
        self.training_states, self.evaluation_states = (
            [
                self.add_weight(
                    shape=(batch_size, *state.shape[1:]),
                    initializer="zeros",
                    trainable=False,
                    name=f"{name}_state_{number}",
                )
                for number, state in enumerate(model.inputs[1:])
            ]
            for name in ("training", "evaluation")
        )

    def call(self, inputs, begins, training=False):
        """Apply the model to `(batch_size, ...)`, and keep its states."""
        carried = self.training_states if training else self.evaluation_states
        begins = ops.convert_to_tensor(begins)
        for name, given in (("inputs", inputs), ("begins", begins)):
            # One row would be broadcast over the states of all.
            if given.shape[0] not in (None, self.batch_size):
                raise ValueError(
                    f"Argument `{name}` must have batch_size={self.batch_size} rows. "
                    f"Received: {name}.shape={tuple(given.shape)}"
                )
        inputs = with_rows(inputs, self.batch_size)
        begins = ops.expand_dims(with_rows(begins, self.batch_size), -1)
        states = [ops.convert_to_tensor(state) for state in carried]
        states = [ops.where(begins, ops.zeros_like(state), state) for state in states]
        outputs, *states = self.model([inputs, *states], training=training)
        for variable, state in zip(carried, states, strict=True):
            variable.assign(state)
        return outputs

    def compute_output_shape(self, inputs_shape, begins_shape=None):
        """Shape of the model's outputs."""
        states = [state.shape for state in self.training_states]
        return self.model.compute_output_shape([inputs_shape, *states])[0]

    def get_config(self):
        """Return the arguments of the constructor."""
        return {
            **super().get_config(),
            "model": keras.saving.serialize_keras_object(self.model),
            "batch_size": self.batch_size,
        }

    @classmethod
    def from_config(cls, config):
        """The inverse of `get_config`; TypeError as `ConfiguredLayer.from_config`."""
        if not isinstance(config, dict) or "model" not in config:
            raise TypeError("Cannot load `CarriedStates`: its config has no model")
        model = keras.saving.deserialize_keras_object(config["model"])
        return super().from_config({**config, "model": model})
