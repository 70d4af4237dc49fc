"""GridLSTM3D beside the same cell by cell, in two forms, and beside a convolutional network.

    python benchmarks/image_grids.py [--tables steps growth] [--output FOLDER]

KERAS_BACKEND chooses the backend; `--jit` compiles with XLA on TensorFlow. Two layers on patches of
2 x 2, from one corner, Adam.

`steps`: milliseconds of a training step on 28 x 28 images, side by side (see
`measure.interleaved`); `ratio_rnn`, `ratio_loops` and `ratio_cnn` are those of the others divided
by those of GridLSTM3D, medians over the rounds: above 1, GridLSTM3D is faster. The first two give
the same outputs, cell by cell. `rnn` is what Keras offers: a layer of the grid is a
`keras.layers.RNN` over rows, whose cell runs one over columns, whose cell computes the equations.
`loops` has only the recurrent products in its two loops, by `scan` of this package; those with h_D
and the depth LSTM it computes for all positions at once, as GridLSTM3D does. The CNN is
`models.cnn_classifier(connection="residual")` with at most as many parameters.

`growth`: seconds of the first step less those of the fifth, milliseconds of a step, and the peak of
memory, each size and depth in a process of its own.
"""

import argparse
import functools
import json
import os
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import measure
import numpy as np
from keras import ops

from keras_deeplstm import models
from keras_deeplstm.layers import GridLSTM3D
from keras_deeplstm.layers.gates import gates
from keras_deeplstm.layers.probes import Probe, probing
from keras_deeplstm.layers.scan import product, scan

BACKEND = keras.backend.backend()
DEPTH, CLASSES = 2, 10
SIZES = [(16, 8), (64, 64)]  # units, batch
GROWTH = [(28, 2), (56, 2), (112, 2), (28, 10), (28, 50)]  # height and width, depth
GROWTH_UNITS, GROWTH_BATCH = 16, 8


lstm = functools.partial(gates, activation=ops.tanh, recurrent_activation=ops.sigmoid)


class Cell(keras.layers.Layer):
    """The three LSTMs of a cell of one layer, for an RNN over columns."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units, self.state_size, self.output_size = units, [units, units], 4 * units

    def build(self, shape):
        units = self.units
        rows = {"kernel": units, "recurrent_kernel": units, "cross_kernel": units}
        depth = {"kernel": 2 * units, "recurrent_kernel": units}
        for direction, sizes in {"row": rows, "column": rows, "depth": depth}.items():
            for part, size in sizes.items():
                name = f"{direction}_{part}"
                setattr(self, name, self.add_weight((size, 4 * units), name=name))
            name = f"{direction}_bias"
            setattr(self, name, self.add_weight((4 * units,), name=name))

    def call(self, inputs, states):
        h_D, c_D, above_h, above_c = ops.split(inputs, 4, axis=-1)
        left_h, left_c = states
        z = ops.matmul(h_D, self.row_kernel) + self.row_bias
        z = z + ops.matmul(above_h, self.row_recurrent_kernel)
        h_R, c_R = lstm(z + ops.matmul(left_h, self.row_cross_kernel), above_c)
        z = ops.matmul(h_D, self.column_kernel) + self.column_bias
        z = z + ops.matmul(left_h, self.column_recurrent_kernel)
        h_C, c_C = lstm(z + ops.matmul(above_h, self.column_cross_kernel), left_c)
        z = ops.matmul(ops.concatenate([h_R, h_C], axis=-1), self.depth_kernel) + self.depth_bias
        h_D, c_D = lstm(z + ops.matmul(h_D, self.depth_recurrent_kernel), c_D)
        return ops.concatenate([h_D, c_D, h_R, c_R], axis=-1), [h_C, c_C]


class RowOfCells(keras.layers.Layer):
    """A row of cells of one layer, for an RNN over rows: its states are those of the columns."""

    def __init__(self, units, columns, **kwargs):
        super().__init__(**kwargs)
        self.columns, self.units = columns, units
        self.state_size, self.output_size = [columns * units] * 2, columns * 2 * units
        self.cells = keras.layers.RNN(Cell(units), return_sequences=True)

    def build(self, shape):
        self.cells.build((shape[0], self.columns, 4 * self.units))

    def call(self, inputs, states):
        parts = [inputs, *states]
        parts = [ops.reshape(p, (-1, self.columns, p.shape[-1] // self.columns)) for p in parts]
        output = self.cells(ops.concatenate(parts, axis=-1))
        below, h_R, c_R = ops.split(output, [2 * self.units, 3 * self.units], axis=-1)
        return keras.tree.map_structure(
            lambda part: ops.reshape(part, (-1, self.columns * part.shape[-1])), (below, [h_R, c_R])
        )


def nested_rnns(side, units, depth):
    """The model of `grid`, as nested RNNs of Keras."""
    images = keras.Input((side, side, 1))
    places = side // 2
    x = keras.layers.Reshape((places, 2, places, 2))(images)
    x = keras.layers.Reshape((places, places, 4))(keras.layers.Permute((1, 3, 2, 4))(x))
    x = keras.layers.Dense(units)(x)
    x = keras.layers.Concatenate()([x, keras.layers.Lambda(ops.zeros_like)(x)])
    x = keras.layers.Reshape((places, places * 2 * units))(x)
    for _ in range(depth):
        x = keras.layers.RNN(RowOfCells(units, places), return_sequences=True)(x)
    x = keras.layers.Reshape((places * places, 2 * units))(x)
    h_D = keras.layers.Lambda(lambda x: x[:, -1, :units])(x)
    return keras.Model(images, keras.layers.Dense(CLASSES)(h_D))


def copy_weights(grid, nested):
    """Give nested RNNs the weights of a GridLSTM3D."""
    (layer,) = (layer for layer in grid.layers if isinstance(layer, GridLSTM3D))
    values = {weight.name: ops.convert_to_numpy(weight) for weight in layer.weights}
    projection, *rnns, readout = (layer for layer in nested.layers if layer.weights)
    projection.set_weights([values["hidden_kernel"], values["hidden_bias"]])
    for number, rnn in enumerate(rnns):
        for weight in rnn.weights:
            weight.assign(values[weight.name][number])
    readout.set_weights(grid.layers[-1].get_weights())


class Loops(GridLSTM3D):
    """The same numbers, with one step for each cell in the loops over rows and columns."""

    def call(self, images):
        with probing({self: {"depth": Probe()}}):  # grids from layer to layer
            return super().call(images)

    def _diagonals(self, grid, flips, columns):
        return grid

    _grids = _diagonals

    def _along_both(self, h_D, w, columns):
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
    ours, loops = (grid(kind, 28, units, DEPTH) for kind in (GridLSTM3D, Loops))
    loops.set_weights(ours.get_weights())
    rnn = nested_rnns(28, units, DEPTH)
    copy_weights(ours, rnn)
    x = np.random.default_rng(1).random((2, 28, 28, 1)).astype("float32")
    for other in (loops, rnn):
        np.testing.assert_allclose(ours.predict_on_batch(x), other.predict_on_batch(x), atol=1e-5)
    options = {"connection": "residual", "depth": 10, "parameters": ours.count_params()}
    contenders = {
        "GridLSTM3D": ours,
        "rnn": rnn,
        "loops": loops,
        "cnn": models.cnn_classifier((28, 28, 1), CLASSES, **options),
    }
    steps = {name: training_step(model, batch, jit) for name, model in contenders.items()}
    times = measure.interleaved(steps, rounds, seconds)
    return {
        **{"units": units, "batch": batch},
        **{f"{name}_parameters": model.count_params() for name, model in contenders.items()},
        **{f"{name}_ms": 1000 * float(np.median(found)) for name, found in times.items()},
        **{
            f"ratio_{name}": measure.ratio(times[name], times["GridLSTM3D"])
            for name in contenders
            if name != "GridLSTM3D"
        },
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
            measure.write(rows, f"image-grids-{table}", BACKEND, jit, arguments.output)


if __name__ == "__main__":
    main()
