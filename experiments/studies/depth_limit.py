"""At which depth does each kind of network stop training, of equal parameters?"""

import functools
import math
from operator import attrgetter

from keras_deeplstm.experiments.settings.classifiers import ModelConfig
from keras_deeplstm.experiments.studies.depth import RELU, TANH
from keras_deeplstm.experiments.studies.images import ImageStudy, image_run
from keras_deeplstm.experiments.studies.study import (
    best_rates,
    depth_of,
    grouped,
    score,
    score_text,
)
from keras_deeplstm.experiments.tasks import get_task
from keras_deeplstm.experiments.words import enumerate_words, median_text

DEPTHS = (10, 30, 100, 300, 1000)
TRAINS = 0.8  # test accuracy from which on a model is said to train


def _limit_configs(dataset):
    epochs = {"epochs": 20, "batch_size": 64} if dataset == "digits" else {"epochs": 2}
    return [
        image_run(dataset, model, gradient_every=20, **epochs)
        for depth in DEPTHS
        for model in _limit_models(get_task(dataset), depth)
    ]


def _equal(task, depth):
    """Untied models have as many parameters as the LSTM with 50 units; tied ones have 50 units."""
    features, units = math.prod(task.input_shape or (28, 28)), 50
    step = 4 * units * (units + 1)
    parameters = 4 * units * (features + 1) + (depth - 1) * step
    parameters += (task.num_classes or 10) * (units + 1)
    equal = functools.partial(ModelConfig, depth=depth, parameters=parameters)
    return equal, functools.partial(ModelConfig, depth=depth, units=units, tied=True)


def _limit_models(task, depth):
    equal, tied = _equal(task, depth)
    return [
        equal(),
        equal(input_gate_bias="depth"),
        equal(forget_bias=1.0),
        tied(),
        tied(input_gate_bias="depth"),
        tied(forget_bias=1.0),
        equal(block="dense", **TANH),
        equal(block="dense", **RELU),
        equal(block="highway"),
        equal(block="residual", **RELU),
    ]


def _limit_answer(groups):
    first = "None of the networks trains."
    if trained := [group for group in groups if score(group) >= TRAINS]:
        deepest = max(trained, key=lambda group: (depth_of(group), score(group)))
        first = f"The deepest network that trains is {deepest.name} ({score_text(deepest)})."
    return [
        first,
        *map(_limit_sentence, grouped(groups, attrgetter("label")).values()),
        f"A network is said to train if it reaches {TRAINS:.0%} test accuracy. In brackets: the "
        "gradient norm of the first recurrent matrix divided by that of the last in the first "
        "training step (– : tied weights have no such ratio, nor has a gradient of zero), and that "
        "of the first state divided by that of the last.",
    ]


def _limit_sentence(groups):
    """The depths at which a model trains, and those at which it does not."""
    trained = [group for group in groups if score(group) >= TRAINS]
    stopped = [group for group in groups if score(group) < TRAINS]
    words = [f"trains at depth {_depths(trained)}"] if trained else []
    if stopped:
        verb = "does not" if trained else "does not train"
        words.append(f"{verb} at depth {_depths(stopped)}")
    return f"{groups[0].label} {' and '.join(words)}."


def _depths(groups):
    found = []
    for group in sorted(groups, key=depth_of):
        words = [score_text(group)]
        ratios = [group.values(f"{of}_ratio_start") for of in ("gradient", "state_gradient")]
        if any(ratios):  # a dash for one of them, because nothing but the place tells them apart
            words += map(median_text, ratios)
        found.append(f"{depth_of(group)} ({', '.join(words)})")
    return enumerate_words(found)


# The families that a reviewer asks for, and the rate that each wants.

# 3e-3 is the best for most networks of depth 10 and 30, and therefore in the middle there.
HIGH, LOW = (1e-3, 3e-3, 1e-2), (3e-4, 1e-3, 3e-3)
RATES = {10: HIGH, 30: HIGH, 100: HIGH, 300: LOW, 1000: LOW}
RATE_EPOCHS = {10: 3, 30: 3, 100: 3, 300: 1, 1000: 1}  # a third of the training, or a half


def _families(task, depth):
    equal, tied = _equal(task, depth)
    residual = functools.partial(equal, "residual", **RELU)
    swish = {"activation": "swish", "kernel_initializer": "lecun_normal"}
    return [
        equal(),
        equal(input_gate_bias="depth"),
        equal(forget_bias=1.0),
        tied(),
        tied(input_gate_bias="depth"),
        equal("highway"),
        residual(),
        *(residual(kind=kind) for kind in ("scaled", "deepnorm", "rezero", "skipinit", "fixup")),
        equal("residual", kind="four-layer", **swish),
        equal("dense", activation="tanh", kernel_initializer="orthogonal"),
        equal("dense", activation="selu", kernel_initializer="lecun_normal"),
    ]


def _rate_configs(dataset):
    run = functools.partial(image_run, schedule="cosine", gradient_every=20)
    return [
        run(dataset, model, learning_rate=rate, epochs=epochs)
        for depth, epochs in RATE_EPOCHS.items()
        for model in _families(get_task(dataset), depth)
        for rate in RATES[depth]
    ]


studies = (
    ImageStudy(
        name="depth-limit",
        needs="accuracy",
        question="At which depth does each kind of network stop training?",
        configs=_limit_configs,
        answer=_limit_answer,
        remark="Two epochs of MNIST, twenty of digits, one learning rate for all: a network that "
        "does not train here may train with more epochs or another rate. Untied networks of a "
        "depth have at most as many parameters as the LSTM over depth; tied ones have those of "
        "one step.",
    ),
    ImageStudy(
        name="depth-limit-rates",
        needs="accuracy",
        question="Which learning rate does each kind of network want at each depth?",
        configs=_rate_configs,
        answer=best_rates,
        remark="One seed; three epochs at depth 10 to 100, one at 300 and 1000. Networks of a "
        "depth have as many parameters as in `depth-limit`.",
    ),
)
