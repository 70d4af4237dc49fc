"""Forecasts: the sines of github.com/sunsided/tensorflow-lstm-sin, and real series."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from keras_deeplstm.experiments.settings.sequences import SequenceConfig, SequenceModelConfig
from keras_deeplstm.experiments.studies.sequences import SequenceStudy
from keras_deeplstm.experiments.tasks.sequences import spec
from keras_deeplstm.experiments.tasks.sequences.series import KNOWN
from keras_deeplstm.experiments.tasks.sequences.sines import Sines
from keras_deeplstm.experiments.words import enumerate_words, ratio_text, ratios_text


class _Experiment(NamedTuple):
    """What the source trained, and the loss it shows: of one batch, summed over the horizon."""

    units: int
    depth: int
    sequences: int  # what its plots call iterations
    published: float | None
    settings: Mapping[str, Any] = MappingProxyType({})


# Batches of 50 throughout. Of experiment 4 there are two losses, the best seen and the last.
SOURCE = {
    "1": _Experiment(100, 1, 200_000, None),
    "2": _Experiment(150, 1, 300_000, 0.614914),
    "3": _Experiment(150, 1, 500_000, 0.177742, {"learning_rate": 5e-4}),
    "3.1": _Experiment(150, 1, 500_000, 0.257725, {"learning_rate": 5e-4}),
    "4": _Experiment(500, 1, 500_000, 0.069027, {"clipnorm": None, "clipvalue": 0.5}),
    "5": _Experiment(32, 4, 375_000, 0.138701),
    "5b": _Experiment(10, 4, 1_200_000, 0.5),
    "5.1": _Experiment(10, 4, 510_000, 0.180995, {"learning_rate": 5e-3, "schedule": "step"}),
}


def _sine_configs(dataset):
    return [_sine_config(name, block, schedule) for name in SOURCE for block, schedule in _VARIANTS]


# The source's own model and schedule; then a learning rate that falls to zero, for the same model
# and for ours. With it, wide models of one layer need fewer sequences than the source took.
_VARIANTS = (("lstm", None), ("lstm", "cosine"), ("grid_lstm", "cosine"))
_FEWER = 100_000


def _sine_config(name, block, schedule):
    experiment = SOURCE[name]
    options = {"project_inputs": "both", "output": "both"} if block == "grid_lstm" else {}
    settings = {"clipnorm": None, **experiment.settings}
    if schedule is not None:
        settings |= {"schedule": schedule, "learning_rate": 5e-3, "clipnorm": 1.0}
        settings["clipvalue"] = None
    return SequenceConfig(
        spec(Sines(**Sines.named[name])),
        SequenceModelConfig(block, experiment.depth, experiment.units, **options),
        sequences=_FEWER if schedule and experiment.depth == 1 else experiment.sequences,
        evaluate_every=25_000,
        jit_compile=True,
        batch_size=50,
        full=True,
        **settings,
    )


def _sine_answer(groups):
    """Each experiment: our losses on 10,000 waves, and the one that was published."""
    sentences, reached, compared = [], 0, 0
    for name, experiment in SOURCE.items():
        planned = [_sine_config(name, *variant).repeated(0) for variant in _VARIANTS]
        members = [group for group in groups if group.config.repeated(0) in planned]
        errors = [group.values("test_error") for group in members]
        if not any(errors):
            continue
        found = [
            f"{group.config.model.words} {group.config.schedule} {ratios_text(values)}"
            for group, values in zip(members, errors, strict=True)
        ]
        published = "no loss published"
        if experiment.published is not None:
            published = f"published: {experiment.published:g}"
            compared += 1
            reached += min(min(some) for some in errors if some) <= experiment.published
        sentences.append(f"Experiment {name}: {enumerate_words(found)}; {published}.")
    first = (
        f"Of {compared} experiments with a published loss, {reached} are reached or surpassed by "
        "one of our models. Losses are squared errors summed over the horizon: ours the mean over "
        "10,000 waves, the published ones those of single batches of 50."
    )
    return [first, *sentences]


def _series_configs(dataset):
    horizons = {"sunspots": (33, 11), "airline": (24, 12), "co2": (104, 52)}
    return [
        SequenceConfig(
            f"series:data={name},inputs={horizons[name][0]},horizon={horizons[name][1]}",
            SequenceModelConfig(block, depth=1, units=32, dropout=0.0),
            sequences=20_000,
            evaluate_every=1000,
            jit_compile=True,
            batch_size=20,
            learning_rate=2e-3,
            schedule="cosine",
            input_noise=0.05,
            full=True,
        )
        for name in KNOWN
        for block in ("grid_lstm", "lstm")
    ]


def _series_answer(groups):
    """The error of each model as a share of that of the naive forecast, series by series."""
    sentences = []
    for name in KNOWN:
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
        question="Do the models of tensorflow-lstm-sin, and ours, foretell sine waves of unknown "
        "frequency at the losses that were published?",
        datasets=(),
        configs=_sine_configs,
        answer=_sine_answer,
    ),
    SequenceStudy(
        name="series",
        question="Do the models forecast real series better than repeating the last value or the "
        "last period does?",
        datasets=(),
        configs=_series_configs,
        answer=_series_answer,
    ),
)
