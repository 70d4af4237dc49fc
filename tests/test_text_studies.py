"""The studies of texts: their runs, their answers, and one study from its command to its page."""

import dataclasses
import types

import pandas as pd
import pytest

from keras_deeplstm import models
from keras_deeplstm.experiments import cli, runs
from keras_deeplstm.experiments.runs.groups import Group, labels
from keras_deeplstm.experiments.settings.base import ConfigError
from keras_deeplstm.experiments.settings.text import TextModelConfig
from keras_deeplstm.experiments.studies import STUDIES

STUDY = STUDIES["grid-vs-stacked"]
TEXT = "".join(f"{n} and {n * n} make {n + n * n}.\n" for n in range(60))


def parameters(model):
    builder = models.character_language_model
    return models.count_parameters(builder, 65, **model.build_arguments())


@pytest.mark.parametrize("study", ["grid-vs-stacked", "grid-options"])
def test_every_model_can_be_built_and_has_a_name_of_its_own(study):
    plan = STUDIES[study].plan("tinyshakespeare", seeds=2)
    configs = STUDIES[study].configs("tinyshakespeare")
    assert len(plan) == 2 * len(configs)
    assert len(set(labels(configs))) * len({c.model.depth for c in configs}) == len(configs)
    assert all(parameters(config.model) for config in configs)


def test_a_grid_and_a_stack_of_equal_size():
    for depth in (3, 6):
        grid, equal, same_units = (
            config.model
            for config in STUDY.configs("tinyshakespeare")
            if config.model.depth == depth and not config.model.dropout
        )
        assert (grid.block, equal.block, same_units.block) == ("grid_lstm", "lstm", "lstm")
        assert parameters(equal) == pytest.approx(parameters(grid), rel=0.01)
        assert same_units.units == grid.units and parameters(same_units) < 0.6 * parameters(grid)


def groups_of(study, losses):
    configs = STUDIES[study].configs("tinyshakespeare")[: len(losses)]
    return [
        Group(config, label, [types.SimpleNamespace(result={"val_loss": loss, "units": 8})])
        for config, label, loss in zip(configs, labels(configs), losses, strict=True)
    ]


def test_answers():
    answer = STUDY.answer(groups_of("grid-vs-stacked", [1.5, 1.6, 1.7, 1.4, 1.45]))
    assert answer == [
        "The lowest validation loss, in nats per symbol, is that of GridLSTM2D(dropout=0.2), "
        "depth 3 (1.400).",
        "Models that do not train, with more than 1.5 times the lowest loss: none.",
        "Depth 3, without dropout: grid of 8 units 1.500; stacked LSTM of 8 units 1.600 and "
        "stacked LSTM of 8 units 1.700.",
        "Depth 3, with dropout 0.2: grid of 8 units 1.400; stacked LSTM of 8 units 1.450.",
    ]
    answer = STUDY.answer(groups_of("grid-vs-stacked", [1.5, 3.3]))
    assert answer[1].endswith("the lowest loss: LSTM, depth 3 (3.300).")
    answer = STUDIES["grid-options"].answer(groups_of("grid-options", [1.5, 1.6, 1.45]))
    assert answer[1] == (
        "Against the plain grid's 1.500, the mean changes by: priority=None +0.100 and "
        'tied="depth" -0.050.'
    )


def status(*argv):
    try:
        return cli.main([str(argument) for argument in argv])
    except SystemExit as exit:
        return exit.code


def test_wrong_usage(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert status("study", "grid-vs-stacked", "--dataset", "nosuch.txt") == 2
    assert "'nosuch.txt' is no file. Texts that have a name" in capsys.readouterr().err
    assert status("study", "grid-vs-stacked", "--folds", 5) == 2
    assert "A text is read in order: it has no folds" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="no folds"):
        STUDY.plan("tinyshakespeare", folds=2)


@pytest.mark.long  # one of sequences is not
@pytest.mark.usefixtures("worker_here", "quick_pictures")
def test_a_study_from_the_command_to_its_page(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "numbers.txt").write_text(TEXT)

    def configs(text):
        small = {"epochs": 2, "batch_size": 4, "sequence_length": 10, "sample_length": 30}
        return [
            dataclasses.replace(config, **small, model=TextModelConfig(block, 2, 8))
            for block, config in zip(("grid_lstm", "lstm"), STUDY.configs(text), strict=False)
        ]

    monkeypatch.setitem(STUDIES, STUDY.name, dataclasses.replace(STUDY, configs=configs))
    command = ["study", STUDY.name, "--dataset", "numbers.txt"]
    assert status(*command, "--only", "grid_lstm") == 0
    capsys.readouterr()
    assert status(*command) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "2 runs (1 finished), 1 to train now"
    assert lines[-3].startswith("2/2 LSTM, depth 2: test ")

    folder = tmp_path / "runs" / "grid-vs-stacked-numbers.txt"
    table = pd.read_csv(folder / "table.csv")
    assert table["val_loss"].tolist() == [
        run.result["val_loss"] for run in sorted(runs.find(folder), key=lambda run: run.name)
    ]
    summary = pd.read_csv(folder / "summary.csv")
    assert summary["model"].tolist() == ["GridLSTM2D", "LSTM"]
    assert summary["val_loss"].tolist() == table["val_loss"].tolist()
    page = (folder / "report.html").read_text()
    assert "The lowest validation loss, in nats per symbol, is that of" in page
    assert page.count("<img") == 2 and page.count("<pre>") == 4
    sample = (folder / table["run"][0] / "samples.txt").read_text()

    assert status("publish", folder, "--tables", "tables", "--pages", "pages", "--yes") == 0
    published = (tmp_path / "pages" / f"{folder.name}.md").read_text()
    assert "| GridLSTM2D | 2 | 8 | " in published
    assert "## Samples" in published and "![validation bits per symbol against" in published
    written = next(filter(None, sample.split("\n", 1)[1].splitlines()))
    assert f"\n    {written}" in published
    assert len(pd.read_csv(tmp_path / "tables" / f"{folder.name}-runs.csv")) == 2
