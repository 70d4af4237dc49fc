"""Blocks of the user's own: models of any kind, and their options."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

import tyro

from keras_deeplstm import validation

KINDS = (bool, int, float, str)  # of options


@dataclass(frozen=True)
class Block:
    """A kind of model of your own, for `experiments.register`.

    Raises:
        ValueError: The name cannot be part of a folder's name, or an option has no default of type
            bool, int, float or str.

    Example:

    >>> import keras
    >>> from keras_deeplstm.experiments import Block
    >>> def build(input_shape, outputs, width):
    ...     layers = [keras.layers.Dense(width, "relu"), keras.layers.Dense(outputs)]
    ...     return keras.Sequential([keras.Input(input_shape), keras.layers.Flatten(), *layers])
    >>> block = Block("mine", build, options={"width": 64})
    >>> block.complete({"width": "128"})
    {'width': 128}
    """

    name: str
    """What `--model.block` takes."""
    build: Callable[..., Any]
    """A function from input shape, number of outputs and the options as keyword arguments to a
    `keras.Model` that is not compiled. Its outputs are logits of classes, or numbers."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """The options with their defaults. One called "depth" is the depth by which models are
    compared."""

    def __post_init__(self):
        if not re.fullmatch("[A-Za-z0-9][A-Za-z0-9_-]*", str(self.name)):
            validation.refuse("name", "letters, digits, '_' and '-'", self.name)
        for name, default in self.options.items():
            if not isinstance(default, KINDS):
                validation.refuse(name, "a default of type bool, int, float or str", default)

    def complete(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """All options, those that are not given with their defaults.

        Args:
            given: Options by name; a text is read as the type of the default.

        Returns:
            A dict in the order of the block's options.

        Raises:
            ValueError: An option is unknown, or of another type than its default.
        """
        for name in given:
            if name not in self.options:
                hint = validation.suggestion(name, self.options)
                own = ", ".join(self.options) or "none"
                raise ValueError(f"Block {self.name!r} has no option {name!r}.{hint} It has: {own}")
        both = {**self.options, **given}
        return {name: _of_type(name, both[name], type(self.options[name])) for name in self.options}


def _of_type(name, value, kind):
    wanted = {bool: "true or false", int: "an integer", float: "a number", str: "a text"}[kind]
    if isinstance(value, str) and kind is not str:
        try:
            return {"true": True, "false": False}[value.lower()] if kind is bool else kind(value)
        except (KeyError, ValueError):
            validation.refuse(f"model.options {name}", wanted, value)
    if type(value) is int and kind is float:
        return float(value)
    if type(value) is not kind:
        validation.refuse(f"model.options {name}", wanted, value)
    return value


class Options(dict):
    """Options of a block by name; unlike a dict, it can be part of what is hashed."""

    def __hash__(self):
        return hash(tuple(self.items()))

    @classmethod
    def parse(cls, words: list[str]) -> "Options":
        """Options as they are typed: NAME=VALUE each."""
        for word in words:
            if "=" not in word:
                raise ValueError(f"Expected NAME=VALUE. Received: {word!r}")
        return cls(word.split("=", 1) for word in words)


OWN_BLOCKS: dict[str, Block] = {}  # those that were registered
TypedOptions = Annotated[
    Options,
    tyro.constructors.PrimitiveConstructorSpec(
        nargs="*",
        metavar="[NAME=VALUE ...]",
        instance_from_str=Options.parse,
        is_instance=lambda value: isinstance(value, dict),
        str_from_instance=lambda options: [f"{name}={value}" for name, value in options.items()],
    ),
]
