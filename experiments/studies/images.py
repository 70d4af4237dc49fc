"""The questions of "LSTM.transpose()" (vaulttech/lstmJam, 2016), asked of images.

Is a very deep network with the architecture of an LSTM unrolled through time trainable, also when
its weights are not tied, and what do the filters of its bottom layer learn?
"""

import dataclasses
import functools
import math

from keras_deeplstm.experiments.settings.classifiers import ModelConfig, RunConfig
from keras_deeplstm.experiments.studies.study import Study, best_first, grid
from keras_deeplstm.experiments.tasks import get_task
from keras_deeplstm.experiments.words import enumerate_words, median_text, percent_text, ratios_text

DATASETS = ("mnist", "digits", "fashion-mnist")

# What the four experiments of the seed have in common: batch normalization inside the LSTM,
# orthogonal matrices, batches of 128, gradients clipped element by element to [-1, 1].
SEED_MODEL = ModelConfig(
    normalization="batch", kernel_initializer="orthogonal", recurrent_initializer="orthogonal"
)
SEED_TRAINING = {"clipnorm": None, "clipvalue": 1.0, "gradient_every": 50}
SEED_EXPERIMENTS = {1: (0.0, False), 2: (0.5, False), 3: (0.5, True), 4: (0.0, True)}
SEED_DEPTHS = (10, 20, 30)


def _run(dataset, model, **training):
    # XLA pays on a CPU where an epoch is long against compiling, but not with random numbers, which
    # it draws several times slower.
    drawn = model.dropout or model.input_noise or model.state_initializer == "noise"
    jit_compile = None if dataset == "digits" or drawn else True
    return RunConfig(dataset, model, jit_compile=jit_compile, **training)


def _seed_configs(number, dataset):
    dropout, tied = SEED_EXPERIMENTS[number]
    model = dataclasses.replace(SEED_MODEL, dropout=dropout, tied=tied)
    base = _run(dataset, model, **SEED_TRAINING)
    return grid(base, {"model.units": (100, 200, 300), "model.depth": SEED_DEPTHS})


def _seed_experiment(number):
    dropout, tied = SEED_EXPERIMENTS[number]
    words = f"{'tied' if tied else 'untied'} weights, {'dropout' if dropout else 'no dropout'}"
    return Study(
        name=f"unfolded-mnist-{number}",
        question=f"Experiment {number} of LSTM.transpose() ({words}, batch normalization, "
        "orthogonal matrices): what accuracy does an LSTM over depth reach?",
        datasets=DATASETS,
        own_data=True,
        configs=functools.partial(_seed_configs, number),
        answer=_depths_of_each,
    )


def _seed_code_configs(dataset):
    """As the seed's code has it, where that differs from its README and from our defaults.

    One cell less than the depth it names; an initial state of noise; 0.95 times the identity for
    the candidate's recurrent kernel; no offset of the forget gate; a learning rate of 0.01. That
    scales of the normalization start at 0.1 is our default as well. What remains different: our
    noise is zero in inference and theirs is drawn there too; their matrix of the first step has the
    identity, and with tied weights so have all, as ours, but untied only the first; their moving
    averages have a momentum of 0.999; their normalization of z and the readout's bias start from
    TensorFlow's random defaults.
    """
    model = dataclasses.replace(
        SEED_MODEL,
        forget_bias=None,
        state_initializer="noise",
        recurrent_initializer="keras_deeplstm>OrthogonalGates",
    )
    base = _run(dataset, model, learning_rate=0.01, **SEED_TRAINING)
    depths = tuple(depth - 1 for depth in SEED_DEPTHS)
    return [
        config
        for dropout, tied in SEED_EXPERIMENTS.values()
        for config in grid(
            base, {"model.dropout": (dropout,), "model.tied": (tied,), "model.depth": depths}
        )
    ]


def _depths_of_each(groups):
    """The best, and then a sentence for each model with its accuracy at each depth."""
    sentences = best_first(groups)[:1]
    by_label = {}
    for group in groups:
        by_label.setdefault(group.label, []).append(group)
    for label, members in by_label.items():
        found = [
            f"{percent_text(group.accuracy)} at depth {group.config.model.depth}"
            for group in sorted(members, key=lambda group: group.config.model.depth)
        ]
        sentences.append(f"{label}: {enumerate_words(found)}.")
    return sentences


# The depth at which training ends.

LIMIT_DEPTHS = (10, 30, 100, 300, 1000)
LIMIT_UNITS = 50
TRAINS = 0.8  # test accuracy from which on a model is said to train


def _limit_configs(dataset):
    epochs = {"epochs": 20, "batch_size": 64} if dataset == "digits" else {"epochs": 2}
    return [
        _run(dataset, dataclasses.replace(model, depth=depth), gradient_every=20, **epochs)
        for depth in LIMIT_DEPTHS
        for model in _limit_models(get_task(dataset), depth)
    ]


def _limit_models(task, depth):
    """Untied models have as many parameters as the LSTM with 50 units; tied ones have 50 units."""
    features, units = math.prod(task.input_shape or (28, 28)), LIMIT_UNITS
    step = 4 * units * (units + 1)
    parameters = 4 * units * (features + 1) + (depth - 1) * step
    parameters += (task.num_classes or 10) * (units + 1)
    equal = functools.partial(ModelConfig, parameters=parameters)
    tanh = {"activation": "tanh", "kernel_initializer": "glorot_uniform"}
    relu = {"activation": "relu", "kernel_initializer": "he_normal"}
    return [
        equal(),
        equal(input_gate_bias="depth"),
        equal(forget_bias=1.0),
        ModelConfig(units=units, tied=True),
        ModelConfig(units=units, tied=True, input_gate_bias="depth"),
        ModelConfig(units=units, tied=True, forget_bias=1.0),
        equal(block="dense", **tanh),
        equal(block="dense", **relu),
        equal(block="highway"),
        equal(block="residual", **relu),
    ]


def _limit_answer(groups):
    families = {}
    for group in groups:
        families.setdefault(group.label, []).append(group)
    sentences = []
    for label, members in families.items():
        members.sort(key=lambda group: group.config.model.depth)
        trained = [group for group in members if group.accuracy.mean >= TRAINS]
        stopped = [group for group in members if group.accuracy.mean < TRAINS]
        words = [f"trains at depth {_depths(trained)}"] if trained else []
        if stopped:
            verb = "does not" if trained else "does not train"
            words.append(f"{verb} at depth {_depths(stopped)}")
        sentences.append(f"{label} {' and '.join(words)}.")
    deepest = max(groups, key=_depth_if_trained)
    first = (
        f"The deepest network that trains is {deepest.name} ({percent_text(deepest.accuracy)})."
        if deepest.accuracy.mean >= TRAINS
        else "None of the networks trains."
    )
    return [
        first,
        *sentences,
        f"A network is said to train if it reaches {TRAINS:.0%} test accuracy. In brackets: the "
        "gradient norm of the first recurrent matrix divided by that of the last in the first "
        "training step (– : tied weights have no such ratio, nor has a gradient of zero), and that "
        "of the first state divided by that of the last.",
    ]


def _depth_if_trained(group):
    trained = group.accuracy.mean >= TRAINS
    return trained, group.config.model.depth if trained else 0, group.accuracy.mean


def _depths(groups):
    found = []
    for group in groups:
        words = [percent_text(group.accuracy)]
        ratios = [group.values(f"{of}_ratio_start") for of in ("gradient", "state_gradient")]
        if any(ratios):  # a dash for one of them, because nothing but the place tells them apart
            words += map(median_text, ratios)
        found.append(f"{group.config.model.depth} ({', '.join(words)})")
    return enumerate_words(found)


# Initial weights, filters, parameters.


def _initializer_configs(dataset):
    model = ModelConfig(depth=30)
    training = {"epochs": 5, "gradient_every": 20}
    return [
        _run(
            dataset,
            dataclasses.replace(model, recurrent_initializer=name, normalization=normalization),
            **training,
        )
        for normalization in (None, "batch")
        for name in ("orthogonal", "random_normal", "identity")
    ]


def _initializer_answer(groups):
    ratios = [
        f"{group.name}: {ratios_text(group.values('gradient_ratio_start'))}" for group in groups
    ]
    sentence = "Gradient norm of the first recurrent matrix divided by that of the last, at the "
    return [*best_first(groups), f"{sentence}start of training: {'; '.join(ratios)}."]


def _filter_configs(dataset):
    relu = {"activation": "relu", "kernel_initializer": "he_normal"}
    models = (
        ModelConfig(),
        ModelConfig(normalization="batch"),
        ModelConfig(block="dense", depth=2, **relu),
        # TensorFlow's tutorial "Deep MNIST for Experts".
        ModelConfig(block="cnn", depth=2, units=1024, dropout=0.5),
    )
    return [_run(dataset, model, epochs=5, gradient_every=20) for model in models]


def _filter_answer(groups):
    """How Gabor-like the filters become, and what accuracy goes with them."""
    found = [
        f"{group.name} {_gabor(group, 'start')} before and {_gabor(group, 'end')} after training "
        f"({percent_text(group.accuracy)})"
        for group in groups
    ]
    likest = max(groups, key=lambda group: max(group.values("gabor_r2_end"), default=0))
    return [
        f"The filters most like Gabor filters are those of {likest.name}.",
        f"Share of a filter's variation that the best Gabor filter explains, the median over the "
        f"filters, and test accuracy: {'; '.join(found)}.",
    ]


def _gabor(group, when):
    return median_text(group.values(f"gabor_r2_{when}"), "{:.2f}".format)


BUDGETS = (50_000, 100_000, 200_000, 500_000)


def _budget_configs(dataset):
    relu = {"activation": "relu", "kernel_initializer": "he_normal"}
    models = (
        ModelConfig(depth=3, normalization="batch"),
        ModelConfig(depth=10, normalization="batch"),
        ModelConfig(depth=10, normalization="batch", tied=True),
        ModelConfig(block="dense", depth=3, **relu),
        ModelConfig(block="highway", depth=10),
        ModelConfig(block="residual", depth=10, **relu),
    )
    return [
        _run(
            dataset,
            dataclasses.replace(model, parameters=budget, dropout=0.1),
            epochs=10,
            schedule="cosine",
            gradient_every=50,
        )
        for budget in BUDGETS
        for model in models
    ]


def _budget_answer(groups):
    by_budget = {}
    for group in groups:
        by_budget.setdefault(group.config.model.parameters, []).append(group)
    sentences = []
    for budget, members in sorted(by_budget.items(), reverse=True):
        best = max(members, key=lambda group: group.accuracy.mean)
        used = best.runs[0].result["parameters"]
        sentences.append(
            f"With at most {budget:,} parameters the best is {best.name} with {used:,}: "
            f"{percent_text(best.accuracy)}."
        )
    return sentences


def _lowest_error_configs(dataset):
    """Wide and shallow, with noise on the inputs and dropout."""
    noise = {"normalization": "batch", "dropout": 0.3, "input_noise": 0.3}
    return [
        _run(
            dataset,
            ModelConfig(depth=depth, units=units, **noise),
            epochs=epochs,
            schedule="cosine",
            gradient_every=100,
        )
        for depth, units, epochs in ((2, 512, 40), (3, 512, 40), (5, 256, 40), (3, 512, 100))
    ]


def _lowest_error_answer(groups):
    ranked = sorted(groups, key=lambda group: -group.accuracy.mean)
    errors = [
        f"{group.name}: {100 * (1 - group.accuracy.mean):.2f} % "
        f"({len(group.runs)} run{'s' if len(group.runs) > 1 else ''})"
        for group in ranked
    ]
    return [
        f"The lowest error on the test images is {100 * (1 - ranked[0].accuracy.mean):.2f} %, "
        f"by {ranked[0].name}.",
        f"Errors, means over the runs: {'; '.join(errors)}.",
        "Pixels come in no order, and no image is changed but by noise that knows nothing of "
        "images.",
    ]


studies = (
    *map(_seed_experiment, SEED_EXPERIMENTS),
    Study(
        name="unfolded-mnist-code",
        question="What accuracy does an LSTM over depth reach with all details of the code of "
        "LSTM.transpose()?",
        datasets=DATASETS,
        own_data=True,
        configs=_seed_code_configs,
        answer=_depths_of_each,
    ),
    Study(
        name="depth-limit",
        question="At which depth does each kind of network stop training?",
        datasets=DATASETS,
        own_data=True,
        configs=_limit_configs,
        answer=_limit_answer,
        remark="Two epochs of MNIST, twenty of digits, one learning rate for all: a network that "
        "does not train here may train with more epochs or another rate. Untied networks of a "
        "depth have at most as many parameters as the LSTM over depth; tied ones have those of "
        "one step.",
    ),
    Study(
        name="initializers",
        question="What do orthogonal, Gaussian and identity matrices change in an LSTM over depth?",
        datasets=DATASETS,
        own_data=True,
        configs=_initializer_configs,
        answer=_initializer_answer,
    ),
    Study(
        name="filters",
        question="What do the filters of the bottom layer of an LSTM over depth learn, beside "
        "those of an MLP and a CNN?",
        datasets=DATASETS,
        own_data=True,
        configs=_filter_configs,
        answer=_filter_answer,
    ),
    Study(
        name="parameter-budget",
        question="Which network is best with at most so many parameters?",
        datasets=DATASETS,
        own_data=True,
        configs=_budget_configs,
        answer=_budget_answer,
    ),
    Study(
        name="lowest-error",
        question="How low does an LSTM over depth get without knowing that its inputs are images?",
        datasets=DATASETS,
        own_data=True,
        configs=_lowest_error_configs,
        answer=_lowest_error_answer,
    ),
)
