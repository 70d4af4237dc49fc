"""Grid LSTM against stacked LSTM on text, and what the options of a grid are worth.

The first question is that of github.com/coreylynch/grid-lstm (2016), which answered it with one run
of each model on 100 MB of Wikipedia; the models here are small enough for a laptop.
"""

import dataclasses
import os
from functools import partial
from operator import attrgetter

from keras_deeplstm.experiments.settings.base import ConfigError
from keras_deeplstm.experiments.settings.text import TextConfig, TextModelConfig
from keras_deeplstm.experiments.studies.study import Study, grouped
from keras_deeplstm.experiments.tasks.text.sources import NAMES
from keras_deeplstm.experiments.words import enumerate_words, estimate_text

UNITS = 128
FAILS = 1.5  # times the lowest loss of all: who has more does not train


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextStudy(Study):
    """A study whose runs are of `deeplstm train-text`."""

    datasets: tuple[str, ...] = ("tinyshakespeare", "python-reference", "enwik8")
    own_data: bool = True

    config = TextConfig

    def plan(self, dataset, epochs=None, seeds=1, folds=None):
        """See `Study.plan`; a text has no folds, since it is read in order."""
        if folds is not None:
            raise ConfigError("A text is read in order: it has no folds")
        return super().plan(dataset, epochs, seeds)

    def _own(self, dataset):
        if not os.path.isfile(dataset):
            raise ValueError(f"'{dataset}' is no file. Texts that have a name: {', '.join(NAMES)}")
        return os.path.abspath(dataset)


def _runs_of(models, epochs):
    """The configs of a study: a run of each model on any text."""
    run = partial(TextConfig, schedule="cosine", evaluate_every=200, report_every=100)
    return lambda text: [run(text, model, epochs=epochs) for model in models]


def _loss(group):
    return group.mean("val_loss").mean


def _loss_text(group):
    return estimate_text(group.mean("val_loss"))


def _named(group):
    return f"{group.name} ({_loss_text(group)})"


def _best(groups):
    best = min(groups, key=_loss)
    return f"The lowest validation loss, in nats per symbol, is that of {_named(best)}."


STACKED = [
    dataclasses.replace(model, depth=depth, dropout=dropout)
    for depth in (3, 6)
    for dropout in (0.0, 0.2)
    for model in (
        TextModelConfig("grid_lstm", units=UNITS),
        TextModelConfig("lstm", units=181),  # 128 * sqrt(2): as many weights as the grid
        TextModelConfig("lstm", units=UNITS),
    )
]


def _stacked_answer(groups):
    """The best; who does not train; grid beside stacked for each depth and dropout."""
    most = FAILS * min(map(_loss, groups))
    failed = [_named(group) for group in groups if _loss(group) > most] or ["none"]
    sentences = [
        _best(groups),
        f"Models that do not train, with more than {FAILS} times the lowest loss: "
        f"{enumerate_words(failed)}.",
    ]
    setting = attrgetter("config.model.depth", "config.model.dropout")
    for (depth, dropout), members in sorted(grouped(groups, setting).items()):
        grids = [group for group in members if group.config.model.block == "grid_lstm"]
        others = [_of_size(group, "stacked LSTM") for group in members if group not in grids]
        if grids and others:
            what = f"with dropout {dropout}" if dropout else "without dropout"
            sentences.append(
                f"Depth {depth}, {what}: {_of_size(grids[0], 'grid')}; {enumerate_words(others)}."
            )
    return sentences


def _of_size(group, name):
    return f"{name} of {group.runs[0].result['units']} units {_loss_text(group)}"


LOWEST = (
    TextModelConfig("grid_lstm", depth=2, units=256, dropout=0.3),
    TextModelConfig("lstm", depth=2, units=362, dropout=0.3),  # 256 * sqrt(2)
)

GRID = partial(TextModelConfig, depth=3, units=UNITS)
OPTIONS = (
    GRID(),
    GRID(priority=None),
    GRID(tied="depth"),
    GRID(tied=True),
    GRID(project_inputs="hidden"),
    GRID(project_inputs="both"),
    GRID(output="both"),
    GRID(normalization="layer"),
)


def _option_answer(groups):
    """The best, and what each option changes against the plain grid."""
    sentences = [_best(groups)]
    plain = next((group for group in groups if group.config.model == GRID()), None)
    others = [group for group in groups if group is not plain]
    if plain and others:
        changes = [
            f"{group.label.partition('(')[2][:-1]} {_loss(group) - _loss(plain):+.3f}"
            for group in others
        ]
        sentences.append(
            f"Against the plain grid's {_loss_text(plain)}, the mean changes by: "
            f"{enumerate_words(changes)}."
        )
    return sentences


studies = (
    TextStudy(
        name="grid-vs-stacked",
        question="Does a Grid LSTM reach a lower loss on text than stacked LSTMs, with as many "
        "weights and with as many units, and does it train where a deep stack does not?",
        configs=_runs_of(STACKED, epochs=6),
        answer=_stacked_answer,
    ),
    TextStudy(
        name="lowest-loss",
        question="How low does the loss get with a model that a laptop trains in an hour?",
        configs=_runs_of(LOWEST, epochs=20),
        answer=lambda groups: [_best(groups)],
    ),
    TextStudy(
        name="grid-options",
        question="What are priority, tying, projections, readout and normalization of a Grid LSTM "
        "worth?",
        configs=_runs_of(OPTIONS, epochs=4),
        answer=_option_answer,
        remark="All have the same units and layers; some options change the number of weights.",
    ),
)
