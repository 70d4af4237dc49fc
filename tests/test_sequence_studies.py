"""The studies of sequence tasks: runs, answers, and one from its command to its page."""

import dataclasses
import types

import pandas as pd
import pytest

from keras_deeplstm.experiments import cli
from keras_deeplstm.experiments.runs.groups import Group, labels
from keras_deeplstm.experiments.settings.base import ConfigError
from keras_deeplstm.experiments.settings.sequences import SequenceConfig, SequenceModelConfig
from keras_deeplstm.experiments.studies import STUDIES
from keras_deeplstm.experiments.studies.sequences import SequenceStudy, solved_sentence

STUDY = STUDIES["hochreiter-1997"]


every_study = pytest.mark.parametrize(
    "study",
    [study for study in STUDIES.values() if isinstance(study, SequenceStudy)],
    ids=lambda study: study.name,
)


@every_study
def test_every_run_has_a_name_of_its_own(study):
    plan = study.plan("", seeds=3)
    assert len(plan) == 3 * len(study.configs(""))
    assert study.folder_name("") == study.name
    if study.name.startswith("hochreiter"):
        for config in plan.values():
            assert config.sequences == config.make_task().paper_sequences


def test_some_runs_have_fewer_seeds():
    study = dataclasses.replace(STUDY, most_seeds=lambda config: 1 + (config.task == "adding"))
    more = [config for config in study.plan("", seeds=3).values() if config.seed]
    assert [(config.task, config.seed) for config in more] == [("adding", 1)] * 2


@every_study
@pytest.mark.parametrize("solved", [True, False])
def test_every_study_has_an_answer(study, solved):
    """Whatever its runs come to, the first ones of them alone included."""
    result = {"solved": solved, "sequences": 700 if solved else None, "reach": 12}
    result |= {"test_error": 0.125 if solved else None, "test_wrong": 0.0 if solved else None}
    configs = study.configs("")
    groups = [
        Group(config, label, [types.SimpleNamespace(result=result)])
        for config, label in zip(configs, labels(configs), strict=True)
    ]
    for some in (groups, groups[:1]):
        answer = study.answer(some)
        assert answer and all(sentence.endswith(".") for sentence in answer)
        assert ("700" in " ".join(answer) or "0.12" in " ".join(answer)) == solved


def test_models_that_solve_as_many_tasks_are_named_together():
    counts = {"A": (1, 3), "B": (3, 3), "C": (3, 3), "D": (0, 3)}
    assert solved_sentence(counts) == (
        "B and C solve 3 of 3 tasks in at least 90% of their runs; A 1 of 3; D 0 of 3."
    )
    one = solved_sentence({"A": (0, 1)})
    assert one == "A solves 0 of 1 task in at least 90% of its runs."
    every = solved_sentence({"A": (2, 2), "B": (1, 1)})
    assert every == "Every model solves its tasks in at least 90% of its runs."


def test_all_tasks_of_the_paper():
    assert list(dict.fromkeys(config.task for config in STUDY.configs(""))) == [
        *("reber", "noise-free", "noise-free:regular=false", "long-lag"),
        *("two-sequence", "two-sequence:noise=signal", "two-sequence:noise=targets"),
        *("adding", "multiplication", "multiplication:n_seq=13"),
        *("temporal-order", "temporal-order:symbols=3"),
    ]


def test_the_answer():
    configs = [config for config in STUDY.configs("") if config.task in ("reber", "adding")]
    counts = ([8000, 4000, 6000], [5000, None, None], [9000] * 3, [7000, 8000, 9000])
    groups = [
        Group(
            config,
            label,
            [types.SimpleNamespace(result={"solved": n is not None, "sequences": n}) for n in some],
        )
        for config, label, some in zip(configs, labels(configs), counts, strict=True)
    ]
    assert STUDY.answer(groups) == [
        "GridLSTM2D solves 2 of 2 tasks in at least 90% of its runs, with no more sequences than "
        "the paper's LSTM took on average.",
        "LSTM solves 1 of 2 tasks in at least 90% of its runs, with no more sequences than the "
        "paper's LSTM took on average.",
        "reber: GridLSTM2D 6,000 (4,000–8,000) in 3 of 3 runs and LSTM 5,000 in 1 of 3 runs; "
        "published: 8,440 sequences.",
        "adding: GridLSTM2D 9,000 (9,000–9,000) in 3 of 3 runs and LSTM 8,000 (7,000–9,000) in 3 "
        "of 3 runs; published: 74,000 sequences.",
    ]


def status(*argv):
    try:
        return cli.main([str(argument) for argument in argv])
    except SystemExit as exit:
        return exit.code


def test_wrong_usage(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert status("study", "hochreiter-1997", "--dataset", "digits") == 2
    assert "The runs of study 'hochreiter-1997' have tasks of their own" in capsys.readouterr().err
    assert status("study", "hochreiter-1997", "--epochs", 5) == 2
    assert "have no epochs and no folds" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="no folds"):
        STUDY.plan("", folds=2)


@pytest.mark.usefixtures("worker_here", "quick_pictures", "eager")
def test_a_study_from_the_command_to_its_page(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def configs(dataset):
        return [
            SequenceConfig(
                task, SequenceModelConfig(block, units=4), sequences=256, evaluate_every=128
            )
            for task, block in (("two-sequence:length=10", "grid_lstm"), ("parity", "dense"))
        ]

    monkeypatch.setitem(STUDIES, STUDY.name, dataclasses.replace(STUDY, configs=configs))
    assert status("study", STUDY.name, "--seeds", 2) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "4 runs, 4 to train now"
    assert lines[-3].startswith(
        "4/4 parity, DenseStack, depth 1, seed 1: not solved with 256 sequences"
    )
    assert status("study", STUDY.name, "--seeds", 2) == 0
    assert capsys.readouterr().out.startswith("4 runs (4 finished), 0 to train now\nReport: ")
    folder = tmp_path / "runs" / STUDY.name
    table = pd.read_csv(folder / "table.csv")
    assert table["task"].tolist() == ["two-sequence:length=10"] * 2 + ["parity"] * 2
    assert not table["sequences"].notna().any() and not table["solved"].any()
    assert pd.read_csv(folder / "summary.csv")["solved"].tolist() == [0, 0]
    page = (folder / "report.html").read_text()
    assert "<h1>Study: hochreiter-1997</h1>" in page and page.count("<img") == 4
    assert STUDY.remark.split(",")[0] in page
    assert status("publish", folder, "--tables", "tables", "--pages", "pages", "--yes") == 0
    published = (tmp_path / "pages" / f"{folder.name}.md").read_text()
    assert "# hochreiter-1997\n" in published and STUDY.remark in published
    assert "| parity | DenseStack | 1 | 4 | 41 | 0 of 2 | " in published
    assert "\n- parity: DenseStack – in 0 of 2 runs.\n" in published
