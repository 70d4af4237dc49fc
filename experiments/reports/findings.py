"""What there is to report of runs: which are finished, which are not, and the tables of numbers."""

import itertools
import statistics
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path

import pandas as pd

from keras_deeplstm.experiments import runs
from keras_deeplstm.experiments.reports.kinds import KINDS, Kind
from keras_deeplstm.experiments.runs import Run
from keras_deeplstm.experiments.runs.groups import Group, group_runs
from keras_deeplstm.experiments.settings.base import ConfigError, UnknownError
from keras_deeplstm.experiments.studies import STUDIES, Study, best_first
from keras_deeplstm.experiments.studies.plan import read_plan, restarts_of, without_success
from keras_deeplstm.experiments.studies.study import grouped
from keras_deeplstm.experiments.words import share_interval


@dataclass(frozen=True)
class Findings:
    """Runs of one kind, and what is known of them."""

    kind: Kind
    study: Study | None  # if they are those of one that is known
    found: list[Run]
    finished: list[Run]
    unfinished: list[Run]  # those that have no result, but metrics of a part of their training
    problems: list[tuple[str, str, str]]  # name, state and reason of each run without a result
    groups: list[Group]

    @property
    def subject(self) -> str | None:
        """The task or text of a study, if it has one for all runs."""
        subjects = [run.config.subject for run in self.found if run.config]
        return subjects[0] if subjects and self.study and self.study.datasets else None

    @property
    def answer(self) -> list[str]:
        """The sentences of the study's answer; of other runs, what came out."""
        if not self.groups:
            return []
        if self.study:
            return self.study.answer(self.groups)
        return _outcome(self.finished[0]) if len(self.finished) == 1 else best_first(self.groups)

    @property
    def commands(self) -> list[str]:
        """The commands that started the runs, with the backend if it is not the default."""
        commands = []
        for run in self.finished:
            backend, command = run.environment["backend"], run.environment["command"]
            prefix = "" if backend == "tensorflow" else f"KERAS_BACKEND={backend} "
            commands.append(prefix + command)
        return list(dict.fromkeys(commands))

    @property
    def resumed(self) -> list[str]:
        """Names of the runs that were interrupted and resumed."""
        keys = ("resumed_after_epochs", "resumed_after_steps")
        return [run.name for run in self.finished if any(map(run.result.get, keys))]

    @property
    def settings(self) -> dict[str, str]:
        """Training settings with the value, or the values, that the finished runs have."""
        flat = [run.config.flat() for run in self.finished if run.config]
        told = ("task", "text", "fold")
        return {
            name: ", ".join(dict.fromkeys(str(settings[name]) for settings in flat))
            for name in (flat[0] if flat else ())
            if name not in told and not name.startswith("model.")
        }


def _outcome(run):
    """What one run has come to, and how far another sample of test examples could move it."""
    said = run.config.outcome(run.result)
    sentences = [f"{said[0].upper()}{said[1:]}."]
    count, accuracy = run.result.get("test_examples"), run.result.get("test_accuracy")
    if count and accuracy is not None:
        low, high = share_interval(round(count * accuracy), count)
        sentences.append(
            f"There are {count:,} test examples: the 95 % interval of the accuracy is {low:.1%} to "
            f"{high:.1%}. Another seed moves it, too."
        )
    return sentences


def collect(folders: list[Path]) -> Findings:
    """Read the runs in folders, or in folders below them; ConfigError if one of them has none."""
    found = []
    for folder in folders:
        if not (inside := runs.find(folder)):
            raise ConfigError(f"'{folder}' holds no keras_deeplstm runs")
        found += inside
    for run in found:
        if run.unknown:
            raise UnknownError(f"Run '{run.name}': {run.unknown}")
    study, problems = None, []
    if len(folders) == 1 and (folders[0] / "study.json").exists():
        plan = read_plan(folders[0])
        study = _study(plan)
        own = {run.name: run for run in found if run.folder.parent == folders[0]}
        found, problems = _planned(plan, own)
    # Runs of several kinds have no table in common; the first one decides.
    command = next((run.config.command for run in found if run.config), "run")
    kind = KINDS[command]
    finished, unfinished = [], []
    for run in found:
        try:
            if run.config and run.config.command != command:
                reason = "another kind of run: it has a report of its own"
                problems.append((run.name, run.state, reason))
            elif run.state == "finished":
                _check_files(run, kind)
                finished.append(run)
            else:
                if run.config and (run.folder / "metrics.csv").exists():
                    _ = run.metrics
                    unfinished.append(run)
                problems.append((run.name, run.state, run.reason))
        except (OSError, ValueError) as error:
            problems.append((run.name, "damaged", str(error)))
    found = [run for run in found if run.config is None or run.config.command == command]
    finished, others = _of_same_data(finished)
    problems += others
    return Findings(kind, study, found, finished, unfinished, problems, group_runs(finished))


def _of_same_data(finished):
    """The runs that can be compared; and name, state and reason of those on changed data."""
    kept, problems = [], []
    usual = {
        source: statistics.mode(known)
        for source, members in grouped(finished, attrgetter("config.source")).items()
        if (known := [run.data for run in members if run.data is not None])
    }
    for run in finished:
        if run.data in (None, usual.get(run.config.source)):
            kept.append(run)
        else:
            same = next(r for r in finished if r.data == usual[run.config.source])
            problems.append((run.name, run.state, f"on other data than {same.name}"))
    return kept, problems


def _study(plan):
    """The study of a plan; which command knows it if this one does not."""
    if plan["study"] in STUDIES:
        return STUDIES[plan["study"]]
    known_by = runs.known_by(plan.get("command"))
    raise UnknownError(f"Unknown study {plan['study']!r}. {known_by}")


def _check_files(run, kind):
    """Raise OSError or ValueError if what a report shows of a run is absent or damaged."""
    for name in ("environment", *kind.files):
        getattr(run, name)
    for name in kind.results(run.config):
        value = run.result.get(name)
        if not isinstance(value, int | float | None):
            raise ValueError(f"result.json: {name!r} must be a number. Received: {value!r}")


def _planned(plan, present):
    """The runs that a study has planned, and for which there is no result.

    In place of a run without success stands its restart with another seed.
    """
    found, problems = [], []
    for name in plan["runs"]:
        if name not in present:
            problems.append((name, "missing", ""))
            continue
        config = present[name].config
        names = restarts_of(name, config, plan.get("restarts", 0) if config else 0)
        run, *others = [present[one] for one in names if one in present]
        for other in others:
            if without_success(run):
                reason = f"{run.reason or 'not solved'}; tried again with seed {other.config.seed}"
                problems.append((run.name, run.state, reason))
                run = other
        found.append(run)
    return found, problems


def table(findings: Findings) -> pd.DataFrame:
    """A row for each run."""
    results = [findings.kind.results(group.config) for group in findings.groups]
    keys = [*dict.fromkeys(itertools.chain(*results)), "seconds"]
    rows = []
    for group in findings.groups:
        model = [group.config.subject, group.label, group.config.model.depth]
        for run in group.runs:
            assert run.config is not None
            settings = run.config.flat()
            repetition = [settings["seed"], settings["fold"] if settings.get("folds") else None]
            rows.append([run.name, *model, *repetition, *map(run.result.get, keys)])
    names = ["run", "task", "model", "depth", "seed", "fold", *keys]
    # As objects, so that a ratio that does not exist stays None and does not become NaN.
    return pd.DataFrame(rows, columns=names, dtype=object)


def summary(findings: Findings) -> pd.DataFrame:
    """A row for each model: means with their intervals, counts, medians with their ranges."""
    rows, kind = [], findings.kind
    for group in findings.groups:
        config = group.config
        row = {"task": config.subject, "model": group.label, "depth": config.model.depth}
        row |= {"runs": len(group.runs)}
        row |= {key: group.runs[0].result[key] for key in kind.facts}
        row |= {key: sum(group.values(key)) for key in kind.counts}
        means = kind.means_of(config)
        for key in (*means, *kind.medians):
            values = group.values(key)
            middle = low = high = None
            if values and key in means:
                mean = group.mean(key)
                middle, low, high = mean.mean, mean.low, mean.high
            elif values:
                middle, low, high = statistics.median(values), min(values), max(values)
            row |= {key: middle, f"{key}_low": low, f"{key}_high": high}
        rows.append({**row, "seconds": statistics.fmean(group.values("seconds"))})
    return pd.DataFrame(rows)
