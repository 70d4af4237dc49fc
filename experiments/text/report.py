"""Reports of character language models: results, curves and samples on one HTML page."""

import itertools
from pathlib import Path

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from keras_deeplstm.experiments import runs
from keras_deeplstm.experiments.figures import LINES, Section, picture, plain
from keras_deeplstm.experiments.findings import find
from keras_deeplstm.experiments.report import common_folder, render
from keras_deeplstm.experiments.text.config import TextConfig

SAMPLES = 2  # shown of each run beside the first one
RESULTS = (
    *("units", "parameters", "test_bits", "test_loss", "val_bits", "val_loss", "best_epoch"),
    *("symbols_per_second", "seconds"),
)


def all_of_texts(folders: list[Path]) -> bool:
    """Whether all runs in these folders, as far as they can be read, are of texts."""
    kinds = {type(run.config) for run in find(folders) if run.config}
    return kinds == {TextConfig}


def write_text_report(folders: list[Path], output: Path | None = None) -> Path:
    """Write the report of runs of `deeplstm train-text`, finished or not, and return its path.

    Beside the page is `table.csv`, a row for each run.

    Args:
        folders: Folders of runs, or folders that contain them.
        output: The page; default `report.html` in the folder given, or in the one that several
            folders share.

    Raises:
        ConfigError: One of the folders holds no run.
    """
    found, problems, common = [], [], common_folder(folders)
    for run in find(folders):
        try:
            if run.config is None:
                raise ValueError(run.reason)
            _ = run.environment
            if run.state in ("failed", "diverged"):
                problems.append((run.name, run.state, run.reason))
            found.append(run)
        except (OSError, ValueError) as error:
            problems.append((run.name, "damaged", str(error)))
    environments = [run.environment for run in found]
    html = render(
        "text.html",
        title=found[0].config.title if len(found) == 1 else f"{len(found)} texts in {common.name}",
        question=None,
        answer=[],
        problems=problems,
        found=found,
        sections=[section for section in [_learning(found)] if any(section.rows)],
        written=[(run, _samples(run)) for run in found],
        settings=_settings(found),
        environments=environments[:1],
        commands=list(dict.fromkeys(environment["command"] for environment in environments)),
        resumed=[run.name for run in found if run.result.get("resumed_after_steps")],
    )
    output = output or common / "report.html"
    runs.write_text(output, html)
    runs.write_text(output.with_name("table.csv"), _table(found).to_csv(index=False))
    return output


def _learning(found):
    """Curves of training and validation against passes over the text, some runs in each picture."""
    with_rows = [run for run in found if (run.folder / "metrics.csv").exists()]
    rows = []
    for first in range(0, len(with_rows), LINES):
        figure = Figure(figsize=(8, 5), layout="constrained")
        ax = figure.subplots()
        ax.set(xlabel="epoch", ylabel="bits per symbol")
        ax.grid(alpha=0.3)
        ends = []
        colors = itertools.cycle(sns.color_palette("colorblind"))
        for run, color in zip(with_rows[first : first + LINES], colors, strict=False):
            metrics = run.metrics
            ax.plot(metrics["epoch"], metrics["bits"], color=color, alpha=0.4, linewidth=1)
            if "val_bits" in metrics:
                evaluated = metrics.dropna(subset="val_bits")
                label = plain(run.name)
                ax.plot(evaluated["epoch"], evaluated["val_bits"], ".-", color=color, label=label)
                ends.append(f"{run.name} {evaluated['val_bits'].iloc[-1]:.3g}")
        last = "; ".join(ends) or "not evaluated"
        rows.append([picture(figure, f"Bits against epoch. At the end: {last}.")])
    text = (
        "Bits per symbol against passes over the training text: on the validation text (dots), and "
        "of the training steps in between, dropout included (pale)."
    )
    return Section("Learning", text, rows)


def _samples(run):
    """The first sample of a run and the last ones, each with its heading."""
    try:
        text = (run.folder / "samples.txt").read_text(encoding="utf-8")
    except OSError:
        return []
    # No sample begins a line so but by chance, and then one is shown in two parts.
    samples = [f"--- step {part}" for part in text.split("--- step ")[1:]]
    return [*samples[:1], *samples[1:][-SAMPLES:]]


def _table(found):
    """A row for each run."""
    return pd.DataFrame(
        [
            {
                "run": run.name,
                "state": run.state,
                "text": run.config.subject,
                "model": run.config.model.label,
                "depth": run.config.model.depth,
                "seed": run.config.seed,
                **{key: run.result.get(key) for key in RESULTS},
            }
            for run in found
        ]
    )


def _settings(found):
    """Settings with the value, or the values, that the runs have; without the unset ones."""
    values = {}
    for run in found:
        for name, value in run.config.flat().items():
            values.setdefault(name, {})[str(value)] = None
    return {name: ", ".join(distinct) for name, distinct in values.items()}
