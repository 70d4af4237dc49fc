"""Folders of finished runs with given results, without training."""

import base64
import math

import pandas as pd

from keras_deeplstm.experiments import runs
from keras_deeplstm.experiments.runs import files
from keras_deeplstm.experiments.settings.classifiers import RunConfig

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJg"
    "gg=="
)


def make_run(folder, model, start=1.0, end=1.0, accuracy=0.9, **settings):
    """A finished run whose gradient has a given first-to-last ratio, without training."""
    config = RunConfig("digits", model, epochs=2, **settings)
    runs.begin(folder, config, "deeplstm run digits")
    metrics = {"epoch": [1, 2], "loss": [2.3, 0.1], "accuracy": [0.1, 1.0]}
    metrics |= {"val_loss": [2.3, 0.2], "val_accuracy": [0.1, accuracy], "seconds": [1.0, 0.5]}
    files.write_text(folder / "metrics.csv", pd.DataFrame(metrics).to_csv(index=False))
    rows = [
        (step, "block", "recurrent_kernel", math.nan if model.tied else depth, "norm", norm)
        for step, ratio in ((1, start), (10, end))
        for depth, norm in ((2, ratio or 1.0), (3, 1.0))
    ]
    columns = ["step", "layer", "weight", "depth", "statistic", "value"]
    frame = pd.DataFrame(rows, columns=columns)
    files.write_text(folder / "gradient_flow.csv", frame.to_csv(index=False))
    (folder / "filters").mkdir()
    for epoch in (0, 1, 2):
        (folder / "filters" / f"epoch_{epoch:04d}.png").write_bytes(PIXEL)
    result = {"state": "finished", "test_accuracy": accuracy, "test_loss": 0.3, "epochs": 2}
    result |= {
        "val_accuracy": accuracy,
        "parameters": 1234,
        "seconds": 1.5,
        "seconds_per_epoch": 0.5,
    }
    result |= {"gradient_ratio_start": start, "gradient_ratio_end": end}
    files.write_json(folder / "result.json", result)
    return runs.load(folder)
