"""Attention connected by DepthLSTM beside a pre-norm Transformer of as many parameters.

    python benchmarks/depth_lstm.py [--tables compile steps] [--output FOLDER]

KERAS_BACKEND chooses the backend; `--jit` compiles with XLA on TensorFlow. Causal self-attention
over a context of 64, 4 heads, Adam. The Transformer is `Residual` of attention and of a part with
two Dense layers (units -> 4 units, relu -> units) in turn. One step of `DepthLSTM` and one layer of
the Transformer have 12 units^2 weights.

`compile`: seconds of the first training step, which traces and compiles, less those of the fifth;
each in a process of its own. "tied" has one attention and one LSTM for all steps, "loop" is that
with `unroll=False`. `steps`: milliseconds of a training step, side by side (see
`measure.interleaved`); `ratio` is DepthLSTM / Transformer, the median over the rounds.
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

from keras_deeplstm.layers import DepthLSTM, Residual

BACKEND = keras.backend.backend()
CONTEXT, HEADS = 64, 4
DEPTHS, COMPILED_UNITS, COMPILED_BATCH = (12, 48, 100), 64, 8
CONTENDERS = ("DepthLSTM", "Transformer", "tied", "loop")
# depth, units, batch
SIZES = [(12, 64, 32), (6, 256, 32), (36, 64, 8)]
LIMIT = 1500  # seconds for one process that compiles


def stack(contender, depth, units):
    def attention(step=None):
        return keras.layers.MultiHeadAttention(HEADS, units // HEADS)

    def feedforward():
        dense = keras.layers.Dense
        return keras.Sequential([dense(4 * units, activation="relu"), dense(units)])

    if contender == "DepthLSTM":
        return DepthLSTM(attention, depth)
    if contender == "Transformer":
        return Residual([part() for _ in range(depth) for part in (attention, feedforward)])
    return DepthLSTM(attention(), depth, tied=True, unroll=contender == "tied")


def training_step(contender, depth, units, batch, jit):
    """A function that trains one step, and the number of parameters."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((CONTEXT, units))
    outputs = stack(contender, depth, units)(inputs, use_causal_mask=True)
    model = keras.Model(inputs, outputs)
    model.compile(keras.optimizers.Adam(1e-3), "mse", jit_compile=jit)
    model.optimizer.build(model.trainable_variables)
    x, y = np.random.default_rng(0).normal(size=(2, batch, CONTEXT, units)).astype("float32")
    return lambda: model.train_on_batch(x, y), model.count_params()


def compiling(contender, depth, jit):
    """The row of one contender and depth, measured in this process."""
    step, parameters = training_step(contender, depth, COMPILED_UNITS, COMPILED_BATCH, jit)
    seconds = []
    for _ in range(5):
        begun = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - begun)
    return {"parameters": parameters, "compile_s": seconds[0] - seconds[-1]}


def compile_rows(depth, jit):
    options = ["--jit"] if jit else []
    for contender in CONTENDERS:
        if contender == "loop" and BACKEND == "torch":
            continue  # the same as "tied"
        arguments = "--one", contender, depth, *options
        line = measure.in_a_process(__file__, *arguments, limit=LIMIT)
        yield {"depth": depth, "contender": contender, **(json.loads(line) if line else {})}


def step_row(size, jit, rounds, seconds):
    steps, parameters = {}, {}
    for contender in ("DepthLSTM", "Transformer"):
        steps[contender], parameters[contender] = training_step(contender, *size, jit)
    times = measure.interleaved(steps, rounds, seconds)
    return {
        **dict(zip(("depth", "units", "batch"), size, strict=True)),
        **{f"{name}_parameters": count for name, count in parameters.items()},
        **{f"{name}_ms": 1000 * float(np.median(found)) for name, found in times.items()},
        "ratio": measure.ratio(times["DepthLSTM"], times["Transformer"]),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--tables", nargs="+", choices=("compile", "steps"), default=("steps", "compile")
    )
    parser.add_argument("--output", type=Path, help="folder for the tables")
    parser.add_argument("--jit", action="store_true", help="on TensorFlow: compile with XLA")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=60, help="for one size")
    parser.add_argument("--depths", type=int, nargs="+", default=DEPTHS)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    jit = {"tensorflow": arguments.jit, "jax": True, "torch": False}[BACKEND]
    if arguments.one:
        print(json.dumps(compiling(arguments.one[0], int(arguments.one[1]), jit)))
        return
    if "steps" in arguments.tables:
        rows = []
        for size in SIZES:
            rows.append(step_row(size, jit, arguments.rounds, arguments.seconds))
            measure.write(rows, "depth-lstm-steps", BACKEND, jit, arguments.output)
    if "compile" in arguments.tables:
        rows = []
        for depth in arguments.depths:
            for row in compile_rows(depth, jit):
                rows.append(row)
                measure.write(rows, "depth-lstm-compile", BACKEND, jit, arguments.output)


if __name__ == "__main__":
    main()
