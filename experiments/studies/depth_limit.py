"""At which depth does each kind of network stop training, of equal parameters?"""

import functools
import math
from operator import attrgetter
from typing import Any

from keras_deeplstm.experiments.settings.classifiers import ModelConfig
from keras_deeplstm.experiments.studies.connections import CHRONO
from keras_deeplstm.experiments.studies.depth import RELU
from keras_deeplstm.experiments.studies.images import ImageStudy, image_run
from keras_deeplstm.experiments.studies.study import (
    best_rates,
    depth_of,
    differences,
    grouped,
    ranked,
    score,
    score_text,
    without_rates,
)
from keras_deeplstm.experiments.tasks import get_task
from keras_deeplstm.experiments.words import enumerate_words

TRAINS = 0.8  # test accuracy from which on a model is said to train

DEPTHS = (10, 30, 100, 300, 1000)
EPOCHS = {10: 10, 30: 10, 100: 10, 300: 3, 1000: 2}

# What the rates are chosen from, and for how long: a third of the training, or a half.
HIGH = (1e-3, 3e-3, 1e-2)
RATES = {10: HIGH, 30: HIGH, 100: HIGH, 300: (3e-4, *HIGH)}
LOWER = (3e-5, 1e-4, 3e-4)  # plain networks want them, the deeper the lower
HIGHEST = 3e-2  # several LSTMs do best with the highest of the others
LADDER = (3e-6, 1e-5, *LOWER, *HIGH, HIGHEST)
RATE_EPOCHS = {10: 3, 30: 3, 100: 3, 300: 1, 1000: 1}

FORGET_BIAS: dict[str, Any] = {"forget_bias": 1.0}
SWISH: dict[str, Any] = {"activation": "swish", "kernel_initializer": "lecun_normal"}
SELU: dict[str, Any] = {"activation": "selu", "kernel_initializer": "lecun_normal"}
ISOMETRY: dict[str, Any] = {"activation": "tanh", "kernel_initializer": "orthogonal"}

# Each network with the rate of the highest validation accuracy at each of DEPTHS, found by
# depth-limit-rates with one seed. Those that do not train at depth 300 have none at 1000.
NETWORKS: tuple[tuple[str, dict[str, Any], tuple[float, ...]], ...] = (
    ("unfolded_lstm", {}, (1e-2, 3e-3, 1e-3, 1e-3, 3e-4)),
    ("unfolded_lstm", CHRONO, (1e-2, 1e-2, 3e-3, 1e-2, 1e-2)),
    ("unfolded_lstm", FORGET_BIAS, (3e-3, 3e-3, 1e-3, 1e-3)),
    ("unfolded_lstm", {"tied": True}, (3e-3, 3e-3, 1e-2, 1e-3, 1e-3)),
    ("unfolded_lstm", {"tied": True, **CHRONO}, (1e-2, 1e-2, 1e-2, 1e-2, 1e-2)),
    ("highway", {}, (3e-3, 3e-3, 3e-3, 1e-3)),
    ("residual", RELU, (3e-3, 1e-3, 1e-3, 1e-3, 1e-3)),
    ("residual", {"kind": "scaled", **RELU}, (3e-3, 3e-3, 3e-3, 3e-3, 1e-3)),
    ("residual", {"kind": "deepnorm", **RELU}, (3e-3, 3e-3, 3e-3, 1e-3, 3e-4)),
    ("residual", {"kind": "rezero", **RELU}, (3e-3, 3e-3, 3e-3, 3e-3, 3e-3)),
    ("residual", {"kind": "skipinit", **RELU}, (3e-3, 3e-3, 3e-3, 3e-3, 1e-3)),
    ("residual", {"kind": "fixup", **RELU}, (3e-3, 3e-3, 1e-3, 3e-3, 1e-3)),
    ("residual", {"kind": "four-layer", **SWISH}, (3e-3, 3e-3, 3e-3, 3e-3, 3e-3)),
    ("dense", ISOMETRY, (1e-3, 3e-4, 3e-4, 1e-4, 1e-5)),
    ("dense", SELU, (1e-3, 3e-4, 1e-4, 3e-5)),
)


def _model(dataset, depth, block, options):
    """Untied, of as many parameters as the LSTM with 50 units; tied, of 50 units.

    Of data of the user's own the size is not known before they are read: their budget is that of
    28 x 28 inputs and 10 classes, the same for all networks of a depth, whatever width it gives.
    """
    if options.get("tied"):
        return ModelConfig(block, depth=depth, units=50, **options)
    task, units = get_task(dataset), 50
    parameters = 4 * units * (math.prod(task.input_shape or (28, 28)) + 1)
    parameters += (depth - 1) * 4 * units * (units + 1)
    parameters += (task.num_classes or 10) * (units + 1)
    return ModelConfig(block, depth=depth, parameters=parameters, **options)


def _configs(dataset):
    run = functools.partial(image_run, dataset, schedule="cosine", gradient_every=20)
    if dataset == "digits":
        run = functools.partial(run, batch_size=64)
    return [
        run(
            _model(dataset, depth, block, options),
            learning_rate=rates[depth],
            epochs=20 if dataset == "digits" else EPOCHS[depth],
        )
        for depth, block, options, rates in _networks()
    ]


def _networks():
    """The networks of each depth, with their rates by depth."""
    for depth in DEPTHS:
        for block, options, rates in NETWORKS:
            by_depth = dict(zip(DEPTHS, rates, strict=False))
            if depth in by_depth:
                yield depth, block, options, by_depth


def _rates(block, options, depth, chosen):
    if depth == 1000:  # what is best at depth 300 and here, with the neighbours
        best = sorted(LADDER.index(chosen[near]) for near in (300, 1000))
        return LADDER[best[0] - 1 : best[1] + 2]
    rates = {*RATES[depth]}
    if block == "unfolded_lstm":
        rates.add(HIGHEST)
    if block == "dense" or (options == FORGET_BIAS and depth >= 100):
        rates |= {*LOWER}
    return sorted(rates)


def _rate_configs(dataset):
    run = functools.partial(image_run, dataset, schedule="cosine", gradient_every=20)
    return [
        run(_model(dataset, depth, block, options), learning_rate=rate, epochs=RATE_EPOCHS[depth])
        for depth, block, options, chosen in _networks()
        for rate in _rates(block, options, depth, chosen)
    ]


def _answer(groups):
    """To which depth each network trains; then who is ahead at each depth, the deepest first."""
    groups = without_rates(groups)
    limits: dict[tuple[int, bool], list[str]] = {}  # with whether it was not run any deeper
    for label, members in grouped(groups, attrgetter("label")).items():
        depth = max((depth_of(group) for group in members if score(group) >= TRAINS), default=0)
        limits.setdefault((depth, depth == max(map(depth_of, members))), []).append(label)
    by_depth = sorted(grouped(groups, depth_of).items(), reverse=True)
    count, deepest = sum(map(len, limits.values())), by_depth[0][0]
    through = len(limits.pop((deepest, True), []))
    sentences = [f"Of {count} networks {through} train to depth {deepest}."]
    for (depth, at_least), labels in sorted(limits.items(), reverse=True):
        where = f"To depth {depth}" if depth else "At no depth"
        trains = f"{where} {'train' if labels[1:] else 'trains'} {enumerate_words(labels)}"
        sentences.append(f"{trains} (not run deeper)." if at_least else f"{trains}.")
    return [*sentences, *(_at_depth(depth, members) for depth, members in by_depth)]


def _at_depth(depth, groups):
    """The best, those that are tied with it, how good the others are that train."""
    best, *others = ranked(groups)
    measure = best.config.measure
    tied = [group for group in others if _tied(group, best)]
    worse = [group for group in others if score(group) >= TRAINS and group not in tied]
    sentence = f"At depth {depth} the highest test {measure.words} is that of {best.label}"
    sentence += f", {score_text(best)}"
    if tied:
        sentence += f"; tied with it: {enumerate_words([group.label for group in tied])}"
    if worse:
        ends = [measure.text(score(group)) for group in (worse[0], worse[-1])]
        sentence += f". The others that train: {' to '.join(dict.fromkeys(ends))}"  # or both in one
    return f"{sentence}."


def _tied(group, best):
    """Whether none of the two is ahead with every seed."""
    found = differences(group, best, f"test_{best.config.measure.name}")
    return bool(found) and min(found) <= 0 <= max(found)


studies = (
    ImageStudy(
        name="depth-limit",
        needs="accuracy",
        question="At which depth does each kind of network stop training?",
        configs=_configs,
        answer=_answer,
        most_seeds=lambda config: 2 if config.model.depth == 1000 else math.inf,
        remark="Ten epochs of MNIST at depth 10 to 100, three at 300, two at 1000: a network that "
        "does not train here may train with more. Untied networks of a depth have at most as many "
        "parameters as the LSTM over depth; tied ones have those of one step. Residual networks "
        "have relu and He's initial weights, `four-layer` swish and, as SELU, those of LeCun; the "
        "plain tanh networks have orthogonal ones. Rates are the best of three to eight on the "
        "validation images, by shorter runs with one seed (depth-limit-rates). A network is said "
        f"to train if it reaches {TRAINS:.0%} test accuracy, and to be tied with the best if that "
        "one is not ahead with every seed. Those that do not train at depth 300 were not run at "
        "1000, which has two seeds. The runs shared their machine.",
    ),
    ImageStudy(
        name="depth-limit-rates",
        needs="accuracy",
        question="Which learning rate does each kind of network want at each depth?",
        configs=_rate_configs,
        answer=best_rates,
        remark="One seed; three epochs at depth 10 to 100, one at 300 and 1000. Networks of a "
        "depth have as many parameters as in `depth-limit`. Plain networks are also tried with "
        "lower rates, since they train with none of the others at depth 100, and so is the LSTM "
        "with a forget bias of 1 there; LSTMs also with 0.03. At depth 1000 each network has the "
        "rate that is best at depth 300 and those next to it and to the best one found.",
    ),
)
