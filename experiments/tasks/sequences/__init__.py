"""Sequence tasks by name, and as text: `adding:length=500,target=mean`."""

import dataclasses
import re

from keras_deeplstm import validation
from keras_deeplstm.experiments.tasks.sequences.adding import Adding, Multiplication
from keras_deeplstm.experiments.tasks.sequences.algorithmic import Addition, Memorization, Parity
from keras_deeplstm.experiments.tasks.sequences.counting import Counting, PeriodicBits
from keras_deeplstm.experiments.tasks.sequences.long_lags import LongLag, NoiseFree
from keras_deeplstm.experiments.tasks.sequences.reber import Reber
from keras_deeplstm.experiments.tasks.sequences.series import Series
from keras_deeplstm.experiments.tasks.sequences.sines import Sines
from keras_deeplstm.experiments.tasks.sequences.task import Batch, Criterion, SequenceTask
from keras_deeplstm.experiments.tasks.sequences.temporal_order import TemporalOrder
from keras_deeplstm.experiments.tasks.sequences.two_sequence import TwoSequence

__all__ = ["TASKS", "Batch", "Criterion", "SequenceTask", "parse", "spec"]

_HOCHREITER = (Reber, NoiseFree, LongLag, TwoSequence, Adding, Multiplication, TemporalOrder)
_OTHERS = (Counting, PeriodicBits, Parity, Addition, Memorization, Sines, Series)
TASKS: dict[str, type[SequenceTask]] = {task.name: task for task in _HOCHREITER + _OTHERS}


def parse(text: str) -> SequenceTask:
    """Return the task that a text names, with the parameters it gives and defaults for the others.

    Args:
        text: `NAME` or `NAME:PARAMETER=VALUE,...`, as in the command `deeplstm solve`.

    Raises:
        ValueError: There is no such task or parameter, or its value is of no use.

    Example:

    >>> from keras_deeplstm.experiments.tasks.sequences import parse
    >>> parse("adding:length=500,target=mean")
    Adding(length=500, target='mean')
    """
    name, colon, rest = text.partition(":")
    task = TASKS[validation.known("sequence task:", name.strip(), TASKS)]
    defaults = {field.name: field.default for field in dataclasses.fields(task)}
    values = {}
    # A value may have commas, as the name of a file has, but none before what looks like a name.
    for part in re.split(r",(?=\s*\w*\s*=|\s*$)", rest) if colon else ():
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals:
            raise ValueError(f"Expected NAME=VALUE in {text!r}. Received: {part!r}")
        validation.known(f"parameter of {task.name!r}:", key, defaults)
        if key in values:
            raise ValueError(f"Parameter {key!r} comes twice in {text!r}")
        values[key] = _value(key, value, type(defaults[key]))
    return task(**values)


def spec(task: SequenceTask) -> str:
    """Return the text that `parse` makes this task of: its name and what differs from defaults.

    Args:
        task: A `SequenceTask`.

    Example:

    >>> from keras_deeplstm.experiments.tasks.sequences import spec
    >>> from keras_deeplstm.experiments.tasks.sequences.adding import Adding
    >>> spec(Adding(length=500, target="mean"))
    'adding:length=500,target=mean'
    """
    changed = (
        f"{field.name}={str(value).lower() if field.type is bool else value}"
        for field in dataclasses.fields(task)
        if (value := getattr(task, field.name)) != field.default
    )
    return ":".join(filter(None, (task.name, ",".join(changed))))


def _value(key, text, kind):
    try:
        return {"true": True, "false": False}[text.lower()] if kind is bool else kind(text)
    except (KeyError, ValueError):
        wanted = {bool: "true or false", int: "an integer", float: "a number"}[kind]
        raise ValueError(f"Argument `{key}` must be {wanted}. Received: {key}={text!r}") from None
