"""GridLSTM3D beside the same cell by cell, and beside a convolutional network.

    python benchmarks/image_grids.py [--tables steps growth] [--output FOLDER]

KERAS_BACKEND chooses the backend; `--jit` compiles with XLA on TensorFlow. Two layers on patches of
2 x 2, from one corner, Adam.

`steps`: milliseconds of a training step on 28 x 28 images, side by side (see
`measure.interleaved`); `ratio_cells` and `ratio_cnn` are those of the others divided by those of
GridLSTM3D, medians over the rounds: above 1, GridLSTM3D is faster. Cell by cell, which gives the
same outputs, has one loop over rows and in it one over columns; the products with h_D are made for
all positions at once there, too. The CNN is `models.cnn_classifier(connection="residual")` with at
most as many parameters.

`growth`: seconds of the first step less those of the fifth, milliseconds of a step, and the peak of
memory, each size and depth in a process of its own.
"""

import argparse
import json
import os
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import measure
import numpy as np
import pandas as pd
from keras import ops

from keras_deeplstm import models
from keras_deeplstm.layers import GridLSTM3D
from keras_deeplstm.layers.gates import gates
from keras_deeplstm.layers.scan import product, scan

BACKEND = keras.backend.backend()
DEPTH, CLASSES = 2, 10
SIZES = [(16, 8), (64, 64)]  # units, batch
GROWTH = [(28, 2), (56, 2), (112, 2), (28, 10), (28, 50)]  # height and width, depth
GROWTH_UNITS, GROWTH_BATCH = 16, 8


class CellByCell(GridLSTM3D):
    """The same numbers, with one step for each cell, as the equations stand."""

    def _along_both(self, h_D, w, flips, valid):
        kernels = [w[f"{direction}_kernel"] for direction in ("row", "column")]
        biases = [w[f"{direction}_bias"] for direction in ("row", "column")]
        z = product(h_D, ops.concatenate(kernels, axis=-1)) + ops.concatenate(biases, axis=-1)
        activations = self.activation, self.recurrent_activation

        def cell(left, at):
            z, above_h, above_c = at
            z_R, z_C = ops.split(z, 2, axis=-1)
            h_C, c_C = left
            z_R = z_R + ops.matmul(above_h, w["row_recurrent_kernel"])
            z_R = z_R + ops.matmul(h_C, w["row_cross_kernel"])
            z_C = z_C + ops.matmul(h_C, w["column_recurrent_kernel"])
            z_C = z_C + ops.matmul(above_h, w["column_cross_kernel"])
            return gates(z_C, c_C, *activations), gates(z_R, above_c, *activations)

        def row(above, z):
            zeros = ops.zeros_like(above[0][0])
            start = (zeros, zeros)
            _, h_C, below = scan(cell, start, (z, *above), ops.shape(z)[0], return_hidden=True)
            return below, h_C

        zeros = ops.zeros((*ops.shape(z)[2:4], self.units), z.dtype)
        _, h_R, h_C = scan(row, (zeros, zeros), z[0], ops.shape(z)[1], return_hidden=True)
        return ops.concatenate([h_R, h_C], axis=-1)[None]


def grid(layer_class, side, units, depth):
    images = keras.Input((side, side, 1))
    x = layer_class(units, depth, patches=(2, 2), seed=0)(images)
    return keras.Model(images, keras.layers.Dense(CLASSES)(x))


def training_step(model, batch, jit):
    """A function that trains one step."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-3), loss, jit_compile=jit)
    rng = np.random.default_rng(0)
    x = rng.random((batch, *model.input_shape[1:])).astype("float32")
    y = np.arange(batch) % CLASSES
    return lambda: model.train_on_batch(x, y)


def step_row(units, batch, jit, rounds, seconds):
    ours, cells = (grid(kind, 28, units, DEPTH) for kind in (GridLSTM3D, CellByCell))
    cells.set_weights(ours.get_weights())
    x = np.random.default_rng(1).random((2, 28, 28, 1)).astype("float32")
    np.testing.assert_allclose(ours.predict_on_batch(x), cells.predict_on_batch(x), atol=1e-5)
    options = {"connection": "residual", "depth": 10, "parameters": ours.count_params()}
    contenders = {
        "GridLSTM3D": ours,
        "cells": cells,
        "cnn": models.cnn_classifier((28, 28, 1), CLASSES, **options),
    }
    steps = {name: training_step(model, batch, jit) for name, model in contenders.items()}
    times = measure.interleaved(steps, rounds, seconds)
    return {
        **{"units": units, "batch": batch},
        **{f"{name}_parameters": model.count_params() for name, model in contenders.items()},
        **{f"{name}_ms": 1000 * float(np.median(found)) for name, found in times.items()},
        "ratio_cells": measure.ratio(times["cells"], times["GridLSTM3D"]),
        "ratio_cnn": measure.ratio(times["cnn"], times["GridLSTM3D"]),
    }


def growing(side, depth, jit):
    """The row of one size and depth, measured in this process."""
    before = measure.memory()
    step = training_step(grid(GridLSTM3D, side, GROWTH_UNITS, depth), GROWTH_BATCH, jit)
    seconds = []
    for _ in range(5):
        begun = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - begun)
    return {
        "compile_s": seconds[0] - seconds[-1],
        "step_ms": 1000 * float(np.median(seconds[1:])),
        "memory_mb": measure.peak_memory() - before,
    }


def growth_row(side, depth, jit):
    line = measure.in_a_process(__file__, "--one", side, depth, *(["--jit"] if jit else []))
    return {"side": side, "depth": depth, **(json.loads(line) if line else {})}


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--tables", nargs="+", choices=("steps", "growth"), default=("steps", "growth")
    )
    parser.add_argument("--output", type=Path, help="folder for the tables")
    parser.add_argument("--jit", action="store_true", help="on TensorFlow: compile with XLA")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=60, help="for one size")
    parser.add_argument("--one", type=int, nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    jit = {"tensorflow": arguments.jit, "jax": True, "torch": False}[BACKEND]
    if arguments.one:
        print(json.dumps(growing(*arguments.one, jit)))
        return
    tables = {
        "steps": [(step_row, size, (arguments.rounds, arguments.seconds)) for size in SIZES],
        "growth": [(growth_row, size, ()) for size in GROWTH],
    }
    for table in arguments.tables:
        rows = []
        for measured, size, options in tables[table]:
            rows.append(measured(*size, jit, *options))
            write(rows, table, jit, arguments.output)


def write(rows, table, jit, folder):
    """Print what there is so far, and keep it."""
    frame = pd.DataFrame(rows)
    frame.insert(0, "jit_compile", jit)
    frame.insert(0, "backend", BACKEND)
    frame["machine"] = measure.MACHINE
    print(frame.round(3).to_string(index=False), flush=True)
    if folder:
        xla = "-xla" if jit and BACKEND == "tensorflow" else ""
        frame.round(3).to_csv(folder / f"image-grids-{table}-{BACKEND}{xla}.csv", index=False)


if __name__ == "__main__":
    main()
