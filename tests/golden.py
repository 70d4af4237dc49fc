"""What a run's folder holds, without what no two runs have in common."""

import shutil
from pathlib import Path

import keras
import numpy as np
import pandas as pd

from keras_deeplstm.experiments.runs import files
from keras_deeplstm.experiments.training import train

OWN = ("seconds", "seconds_per_epoch", "symbols_per_second", "date")
OWN += ("resumed_after_epochs", "resumed_after_steps")


def whole_and_killed(config, folder: Path, name: str, moment: float) -> tuple[Path, Path]:
    """A run that nothing disturbs, and what a kill would have left of it at a moment.

    That is where the value called `name` in a row of `metrics.csv` is `moment`.
    """
    whole, killed = folder / "whole", folder / "run"

    def on_epoch(row):
        if row[name] == moment:
            shutil.copytree(whole, killed)

    train(config, whole, checkpoint_share=1, on_epoch=on_epoch)
    return whole, killed


def content(folder: Path) -> dict[str, object]:
    """All files by name; without times, and without how often the run was interrupted."""
    found = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): _content(path) for path in found}


def assert_same(folder: Path, reference: Path) -> None:
    """Raise unless two runs have ended with the same bits."""
    found, expected = content(folder), content(reference)
    assert list(found) == list(expected)
    for name in expected:
        assert found[name] == expected[name], name


def _content(path):
    if path.suffix == ".keras":
        weights = keras.models.load_model(path).weights
        return [np.asarray(keras.ops.convert_to_numpy(weight)).tobytes() for weight in weights]
    if path.suffix == ".json":
        data = files.read_json(path)
        return {key: value for key, value in data.items() if key not in OWN}
    if path.name == "metrics.csv":
        return pd.read_csv(path).drop(columns="seconds").to_csv()
    return path.read_bytes()
