"""The command `deeplstm`: what each command does, and how an error ends it.

Keras, pandas and matplotlib take seconds to import. They are imported where a command needs them,
so that `deeplstm --help`, `deeplstm list` and a mistyped option answer at once.
"""

import os
import re
import shlex
import sys
import textwrap
import traceback
from collections.abc import Callable
from typing import Any

from keras_deeplstm import __version__, validation
from keras_deeplstm.experiments import commands, listing, runs
from keras_deeplstm.experiments.bars import epoch_bar
from keras_deeplstm.experiments.processes import signals, startup
from keras_deeplstm.experiments.processes.startup import load_keras
from keras_deeplstm.experiments.processes.worker import end_if_imported
from keras_deeplstm.experiments.runner import run_study
from keras_deeplstm.experiments.sampling import check_sampled
from keras_deeplstm.experiments.search.results import conclusion, ranked
from keras_deeplstm.experiments.search.runner import run_search
from keras_deeplstm.experiments.search.storages import shown
from keras_deeplstm.experiments.search.trials import trial_folder
from keras_deeplstm.experiments.settings.base import ConfigError, UnknownError, config_errors
from keras_deeplstm.experiments.studies import STUDIES
from keras_deeplstm.experiments.tasks import OWN_DATA, TASKS, DataError, resolve
from keras_deeplstm.experiments.tasks.sequences import TASKS as SEQUENCE_TASKS

EXIT_STATUS = {ConfigError: 2, UnknownError: 2, runs.RunExistsError: 3, DataError: 4}

# Each command gets what was typed, as an object and as a line for the record, and returns its exit
# status.


def train(command: commands.TrainCommand, line: str) -> int:
    """Train one run of any kind, and write its report."""
    options = _options(command, line)
    config, folder = command.config, _folder_to_train(command)
    if folder is None:
        return 0
    load_keras()
    _train(config, folder, **options)
    _report([folder])
    _say(config.next_step(folder))
    return 0


def sample(command: commands.SampleCommand, line: str) -> int:
    """Write text as it comes."""
    folder = command.run if command.run.exists() else command.runs_dir / command.run
    check_sampled(folder)
    load_keras()
    from keras_deeplstm.experiments.sampling import load_sampler

    sampler, opening = load_sampler(folder)
    with config_errors():
        pieces = sampler.stream(
            command.prompt or opening,
            length=command.length,
            temperature=command.temperature,
            top_k=command.top_k,
            top_p=command.top_p,
            seed=command.seed,
        )
    _print_text(command.prompt)
    for piece in pieces:
        _print_text(piece)
    print()
    return 0


def study(command: commands.StudyCommand, line: str) -> int:
    """Run a study, and write its report."""
    with config_errors():
        study = STUDIES[validation.one_of("STUDY", command.name, tuple(STUDIES))]
        dataset = command.dataset
        asked = {"target": command.target, "kind": command.kind, "drop": command.drop}
        if any(asked.values()):
            dataset = resolve(dataset or study.checked(None), **asked)
        dataset = study.checked(dataset)
        validation.fields(command)
    restarts = study.restarts if command.restarts is None else command.restarts
    plan = study.plan(dataset, command.epochs, command.seeds, command.folds)
    folder = command.runs_dir / study.folder_name(dataset, command.epochs, command.folds)
    if command.list:
        if command.published:
            raise ConfigError("--published takes runs over, and --list only looks at them")
        listing.show(listing.of_plan(plan, folder, command.only))
        return 0
    succeeded, report = run_study(
        study,
        plan,
        folder,
        only=command.only,
        limit=command.limit,
        restarts=restarts,
        published=command.published,
        **_options(command, line),
    )
    _say_where(report)
    return 0 if succeeded else 1


def search(command: commands.SearchCommand, line: str) -> int:
    """Search, say what came of it, and write the report."""
    config = command.config
    subject = re.sub(r"[^A-Za-z0-9._-]+", "-", config.subject)[:60]
    name = command.name or f"search-{subject}-{config.sampler}"
    folder = command.runs_dir / runs.check_name(name)
    if command.storage is not None:  # which may hold a password
        words = shlex.split(line)
        known = command.storage, shown(command.storage)
        line = shlex.join(word.replace(*known) for word in words)
    with config_errors():
        validation.fields(command)
    options = _options(command, line)
    overwrite = options.pop("overwrite")
    found, ended = run_search(
        config,
        folder,
        storage=command.storage,
        workers=command.workers,
        overwrite=overwrite,
        time_limit=command.time_limit and 60 * command.time_limit,
        **options,
    )
    load_keras()
    succeeded, lines = conclusion(found, config, ended)
    _say("\n".join(lines))
    best = ranked(found, config)[:1]
    if command.retrain and best:
        winner, kept = config.run(best[0].values), folder / "best"
        _write_report([folder])  # there it is, should the training diverge
        beside = trial_folder(folder, best[0].number) / next(iter(config.runs(best[0].values)))
        anew = runs.load(kept).config != winner
        _train(winner, kept, overwrite=anew, beside=beside, **options)
        _say(f"Model: {kept / 'model.keras'}")
    if best:
        _report([folder])
    return 0 if succeeded else 1


def report(command: commands.ReportCommand, line: str) -> int:
    """Write a report."""
    if not command.folders:
        raise ConfigError("Name at least one folder of a run or a study")
    if command.output is not None and not command.output.parent.is_dir():
        raise ConfigError(f"There is no folder '{command.output.parent}' for --output")
    _report(list(command.folders), command.output)
    return 0


def publish(command: commands.PublishCommand, line: str) -> int:
    """Write tables and pages, into a folder that is not ours only if the user agrees."""
    if not command.folders:
        raise ConfigError("Name at least one folder of a study")
    load_keras()
    from keras_deeplstm.experiments.reports.publish import INDEX, is_written, publish

    index = command.pages / INDEX

    def confirm():
        if not (command.yes or is_written(index)):
            places = f"'{command.pages.resolve()}' and '{command.tables.resolve()}'"
            _ask(f"Nothing was published in these folders yet: {places}. Write there?")

    publish(list(command.folders), command.tables, command.pages, confirm)
    _say(f"Pages: {index}\nTables: {command.tables}")
    return 0


def _ask(question):
    """Go on if the user says yes, or if --yes has said so."""
    if not sys.stdin.isatty():
        raise ConfigError(f"{question} Say so with --yes")
    if input(f"{question} [y/N] ").strip().lower() not in ("y", "yes"):
        raise ConfigError("Nothing was written")


def list_(command: commands.ListCommand, line: str) -> int:
    """Print a list."""
    if command.what == "tasks":
        tasks = [(task.name, task.description) for task in TASKS.values()]
        lines = listing.of_names([*tasks, *OWN_DATA.items()])
    elif command.what == "sequences":
        lines = listing.of_names((n, task().description) for n, task in SEQUENCE_TASKS.items())
    elif command.what == "studies":
        lines = listing.of_names((study.name, study.question) for study in STUDIES.values())
    else:
        lines = listing.of_runs(command.runs_dir)
    listing.show(lines)
    return 0


# What several of them do.


def _options(command: Any, line: str) -> dict[str, Any]:
    """Options for trainings of any kind; one that the user has not set is left to its default."""
    names = ("data_dir", "overwrite", "checkpoint_share", "devices", "tensorboard")
    options = {name: getattr(command, name, None) for name in names}
    share = options["checkpoint_share"]
    if share is not None and not 0 <= share <= 1:
        with config_errors():
            validation.refuse("checkpoint_share", "a number in [0, 1]", share)
    return {name: value for name, value in options.items() if value is not None} | {"command": line}


def _folder_to_train(command):
    """The folder for the run of a command; None if the run is finished, and says so."""
    if command.name is None:
        if command.overwrite:
            raise ConfigError(
                "--overwrite needs --name, the run that is to be replaced. --new begins another one"
            )
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
    print(f"Run '{name}' is already finished: {run.config.outcome(run.result)}")
    print("Use --overwrite or another --name to train it again")
    return None


def _train(config, folder, **options):
    """Train in this process, and say so."""
    from keras_deeplstm.experiments.training import train

    def show(row):
        _say(config.progress(row))
        if row.get("sample"):
            _print_text(textwrap.indent(row["sample"], "    | ", lambda line: True) + "\n")

    _say(config.introduction)
    with epoch_bar() as step:
        result = train(config, folder, on_epoch=show, on_step=step, on_message=_say, **options)
    _say(config.outcome(result))


def _report(folders, output=None):
    _say_where(_write_report(folders, output))


def _write_report(folders, output=None):
    load_keras()
    from keras_deeplstm.experiments.reports.page import write_report
    from keras_deeplstm.experiments.search.report import write_search_report

    if len(folders) == 1 and (folders[0] / "search.json").exists():
        return write_search_report(folders[0], output)
    return write_report(folders, output)


def _say_where(report):
    _say(f"Report: {report}\n{report.resolve().as_uri()}")


def _say(text):
    if text:
        print(text, flush=True)


def _print_text(text):
    """Print text that may have characters which control the terminal."""
    if sys.stdout.isatty():
        text = validation.printable(text, but="\n\r\t")
    print(text, end="", flush=True)


# The command.

ACTIONS: dict[type, Callable[[Any, str], int]] = {
    commands.RunCommand: train,
    commands.TrainTextCommand: train,
    commands.SampleCommand: sample,
    commands.SolveCommand: train,
    commands.StudyCommand: study,
    commands.SearchCommand: search,
    commands.ReportCommand: report,
    commands.PublishCommand: publish,
    commands.ListCommand: list_,
}


def main(argv: list[str] | None = None) -> int:
    """Run `deeplstm` with the given arguments and return its exit status.

    Args:
        argv: The arguments, without the command's own name; None takes those of the process.

    Returns:
        0, or for a setting that cannot be used 2, a run folder that is taken 3, missing or damaged
        data 4, any other error 1, Ctrl-C 130, SIGTERM 143, a reader of the output who has gone
        141. With `--debug` an error also prints its traceback.

    Raises:
        SystemExit: `--help`, or an unknown command or option; its code is 0 or 2.

    Example:

    >>> from keras_deeplstm.experiments import main
    >>> main(["list", "tasks"])  # doctest: +ELLIPSIS
    digits           scikit-learn's 1,797 handwritten digits, 8 x 8 pixels
    mnist            ...
    0
    """
    end_if_imported()
    words = ["deeplstm"]
    if argv is None:
        argv, words = sys.argv[1:], startup.program()
    if list(argv) == ["--version"]:
        print(f"deeplstm {__version__}")
        return 0
    if argv[:1] and argv[0].endswith(".py"):
        return startup.run_file(argv[0], argv[1:])
    os.environ.setdefault("MPLBACKEND", "Agg")  # pictures go to files, never to a window
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")  # warnings, but no information
    # Names that the terminal does not know. What stands in for it in a notebook has no such method.
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")
    debug = "--debug" in argv
    try:
        command = commands.parse([argument for argument in argv if argument != "--debug"])
        startup.check_backend()
        with signals.handled_by(signals.raise_interrupted):
            status = ACTIONS[type(command)](command, shlex.join([*words, *argv]))
        sys.stdout.flush()
        return status
    except KeyboardInterrupt as interrupt:
        anew = [option for option in ("--overwrite", "--new") if option in argv]
        which = f"Without {anew[0]}, the same" if anew else "The same"
        print(f"deeplstm: interrupted. {which} command resumes", file=sys.stderr)
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
