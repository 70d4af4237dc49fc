"""What checkpoints and logs cost: their share of the training time of a run.

    python benchmarks/runs.py [--output FILE]        (MNIST: with DEEPLSTM_DATA or Keras' cache)

Both sides are measured in one and the same run: the time inside everything that a run adds to
plain `fit` after each epoch (`metrics.csv`, checkpoints, what the callbacks hand over for them),
against the time of the whole training. So the load of the machine falls on both alike.

`epoch_package_to_keras` compares, by turns in one process, epochs of `fit` on batches whose order
is a function of seed and epoch with epochs on arrays that Keras shuffles.
"""

import argparse
import os
import pathlib
import statistics
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import pandas as pd
from measure import MACHINE

from keras_deeplstm import models
from keras_deeplstm.experiments import RunConfig
from keras_deeplstm.experiments.settings.classifiers import ModelConfig
from keras_deeplstm.experiments.tasks import get_task
from keras_deeplstm.experiments.training import classifiers, session, train

# Epochs of the study `depth`, fewer at depth 100 on MNIST.
RUNS = [
    ("digits", 10, 64, 20),
    ("digits", 100, 64, 20),
    ("mnist", 10, 128, 3),
    ("mnist", 100, 128, 2),
]


def measure(task, depth, batch_size, epochs, share):
    """Train a run, and time what its journal does after each epoch."""
    config = RunConfig(task, ModelConfig(depth=depth), epochs=epochs, batch_size=batch_size)
    inside = {"logs": 0.0, "checkpoints": 0.0}
    written = []
    saved, ended = session.Journal._save, session.Journal.on_epoch_end

    def timed(kind, method):
        def call(self, epoch, *arguments):
            started = time.perf_counter()
            method(self, epoch, *arguments)
            inside[kind] += time.perf_counter() - started
            if kind == "checkpoints":
                newest = max((self.folder / "checkpoints").iterdir())
                written.append(newest.stat().st_size)

        return call

    session.Journal._save = timed("checkpoints", saved)
    session.Journal.on_epoch_end = timed("logs", ended)
    try:
        with tempfile.TemporaryDirectory() as folder:
            result = train(config, pathlib.Path(folder) / "run", checkpoint_share=share)
    finally:
        session.Journal._save, session.Journal.on_epoch_end = saved, ended
    inside["logs"] -= inside["checkpoints"]  # it is called in there
    return {
        "task": task,
        "depth": depth,
        "epochs": epochs,
        "checkpoints": len(written),
        "megabytes_each": written[-1] / 1e6,
        "training_s": result["seconds"],
        "logs_s": inside["logs"],
        "checkpoints_s": inside["checkpoints"],
        "share": sum(inside.values()) / result["seconds"],
    }


def order_of_data(task, depth, batch_size, epochs):
    """Median epoch with the package's order of the data, divided by that with Keras' shuffling."""
    config = get_task(task)
    x, y = config.load(None).train
    model = models.classifier(config.input_shape, config.num_classes, depth=depth, units=100)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    data = classifiers.Shuffled(x, y, batch_size, 0)
    seconds = {"package": [], "Keras": []}
    for epoch in range(epochs + 1):
        for side, arguments in (
            ("package", {"x": data, "shuffle": False}),
            ("Keras", {"x": x, "y": y, "batch_size": batch_size}),
        ):
            started = time.perf_counter()
            model.fit(**arguments, epochs=1, verbose=0)
            if epoch:  # the first one compiles
                seconds[side].append(time.perf_counter() - started)
    return statistics.median(seconds["package"]) / statistics.median(seconds["Keras"])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", help="CSV file for the table")
    parser.add_argument("--tasks", nargs="+", default=("digits", "mnist"))
    parser.add_argument("--share", type=float, default=session.CHECKPOINT_SHARE)
    arguments = parser.parse_args()
    # What is loaded once is no part of any run.
    measure("digits", 2, 64, 1, arguments.share)
    rows = []
    for task, depth, batch_size, epochs in RUNS:
        if task in arguments.tasks:
            row = measure(task, depth, batch_size, epochs, arguments.share)
            if depth == 10:
                row["epoch_package_to_keras"] = order_of_data(task, depth, batch_size, epochs)
            rows.append(row)
            print(row, flush=True)
    table = pd.DataFrame(rows).round(4)
    table["machine"] = MACHINE
    table["backend"] = keras.backend.backend()
    print(table.to_string(index=False))
    if arguments.output:
        table.to_csv(arguments.output, index=False)


if __name__ == "__main__":
    main()
