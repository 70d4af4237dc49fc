"""What tables, reports and the page of results show of each kind of run."""

from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter

from keras_deeplstm.experiments import words
from keras_deeplstm.experiments.reports import classifiers, sequences, text
from keras_deeplstm.experiments.reports.drawing import Section
from keras_deeplstm.experiments.runs import Run
from keras_deeplstm.experiments.runs.groups import Group, estimate
from keras_deeplstm.experiments.settings import Settings
from keras_deeplstm.experiments.tasks.measures import Measure
from keras_deeplstm.experiments.tasks.sequences import parse

Columns = dict[str, Callable[[Group], str]]  # headings, and what stands below them of a model


@dataclass(frozen=True)
class Kind:
    """Runs that have the same results: what a table shows of those of a model."""

    means: tuple[str, ...]  # results of which it shows the mean; {metric} is that of the task
    medians: tuple[str, ...]  # results of which it shows the median, with the range
    columns: Callable[[Measure], Columns]  # what people read of tasks with that metric
    note: str  # how to read that
    # Pictures and texts of groups of finished runs, and of those that are not finished.
    sections: Callable[[list[Group], list[Run]], list[Section]]
    facts: tuple[str, ...] = ("parameters", "units")  # results that all runs share
    counts: tuple[str, ...] = ()  # results of which it shows how many are true
    files: tuple[str, ...] = ("metrics",)  # tables of a `runs.Run`, damaged without them

    def means_of(self, config: Settings) -> tuple[str, ...]:
        """The names of the results of which a table shows the mean."""
        return tuple(name.format(metric=config.measure.name) for name in self.means)

    def results(self, config: Settings) -> tuple[str, ...]:
        """All that a table shows of a run."""
        return (*self.facts, *self.counts, *self.means_of(config), *self.medians)

    def rows(self, groups: list[Group]) -> list[dict[str, str]]:
        """The table that people read, without columns that say nothing."""
        columns = [self.columns(group.config.measure) for group in groups]
        names = dict.fromkeys(name for column in columns for name in column)
        table = {
            name: [
                column[name](group) if name in column else words.NOTHING
                for column, group in zip(columns, groups, strict=True)
            ]
            for name in names
        }
        kept = [
            name
            for name, texts in table.items()
            if set(texts) - {words.NOTHING}
            and not (name == "task" and len(set(texts)) == 1)
            and not (name == "runs" and set(texts) == {"1"})
            and not (name == "learning rate" and len(set(texts)) == 1)
        ]
        return [{name: table[name][number] for name in kept} for number in range(len(groups))]


def _of(key, text):
    """A column: the values that the runs of a model have of a result, as text."""
    return lambda group: text(group.values(key))


def _mean(form):
    return lambda values: words.estimate_text(estimate(values), form) if values else words.NOTHING


def _median(form):
    return lambda values: words.median_text(values, form.format)


def _best_epoch(group):
    best = words.median_text(group.values("best_epoch"), "{:g}".format)
    return f"{best} of {group.config.epochs}"


def _reach(values):
    return words.median_text([value for value in values if value], "{:,.0f}".format)


# The columns that several kinds have.
MODEL: Columns = {"task": attrgetter("config.subject"), "model": attrgetter("label")}
MODEL |= {"depth": lambda group: str(group.config.model.depth)}
RATE: Columns = {"learning rate": lambda group: f"{group.config.learning_rate:g}"}
UNITS = {"units": _of("units", lambda values: str(values[0]))}
PARAMETERS = {"parameters": _of("parameters", lambda values: f"{values[0]:,}")}
RUNS = {"runs": lambda group: str(len(group.runs))}
SECONDS = {"seconds": _of("seconds", words.seconds_text)}

INTERVALS = (
    "± is the 95 % t-interval of a mean over three runs or more, brackets hold the range of two; "
    "one run has neither, and another seed gives other numbers. Folds of one data set overlap, so "
    "that their interval is too narrow. Seconds are of training and test, "
    "with compilation and what is recorded meanwhile; they depend on what else the machine did."
)

STATE_RATIOS = (
    *("state_gradient_ratio_start", "state_gradient_ratio_end"),
    *("memory_path_ratio_start", "memory_path_ratio_end"),
)
MEMORY = {"memory/total, start": _of("memory_path_ratio_start", words.median_text)}
MEMORY_NOTE = (
    "Memory/total: gradient of the first memory cell that comes back through the memory cells "
    "alone, divided by all of it, before training. "
)

CLASSIFIERS = Kind(
    means=("test_{metric}", "val_{metric}"),
    medians=(
        *("gradient_ratio_start", "gradient_ratio_end"),
        *STATE_RATIOS,
        *("gabor_r2_start", "gabor_r2_end"),
    ),
    facts=("parameters",),
    files=("metrics", "gradients", "states", "confusion", "predictions", "steps"),
    columns=lambda measure: {
        **(MODEL | RATE | RUNS),
        f"test {measure.words}": _of(f"test_{measure.name}", _mean(measure.form)),
        f"validation {measure.words}": _of(f"val_{measure.name}", _mean(measure.form)),
        "gradient first/last, start": _of("gradient_ratio_start", words.ratios_text),
        "gradient first/last, end": _of("gradient_ratio_end", words.ratios_text),
        **MEMORY,
        "Gabor R²": _of("gabor_r2_end", _median("{:.2f}")),
        **(PARAMETERS | SECONDS),
    },
    note="Test results are those of the last epoch on the whole test set. Gradient first/last: "
    "norm of the loss gradient of the first recurrent matrix divided by that of the last, in the "
    "first training step, and as the median over the last tenth of the recorded steps; – : all "
    f"steps share one matrix, or the gradient is zero. {MEMORY_NOTE}{INTERVALS}",
    sections=lambda groups, unfinished: classifiers.sections(groups),
)


TEXTS = Kind(
    means=("val_loss", "val_bits", "test_loss", "test_bits"),
    medians=("best_epoch", "symbols_per_second", *STATE_RATIOS),
    columns=lambda measure: {
        **(MODEL | RATE | UNITS | PARAMETERS | RUNS),
        "validation loss": _of("val_loss", _mean(".3f")),
        "validation bits": _of("val_bits", _mean(".3f")),
        "test bits": _of("test_bits", _mean(".3f")),
        "state gradient first/last, start": _of("state_gradient_ratio_start", words.median_text),
        "state gradient first/last, end": _of("state_gradient_ratio_end", words.median_text),
        **MEMORY,
        "best epoch": _best_epoch,
        "symbols per second": _of("symbols_per_second", _median("{:,.0f}")),
        **SECONDS,
    },
    note="Losses are in nats per symbol, which is a character, or with --bytes a byte; bits are "
    "nats divided by ln 2. Validation: the lowest; the test text is read once, by the model of "
    "that moment. State gradient first/last: norm of the loss gradient of the first memory cell "
    "over depth (without memory, of the first state) divided by that of the last. "
    f"{MEMORY_NOTE}{INTERVALS}",
    sections=text.sections,
)


SEQUENCES = Kind(
    means=("test_wrong",),
    medians=("sequences", "trained_sequences", "test_error", "reach"),
    counts=("solved",),
    columns=lambda measure: {
        **(MODEL | RATE | UNITS | PARAMETERS),
        "solved": _of("solved", lambda values: words.share_text(sum(values), len(values))),
        "sequences until solved": _of("sequences", words.counts_text),
        "published": lambda group: parse(group.config.subject).paper or words.NOTHING,
        "wrong in the test": _of("test_wrong", _mean(".1%")),
        "mean error": _of("test_error", words.ratios_text),
        "right up to": _of("reach", _reach),
        **SECONDS,
    },
    note="A task is solved when its criterion holds after some part of the training: on sequences "
    "drawn for that, on all that there are, or on the validation windows of a real series. A run "
    "that diverges has not solved it. Sequences: those seen in training, the median over the runs "
    "that have solved the task, and the range; the published figures are those of the task's "
    "source, which trained on-line and, before 2000, without forget gates. Wrong, and the mean "
    "error: after training, of 2,560 new sequences (10,000 waves), the same for all models, or of "
    "all test sequences of a task that has a fixed set of them; the criterion never looks at those "
    "of a real series. Right up to: the largest n of strings that are counted. "
    f"{INTERVALS}",
    sections=sequences.sections,
)

KINDS = {"run": CLASSIFIERS, "train-text": TEXTS, "solve": SEQUENCES}  # by command
