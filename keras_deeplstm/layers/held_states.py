"""States that a layer keeps from batch to batch, with `stateful=True`."""

import types

import keras
from keras import ops

from keras_deeplstm.layers.masks import agree


def in_turn(h, c, depth):
    """`[h_1, c_1, h_2, c_2, ...]` of states that are stacked over so many layers."""
    pairs = zip(*(ops.unstack(state, num=depth, axis=0) for state in (h, c)), strict=True)
    return [state for pair in pairs for state in pair]


class HeldStates:
    """Mixin of a layer with the attributes `stateful`, `units` and `depth`."""

    _held = types.SimpleNamespace(states=None)  # with `stateful`, filled by `_hold_states`

    def _hold_states(self, count, sequences_shape):
        """Make the variables of `count` states, `(batch, units)`."""
        if sequences_shape[0] is None:
            raise ValueError(
                "With `stateful=True` the batch size must be static. "
                f"Received: sequences_shape={tuple(sequences_shape)}"
            )
        # Out of sight of Keras' tracking, so that they are no weights: weights trained with one
        # batch size load into a layer with another. By the name of an initializer: a model that
        # builds itself in `fit` does so where Keras takes no tensors.
        self._held = types.SimpleNamespace(
            states=[
                keras.Variable(
                    "zeros",
                    shape=(sequences_shape[0], self.units),
                    trainable=False,
                    dtype=self.variable_dtype,
                    name=f"state_{i}",
                )
                for i in range(count)
            ]
        )
        if keras.backend.backend() == "tensorflow":
            # A SavedModel asks that TensorFlow, unlike Keras, does see them.
            for state in self._held.states:
                setattr(self, f"_held_{state.name}", state.value)

    @property
    def states(self):
        """With `stateful`, the variables [h_1, c_1, ..., h_depth, c_depth]; else None."""
        return self._held.states

    @property
    def variables(self):
        """All variables: weights, seed and, unlike in `keras.layers.LSTM`, the kept states.

        A compiled JAX step updates only what is listed here.
        """
        return [*super().variables, *(self.states or [])]

    def get_initial_state(self, batch_size):
        """Zeros `[h_1, c_1, ..., h_depth, c_depth]`, each `(batch_size, units)`."""
        return [
            ops.zeros((batch_size, self.units), dtype=self.compute_dtype)
            for _ in range(2 * self.depth)
        ]

    def reset_state(self):
        """Set the kept states to zero."""
        for state in self.states or []:
            state.assign(ops.zeros(state.shape, dtype=state.dtype))

    def _state_before(self, initial_state, batch_size):
        """`(h_T, c_T)` before the first step, each `(depth, batch, units)`."""
        if initial_state is None and not self.stateful:
            zeros = ops.zeros((self.depth, batch_size, self.units), dtype=self.compute_dtype)
            return zeros, zeros
        initial_state = self.states if initial_state is None else initial_state
        states = [ops.cast(state, self.compute_dtype) for state in initial_state]
        return ops.stack(states[::2]), ops.stack(states[1::2])

    def _keep(self, h, c):
        """Keep the states after a batch, stacked over layers, for the next one."""
        for kept, state in zip(self.states, in_turn(h, c, self.depth), strict=True):
            kept.assign(state)

    def _check_states(self, initial_state, sequences):
        batch = sequences.shape[0]
        if self.stateful and batch not in (None, self.states[0].shape[0]):
            raise ValueError(
                "With `stateful=True` the batch size must stay the same, "
                f"{self.states[0].shape[0]}. Received: inputs.shape={tuple(sequences.shape)}"
            )
        if initial_state is None:
            return
        listed = isinstance(initial_state, list | tuple)
        if not listed or len(initial_state) != 2 * self.depth:
            raise ValueError(
                f"Argument `initial_state` must contain 2*depth={2 * self.depth} tensors. "
                f"Received: {len(initial_state) if listed else type(initial_state)}"
            )
        for i, state in enumerate(initial_state):
            if not agree(state.shape, (batch, self.units)):
                raise ValueError(
                    f"initial_state[{i}] must have shape (batch, {self.units}). "
                    f"Received: {tuple(state.shape)}"
                )
