"""The report of a search: one HTML page that needs nothing else, and its table as CSV beside it."""

import dataclasses
from pathlib import Path

import pandas as pd

from keras_deeplstm.experiments import runs
from keras_deeplstm.experiments.reports.page import render
from keras_deeplstm.experiments.runs import files
from keras_deeplstm.experiments.search import results, trials
from keras_deeplstm.experiments.search.config import SearchConfig
from keras_deeplstm.experiments.search.figures import sections
from keras_deeplstm.experiments.search.trials import Trial
from keras_deeplstm.experiments.settings import ConfigError
from keras_deeplstm.experiments.words import enumerate_words

FEWEST = 4  # finished trials that tell something of importance


def write_search_report(folder: Path, output: Path | None = None) -> Path:
    """Write the report of the search in `folder` and return its path.

    Beside `report.html` is `trials.csv`, a row for each trial; beside another page, `NAME.html`, it
    is `NAME-trials.csv`.
    """
    config, found, study = trials.open_search(folder)
    ended = len(trials.ended(found))
    if not ended:
        raise ConfigError(results.nothing_yet(found, config))
    table = trials_table(found, config)
    ranks, best = results.ranked(found, config), results.best(found, config)
    environments = sorted(folder.glob("trial_*/*/environment.json"))
    importances, partial = ({}, []) if study is None else _importances(study)
    html = render(
        "search.html",
        title=f"Search: {folder.name} ({config.subject})",
        question=f"Which {enumerate_words(config.searched)}? Judged by "
        f"{enumerate_words(list(config.objective))}",
        answer=_answer(found, ranks, ended, config) + _retrained(folder, ranks, config),
        problems=[
            (f"trial {trial.number}", trial.state, trial.result.reason)
            for trial in found
            if trial.state not in ("finished", "pruned")
        ],
        named=best if len(config.objective) > 1 else ranks[: results.NAMED],
        ranks=ranks,
        pruned=[trial for trial in found if trial.state == "pruned"],
        best=best,
        config=config,
        results=results,
        sections=sections(table, config, [trial.number for trial in best], importances, partial),
        settings=_settings(config),
        environments=[files.read_json(path) for path in environments[-1:]],  # the newest run's
        commands=[files.read_json(folder / "search.json").get("command", "")],
    )
    path = "trials.csv" if output is None else f"{output.stem}-trials.csv"
    output = output or folder / "report.html"
    files.write_text(output, html)
    files.write_text(output.with_name(path), files.csv_of(table))
    return output


def trials_table(found: list[Trial], config: SearchConfig) -> pd.DataFrame:
    """A row for each trial: its values, state, objectives, parameters, gradient ratio, seconds."""
    rows = []
    for trial in found:
        outcome = dataclasses.asdict(trial.result)
        scores = dict(zip(config.objective, outcome["scores"], strict=False))
        outcome["trained_epochs"] = outcome.pop("epochs")
        rows.append({"trial": trial.number, **trial.values, **outcome, **scores})
    numbers = dict.fromkeys([*config.objective, "gradient_ratio", "seconds"], "float64")
    numbers |= {"parameters": "Int64", "trained_epochs": "float64"}
    # Of a budget, the parameters that a model then has.
    searched = [name for name in config.searched if name != "parameters"]
    columns = ["trial", *searched, "state", *numbers, "reason"]
    return pd.DataFrame(rows, columns=columns).astype(numbers)


def _importances(study):
    """The share of each hyperparameter in the variance of the first objective, and the others.

    Those that not every trial has get none: they may well matter where they are.
    """
    import optuna

    done = study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.COMPLETE])
    names = {name for trial in done for name in trial.params}
    common = {name for name in names if all(name in trial.params for trial in done)}
    varied = [name for name in common if len({trial.params[name] for trial in done}) > 1]
    if len({trial.values[0] for trial in done}) < 2 or len(done) < FEWEST:
        return {}, []
    found = optuna.importance.get_param_importances(
        study,
        evaluator=optuna.importance.FanovaImportanceEvaluator(seed=0),
        params=sorted(varied),
        target=lambda trial: trial.values[0],
    )
    return found, sorted(names - common)


def _answer(found, ranks, ended, config):
    if not ranks:
        return [f"None of {ended} trials has a result."]
    best = ranks[0]
    winner, measure = best.result, config.measures[0]
    values = results.value_texts(best, config)
    described = enumerate_words([f"{name} {text}" for name, text in values.items() if text])
    score = measure.text(best.score)
    which = "best" if len(config.objective) == 1 else f"best by {config.objective[0]}"
    sentences = [
        f"The {which} of {ended} trials: {described}. Its {config.objective[0]} is {score}."
    ]
    if len(winner.of_runs) > 1:
        spread = "executions and folds" if config.folds else "executions"
        low, high = (measure.text(f(winner.of_runs)) for f in (min, max))
        sentences.append(f"That is the mean over {spread}, which range from {low} to {high}.")
    near = [
        trial
        for trial in ranks
        if abs(trial.score - best.score) <= 0.01 and trial.result.parameters < winner.parameters
    ]
    if measure.form.endswith("%") and near:
        least = min(near, key=lambda trial: trial.result.parameters)
        sentences.append(
            f"Trial {least.number} is within one percentage point of it with "
            f"{least.result.parameters:,} parameters instead of {winner.parameters:,}."
        )
    pruned = [trial for trial in found if trial.state == "pruned"]
    if pruned:
        counted = [trial for trial in found if trial.state in ("pruned", "finished")]
        planned = sum(run.rounds for trial in counted for run in config.runs(trial.values).values())
        trained = sum(trial.result.epochs for trial in counted)
        sentences.append(
            f"{len(pruned)} trials were pruned: with the finished ones they trained for "
            f"{trained:,.6g} of {planned:,} {config.counted}."
        )
    sentences.append(
        "A score is that of a trial's best epoch on the data by which the trials are chosen: the "
        "more trials, the more it flatters. The test data tell what the chosen model is worth."
    )
    return sentences


def _retrained(folder, ranks, config):
    """What the best model has reached on the test data, if it was trained once more."""
    run = runs.load(folder / "best")
    if not ranks or run.state != "finished" or run.config != config.run(ranks[0].values):
        return []
    return [f"Trained once more, as {run.name}: {run.config.outcome(run.result)}."]


def _settings(config):
    names = ("command", "sampler", "pruner", "executions", "folds", "seed", "max_parameters")
    return {name: getattr(config, name) for name in names} | config.space.typed
