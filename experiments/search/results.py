"""What came of a search, in words."""

from typing import Any

from keras_deeplstm.experiments.search.config import SearchConfig
from keras_deeplstm.experiments.search.trials import ENDED, Trial, ended
from keras_deeplstm.experiments.words import NOTHING, ratio_text

SHORT = {"learning_rate": "rate", "batch_size": "batch", "normalization": "norm"}
FAILURES = 3  # in a row end a search
NAMED = 3  # best trials whose commands are shown


def ranked(found: list[Trial], config: SearchConfig) -> list[Trial]:
    """The finished trials, the best by the first objective first; of two, those of the front."""
    finished = [trial for trial in found if trial.state == "finished"]
    finished.sort(key=lambda trial: _costs(trial, config))
    if len(config.objective) > 1:
        first = front(finished, config)
        finished.sort(key=lambda trial: trial not in first)
    return finished


def best(found: list[Trial], config: SearchConfig) -> list[Trial]:
    """The best trial; of two objectives, the front."""
    found = ranked(found, config)
    return found[:1] if len(config.objective) == 1 else front(found, config)


def front(found: list[Trial], config: SearchConfig) -> list[Trial]:
    """Those of finished trials than which none is better in one objective and as good in all."""
    costs = [_costs(trial, config) for trial in found]
    return [
        trial
        for trial, own in zip(found, costs, strict=True)
        if not any(
            theirs != own and all(a <= b for a, b in zip(theirs, own, strict=True))
            for theirs in costs
        )
    ]


def _costs(trial, config):
    pairs = zip(config.measures, trial.result.scores, strict=True)
    return [measure.best_first(score) for measure, score in pairs]


def ended_in_failures(found: list[Trial]) -> bool:
    """Whether the last trials to end have failed, so many that the search is given up.

    Trials that diverged, were pruned or skipped are findings, not failures.
    """
    last = [trial.state for trial in ended(found) if trial.state != "skipped"]
    return last[-FAILURES:] == ["failed"] * FAILURES


def short(name: str) -> str:
    """A name of a hyperparameter for a line or the head of a table."""
    return SHORT.get(name, name)


def value_text(value: Any) -> str:
    """A value of a hyperparameter, with few digits."""
    if value is None:
        return ""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def value_texts(trial: Trial, config: SearchConfig) -> dict[str, str]:
    """The values of what is searched, by name; "" is for what the trial's block does not have."""
    return {name: value_text(trial.values.get(name)) for name in config.searched}


def columns(config: SearchConfig) -> dict[str, str]:
    """Name -> words of the numbers of a trial: its objectives, size, gradient and seconds."""
    names = dict.fromkeys([*config.objective, "parameters"])
    found = {name: name.replace("trained_", "") for name in names}
    if config.command == "run":
        found["gradient_ratio"] = "first/last gradient"
    return found | {"seconds": "seconds"}


def texts(trial: Trial, config: SearchConfig) -> dict[str, str]:
    """The numbers of a trial as text, by the names of `columns`."""
    outcome = trial.result
    known = {
        "parameters": NOTHING if outcome.parameters is None else f"{outcome.parameters:,}",
        "gradient_ratio": ratio_text(outcome.gradient_ratio),
        "seconds": f"{outcome.seconds:.0f}",
    }
    scores = zip(config.objective, config.measures, outcome.scores, strict=False)
    known |= {name: measure.text(score) for name, measure, score in scores}
    return {name: known.get(name, NOTHING) for name in columns(config)}


def scores_text(trial: Trial, config: SearchConfig) -> str:
    """The values of the objectives, and which they are if there are two."""
    known = texts(trial, config)
    if len(config.objective) == 1:
        return known[config.objective[0]]
    return ", ".join(f"{columns(config)[name]} {known[name]}" for name in config.objective)


def trial_line(trial: Trial, config: SearchConfig) -> str:
    """A trial that has ended: ``"trial 3: depth 12, units 64: val_accuracy 97.2%, ..."``."""
    values = [f"{short(name)} {text}" for name, text in value_texts(trial, config).items() if text]
    if trial.state == "finished":
        words = columns(config)
        said = [f"{words[name]} {text}" for name, text in texts(trial, config).items()]
        result = ", ".join(said)
    else:
        quiet = trial.state in ("skipped", "pruned")
        state = trial.state if quiet else trial.state.upper()
        result = f"{state}: {trial.result.reason}"
    return f"trial {trial.number}: {', '.join(values)}: {result}"


def command(trial: Trial, config: SearchConfig) -> str:
    """The command that trains the model of a trial, without folds and with the first seed."""
    return config.run(trial.values).command_line()


def nothing_yet(found: list[Trial], config: SearchConfig) -> str:
    """What to say as long as no trial has ended."""
    return f"No completed trial yet (0 of {config.trials or len(found)})"


def conclusion(found: list[Trial], config: SearchConfig, out_of_time: bool) -> tuple[bool, list]:
    """Whether the search has done what it was asked for, and what to say about it."""
    ranks, done = ranked(found, config), ended(found)
    states = [trial.state for trial in done]
    planned = config.trials or len(found)
    failures = ended_in_failures(found)
    objectives = " and ".join(config.objective)
    lines = []
    if failures:
        lines.append(f"Stopped: the last {FAILURES} trials failed. {done[-1].result.reason}")
    elif len(done) < planned:
        cause = "Search space exhausted" if config.sampler == "grid" else "Ended"
        cause = "The time limit was reached" if out_of_time else cause
        lines.append(f"{cause} after {len(done)} of {planned} trials")
    if ranks:
        counts = [f"{states.count(state)} {state}" for state in ENDED if state in states]
        named = ranks[:NAMED] if len(config.objective) == 1 else best(found, config)
        lines.append(f"{len(done)} trials: {', '.join(counts)}. The best, by {objectives}:")
        for trial in named:
            lines.append(f"  {scores_text(trial, config)}  {command(trial, config)}")
    elif not done:
        lines.append(nothing_yet(found, config))
    elif set(states) == {"diverged"}:
        lines.append(
            f"All {len(done)} trials ended with a non-finite {objectives!r}. No best model"
        )
    elif not failures:
        lines.append(f"None of {len(done)} trials succeeded. {done[-1].result.reason}")
    return bool(ranks) and not failures, lines
