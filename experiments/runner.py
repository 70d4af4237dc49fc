"""Train the runs of a study, one after the other, in a process beside this one."""

import dataclasses
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from keras_deeplstm.experiments import runs
from keras_deeplstm.experiments.processes import signals
from keras_deeplstm.experiments.processes.startup import load_keras
from keras_deeplstm.experiments.processes.worker import (
    TRAININGS,
    CallError,
    Worker,
)
from keras_deeplstm.experiments.runs import files
from keras_deeplstm.experiments.runs.groups import (
    labels,
    ratio_text,
)
from keras_deeplstm.experiments.sampling import text_outcome
from keras_deeplstm.experiments.settings import Config
from keras_deeplstm.experiments.settings.base import ConfigError
from keras_deeplstm.experiments.settings.classifiers import RunConfig
from keras_deeplstm.experiments.settings.sequences import (
    SequenceConfig,
    sequence_outcome,
)
from keras_deeplstm.experiments.settings.text import TextConfig
from keras_deeplstm.experiments.studies import Study
from keras_deeplstm.experiments.tasks import DataError, get_task

# The n-th restart of a run without success adds n times this to its seed, which is smaller.
RESTART_SEED = 1000
MAX_RESTARTS = 1000


def train_here(send, config, folder, options):
    """Train a run in the worker's process; see `training.train`."""
    load_keras()
    options = {**options, "on_message": lambda text: send(("say", text))}
    if isinstance(config, TextConfig):
        from keras_deeplstm.experiments.training.text import train as train_text

        return train_text(
            config, folder, on_report=lambda row, sample: send(("epoch", row)), **options
        )
    if isinstance(config, SequenceConfig):
        from keras_deeplstm.experiments.training.sequences import train
    else:
        from keras_deeplstm.experiments.training import train
    return train(config, folder, on_epoch=lambda row: send(("epoch", row)), **options)


def report_here(send, folders):
    """Write a report in the worker's process, which has imported all it needs."""
    load_keras()
    from keras_deeplstm.experiments.reports.page import write_report

    return write_report(folders)


def restarts_of(name: str, config: Config, restarts: int) -> dict[str, Config]:
    """A run, and the runs with other seeds that take its place if it fails, by name."""
    found = {name: config}
    for number in range(1, restarts + 1):
        seed = config.seed + number * RESTART_SEED
        found[f"{name}-restart{number}"] = dataclasses.replace(config, seed=seed)
    return found


def without_success(run: runs.Run) -> bool:
    """Whether a run has come to its end in vain: it has diverged, or not solved its task."""
    return run.state == "diverged" or run.result.get("solved") is False


def matching(plan: dict[str, Config], only: str | None) -> dict[str, Config]:
    """The runs of a plan whose names contain `only`, in which * and ? stand for other text.

    Raises:
        ConfigError: There is none.
    """
    if only is None:
        return plan
    found = {name: run for name, run in plan.items() if fnmatchcase(name, f"*{only}*")}
    if not found:
        raise ConfigError(f"No run matches --only {only!r}. The first run is {next(iter(plan))!r}")
    return found


def run_study(
    study: Study,
    plan: dict[str, Config],
    folder: Path,
    *,
    data_dir: Path | None = None,
    only: str | None = None,
    limit: int | None = None,
    restarts: int = 1,
    overwrite: bool = False,
    checkpoint_share: float | None = None,
    command: str = "",
) -> tuple[bool, Path]:
    """Train the runs that are not yet finished, say so in the terminal, and write the report.

    Args:
        study: The study.
        plan: Its runs by name.
        folder: Where the runs' folders are; a study that was interrupted goes on there.
        data_dir: Folder with data sets.
        only: Train only runs with this in their names.
        limit: Train at most this many runs now.
        restarts: How many times a run that diverges, or does not solve its task, is tried again
            with another seed.
        overwrite: Train all runs anew.
        checkpoint_share: As for `training.train`.
        command: How the study was started, for the record.

    Returns:
        Whether no run failed or diverged for good, and the report.

    Raises:
        ConfigError: No run matches `only`.
        RunExistsError: `folder` holds a run of the same name with other settings, or another
            process is at this study.
        DataError: The data are absent or damaged.
        Interrupted: SIGINT or SIGTERM came.
    """
    chosen = matching(plan, only)
    for name, config in chosen.items():
        for attempt, one in restarts_of(name, config, restarts).items():
            runs.check_usable(folder / attempt, one, overwrite)
    with runs.lock(folder):
        others, most = _earlier(folder, plan)
        files.write_json(
            folder / "study.json",
            {
                "study": study.name,
                "command": command,
                "runs": [*plan, *others],
                "restarts": max(restarts, most),
            },
        )
        options: dict[str, Any] = {"data_dir": data_dir, "command": command, "overwrite": overwrite}
        if checkpoint_share is not None:
            options["checkpoint_share"] = checkpoint_share
        with Worker() as worker, signals.delayed(worker.stop) as check_signals:
            runner = _Runner(worker, check_signals, folder, options, len(plan))
            succeeded = runner.run(chosen, limit, restarts, overwrite)
            report = runner.call(report_here, [folder])
    return succeeded, report


def _earlier(folder, plan):
    """What an earlier start of the study has planned beyond this one.

    Returns:
        The names of its runs with other seeds, and its number of restarts: they stay in the report.
    """
    try:
        before = read_plan(folder / "study.json")
    except ConfigError:  # there is none, or it is damaged
        return [], 0
    models = [config.repeated(0) for config in plan.values()]
    others = []
    for name in before["runs"]:
        config = runs.load(folder / name).config if name not in plan else None
        if config is not None and config.repeated(0) in models:
            others.append(name)
    return others, before.get("restarts", 0)


def read_plan(path: Path) -> dict[str, Any]:
    """What `run_study` has written of a study: `study`, `command`, `runs`, `restarts`.

    Raises:
        ConfigError: It cannot be read.
    """
    try:
        plan = files.read_json(path)
    except (OSError, ValueError) as error:
        raise ConfigError(f"Cannot read '{path}': {error}") from None
    known = isinstance(plan, dict) and isinstance(plan.get("study"), str)
    names, restarts = (plan.get("runs"), plan.get("restarts", 0)) if known else (None, 0)
    listed = isinstance(names, list) and all(isinstance(name, str) for name in names)
    if not listed or type(restarts) is not int or not 0 <= restarts <= MAX_RESTARTS:
        raise ConfigError(
            f"'{path}' is damaged: it must hold the name of a study, the names of its runs, and at "
            f"most {MAX_RESTARTS} restarts"
        )
    return plan


class _Runner:
    def __init__(self, worker, check_signals, folder, options, total):
        # Imported here, so that `deeplstm --help` need not wait for it.
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self.worker = worker
        self.check_signals = check_signals
        self.folder = folder
        self.options = options
        self.total = total
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=10),
            TimeRemainingColumn(),
            TextColumn("left"),
            transient=True,
        )
        # Not `console.is_terminal`: FORCE_COLOR, which notebooks set, makes that true of a file.
        self.progress.disable = not self.progress.console.file.isatty()
        self.pace = None  # seconds for a unit of work, measured
        self.rows = []  # of the run's metrics: one for each epoch, or for a part of one
        self.trained = 0  # runs, by the present process of the worker

    def say(self, line):
        self.progress.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def call(self, function, *arguments, on_message=lambda message: None):
        try:
            return self.worker.call(function, *arguments, on_message=on_message)
        finally:
            self.check_signals()  # it may be a signal that has ended the process

    def run(self, chosen, limit, restarts, overwrite):
        todo = self._announce(chosen, limit, restarts, overwrite)
        succeeded = True
        with self.progress:
            self.bar = self.progress.add_task("", total=sum(_work(run) for run in todo.values()))
            self.left = sum(_work(run) for run in todo.values())
            titles = _titles(chosen)
            for name, config in todo.items():
                title = titles[name]
                for attempt, one in restarts_of(name, config, restarts).items():
                    state = self._run_one(attempt, one, title)
                    if not without_success(runs.load(self.folder / attempt)):
                        break
                succeeded = succeeded and state == "finished"
                self.left -= _work(config)
        return succeeded and not self.lost

    def _announce(self, chosen, limit, restarts, overwrite):
        """Say what there is to do, and return it."""
        todo, finished, begun = {}, [], 0
        for name, config in chosen.items():
            attempts = [runs.load(self.folder / a) for a in restarts_of(name, config, restarts)]
            ended = [run for run in attempts if run.state == "finished"]
            good = [run for run in ended if not without_success(run)]
            if not overwrite and (good or all(map(without_success, attempts))):
                finished += (good or ended)[:1]
            else:
                todo[name] = config
                begun += any(run.state in ("interrupted", "failed") for run in attempts)
        self.lost = len(chosen) - len(finished) - len(todo)
        words = [f"{len(finished)} finished"] if finished else []
        words += [f"{self.lost} diverged and are not run again"] if self.lost else []
        words += [f"{begun} begun"] if begun else []
        todo = dict(list(todo.items())[:limit])
        subset = f" of {self.total}" if len(chosen) < self.total else ""
        done = f" ({', '.join(words)})" if words else ""
        self.say(f"{len(chosen)}{subset} runs{done}, {len(todo)} to train now")
        for run in finished:
            runs.tidy(run.folder)
        if todo and finished:
            seconds = sum(run.result["seconds"] for run in finished)
            self.pace = seconds / sum(_work(run.config) for run in finished)
            self.say(f"Estimated time: {_duration(self.pace * sum(map(_work, todo.values())))}")
        return todo

    def _run_one(self, name, config, title):
        """Train one run, and return its state."""
        folder = self.folder / name
        run = runs.load(folder)
        if not self.options["overwrite"] and run.state in ("finished", "diverged"):
            return run.state
        if self.trained == TRAININGS:
            self.worker.renew()
            self.trained = 0
        self.trained += 1
        title += config.repetition
        self.rows = []
        self.progress.update(self.bar, description=title)

        def on_message(message):
            kind, content = message
            if kind == "say":
                self.say(content)
            else:
                self._show_epoch(content, config, title)

        try:
            result = self.call(train_here, config, folder, self.options, on_message=on_message)
        except DataError:
            raise
        except CallError as error:
            run = runs.load(folder)
            if run.state not in ("failed", "diverged"):
                # A process that died could not say so itself.
                folder.mkdir(exist_ok=True)
                if run.config is None:
                    files.write_json(folder / "config.json", config.to_dict())
                reason = {"state": "failed", "reason": str(error)}
                files.write_json(folder / "result.json", reason)
            state = "diverged" if run.state == "diverged" else "failed"
            self.say(f"{title}: {state.upper()}: {error}")
            return state
        self.say(f"{title}: {outcome(config, result)}")
        return "finished"

    def _show_epoch(self, row, config, title):
        epoch, epochs = row["epoch"], _epochs(config)
        left = self.left - _work(config) * epoch / epochs
        self.rows.append(row)
        known = self.pace is not None or _ends_when_solved(config)
        if not known and (len(self.rows) == 4 or epoch == epochs):
            first, *others = self.rows  # the first one compiles
            if others:
                seconds = sum(other["seconds"] for other in others)
                seconds /= epoch - first["epoch"]
                self.pace = seconds / (_work(config) / (epochs + COMPILING))
                self.say(f"Estimated time, from the first epochs: {_duration(self.pace * left)}")
        self.progress.update(
            self.bar,
            description=f"{title}, epoch {epoch:g}/{epochs}",
            completed=self.progress.tasks[self.bar].total - left,
        )


# On a small data set the time of an epoch is about this many depth steps and the steps themselves;
# compiling takes about as long as this many epochs.
FIXED = 30
COMPILING = 3


def _work(config):
    if _ends_when_solved(config):
        return 1  # nobody knows how long it takes, so the mean of those before has to do
    # Of a run on a text or on a sequence task, an epoch is long against all that is fixed.
    fixed = FIXED if isinstance(config, RunConfig) else 0
    return (config.model.depth + fixed) * (_epochs(config) + COMPILING)


def _ends_when_solved(config):
    return isinstance(config, SequenceConfig) and not config.full


def _epochs(config):
    return config.parts if isinstance(config, SequenceConfig) else config.epochs


def _titles(chosen):
    titles, subjects = {}, {config.subject for config in chosen.values()}
    both = zip(chosen.items(), labels(list(chosen.values())), strict=True)
    for number, ((name, config), label) in enumerate(both, 1):
        task = f"{config.subject}, " if len(subjects) > 1 else ""
        titles[name] = f"{number}/{len(chosen)} {task}{label}, depth {config.model.depth}"
    return titles


def _duration(seconds):
    if seconds < 90:
        return f"about {max(1, round(seconds))} s"
    if seconds < 90 * 60:
        return f"about {seconds / 60:.0f} min"
    return f"about {seconds / 3600:.1f} h"


def outcome(config: Config, result: dict) -> str:
    """One line for the terminal: what the test came to, and seconds."""
    if isinstance(config, TextConfig):
        return text_outcome(result)
    if isinstance(config, SequenceConfig):
        return sequence_outcome(result)
    accuracy = result["test_accuracy"]
    criterion = get_task(config.task).criterion
    solved = ""
    if criterion is not None:
        solved = " (solved)" if accuracy >= criterion else " (not solved)"
    return (
        f"test accuracy {accuracy:.1%}{solved}, first/last gradient "
        f"{ratio_text(result['gradient_ratio_start'])} -> "
        f"{ratio_text(result['gradient_ratio_end'])}, {result['seconds']:.0f} s"
    )
