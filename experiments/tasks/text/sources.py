"""Where texts come from: files, and texts that have a name."""

import gzip
import hashlib
import zipfile
import zlib
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from keras_deeplstm.experiments.tasks import DataError
from keras_deeplstm.experiments.tasks.published import named_folder, not_downloaded


@dataclass(frozen=True)
class Corpus:
    """A text that is published, and that everybody has to have byte by byte."""

    name: str
    files: tuple[str, ...]
    """Where it may lie in the folder of data sets."""
    size: int
    """Number of bytes."""
    sha256: str
    url: str
    url_sha256: str
    """Of what is downloaded."""
    bytes: bool
    """Whether it is always read as bytes."""


CORPORA = {
    corpus.name: corpus
    for corpus in (
        Corpus(
            "tinyshakespeare",
            ("tinyshakespeare/input.txt", "tinyshakespeare.txt"),
            1_115_394,
            "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
            "https://storage.googleapis.com/download.tensorflow.org/data/shakespeare.txt",
            "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
            bytes=False,
        ),
        Corpus(
            "enwik8",
            tuple(
                f"{folder}enwik8{end}" for folder in ("enwik8/", "") for end in ("", ".gz", ".zip")
            ),
            100_000_000,
            "2b49720ec4d78c3c9fabaee6e4179a5e997302b3a70029f30f2d582218c024a8",
            "https://mattmahoney.net/dc/enwik8.zip",
            "547994d9980ebed1288380d652999f38a14fe291a6247c157c3d33d4932534bc",
            bytes=True,
        ),
    )
}
PYTHON_REFERENCE = "python-reference"
NAMES = (PYTHON_REFERENCE, *CORPORA)


def load(text: str, as_bytes: bool = False, data_dir: Path | None = None) -> str | bytes:
    """Return a text, a string or, if its symbols are bytes, `bytes`.

    Args:
        text: `python-reference`, the name of a corpus, or a file.
        as_bytes: Read bytes, whatever they are; else the text has to be UTF-8 without NUL.
        data_dir: Folder with data sets, for a corpus; None leaves it to the environment variable
            DEEPLSTM_DATA and then to Keras' cache.

    Raises:
        DataError: The text is absent, damaged, empty, not UTF-8, or all of one symbol.
    """
    if text == PYTHON_REFERENCE:
        content = _python_reference()
    elif text in CORPORA:
        content = _read_corpus(CORPORA[text], data_dir)
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


def _read_file(name):
    try:
        return Path(name).read_bytes()
    except FileNotFoundError:
        near = get_close_matches(Path(name).name, NAMES, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise DataError(
            f"There is no file '{name}'.{hint} Texts that need no file: {', '.join(NAMES)}"
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


def _read_corpus(corpus, data_dir):
    folder = named_folder(data_dir)
    path = _find(corpus, folder) if folder else _from_cache(corpus)
    try:
        content = _unpacked(path, corpus.size + 1)  # one more shows that it is too long
    # All the ways in which gzip and zipfile report a torn or foreign file.
    except (OSError, EOFError, KeyError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"'{path}' is damaged: {error}") from None
    if len(content) != corpus.size:
        raise DataError(
            f"'{path}' is not {corpus.name}, which has {corpus.size:,} bytes: it has "
            f"{'more' if len(content) > corpus.size else format(len(content), ',')}"
        )
    found = hashlib.sha256(content).hexdigest()
    if found != corpus.sha256:
        raise DataError(
            f"'{path}' is damaged: its sha256 is {found[:12]}..., not "
            f"{corpus.sha256[:12]}... as published"
        )
    return content


def _find(corpus, folder):
    for file in corpus.files:
        if (folder / file).is_file():
            return folder / file
    raise DataError(
        f"Text '{corpus.name}' is not in '{folder}': none of {', '.join(corpus.files)} is there"
    )


def _from_cache(corpus):
    # Imported here, so that the command's help need not wait for Keras.
    import keras

    name = f"{corpus.name}{Path(corpus.url).suffix}"
    try:
        return Path(keras.utils.get_file(name, corpus.url, file_hash=corpus.url_sha256))
    except Exception as error:  # Keras raises a bare Exception when a download fails
        raise not_downloaded(corpus.name, corpus.files[0], error) from error


def _unpacked(path, limit):
    """The first `limit` bytes of what the file holds."""
    if path.suffix == ".gz":
        with gzip.open(path) as file:
            return file.read(limit)
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive, archive.open(path.stem) as file:
            return file.read(limit)
    with open(path, "rb") as file:
        return file.read(limit)


def opening_of(known: dict) -> str | bytes:
    """What a model reads before it writes, if it is given nothing else: lines of its text.

    States are carried from batch to batch, so that in training hardly any symbol follows a state of
    zeros. After one, a model may write nonsense for long.

    Args:
        known: The content of the run's `vocabulary.json`.
    """
    opening = known["opening"]
    return opening if isinstance(opening, str) else bytes(opening)
