"""Transformers and convolutional networks whose layers an LSTM connects along depth.

DepthLSTM in place of residual additions: does the gradient travel through the memory cell of
today's networks too, and what does that buy?
"""

import dataclasses
import math
from functools import partial
from typing import Any

from keras_deeplstm.experiments.runs.groups import estimate
from keras_deeplstm.experiments.settings.classifiers import ModelConfig, RunConfig
from keras_deeplstm.experiments.settings.text import TextConfig, TextModelConfig
from keras_deeplstm.experiments.studies.images import ImageStudy
from keras_deeplstm.experiments.studies.study import (
    best_rates,
    depth_of,
    differences,
    grouped,
    ranked,
    score_text,
    validated,
    without_rates,
)
from keras_deeplstm.experiments.studies.texts import TextStudy
from keras_deeplstm.experiments.tasks.measures import Measure
from keras_deeplstm.experiments.words import enumerate_words, estimate_text, median_text

# Transformers on text. Attention alone is connected by the LSTM; with residual connections a
# feed-forward part of as many weights follows each attention.

UNITS = 64
DEPTHS = (6, 12, 24, 48)  # attention layers
TUNED_AT = 12
RATES = (3e-3, 1e-2, 3e-2)

ATTENTION = partial(TextModelConfig, "transformer", units=UNITS)
# With the forget bias log(depth), which is the default: chrono initialization, arXiv 1804.11188.
CHRONO: dict[str, Any] = {"input_gate_bias": "depth"}
# All steps share their weights, so that a tied model with as many parameters is wide, and slow.
WIDE = TextModelConfig("transformer", tied=True, parameters=612_000)
BASELINE = ATTENTION(connection="residual")
# With no rate that was tried does it train at depth TUNED_AT, so that no deeper one is trained.
POST_NORM = ATTENTION(connection="post-norm")
# With the rate of the lowest validation loss at depth TUNED_AT, found by depth-lstm-rates.
MODELS = {
    ATTENTION(): 1e-2,
    ATTENTION(**CHRONO): 1e-2,
    ATTENTION(tied=True): 1e-2,
    ATTENTION(tied=True, **CHRONO): 1e-2,
    BASELINE: 1e-2,
    POST_NORM: 1e-3,
    ATTENTION(connection="rezero"): 1e-2,
    ATTENTION(connection="scaled"): 3e-2,  # the highest that was tried
    WIDE: 3e-3,  # the lowest that was tried
}


_run = partial(
    TextConfig,
    sequence_length=64,
    batch_size=32,
    epochs=1,
    evaluate_every=1000,
    report_every=49,
    sample_length=0,
    schedule="cosine",
    warmup=50,
    beta_2=0.98,
    jit_compile=True,
)


def _configs(text):
    return [
        _run(text, dataclasses.replace(model, depth=depth), learning_rate=rate)
        for depth in DEPTHS
        for model, rate in MODELS.items()
        if (model != WIDE or depth == TUNED_AT) and (model != POST_NORM or depth <= TUNED_AT)
    ]


def _rate_configs(text):
    return [
        _run(text, dataclasses.replace(model, depth=TUNED_AT), learning_rate=rate)
        for model in MODELS
        for rate in RATES
    ]


def _low_rate_configs(text):
    models = (ATTENTION(), ATTENTION(**CHRONO), BASELINE)
    return [
        _run(text, dataclasses.replace(model, depth=TUNED_AT), learning_rate=min(RATES))
        for model in models
    ]


# Convolutional networks on images, of equal parameters at each depth.

IMAGE_DEPTHS = {10: 47_400, 30: 136_700, 100: 449_200}  # parameters of 16 filters and an LSTM
IMAGE_RATES = (1e-3, 3e-3, 1e-2)
DEEP = partial(ModelConfig, "deep_cnn")
# With the rate of the highest validation accuracy at depth 30, found by depth-lstm-image-rates.
IMAGE_MODELS = {
    DEEP(): 1e-3,  # the lowest that was tried, here and below
    DEEP(**CHRONO): 3e-3,
    DEEP(connection="residual"): 1e-3,
    DEEP(connection="post-norm"): 1e-3,
    DEEP(connection="rezero"): 1e-2,
    DEEP(connection="scaled"): 3e-3,
}


def _of_depth(model, depth):
    return dataclasses.replace(model, depth=depth, parameters=IMAGE_DEPTHS[depth])


_run_images = partial(RunConfig, epochs=1, schedule="cosine", gradient_every=50, jit_compile=True)


def _image_configs(dataset):
    return [
        _run_images(dataset, _of_depth(model, depth), learning_rate=rate)
        for depth in IMAGE_DEPTHS
        for model, rate in IMAGE_MODELS.items()
    ]


def _image_rate_configs(dataset):
    return [
        _run_images(dataset, _of_depth(model, 30), learning_rate=rate)
        for model in IMAGE_MODELS
        for rate in IMAGE_RATES
    ]


# Answers.


LOSS = Measure("loss", "min", ".3f")  # in nats


def _answer(groups):
    """What the LSTM buys against pre-norm, for each model by depth; and where the gradient goes."""
    groups = without_rates(groups)
    by_depth = sorted(grouped(groups, depth_of).items())
    base = {one.config.model: one for one in groups if one.label == BASELINE.words}
    found: dict[str, list[str]] = {}
    for depth, members in by_depth:
        plain = base.get(dataclasses.replace(BASELINE, depth=depth))
        for group in members:
            if plain and group.config.model.connection == "lstm":
                less = differences(group, plain, "val_loss")
                text = estimate_text(estimate(less)) if less else "(no seed in common)"
                found.setdefault(group.label, []).append(f"{text} at depth {depth}")
    sentences = [
        f"Validation loss of {name} less that of {BASELINE.words}, in nats: "
        f"{enumerate_words(texts)}."
        for name, texts in found.items()
    ]
    for depth, members in by_depth:
        found = {group.label: validated(group, LOSS) for group in members}
        best_first = sorted(found.items(), key=lambda item: item[1].mean)
        losses = [f"{label} {estimate_text(loss)}" for label, loss in best_first]
        sentences.append(f"Validation loss at depth {depth}: {enumerate_words(losses)}.")
    return [*sentences, *_gradients(groups)]


def _image_answer(groups):
    """The accuracy of each connection at each depth, the deepest first; where the gradient goes."""
    sentences, groups = [], without_rates(groups)
    for depth, members in sorted(grouped(groups, depth_of).items(), reverse=True):
        best, *others = ranked(members)
        words = f"At depth {depth} the highest test {best.config.measure.words} is that of"
        text = f"{words} {best.label} ({score_text(best)})."
        if others:
            found = [f"{group.label} {score_text(group)}" for group in others]
            text += f" Then {enumerate_words(found)}."
        sentences.append(text)
    return [*sentences, *_gradients(groups)]


def _gradients(groups):
    lstms = [group for group in groups if group.values("memory_path_ratio_end")]
    if not lstms:
        return []
    deepest = max(map(depth_of, lstms))
    first, memory = (
        [
            f"{group.label} {_ratios(group, name)}"
            for group in groups
            if depth_of(group) == deepest and group.values(f"{name}_end")
        ]
        for name in ("state_gradient_ratio", "memory_path_ratio")
    )
    return [
        f"Gradient of the first state divided by that of the last at depth {deepest}, before and "
        f"after training: {enumerate_words(first)}.",
        "Share of the gradient of the first memory cell that comes back through memory alone: "
        f"{enumerate_words(memory)}.",
    ]


def _ratios(group, name):
    values = [group.values(f"{name}_{when}") for when in ("start", "end")]
    return " → ".join(map(median_text, values))


studies = (
    TextStudy(
        name="depth-lstm",
        question="Does the gradient of a Transformer travel through the memory cell if an LSTM "
        "takes the place of its residual connections, and what does that buy?",
        configs=_configs,
        answer=_answer,
        most_seeds=lambda config: math.inf if config.model.depth == TUNED_AT else 1,
        remark="Attention and LSTM have together as many weights as attention and a feed-forward "
        "part, and a step takes as long (docs/layers.md), so that equal steps are equal seconds. "
        "Only the tied model of 612,000 parameters takes several times as long. "
        "All train on the same windows of the text, about as many symbols as it has. Rates are "
        "the best of 0.003, 0.01 and 0.03 on the validation text at depth 12, with one seed "
        "(depth-lstm-rates), but for post-norm, which trains with none of them; several seeds are "
        "for depth 12. The runs shared their machine: side "
        "by side, steps are timed by benchmarks/depth_lstm.py.",
    ),
    TextStudy(
        name="depth-lstm-rates",
        question="Which learning rate does each connection of a Transformer want?",
        configs=_rate_configs,
        answer=partial(best_rates, measure=LOSS),
    ),
    TextStudy(
        name="depth-lstm-low-rate",
        question="Does an LSTM in place of a Transformer's residual connections help at a low "
        "learning rate?",
        configs=_low_rate_configs,
        answer=_answer,
        remark="All three want a higher rate at depth 12 (depth-lstm-rates).",
    ),
    ImageStudy(
        name="depth-lstm-images",
        question="What does an LSTM over depth buy a deep convolutional network, in place of "
        "residual connections?",
        configs=_image_configs,
        answer=_image_answer,
        remark="All networks of a depth have at most the same number of parameters; those with "
        "residual additions are wider. They are trained for one epoch. Rates are the best of three "
        "on the validation images at depth 30, with one seed (depth-lstm-image-rates).",
    ),
    ImageStudy(
        name="depth-lstm-image-rates",
        question="Which learning rate does each connection of a deep convolutional network want?",
        configs=_image_rate_configs,
        answer=best_rates,
    ),
)
