"""Searches of versions before Optuna remembered the trials: they can still be reported."""

from pathlib import Path
from typing import Any

from keras_deeplstm.experiments.runs import files

SAMPLERS = {"random": "random", "grid": "grid", "bayesian": "gp", "hyperband": "random"}


def read(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]] | None:
    """Settings and trials of such a search, for today's; None if `folder` holds none."""
    try:
        known = files.read_json(folder / "search.json")["settings"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    settings = dict(known)
    tuner, options = settings.pop("tuner", "random"), settings.pop("options", ())
    others = {n: settings.pop(n) for n in ("clipnorm", "gradient_every") if n in settings}
    settings = {n: str(v) if n == "epochs" else v for n, v in settings.items()}
    settings |= {"sampler": SAMPLERS.get(tuner, "random"), "objective": (settings["objective"],)}
    settings |= {"set": tuple(f"{n}={v}" for n, v in others.items()), "options": tuple(options)}
    records = sorted(folder.glob("trial_*/record.json"))
    return settings, [found for path in records if (found := _trial(path)) is not None]


def _trial(path):
    """A record; None if it is damaged."""
    try:
        record = files.read_json(path)
        values = {n: v for n, v in record["values"].items() if not n.startswith("tuner/")}
        if "tuner/epochs" in record["values"]:  # hyperband chose them
            values["epochs"] = record["values"]["tuner/epochs"]
        outcome = record["outcome"] and {**record["outcome"]}
        if outcome:
            score, outcome["of_runs"] = outcome.pop("score"), outcome.pop("scores")
            outcome["scores"] = [] if score is None else [score]
        number, ended = int(record["trial"]), record["ended"]
        return {"number": number, "values": values, "outcome": outcome, "ended": ended}
    except (OSError, ValueError, KeyError, TypeError):
        return None
