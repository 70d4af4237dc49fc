"""The report of a search: one HTML page that needs nothing else, and its table as CSV beside it."""

from pathlib import Path

import pandas as pd

from keras_deeplstm.experiments.reports.page import render
from keras_deeplstm.experiments.runs import files
from keras_deeplstm.experiments.search import records, results
from keras_deeplstm.experiments.search.config import SearchConfig
from keras_deeplstm.experiments.search.figures import pareto, sections
from keras_deeplstm.experiments.search.records import Record
from keras_deeplstm.experiments.search.runner import read_config
from keras_deeplstm.experiments.settings.base import ConfigError
from keras_deeplstm.experiments.words import enumerate_words, ratio_text


def write_search_report(folder: Path, output: Path | None = None) -> Path:
    """Write the report of a search and return its path.

    Beside `report.html` is `trials.csv`, a row for each trial; beside another page, `NAME.html`, it
    is `NAME-trials.csv`.

    Args:
        folder: The search's folder.
        output: The page; default `report.html` in the folder.

    Raises:
        ConfigError: The settings of the search cannot be read, or no trial has ended.
    """
    try:
        config = read_config(folder)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"Cannot read '{folder / 'search.json'}': {error}") from None
    found = records.read_all(folder)
    ended = [record for record in found if record.state != "running"]
    if not ended:
        raise ConfigError(f"No completed trial yet (0 of {config.trials or len(found)})")
    table = trials_table(found, config)
    best = results.ranked(found, config)
    problems = [
        (
            f"trial {int(record.trial)}",
            record.state,
            record.outcome.reason if record.outcome else "",
        )
        for record in found
        if record.state != "finished"
    ]
    html = render(
        "search.html",
        title=f"Search: {folder.name} ({config.subject})",
        question=f"Which {enumerate_words(config.searched)}? Judged by {config.objective}",
        answer=_answer(best, ended, table, config),
        problems=problems,
        best=best,
        searched=config.searched,
        config=config,
        short=lambda name: results.SHORT.get(name, name),
        score_text=results.score_text,
        value_text=results.value_text,
        ratio_text=ratio_text,
        command_of=results.command,
        named=results.NAMED,
        sections=sections(table, config),
        settings={"tuner": config.tuner, **_settings(config)},
        environments=_environment(found, folder),
        commands=[files.read_json(folder / "search.json").get("command", "")],
    )
    trials = "trials.csv" if output is None else f"{output.stem}-trials.csv"
    output = output or folder / "report.html"
    files.write_text(output, html)
    files.write_text(output.with_name(trials), files.csv_of(table))
    return output


def trials_table(found: list[Record], config: SearchConfig) -> pd.DataFrame:
    """A row for each trial: its values, state, score, parameters, gradient ratio and seconds."""
    rows = []
    for record in found:
        outcome = record.outcome or records.Outcome("running")
        rows.append(
            {
                "trial": int(record.trial),
                **{name: record.values.get(name) for name in config.searched},
                "state": record.state,
                "score": outcome.score,
                "parameters": outcome.parameters,
                "gradient_ratio": outcome.gradient_ratio,
                "seconds": outcome.seconds,
                "reason": outcome.reason,
            }
        )
    table = pd.DataFrame(rows)
    numbers = {name: "float64" for name in ("score", "gradient_ratio", "seconds")}
    return table.astype(numbers | {"parameters": "Int64"})


def _answer(best, ended, table, config):
    if not best:
        return [f"None of {len(ended)} trials has a result."]
    winner = best[0]
    values = enumerate_words(
        [
            f"{name} {results.value_text(winner.values[name])}"
            for name in config.searched
            if name in winner.values
        ]
    )
    score = results.score_text(winner.outcome.score, config)
    sentences = [f"The best of {len(ended)} trials: {values}. Its {config.objective} is {score}."]
    spread = "executions and folds" if config.folds else "executions"
    if len(winner.outcome.scores) > 1:
        low, high = (f(winner.outcome.scores) for f in (min, max))
        sentences.append(
            f"That is the mean over {spread}, which range from {results.score_text(low, config)} "
            f"to {results.score_text(high, config)}."
        )
    smaller = pareto(table[table["state"] == "finished"], config)
    near = smaller[(smaller["score"] - winner.outcome.score).abs() <= 0.01]
    if config.objective.endswith("accuracy") and len(near) > 1:
        row = near.iloc[0]
        sentences.append(
            f"Trial {row['trial']} is within one percentage point of it with "
            f"{row['parameters']:,} parameters instead of {winner.outcome.parameters:,}."
        )
    sentences.append(
        "A score is that of a trial's best epoch on the data by which the trials are chosen: the "
        "more trials, the more it flatters. The test data tell what the chosen model is worth."
    )
    return sentences


def _settings(config):
    names = ("executions", "folds", "epochs", "seed", "optimizer", "clipnorm", "max_parameters")
    fixed = {name: v for name, v in config.ranges.items() if name not in config.searched}
    ranges = {name: getattr(config, name) for name in config.searched}
    return ranges | fixed | {name: getattr(config, name) for name in names}


def _environment(found, folder):
    """That of the newest run that has one."""
    for record in reversed(found):
        for path in records.trial_folder(folder, record.trial).glob("*/environment.json"):
            return [files.read_json(path)]
    return []
