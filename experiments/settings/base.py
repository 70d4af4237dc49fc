"""What the settings of all kinds of runs have in common, and how wrong ones are refused.

The type hint of a field says what it may be; see `validation.fields`.
"""

import dataclasses
import re
import shlex
from collections.abc import Iterable
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, get_type_hints

from keras_deeplstm import validation
from keras_deeplstm.experiments.settings.blocks import Block
from keras_deeplstm.experiments.tasks.measures import Measure

UNITS = 100
COMPILING = 3  # epochs of a small data set take about as long as compiling does

Count = Annotated[int, validation.positive_integer]
Depth = Annotated[int, partial(validation.positive_integer, at_most=10_000)]
Units = Annotated[int, partial(validation.positive_integer, at_most=65_536)]
Seed = Annotated[int, validation.seed]
Fraction = Annotated[float, validation.fraction]
Number = Annotated[float, validation.finite]
Positive = Annotated[float, partial(validation.finite, positive=True)]
NotNegative = Annotated[float, partial(validation.finite, at_least=0)]
Factor = Annotated[float, partial(validation.finite, positive=True, at_most=1)]
Connection = Literal["lstm", "residual", "post-norm", "rezero", "scaled", "highway"]
OPTIMIZERS = ("adam", "adamw", "nadam", "rmsprop", "sgd")
Optimizer = Annotated[str, partial(validation.one_of, options=OPTIMIZERS)]


class ConfigError(Exception):
    """A setting that cannot be used.

    Deliberately not a ValueError: tyro would catch that one and rewrite its message.
    """


class UnknownError(ConfigError):
    """A task, a block or a study that this process does not know; another one may."""


@contextmanager
def config_errors():
    """Inside, a ValueError becomes a `ConfigError`."""
    try:
        yield
    except validation.Unknown as error:
        raise UnknownError(str(error)) from None
    except ValueError as error:
        raise ConfigError(str(error)) from None


class Dataclass:
    """A dataclass that its type hints check, and that JSON can hold."""

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]
    PREFIX: ClassVar[str] = ""
    """What stands before the names of its fields in the command."""

    def __post_init__(self, *asked: Any):
        with config_errors():
            self._complete(*asked)
            validation.fields(self, self.PREFIX)
            self._check()

    def _complete(self, *asked: Any) -> None:
        """Bring fields into the one form in which they are kept; `asked` are those that are not."""

    def _check(self):
        """Raise a ValueError for what no type hint can tell."""

    def changed(self, but: Iterable[str] = ()) -> dict[str, Any]:
        """The fields that differ from their defaults, `but` some."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        defaults = {
            f.name: f.default if f.default_factory is dataclasses.MISSING else f.default_factory()
            for f in dataclasses.fields(self)
        }
        return {k: v for k, v in values.items() if k not in but and v != defaults[k]}

    def to_dict(self) -> dict[str, Any]:
        """Plain types only, ready for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """The inverse of `to_dict`.

        Args:
            data: What it has returned, perhaps read from a file; what is left out has its default.

        Returns:
            The settings.

        Raises:
            ConfigError: A required key is missing, a key is unknown, or a value out of its range.
        """
        where = cls.PREFIX.rstrip(".") or "config"
        if not isinstance(data, dict):
            raise ConfigError(f"{where!r} must be a mapping. Received: {type(data).__name__}")
        known = {field.name: field for field in dataclasses.fields(cls)}
        for key in data:
            if key not in known:
                hint = validation.suggestion(key, known)
                raise ConfigError(f"Unknown key {key!r} in {where!r}.{hint}")
        values = {}
        for name, field in known.items():
            if name in data:
                values[name] = data[name]
            elif field.default is field.default_factory is dataclasses.MISSING:
                raise ConfigError(f"Missing required key {name!r} in {where!r}")
            if isinstance(field.type, type) and issubclass(field.type, Dataclass):
                values[name] = field.type.from_dict(values.get(name, {}))
            elif isinstance(values.get(name), list) and "tuple" in str(field.type):
                values[name] = tuple(values[name])  # JSON knows no tuples
        return cls(**values)


class Model(Dataclass):
    """What the settings of all kinds of models have in common."""

    PREFIX: ClassVar[str] = "model."
    BLOCKS: ClassVar[dict[str, tuple[str, tuple[str, ...]]]]
    """Of each block: its name in words, and the options it knows beyond `COMMON`."""
    COMMON: ClassVar[tuple[str, ...]] = ("block", "depth", "units", "parameters", "dropout")
    """The options that all blocks have."""
    DEFAULT_UNITS: ClassVar[int] = UNITS
    IN_WORDS: ClassVar[tuple[str, ...]] = ()
    """The options of a block that `words` tell."""

    block: str
    depth: Any
    units: int | None
    parameters: int | None
    dropout: float

    def _check(self):
        if self.parameters is not None and self.units not in (None, type(self).units):
            raise ValueError(
                f"Pass either `model.units` or `model.parameters`. Received: "
                f"model.units={self.units}, model.parameters={self.parameters}"
            )
        _, known = self.BLOCKS[self.block]
        refuse_unknown("model.", self.block_options, f"block {self.block!r}", known)

    @property
    def own(self) -> Block | None:
        """The block, if it is one of the user's own."""
        return None

    @property
    def words(self) -> str:
        """The block in words: ``"GridLSTM2D"``."""
        return self.BLOCKS[self.block][0]

    @property
    def block_options(self) -> dict[str, Any]:
        """The options of the block that differ from their defaults."""
        return self.changed(but=self.COMMON)

    def build_arguments(self) -> dict[str, Any]:
        """Keyword arguments for the builders of `keras_deeplstm.models`, the block included."""
        size = {"parameters": self.parameters}
        if self.parameters is None:
            size = {"units": self.DEFAULT_UNITS if self.units is None else self.units}
        common = {"block": self.block, "depth": self.depth, "dropout": self.dropout}
        return common | size | self.block_options

    @property
    def size(self) -> str:
        """``"128 units"`` or ``"100,000 parameters"``."""
        arguments = self.build_arguments()
        name = "units" if "units" in arguments else "parameters"
        return f"{arguments[name]:,} {name}"

    @property
    def label(self) -> str:
        """Name for tables and legends, without depth and size: ``"GridLSTM2D tied"``."""
        words = [self.words]
        for name, value in self.block_options.items():
            if name not in self.IN_WORDS:
                words.append(name if value is True else f"{name}={value}")
        if self.dropout:
            words.append(f"dropout{self.dropout}")
        return " ".join(words)


class Settings(Dataclass):
    """What the settings of all kinds of runs have in common. A kind says the rest of itself."""

    command: ClassVar[str]
    """The command of `deeplstm` that trains such runs; it also names the kind."""
    RESULTS: ClassVar[tuple[str, ...]] = ()
    COUNTED: ClassVar[str] = "epoch"
    """The column of `metrics.csv` that counts the training: the horizontal axis of TensorBoard."""
    FIXED: ClassVar[int] = 0
    """Time of an epoch that the depth does not change, in depth steps."""

    model: Any
    seed: int
    optimizer: str
    learning_rate: float
    schedule: str
    clipnorm: float | None
    clipvalue: float | None
    jit_compile: bool | None = None

    def _check(self):
        if self.clipnorm is not None and self.clipvalue is not None:
            raise ValueError(
                "Pass either `clipnorm` or `clipvalue`, and None for the other. "
                f"Received: clipnorm={self.clipnorm}, clipvalue={self.clipvalue}"
            )

    def _check_decay(self, schedule: str, *names: str) -> None:
        if self.schedule != schedule:
            unused = [name for name in names if name in self.changed()]
            refuse_unknown("", unused, f"schedule {self.schedule!r}", ())

    @property
    def measure(self) -> Measure:
        """What models are compared by: of a run it is the result test_NAME."""
        raise NotImplementedError

    @property
    def objectives(self) -> dict[str, Measure]:
        """What a search can judge a run by: columns of `metrics.csv`, the usual one first."""
        loss = Measure("loss", "min", ".4g")
        measures = {f"val_{self.measure.name}": self.measure, self.measure.name: self.measure}
        return measures | {"val_loss": loss, "loss": loss}

    @property
    def results(self) -> tuple[str, ...]:
        """The numbers that `result.json` of a finished run must hold."""
        return self.RESULTS

    def flat(self) -> dict[str, Any]:
        """All settings by their names in the command: `{"seed": ..., "model.depth": ...}`."""
        settings = self.to_dict()
        model = settings.pop("model")
        return settings | {f"model.{name}": value for name, value in model.items()}

    def command_line(self) -> str:
        """The command that trains it: what differs from the defaults is an option."""
        first, hints = dataclasses.fields(self)[0].name, get_type_hints(type(self))
        usual = type(self.model)().to_dict()
        model = {n: v for n, v in self.model.to_dict().items() if v != usual[n]}
        changed = self.changed(but=(first, "model"))
        changed |= {f"{self.model.PREFIX}{name}": value for name, value in model.items()}
        hints |= {f"model.{n}": h for n, h in get_type_hints(type(self.model)).items()}
        words = ["deeplstm", self.command, self.source]
        for name, value in changed.items():
            words.append(f"--{name.replace('_', '-')}")
            if isinstance(value, dict):
                words += [f"{option}={chosen}" for option, chosen in value.items()]
            elif isinstance(value, tuple):
                words += map(str, value)
            elif hints[name] is not bool:
                words.append(str(value))
        return shlex.join(words)

    # Names.

    @property
    def source(self) -> str:
        """The task or text as it is given."""
        return getattr(self, dataclasses.fields(self)[0].name)

    @property
    def subject(self) -> str:
        """The task or text for people."""
        raise NotImplementedError

    @property
    def listed(self) -> str:
        """The same for a list of runs of all kinds."""
        return self.subject

    @property
    def stem(self) -> str:
        """The same as the names of folders begin with it."""
        return self.subject

    @property
    def title(self) -> str:
        """One line that names the run: ``"tinyshakespeare: GridLSTM2D, depth 2, 128 units"``."""
        return f"{self.subject}: {self.model.label}, depth {self.model.depth}, {self.model.size}"

    @property
    def introduction(self) -> str:
        """What the command prints before the training."""
        return self.title

    @property
    def about(self) -> str:
        """What is to be learned, and from when on it counts as solved; "" if the title says all."""
        return ""

    @property
    def slug(self) -> str:
        """Folder name that tells the settings: ``"adding-length-200-lstm-depth1-100units-..."``."""
        size = self.model.size.replace(",", "").replace(" ", "")
        words = [self.stem, self.model.block, *self.model.label.split()[1:]]
        words += [f"depth{self.model.depth}", size, f"seed{self.seed}"]
        return re.sub(r"[^A-Za-z0-9._-]", "-", "-".join(words))

    def repeated(self, seed: int) -> Self:
        """The same with another seed."""
        return dataclasses.replace(self, seed=seed)

    @property
    def repetition(self) -> str:
        """What tells this run from others of its model: ``", seed 1"``."""
        return f", seed {self.seed}" if self.seed else ""

    # How long it takes.

    @property
    def rounds(self) -> int:
        """The most epochs, or what a row of `metrics.csv` counts in their place."""
        raise NotImplementedError

    @property
    def open_ended(self) -> bool:
        """Whether the training may end before all rounds, when nobody knows."""
        return False

    @property
    def work(self) -> float:
        """The time it takes, compared with other runs of its kind."""
        if self.open_ended:
            return 1  # the mean of those before has to do
        return (self.model.depth + self.FIXED) * (self.rounds + COMPILING)

    # Results.

    def progress(self, row: dict[str, Any]) -> str:
        """A line for the terminal of a row of `metrics.csv`; "" for none."""
        raise NotImplementedError

    def outcome(self, result: dict[str, Any]) -> str:
        """One line for the terminal of what `result.json` holds."""
        raise NotImplementedError

    def short(self, result: dict[str, Any]) -> str:
        """The same in a word or two."""
        raise NotImplementedError

    def next_step(self, folder: Path) -> str:
        """What to do with the finished run in `folder`, if anything is to be proposed."""
        return ""


def refuse_unknown(prefix: str, changed: Iterable[str], what: str, known: tuple[str, ...]) -> None:
    """Raise a ValueError if one of the changed options of `what` is none of the known ones."""
    for name in changed:
        if name not in known:
            raise ValueError(
                f"Argument `{prefix}{name}` has no meaning for {what}. "
                f"Its own options: {', '.join(known) or 'none'}"
            )


def check_connection(connection: str, changed: Iterable[str], of_lstm: tuple[str, ...]) -> None:
    """Raise a ValueError if one of the options of connection "lstm" is changed for another one."""
    if connection != "lstm":
        used = [name for name in changed if name in of_lstm]
        refuse_unknown("model.", used, f"connection {connection!r}", ())


def differences(old: Settings, new: Settings) -> str:
    """The settings that differ: ``"epochs: 3 -> 5, model.depth: 10 -> 20"``."""
    if old.command != new.command:
        return "it is a run of another kind"
    before, after = old.flat(), new.flat()
    return ", ".join(f"{k}: {before[k]} -> {after[k]}" for k in after if before[k] != after[k])
