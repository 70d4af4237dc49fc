"""The commands that can be typed after `deeplstm`, their options and their help.

What a command then does is in `cli.py`.
"""

import dataclasses
import functools
import typing
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal

import docstring_parser
import tyro

from keras_deeplstm import validation
from keras_deeplstm.experiments.search.config import SearchConfig
from keras_deeplstm.experiments.settings.base import Count, Positive
from keras_deeplstm.experiments.settings.classifiers import Columns, Kind, RunConfig
from keras_deeplstm.experiments.settings.sequences import SequenceConfig
from keras_deeplstm.experiments.settings.text import TextConfig

DESCRIPTION = """Experiments with LSTMs along the depth of a network.

Each command explains its options: deeplstm run --help. With --debug, an error shows its traceback.
--version shows the version. A file that registers tasks of your own is a command, too:
deeplstm FILE.py run --help."""

Folder = Annotated[Path, tyro.conf.arg(metavar="DIR")]
OptionalFolder = Annotated[Path | None, tyro.conf.arg(metavar="DIR")]
Folders = Annotated[
    tyro.conf.Positional[tuple[Path, ...]],
    tyro.conf.arg(metavar="FOLDER...", help_behavior_hint="(at least one)"),
]
Share = Annotated[float | None, tyro.conf.arg(metavar="SHARE")]
Devices = Literal["one", "all"]
Events = Annotated[
    bool,
    tyro.conf.arg(
        help="Also write loss, metrics and recorded gradients for TensorBoard, to the folder "
        "tensorboard of a run; tensorboard --logdir runs shows all runs."
    ),
]


@dataclass(frozen=True, kw_only=True)
class Command:
    """What all commands that train have in common."""

    data_dir: OptionalFolder = None
    """Folder with data sets and texts that have a name; else the environment variable
    DEEPLSTM_DATA, else Keras' cache."""
    runs_dir: Folder = Path("runs")
    """Where the folder is made."""
    overwrite: bool = False
    """Replace what is there of that name."""


@dataclass(frozen=True, kw_only=True)
class TrainCommand(Command):
    """What all commands that train one run have in common."""

    config: Any
    name: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """Name of the run's folder. If not given, it is made from the settings and a number: that of
    an unfinished run with exactly these settings, which is then resumed, or else a new one."""
    new: bool = False
    """Without --name: start a new run even if one with these settings is unfinished."""
    checkpoint_share: Share = None
    """Share of the training time that checkpoints may take, 0.02 if not given. Epochs, or what is
    reported in their place, all get one if they are long against writing it; with 1 in any case."""
    tensorboard: Events = False


@dataclass(frozen=True, kw_only=True)
class RunCommand(TrainCommand):
    """Train one model on one task. The same command again resumes a run that was
    interrupted, after its last checkpoint, as if nothing had happened."""

    config: Annotated[RunConfig, tyro.conf.arg(name="")]
    devices: Devices = "one"
    """Train on one device, or with a part of each batch on all of this machine."""


@dataclass(frozen=True, kw_only=True)
class TrainTextCommand(TrainCommand):
    """Train a character language model on a text. The same command again resumes a run that
    was interrupted, after its last checkpoint, as if nothing had happened."""

    config: Annotated[TextConfig, tyro.conf.arg(name="")]


@dataclass(frozen=True, kw_only=True)
class SolveCommand(TrainCommand):
    """Train a model on new sequences of a task until the task is solved. The same command again
    resumes a run that was interrupted, after its last checkpoint, as if nothing had
    happened."""

    config: Annotated[SequenceConfig, tyro.conf.arg(name="")]


@dataclass(frozen=True)
class SampleCommand:
    """Write text with the best model of a run of `deeplstm train-text`."""

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """The run's folder, or its name."""
    prompt: Annotated[str, tyro.conf.arg(metavar="TEXT")] = ""
    """Text to continue; without one, the start of the validation text, which is not printed."""
    length: int = 2000
    """Number of symbols to write."""
    temperature: float = 1.0
    """Below 1, likely symbols become likelier; 0 always takes the likeliest."""
    top_k: int | None = None
    """Draw only from this many of the likeliest symbols."""
    top_p: float | None = None
    """Draw only from the fewest likeliest symbols that have this probability together."""
    seed: int | None = None
    """The same seed gives the same text."""
    runs_dir: Folder = Path("runs")
    """Where a run's folder is looked for by its name."""


@dataclass(frozen=True)
class SearchCommand(Command):
    """Search depth, state size, dropout and more with keras-tuner and Optuna, and write a report.
    The same command again resumes a search that was interrupted, or joins one that runs.

    A RANGE is 2..50 for anything between, 10,30,100 for one of these, 10 for always that."""

    config: Annotated[SearchConfig, tyro.conf.arg(name="")]
    name: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """Name of the search's folder; if not given, search-TASK-SAMPLER."""
    storage: Annotated[str | None, tyro.conf.arg(metavar="PLACE")] = None
    """Where Optuna keeps the trials: path of a journal, or URL of a database such as
    sqlite:///search.db; if not given, study.log in the folder."""
    time_limit: Annotated[Positive | None, tyro.conf.arg(metavar="MINUTES")] = None
    """No trial begins after this many minutes."""
    workers: Annotated[int, partial(validation.integer, at_least=1, at_most=1000)] = 1
    """Train in this many processes. Machines that see the storage share it by the same command."""
    retrain: bool = False
    """In the end, train the best model once more as a run, and keep it; of two objectives, the best
    by the first."""
    devices: Devices = "one"
    """Train each model on one device, or with a part of each batch on all of this machine."""


@dataclass(frozen=True)
class StudyCommand(Command):
    """Train the runs of a study and write its report. Finished runs are not run again, and one
    that was interrupted is resumed."""

    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="STUDY")]
    """Name of the study; `deeplstm list studies` shows them all."""
    dataset: Annotated[str | None, tyro.conf.arg(metavar="TASK")] = None
    """Task of all runs; if not given, the first one of the study. Studies of images also take the
    path of data of your own; see `deeplstm list tasks`."""
    target: Columns = ()
    """Column of a table to predict from the others; or several, of numbers."""
    kind: Kind = None
    """Whether a class or a number of a column is predicted; see `deeplstm run --help`."""
    drop: Columns = ()
    """Columns of a table that are left out."""
    epochs: Count | None = None
    """Passes over the training set; None leaves them to the study."""
    seeds: Annotated[int, partial(validation.positive_integer, at_most=1000)] = 1
    """Train every model with this many seeds: 0, 1, ... The report shows means and intervals."""
    folds: int | None = None
    """Train every model on each of this many folds of a stratified cross-validation. The test data
    are no part of it."""
    only: Annotated[str | None, tyro.conf.arg(metavar="PATTERN")] = None
    """Train only the runs with this in their names; * stands for any text."""
    limit: Count | None = None
    """Train at most this many runs now."""
    published: OptionalFolder = None
    """Folder NAME-data that `deeplstm publish` has written, perhaps on another machine: runs that
    finished there are not trained again."""
    restarts: Annotated[int, partial(validation.integer, at_least=0, at_most=1000)] | None = None
    """How many times a run that diverges, or does not solve its task, is tried again with another
    seed (1000 higher); None: once, but not at all if runs have tasks to solve, since their success
    rate is a result."""
    checkpoint_share: Share = None
    """Share of the training time that checkpoints may take; see `deeplstm run --help`."""
    tensorboard: Events = False
    list: bool = False
    """Train nothing: list the runs, what is done, and their names for --only."""


@dataclass(frozen=True)
class ReportCommand:
    """Write the report of runs, or of a study, again."""

    folders: Folders
    """Folders of runs, or folders that contain them, such as a study's."""
    output: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """The page, next to which are its tables, NAME-table.csv and so on; else report.html in the
    folder, or in the one that several folders share, with table.csv."""


@dataclass(frozen=True)
class PublishCommand:
    """Write what studies have found for others to read: tables, and a page with the answer and
    pictures of each."""

    folders: Folders
    """Folders of studies."""
    tables: Folder = Path("experiments/results")
    """Folder for the tables: of each study a row for each model, and a row for each run."""
    pages: Folder = Path("docs/results")
    """Folder for the pages, in Markdown: one for each study with its pictures, and index.md. Pages
    of other studies stay."""
    yes: bool = False
    """Do not ask before writing into folders that no study was published in."""


@dataclass(frozen=True)
class ListCommand:
    """List runs, tasks or studies. On a terminal, a study or a search is one line of the runs."""

    what: tyro.conf.Positional[Literal["runs", "tasks", "sequences", "studies"]] = "runs"
    """What to list."""
    runs_dir: Folder = Path("runs")
    """Where the runs' folders are."""


@functools.cache
def _join_lines_of_help(settings):
    """Give tyro each field's docstring in one line: as it is, it would break where that does."""
    for one in filter(dataclasses.is_dataclass, settings.__mro__):
        for field in docstring_parser.parse_from_object(one).params:
            kind, text = one.__annotations__.get(field.arg_name), field.description
            if text and "\n" in text and not isinstance(kind, NoneType | dataclasses.InitVar):
                said = tyro.conf.arg(help=" ".join(text.split()))
                one.__annotations__[field.arg_name] = Annotated[kind, said]
    for kind in typing.get_type_hints(settings).values():
        if dataclasses.is_dataclass(kind):
            _join_lines_of_help(kind)


COMMANDS: dict[str, Callable[..., Any]] = {
    "run": RunCommand,
    "train-text": TrainTextCommand,
    "sample": SampleCommand,
    "solve": SolveCommand,
    "study": StudyCommand,
    "search": SearchCommand,
    "report": ReportCommand,
    "publish": PublishCommand,
    "list": ListCommand,
}


def parse(arguments: list[str]) -> object:
    """The command that was typed; SystemExit if it asked for help or has a wrong argument."""
    if {"-h", "--help"} & set(arguments):
        for command in COMMANDS.values():
            _join_lines_of_help(command)
    return tyro.extras.subcommand_cli_from_dict(
        COMMANDS,
        prog="deeplstm",
        description=DESCRIPTION,
        args=arguments,
        config=(tyro.conf.FlagCreatePairsOff,),
    )
