"""Time of the layers: what the first training step costs, against the depth.

    python benchmarks/layers.py [--output FILE]          (KERAS_BACKEND chooses the backend)

The first step of a model traces and compiles it; later steps only compute. `overhead` is the first
step minus the median of the later ones. A scan over depth has the same overhead at any depth; a
chain of layers written out has not.
"""

import argparse
import os
import platform
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import pandas as pd

from keras_deeplstm import models

BATCH, FEATURES = 128, 64
DEPTHS = (10, 30, 100, 300, 1000)


def measure(depth, units, steps):
    keras.backend.clear_session()
    keras.utils.set_random_seed(0)
    started = time.perf_counter()
    model = models.classifier((FEATURES,), 10, depth=depth, units=units)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.optimizer.build(model.trainable_variables)
    build = time.perf_counter() - started
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(BATCH, FEATURES)).astype("float32"), rng.integers(0, 10, BATCH)
    seconds = []
    for _ in range(steps + 1):
        started = time.perf_counter()
        model.train_on_batch(x, y)
        seconds.append(time.perf_counter() - started)
    steady = statistics.median(seconds[1:])
    # Once more from the beginning, in memory that is already there.
    model.make_train_function(force=True)
    started = time.perf_counter()
    model.train_on_batch(x, y)
    again = time.perf_counter() - started - steady
    return {
        "backend": keras.backend.backend(),
        "units": units,
        "depth": depth,
        "build_s": build,
        "first_step_s": seconds[0],
        "later_step_s": steady,
        "overhead_s": seconds[0] - steady,
        "compiled_again_s": again,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", help="CSV file for the table")
    parser.add_argument("--depths", type=int, nargs="+", default=DEPTHS)
    parser.add_argument("--units", type=int, nargs="+", default=(32, 100))
    parser.add_argument("--steps", type=int, default=5, help="later steps to take the median of")
    parser.add_argument("--repeats", type=int, default=3, help="models to take the median of")
    arguments = parser.parse_args()
    measure(2, 4, 1)  # what the backend loads once is nobody's overhead
    rows = []
    for _ in range(arguments.repeats):
        for units in arguments.units:
            for depth in arguments.depths:
                rows.append(measure(depth, units, arguments.steps))
                print(rows[-1], flush=True)
    table = pd.DataFrame(rows).groupby(["backend", "units", "depth"], as_index=False).median()
    for column in ("overhead", "compiled_again"):
        shallowest = table.groupby("units")[f"{column}_s"].transform("first")
        table[f"{column}_ratio"] = table[f"{column}_s"] / shallowest
    table["machine"] = f"{platform.machine()}, {os.cpu_count()} cores"
    print(table.round(3).to_string(index=False))
    if arguments.output:
        table.round(4).to_csv(arguments.output, index=False)


if __name__ == "__main__":
    main()
