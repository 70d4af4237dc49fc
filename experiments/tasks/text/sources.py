"""Where texts come from: files, and texts that have a name."""

from dataclasses import dataclass
from pathlib import Path

from keras_deeplstm.experiments.tasks import published
from keras_deeplstm.experiments.tasks.task import DataError
from keras_deeplstm.validation import suggestion


@dataclass(frozen=True)
class Corpus:
    """A text that is published, and that everybody has to have byte by byte."""

    files: tuple[str, ...]  # where it may lie in the folder of data sets
    size: int  # in bytes
    sha256: str
    url: str
    bytes: bool  # whether it is always read as bytes


CORPORA = {
    "tinyshakespeare": Corpus(
        ("tinyshakespeare/input.txt", "tinyshakespeare.txt"),
        1_115_394,
        "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
        "https://storage.googleapis.com/download.tensorflow.org/data/shakespeare.txt",
        bytes=False,
    ),
    "enwik8": Corpus(
        tuple(f"{place}enwik8{end}" for place in ("enwik8/", "") for end in ("", ".gz", ".zip")),
        100_000_000,
        "2b49720ec4d78c3c9fabaee6e4179a5e997302b3a70029f30f2d582218c024a8",
        "https://mattmahoney.net/dc/enwik8.zip",
        bytes=True,
    ),
}
PYTHON_REFERENCE = "python-reference"
NAMES = (PYTHON_REFERENCE, *CORPORA)


def load(text: str, as_bytes: bool = False, data_dir: Path | None = None) -> str | bytes:
    """Return a text, a string or, if its symbols are bytes, `bytes`.

    Args:
        text: `python-reference`, the name of a corpus, or a file.
        as_bytes: Read bytes, whatever they are; else the text has to be UTF-8 without NUL.

    Raises:
        DataError: The text is absent, damaged, empty, not UTF-8, or all of one symbol.
    """
    if text == PYTHON_REFERENCE:
        content = _python_reference()
    elif text in CORPORA:
        content = _read_corpus(text, data_dir)
        as_bytes = as_bytes or CORPORA[text].bytes
    else:
        content = _read_file(text)
    if not as_bytes:
        content = _decode(content, text)
    if not content:
        raise DataError(f"Text '{text}' is empty")
    if len(set(content)) == 1:
        raise DataError(f"Text '{text}' has a single symbol, {content[:1]!r}: nothing to learn")
    return content


def _python_reference():
    """The chapters of Python's language reference that `help()` shows."""
    from pydoc_data.topics import topics

    return "\n".join(topics[name] for name in sorted(topics)).encode()


def _read_corpus(name, data_dir):
    corpus = CORPORA[name]

    def read(path):
        return published.content(path, name, corpus.size, corpus.sha256)

    cached = f"{name}{Path(corpus.url).suffix}"
    return published.load(name, corpus.files, corpus.url, cached, read, data_dir)


def _read_file(name):
    try:
        return Path(name).read_bytes()
    except FileNotFoundError:
        raise DataError(
            f"There is no file '{name}'.{suggestion(Path(name).name, NAMES)} Texts that need no "
            f"file: {', '.join(NAMES)}"
        ) from None
    except OSError as error:
        raise DataError(f"Cannot read '{name}': {error.strerror}") from None


def _decode(content, name):
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"Text '{name}' is not UTF-8: byte {content[error.start]:#04x} at position "
            f"{error.start}. Convert it, or read its bytes with --bytes"
        ) from None
    if "\0" in text:
        raise DataError(
            f"'{name}' is no text: NUL at position {content.index(0)}. --bytes reads it anyway"
        )
    return text


def opening_of(known: dict) -> str | bytes:
    """What a model reads before it writes, if it is given nothing else: lines of its text.

    States are carried from batch to batch, so that in training hardly any symbol follows a state of
    zeros. After one, a model may write nonsense for long. `known` is what `vocabulary.json` holds.
    """
    opening = known["opening"]
    return opening if isinstance(opening, str) else bytes(opening)
