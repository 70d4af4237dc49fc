"""Train the runs of a study, one after the other, in a worker process."""

import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from keras_deeplstm.experiments import runs
from keras_deeplstm.experiments.bars import progress
from keras_deeplstm.experiments.processes import signals
from keras_deeplstm.experiments.processes.startup import load_keras
from keras_deeplstm.experiments.processes.worker import MEMORY, TRAININGS, CallError, Worker
from keras_deeplstm.experiments.runs import files
from keras_deeplstm.experiments.runs.groups import labels
from keras_deeplstm.experiments.settings.base import COMPILING
from keras_deeplstm.experiments.studies import Study
from keras_deeplstm.experiments.studies.plan import (
    Plan,
    matching,
    restarts_of,
    standing,
    without_success,
    write_plan,
)
from keras_deeplstm.experiments.words import duration_text

FIRST_REPORT = 60  # seconds after which a study that goes on has a report of what is finished
REPORTS_SHARE = 0.05  # of the time, at most, for writing it again


def train_here(send, config, folder, options):
    """Train a run in the worker's process; see `training.train`."""
    load_keras()
    from keras_deeplstm.experiments.training import train

    try:
        return train(
            config,
            folder,
            on_epoch=lambda row: send(("epoch", row)),
            on_message=lambda text: send(("say", text)),
            **options,
        )
    except runs.RunExistsError as error:
        return error  # it is raised there as it is: others would be refused, too


def report_here(send, folders):
    """Write a report in the worker's process, which has imported all it needs."""
    load_keras()
    from keras_deeplstm.experiments.reports.page import write_report

    return write_report(folders)


def run_study(
    study: Study,
    plan: Plan,
    folder: Path,
    *,
    data_dir: Path | None = None,
    only: str | None = None,
    limit: int | None = None,
    restarts: int = 1,
    overwrite: bool = False,
    published: Path | None = None,
    checkpoint_share: float | None = None,
    tensorboard: bool = False,
    command: str = "",
) -> tuple[bool, Path]:
    """Train the runs that are not yet finished, say so in the terminal, and write the report.

    A study that was interrupted goes on. The options are those of `deeplstm study`. Returns whether
    no run failed or diverged for good, and the report.
    """
    chosen = matching(plan, only)
    for name, config in chosen.items():
        for attempt, one in restarts_of(name, config, restarts).items():
            runs.check_usable(folder / attempt, one, overwrite)
    if published is not None:
        load_keras()
        from keras_deeplstm.experiments.reports.data import restore

        came = restore(published, folder, study.name, plan)
        print(f"{came} runs taken from '{published}'")
    with runs.lock(folder):
        write_plan(folder, study.name, command, plan, restarts)
        options: dict[str, Any] = {"data_dir": data_dir, "command": command, "overwrite": overwrite}
        options["tensorboard"] = tensorboard
        if checkpoint_share is not None:
            options["checkpoint_share"] = checkpoint_share
        with Worker() as worker, signals.delayed(worker.stop) as check_signals:
            runner = _Runner(worker, check_signals, folder, options, len(plan))
            succeeded = runner.run(chosen, limit, restarts)
            report = runner.call(report_here, [folder])
    return succeeded, report


class _Runner:
    def __init__(self, worker, check_signals, folder, options, total):
        self.worker = worker
        self.check_signals = check_signals
        self.folder = folder
        self.options = options
        self.total = total
        self.progress = progress()
        self.pace = None  # seconds for a unit of work, measured
        self.beside = {}  # folder of a finished run, by its task or text
        self.trained = 0  # runs, by the present process of the worker
        self.next_report = time.monotonic() + FIRST_REPORT

    def say(self, line):
        self.progress.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def call(self, function, *arguments, on_message=lambda message: None):
        try:
            return self.worker.call(function, *arguments, on_message=on_message)
        finally:
            self.check_signals()  # it may be a signal that has ended the process

    def run(self, chosen, limit, restarts):
        todo, lost = self._announce(chosen, limit, restarts)
        anew = {
            attempt
            for name, config in (chosen if self.options["overwrite"] else {}).items()
            for attempt in restarts_of(name, config, restarts)
        }
        for run in runs.find(self.folder) if todo else ():
            if run.name not in anew:
                self._compare_with(run)
        succeeded = not lost
        with self.progress:
            self.left = sum(config.work for config in todo.values())
            self.bar = self.progress.add_task("", total=self.left)
            titles = _titles(chosen)
            for name, config in todo.items():
                for attempt, one in restarts_of(name, config, restarts).items():
                    state = self._run_one(attempt, one, titles[name])
                    if not without_success(runs.load(self.folder / attempt)):
                        break
                succeeded = succeeded and state == "finished"
                self.left -= config.work
                if self.left and time.monotonic() >= self.next_report:
                    self._report_so_far()
        return succeeded

    def _report_so_far(self):
        """Write the report of what is finished: a study may take days."""
        begun, known = time.monotonic(), (self.folder / "report.html").exists()
        try:
            said = f"Report so far: {self.call(report_here, [self.folder])}"
        except CallError as error:  # the runs go on
            said, known = f"No report yet: {error}", False
        now = time.monotonic()
        self.next_report = now + (now - begun) / REPORTS_SHARE
        if not known:
            self.say(said)

    def _announce(self, chosen, limit, restarts):
        """Say what there is to do; return it, and the runs that are lost."""
        found = standing(chosen, self.folder, restarts, self.options["overwrite"])
        known = {
            "finished": found.finished,
            "diverged and are not run again": found.lost,
            "begun": found.begun,
        }
        words = [f"{len(some)} {what}" for what, some in known.items() if some]
        todo = dict(list(found.todo.items())[:limit])
        subset = f" of {self.total}" if len(chosen) < self.total else ""
        done = f" ({', '.join(words)})" if words else ""
        self.say(f"{len(chosen)}{subset} runs{done}, {len(todo)} to train now")
        for run in found.finished:
            with suppress(OSError, runs.RunExistsError), runs.lock(run.folder):
                runs.tidy(run.folder)
        if todo and found.finished:
            seconds = sum(run.result["seconds"] for run in found.finished)
            self.pace = seconds / sum(run.config.work for run in found.finished)
            left = self.pace * sum(config.work for config in todo.values())
            self.say(f"Estimated time: {duration_text(left)}")
        return todo, found.lost

    def _compare_with(self, run):
        """Let the next runs on the data of this one be refused if the data are others."""
        if run.state == "finished" and run.data is not None:
            self.beside.setdefault(run.config.source, run.folder)

    def _run_one(self, name, config, title):
        """Train one run, and return its state."""
        folder = self.folder / name
        run = runs.load(folder)
        if not self.options["overwrite"] and run.state in ("finished", "diverged"):
            return run.state
        if self.trained == TRAININGS or self.worker.memory > MEMORY:
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
            options = self.options | {"beside": self.beside.get(config.source)}
            result = self.call(train_here, config, folder, options, on_message=on_message)
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
        if isinstance(result, runs.RunExistsError):
            raise result
        self._compare_with(runs.load(folder))
        self.say(f"{title}: {config.outcome(result)}")
        return "finished"

    def _show_epoch(self, row, config, title):
        epoch, rounds = row["epoch"], config.rounds
        left = self.left - config.work * epoch / rounds
        self.rows.append(row)
        known = self.pace is not None or config.open_ended
        if not known and (len(self.rows) == 4 or epoch == rounds):
            first, *others = self.rows  # the first one compiles
            if others:
                seconds = sum(other["seconds"] for other in others)
                seconds /= epoch - first["epoch"]
                self.pace = seconds / (config.work / (rounds + COMPILING))
                estimate = duration_text(self.pace * left)
                self.say(f"Estimated time, from the first epochs: {estimate}")
        self.progress.update(
            self.bar,
            description=f"epoch {epoch:g}/{rounds}, {title}",
            completed=self.progress.tasks[self.bar].total - left,
        )


def _titles(chosen: Plan) -> dict[str, str]:
    titles, subjects = {}, {config.subject for config in chosen.values()}
    both = zip(chosen.items(), labels(list(chosen.values())), strict=True)
    for number, ((name, config), label) in enumerate(both, 1):
        task = f"{config.subject}, " if len(subjects) > 1 else ""
        titles[name] = f"{number}/{len(chosen)} {task}{label}, depth {config.model.depth}"
    return titles
