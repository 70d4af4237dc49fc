"""The report of a search: one HTML page that needs nothing else, and its table as CSV beside it."""

import dataclasses
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
    """Write the report of the search in `folder` and return its path.

    Beside `report.html` is `trials.csv`, a row for each trial; beside another page, `NAME.html`, it
    is `NAME-trials.csv`.
    """
    config = read_config(folder)
    found = records.read_all(folder)
    ended = len(records.ended(found))
    if not ended:
        raise ConfigError(results.nothing_yet(found, config))
    table = trials_table(found, config)
    best = results.ranked(found, config)
    environments = sorted(folder.glob("trial_*/*/environment.json"))
    html = render(
        "search.html",
        title=f"Search: {folder.name} ({config.subject})",
        question=f"Which {enumerate_words(config.searched)}? Judged by {config.objective}",
        answer=_answer(best, ended, table, config),
        problems=[
            (f"trial {int(record.trial)}", record.state, record.result.reason)
            for record in found
            if record.state != "finished"
        ],
        best=best,
        searched=config.searched,
        config=config,
        short=results.short,
        score_text=results.score_text,
        value_text=results.value_text,
        ratio_text=ratio_text,
        command_of=results.command,
        named=results.NAMED,
        sections=sections(table, config),
        settings=_settings(config),
        environments=[files.read_json(path) for path in environments[-1:]],  # the newest run's
        commands=[files.read_json(folder / "search.json").get("command", "")],
    )
    trials = "trials.csv" if output is None else f"{output.stem}-trials.csv"
    output = output or folder / "report.html"
    files.write_text(output, html)
    files.write_text(output.with_name(trials), files.csv_of(table))
    return output


def trials_table(found: list[Record], config: SearchConfig) -> pd.DataFrame:
    """A row for each trial: its values, state, score, parameters, gradient ratio and seconds."""
    rows = [
        {**record.values, **dataclasses.asdict(record.result), "trial": int(record.trial)}
        for record in found
    ]
    numbers = {"score": "float64", "parameters": "Int64"}
    numbers |= {"gradient_ratio": "float64", "seconds": "float64"}
    columns = ["trial", *config.searched, "state", *numbers, "reason"]
    return pd.DataFrame(rows, columns=columns).astype(numbers)


def _answer(best, ended, table, config):
    if not best:
        return [f"None of {ended} trials has a result."]
    winner = best[0].outcome
    texts = results.value_texts(best[0], config)
    values = enumerate_words([f"{name} {text}" for name, text in texts.items() if text])
    score = results.score_text(winner.score, config)
    sentences = [f"The best of {ended} trials: {values}. Its {config.objective} is {score}."]
    if len(winner.scores) > 1:
        spread = "executions and folds" if config.folds else "executions"
        low, high = (results.score_text(f(winner.scores), config) for f in (min, max))
        sentences.append(f"That is the mean over {spread}, which range from {low} to {high}.")
    smaller = pareto(table[table["state"] == "finished"], config)
    near = smaller[(smaller["score"] - winner.score).abs() <= 0.01]
    if config.measure.form.endswith("%") and len(near) > 1:
        row = near.iloc[0]
        sentences.append(
            f"Trial {row['trial']} is within one percentage point of it with "
            f"{row['parameters']:,} parameters instead of {winner.parameters:,}."
        )
    sentences.append(
        "A score is that of a trial's best epoch on the data by which the trials are chosen: the "
        "more trials, the more it flatters. The test data tell what the chosen model is worth."
    )
    return sentences


def _settings(config):
    names = ("executions", "folds", "epochs", "seed", "optimizer", "clipnorm", "max_parameters")
    fixed = {name: v for name, v in config.ranges.items() if name not in config.searched}
    ranges = {"tuner": config.tuner}
    ranges |= {name: config.range_text(name) for name in config.searched}
    return ranges | fixed | {name: getattr(config, name) for name in names}
