"""Characters per second of training: the Grid LSTM paper's Wikipedia model, and what a run costs.

    python benchmarks/throughput.py [--output FILE]      (KERAS_BACKEND chooses the backend)

The model is the paper's (arXiv 1507.01526) as far as we know it: a tied 2-LSTM of 6 layers with
1,000 units and depth-first priority over 205 symbols, inputs projected into hidden state and
memory, both read out; 16.8 million parameters. The symbols are random: the time of a step does not
depend on them.
"""

import argparse
import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import pandas as pd
from measure import MACHINE

from keras_deeplstm.layers import GridLSTM2D

SYMBOLS = 205
CHARACTERS = 100_000_000  # of Wikipedia, in one pass


def wikipedia_model(units, depth):
    inputs = keras.Input((None, SYMBOLS))
    block = GridLSTM2D(
        units, depth, tied=True, project_inputs="both", output="both", return_sequences=True
    )
    return keras.Model(inputs, keras.layers.Dense(SYMBOLS)(block(inputs)))


def measure(units, depth, batch, length, steps):
    keras.utils.set_random_seed(0)
    model = wikipedia_model(units, depth)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.RMSprop(1e-3), loss)
    symbols = np.random.default_rng(0).integers(0, SYMBOLS, (batch, length + 1))
    x, y = np.eye(SYMBOLS, dtype="float32")[symbols[:, :-1]], symbols[:, 1:]
    seconds = []
    for _ in range(steps + 1):
        started = time.perf_counter()
        model.train_on_batch(x, y)
        seconds.append(time.perf_counter() - started)
    step = statistics.median(seconds[1:])
    rate = batch * length / step
    return {
        "backend": keras.backend.backend(),
        "units": units,
        "depth": depth,
        "batch": batch,
        "length": length,
        "parameters": model.count_params(),
        "first_step_s": seconds[0],
        "step_s": step,
        "characters_per_s": rate,
        "hours_for_100M": CHARACTERS / rate / 3600,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", help="CSV file for the table")
    parser.add_argument("--units", type=int, default=1000)
    parser.add_argument("--depth", type=int, default=6)
    parser.add_argument("--batch", type=int, nargs="+", default=(50,))
    parser.add_argument("--length", type=int, default=50)
    parser.add_argument("--steps", type=int, default=5, help="later steps to take the median of")
    arguments = parser.parse_args()
    rows = []
    for batch in arguments.batch:
        size = (arguments.units, arguments.depth, batch, arguments.length)
        rows.append(measure(*size, arguments.steps))
        print(rows[-1], flush=True)
    table = pd.DataFrame(rows)
    table["machine"] = MACHINE
    if arguments.output:
        table.round(3).to_csv(arguments.output, index=False)


if __name__ == "__main__":
    main()
