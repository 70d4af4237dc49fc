"""A step that is repeated: does a network go on with it beyond the steps that it has learned from?

On MNIST and on parity an LSTM over depth is no better than a residual network. Here each step over
depth has the same weights and the same work, and what the network has found out must survive all
steps that follow.
"""

import dataclasses
from functools import partial

from keras_deeplstm.experiments.runs.groups import estimate
from keras_deeplstm.experiments.settings.classifiers import ModelConfig, RunConfig
from keras_deeplstm.experiments.studies.depth import RELU
from keras_deeplstm.experiments.studies.study import Study, best_rates, by_subject, without_rates
from keras_deeplstm.experiments.tasks.automata import STEPS, TRAINED
from keras_deeplstm.experiments.words import enumerate_words, estimate_text

TASKS = ("rule-110", "rule-110-recall")
RATES = (3e-3, 1e-2, 3e-2)
PARAMETERS = 45_000
NOISE = 0.1  # dropout in each step
SAID = (TRAINED, 2 * TRAINED, STEPS)  # the steps that an answer tells

_model = partial(ModelConfig, depth=STEPS, tied=True, parameters=PARAMETERS, each_step=True)
_residual = partial(_model, "residual", **RELU)
MODELS = (
    _model(),
    _model(input_gate_bias="depth"),
    _model("highway"),
    *(_residual(kind=kind) for kind in ("pre", "scaled", "post", "deepnorm", "rezero")),
    _model("dense", activation="tanh", kernel_initializer="orthogonal"),
)
# They cannot go on: their steps are those that are learned from.
UNTIED = tuple(
    dataclasses.replace(model, tied=False, depth=TRAINED) for model in (_model(), _residual())
)
# With the rates of the highest validation metric, found by more-steps-rates.
BEST: dict[str, tuple[float, ...]] = {
    "rule-110": (3e-2, 3e-2, 1e-2, 3e-2, 3e-3, 1e-2, 1e-2, 3e-2, 1e-2, 3e-2, 3e-2),
    "rule-110-recall": (3e-2, 3e-2, 1e-2, 3e-2, 3e-3, 3e-3, 1e-2, 3e-3, 3e-3, 3e-2, 3e-2),
}
_run = partial(RunConfig, epochs=10, schedule="cosine", gradient_every=50, jit_compile=True)


def _configs(task):
    rated = zip((*MODELS, *UNTIED), BEST[task], strict=True)
    return [_run(task, model, learning_rate=rate) for model, rate in rated]


def _noisy_configs(task):
    return [
        dataclasses.replace(config, model=dataclasses.replace(config.model, dropout=NOISE))
        for config in _configs(task)
        if config.model.tied
    ]


def _rate_configs(task):
    models = (*MODELS, *UNTIED)
    return [_run(task, model, learning_rate=rate) for model in models for rate in RATES]


def _answer(groups):
    """How many states are right at some steps; those of the best model at the last one first."""
    sentences = []
    for task, members in by_subject(without_rates(groups)):
        found = {_name(group): _by_step(group) for group in members}
        far = [label for label in found if STEPS in found[label]]
        far.sort(key=lambda label: [-found[label][step].mean for step in SAID[::-1]])
        near = [label for label in found if label not in far]
        if far:
            sentences.append(
                f"On {task}, learned from {TRAINED} steps, {far[0]} is most often right: "
                f"{_text(found[far[0]], STEPS)} of the states are right at step {STEPS}."
            )
        for label in (*far, *near):
            told = [f"{_text(found[label], step)} at step {step}" for step in found[label]]
            sentences.append(f"{label}: {enumerate_words(told)}.")
    return sentences


def _name(group):
    """The label, which does not tell what the depth tells: whether the steps share weights."""
    return group.label if group.config.model.tied else f"{group.label}, untied"


def _by_step(group):
    """The share of the test states that are right at some steps, as an `Estimate` each."""
    tables = [dict(zip(run.steps["step"], run.steps["value"], strict=True)) for run in group.runs]
    steps = [step for step in SAID if step in tables[0]]
    return {step: estimate([table[step] for table in tables]) for step in steps}


def _text(values, step):
    return estimate_text(values[step], ".1%")


_study = partial(Study, datasets=TASKS)
_remark = (
    f"{PARAMETERS:,} parameters each. Rates are the best of three on the validation states, with "
    "one seed (more-steps-rates)"
)

studies = (
    _study(
        name="more-steps",
        question="Which network goes on with a step beyond the repetitions that it has learned "
        "from?",
        configs=_configs,
        answer=_answer,
        remark=f"{_remark}. The untied networks have {TRAINED} steps and cannot go on.",
    ),
    _study(
        name="more-steps-noise",
        question="Which network goes on with a step that it has learned with noise?",
        configs=_noisy_configs,
        answer=_answer,
        remark=f"Dropout of {NOISE:.0%} in each step while training: of the states, in a residual "
        f"network of what is added, in an LSTM of h alone. {_remark}, without noise.",
    ),
    _study(
        name="more-steps-rates",
        question="Which learning rate does each kind of network want that repeats one step?",
        configs=_rate_configs,
        answer=best_rates,
        remark=f"Networks of {STEPS} steps are tied, those of {TRAINED} untied.",
    ),
)
