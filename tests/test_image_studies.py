"""The studies of images: their runs, and the answers that they compute from results."""

import collections
import dataclasses
import functools
import pathlib
import types

import pytest

from keras_deeplstm import models
from keras_deeplstm.experiments.runs import Run
from keras_deeplstm.experiments.runs.groups import Group, group_runs, labels
from keras_deeplstm.experiments.studies import STUDIES
from keras_deeplstm.experiments.studies.depth_limit import studies as limit_studies
from keras_deeplstm.experiments.studies.image_grids import studies as grid_studies
from keras_deeplstm.experiments.studies.images import studies as image_studies
from keras_deeplstm.experiments.tasks import TASKS

FAMILIES = 15  # of networks that are compared at each depth


def groups_of(study, results, dataset="mnist"):
    """Groups of the first configs of a study, one run each with these results."""
    configs = STUDIES[study].configs(dataset)[: len(results)]
    return [
        Group(config, label, [types.SimpleNamespace(result={"parameters": 1000, **result})])
        for config, label, result in zip(configs, labels(configs), results, strict=True)
    ]


@functools.cache
def count(model, input_shape=TASKS["mnist"].input_shape):
    """Of ten classes, which all these data sets have."""
    return models.count_parameters(model.builder(), input_shape, 10)


@pytest.mark.parametrize(
    "study", [study.name for study in (*image_studies, *limit_studies, *grid_studies)]
)
def test_every_run_of_every_study_can_be_built(study):
    """Counted before they are built: a block that refused an option would say so."""
    for dataset in STUDIES[study].datasets:
        for config in STUDIES[study].plan(dataset).values():
            found = count(config.model, TASKS[dataset].input_shape)
            assert 0 < found <= (config.model.parameters or found)


def test_the_answer_of_filters():
    results = [
        {"test_accuracy": 0.97, "gabor_r2_start": 0.05, "gabor_r2_end": 0.25},
        {"test_accuracy": 0.98, "gabor_r2_start": 0.05, "gabor_r2_end": 0.5},
        {"test_accuracy": 0.99},
    ]
    batch = 'UnfoldedLSTMBlock(normalization="batch")'
    assert STUDIES["filters"].answer(groups_of("filters", results)) == [
        f"The filters most like Gabor filters are those of {batch}, depth 10.",
        "Share of a filter's variation that the best Gabor filter explains, the median over the "
        "filters, and test accuracy: UnfoldedLSTMBlock, depth 10 0.05 before and 0.25 after "
        f"training (97.0%); {batch}, depth 10 0.05 before and 0.50 after "
        "training (98.0%); DenseStack, depth 2 – before and – after training "
        "(99.0%).",
    ]


def test_the_four_experiments_of_the_seed():
    found = {}
    for number in range(1, 5):
        configs = STUDIES[f"unfolded-mnist-{number}"].configs("mnist")
        assert {(c.clipnorm, c.clipvalue, c.batch_size, c.epochs) for c in configs} == {
            (None, 1.0, 128, 10)
        }
        assert {(c.model.normalization, c.model.recurrent_initializer) for c in configs} == {
            ("batch", "orthogonal")
        }
        sizes = [(config.model.units, config.model.depth) for config in configs]
        assert sizes == [(units, depth) for units in (100, 200, 300) for depth in (10, 20, 30)]
        found[number] = {(config.model.dropout, config.model.tied) for config in configs}
    assert found == {1: {(0.0, False)}, 2: {(0.5, False)}, 3: {(0.5, True)}, 4: {(0.0, True)}}


def test_the_details_of_the_seeds_code():
    configs = STUDIES["unfolded-mnist-code"].configs("mnist")
    assert len(configs) == 12
    assert {config.model.depth for config in configs} == {9, 19, 29}
    assert {(c.learning_rate, c.model.state_initializer, c.model.forget_bias) for c in configs} == {
        (0.01, "noise", None)
    }


@pytest.mark.parametrize(
    "study, dataset",
    [("depth-limit", "mnist"), ("depth-limit", "digits"), ("depth-limit-rates", "mnist")],
)
def test_models_of_one_depth_have_equal_parameters(study, dataset):
    counts = collections.defaultdict(dict)
    for config in STUDIES[study].configs(dataset):
        counts[config.model.depth][config.model.label] = count(
            config.model, TASKS[dataset].input_shape
        )
    for depth, by_label in counts.items():
        lstm = by_label["UnfoldedLSTMBlock untied"]
        budgets = {c.model.parameters for c in STUDIES[study].configs(dataset)}
        assert lstm in budgets  # with 50 units the LSTM uses its budget up
        for label, found in by_label.items():
            if "tied" not in label.split():
                assert 0.95 * lstm <= found <= lstm, (depth, label)


def test_answer_of_the_depth_limit():
    """Ties are named as ties: a network is ahead of another with one seed, behind with the next."""
    accuracies = {  # of three seeds, by the number of the run
        0: (0.97, 0.98, 0.975),
        5: (0.975, 0.97, 0.985),
        6: (0.955, 0.95, 0.965),
        13: (0.1, 0.1, 0.1),
        FAMILIES: (0.96, 0.96, 0.96),
        FAMILIES + 5: (0.1, 0.1, 0.1),
    }
    study = STUDIES["depth-limit"]
    configs = study.configs("mnist")
    finished = [
        Run(
            pathlib.Path(),
            dataclasses.replace(configs[number], seed=seed),
            "finished",
            "",
            {"test_accuracy": value},
        )
        for number, values in accuracies.items()
        for seed, value in enumerate(values)
    ]
    assert study.answer(group_runs(finished)) == [
        "Of 4 networks 1 train to depth 30.",
        "To depth 10 trains ResidualBlock (not run deeper).",
        "To depth 10 trains HighwayBlock.",
        "At no depth trains DenseStack.",
        "At depth 30 the highest test accuracy is that of UnfoldedLSTMBlock, 96.0% ± 0.0.",
        "At depth 10 the highest test accuracy is that of HighwayBlock, 97.7% ± 1.9; tied with "
        "it: UnfoldedLSTMBlock. The others that train: 95.7%.",
    ]


def test_the_deepest_networks_train_at_depth_300_and_have_two_seeds():
    plan = STUDIES["depth-limit"].plan("mnist", seeds=3).values()
    counts = collections.Counter((config.model.depth, config.seed) for config in plan)
    networks = {10: FAMILIES, 30: FAMILIES, 100: FAMILIES, 300: FAMILIES, 1000: FAMILIES - 3}
    assert counts == {
        (depth, seed): count
        for depth, count in networks.items()
        for seed in range(2 if depth == 1000 else 3)
    }


def test_rates_at_depth_1000_are_the_neighbours_of_the_best_ones():
    rates = collections.defaultdict(list)
    for config in STUDIES["depth-limit-rates"].configs("mnist"):
        if config.model.depth == 1000:
            rates[config.model.block, config.model.kind].append(config.learning_rate)
    assert rates["residual", "pre"] == [3e-4, 1e-3, 3e-3]  # 1e-3 is best at 300 and at 1000
    assert rates["residual", "scaled"] == [3e-4, 1e-3, 3e-3, 1e-2]  # 3e-3, then 1e-3
    assert "highway" not in {block for block, _ in rates}


def test_the_best_rate_is_that_of_the_best_validation_accuracy():
    # Five LSTMs, with a higher rate, too; eight; two with lower rates; the first of depth 30.
    accuracies = [0.9, 0.95, 0.94, 0.2] + [0.8, 0.7, 0.6, 0.2] * 4 + [0.8, 0.7, 0.6] * 8
    accuracies += [0.1, 0.2, 0.3, 0.8, 0.9, 0.7] * 2 + [0.5, 0.6, 0.7, 0.2]
    results = [{"val_accuracy": value, "test_accuracy": 1 - value} for value in accuracies]
    answer = STUDIES["depth-limit-rates"].answer(groups_of("depth-limit-rates", results))
    lstm = "UnfoldedLSTMBlock: 0.003 at depth 10 (95.0%) and 0.01 at depth 30 (70.0%)."
    assert answer[1] == lstm
    assert 'ResidualBlock(kind="fixup"): 0.001 at depth 10 (80.0%).' in answer
    assert 'DenseStack(activation="selu"): 0.003 at depth 10 (90.0%).' in answer
    assert len(answer) == 1 + FAMILIES


def test_answer_of_the_seeds_experiments():
    results = [{"test_accuracy": accuracy} for accuracy in (0.97, 0.96, 0.95, 0.98)]
    answer = STUDIES["unfolded-mnist-1"].answer(groups_of("unfolded-mnist-1", results))
    assert answer[0].startswith("On mnist, the highest test accuracy is that of UnfoldedLSTMBlock")
    assert answer[1].endswith(
        "UnfoldedLSTMBlock(units=100): 97.0% at depth 10, 96.0% at depth 20 and 95.0% at depth 30."
    )


def test_answer_of_the_budgets():
    results = [{"test_accuracy": accuracy} for accuracy in (0.97, 0.96, 0.95, 0.9, 0.91, 0.92)]
    answer = STUDIES["parameter-budget"].answer(groups_of("parameter-budget", results))
    assert len(answer) == 1
    assert answer[0].startswith("With at most 50,000 parameters the best is UnfoldedLSTMBlock")
    both = groups_of("parameter-budget", results + results)
    assert [both[0].label, both[6].label] == [
        "UnfoldedLSTMBlock(parameters=50000)",
        "UnfoldedLSTMBlock(parameters=100000)",
    ]
    assert answer[0].endswith("depth 3 with 1,000: 97.0%.")


def test_answer_of_the_initializers():
    results = [{"test_accuracy": 0.97, "gradient_ratio_start": 0.5}] * 2
    answer = STUDIES["initializers"].answer(groups_of("initializers", results))
    assert '(recurrent_initializer="random_normal"), depth 30: 0.50' in answer[-1]


def test_answer_of_the_lowest_error():
    results = [{"test_accuracy": accuracy} for accuracy in (0.9871, 0.9912, 0.99)]
    answer = STUDIES["lowest-error"].answer(groups_of("lowest-error", results))
    assert answer[0].startswith("The lowest error on the test images is 0.88 %")
    assert "1.29 % (1 run)" in answer[1]


def test_grids_of_digits_have_equal_parameters_and_the_paper_has_its_form():
    *equal, paper = (config.model for config in STUDIES["grid-digits"].configs("mnist"))
    for model in equal:
        assert 0.92 < count(model) / 200_000 <= 1, model.label
    # 49 cells of h and c of 100 units each; their projections; three LSTMs in each of four layers;
    # 4,096 units of relu; the readout.
    cells = 2 * (16 * 100 + 100) + 4 * (2 * 300 * 400 + 300 * 400 + 3 * 400)
    assert count(paper) == cells + (49 * 200 + 1) * 4096 + 4097 * 10


def test_answer_of_the_grids_of_digits():
    results = [{"test_accuracy": accuracy} for accuracy in (0.98, 0.994, 0.99)]
    answer = STUDIES["grid-digits"].answer(groups_of("grid-digits", results))
    assert answer[0] == (
        "The lowest error on the test images is 0.60 %, by GridLSTM3D(corners=4), depth 2."
    )
    assert answer[-1] == "The 3-LSTM of the paper on Grid LSTM has 0.32 %."
