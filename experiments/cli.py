"""The command `deeplstm`.

Keras, pandas and matplotlib take seconds to import. They are imported inside the commands that
need them, so that `deeplstm --help`, `deeplstm list` and a mistyped option answer at once.
"""

import os
import shlex
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from keras_deeplstm import __version__, validation
from keras_deeplstm.experiments import runs
from keras_deeplstm.experiments.config import ConfigError, RunConfig
from keras_deeplstm.experiments.studies import STUDIES, outcome, run_study
from keras_deeplstm.experiments.tasks import TASKS, DataError

DESCRIPTION = """Experiments with LSTMs along the depth of a network.

Each command explains its options: deeplstm run --help. With --debug, an error shows its traceback.
--version shows the version."""

EXIT_STATUS = {ConfigError: 2, runs.RunExistsError: 3, DataError: 4}

Folder = Annotated[Path, tyro.conf.arg(metavar="DIR")]
OptionalFolder = Annotated[Path | None, tyro.conf.arg(metavar="DIR")]


@dataclass(frozen=True)
class RunCommand:
    """Train one model on one task."""

    config: Annotated[RunConfig, tyro.conf.arg(name="")]
    name: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """Name of the run's folder; made from the settings if not given."""
    data_dir: OptionalFolder = None
    """Folder with data sets; else the environment variable DEEPLSTM_DATA, else Keras' cache."""
    runs_dir: Folder = Path("runs")
    """Where the run's folder is made."""
    overwrite: bool = False
    """Replace the run of that name."""

    def execute(self, command: str) -> int:
        """Train, and write the run's report."""
        name = (
            runs.check_name(self.name) if self.name else runs.new_name(self.runs_dir, self.config)
        )
        folder = self.runs_dir / name
        runs.check_free(folder, self.overwrite)
        _load_keras()
        from keras_deeplstm.experiments.training import train

        def show(row):
            print(
                f"epoch {row['epoch']} of {self.config.epochs}  loss {row['loss']:.4f}  "
                f"val_accuracy {row['val_accuracy']:.1%}  {row['seconds']:.1f} s",
                flush=True,
            )

        print(self.config.title, flush=True)
        result = train(self.config, folder, data_dir=self.data_dir, command=command, on_epoch=show)
        print(outcome(self.config, result))
        _report([folder])
        return 0


@dataclass(frozen=True)
class StudyCommand:
    """Train the runs of a study and write its report. Finished runs are not run again."""

    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="STUDY")]
    """Name of the study; `deeplstm list studies` shows them all."""
    dataset: str = "digits"
    """Task of all runs: digits or mnist."""
    epochs: int | None = None
    """Passes over the training set; None leaves them to the study."""
    seed: int = 0
    """Seed of all runs."""
    limit: int | None = None
    """Train at most this many runs now."""
    data_dir: OptionalFolder = None
    """Folder with data sets; else the environment variable DEEPLSTM_DATA, else Keras' cache."""
    runs_dir: Folder = Path("runs")
    """Where the study's folder is made."""
    overwrite: bool = False
    """Train all runs anew."""

    def execute(self, command: str) -> int:
        """Run the study, and write its report."""
        try:
            study = STUDIES[validation.one_of("STUDY", self.name, tuple(STUDIES))]
            validation.one_of("dataset", self.dataset, study.datasets)
            if self.limit is not None:
                validation.positive_integer("limit", self.limit)
        except ValueError as error:
            raise ConfigError(str(error)) from None
        configs = study.configs(self.dataset, self.epochs, self.seed)
        folder = self.runs_dir / study.folder_name(self.dataset, self.epochs, self.seed)
        _load_keras()
        succeeded = run_study(
            study,
            configs,
            folder,
            data_dir=self.data_dir,
            limit=self.limit,
            overwrite=self.overwrite,
            command=command,
        )
        _report([folder])
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
class ListCommand:
    """List runs, tasks or studies."""

    what: tyro.conf.Positional[Literal["runs", "tasks", "studies"]] = "runs"
    """What to list."""
    runs_dir: Folder = Path("runs")
    """Where the runs' folders are."""

    def execute(self, command: str) -> int:
        """Print the list."""
        if self.what == "tasks":
            rows = [(task.name, task.description) for task in TASKS.values()]
        elif self.what == "studies":
            rows = [(study.name, study.question) for study in STUDIES.values()]
        else:
            rows = [self._row(run) for run in runs.find(self.runs_dir)]
            if not rows:
                print(f"No runs in '{self.runs_dir}'")
                return 0
            rows.insert(0, ("RUN", "STATE", "TASK", "MODEL", "DEPTH", "TEST ACCURACY"))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            print("  ".join(map(str.ljust, row, widths)).rstrip())
        return 0

    def _row(self, run):
        name = str(run.folder.relative_to(self.runs_dir))
        if run.config is None:
            return name, run.state, "", "", "", ""
        model = run.config.model
        accuracy = f"{run.result['test_accuracy']:.1%}" if run.result else ""
        return name, run.state, run.config.task, model.label, str(model.depth), accuracy


def main(argv: list[str] | None = None) -> int:
    """Run `deeplstm` with the given arguments and return its exit status.

    Wrong usage ends with status 2, a run folder that is taken with 3, missing or damaged data
    with 4, any other error with 1, Ctrl-C with 130. argparse-like exits (`--help`, an unknown
    option) raise SystemExit.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    if argv == ["--version"]:
        print(f"deeplstm {__version__}")
        return 0
    os.environ.setdefault("MPLBACKEND", "Agg")  # pictures go to files, never to a window
    command = shlex.join(["deeplstm", *argv])
    debug = "--debug" in argv
    try:
        action = tyro.extras.subcommand_cli_from_dict(
            {
                "run": RunCommand,
                "study": StudyCommand,
                "report": ReportCommand,
                "list": ListCommand,
            },
            prog="deeplstm",
            description=DESCRIPTION,
            args=[argument for argument in argv if argument != "--debug"],
            config=(tyro.conf.FlagCreatePairsOff,),
        )
        status = action.execute(command)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        print("deeplstm: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader, such as `head`, has gone. Python would complain when it flushes at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:
        if debug:
            traceback.print_exc()
        print(f"deeplstm: error: {error or type(error).__name__}", file=sys.stderr)
        return EXIT_STATUS.get(type(error), 1)


def _load_keras():
    """Import Keras without the start-up messages that its backends' C++ code writes to stderr."""
    sys.stderr.flush()
    stderr = os.dup(2)
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 2)
    try:
        import keras
        import tensorflow  # noqa: F401  Keras imports it later, whatever the backend

        keras.ops.zeros(1)  # the first operation makes the backend look for devices
    finally:
        os.dup2(stderr, 2)
        os.close(silence)
        os.close(stderr)


def _report(folders, output=None):
    _load_keras()
    from keras_deeplstm.experiments.report import write_report

    path = write_report(folders, output)
    print(f"Report: {path}\n{path.resolve().as_uri()}")


if __name__ == "__main__":
    sys.exit(main())
