"""The settings of a search as a dataclass, for Python, the command line and `search.json`."""

import dataclasses
import itertools
import shlex
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from typing import Annotated, Any, ClassVar

import tyro

from keras_deeplstm import validation
from keras_deeplstm.experiments.settings.base import ConfigError
from keras_deeplstm.experiments.settings.classifiers import ModelConfig, RunConfig
from keras_deeplstm.experiments.tasks import get_task, resolve

TUNERS = ("random", "bayesian", "hyperband", "grid")
TRIALS = 20
HYPERBAND_FACTOR = 3
WORDS = {"none": None, "true": True, "false": False}

Range = Annotated[str, tyro.conf.arg(metavar="RANGE")]


@dataclass(frozen=True)
class SearchConfig:
    """What is searched on one task, and how.

    A RANGE is `2..50` for anything between, `10,30,100` for one of these, `10` for always that.
    """

    task: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="TASK")]
    """Name of the task; `deeplstm list tasks` shows them all. Or a path: an .npz file, or a folder
    of images."""
    tuner: str = "random"
    """One of random, bayesian, hyperband, grid: how keras-tuner chooses the next trial."""
    objective: str | None = None
    """What the best epoch of a trial is judged by; if not given, the task's metric on the
    validation data, such as val_accuracy."""
    trials: int | None = None
    """Number of trials, 20 if not given; hyperband and grid then try all they plan."""
    executions: int = 1
    """Train each trial with this many seeds; the mean counts."""
    folds: int | None = None
    """Train each trial on each of this many folds of a cross-validation; the mean counts. The test
    data are no part of it."""
    epochs: int = 10
    """Passes over the training set; hyperband begins with fewer."""
    seed: int = 0
    """Seed of the search, and of the first execution of each trial."""
    block: Range = "unfolded_lstm"
    """Kind of the deep part: some of unfolded_lstm, dense, highway, residual."""
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
    max_parameters: int | None = None
    """Trials of larger models are skipped."""
    optimizer: str = "adam"
    """One of adam, adamw, nadam, rmsprop, sgd."""
    clipnorm: float | None = 1.0
    """Each weight's gradient is clipped to this norm; None switches clipping off."""
    gradient_every: int = 10
    """Gradient norms are recorded at every n-th training step."""

    RANGES: ClassVar = (
        *("block", "depth", "units", "dropout", "tied", "normalization", "forget_bias"),
        *("learning_rate", "batch_size"),
    )

    def __post_init__(self):
        try:
            self._check()
        except ValueError as error:
            raise ConfigError(str(error)) from None

    def _check(self):
        object.__setattr__(self, "task", resolve(self.task))  # see RunConfig
        task = get_task(self.task)
        if self.tuner not in TUNERS:
            near = get_close_matches(self.tuner, TUNERS, n=1, cutoff=0.5)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"Unknown tuner {self.tuner!r}.{hint} Available: {list(TUNERS)}")
        if self.objective is None:
            object.__setattr__(self, "objective", f"val_{task.metric}")
        available = ["loss", "val_loss", task.metric, f"val_{task.metric}"]
        if self.objective not in available:
            raise ValueError(f"Objective {self.objective!r} not found. Available: {available}")
        if self.trials is None and self.tuner in ("random", "bayesian"):
            object.__setattr__(self, "trials", TRIALS)
        for name in ("trials", "max_parameters", "executions"):
            if getattr(self, name) is not None:
                validation.positive_integer(name, getattr(self, name))
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
        # All other settings are those of a run.
        RunConfig(self.task, **self._training(), folds=self.folds)
        if not self.searched:
            raise ValueError("Search space is empty; nothing to tune")

    @property
    def subject(self) -> str:
        """The task for people; see `RunConfig.subject`."""
        return get_task(self.task).name

    def _training(self):
        names = ("epochs", "seed", "optimizer", "clipnorm", "gradient_every")
        return {name: getattr(self, name) for name in names}

    @cached_property
    def ranges(self) -> dict[str, Any]:
        """The ranges as `keras_deeplstm.search.Space` takes them."""
        return {name: _parse(name, getattr(self, name)) for name in self.RANGES}

    @property
    def searched(self) -> list[str]:
        """Names of the hyperparameters that are searched."""
        return [name for name, v in self.ranges.items() if isinstance(v, tuple | list)]

    @property
    def measure(self) -> str:
        """The objective, or what stands for it if none was given."""
        assert self.objective is not None  # since `_check`
        return self.objective

    @property
    def maximize(self) -> bool:
        """Whether a higher objective is better."""
        return not self.measure.endswith("loss")

    def best_first(self, score: float) -> float:
        """A key to sort scores by."""
        return -score if self.maximize else score

    def run(self, values: dict[str, Any]) -> RunConfig:
        """The run that keras-tuner's values (name -> value) stand for: first seed, no folds.

        Raises:
            ConfigError: The model does not know an option.
        """
        # Imported here, so that the command's help need not wait for Keras.
        from keras_deeplstm.search import Space

        options = Space(self.ranges).options(values)
        names = [field.name for field in dataclasses.fields(ModelConfig)]
        model = ModelConfig(**{name: options[name] for name in names if name in options})
        settings = {name: options[name] for name in ("learning_rate", "batch_size")}
        settings |= {"epochs": values.get("tuner/epochs", self.epochs)}  # of hyperband
        return RunConfig(self.task, model, **{**self._training(), **settings})

    def runs(self, values: dict[str, Any]) -> dict[str, RunConfig]:
        """All runs of a trial by the names of their folders, for its executions and folds."""
        first = self.run(values)
        found = {}
        for execution, fold in itertools.product(range(self.executions), range(self.folds or 1)):
            seed = first.seed + execution
            name = f"seed{seed}" + (f"-fold{fold + 1}of{self.folds}" if self.folds else "")
            found[name] = dataclasses.replace(first, seed=seed, folds=self.folds, fold=fold + 1)
        return found

    def to_dict(self) -> dict[str, Any]:
        """Plain types only, ready for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "SearchConfig":
        """The inverse of `to_dict`.

        Raises:
            ConfigError: There are other keys, or values that are wrong.
        """
        try:
            return cls(**data)
        except TypeError as error:
            raise ConfigError(str(error)) from None

    def differences(self, new: "SearchConfig") -> str:
        """Why a search with these settings cannot go on with new ones; "" if it can.

        More trials, or fewer, are no obstacle.
        """
        changes = [f"removed {name!r}" for name in self.searched if name not in new.searched]
        changes += [f"added {name!r}" for name in new.searched if name not in self.searched]
        told = set(self.searched) ^ set(new.searched)
        old, now = self.to_dict(), new.to_dict()
        changes += [
            f"{key}: {old[key]} -> {now[key]}"
            for key in now
            if old[key] != now[key] and key not in told and key != "trials"
        ]
        if not changes:
            return ""
        about_space = told or any(change.partition(":")[0] in self.RANGES for change in changes)
        return f"{'search space' if about_space else 'search'} differs: {', '.join(changes)}"


def command_of(config: RunConfig) -> str:
    """The command that trains a run: what differs from the defaults is an option."""
    default = RunConfig(config.task).flat()
    words = ["deeplstm", "run", config.task]
    for name, value in config.flat().items():
        if value != default[name]:
            words.append(f"--{name.replace('_', '-')}")
            words += [] if value is True else [str(value)]
    return shlex.join(words)


def _parse(name, text):
    """The range, values or value that `text` stands for."""
    low, dots, high = text.partition("..")
    if dots:
        return _number(name, low), _number(name, high)
    values = [_word(word.strip()) for word in text.split(",")]
    if name in ("dropout", "learning_rate", "forget_bias"):
        values = [float(value) if type(value) is int else value for value in values]
    return values if len(values) > 1 else values[0]


def _number(name, text):
    value = _word(text.strip())
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigError(f"Argument `{name}` must be a range of numbers. Received: {text!r}")
    return value


def _word(text):
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return WORDS.get(text.lower(), text)
