"""Grid LSTM against stacked LSTM on text, and what the options of a grid are worth.

The first question is that of github.com/coreylynch/grid-lstm (2016), which answered it with one run
of each model on 100 MB of Wikipedia; the models here are small enough for a laptop.
"""

import dataclasses
import os

from keras_deeplstm.experiments.settings.base import ConfigError
from keras_deeplstm.experiments.settings.text import TextConfig, TextModelConfig
from keras_deeplstm.experiments.studies.study import Study
from keras_deeplstm.experiments.tasks.text.sources import NAMES
from keras_deeplstm.experiments.words import enumerate_words, estimate_text

DATASETS = ("tinyshakespeare", "python-reference", "enwik8")
DEPTHS = (3, 6)
UNITS = 128
EQUAL_UNITS = 181  # 128 * sqrt(2): its layers have as many weights as those of the grid
DROPOUT = 0.2
FAILS = 1.5  # times the lowest loss of all: who has more does not train


class TextStudy(Study):
    """A study whose runs are of `deeplstm train-text`."""

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


def _config(text, model, epochs):
    return TextConfig(
        text, model, epochs=epochs, schedule="cosine", evaluate_every=200, report_every=100
    )


def _stacked_configs(text):
    models = [
        TextModelConfig("grid_lstm", units=UNITS),
        TextModelConfig("lstm", units=EQUAL_UNITS),
        TextModelConfig("lstm", units=UNITS),
    ]
    return [
        _config(text, dataclasses.replace(model, depth=depth, dropout=dropout), epochs=6)
        for depth in DEPTHS
        for dropout in (0.0, DROPOUT)
        for model in models
    ]


def _loss(group):
    return group.mean("val_loss")


def _named(group):
    return f"{group.name} ({estimate_text(_loss(group))})"


def _best(groups):
    best = min(groups, key=lambda group: _loss(group).mean)
    return f"The lowest validation loss, in nats per symbol, is that of {_named(best)}."


def _stacked_answer(groups):
    """The best; who does not train; grid beside stacked for each depth and dropout."""
    best = min(_loss(group).mean for group in groups)
    failed = [_named(group) for group in groups if _loss(group).mean > FAILS * best]
    sentences = [
        _best(groups),
        f"Models that do not train, with more than {FAILS} times the lowest loss: "
        f"{enumerate_words(failed) if failed else 'none'}.",
    ]
    by_setting = {}
    for group in groups:
        model = group.config.model
        by_setting.setdefault((model.depth, model.dropout), []).append(group)
    for (depth, dropout), members in sorted(by_setting.items()):
        grids = [group for group in members if group.config.model.block == "grid_lstm"]
        if grids and members[len(grids) :]:
            others = [
                f"{_of_size(group)} {estimate_text(_loss(group))}"
                for group in members
                if group not in grids
            ]
            what = f"with dropout {dropout}" if dropout else "without dropout"
            sentences.append(
                f"Depth {depth}, {what}: {_of_size(grids[0])} {estimate_text(_loss(grids[0]))}; "
                f"{enumerate_words(others)}."
            )
    return sentences


def _of_size(group):
    block = "grid" if group.config.model.block == "grid_lstm" else "stacked LSTM"
    return f"{block} of {group.runs[0].result['units']} units"


def _lowest_configs(text):
    models = (
        TextModelConfig("grid_lstm", depth=2, units=256, dropout=0.3),
        TextModelConfig("lstm", depth=2, units=362, dropout=0.3),  # 256 * sqrt(2)
    )
    return [_config(text, model, epochs=20) for model in models]


def _option_configs(text):
    models = (
        {},
        {"priority": None},
        {"tied": "depth"},
        {"tied": True},
        {"project_inputs": "hidden"},
        {"project_inputs": "both"},
        {"output": "both"},
        {"normalization": "layer"},
    )
    return [
        _config(text, TextModelConfig(depth=3, units=UNITS, **options), epochs=4)
        for options in models
    ]


def _option_answer(groups):
    """The best, and what each option changes against the plain grid."""
    sentences = [_best(groups)]
    plain = [group for group in groups if group.config.model == TextModelConfig(depth=3, units=128)]
    if plain:
        changes = [
            f"{group.label.removeprefix('GridLSTM2D ')} "
            f"{_loss(group).mean - _loss(plain[0]).mean:+.3f}"
            for group in groups
            if group is not plain[0]
        ]
        if changes:
            sentences.append(
                f"Against the plain grid's {estimate_text(_loss(plain[0]))}, the mean changes by: "
                f"{enumerate_words(changes)}."
            )
    return sentences


studies = (
    TextStudy(
        name="grid-vs-stacked",
        question="Does a Grid LSTM reach a lower loss on text than stacked LSTMs, with as many "
        "weights and with as many units, and does it train where a deep stack does not?",
        datasets=DATASETS,
        own_data=True,
        configs=_stacked_configs,
        answer=_stacked_answer,
    ),
    TextStudy(
        name="lowest-loss",
        question="How low does the loss get with a model that a laptop trains in an hour?",
        datasets=DATASETS,
        own_data=True,
        configs=_lowest_configs,
        answer=lambda groups: [_best(groups)],
    ),
    TextStudy(
        name="grid-options",
        question="What are priority, tying, projections, readout and normalization of a Grid LSTM "
        "worth?",
        datasets=DATASETS,
        own_data=True,
        configs=_option_configs,
        answer=_option_answer,
        remark="All have the same units and layers; some options change the number of weights.",
    ),
)
