"""The settings of a search: for Python, the command line, `search.json`."""

import dataclasses
import shlex
from contextlib import suppress
from dataclasses import InitVar, dataclass
from functools import cached_property, partial
from typing import Annotated, Any

import tyro

from keras_deeplstm import validation
from keras_deeplstm.experiments.settings.base import Count, Dataclass, Optimizer, Positive, Seed
from keras_deeplstm.experiments.settings.blocks import OWN_BLOCKS, Options
from keras_deeplstm.experiments.settings.classifiers import Columns, Kind, ModelConfig, RunConfig
from keras_deeplstm.experiments.tasks import get_task, resolve
from keras_deeplstm.experiments.tasks.measures import Measure

TUNERS = ("random", "bayesian", "hyperband", "grid")
TRIALS = 20
HYPERBAND_FACTOR = 3
OPTIONS = "options."  # what the names of options of blocks of the user's own begin with
TRAINING = ("learning_rate", "batch_size")
CONSTANTS = {"none": None, "true": True, "false": False}

Range = Annotated[str, tyro.conf.arg(metavar="RANGE")]


@dataclass(frozen=True)
class SearchConfig(Dataclass):
    """What is searched on one task, and how.

    A RANGE is `2..50` for anything between, `10,30,100` for one of these, `10` for always that.
    """

    task: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="TASK")]
    """Name of the task; `deeplstm list tasks` shows them all. Or a path: an .npz file, a table
    (.csv or .parquet, with --target), or a folder of images."""
    tuner: str = "random"
    """One of random, bayesian, hyperband, grid: how keras-tuner chooses the next trial."""
    objective: str | None = None
    """What the best epoch of a trial is judged by; if not given, the task's metric on the
    validation data, such as val_accuracy."""
    trials: Count | None = None
    """Number of trials, 20 if not given; hyperband and grid then try all they plan."""
    executions: Count = 1
    """Train each trial with this many seeds; the mean counts."""
    folds: Annotated[int, partial(validation.integer, at_least=2)] | None = None
    """Train each trial on each of this many folds of a cross-validation; the mean counts. The test
    data are no part of it."""
    epochs: Count = 10
    """Passes over the training set; hyperband begins with fewer."""
    seed: Seed = 0
    """Seed of the search, and of the first execution of each trial."""
    block: Range = "unfolded_lstm"
    """Kind of the deep part: some of unfolded_lstm, dense, highway, residual, or of your own."""
    depth: Range = "2..50"
    """Number of steps over depth."""
    units: Range = "16..128"
    """Width of every step."""
    dropout: Range = "0..0.5"
    """Dropout rate on the output of every step."""
    tied: Range = "false"
    """All steps share one set of weights: true, false, or either: false,true."""
    normalization: Range = "none"
    """Normalization inside the LSTM: some of none,batch,layer."""
    forget_bias: Range = "depth"
    """Initial bias of the forget gate; depth stands for log(depth), at least 1."""
    learning_rate: Range = "1e-4..1e-2"
    """Learning rate of the optimizer."""
    batch_size: Range = "32,64,128"
    """Examples per training step."""
    max_parameters: Count | None = None
    """Trials of larger models are skipped."""
    optimizer: Optimizer = "adam"
    """One of adam, adamw, nadam, rmsprop, sgd."""
    clipnorm: Positive | None = 1.0
    """Each weight's gradient is clipped to this norm; None switches clipping off."""
    gradient_every: Count = 10
    """Gradient norms are recorded at every n-th training step."""

    options: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=RANGE")] = ()
    """Options of a block of your own."""
    target: InitVar[Columns] = ()
    """Column of a table that is to be told from the others; or several, of numbers."""
    kind: InitVar[Kind] = None
    """Whether a column is told as one of its classes or as a number; see `deeplstm run --help`."""
    drop: InitVar[Columns] = ()
    """Columns of a table that are left out."""

    def _complete(self, target=(), kind=None, drop=()):
        # A path is made absolute; see `RunConfig`.
        object.__setattr__(self, "task", resolve(self.task, target=target, kind=kind, drop=drop))
        if self.objective is None:
            object.__setattr__(self, "objective", f"val_{get_task(self.task).measure.name}")
        if self.trials is None and self.tuner in ("random", "bayesian"):
            object.__setattr__(self, "trials", TRIALS)

    def _check(self):
        validation.known("tuner", self.tuner, TUNERS)
        metric = get_task(self.task).measure.name
        available = ["loss", "val_loss", metric, f"val_{metric}"]
        if self.objective not in available:
            raise ValueError(f"Objective {self.objective!r} not found. Available: {available}")
        if self.tuner == "hyperband" and self.epochs < HYPERBAND_FACTOR:
            raise ValueError(
                f"Argument `epochs`, hyperband's max_epochs, must be >= factor={HYPERBAND_FACTOR}. "
                f"Received: epochs={self.epochs}"
            )
        for name in ("block", "tied", "normalization", "forget_bias"):  # numbers: keras-tuner does
            values = self.ranges[name]
            for value in values if isinstance(values, list | tuple) else [values]:
                if value == "cnn":
                    raise ValueError("Block 'cnn' cannot be searched: it has no steps over depth")
                ModelConfig(**{name: value})
        if not self.searched:
            raise ValueError("Search space is empty; nothing to tune")

    @property
    def subject(self) -> str:
        """The task for people; see `RunConfig.subject`."""
        return get_task(self.task).name

    @property
    def measure(self) -> Measure:
        """How values of the objective are compared and written."""
        if str(self.objective).removeprefix("val_") == "loss":
            return Measure("loss", "min", ".4g")
        return get_task(self.task).measure

    @property
    def maximize(self) -> bool:
        """Whether a higher objective is better."""
        return self.measure.direction == "max"

    @cached_property
    def ranges(self) -> dict[str, Any]:
        """The ranges as `keras_deeplstm.search.Space` takes them."""
        names = [field.name for field in dataclasses.fields(self) if field.type is Range]
        found = {name: _parse(name, getattr(self, name)) for name in names}
        for name, text in Options.parse(list(self.options)).items():
            found[f"{OPTIONS}{name}"] = _parse(name, text)
        return found

    def range_text(self, name: str) -> str:
        """A range as it was typed."""
        own, option = name.startswith(OPTIONS), name.removeprefix(OPTIONS)
        return Options.parse(list(self.options))[option] if own else getattr(self, name)

    def space(self) -> Any:
        """The `keras_deeplstm.search.Space` of the ranges."""
        from keras_deeplstm.search import Space  # the command's help does not wait for Keras

        own = {b: [f"{OPTIONS}{option}" for option in OWN_BLOCKS[b].options] for b in OWN_BLOCKS}
        return Space(self.ranges, own)

    @property
    def searched(self) -> list[str]:
        """Names of the hyperparameters that are searched."""
        blocks = self.ranges["block"] if isinstance(self.ranges["block"], list) else [self.block]
        names = [name for name, v in self.ranges.items() if isinstance(v, tuple | list)]
        if all(block in OWN_BLOCKS for block in blocks):
            names = [n for n in names if n in ("block", *TRAINING) or n.startswith(OPTIONS)]
        return names

    def run(self, values: dict[str, Any]) -> RunConfig:
        """The run that keras-tuner's values (name -> value) stand for: first seed, no folds."""
        options = self.space().options(values)
        own = {name: options.pop(name) for name in list(options) if name.startswith(OPTIONS)}
        if own:
            options["options"] = {name.removeprefix(OPTIONS): value for name, value in own.items()}
        settings = {name: options.pop(name) for name in TRAINING}
        settings["epochs"] = values.get("tuner/epochs", self.epochs)  # hyperband chooses them
        for name in ("seed", "optimizer", "clipnorm", "gradient_every"):
            settings[name] = getattr(self, name)
        return RunConfig(self.task, ModelConfig(**options), **settings)

    def runs(self, values: dict[str, Any]) -> dict[str, RunConfig]:
        """All runs of a trial, for its executions and folds, by the names of their folders."""
        first = self.run(values)
        found = {}
        for seed in range(self.seed, self.seed + self.executions):
            for fold in range(1, (self.folds or 1) + 1):
                name = f"seed{seed}" + (f"-fold{fold}of{self.folds}" if self.folds else "")
                found[name] = dataclasses.replace(first, seed=seed, folds=self.folds, fold=fold)
        return found

    def differences(self, new: "SearchConfig") -> str:
        """Why a search with these settings cannot go on with new ones; "" if it can."""
        changes = {}
        for name, before in self.to_dict().items():
            after = getattr(new, name)
            if before == after or name == "trials":  # more trials, or fewer, are no obstacle
                continue
            changes[name] = f"{name}: {before} -> {after}"
            if (name in self.searched) != (name in new.searched):
                changes[name] = f"{'removed' if name in self.searched else 'added'} {name!r}"
        if not changes:
            return ""
        what = "search space" if any(name in self.ranges for name in changes) else "search"
        return f"{what} differs: {', '.join(changes.values())}"


def command_of(config: RunConfig) -> str:
    """The command that trains a run: what differs from the defaults is an option."""
    default = RunConfig(config.task).flat()
    words = ["deeplstm", "run", config.task]
    for name, value in config.flat().items():
        if value == default[name]:
            continue
        words.append(f"--{name.replace('_', '-')}")
        if name == "model.options":
            words += [f"{option}={chosen}" for option, chosen in value.items()]
        else:
            words += [] if value is True else [str(value)]
    return shlex.join(words)


def _parse(name, text):
    """The range (a tuple), the values (a list) or the value that a text stands for."""
    if ".." in text:
        ends = tuple(_parse_word(end) for end in text.split("..", 1))
        if not all(type(end) in (int, float) for end in ends):
            raise ValueError(f"Argument `{name}` must be a range of numbers. Received: {text!r}")
        return ends
    values = [_parse_word(word) for word in text.split(",")]
    if name in ("dropout", "learning_rate", "forget_bias"):  # keras-tuner wants a single type
        values = [float(value) if type(value) is int else value for value in values]
    return values if len(values) > 1 else values[0]


def _parse_word(text):
    """The number or the constant that a text stands for, or the text itself."""
    text = text.strip()
    for kind in (int, float):
        with suppress(ValueError):
            return kind(text)
    return CONSTANTS.get(text.lower(), text)
