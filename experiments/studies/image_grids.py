"""Digits that LSTMs read along rows, columns and depth, as in the paper on Grid LSTM."""

from functools import partial

from keras_deeplstm.experiments.settings.classifiers import ModelConfig, RunConfig
from keras_deeplstm.experiments.studies.images import ImageStudy, lowest_errors

# Of equal parameters, and with the training of the paper's 3-LSTM (arXiv 1507.01526) as its
# replication davidbuniat/GridLSTM reports it: batches of 128, Adam at 0.001, images moved by up to
# 4 pixels. Its number of epochs is not known to us, nor its initial weights.
PARAMETERS = 200_000
GRID = partial(ModelConfig, "image_grid", patch=4, parameters=PARAMETERS)
MODELS = (
    GRID(),
    GRID(corners=4),
    GRID(depth=4, corners=4, turns=True),
    GRID(depth=4, corners=4, turns=True, tied=True),
    ModelConfig("deep_cnn", connection="residual", parameters=PARAMETERS),
    ModelConfig(parameters=PARAMETERS),
)
# The paper's form: four layers, one for each corner; all positions are read out, h and c. How its
# layers were joined is not known; here one network takes the corners in turn.
PAPER = ModelConfig(
    "image_grid",
    depth=4,
    units=100,
    patch=4,
    corners=4,
    turns=True,
    read="all",
    project_inputs="both",
    output="both",
    hidden_units=4096,
)


def _configs(dataset):
    run = partial(RunConfig, dataset, epochs=12, schedule="cosine", shift=4, gradient_every=100)
    return [run(model, jit_compile=True) for model in (*MODELS, PAPER)]


def _answer(groups):
    sentences = lowest_errors(groups)
    if groups[0].config.task == "mnist":
        sentences.append("The 3-LSTM of the paper on Grid LSTM has 0.32 %.")
    return sentences


studies = (
    ImageStudy(
        name="grid-digits",
        needs="accuracy",
        question="How low is the error on digits that a Grid LSTM reads along rows, columns and "
        "depth, compared with a CNN and an LSTM over depth alone?",
        datasets=("mnist", "fashion-mnist"),
        configs=_configs,
        answer=_answer,
        remark="All but the paper's form have at most 200,000 parameters. Images are moved by up "
        "to 4 pixels in training, as in the paper.",
    ),
)
