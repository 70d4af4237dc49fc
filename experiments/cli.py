"""The command `deeplstm`.

Keras, pandas and matplotlib take seconds to import. They are imported inside the commands that
need them, so that `deeplstm --help`, `deeplstm list` and a mistyped option answer at once.
"""

import os
import shlex
import sys
import textwrap
import traceback
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from keras_deeplstm import __version__, validation
from keras_deeplstm.experiments import runs, signals
from keras_deeplstm.experiments.config import ConfigError, RunConfig
from keras_deeplstm.experiments.runner import MAX_RESTARTS, outcome, run_study
from keras_deeplstm.experiments.search.config import SearchConfig
from keras_deeplstm.experiments.search.results import conclusion, ranked
from keras_deeplstm.experiments.search.runner import is_worker, run_search
from keras_deeplstm.experiments.sequences import TASKS as SEQUENCE_TASKS
from keras_deeplstm.experiments.sequences.config import SequenceConfig
from keras_deeplstm.experiments.startup import check_backend, load_keras
from keras_deeplstm.experiments.studies import STUDIES
from keras_deeplstm.experiments.tasks import OWN_DATA, TASKS, DataError
from keras_deeplstm.experiments.text.config import TextConfig
from keras_deeplstm.experiments.text.sampling import check_sampled

DESCRIPTION = """Experiments with LSTMs along the depth of a network.

Each command explains its options: deeplstm run --help. With --debug, an error shows its traceback.
--version shows the version."""

EXIT_STATUS = {ConfigError: 2, runs.RunExistsError: 3, DataError: 4}

Folder = Annotated[Path, tyro.conf.arg(metavar="DIR")]
OptionalFolder = Annotated[Path | None, tyro.conf.arg(metavar="DIR")]
Share = Annotated[float | None, tyro.conf.arg(metavar="SHARE")]


@dataclass(frozen=True, kw_only=True)
class TrainCommand:
    """What all commands that train one run have in common; each has its `config` besides."""

    name: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """Name of the run's folder. If not given, it is made from the settings and a number: that of
    an unfinished run with exactly these settings, which then goes on, or else a new one."""
    new: bool = False
    """Without --name: start a new run even if one with these settings is unfinished."""
    runs_dir: Folder = Path("runs")
    """Where the run's folder is made."""
    checkpoint_share: Share = None
    """Share of the training time that checkpoints may take, 0.02 if not given. Epochs, or what is
    reported in their place, all get one if they are long against writing it; with 1 in any case."""
    overwrite: bool = False
    """Replace the run of that name."""


@dataclass(frozen=True, kw_only=True)
class RunCommand(TrainCommand):
    """Train one model on one task. The same command again goes on with a run that was
    interrupted, after its last checkpoint, as if nothing had happened."""

    config: Annotated[RunConfig, tyro.conf.arg(name="")]
    data_dir: OptionalFolder = None
    """Folder with data sets; else the environment variable DEEPLSTM_DATA, else Keras' cache."""
    devices: Literal["one", "all"] = "one"
    """Train on one device, or with a part of each batch on all of this machine."""

    def execute(self, command: str) -> int:
        """Train, and write the run's report."""
        share = _checkpoint_options(self.checkpoint_share)
        folder = _folder_to_train(self)
        if folder is None:
            return 0
        load_keras()
        _train(
            self.config,
            folder,
            devices=self.devices,
            data_dir=self.data_dir,
            command=command,
            overwrite=self.overwrite,
            **share,
        )
        _report([folder])
        return 0


@dataclass(frozen=True, kw_only=True)
class TrainTextCommand(TrainCommand):
    """Train a character language model on a text. The same command again goes on with a run that
    was interrupted, after its last checkpoint, as if nothing had happened."""

    config: Annotated[TextConfig, tyro.conf.arg(name="")]
    data_dir: OptionalFolder = None
    """Folder with texts that have a name; else the environment variable DEEPLSTM_DATA, else Keras'
    cache."""

    def execute(self, command: str) -> int:
        """Train, show samples, and write the run's report."""
        share = _checkpoint_options(self.checkpoint_share)
        folder = _folder_to_train(self)
        if folder is None:
            return 0
        load_keras()
        from keras_deeplstm.experiments.text.training import train

        print(self.config.title, flush=True)
        result = train(
            self.config,
            folder,
            data_dir=self.data_dir,
            command=command,
            overwrite=self.overwrite,
            on_report=self._show,
            on_message=lambda text: print(text, flush=True),
            **share,
        )
        print(outcome(self.config, result))
        _report([folder])
        print(f"Sample: deeplstm sample {shlex.quote(str(folder))}")
        return 0

    def _show(self, row, sample):
        parts = [
            f"step {row['step']}",
            f"epoch {row['epoch']:.4g} of {self.config.epochs}",
            f"loss {row['loss']:.4f} ({row['bits']:.3f} bits)",
        ]
        if "val_bits" in row:
            parts.append(f"validation {row['val_loss']:.4f} ({row['val_bits']:.3f} bits)")
        print("  ".join([*parts, f"{row['seconds']:.1f} s"]), flush=True)
        if sample:
            _print_text(textwrap.indent(sample, "    | ", lambda line: True) + "\n")


@dataclass(frozen=True, kw_only=True)
class SolveCommand(TrainCommand):
    """Train a model on new sequences of a task until the task is solved. The same command again
    goes on with a run that was interrupted, after its last checkpoint, as if nothing had
    happened."""

    config: Annotated[SequenceConfig, tyro.conf.arg(name="")]
    data_dir: OptionalFolder = None
    """Folder with data sets, for the task "series"; else the environment variable DEEPLSTM_DATA."""

    def execute(self, command: str) -> int:
        """Train, and write the run's report."""
        share = _checkpoint_options(self.checkpoint_share)
        folder = _folder_to_train(self)
        if folder is None:
            return 0
        load_keras()
        from keras_deeplstm.experiments.sequences.training import train

        task = self.config.make_task()
        print(
            f"{self.config.title}\n{task.description}\nSolved: {task.criterion.words}", flush=True
        )
        result = train(
            self.config,
            folder,
            data_dir=self.data_dir,
            command=command,
            overwrite=self.overwrite,
            on_epoch=self._show,
            on_message=lambda text: print(text, flush=True),
            **share,
        )
        print(outcome(self.config, result))
        _report([folder])
        return 0

    def _show(self, row):
        if self.config.model.block == "guess":
            return  # there is one row at the end, of which the outcome says all
        print(
            f"{row['sequences']} sequences  loss {row['loss']:.4f}  wrong {row['wrong']:.1%} of "
            f"{row['seen']}  error {row['error']:.4g}  {row['seconds']:.1f} s",
            flush=True,
        )


@dataclass(frozen=True)
class SampleCommand:
    """Write text with the best model of a run of `deeplstm train-text`."""

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """The run's folder, or its name."""
    prompt: Annotated[str, tyro.conf.arg(metavar="TEXT")] = ""
    """Text to go on from; without one, the begin of the validation text, which is not printed."""
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

    def execute(self, command: str) -> int:
        """Write the text as it comes."""
        folder = self.run if self.run.exists() else self.runs_dir / self.run
        check_sampled(folder)
        load_keras()
        from keras_deeplstm.experiments.text.sampling import load_sampler

        sampler, opening = load_sampler(folder)
        try:
            pieces = sampler.stream(
                self.prompt or opening,
                length=self.length,
                temperature=self.temperature,
                top_k=self.top_k,
                top_p=self.top_p,
                seed=self.seed,
            )
        except ValueError as error:
            raise ConfigError(str(error)) from None
        _print_text(self.prompt)
        for piece in pieces:
            _print_text(piece)
        print()
        return 0


@dataclass(frozen=True)
class SearchCommand:
    """Search depth, state size, dropout and more with keras-tuner, and write a report. The same
    command again goes on with a search that was interrupted.

    A RANGE is 2..50 for anything between, 10,30,100 for one of these, 10 for always that."""

    config: Annotated[SearchConfig, tyro.conf.arg(name="")]
    name: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """Name of the search's folder; if not given, search-TASK-TUNER."""
    time_limit: Annotated[float | None, tyro.conf.arg(metavar="MINUTES")] = None
    """No trial begins after this many minutes."""
    workers: int = 0
    """Start keras-tuner's chief and this many workers. On several machines, its environment
    variables do the same; see docs/scaling.md."""
    retrain: bool = False
    """In the end, train the best model once more as a run, and keep it."""
    devices: Literal["one", "all"] = "one"
    """Train each model on one device, or with a part of each batch on all of this machine."""
    data_dir: OptionalFolder = None
    """Folder with data sets; else the environment variable DEEPLSTM_DATA, else Keras' cache."""
    runs_dir: Folder = Path("runs")
    """Where the search's folder is made."""
    overwrite: bool = False
    """Replace the search of that name."""

    def execute(self, command: str) -> int:
        """Search, say what came of it, and write the report."""
        name = self.name or f"search-{self.config.subject}-{self.config.tuner}"
        folder = self.runs_dir / runs.check_name(name)
        try:
            if self.workers:
                validation.positive_integer("workers", self.workers, at_most=1000)
            if self.time_limit is not None:
                validation.finite("time_limit", self.time_limit, positive=True)
        except ValueError as error:
            raise ConfigError(str(error)) from None
        found, ended = run_search(
            self.config,
            folder,
            workers=self.workers,
            overwrite=self.overwrite,
            command=command,
            data_dir=self.data_dir,
            devices=self.devices,
            time_limit=self.time_limit and 60 * self.time_limit,
        )
        if is_worker():
            return 0
        load_keras()
        succeeded, lines = conclusion(found, self.config, ended)
        print("\n".join(lines))
        best = ranked(found, self.config)[:1]
        if self.retrain and best:
            run = self.config.run(best[0].values)
            other = runs.load(folder / "best").config != run
            options = {"devices": self.devices, "data_dir": self.data_dir, "command": command}
            _train(run, folder / "best", overwrite=other, **options)
            print(f"Model: {folder / 'best' / 'model.keras'}")
        if best:
            _report([folder])
        return 0 if succeeded else 1


@dataclass(frozen=True)
class StudyCommand:
    """Train the runs of a study and write its report. Finished runs are not run again, and one
    that was interrupted goes on."""

    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="STUDY")]
    """Name of the study; `deeplstm list studies` shows them all."""
    dataset: Annotated[str | None, tyro.conf.arg(metavar="TASK")] = None
    """Task of all runs; if not given, the first one of the study. Studies of images also take the
    path of data of your own; see `deeplstm list tasks`."""
    epochs: int | None = None
    """Passes over the training set; None leaves them to the study."""
    seeds: int = 1
    """Train every model with this many seeds: 0, 1, ... The report shows means and intervals."""
    folds: int | None = None
    """Train every model on each of this many folds of a stratified cross-validation. The test data
    are no part of it."""
    only: Annotated[str | None, tyro.conf.arg(metavar="PATTERN")] = None
    """Train only the runs with this in their names; * stands for any text."""
    limit: int | None = None
    """Train at most this many runs now."""
    restarts: int | None = None
    """How many times a run that diverges, or does not solve its task, is tried again with another
    seed (1000 higher); None: once, but not at all if runs have tasks to solve, since their success
    rate is a result."""
    data_dir: OptionalFolder = None
    """Folder with data sets; else the environment variable DEEPLSTM_DATA, else Keras' cache."""
    runs_dir: Folder = Path("runs")
    """Where the study's folder is made."""
    checkpoint_share: Share = None
    """Share of the training time that checkpoints may take; see `deeplstm run --help`."""
    overwrite: bool = False
    """Train all runs anew."""

    def execute(self, command: str) -> int:
        """Run the study, and write its report."""
        try:
            study = STUDIES[validation.one_of("STUDY", self.name, tuple(STUDIES))]
            dataset = study.checked(self.dataset)
            validation.positive_integer("seeds", self.seeds, at_most=1000)
            for option in ("limit", "epochs"):
                if getattr(self, option) is not None:
                    validation.positive_integer(option, getattr(self, option))
            if self.restarts:
                validation.positive_integer("restarts", self.restarts, at_most=MAX_RESTARTS)
        except ValueError as error:
            raise ConfigError(str(error)) from None
        plan = study.plan(dataset, self.epochs, self.seeds, self.folds)
        succeeded, report = run_study(
            study,
            plan,
            self.runs_dir / study.folder_name(dataset, self.epochs, self.folds),
            data_dir=self.data_dir,
            only=self.only,
            limit=self.limit,
            restarts=study.restarts if self.restarts is None else self.restarts,
            overwrite=self.overwrite,
            command=command,
            **_checkpoint_options(self.checkpoint_share),
        )
        _say_where(report)
        return 0 if succeeded else 1


@dataclass(frozen=True)
class ReportCommand:
    """Write the report of runs, or of a study, again."""

    folders: Annotated[
        tyro.conf.Positional[tuple[Path, ...]],
        tyro.conf.arg(metavar="FOLDER...", help_behavior_hint="(at least one)"),
    ]
    """Folders of runs, or folders that contain them, such as a study's."""
    output: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """The page; else report.html in the folder, or in the one that several folders share."""

    def execute(self, command: str) -> int:
        """Write the report."""
        if not self.folders:
            raise ConfigError("Name at least one folder of a run or a study")
        _report(list(self.folders), self.output)
        return 0


@dataclass(frozen=True)
class PublishCommand:
    """Write what studies have found for others to read: tables, and a page with the answers and
    pictures."""

    folders: Annotated[
        tyro.conf.Positional[tuple[Path, ...]],
        tyro.conf.arg(metavar="FOLDER...", help_behavior_hint="(at least one)"),
    ]
    """Folders of studies, in the order of the page."""
    tables: Folder = Path("experiments/results")
    """Folder for the tables: of each study a row for each model, and a row for each run."""
    page: Annotated[Path, tyro.conf.arg(metavar="FILE")] = Path("docs/results.md")
    """The page, in Markdown; its pictures lie beside it in a folder of its name."""

    def execute(self, command: str) -> int:
        """Write them."""
        if not self.folders:
            raise ConfigError("Name at least one folder of a study")
        load_keras()
        from keras_deeplstm.experiments.publish import publish

        publish(list(self.folders), self.tables, self.page)
        print(f"Page: {self.page}\nTables: {self.tables}")
        return 0


@dataclass(frozen=True)
class ListCommand:
    """List runs, tasks or studies."""

    what: tyro.conf.Positional[Literal["runs", "tasks", "sequences", "studies"]] = "runs"
    """What to list."""
    runs_dir: Folder = Path("runs")
    """Where the runs' folders are."""

    def execute(self, command: str) -> int:
        """Print the list."""
        if self.what == "tasks":
            rows = [(task.name, task.description) for task in TASKS.values()]
            rows += OWN_DATA.items()
        elif self.what == "sequences":
            rows = [(name, task().description) for name, task in SEQUENCE_TASKS.items()]
        elif self.what == "studies":
            rows = [(study.name, study.question) for study in STUDIES.values()]
        else:
            rows = [self._row(run) for run in runs.find(self.runs_dir)]
            if not rows:
                print(f"No runs in '{self.runs_dir}'")
                return 0
            rows.insert(0, ("RUN", "STATE", "TASK", "MODEL", "DEPTH", "TEST RESULT"))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            print(validation.printable("  ".join(map(str.ljust, row, widths)).rstrip()))
        return 0

    def _row(self, run):
        name = str(run.folder.relative_to(self.runs_dir))
        if run.config is None:
            return name, run.state, "", "", "", ""
        model, subject, result = run.config.model, run.config.subject, ""
        if isinstance(run.config, TextConfig):
            subject = f"text: {subject}"
        if run.result:
            result = _short(run)
        return name, run.state, subject, model.label, str(model.depth), result


def _short(run):
    """What a finished run came to, in a word or two."""
    result = run.result
    if isinstance(run.config, TextConfig):
        return f"{result['test_bits']:.3f} bits"
    if isinstance(run.config, SequenceConfig):
        return f"solved: {result['sequences']:,}" if result["solved"] else "not solved"
    return f"{result['test_accuracy']:.1%}"


def main(argv: list[str] | None = None) -> int:
    """Run `deeplstm` with the given arguments and return its exit status.

    Wrong usage ends with status 2, a run folder that is taken with 3, missing or damaged data
    with 4, any other error with 1, Ctrl-C with 130, SIGTERM with 143. argparse-like exits
    (`--help`, an unknown option) raise SystemExit.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    if argv == ["--version"]:
        print(f"deeplstm {__version__}")
        return 0
    os.environ.setdefault("MPLBACKEND", "Agg")  # pictures go to files, never to a window
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")  # warnings, but no information
    with suppress(AttributeError):  # what stands in for the terminal in a notebook
        sys.stdout.reconfigure(errors="backslashreplace")  # names that the terminal does not know
    command = shlex.join(["deeplstm", *argv])
    debug = "--debug" in argv
    try:
        action = tyro.extras.subcommand_cli_from_dict(
            {
                "run": RunCommand,
                "train-text": TrainTextCommand,
                "sample": SampleCommand,
                "solve": SolveCommand,
                "study": StudyCommand,
                "search": SearchCommand,
                "report": ReportCommand,
                "publish": PublishCommand,
                "list": ListCommand,
            },
            prog="deeplstm",
            description=DESCRIPTION,
            args=[argument for argument in argv if argument != "--debug"],
            config=(tyro.conf.FlagCreatePairsOff,),
        )
        check_backend()
        with signals.handled_by(signals.raise_interrupted):
            status = action.execute(command)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt as interrupt:
        print("deeplstm: interrupted. The same command goes on", file=sys.stderr)
        return getattr(interrupt, "status", 130)
    except BrokenPipeError:
        # The reader, such as `head`, has gone. Python would complain when it flushes at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:
        if debug:
            traceback.print_exc()
        reason = validation.printable(str(error), but="\n") or type(error).__name__
        print(f"deeplstm: error: {reason}", file=sys.stderr)
        return EXIT_STATUS.get(type(error), 1)


def _checkpoint_options(share):
    """Options for `train`: none if the user has none, so that its default stands in one place."""
    if share is None:
        return {}
    if not 0 <= share <= 1:
        raise ConfigError(
            f"Argument `checkpoint_share` must be a number in [0, 1]. "
            f"Received: checkpoint_share={share}"
        )
    return {"checkpoint_share": share}


def _folder_to_train(command):
    """The folder for the run of a command; None if the run is finished, and says so."""
    if command.name is None:
        name = runs.name_for(command.runs_dir, command.config, command.new)
    elif command.new:
        raise ConfigError("--new has no meaning with --name. Use --overwrite or another --name")
    else:
        name = runs.check_name(command.name)
    folder = command.runs_dir / name
    runs.check_usable(folder, command.config, command.overwrite)
    run = runs.load(folder)
    if run.state != "finished" or command.overwrite:
        return folder
    print(f"Run '{name}' is already finished: {outcome(run.config, run.result)}")
    print("Use --overwrite or another --name to train it again")
    return None


def _print_text(text):
    """Print text that may have characters which control the terminal."""
    if sys.stdout.isatty():
        text = validation.printable(text, but="\n\r\t")
    print(text, end="", flush=True)


def _train(config, folder, **options):
    """Train in this process, and say so."""
    from keras_deeplstm.experiments.training import train

    def show(row):
        print(
            f"epoch {row['epoch']} of {config.epochs}  loss {row['loss']:.4f}  "
            f"val_accuracy {row['val_accuracy']:.1%}  {row['seconds']:.1f} s",
            flush=True,
        )

    print(config.title, flush=True)
    result = train(
        config,
        folder,
        on_epoch=show,
        on_message=lambda text: print(text, flush=True),
        **options,
    )
    print(outcome(config, result))


def _report(folders, output=None):
    load_keras()
    from keras_deeplstm.experiments.report import write_report
    from keras_deeplstm.experiments.search.report import write_search_report

    if len(folders) == 1 and (folders[0] / "search.json").exists():
        _say_where(write_search_report(folders[0], output))
    else:
        _say_where(write_report(folders, output))


def _say_where(report):
    print(f"Report: {report}\n{report.resolve().as_uri()}")
