"""Forecasts: the sines of github.com/sunsided/tensorflow-lstm-sin, and real series."""

from keras_deeplstm.experiments.settings.sequences import SequenceModelConfig
from keras_deeplstm.experiments.studies.sequences import SequenceStudy, over_time, runs_of
from keras_deeplstm.experiments.tasks.sequences import spec
from keras_deeplstm.experiments.tasks.sequences.sines import Sines
from keras_deeplstm.experiments.words import enumerate_words, ratio_text, ratios_text

# What the source trained: units, depth, sequences (its plots call them iterations), all in batches
# of 50, and settings; and the loss it shows, of one batch, summed over the horizon. Of experiment 4
# there are two losses, the best seen and the last.
SOURCE = {
    "1": (100, 1, 200_000, {}, None),
    "2": (150, 1, 300_000, {}, 0.614914),
    "3": (150, 1, 500_000, {"learning_rate": 5e-4}, 0.177742),
    "3.1": (150, 1, 500_000, {"learning_rate": 5e-4}, 0.257725),
    "4": (500, 1, 500_000, {"clipvalue": 0.5}, 0.069027),
    "5": (32, 4, 375_000, {}, 0.138701),
    "5b": (10, 4, 1_200_000, {}, 0.5),
    "5.1": (10, 4, 510_000, {"learning_rate": 5e-3, "schedule": "step"}, 0.180995),
}


def _variants(name):
    """The source's own model and schedule, and models whose learning rate falls to zero.

    With that, wide models of one layer need fewer sequences than the source took.
    """
    units, depth, sequences, settings, _ = SOURCE[name]
    fewer = 100_000 if depth == 1 else sequences
    task = spec(Sines(**Sines.named[name]))
    lstm, grid = (over_time(block, depth=depth, units=units) for block in ("lstm", "grid_lstm"))
    both = {"evaluate_every": 25_000, "batch_size": 50, "full": True}
    return [
        *runs_of({task: sequences}, [lstm], clipnorm=None, **settings, **both),
        *runs_of({task: fewer}, [lstm, grid], schedule="cosine", learning_rate=5e-3, **both),
    ]


def _sine_answer(groups):
    """Each experiment: our losses on 10,000 waves, and the one that was published."""
    sentences, reached = [], []
    for name, (*_, loss) in SOURCE.items():
        planned = _variants(name)
        members = [group for group in groups if group.config.repeated(0) in planned]
        errors = [error for group in members for error in group.values("test_error")]
        if not errors:
            continue
        found = [
            f"{group.config.model.words} {group.config.schedule} "
            f"{ratios_text(group.values('test_error'))}"
            for group in members
        ]
        published = "no loss published"
        if loss is not None:
            published = f"published: {loss:g}"
            reached.append(min(errors) <= loss)
        sentences.append(f"Experiment {name}: {enumerate_words(found)}; {published}.")
    first = (
        f"Of {len(reached)} experiments with a published loss, {sum(reached)} are reached or "
        "surpassed by one of our models. Losses are squared errors summed over the horizon: ours "
        "the mean over 10,000 waves, the published ones those of single batches of 50."
    )
    return [first, *sentences]


# Steps that are read, and steps that are foretold.
SERIES = {"sunspots": (33, 11), "airline": (24, 12), "co2": (104, 52)}


def _series_configs(dataset):
    tasks = {
        f"series:data={name},inputs={inputs},horizon={horizon}": 20_000
        for name, (inputs, horizon) in SERIES.items()
    }
    models = [SequenceModelConfig(block, units=32) for block in ("grid_lstm", "lstm")]
    settings = {"learning_rate": 2e-3, "schedule": "cosine", "input_noise": 0.05, "full": True}
    return runs_of(tasks, models, evaluate_every=1000, batch_size=20, **settings)


def _series_answer(groups):
    """The error of each model as a share of that of the naive forecast, series by series."""
    sentences = []
    for name in SERIES:
        members = [group for group in groups if group.config.make_task().data == name]
        found = [f"{group.label} {ratios_text(group.values('test_error'))}" for group in members]
        if found:
            sentences.append(f"{name}: {enumerate_words(found)} times the naive forecast's error.")
    values = [value for group in groups for value in group.values("test_error")]
    better = sum(value < 1 for value in values)
    first = (
        f"{better} of {len(values)} runs forecast better than the naive forecast; the best has "
        f"{ratio_text(min(values, default=None))} times its mean absolute error."
    )
    return [first, *sentences]


studies = (
    SequenceStudy(
        name="sines",
        question="Do the models of tensorflow-lstm-sin, and ours, forecast sine waves of unknown "
        "frequency at the losses that were published?",
        configs=lambda dataset: [config for name in SOURCE for config in _variants(name)],
        answer=_sine_answer,
    ),
    SequenceStudy(
        name="series",
        question="Do the models forecast real series better than repeating the last value or the "
        "last period does?",
        configs=_series_configs,
        answer=_series_answer,
    ),
)
