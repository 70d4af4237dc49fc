"""A step that is repeated: does a network go on with it beyond the steps that it has learned from?

On MNIST and on parity an LSTM over depth is no better than a residual network. Here each step over
depth has the same weights and the same work, and what the network has found out must survive all
steps that follow.
"""

import dataclasses
from functools import partial

from keras_deeplstm.experiments.settings.classifiers import ModelConfig, RunConfig
from keras_deeplstm.experiments.studies.depth import RELU
from keras_deeplstm.experiments.studies.study import Study, best_rates
from keras_deeplstm.experiments.tasks.automata import STEPS, TRAINED

TASKS = ("rule-110", "rule-110-recall")
RATES = (3e-3, 1e-2, 3e-2)
PARAMETERS = 45_000

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
_run = partial(RunConfig, epochs=10, schedule="cosine", gradient_every=50, jit_compile=True)


def _rate_configs(task):
    models = (*MODELS, *UNTIED)
    return [_run(task, model, learning_rate=rate) for model in models for rate in RATES]


studies = (
    Study(
        name="more-steps-rates",
        question="Which learning rate does each kind of network want that repeats one step?",
        datasets=TASKS,
        configs=_rate_configs,
        answer=best_rates,
    ),
)
