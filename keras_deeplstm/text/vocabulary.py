"""The symbols of a text and their numbers."""

import codecs
from collections.abc import Iterator
from typing import Any

import numpy as np


class Vocabulary:
    """The symbols of a text, characters or bytes, and their numbers.

    Args:
        symbols: All symbols, each once; the first has number 0. A string, or with bytes a `bytes`.

    Raises:
        ValueError: There is no symbol, or one is there twice.

    Example:

    >>> from keras_deeplstm.text import Vocabulary
    >>> vocabulary = Vocabulary.of("banana")
    >>> vocabulary.symbols, vocabulary.encode("nab").tolist(), vocabulary.decode([1, 0, 2])
    ('abn', [2, 0, 1], 'ban')
    """

    def __init__(self, symbols: str | bytes):
        if not symbols or len(set(symbols)) < len(symbols):
            raise ValueError(
                f"Argument `symbols` must hold at least one symbol, and each once. "
                f"Received: symbols={symbols!r}"
            )
        self.symbols = symbols
        codes = _codes(symbols)
        self._number = np.full(int(codes.max()) + 1, -1, "int32")
        self._number[codes] = np.arange(len(symbols))

    @classmethod
    def of(cls, text: str | bytes) -> "Vocabulary":
        """The vocabulary of a text: its symbols in sorted order.

        Args:
            text: Characters, or bytes.

        Returns:
            A `Vocabulary`, of characters or of bytes.

        Raises:
            ValueError: The text is empty.
        """
        if isinstance(text, bytes):
            return cls(bytes(sorted(set(text))))
        return cls("".join(sorted(set(text))))

    @property
    def of_bytes(self) -> bool:
        """Whether the symbols are bytes, not characters."""
        return isinstance(self.symbols, bytes)

    def __len__(self):
        return len(self.symbols)

    def encode(self, text: str | bytes) -> np.ndarray:
        """The numbers of the symbols of a text.

        Args:
            text: Characters, or bytes; a string becomes UTF-8 if the symbols are bytes.

        Returns:
            An array `(symbols,)`, int32.

        Raises:
            ValueError: The text has symbols that the vocabulary does not have; it names them.
        """
        if self.of_bytes and isinstance(text, str):
            text = text.encode()
        symbols: set[Any] = set(text)  # strings, or numbers of bytes
        unknown = sorted(symbols - set(self.symbols))
        if unknown:
            kind = "bytes" if self.of_bytes else "characters"
            shown = ", ".join(map(repr, unknown[:10])) + (", ..." if len(unknown) > 10 else "")
            raise ValueError(f"The text has {kind} that are not in the vocabulary: {shown}")
        return self._number[_codes(text)]

    def decode(self, numbers) -> str:
        """The text of these numbers.

        Args:
            numbers: Those of symbols, in any sequence.

        Returns:
            A string; bytes that are no UTF-8 become U+FFFD.

        Raises:
            IndexError: A number is that of no symbol.
        """
        return "".join(self.decoded([numbers]))

    def decoded(self, pieces) -> Iterator[str]:
        """The text of each piece of numbers; a character may begin in one and end in the next.

        Args:
            pieces: Sequences of numbers.

        Returns:
            A generator of strings.
        """
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        for numbers in pieces:
            symbols: list[Any] = [self.symbols[number] for number in numbers]
            yield decoder.decode(bytes(symbols)) if self.of_bytes else "".join(symbols)
        if self.of_bytes and (rest := decoder.decode(b"", final=True)):
            yield rest

    def get_config(self) -> dict:
        """Return the symbols in plain types: a string, or a list of numbers if they are bytes."""
        return {"symbols": list(self.symbols) if self.of_bytes else self.symbols}

    @classmethod
    def from_config(cls, config: dict) -> "Vocabulary":
        """The inverse of `get_config`.

        Args:
            config: What it has returned.

        Returns:
            A `Vocabulary`.
        """
        symbols = config["symbols"]
        return cls(symbols if isinstance(symbols, str) else bytes(symbols))


def _codes(text):
    """The code point of each character, or the value of each byte."""
    if isinstance(text, bytes):
        return np.frombuffer(text, np.uint8)
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
