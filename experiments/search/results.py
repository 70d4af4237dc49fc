"""What came of a search, in words."""

from operator import attrgetter
from typing import Any

from keras_deeplstm.experiments.search.config import SearchConfig, command_of
from keras_deeplstm.experiments.search.records import ENDED, Outcome, Record, ended
from keras_deeplstm.experiments.words import ratio_text

SHORT = {"learning_rate": "rate", "batch_size": "batch", "normalization": "norm"}
FAILURES = 3  # in a row end a search
NAMED = 3  # best trials whose commands are shown


def ranked(found: list[Record], config: SearchConfig) -> list[Record]:
    """The finished trials, the best first."""
    finished = [record for record in found if record.state == "finished"]
    return sorted(finished, key=attrgetter("outcome.score"), reverse=config.maximize)


def ended_in_failures(found: list[Record]) -> bool:
    """Whether the last trials to end have failed, so many that the search is given up.

    Trials that diverged or were skipped are findings, not failures.
    """
    last = [record.state for record in ended(found) if record.state != "skipped"]
    return last[-FAILURES:] == ["failed"] * FAILURES


def short(name: str) -> str:
    """A name of a hyperparameter for a line or the head of a table."""
    return SHORT.get(name, name)


def value_text(value: Any) -> str:
    """A value of a hyperparameter, with few digits."""
    if value is None:
        return ""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def value_texts(record: Record, config: SearchConfig) -> dict[str, str]:
    """The values of what is searched, by name; "" is for what the trial's block does not have."""
    return {name: value_text(record.values.get(name)) for name in config.searched}


def score_text(score: float | None, config: SearchConfig) -> str:
    """A value of the objective."""
    return format(score, config.measure.form)


def outcome_texts(outcome: Outcome, config: SearchConfig) -> tuple[str, str, str, str]:
    """Objective, parameters, gradient ratio and seconds of a finished trial."""
    score, ratio = score_text(outcome.score, config), ratio_text(outcome.gradient_ratio)
    return score, f"{outcome.parameters:,}", ratio, f"{outcome.seconds:.0f}"


def trial_line(record: Record, config: SearchConfig) -> str:
    """A trial that has ended: ``"trial 3: depth 12, units 64: val_accuracy 97.2%, ..."``."""
    values = [f"{short(name)} {text}" for name, text in value_texts(record, config).items() if text]
    outcome = record.result
    if outcome.state == "finished":
        form = "{} {}, {} parameters, first/last gradient {}, {} s"
        result = form.format(config.objective, *outcome_texts(outcome, config))
    else:
        state = outcome.state if outcome.state == "skipped" else outcome.state.upper()
        result = f"{state}: {outcome.reason}"
    return f"trial {int(record.trial)}: {', '.join(values)}: {result}"


def command(record: Record, config: SearchConfig) -> str:
    """The command that trains the model of a trial, without folds and with the first seed."""
    return command_of(config.run(record.values))


def nothing_yet(found: list[Record], config: SearchConfig) -> str:
    """What to say as long as no trial has ended."""
    return f"No completed trial yet (0 of {config.trials or len(found)})"


def conclusion(found: list[Record], config: SearchConfig, out_of_time: bool) -> tuple[bool, list]:
    """Whether the search has done what it was asked for, and what to say about it."""
    best, done = ranked(found, config), ended(found)
    states = [record.state for record in done]
    planned = config.trials or len(found)
    failures = ended_in_failures(found)
    lines = []
    if failures:
        lines.append(f"Stopped: the last {FAILURES} trials failed. {done[-1].result.reason}")
    elif len(done) < planned:
        cause = "The time limit was reached" if out_of_time else "Search space exhausted"
        lines.append(f"{cause} after {len(done)} of {planned} trials")
    if best:
        counts = [f"{states.count(state)} {state}" for state in ENDED if state in states]
        lines.append(f"{len(done)} trials: {', '.join(counts)}. The best, by {config.objective}:")
        for record in best[:NAMED]:
            score = score_text(record.result.score, config)
            lines.append(f"  {score}  {command(record, config)}")
    elif not done:
        lines.append(nothing_yet(found, config))
    elif set(states) == {"diverged"}:
        lines.append(
            f"All {len(done)} trials ended with a non-finite {config.objective!r}. No best model"
        )
    elif not failures:
        lines.append(f"None of {len(done)} trials succeeded. {done[-1].result.reason}")
    return bool(best) and not failures, lines
