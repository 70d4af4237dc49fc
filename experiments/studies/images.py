"""The questions of "LSTM.transpose()" (vaulttech/lstmJam, 2016), asked of images.

Is a very deep network with the architecture of an LSTM unrolled through time trainable, also when
its weights are not tied, and what do the filters of its bottom layer learn?
"""

import dataclasses
import functools
from operator import attrgetter

from keras_deeplstm.experiments.settings.classifiers import ModelConfig, RunConfig
from keras_deeplstm.experiments.studies.depth import RELU
from keras_deeplstm.experiments.studies.study import (
    Study,
    best_first,
    depth_of,
    grouped,
    ranked,
    score,
    score_text,
)
from keras_deeplstm.experiments.words import enumerate_words, median_text, ratios_text

ImageStudy = functools.partial(Study, datasets=("mnist", "digits", "fashion-mnist"), own_data=True)


def image_run(dataset, model, **training):
    """The settings of a run of a study of images."""
    # XLA pays on a CPU where an epoch is long against compiling, but not with random numbers, which
    # it draws several times slower.
    drawn = model.dropout or model.input_noise or model.state_initializer == "noise"
    jit_compile = None if dataset == "digits" or drawn else True
    return RunConfig(dataset, model, jit_compile=jit_compile, **training)


def _runs_of(models, **training):
    """The configs of a study: a run of each model on any dataset."""
    return lambda dataset: [image_run(dataset, model, **training) for model in models]


# What the four experiments of the seed have in common: batch normalization inside the LSTM,
# orthogonal matrices, batches of 128, gradients clipped element by element to [-1, 1].
SEED_MODEL = ModelConfig(
    normalization="batch", kernel_initializer="orthogonal", recurrent_initializer="orthogonal"
)
SEED_TRAINING = {"clipnorm": None, "clipvalue": 1.0, "gradient_every": 50}
SEED_EXPERIMENTS = {1: (0.0, False), 2: (0.5, False), 3: (0.5, True), 4: (0.0, True)}
SEED_DEPTHS = (10, 20, 30)

# As the seed's code has it, where that differs from its README and from our defaults: one cell less
# than the depth it names; an initial state of noise; 0.95 times the identity for the candidate's
# recurrent kernel; no offset of the forget gate; a learning rate of 0.01. That scales of the
# normalization start at 0.1 is our default as well. What remains different: our noise is zero in
# inference and theirs is drawn there too; their matrix of the first step has the identity, and with
# tied weights so have all, as ours, but untied only the first; their moving averages have a
# momentum of 0.999; their normalization of z and the readout's bias start from TensorFlow's random
# defaults.
SEED_CODE = dataclasses.replace(
    SEED_MODEL,
    forget_bias=None,
    state_initializer="noise",
    recurrent_initializer="keras_deeplstm>OrthogonalGates",
)
SEED_CODE_MODELS = [
    dataclasses.replace(SEED_CODE, dropout=dropout, tied=tied, depth=depth - 1)
    for dropout, tied in SEED_EXPERIMENTS.values()
    for depth in SEED_DEPTHS
]


def _seed_experiment(number):
    dropout, tied = SEED_EXPERIMENTS[number]
    words = f"{'tied' if tied else 'untied'} weights, {'dropout' if dropout else 'no dropout'}"
    models = [
        dataclasses.replace(SEED_MODEL, dropout=dropout, tied=tied, units=units, depth=depth)
        for units in (100, 200, 300)
        for depth in SEED_DEPTHS
    ]
    return ImageStudy(
        name=f"unfolded-mnist-{number}",
        question=f"Experiment {number} of LSTM.transpose() ({words}, batch normalization, "
        "orthogonal matrices): what accuracy does an LSTM over depth reach?",
        configs=_runs_of(models, **SEED_TRAINING),
        answer=_depths_of_each,
    )


def _depths_of_each(groups):
    """The best, and then a sentence for each model with its accuracy at each depth."""
    sentences = best_first(groups)[:1]
    for label, members in grouped(groups, attrgetter("label")).items():
        members.sort(key=depth_of)
        found = [f"{score_text(group)} at depth {depth_of(group)}" for group in members]
        sentences.append(f"{label}: {enumerate_words(found)}.")
    return sentences


# Initial weights, filters, parameters.

INITIALIZERS = [
    ModelConfig(depth=30, recurrent_initializer=name, normalization=normalization)
    for normalization in (None, "batch")
    for name in ("orthogonal", "random_normal", "identity")
]


def _initializer_answer(groups):
    ratios = [
        f"{group.name}: {ratios_text(group.values('gradient_ratio_start'))}" for group in groups
    ]
    sentence = "Gradient norm of the first recurrent matrix divided by that of the last, at the "
    return [*best_first(groups), f"{sentence}start of training: {'; '.join(ratios)}."]


FILTERS = (
    ModelConfig(),
    ModelConfig(normalization="batch"),
    ModelConfig("dense", depth=2, **RELU),
    # TensorFlow's tutorial "Deep MNIST for Experts".
    ModelConfig("cnn", depth=2, units=1024, dropout=0.5),
)


def _filter_answer(groups):
    """How Gabor-like the filters become, and what accuracy goes with them."""
    found = [
        f"{group.name} {_gabor(group, 'start')} before and {_gabor(group, 'end')} after training "
        f"({score_text(group)})"
        for group in groups
    ]
    likest = max(groups, key=lambda group: max(group.values("gabor_r2_end"), default=0))
    return [
        f"The filters most like Gabor filters are those of {likest.name}.",
        f"Share of a filter's variation that the best Gabor filter explains, the median over the "
        f"filters, and test {groups[0].config.measure.words}: {'; '.join(found)}.",
    ]


def _gabor(group, when):
    return median_text(group.values(f"gabor_r2_{when}"), "{:.2f}".format)


BUDGETS = [
    dataclasses.replace(model, parameters=most, dropout=0.1)
    for most in (50_000, 100_000, 200_000, 500_000)
    for model in (
        ModelConfig(depth=3, normalization="batch"),
        ModelConfig(depth=10, normalization="batch"),
        ModelConfig(depth=10, normalization="batch", tied=True),
        ModelConfig("dense", depth=3, **RELU),
        ModelConfig("highway", depth=10),
        ModelConfig("residual", depth=10, **RELU),
    )
]


def _budget_answer(groups):
    by_budget = grouped(ranked(groups), attrgetter("config.model.parameters"))
    return [
        f"With at most {budget:,} parameters the best is {best.name} with "
        f"{best.runs[0].result['parameters']:,}: {score_text(best)}."
        for budget, (best, *_) in sorted(by_budget.items(), reverse=True)
    ]


def _lowest_error_configs(dataset):
    """Wide and shallow, with noise on the inputs and dropout."""
    noisy = functools.partial(ModelConfig, normalization="batch", dropout=0.3, input_noise=0.3)
    training = {"schedule": "cosine", "gradient_every": 100}
    return [
        image_run(dataset, noisy(depth=depth, units=units), epochs=epochs, **training)
        for depth, units, epochs in ((2, 512, 40), (3, 512, 40), (5, 256, 40), (3, 512, 100))
    ]


def lowest_errors(groups):
    """The lowest error on the test images, and those of all models."""
    errors = [(group, f"{100 * (1 - score(group)):.2f} %") for group in ranked(groups)]
    best, lowest = errors[0]
    found = [
        f"{group.name}: {error} ({len(group.runs)} run{'s' if len(group.runs) > 1 else ''})"
        for group, error in errors
    ]
    return [
        f"The lowest error on the test images is {lowest}, by {best.name}.",
        f"Errors, means over the runs: {'; '.join(found)}.",
    ]


def _lowest_error_answer(groups):
    return [
        *lowest_errors(groups),
        "Pixels come in no order, and no image is changed but by noise that knows nothing of "
        "images.",
    ]


studies = (
    *map(_seed_experiment, SEED_EXPERIMENTS),
    ImageStudy(
        name="unfolded-mnist-code",
        question="What accuracy does an LSTM over depth reach with all details of the code of "
        "LSTM.transpose()?",
        configs=_runs_of(SEED_CODE_MODELS, learning_rate=0.01, **SEED_TRAINING),
        answer=_depths_of_each,
    ),
    ImageStudy(
        name="initializers",
        question="What do orthogonal, Gaussian and identity matrices change in an LSTM over depth?",
        configs=_runs_of(INITIALIZERS, epochs=5, gradient_every=20),
        answer=_initializer_answer,
    ),
    ImageStudy(
        name="filters",
        question="What do the filters of the bottom layer of an LSTM over depth learn, compared "
        "with those of an MLP and a CNN?",
        configs=_runs_of(FILTERS, epochs=5, gradient_every=20),
        answer=_filter_answer,
    ),
    ImageStudy(
        name="parameter-budget",
        question="Which network is best with at most so many parameters?",
        configs=_runs_of(BUDGETS, epochs=10, schedule="cosine", gradient_every=50),
        answer=_budget_answer,
    ),
    ImageStudy(
        name="lowest-error",
        needs="accuracy",
        question="How low does an LSTM over depth get without knowing that its inputs are images?",
        configs=_lowest_error_configs,
        answer=_lowest_error_answer,
    ),
)
