"""What the settings of all kinds of runs have in common, and how wrong ones are refused."""

import dataclasses
from collections.abc import Iterable
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any, ClassVar, Self

from keras_deeplstm import validation

OPTIMIZERS = ("adam", "adamw", "nadam", "rmsprop", "sgd")


class ConfigError(Exception):
    """A setting that cannot be used.

    Deliberately not a ValueError: tyro would catch that one and rewrite its message.
    """


@contextmanager
def config_errors():
    """Inside, a ValueError becomes a `ConfigError`."""
    try:
        yield
    except ValueError as error:
        raise ConfigError(str(error)) from None


def changed(settings: Any, but: tuple[str, ...]) -> dict[str, Any]:
    """The settings of a dataclass that differ from their defaults, `but` some."""
    return {
        option.name: getattr(settings, option.name)
        for option in dataclasses.fields(settings)
        if option.name not in but and getattr(settings, option.name) != option.default
    }


class SequenceModel:
    """What the settings of the two kinds of models of sequences have in common."""

    BLOCKS: ClassVar[dict[str, tuple[str, tuple[str, ...]]]]
    """Of each block: its name in words, and the options it knows beyond those that all have."""
    DEFAULT_UNITS: ClassVar[int]

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]  # both are dataclasses
    block: str
    depth: int
    units: int | None
    parameters: int | None
    dropout: float

    def _changed(self):
        """The options of blocks that differ from their defaults."""
        common = ("block", "depth", "units", "parameters", "dropout")
        return changed(self, but=common)

    def build_arguments(self) -> dict[str, Any]:
        """Keyword arguments for the builders of `keras_deeplstm.models`, the block included."""
        size = {"parameters": self.parameters}
        if self.parameters is None:
            size = {"units": self.DEFAULT_UNITS if self.units is None else self.units}
        common = {"block": self.block, "depth": self.depth, "dropout": self.dropout}
        return common | size | self._changed()

    @property
    def size(self) -> str:
        """``"128 units"`` or ``"100,000 parameters"``."""
        arguments = self.build_arguments()
        name = "units" if "units" in arguments else "parameters"
        return f"{arguments[name]:,} {name}"

    @property
    def label(self) -> str:
        """Name for tables and legends, without depth and size: ``"GridLSTM2D tied"``."""
        words = [self.BLOCKS[self.block][0]]
        for name, value in self._changed().items():
            words.append(name if value is True else f"{name}={value}")
        if self.dropout:
            words.append(f"dropout{self.dropout}")
        return " ".join(words)


class Settings:
    """What the settings of all kinds of runs have in common; each has a `subject` besides."""

    RESULTS: ClassVar[tuple[str, ...]]
    """The numbers that `result.json` of a finished run must hold."""

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]  # all kinds are dataclasses
    model: Any  # has a label, a depth and, unless `title` is another, a size
    seed: int

    @property
    def subject(self) -> str:
        """The task or text for people."""
        raise NotImplementedError

    def to_dict(self) -> dict[str, Any]:
        """Plain types only, ready for JSON."""
        return dataclasses.asdict(self)

    def flat(self) -> dict[str, Any]:
        """All settings by their names in the command: `{"seed": ..., "model.depth": ...}`."""
        settings = self.to_dict()
        model = settings.pop("model")
        return settings | {f"model.{name}": value for name, value in model.items()}

    @property
    def title(self) -> str:
        """One line that names the run: ``"tinyshakespeare: GridLSTM2D, depth 2, 128 units"``."""
        return f"{self.subject}: {self.model.label}, depth {self.model.depth}, {self.model.size}"

    def repeated(self, seed: int) -> Self:
        """The same with another seed."""
        return dataclasses.replace(self, seed=seed)

    @property
    def repetition(self) -> str:
        """What tells this run from others of its model: ``", seed 1"``."""
        return f", seed {self.seed}" if self.seed else ""


def check_seed(seed: int) -> None:
    """Raise a ValueError unless `seed` is one that every backend takes."""
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**32:
        raise ValueError(
            f"Argument `seed` must be an integer in [0, 4294967295]. Received: seed={seed!r}"
        )


def check_jit_compile(jit_compile: bool | None) -> None:
    """Raise a ValueError unless `jit_compile` is True, False or None."""
    if jit_compile not in (None, True, False):
        raise ValueError(
            f"Argument `jit_compile` must be True, False or None. "
            f"Received: jit_compile={jit_compile!r}"
        )


def check_clipping(clipnorm: float | None, clipvalue: float | None) -> None:
    """Raise a ValueError unless at most one of the two is set, to a positive number."""
    for name, value in (("clipnorm", clipnorm), ("clipvalue", clipvalue)):
        if value is not None:
            validation.finite(name, value, positive=True)
    if clipnorm is not None and clipvalue is not None:
        raise ValueError(
            "Pass either `clipnorm` or `clipvalue`, and None for the other. "
            f"Received: clipnorm={clipnorm}, clipvalue={clipvalue}"
        )


def refuse_unknown(prefix: str, changed: Iterable[str], what: str, known: tuple[str, ...]) -> None:
    """Raise a ValueError if one of the changed options is none of the known ones.

    Args:
        prefix: What stands before the options' names in the command.
        changed: Options that differ from their defaults.
        what: Whose options they are.
        known: The options that it knows.
    """
    for name in changed:
        if name not in known:
            raise ValueError(
                f"Argument `{prefix}{name}` has no meaning for {what}. "
                f"Its own options: {', '.join(known) or 'none'}"
            )


def differences(old, new) -> str:
    """The settings that differ: ``"epochs: 3 -> 5, model.depth: 10 -> 20"``."""
    if type(old) is not type(new):
        return "it is a run of another kind"
    old, new = old.flat(), new.flat()
    return ", ".join(f"{key}: {old[key]} -> {new[key]}" for key in new if old[key] != new[key])


def check_keys(cls, data, where):
    """Raise `ConfigError` unless `data` is a mapping with keys from the fields of `cls`."""
    if not isinstance(data, dict):
        raise ConfigError(f"{where!r} must be a mapping. Received: {type(data).__name__}")
    known = [option.name for option in dataclasses.fields(cls)]
    for key in data:
        if key not in known:
            near = get_close_matches(str(key), known, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ConfigError(f"Unknown key {key!r} in {where!r}.{hint}")
