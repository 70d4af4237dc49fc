"""The data of a published study: what its pictures and tables are drawn from, as compressed CSV.

A page can be drawn again from them without any training: the folder stands for that of the study in
`deeplstm publish` and `deeplstm report`, and a study goes on from it. Numbers have five significant
digits. Of the gradients there is what pictures show: norms of recurrent matrices, of at most 32
depth steps at a few moments of training, and of the first and the last one at 32; of many models
with several learning rates, those of the best. Filters are those of the deepest of each model after
training, in few colors, if there are not too many models. Where a model is wrong is there if it is
the only one.
"""

import base64
import gzip
import json
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd

from keras_deeplstm.callbacks.gradient_tables import stacks
from keras_deeplstm.experiments.reports.drawing import with_few_colors
from keras_deeplstm.experiments.reports.findings import Findings
from keras_deeplstm.experiments.reports.rates import fewer
from keras_deeplstm.experiments.runs import Run, files, find, lock
from keras_deeplstm.experiments.runs.reading import read_table
from keras_deeplstm.experiments.settings import ConfigError
from keras_deeplstm.experiments.studies.plan import Plan, read_plan
from keras_deeplstm.experiments.studies.study import depth_of

MODELS = 10  # at most, of which filters are kept
POINTS = 32  # of a curve of gradients, more of which no picture shows
JSON = ("config", "result", "environment")
GRADIENTS = ("gradient_flow", "state_gradients")
TABLES = ("metrics", *GRADIENTS, "examples", "steps")
OF_ONE = ("confusion", "predictions")  # tables of which pictures show those of one model only
ENDING = ".csv.gz"


def is_published(folder: Path) -> bool:
    """Whether a folder holds the data of a published study."""
    return (folder / f"runs{ENDING}").exists()


def write(folder: Path, findings: Findings, plan: dict[str, Any]) -> None:
    """Write the data of a study's finished runs, and its plan."""
    folder.mkdir(parents=True, exist_ok=True)
    finished = findings.finished
    rows: list[dict[str, Any]] = [{"run": "", "config": json.dumps(plan)}]
    for run in finished:
        found = {name: files.read_json(run.folder / f"{name}.json") for name in JSON}
        rows.append({"run": run.name, **{name: json.dumps(found[name]) for name in JSON}})
    _write(folder / f"runs{ENDING}", pd.DataFrame(rows))
    best = [run for group in fewer(findings.groups) for run in group.runs]
    for name in (*TABLES, *(OF_ONE if len(findings.groups) == 1 else ())):
        frames = [
            _shown(name, read_table(path)).assign(run=run.name)
            for run in (best if name in GRADIENTS else finished)
            if (path := run.folder / f"{name}.csv").exists()
        ]
        if frames:
            table = pd.concat(frames[:1] if name == "predictions" else frames)
            first = ["run", *(column for column in table if column != "run")]
            _write(folder / f"{name}{ENDING}", table[first])
    # Filters of the deepest of each model: their pictures are larger than all else together.
    deepest = {group.label: group for group in sorted(findings.groups, key=depth_of)}
    kept = deepest.values() if len(deepest) <= MODELS else ()
    pictures = [row for group in kept for row in _filters(group.runs[0])]
    samples = [row for group in findings.groups for row in _samples(group.runs[0])]
    for name, others in (("filters", pictures), ("samples", samples)):
        if others:
            _write(folder / f"{name}{ENDING}", pd.DataFrame(others))


def _write(path, table):
    text = table.to_csv(index=False, float_format="%.5g")
    # Without the time, so that the same data give the same file.
    files.write_bytes(path, gzip.compress(text.encode(), mtime=0))


def _shown(name, frame):
    """What pictures show of a table."""
    if name == "state_gradients":
        return frame[frame["depth"].isin(_some(frame["depth"]))]
    if name != "gradient_flow":
        return frame
    profile = stacks(frame)
    if profile.empty:  # all steps share one matrix
        return profile
    profile = profile[profile["step"].isin(steps := _some(profile["step"]))]
    moments = steps[np.unique(np.geomspace(1, len(steps), 5).round().astype(int) - 1)]
    ends = profile["depth"].isin([profile["depth"].min(), profile["depth"].max()])
    whole = profile["step"].isin(moments) & profile["depth"].isin(_some(profile["depth"]))
    return profile[ends | whole]


def _some(values: Iterable[float]) -> np.ndarray:
    """At most so many of them, from the first to the last, evenly and by their logarithm."""
    distinct = np.unique(pd.Series(values).dropna())
    if len(distinct) <= POINTS:
        return distinct
    places = np.geomspace(1, len(distinct), POINTS // 2).round().astype(int) - 1
    evenly = np.linspace(0, len(distinct) - 1, POINTS // 2).round().astype(int)
    return distinct[np.unique(np.concatenate([places, evenly]))]


def _filters(run: Run) -> Iterator[dict[str, str]]:
    found = sorted((run.folder / "filters").glob("epoch_*.png"))
    gates = (run.folder / "filters").glob("gates.png")
    for path in [*found[-1:], *gates]:
        png = base64.b64encode(with_few_colors(path.read_bytes())).decode()
        yield {"run": run.name, "file": path.name, "png": png}


def _samples(run: Run) -> Iterator[dict[str, str]]:
    path = run.folder / "samples.txt"
    if path.exists():
        yield {"run": run.name, "text": path.read_text(encoding="utf-8")}


@contextmanager
def unpacked(folders: list[Path]) -> Iterator[list[Path]]:
    """Inside, folders of published data stand as folders of studies; others are as they are."""
    with TemporaryDirectory() as scratch:
        places = [Path(scratch, str(n), f.resolve().name) for n, f in enumerate(folders)]
        both = zip(folders, places, strict=True)
        yield [_unpack(f, place) if is_published(f) else f for f, place in both]


def restore(published: Path, folder: Path, study: str, plan: Plan) -> int:
    """Put the finished runs of a published study into its folder, but for those that are there.

    Those that the plan wants with other settings are left out. Returns how many came. ConfigError
    if there is no data of this study.
    """
    with unpacked([published]) as (place,):
        if place == published:
            raise ConfigError(f"'{published}' holds no data of a published study")
        if (found := read_plan(place)["study"]) != study:
            raise ConfigError(f"'{published}' holds data of study {found!r}, not of {study!r}")
        wanted = [run for run in find(place) if run.config == plan.get(run.name, run.config)]
        with lock(folder):  # not before, so that wrong data leave no folder
            came = [run for run in wanted if not (folder / run.name).exists()]
            for run in came:  # each whole or not at all, should this process be killed
                half = folder / f".{run.name}"
                shutil.rmtree(half, ignore_errors=True)
                shutil.copytree(run.folder, half).rename(folder / run.name)
            if not (folder / "study.json").exists():
                shutil.copy(place / "study.json", folder)
        return len(came)


def _unpack(published, folder):
    try:
        runs = _read(published, "runs")
        plan, *rows = runs.to_dict("records")
        folder.mkdir(parents=True)
        files.write_text(folder / "study.json", plan["config"])
        for row in rows:
            place = folder / _name(row["run"])
            (place / "filters").mkdir(parents=True)
            for name in JSON:
                files.write_text(place / f"{name}.json", row[name])
        for name in (*TABLES, *OF_ONE):
            table = _read(published, name)
            found = dict(iter(table.groupby("run")))
            # A run of tied weights has gradients, but no row of them is shown.
            tied = runs["run"][1:] if name == "gradient_flow" and len(table.columns) > 1 else ()
            for run in {*tied, *found}:
                text = found.get(run, table[:0]).drop(columns="run").to_csv(index=False)
                files.write_text(folder / _name(run) / f"{name}.csv", text)
        for row in _read(published, "filters").to_dict("records"):
            path = folder / _name(row["run"]) / "filters" / _name(row["file"])
            files.write_bytes(path, base64.b64decode(row["png"]))
        for row in _read(published, "samples").to_dict("records"):
            files.write_text(folder / _name(row["run"]) / "samples.txt", row["text"])
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        raise ConfigError(f"'{published}' holds no data of a study: {error!r}") from None
    return folder


def _read(published, name):
    path = published / f"{name}{ENDING}"
    if not path.exists():
        return pd.DataFrame(columns=["run"])
    if name in (*TABLES, *OF_ONE):
        return read_table(path, also=("run",))
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def _name(text):
    """A name from such a file; what would lead out of the folder is refused."""
    if Path(text).name != text or text in ("", ".", ".."):
        raise ValueError(f"{text!r} is no name of a file")
    return text
