"""Does the gradient reach the bottom?"""

import dataclasses
import statistics

from keras_deeplstm.experiments.settings.classifiers import ModelConfig, RunConfig
from keras_deeplstm.experiments.studies.study import Study
from keras_deeplstm.experiments.words import enumerate_words, percent_text

# A gradient that shrinks or grows by no more than this factor on its way down is said to arrive.
ARRIVES_WITHIN = 100
DEPTHS = (10, 30, 100)


def _depth_configs(dataset):
    models = (
        ModelConfig(),
        ModelConfig(tied=True),
        ModelConfig(block="dense", activation="tanh", kernel_initializer="glorot_uniform"),
        ModelConfig(block="dense", activation="relu", kernel_initializer="he_normal"),
    )
    settings = {"epochs": 3, "batch_size": 128, "gradient_every": 20}
    if dataset == "digits":
        settings = {"epochs": 20, "batch_size": 64, "gradient_every": 5}
    return [
        RunConfig(dataset, dataclasses.replace(model, depth=depth), **settings)
        for depth in DEPTHS
        for model in models
    ]


def _depth_answer(groups):
    sentences = []
    for depth in sorted({group.config.model.depth for group in groups}, reverse=True):
        verdicts = {}
        for group in groups:
            if group.config.model.depth == depth and (verdict := _verdict(group)):
                verdict, unanimous = verdict
                accuracy = f"{percent_text(group.accuracy)} test accuracy{unanimous}"
                verdicts.setdefault(verdict, []).append(f"{group.label} ({accuracy})")
        if verdicts:
            clauses = [
                f"{verdict} in {enumerate_words(names)}" for verdict, names in verdicts.items()
            ]
            sentences.append(f"At depth {depth} the gradient {enumerate_words(clauses)}.")
    sentences = sentences or ["No finished run has a gradient for each step."]
    return [
        *sentences,
        f"It arrives if, at the start and at the end of training, its norm at the first recurrent "
        f"matrix is at least 1/{ARRIVES_WITHIN} of and at most {ARRIVES_WITHIN} times that at the "
        f"last; else it fades or grows. A model whose steps share one matrix has no such ratio.",
    ]


def _verdict(group):
    """What most runs of a group say, and how many if not all of them do."""
    verdicts = [verdict for run in group.runs if (verdict := _verdict_of_run(run))]
    if not verdicts:
        return None
    verdict = statistics.mode(verdicts)
    count = verdicts.count(verdict)
    unanimous = "" if count == len(verdicts) else f", in {count} of {len(verdicts)} runs"
    return verdict, unanimous


def _verdict_of_run(run):
    ratios = (run.result["gradient_ratio_start"], run.result["gradient_ratio_end"])
    if None in ratios:  # one matrix for all steps, or no gradient at all
        return None if run.config.model.tied else "fades"
    if min(ratios) < 1 / ARRIVES_WITHIN:
        return "fades"
    return "grows" if max(ratios) > ARRIVES_WITHIN else "arrives"


depth = Study(
    name="depth",
    question="Does the gradient reach the bottom of an LSTM over depth, "
    "and of a plain network of the same depth?",
    datasets=("digits", "mnist", "fashion-mnist"),
    own_data=True,
    configs=_depth_configs,
    answer=_depth_answer,
)
