"""Algorithms: parity, addition and memorization of the Grid LSTM paper; counting; periodic bits."""

import functools
import statistics
from operator import attrgetter

from keras_deeplstm.experiments.settings.sequences import SequenceModelConfig
from keras_deeplstm.experiments.studies.sequences import (
    LONG,
    SequenceStudy,
    over_time,
    runs_of,
    solved_answer,
)
from keras_deeplstm.experiments.studies.study import grouped
from keras_deeplstm.experiments.words import counts_text, enumerate_words

# Parity of so many bits, with so many training sequences at most.
BITS = {8: 4_000_000, 16: 4_000_000, 32: 4_000_000}
MORE_BITS = {64: 4_000_000, 128: 8_000_000, 250: 16_000_000}

# The 1-LSTM of the paper: all bits become the first state, hidden and memory, of an LSTM over depth
# that shares its weights, and both are read out.
ONE_LSTM = SequenceModelConfig(
    "unfolded_lstm", depth=16, units=128, tied=True, input_mode="state", output="both"
)


def _rivals(bits):
    """Networks of the same depth with at most as many parameters as it has for so many bits."""
    # Each bit is a row of the kernels into hidden state and memory, 128 weights wide.
    shared = {"depth": ONE_LSTM.depth, "parameters": 66_561 + 256 * bits}
    return (
        SequenceModelConfig("unfolded_lstm", input_mode="state", output="both", **shared),
        SequenceModelConfig("dense", activation="tanh", **shared),
        SequenceModelConfig("dense", activation="relu", **shared),
        SequenceModelConfig("highway", **shared),
        SequenceModelConfig("residual", **shared),
    )


def _parity_configs(bits, schedule, dataset):
    settings = {"evaluate_every": 64_000, "batch_size": 128, "schedule": schedule}
    configs = []
    for count, most in bits.items():
        task = f"parity:bits={count},curriculum={str(count > 8).lower()}"
        configs += runs_of({task: most}, (ONE_LSTM, *_rivals(count)), **settings)
    return configs


# Training sequences, at most.
SIZES = {"addition:digits=2": 300_000, "addition:digits=3": 900_000}
SIZES |= {"memorization:length=5": 300_000, "memorization:length=10": 900_000}
# Up to an hour of a core for each run.
LARGER = {"addition:digits=4": 3_000_000, "addition:digits=5": 3_000_000}
LARGER |= {"memorization:length=20": 3_000_000, "memorization:length=40": 3_000_000}
TIED = over_time("grid_lstm", depth=4, units=100, tied=True)
UNTIED = over_time("grid_lstm", depth=4, units=100)
STACKED = over_time("lstm", depth=4, units=100)


def _algorithm_configs(sizes, models, dataset):
    return runs_of(sizes, models, evaluate_every=6000, batch_size=32, learning_rate=2e-3)


# Two units are enough to count, with forget gates that are as good as open.
COUNTERS = [
    *(over_time("grid_lstm", units=2, forget_bias=7.0, peepholes=seen) for seen in (True, False)),
    over_time("lstm", units=2, forget_bias=7.0),
    over_time("lstm", units=8),
]


def _counting_configs(dataset):
    tasks = {"counting": 300_000, "counting:letters=abc": 1_000_000}
    settings = {"evaluate_every": 10_000, "batch_size": 10, "learning_rate": 0.01}
    return runs_of(tasks, COUNTERS, schedule="cosine", full=True, **settings)


def _counting_answer(groups):
    """How far each model counts."""
    best, sentences = [], []
    for task, members in grouped(groups, attrgetter("config.task")).items():
        reached = {group.name: group.values("reach") for group in members}
        farthest = max(reached.values(), key=lambda counts: statistics.median(counts or [0]))
        best.append(f"{counts_text(farthest)} of {task}")
        all_of_them = [f"{counts_text(counts)} with {name}" for name, counts in reached.items()]
        sentences.append(f"{task}: all strings are right up to n = {'; '.join(all_of_them)}.")
    return [
        f"Trained with n = 1 to 10, the best model is right up to n = {enumerate_words(best)}: "
        "median and range of its runs, tried up to 1,000.",
        *sentences,
        *solved_answer(groups)[1:],
    ]


def _question_configs(dataset):
    settings = {"evaluate_every": 400, "learning_rate": 0.01}
    small = [
        SequenceModelConfig(block, units=units)
        for units in (1, 2, 3, 50)
        for block in ("lstm", "grid_lstm")
    ]
    lasting = [over_time(block, units=16, **LONG) for block in ("lstm", "grid_lstm")]
    return [
        *runs_of({"periodic-bits": 40_000}, small, batch_size=4, **settings),
        *runs_of({"adding:target=mean": 100_000}, lasting, batch_size=8, **settings),
    ]


ONE_PROJECTION = (
    "Grid LSTM (arXiv 1507.01526) reports up to 250 bits; here are 128 units, 16 steps, Adam, and "
    "beyond 8 bits a curriculum: training sequences show part of the bits, anywhere, and 0 for so "
    "many others that the same sum of the inputs always has the same answer."
)
SAME_SHAPE = (
    "All have 4 layers of 100 units, and not the same number of weights: the tied grid has the "
    "fewest, the untied one the most."
)

studies = (
    SequenceStudy(
        name="parity",
        question="How many bits' parity does an LSTM over depth learn that sees all of them at "
        "once, and do other deep networks with as many parameters?",
        configs=functools.partial(_parity_configs, BITS, "constant"),
        remark=ONE_PROJECTION,
    ),
    SequenceStudy(
        name="parity-long",
        question="And of more bits, up to as many as the paper reports?",
        configs=functools.partial(_parity_configs, MORE_BITS, "cosine"),
        remark=ONE_PROJECTION,
    ),
    SequenceStudy(
        name="algorithms",
        question="Does a grid that shares its weights over depth learn addition and memorization "
        "with fewer sequences than one that does not, and than stacked LSTMs?",
        configs=functools.partial(_algorithm_configs, SIZES, (TIED, UNTIED, STACKED)),
        remark=SAME_SHAPE,
    ),
    SequenceStudy(
        name="algorithms-long",
        question="And which sizes of addition and memorization are solved in an hour of one core?",
        configs=functools.partial(_algorithm_configs, LARGER, (TIED, STACKED)),
        remark=SAME_SHAPE,
    ),
    SequenceStudy(
        name="counting",
        question="Does a model that has seen a^n b^n, or a^n b^n c^n, up to n = 10 count on?",
        configs=_counting_configs,
        answer=_counting_answer,
        remark="Units, forget biases and learning rates were chosen with other seeds (100 to 102).",
    ),
    SequenceStudy(
        name="questions",
        question="Two questions of beginners: how many units does 1 0 0 0 1 0 0 0 ... need, and "
        "does an LSTM learn the mean of two marked numbers among 100?",
        configs=_question_configs,
    ),
)
