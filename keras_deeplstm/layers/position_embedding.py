"""PositionEmbedding: attention does not know where a position is."""

import keras
from keras import ops

from keras_deeplstm import validation
from keras_deeplstm.layers import functions
from keras_deeplstm.layers.configured_layer import ConfiguredLayer
from keras_deeplstm.layers.depth_layer import MAX_UNITS
from keras_deeplstm.layers.weights import filling


@keras.saving.register_keras_serializable(package="keras_deeplstm")
class PositionEmbedding(ConfiguredLayer):
    """Adds a learned vector for each position, as in Attention Is All You Need (arXiv 1706.03762).

    Args:
        length: Number of positions: the most time steps that an input has.
        embeddings_initializer: Of the vectors; by default that of `keras.layers.Embedding`.
        **kwargs: `name`, `dtype`, `trainable`, ... of `keras.layers.Layer`.

    Call arguments:
        inputs: `(batch, time, units)`, with at most `length` time steps.

    Returns:
        `(batch, time, units)`.

    Raises:
        ValueError: An argument is out of its range, or the inputs have more time steps. On
            TensorFlow that is an InvalidArgumentError, if their number is known only in the call.

    Example:

    >>> import keras, numpy as np
    >>> from keras_deeplstm.layers import PositionEmbedding
    >>> layer = PositionEmbedding(length=10)
    >>> tuple(layer(np.zeros((2, 7, 4), "float32")).shape), tuple(layer.embeddings.shape)
    ((2, 7, 4), (10, 4))
    """

    def __init__(self, length, embeddings_initializer="uniform", **kwargs):
        super().__init__(**kwargs)
        self.length = validation.positive_integer("length", length, at_most=MAX_UNITS)
        functions.take(self, embeddings_initializer=embeddings_initializer)
        self.supports_masking = True
        self.input_spec = keras.layers.InputSpec(ndim=3)

    def build(self, inputs_shape):
        """Create the vectors for inputs of shape `(batch, time, units)`."""
        features = self._checked_features(inputs_shape)
        self.embeddings = self.add_weight(
            name="embeddings",
            shape=(self.length, features),
            initializer=filling("embeddings_initializer", self.embeddings_initializer),
        )

    def call(self, inputs):
        """Add the vectors of the first positions to `(batch, time, units)`."""
        time = inputs.shape[1]
        if time is not None and time > self.length:
            raise ValueError(
                f"Layer {self.name!r} has length={self.length} positions. "
                f"Received: inputs.shape={tuple(inputs.shape)}"
            )
        x = self._numbers(inputs)
        embeddings = ops.convert_to_tensor(self.embeddings, dtype=self.compute_dtype)
        _, *shape = ops.shape(x)
        # A time that is known only now fails here, where a single position would be broadcast.
        return x + ops.reshape(embeddings[: shape[0]], shape)

    def compute_output_shape(self, inputs_shape):
        """That of the inputs."""
        return tuple(inputs_shape)

    def get_config(self):
        """Return the arguments of the constructor."""
        return {
            **super().get_config(),
            "length": self.length,
            **functions.configs_of(self, ["embeddings_initializer"]),
        }
