"""The studies of what connects the layers of Transformers and convolutional networks."""

import types

import pytest

from keras_deeplstm import models
from keras_deeplstm.experiments.runs.groups import Group, labels
from keras_deeplstm.experiments.studies import STUDIES, connections

TEXT, RATES = STUDIES["depth-lstm"], STUDIES["depth-lstm-rates"]
LOW_RATE = STUDIES["depth-lstm-low-rate"]
IMAGES, IMAGE_RATES = STUDIES["depth-lstm-images"], STUDIES["depth-lstm-image-rates"]


def run(config, **result):
    return types.SimpleNamespace(config=config, result=result)


def groups_of(configs, results):
    """Groups of configs, each with the results of its seeds 0, 1, ..."""
    return [
        Group(
            config,
            label,
            [run(config.repeated(seed), **result) for seed, result in enumerate(found)],
        )
        for config, label, found in zip(configs, labels(configs), results, strict=True)
    ]


@pytest.mark.parametrize(
    "study", [TEXT, RATES, LOW_RATE, IMAGES, IMAGE_RATES], ids=lambda s: s.name
)
def test_every_run_has_a_name_of_its_own(study):
    plan = study.plan(study.datasets[0], seeds=2)
    configs = study.configs(study.datasets[0])
    again = [c for c in configs if c.model.depth == 12] if study is TEXT else configs
    assert len(plan) == len(configs) + len(again)
    assert len(set(labels(configs))) * len({c.model.depth for c in configs}) >= len(configs)


@pytest.mark.parametrize("deep", [False, pytest.param(True, marks=pytest.mark.long)])
def test_models_of_a_depth_have_as_many_parameters(deep):
    def count(model):
        if model.block == "deep_cnn":
            return models.count_parameters(model.builder(), (28, 28, 1), 10)
        builder = models.character_language_model
        return models.count_parameters(builder, 65, **model.build_arguments())

    wanted = {24: 1.21e6, 48: 2.41e6} if deep else {6: 0.3125e6, 12: 0.611e6}
    for config in TEXT.configs("tinyshakespeare"):
        model = config.model
        if model.depth not in wanted:
            continue
        if not model.tied or model.parameters:
            assert count(model) == pytest.approx(wanted[model.depth], rel=0.02), model.label
        else:  # those of one step
            assert count(model) == 62_401, model.label
    for config in IMAGES.configs("mnist"):
        budget = connections.IMAGE_DEPTHS[config.model.depth]
        if (budget > 200_000) != deep:
            continue
        assert 0.85 * budget < count(config.model) <= budget, config.model.label


def test_answers_of_the_text_study():
    lstm, chrono, *_, base, _, _, _ = [
        config for config in TEXT.configs("tinyshakespeare") if config.model.depth == 12
    ][:8]
    ratios = {"state_gradient_ratio_start": 0.5, "state_gradient_ratio_end": 2.0}
    memory = {"memory_path_ratio_start": 0.25, "memory_path_ratio_end": 0.75}
    answer = TEXT.answer(
        groups_of(
            [lstm, chrono, base],
            [
                [{"val_loss": 2.0 + seed / 10, **ratios, **memory} for seed in range(3)],
                [{"val_loss": 1.9, **ratios, **memory}],
                [{"val_loss": 2.1 + seed / 10, **ratios} for seed in range(3)],
            ],
        )
    )
    chrono = 'Transformer lstm(input_gate_bias="depth")'
    names = "Transformer lstm", chrono, "Transformer residual"
    assert answer == [
        f"Validation loss of {names[0]} less that of {names[2]}, in nats: "
        "-0.100 ± 0.000 at depth 12.",
        f"Validation loss of {names[1]} less that of {names[2]}, in nats: -0.200 at depth 12.",
        f"Validation loss at depth 12: {names[1]} 1.900, {names[0]} 2.100 ± 0.248 and "
        f"{names[2]} 2.200 ± 0.248.",
        "Gradient of the first state divided by that of the last at depth 12, before and after "
        f"training: {names[0]} 0.50 → 2.0, {names[1]} 0.50 → 2.0 and {names[2]} 0.50 → 2.0.",
        "Share of the gradient of the first memory cell that comes back through memory alone: "
        f"{names[0]} 0.25 → 0.75 and {names[1]} 0.25 → 0.75.",
    ]


def test_the_best_rate_is_that_of_validation():
    found = RATES.answer(
        groups_of(RATES.configs("tinyshakespeare")[:3], [[{"val_loss": x}] for x in (3, 1, 2)])
    )
    assert found == [
        "By the validation loss, the best learning rate is most often 0.01 (1 of 1).",
        "Transformer lstm: 0.01 at depth 12 (1.000).",
    ]
    accuracies = [[{"val_accuracy": x, "test_accuracy": 1 - x}] for x in (0.5, 0.9, 0.8)]
    found = IMAGE_RATES.answer(groups_of(IMAGE_RATES.configs("mnist")[:3], accuracies))
    assert found == [
        "By the validation accuracy, the best learning rate is most often 0.003 (1 of 1).",
        "DeepCNN: 0.003 at depth 30 (90.0%).",
    ]


def test_answers_of_the_image_study():
    lstm, _, base, *_ = IMAGES.configs("mnist")
    results = [[{"test_accuracy": 0.97}], [{"test_accuracy": 0.98}]]
    assert IMAGES.answer(groups_of([lstm, base], results)) == [
        'At depth 10 the highest test accuracy is that of DeepCNN(connection="residual") (98.0%). '
        'Then DeepCNN(connection="lstm") 97.0%.'
    ]
