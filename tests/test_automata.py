"""Rule 110: its states, the loss and the metric of targets for each step, and a run of it."""

import dataclasses

import keras
import numpy as np
import pytest
from finished_runs import make_run

from keras_deeplstm.experiments import ModelConfig, RunConfig, Task, get_task, runs
from keras_deeplstm.experiments.reports import classifiers
from keras_deeplstm.experiments.runs import files
from keras_deeplstm.experiments.runs.groups import group_runs
from keras_deeplstm.experiments.settings import ConfigError
from keras_deeplstm.experiments.studies import STUDIES, more_steps
from keras_deeplstm.experiments.tasks import automata, each_step
from keras_deeplstm.experiments.tasks.measures import Measure
from keras_deeplstm.experiments.training import train

# What comes of a cell and its neighbors, by the three as a binary number: 110 in binary.
RULE = [0, 1, 1, 1, 0, 1, 1, 0]


def test_the_rule_has_the_number_110():
    assert sum(bit << number for number, bit in enumerate(RULE)) == 110
    cells = np.random.default_rng(0).integers(0, 2, (5, 9))
    for row, found in zip(cells, automata.following(cells), strict=True):
        near = [4 * row[place - 1] + 2 * row[place] + row[(place + 1) % 9] for place in range(9)]
        assert found.tolist() == [RULE[number] for number in near]


def test_targets_are_the_states_one_after_the_other():
    data = get_task("rule-110").load(None)
    assert [x.shape for x, _ in data] == [(20_000, 16), (1_000, 16), (1_000, 16)]
    both = get_task("rule-110-recall").load(None)
    for (x, y), (same, told) in zip(data, both, strict=True):
        np.testing.assert_array_equal(x, 2 * y[:, 0] - 1)
        cells = y.astype(int)
        np.testing.assert_array_equal(cells[:, 1:], automata.following(cells[:, :-1]))
        np.testing.assert_array_equal(x, same)
        np.testing.assert_array_equal(told[..., :16], y)
        np.testing.assert_array_equal(told[..., 16:], np.broadcast_to(y[:, :1], y.shape))
    # No state is in two parts, or twice in one.
    numbers = np.concatenate([(x > 0) @ (1 << np.arange(16)) for x, _ in data])
    assert len(np.unique(numbers)) == len(numbers) == 22_000


def test_the_loss_is_that_of_the_first_steps():
    true = np.float32([[[1, 0], [1, 1], [0, 0]]])
    logits = np.float32([[[0, 0], [np.log(3), np.log(3)], [50, 50]]])
    loss = each_step.FirstSteps(2)
    # ln 2 for each bit of the first step, ln(4 / 3) for each of the second.
    assert float(loss(true, logits)) == pytest.approx((np.log(2) + np.log(4 / 3)) / 2, rel=1e-6)
    assert each_step.FirstSteps.from_config(loss.get_config()).steps == 2


def test_the_metric_looks_at_the_last_step_of_the_model():
    metric = each_step.ExactMatchAtLastStep(name="exact_match")
    true = np.float32([[[1, 0], [0, 0]], [[1, 0], [1, 1]], [[1, 1], [0, 1]]])
    metric.update_state(
        true, np.float32([[[9, 9], [-1, -1]], [[1, -1], [1, -1]], [[1, 1], [1, 1]]])
    )
    assert float(metric.result()) == pytest.approx(1 / 3)
    # A model of one step is compared with the first of them.
    metric.reset_state()
    metric.update_state(true, np.float32([[[1, -1]], [[1, -1]], [[1, -1]]]))
    assert float(metric.result()) == pytest.approx(2 / 3)


def test_a_run_is_judged_step_by_step(tmp_path):
    """What `steps.csv` says is counted again, by the model that was saved."""
    model = ModelConfig(depth=10, units=24, tied=True, each_step=True)
    config = RunConfig("rule-110", model, epochs=1, batch_size=500, learning_rate=0.01)
    result = train(config, tmp_path / "a")
    table = runs.load(tmp_path / "a").steps
    assert table["step"].tolist() == list(range(1, 11))
    x, y = get_task("rule-110").load(None).test
    logits = keras.ops.convert_to_numpy(keras.models.load_model(tmp_path / "a" / "model.keras")(x))
    right = ((logits > 0) == (y[:, :10] > 0.5)).all(axis=-1).mean(axis=0)
    np.testing.assert_allclose(table["value"], right, atol=1e-3)
    assert result["test_exact_match"] == pytest.approx(right[-1], abs=1e-3)
    assert not (tmp_path / "a" / "predictions.csv").exists()


@pytest.mark.parametrize(
    ("task", "model", "message"),
    [
        ("rule-110", ModelConfig(), r"\(None, 10, 16\): the task needs --model.each-step"),
        (
            "rule-110",
            ModelConfig(depth=40, each_step=True),
            r"\(None, 32, 16\), as the task has targets for 32 steps. Received: \(None, 40, 16\)",
        ),
        ("digits", ModelConfig(each_step=True), "the task has no target for each step"),
    ],
)
def test_a_model_whose_steps_are_not_those_of_the_task(task, model, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        train(RunConfig(task, model), tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_the_metric_of_a_task_may_be_a_measure():
    measure = Measure("f1_score", "min", ".2f")
    task = Task("other", "a measure of its own", (2,), 2, lambda _: None, metric=measure)
    assert task.measure is measure


def test_the_report_has_a_curve_for_each_model(tmp_path):
    for seed, value in ((0, 0.5), (1, 1.0)):
        make_run(tmp_path / f"{seed}", ModelConfig(tied=True), seed=seed)
        files.write_text(tmp_path / f"{seed}" / "steps.csv", f"step,value\n1,1\n2,{value}\n")
    make_run(tmp_path / "other", ModelConfig("dense"))
    sections = classifiers.sections(group_runs(runs.find(tmp_path)))
    (section,) = (one for one in sections if one.title == classifiers.STEPS)
    ((picture,),) = section.rows
    assert picture.alt.endswith("Last: UnfoldedLSTMBlock 75.0%.")


def test_models_of_the_study_have_as_many_parameters():
    from keras_deeplstm import models

    task = get_task("rule-110")
    for config in STUDIES["more-steps-rates"].configs("rule-110"):
        count = models.count_parameters(config.model.builder(True), task.input_shape, 16)
        assert 0.97 * more_steps.PARAMETERS < count <= more_steps.PARAMETERS


def test_the_answer_says_how_far_each_model_goes_on(tmp_path):
    table = {  # by model, for two seeds: right at step 8, 16 and 32
        ModelConfig(depth=32, tied=True): [(1.0, 0.9, 0.5), (1.0, 0.9, 0.7)],
        ModelConfig("highway", depth=32, tied=True): [(1.0, 1.0, 1.0), (1.0, 1.0, 0.8)],
        ModelConfig(depth=8): [(0.25,), (0.75,)],
    }
    for model, by_seed in table.items():
        for seed, values in enumerate(by_seed):
            name = f"{model.block}{model.depth}-{seed}"
            make_run(tmp_path / name, model, seed=seed)
            rows = [f"{step},{value}" for step, value in zip((8, 16, 32), values, strict=False)]
            files.write_text(tmp_path / name / "steps.csv", "\n".join(["step,value", *rows, ""]))
    assert STUDIES["more-steps"].answer(group_runs(runs.find(tmp_path))) == [
        "On digits, learned from 8 steps, HighwayBlock is most often right: "
        "90.0% (80.0–100.0) of the "
        "states are right at step 32.",
        "HighwayBlock: 100.0% (100.0–100.0) at step 8, 100.0% (100.0–100.0) at step 16 and 90.0% "
        "(80.0–100.0) at step 32.",
        "UnfoldedLSTMBlock: 100.0% (100.0–100.0) at step 8, 90.0% (90.0–90.0) at step 16 and "
        "60.0% (50.0–70.0) at step 32.",
        "UnfoldedLSTMBlock, untied: 50.0% (25.0–75.0) at step 8.",
    ]


@pytest.mark.parametrize("dataset", more_steps.TASKS)
def test_the_studies_train_with_the_best_rates(dataset):
    """Noise is added to all models that go on, and nothing else is changed."""
    plain, noisy = (STUDIES[f"more-steps{end}"].configs(dataset) for end in ("", "-noise"))
    assert len(plain) == 11 and len(noisy) == 9
    for one, other in zip(plain, noisy, strict=False):
        changed = dataclasses.replace(one.model, dropout=0.1)
        assert other == dataclasses.replace(one, model=changed)
