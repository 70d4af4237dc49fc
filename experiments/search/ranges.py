"""Ranges of settings: as they are typed, as keras-tuner declares them, and the runs in them."""

import dataclasses
import typing
from contextlib import suppress
from typing import Any

from keras_deeplstm import validation
from keras_deeplstm.experiments.settings import OWN_BLOCKS, ConfigError, Settings

# Settings on which it depends whether others have a meaning, those that decide most first.
PARENTS = ("block", "connection", "feedforward", "optimizer", "schedule")
LOGARITHMIC = ("depth", "units", "parameters", "learning_rate", "batch_size", "sequence_length")
OPTIONS = "options."  # what the names of options of blocks of the user's own begin with
FIXED = ("task", "text", "seed", "folds", "fold", "model", "options")  # not for ranges
CONSTANTS = {"none": None, "true": True, "false": False}


class RunSpace:
    """The runs of one kind on one task whose settings lie in ranges.

    Which setting has a meaning with which others is what the settings of a run refuse, and written
    down nowhere else: one is left out where one of its values would be refused.

    Args:
        kind: The settings: `RunConfig`, `TextConfig` or `SequenceConfig`.
        task: Their first field.
        ranges: Name -> what was typed.
        given: The names for which it is an error if they have a meaning nowhere.

    Raises:
        ConfigError: There is no such setting, or a value of it is refused everywhere.
    """

    def __init__(self, kind: type[Settings], task: str, ranges: dict[str, str], given: list[str]):
        self._kind, self._task = kind, task
        self._model_kind = _hints(kind)["model"]
        self._of_model = _hints(self._model_kind)
        every = _hints(kind) | self._of_model
        self._hints = {name: hint for name, hint in every.items() if name not in FIXED}
        # keras-tuner wants to know a parent before what depends on it.
        first = {name: ranges[name] for name in PARENTS if name in ranges}
        self.typed = ranges = first | ranges
        self.ranges = {name: self._parsed(name, text) for name, text in ranges.items()}
        self._parents = [name for name in first if isinstance(self.ranges[name], list)]
        self._first = tuple((name, self.ranges[name][0]) for name in self._parents)
        self._bases: dict[tuple, dict[str, Any]] = {}
        self._conditions = {name: self._condition(name) for name in self.ranges}
        for name in given:
            if not self._conditions[name]:
                for value in _ends(self.ranges[name]):
                    self._make({**self._base(self._first), name: value})
        self.searched = [
            name
            for name, values in self.ranges.items()
            if isinstance(values, tuple | list) and self._conditions[name]
        ]

    def example(self) -> Settings:
        """One of the runs."""
        base = self._base(self._first)
        ends = {n: _ends(self.ranges[n])[0] for n in self.searched if self._conditions[n] is True}
        return self._make(base | ends)

    # What is declared.

    def declare(self, hp: Any) -> None:
        """Declare to keras-tuner what is searched.

        Raises:
            TypeError, ValueError: It refuses a range.
        """
        for name in self.searched:
            self._declare(hp, name, self._conditions[name])

    def _declare(self, hp, name, condition):
        from keras_deeplstm.search.space import declare, labels

        if condition is True:
            values = self.ranges[name]
            declare(hp, name, values, self._is_whole(name), name in LOGARITHMIC, _by_label(values))
            return
        for parent, values, inner in condition or ():
            with hp.conditional_scope(parent, list(labels(values))):
                self._declare(hp, name, inner)

    def run(self, values: dict[str, Any]) -> Settings:
        """The run that keras-tuner's values (name -> value) stand for."""
        from keras_deeplstm.search.space import value_of

        chosen = {
            name: value_of(self.ranges[name], values[name], _by_label(self.ranges[name]))
            for name in self.searched
            if name in values
        }
        given = tuple((name, chosen[name]) for name in self._parents if name in chosen)
        return self._make(self._base(given) | chosen)

    # What has a meaning where.

    def _condition(self, name, given=(), rest=None):
        """True or False; or where it depends on a parent, its values with what they decide."""
        before = self._parents[: self._parents.index(name)] if name in self._parents else None
        rest = (self._parents if before is None else before) if rest is None else rest
        if not rest:
            return self._is_known(name, given)
        parent, *others = rest
        found = {
            value: self._condition(name, (*given, (parent, value)), others)
            for value in self.ranges[parent]
        }
        different = list(dict.fromkeys(found.values()))
        if len(different) == 1:
            return different[0]
        return tuple(
            (parent, tuple(value for value in found if found[value] == one), one)
            for one in different
        )

    def _is_known(self, name, given):
        """Whether a setting has a meaning with these values of its parents."""
        base = self._base(given, name in PARENTS)
        if not isinstance(self.ranges[name], tuple | list):
            return name in base
        return all(self._accepts({**base, name: value}) for value in _ends(self.ranges[name]))

    def _base(self, given, only_parents=False):
        """These values of parents, and all fixed values, or those of parents, that go with them."""
        if (given, only_parents) not in self._bases:
            fixed = {n: v for n, v in self.ranges.items() if not isinstance(v, tuple | list)}
            wanted = {name: fixed[name] for name in PARENTS if name in fixed} | dict(given)
            wanted |= {} if only_parents else fixed
            options: dict[str, Any] = {}
            # One that needs another one comes after it, whatever their order.
            for _ in wanted:
                for name, value in wanted.items():
                    if name not in options and self._accepts({**options, name: value}):
                        options[name] = value
            self._bases[given, only_parents] = options
        return self._bases[given, only_parents]

    def _accepts(self, options):
        with suppress(ConfigError):
            self._make(options)
            return True
        return False

    def _make(self, options):
        own = {n.removeprefix(OPTIONS): v for n, v in options.items() if n.startswith(OPTIONS)}
        model = {name: value for name, value in options.items() if name in self._of_model}
        rest = {n: v for n, v in options.items() if n not in model and not n.startswith(OPTIONS)}
        model = self._model_kind(**model, **({"options": own} if own else {}))
        return self._kind(self._task, model, **rest)

    # What was typed.

    def _parsed(self, name, text):
        if not name.startswith(OPTIONS) and name not in self._hints:
            hint = validation.suggestion(name, self._hints)
            raise ValueError(f"`deeplstm {self._kind.command}` has no setting {name!r}.{hint}")
        found = parse(name, text)
        if isinstance(found, tuple) and found[0] == found[1]:
            return found[0]
        if isinstance(found, tuple) and self._is_whole(name) and float in map(type, found):
            raise ValueError(f"Argument `{name}` must be a range of integers. Received: {text!r}")
        return found

    def _is_whole(self, name):
        """Whether a range of it holds integers only."""
        if name in self._hints:
            return float not in (self._hints[name], *typing.get_args(self._hints[name]))
        named = self.typed.get("block", "").split(",")
        blocks = [OWN_BLOCKS[block] for block in named if block in OWN_BLOCKS]
        option = name.removeprefix(OPTIONS)
        return not any(type(block.options.get(option)) is float for block in blocks)


def _hints(kind):
    """The types of the fields of a dataclass."""
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def parse(name: str, text: str) -> Any:
    """The range (a tuple), the values (a list) or the value that a text stands for."""
    if ".." in text:
        ends = tuple(_parse_word(end) for end in text.split("..", 1))
        if not all(type(end) in (int, float) for end in ends):
            raise ValueError(f"Argument `{name}` must be a range of numbers. Received: {text!r}")
        return ends
    values = [_parse_word(word) for word in text.split(",")]
    if float in map(type, values):  # keras-tuner wants a single type
        values = [float(value) if type(value) is int else value for value in values]
    return values if len(values) > 1 else values[0]


def _parse_word(text):
    """The number or the constant that a text stands for, or the text itself."""
    text = text.strip()
    for kind in (int, float):
        with suppress(ValueError):
            return kind(text)
    return CONSTANTS.get(text.lower(), text)


def _ends(values):
    """The values at which a range is tried."""
    return values if isinstance(values, tuple | list) else [values]


def _by_label(values):
    return isinstance(values, list) and not all(type(value) in (int, float) for value in values)
