"""Text from character language models: the vocabulary, and sampling.

A `Vocabulary` is made of a text, a model by `models.character_language_model`; `sample` writes a
text with the two, and a `Sampler` writes it piece by piece.
"""

from keras_deeplstm.text.sampler import AT_ONCE, Sampler, draw, sample
from keras_deeplstm.text.vocabulary import Vocabulary

__all__ = ["AT_ONCE", "Sampler", "Vocabulary", "draw", "sample"]
