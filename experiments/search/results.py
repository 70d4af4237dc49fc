"""What came of a search, in words."""

from typing import Any

from keras_deeplstm.experiments.search.config import SearchConfig, command_of
from keras_deeplstm.experiments.search.records import ENDED, Record
from keras_deeplstm.experiments.words import ratio_text

SHORT = {"learning_rate": "rate", "batch_size": "batch", "normalization": "norm"}
FAILURES = 3  # in a row end a search
NAMED = 3  # best trials whose commands are shown


def ranked(found: list[Record], config: SearchConfig) -> list[Record]:
    """The finished trials, the best first."""
    finished = [record for record in found if record.state == "finished"]
    return sorted(finished, key=lambda record: config.best_first(record.score))


def title(record: Record, config: SearchConfig) -> str:
    """The trial and its values: ``"trial 3: depth 12, units 64"``."""
    values = ", ".join(
        f"{SHORT.get(name, name)} {value_text(record.values[name])}"
        for name in config.RANGES
        if name in record.values
    )
    return f"trial {int(record.trial)}: {values}"


def result_text(record: Record, config: SearchConfig) -> str:
    """What came of a trial, in a line."""
    outcome = record.result
    if outcome.state == "skipped":
        return f"skipped: {outcome.reason}"
    if outcome.state != "finished":
        return f"{outcome.state.upper()}: {outcome.reason}"
    return (
        f"{config.objective} {score_text(record.score, config)}, "
        f"{outcome.parameters:,} parameters, first/last gradient "
        f"{ratio_text(outcome.gradient_ratio)}, {outcome.seconds:.0f} s"
    )


def value_text(value: Any) -> str:
    """A value of a hyperparameter, with few digits."""
    if value is None:
        return ""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def score_text(score: float, config: SearchConfig) -> str:
    """An accuracy in percent, anything else with four digits."""
    return f"{score:.1%}" if config.measure.endswith("accuracy") else f"{score:.4g}"


def ended_in_failures(found: list[Record]) -> bool:
    """Whether the last trials to end have failed, so many that the search is given up.

    Trials that diverged or were skipped are findings, not failures.
    """
    ended = sorted((r for r in found if r.ended is not None), key=lambda record: record.end)
    last = [record.state for record in ended if record.state != "skipped"][-FAILURES:]
    return last == ["failed"] * FAILURES


def conclusion(found: list[Record], config: SearchConfig, out_of_time: bool) -> tuple[bool, list]:
    """Whether the search has done what it was asked for, and what to say about it.

    Args:
        found: The records of all trials.
        config: The search.
        out_of_time: A time limit has ended it.
    """
    best = ranked(found, config)
    ended = [record for record in found if record.state != "running"]
    counts = {state: sum(r.state == state for r in ended) for state in ENDED}
    planned = config.trials or len(found)
    lines = []
    failures = ended_in_failures(found)
    if failures:
        last = max(ended, key=lambda record: record.end)
        lines.append(f"Stopped: the last {FAILURES} trials failed. {last.result.reason}")
    elif len(ended) < planned and out_of_time:
        lines.append(f"The time limit was reached after {len(ended)} of {planned} trials")
    elif len(ended) < planned:
        lines.append(f"Search space exhausted after {len(ended)} of {planned} trials")
    if not best:
        if not ended:
            lines.append(f"No completed trial yet (0 of {planned})")
        elif counts["diverged"] == len(ended):
            lines.append(
                f"All {len(ended)} trials ended with a non-finite {config.objective!r}. "
                f"No best model"
            )
        elif not failures:
            lines.append(f"None of {len(ended)} trials succeeded. {ended[-1].result.reason}")
        return False, lines
    words = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    lines.append(f"{len(ended)} trials: {words}. The best, by {config.objective}:")
    for record in best[:NAMED]:
        lines.append(f"  {score_text(record.score, config)}  {command(record, config)}")
    return not failures, lines


def command(record: Record, config: SearchConfig) -> str:
    """The command that trains the model of a trial, without folds and with the first seed."""
    return command_of(config.run(record.values))
