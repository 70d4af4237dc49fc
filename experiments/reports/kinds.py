"""What tables, reports and the page of results show of each kind of run."""

from collections.abc import Callable
from dataclasses import dataclass

from keras_deeplstm.experiments.reports import classifiers as figures
from keras_deeplstm.experiments.reports import sequences as sequence_figures
from keras_deeplstm.experiments.reports import text as text_figures
from keras_deeplstm.experiments.reports.drawing import Section
from keras_deeplstm.experiments.runs import Run
from keras_deeplstm.experiments.runs.groups import Group, estimate
from keras_deeplstm.experiments.words import (
    counts_text,
    estimate_text,
    median_text,
    percent_text,
    ratios_text,
    seconds_text,
    share_text,
)


@dataclass(frozen=True)
class Kind:
    """Runs that have the same results."""

    means: tuple[str, ...]
    """Results of which a table shows the mean over the runs of a model, with its interval."""
    medians: tuple[str, ...]
    """Results of which it shows the median, with the range."""
    facts: tuple[str, ...]
    """Results that all runs of a model share."""
    counts: tuple[str, ...]
    """Results that are true or false, of which it shows how many are true."""
    files: tuple[str, ...]
    """Names of the tables of a `runs.Run` without which it counts as damaged."""
    row: Callable[[Group], dict[str, str]]
    """What people read of a model, by the headings of a table's columns."""
    note: str
    """How to read that."""
    sections: Callable[[list[Group], list[Run]], list[Section]]
    """Pictures and texts of groups of finished runs, and of those that are not finished."""

    @property
    def results(self) -> tuple[str, ...]:
        """All that a table shows of a run."""
        return (*self.facts, *self.counts, *self.means, *self.medians)

    def rows(self, groups: list[Group]) -> list[dict[str, str]]:
        """The table that people read, without columns that say nothing."""
        rows = [self.row(group) for group in groups]
        single = all(len(group.runs) == 1 for group in groups)
        kept = [
            heading
            for heading in (rows[0] if rows else ())
            if any(row[heading] != "–" for row in rows)
            and not (heading == "runs" and single)
            and not (heading == "task" and len({row["task"] for row in rows}) == 1)
        ]
        return [{heading: row[heading] for heading in kept} for row in rows]


def _classifier_row(group):
    return {
        "task": group.config.subject,
        "model": group.label,
        "depth": str(group.config.model.depth),
        "runs": str(len(group.runs)),
        "test accuracy": percent_text(group.mean("test_accuracy")),
        "validation accuracy": percent_text(group.mean("val_accuracy")),
        "gradient first/last, start": ratios_text(group.values("gradient_ratio_start")),
        "gradient first/last, end": ratios_text(group.values("gradient_ratio_end")),
        "memory/total, start": median_text(group.values("memory_path_ratio_start")),
        "Gabor R²": median_text(group.values("gabor_r2_end"), "{:.2f}".format),
        "parameters": f"{group.runs[0].result['parameters']:,}",
        "seconds": seconds_text(group.values("seconds")),
    }


INTERVALS = (
    "± is the 95 % t-interval of a mean over three runs or more, brackets hold the range of two; "
    "one run has neither, and another seed gives other numbers. Folds of one data set overlap, so "
    "that their interval is too narrow. Seconds are of training and test, "
    "with compilation and what is recorded meanwhile; they depend on what else the machine did."
)

CLASSIFIERS = Kind(
    means=("test_accuracy", "val_accuracy"),
    medians=(
        *("gradient_ratio_start", "gradient_ratio_end"),
        *("state_gradient_ratio_start", "state_gradient_ratio_end"),
        *("memory_path_ratio_start", "memory_path_ratio_end"),
        *("gabor_r2_start", "gabor_r2_end"),
    ),
    facts=("parameters",),
    counts=(),
    files=("metrics", "gradients", "states"),
    row=_classifier_row,
    note="Test accuracy is that of the last epoch on the whole test set. Gradient first/last: norm "
    "of the loss gradient of the first recurrent matrix divided by that of the last, in the first "
    "training step, and as the median over the last tenth of the recorded steps; – : all steps "
    "share one matrix, or the gradient is zero. Memory/total: gradient of the first memory cell "
    "that comes back through the memory cells alone, divided by all of it, before training. "
    f"{INTERVALS}",
    sections=lambda groups, unfinished: figures.sections(groups),
)


def _text_row(group):
    result = group.runs[0].result
    return {
        "task": group.config.subject,
        "model": group.label,
        "depth": str(group.config.model.depth),
        "units": str(result["units"]),
        "parameters": f"{result['parameters']:,}",
        "runs": str(len(group.runs)),
        "validation loss": estimate_text(group.mean("val_loss")),
        "validation bits": estimate_text(group.mean("val_bits")),
        "test bits": estimate_text(group.mean("test_bits")),
        "best epoch": median_text(group.values("best_epoch"), "{:g}".format)
        + f" of {group.config.epochs}",
        "symbols per second": median_text(group.values("symbols_per_second"), "{:,.0f}".format),
        "seconds": seconds_text(group.values("seconds")),
    }


TEXTS = Kind(
    means=("val_loss", "val_bits", "test_loss", "test_bits"),
    medians=("best_epoch", "symbols_per_second"),
    facts=("parameters", "units"),
    counts=(),
    files=("metrics",),
    row=_text_row,
    note="Losses are in nats per symbol, which is a character, or with --bytes a byte; bits are "
    "nats divided by ln 2. Validation: the lowest; the test text is read once, by the model of "
    f"that moment. {INTERVALS}",
    sections=text_figures.sections,
)


def _percent(values):
    return percent_text(estimate(values)) if values else "–"


def _sequence_row(group):
    results = [run.result for run in group.runs]
    solved = [result["sequences"] for result in results if result["solved"]]
    task = group.config.make_task()
    return {
        "task": group.config.subject,
        "model": group.label,
        "depth": str(group.config.model.depth),
        "units": str(results[0]["units"]),
        "parameters": f"{results[0]['parameters']:,}",
        "solved": share_text(len(solved), len(results)),
        "sequences until solved": counts_text(solved),
        "published": task.paper or "–",
        "wrong in the test": _percent(group.values("test_wrong")),
        "mean error": ratios_text(group.values("test_error")),
        "right up to": median_text(
            [r["reach"] for r in results if r.get("reach")], "{:,.0f}".format
        ),
        "seconds": seconds_text(group.values("seconds")),
    }


SEQUENCES = Kind(
    means=("test_wrong",),
    medians=("sequences", "trained_sequences", "test_error", "reach"),
    facts=("parameters", "units"),
    counts=("solved",),
    files=("metrics",),
    row=_sequence_row,
    note="A task is solved when its criterion holds on test sequences; a run that diverges has not "
    "solved it. Sequences: those seen in training, the median over the runs that have solved the "
    "task, and the range; the published figures are those of the task's source, which trained "
    "on-line and, before 2000, without forget gates. Wrong, and the mean error: after training, of "
    "2,560 new sequences (10,000 waves), the same for all models, or of all test sequences of a "
    "task that has a fixed set of them. Right up to: the largest n of strings that are counted. "
    f"{INTERVALS}",
    sections=sequence_figures.sections,
)

KINDS = {"run": CLASSIFIERS, "train-text": TEXTS, "solve": SEQUENCES}  # by command
