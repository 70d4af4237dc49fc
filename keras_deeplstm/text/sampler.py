"""Sampling: text drawn from a character language model, many symbols in one compiled loop."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_deeplstm import validation
from keras_deeplstm.layers.scan import scan
from keras_deeplstm.text.steps import steps_of
from keras_deeplstm.text.vocabulary import Vocabulary

AT_ONCE = 64  # characters that one call of the compiled function draws
COLDEST = 1e-6  # a smaller temperature counts as 0: logits divided by it could be infinite


def sample(model, vocabulary, prompt="", **options) -> str:
    """Text that goes on where the prompt ends.

    Args:
        model, vocabulary: As for `Sampler`.
        prompt, **options: As for `Sampler.stream`.

    Returns:
        The text, without the prompt.

    Raises:
        ValueError: As `Sampler` and `Sampler.stream`.

    Example:

    >>> import numpy as np
    >>> from keras_deeplstm import models, text
    >>> vocabulary = text.Vocabulary.of("banana")
    >>> model = models.character_language_model(len(vocabulary), block="lstm", depth=1, units=4)
    >>> model.get_layer("logits").set_weights([np.zeros((4, 3)), np.array([0, 0, 99])])
    >>> text.sample(model, vocabulary, "ba", length=5, temperature=0.8)  # n, whatever came
    'nnnnn'
    """
    return "".join(Sampler(model, vocabulary).stream(prompt, **options))


class Sampler:
    """Draws text from a character language model, many characters in one compiled loop.

    The state stays in the loop and goes on from call to call, so that a symbol costs a recurrent
    model one time step, however long the text before it. A model with a `PositionEmbedding` sees as
    many symbols as that has positions, the last ones, and reads all of them again for each symbol.

    Args:
        model: From symbol numbers `(batch, time)` to logits `(batch, time, symbols)`, a chain of
            layers as for `states.with_states`, or a causal model with a `PositionEmbedding`. Its
            weights are copied; `set_weights` of the sampler takes later ones.
        vocabulary: A `Vocabulary` with as many symbols.

    Raises:
        ValueError: The sizes differ, or the model is none of these kinds.

    Example:

    >>> from keras_deeplstm import models, text
    >>> vocabulary = text.Vocabulary.of("banana")
    >>> model = models.character_language_model(len(vocabulary), block="lstm", depth=1, units=4)
    >>> sampler = text.Sampler(model, vocabulary)
    >>> texts = ["".join(sampler.stream("ba", length=80, seed=seed)) for seed in (1, 1, 2)]
    >>> [len(written) for written in texts], texts[0] == texts[1], texts[0] == texts[2]
    ([80, 80, 80], True, False)
    """

    def __init__(self, model, vocabulary: Vocabulary):
        shape = model.output_shape
        if not isinstance(shape, tuple) or len(shape) != 3 or shape[-1] != len(vocabulary):
            raise ValueError(
                f"The model must return logits (batch, time, {len(vocabulary)}), one for each "
                f"symbol of the vocabulary. Received: a model with output_shape={shape}"
            )
        self.vocabulary = vocabulary
        self._loop = _Loop(*steps_of(model))

    @classmethod
    def load(cls, folder: str | Path) -> "Sampler":
        """The sampler of a run of `deeplstm train-text`, with its best model so far.

        Args:
            folder: The run's folder.

        Returns:
            A `Sampler`.

        Raises:
            OSError: The folder holds no `vocabulary.json` or no `best.keras`.
            ValueError: One of them is damaged, or they do not go together.

        Example:

        >>> import json, pathlib, tempfile
        >>> from keras_deeplstm import models, text
        >>> vocabulary, folder = text.Vocabulary.of("banana"), pathlib.Path(tempfile.mkdtemp())
        >>> model = models.character_language_model(len(vocabulary), block="lstm", units=4)
        >>> model.save(folder / "best.keras")  # as a run of `deeplstm train-text` does
        >>> known = json.dumps(vocabulary.get_config())
        >>> (folder / "vocabulary.json").write_text(known) == len(known)
        True
        >>> len("".join(text.Sampler.load(folder).stream("ba", length=80)))
        80
        """
        folder = Path(folder)
        known = json.loads((folder / "vocabulary.json").read_text("utf-8"))
        try:
            vocabulary = Vocabulary.from_config(known)
        except (KeyError, TypeError) as error:
            raise ValueError(f"'{folder / 'vocabulary.json'}' holds no vocabulary") from error
        if not (path := folder / "best.keras").exists():
            raise FileNotFoundError(
                f"'{path}' is not there: a run has a model after its first evaluation"
            )
        return cls(keras.models.load_model(path), vocabulary)

    def set_weights(self, weights: list[np.ndarray]) -> None:
        """Take other weights, such as those of a model that has been trained since.

        Args:
            weights: `get_weights()` of a model of the same kind.

        Raises:
            ValueError: Their number or their shapes differ.
        """
        self._loop.weighted.set_weights(weights)

    def stream(
        self,
        prompt: str | bytes = "",
        *,
        length: int | None = None,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed=None,
    ) -> Iterator[str]:
        """Text that goes on where the prompt ends, piece by piece.

        Args:
            prompt: Text before. Without one, the text goes on as after a line break, or, if the
                vocabulary has none, as after its first symbol. A model that was trained with
                states carried from batch to batch has hardly seen a state of zeros, and may need
                some symbols of real text before it writes well.
            length: Number of symbols; None never ends.
            temperature: The logits are divided by it: below 1 the likely becomes likelier. With 0,
                and with less than 1e-6, always the likeliest symbol is taken.
            top_k: Draw only from this many of the likeliest symbols.
            top_p: Draw only from the smallest number of likeliest symbols with at least this
                probability together. With `top_k` too, from those that both allow.
            seed: What `numpy.random.default_rng` takes. The same seed gives the same text; with
                None it is another one each time.

        Returns:
            A generator of strings.

        Raises:
            ValueError: An argument is out of its range, or the prompt has unknown symbols.
        """
        if length is not None:
            validation.positive_integer("length", length)
        if validation.finite("temperature", temperature) < 0:
            raise ValueError(
                f"Argument `temperature` must be at least 0. Received: temperature={temperature}"
            )
        if top_k is not None:
            validation.positive_integer("top_k", top_k)
        if top_p is not None and not 0 < validation.finite("top_p", top_p) <= 1:
            raise ValueError(f"Argument `top_p` must be in (0, 1]. Received: top_p={top_p}")
        if temperature < COLDEST:
            temperature, top_k = 1.0, 1
        symbols = len(self.vocabulary)
        settings = np.array([temperature, min(top_k or symbols, symbols), top_p or 1], "float32")
        if not prompt:
            newline: Any = 10 if self.vocabulary.of_bytes else "\n"
            known = newline in self.vocabulary.symbols
            first = self.vocabulary.symbols.index(newline) if known else 0
            given = np.array([first], "int32")
        else:
            given = self.vocabulary.encode(prompt)
        pieces = self._numbers(given, math.inf if length is None else length, settings, seed)
        return self.vocabulary.decoded(pieces)

    def _numbers(self, given, length, settings, seed):
        """Numbers of the symbols after the given ones, in pieces."""
        generator = np.random.default_rng(seed)
        symbol, given = given[0], given[1:]
        states = [np.zeros((1, *x.shape[1:]), x.dtype) for x in self._loop.model.inputs[1:]]
        while length > 0:
            # What is given is read by the same loop, so that one compiled function serves all.
            forced = np.full(AT_ONCE, -1, "int32")
            known = min(len(given), AT_ONCE)
            forced[:known], given = given[:known], given[known:]
            drawn, *states = self._loop.predict_on_batch(
                {
                    "symbol": np.int32(symbol),
                    "states": states,
                    "forced": forced,
                    "uniform": generator.random(AT_ONCE, "float32"),
                    "settings": settings,
                }
            )
            symbol = drawn[-1]
            new = drawn[known:]
            if len(new):
                yield new[: int(min(length, len(new)))]
            length -= len(new)


class _Loop(keras.Model):
    """Draws symbols, one after the other, with what `steps_of` returns."""

    def __init__(self, model, weighted):
        super().__init__(name="loop")
        self.model, self.weighted = model, weighted

    def call(self, inputs):
        temperature, top_k, top_p = ops.unstack(inputs["settings"], 3)

        def step(carry, at):
            symbol, *states = carry
            logits, *states = self.model([ops.reshape(symbol, (1, 1)), *states])
            logits = ops.cast(logits[0, 0], "float32") / temperature
            drawn = draw(logits, at["uniform"], top_k, top_p)
            symbol = ops.where(at["forced"] < 0, drawn, at["forced"])
            return (symbol, *states), symbol

        xs = {"forced": inputs["forced"], "uniform": inputs["uniform"]}
        carry = (inputs["symbol"], *inputs["states"])
        (_, *states), _, symbols = scan(step, carry, xs, AT_ONCE)
        return [symbols, *states]


def draw(logits, uniform, top_k, top_p):
    """Draw one symbol by the inverse of the cumulative distribution over the likeliest ones.

    Args:
        logits: Tensor `(symbols,)`.
        uniform: A number from [0, 1): the symbol is a function of it.
        top_k, top_p: The symbol is among the `top_k` likeliest, and among the fewest likeliest that
            have the probability `top_p` together.

    Returns:
        The number of the symbol, an int32 tensor without axes.

    Example:

    >>> import numpy as np
    >>> from keras_deeplstm.text import draw
    >>> logits = np.log(np.array([0.2, 0.5, 0.3], "float32"))
    >>> [int(draw(logits, uniform, top_k=3, top_p=1.0)) for uniform in (0.49, 0.51, 0.79, 0.81)]
    [1, 2, 2, 0]
    >>> [int(draw(logits, uniform, top_k=1, top_p=1.0)) for uniform in (0.49, 0.51, 0.79, 0.81)]
    [1, 1, 1, 1]
    """
    logits, order = ops.top_k(logits, logits.shape[-1])
    probability = ops.softmax(logits)
    before = ops.cumsum(probability) - probability
    rank = ops.arange(logits.shape[-1], dtype="float32")
    allowed = ops.logical_and(rank < top_k, before < top_p)
    cumulative = ops.cumsum(ops.where(allowed, probability, 0.0))
    passed = ops.sum(ops.cast(cumulative <= uniform * cumulative[-1], "int32"))
    # Rounding may pass even the last one.
    last = ops.sum(ops.cast(allowed, "int32")) - 1
    return ops.cast(ops.take(order, ops.minimum(passed, last)), "int32")
