"""The settings of a search: for Python, the command line, and the study that keeps them."""

import dataclasses
from dataclasses import InitVar, dataclass
from functools import cached_property, partial
from typing import Annotated, Any, Literal

import tyro

from keras_deeplstm import validation
from keras_deeplstm.experiments.search.ranges import OPTIONS, RunSpace
from keras_deeplstm.experiments.settings import (
    RunConfig,
    SequenceConfig,
    Settings,
    TextConfig,
)
from keras_deeplstm.experiments.settings.base import Count, Dataclass, Seed
from keras_deeplstm.experiments.settings.blocks import Options
from keras_deeplstm.experiments.settings.classifiers import Columns, Kind
from keras_deeplstm.experiments.tasks import TASKS, resolve
from keras_deeplstm.experiments.tasks.measures import Measure
from keras_deeplstm.experiments.tasks.sequences import TASKS as SEQUENCE_TASKS
from keras_deeplstm.experiments.tasks.sequences import parse
from keras_deeplstm.experiments.tasks.text.sources import NAMES as TEXTS

SAMPLERS = ("random", "tpe", "nsga2", "gp", "cmaes", "grid")
TRIALS = 20
PARTS = 27  # of the training of a text, which is evaluated several times in an epoch
TRAINS: dict[str, type[Any]] = {
    "run": RunConfig,
    "train-text": TextConfig,
    "solve": SequenceConfig,
}
# What is searched if nothing else is said.
DEFAULTS = {
    "run": {
        "depth": "2..50",
        "units": "16..128",
        "dropout": "0..0.5",
        "learning_rate": "1e-4..1e-2",
        "batch_size": "32,64,128",
    },
    "train-text": {
        "depth": "1..4",
        "units": "32..256",
        "dropout": "0..0.5",
        "learning_rate": "5e-4..1e-2",
        "epochs": "2",
        "sample_length": "0",
    },
    "solve": {"depth": "1..4", "units": "8..128", "learning_rate": "1e-4..1e-2"},
}
OF_RESULT = {  # objectives that stand in the result of a run, not in its metrics
    "parameters": Measure("parameters", "min", ",.0f"),
    "seconds": Measure("seconds", "min", ".0f"),
    "trained_sequences": Measure("sequences", "min", ",.0f"),
}

Range = Annotated[str | None, tyro.conf.arg(metavar="RANGE")]
Ranges = Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=RANGE")]


@dataclass(frozen=True)
class SearchConfig(Dataclass):
    """What is searched on one task or text, and how.

    A RANGE is `2..50` for anything between, `10,30,100` for one of these, `10` for always that. An
    option that a trial's block does not have is left out.
    """

    task: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="TASK")]
    """What `deeplstm run`, `train-text` or `solve` takes: the name or path of a task, a text or a
    sequence task."""
    command: Literal["run", "train-text", "solve"] | None = None
    """The command that trains the trials; if not given, the one that knows the task."""
    sampler: str = "tpe"
    """One of random, tpe, nsga2, gp, cmaes, grid: how Optuna chooses the next trial."""
    pruner: Literal["median", "hyperband"] | None = None
    """Which trials end early: those worse than the median after as many epochs, or those that lose
    one of hyperband's rounds."""
    objective: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME")] = ()
    """What the best epoch of a trial is judged by, such as val_accuracy or val_loss; if not given,
    the task's metric on the validation data. Or two: also parameters or seconds."""
    trials: Count | None = None
    """Number of trials, of all processes together; 20 if not given, of grid all."""
    executions: Count = 1
    """Train each trial with this many seeds; the mean counts."""
    folds: Annotated[int, partial(validation.integer, at_least=2)] | None = None
    """Train each trial on each of this many folds of a cross-validation; the mean counts. The test
    data are no part of it."""
    seed: Seed = 0
    """Seed of the search, and of the first execution of each trial."""
    max_parameters: Count | None = None
    """Trials of larger models are skipped."""
    block: Range = None
    """Kind of the deep part: one or some of those of the command, or of your own."""
    depth: Range = None
    """Number of steps over depth, or of layers; 2..50 if not given, over time 1..4."""
    units: Range = None
    """Width of every step or layer; 16..128 if not given, of texts 32..256, of sequences
    8..128."""
    dropout: Range = None
    """Dropout rate; 0..0.5 if not given, of sequences 0."""
    tied: Range = None
    """Steps share one set of weights: true, false, or either: false,true."""
    normalization: Range = None
    """Normalization inside the LSTMs: some of none,batch,layer."""
    forget_bias: Range = None
    """Initial bias of the forget gate; depth stands for log(depth), at least 1."""
    learning_rate: Range = None
    """Learning rate of the optimizer; 1e-4..1e-2 if not given, of texts 5e-4..1e-2."""
    batch_size: Range = None
    """Examples per training step; 32,64,128 if not given, of texts and sequences that of their
    command."""
    optimizer: Range = None
    """Some of adam, adamw, nadam, rmsprop, sgd."""
    epochs: Range = None
    """Passes over the training data; 10 if not given, of a text 2."""
    set: Ranges = ()
    """Any other settings of the command: schedule=constant,cosine peepholes=false,true."""
    options: Ranges = ()
    """Options of a block of your own."""
    target: InitVar[Columns] = ()
    """Column of a table to predict from the others; or several, of numbers."""
    kind: InitVar[Kind] = None
    """Whether a class or a number of a column is predicted; see `deeplstm run --help`."""
    drop: InitVar[Columns] = ()
    """Columns of a table that are left out."""

    def _complete(self, target=(), kind=None, drop=()):
        def complete(name, value):
            object.__setattr__(self, name, value)

        if self.command is None:
            complete("command", _command_of(self.task))
        if self.command == "run":
            complete("task", resolve(self.task, target=target, kind=kind, drop=drop))
        elif target or kind or drop:
            raise ValueError(f"`deeplstm {self.command}` has no tables: target, kind, drop")
        complete("task", self._example.source)  # in its one form
        if not self.objective:
            complete("objective", (next(iter(self._example.objectives)),))
        if self.trials is None and self.sampler != "grid":
            complete("trials", TRIALS)

    def _check(self):
        validation.one_of("sampler", self.sampler, SAMPLERS)
        for name in self.objective:
            validation.one_of("objective", name, tuple(self._available))
        if len(self.objective) > 2 or len({*self.objective}) < len(self.objective):
            validation.refuse("objective", "one name, or two different ones", self.objective)
        one = len(self.objective) == 1 and self.objective[0] in self._example.objectives
        if self.pruner and not one:
            raise ValueError(
                "A pruner judges the epochs of a trial by one metric. Received: "
                f"pruner={self.pruner!r}, objective={self.objective}"
            )
        lengths = [n for n in ("epochs", "sequences", "evaluate_every") if n in self.searched]
        if self.pruner and lengths:
            raise ValueError(f"A pruner compares trials of one length. Searched: {lengths}")
        if self.sampler == "cmaes" and len(self.objective) > 1:
            raise ValueError("Sampler 'cmaes' knows one objective only")
        if self.folds and self.command != "run":
            raise ValueError(f"Argument `folds` has no meaning for `deeplstm {self.command}`")
        if not self.searched:
            raise ValueError("Search space is empty; nothing to tune")

    @cached_property
    def space(self) -> RunSpace:
        """The runs among which a search chooses."""
        options = Options.parse(list(self.options)).items()
        given = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.type is Range}
        given = {name: text for name, text in given.items() if text is not None}
        typed = Options.parse(list(self.set)).items()
        others = {name.removeprefix("model."): text for name, text in typed}
        if twice := given.keys() & others.keys():
            raise ValueError(f"Given twice, by its option and by --set: {', '.join(twice)}")
        given |= others
        # That called depth is the depth of any other block.
        given |= {n if n == "depth" else f"{OPTIONS}{n}": text for n, text in options}
        usual = {**DEFAULTS[str(self.command)]}
        if "parameters" in given:
            del usual["units"]
        if self.command == "solve" and parse(self.task).steps is None:  # without time
            usual["block"] = "unfolded_lstm"
        return RunSpace(TRAINS[str(self.command)], self.task, usual | given, list(given))

    @property
    def searched(self) -> list[str]:
        """Names of the hyperparameters that are searched."""
        return self.space.searched

    @cached_property
    def _example(self):
        return self.space.example()

    @property
    def _available(self) -> dict[str, Measure]:
        held = {name: OF_RESULT[name] for name in OF_RESULT if name in self._example.results}
        return self._example.objectives | held

    @property
    def measures(self) -> list[Measure]:
        """How values of each objective are compared and written."""
        return [self._available[name] for name in self.objective]

    @property
    def rounds(self) -> int:
        """The most epochs of a trial, or what its metrics count in their place."""
        return self._example.rounds

    @property
    def resource(self) -> int:
        """The steps in which a pruner counts a whole training."""
        return max(self.rounds, PARTS) if self.command == "train-text" else self.rounds

    @property
    def counted(self) -> str:
        """What `rounds` are."""
        return "evaluations" if self.command == "solve" else "epochs"

    @property
    def subject(self) -> str:
        """The task or text for people."""
        return self._example.subject

    def run(self, values: dict[str, Any]) -> Settings:
        """The run that keras-tuner's values (name -> value) stand for: first seed, no folds."""
        return dataclasses.replace(self.space.run(values), seed=self.seed)

    def runs(self, values: dict[str, Any]) -> dict[str, Settings]:
        """All runs of a trial, for its executions and folds, by the names of their folders."""
        first: Any = self.run(values)
        found = {}
        for seed in range(self.seed, self.seed + self.executions):
            if not self.folds:
                found[f"seed{seed}"] = dataclasses.replace(first, seed=seed)
            for fold in range(1, (self.folds or 0) + 1):
                part = {"seed": seed, "folds": self.folds, "fold": fold}
                found[f"seed{seed}-fold{fold}of{self.folds}"] = dataclasses.replace(first, **part)
        return found

    def differences(self, new: "SearchConfig") -> str:
        """How the settings differ from new ones with which a search cannot go on; "" if it can."""
        before, after = self.to_dict(), new.to_dict()
        return ", ".join(
            f"{name}: {before[name]} -> {after[name]}"
            for name in before
            if before[name] != after[name] and name != "trials"
        )


def _command_of(task):
    """The command that knows a task or text."""
    if task in TASKS:
        return "run"
    if task.partition(":")[0] in SEQUENCE_TASKS:
        return "solve"
    return "train-text" if task in TEXTS or task.endswith(".txt") else "run"
