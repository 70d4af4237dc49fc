"""Does the gradient reach the bottom?"""

import dataclasses
import statistics
from typing import Any

from keras_deeplstm.experiments.settings.classifiers import ModelConfig, RunConfig
from keras_deeplstm.experiments.studies.study import Study, depth_of, grouped, score_text
from keras_deeplstm.experiments.words import enumerate_words

TANH: dict[str, Any] = {"activation": "tanh", "kernel_initializer": "glorot_uniform"}
RELU: dict[str, Any] = {"activation": "relu", "kernel_initializer": "he_normal"}


def _depth_configs(dataset):
    models = (
        ModelConfig(),
        ModelConfig(tied=True),
        ModelConfig("dense", **TANH),
        ModelConfig("dense", **RELU),
        ModelConfig("residual", **RELU),
    )
    settings = {"epochs": 3, "batch_size": 128, "gradient_every": 20}
    if dataset == "digits":
        settings = {"epochs": 20, "batch_size": 64, "gradient_every": 5}
    return [
        RunConfig(dataset, dataclasses.replace(model, depth=depth), **settings)
        for depth in (10, 30, 100)
        for model in models
    ]


def _depth_answer(groups):
    from keras_deeplstm.callbacks.verdict import ARRIVES_WITHIN, GONE_BEYOND

    sentences = []
    judged = [group for group in groups if _verdicts(group)]
    for depth, members in sorted(grouped(judged, depth_of).items(), reverse=True):
        by_verdict = grouped(members, lambda group: statistics.mode(_verdicts(group)))
        clauses = [
            f"{verdict} in {enumerate_words([_named(group) for group in some])}"
            for verdict, some in by_verdict.items()
        ]
        sentences.append(f"At depth {depth} the gradient {enumerate_words(clauses)}.")
    return [
        *(sentences or ["No finished run has a gradient for each step."]),
        f"It arrives if its norms at the first and at the last recurrent matrix differ by less "
        f"than a factor of {ARRIVES_WITHIN:.0f}, median over the last tenth of the recorded steps. "
        f"It vanishes or explodes if they differ by more than a factor of {GONE_BEYOND:,.0f}; in "
        "between it falls or grows. A model whose steps share one matrix has no such ratio.",
    ]


def _named(group):
    """A model with its result, and how many runs have the verdict of most if not all have it."""
    verdicts = _verdicts(group)
    count = verdicts.count(statistics.mode(verdicts))
    some = "" if count == len(verdicts) else f", in {count} of {len(verdicts)} runs"
    return f"{group.label} ({score_text(group)} test {group.config.measure.words}{some})"


def _verdicts(group):
    """What the gradient does, of each run that tells."""
    return [verdict for run in group.runs if (verdict := _verdict(run))]


def _verdict(run):
    from keras_deeplstm.callbacks.verdict import fate  # the command's help does not wait for Keras

    ratio = run.result["gradient_ratio_end"]
    if ratio is None:  # one matrix for all steps, or no gradient at all
        return None if run.config.model.tied else "vanishes"
    return fate(ratio)


studies = (
    Study(
        name="depth",
        question="Does the gradient reach the bottom of an LSTM over depth, "
        "and of plain and residual networks of the same depth?",
        datasets=("digits", "mnist", "fashion-mnist"),
        own_data=True,
        configs=_depth_configs,
        answer=_depth_answer,
    ),
)
