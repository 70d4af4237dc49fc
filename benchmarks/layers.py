"""Time and memory of a training step: our layers beside other ways to write them.

    python benchmarks/layers.py [--tables grid depth tied] [--before CHECKOUT] [--output FOLDER]

KERAS_BACKEND chooses the backend; `--jit` compiles with XLA on TensorFlow. All contenders of a size
train side by side (see `measure.interleaved`). `ratio` is the contender's time divided by that of
our layer in the same round: above 1, ours is faster. The first training step traces and compiles;
`again_s` is what that takes a second time, in memory that is already there. `memory_mb` is the peak
of later steps, in a process of its own, above what it had before the model was made.

Floors: `products` makes nothing but the matrix products of the step, one after the other; `machine`
is the number of operations of the step, divided by the rate of one large product in the same round;
`torch.nn.LSTM` has twice the layers, which is the same arithmetic, and beside another backend it
runs in a process of its own that takes turns. `before` is our layer in another checkout, in such a
process as well, and `loop` our layer without the fused kernel, where there is one.
"""

import argparse
import json
import os
import statistics
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import measure
import numpy as np
import peers
from keras import ops

from keras_deeplstm.layers import GridLSTM2D, UnfoldedLSTMBlock

BACKEND = keras.backend.backend()
# layers, units, time, batch
GRID_SIZES = [(3, 128, 50, 50), (6, 256, 50, 50)]
# For the growth of memory only: twice the time, twice the layers.
MEMORY_SIZES = [(3, 128, 100, 50), (6, 128, 50, 50)]
DEPTHS = (10, 30, 100, 300, 1000)
DEPTH_UNITS, DEPTH_BATCH, DEPTH_FEATURES = 100, 128, 64
# depth, units, batch
TIED_SIZES = [(d, u, b) for d in (100, 1000) for u, b in ((16, 8), (128, 128), (256, 128))]
LARGE = 2048  # rows and columns of the large product
CHAIN_LIMIT = 90  # seconds for the first step of the chain and what follows


# GridLSTM2D.


def grid_layers(contender, layers, units):
    def lstms(number):
        return [keras.layers.LSTM(units, return_sequences=True) for _ in range(number)]

    if contender == "GridLSTM2D":
        return [GridLSTM2D(units, layers, return_sequences=True)]
    if contender == "cell by cell":
        return [keras.layers.RNN(peers.GridCell(units, layers), return_sequences=True)]
    return lstms(layers if contender == "stacked LSTM" else 2 * layers)


GRID_CONTENDERS = ("GridLSTM2D", "cell by cell", "stacked LSTM", "double stack")


def grid_step(contender, size, jit):
    """A function that trains one step, and its model."""
    layers, units, length, batch = size
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((length, units)), *grid_layers(contender, layers, units)])
    x = np.random.default_rng(0).normal(size=(batch, length, units)).astype("float32")
    return training_step(model, x, np.zeros((batch, length, units), "float32"), jit), model, x


def training_step(model, x, y, jit):
    model.compile(keras.optimizers.SGD(0.01), "mse", jit_compile=jit)
    model.optimizer.build(model.trainable_variables)
    return lambda: model.train_on_batch(x, y)


def torch_lstm_step(layers, units, length, batch):
    """A training step of `torch.nn.LSTM`."""
    import torch

    lstm = torch.nn.LSTM(units, units, layers)
    optimizer = torch.optim.SGD(lstm.parameters(), 0.01)
    x = torch.randn(length, batch, units)

    def step():
        optimizer.zero_grad()
        loss = lstm(x)[0].square().mean()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def products_of_grid(layers, units, length, batch):
    """Operations of a training step: forwards, and twice as many backwards."""
    return 3 * 2 * batch * length * layers * 4 * units * 4 * units


def large_product():
    """A function that multiplies two large matrices, and waits."""
    x = np.random.default_rng(0).normal(size=(LARGE, LARGE)).astype("float32")
    return peers.compiled(lambda x: ops.matmul(x, x), x, jit=False)


def with_loop(step):
    """The same step where no kernel is fused."""
    from keras_deeplstm.layers import kernels  # which an older checkout does not have

    def run():
        original = kernels.can_be_fused
        kernels.can_be_fused = lambda *tensors: False
        step()
        kernels.can_be_fused = original

    return run


def grid_rows(size, jit, rounds, seconds, before):
    steps, models = {}, {}
    for contender in GRID_CONTENDERS:
        steps[contender], models[contender], x = grid_step(contender, size, jit)
    cell = models["cell by cell"].layers[0].cell
    cell.take_weights(models["GridLSTM2D"].layers[0])
    outputs = [models[name].predict(x[:2], verbose=0) for name in ("GridLSTM2D", "cell by cell")]
    np.testing.assert_allclose(*outputs, atol=1e-4)
    steps["products"] = peers.grid_floor(x.swapaxes(0, 1), *size, jit)
    steps["machine"] = large_product()
    double, others = (2 * size[0], *size[1:]), {}
    if BACKEND == "torch":
        steps["loop"] = with_loop(grid_step("GridLSTM2D", size, jit)[0])
        steps["torch.nn.LSTM"] = torch_lstm_step(*double)
    else:
        others["torch.nn.LSTM"] = measure.Elsewhere(__file__, "torch.nn.LSTM", *double)
    if before:
        arguments = "GridLSTM2D", *size, *(["--jit"] if jit else [])
        others["before"] = measure.Elsewhere(__file__, *arguments, PYTHONPATH=str(before))
    times = measure.interleaved(steps | others, rounds, seconds=seconds)
    for other in others.values():
        other.end()
    operations = products_of_grid(*size) / (2 * LARGE**3)
    times["machine"] = [operations * second for second in times["machine"]]
    return rows_of(
        times,
        "GridLSTM2D",
        dict(zip(("layers", "units", "time", "batch"), size, strict=True)),
        lambda name: peak("grid", name, size, jit) if name in GRID_CONTENDERS else None,
    )


# UnfoldedLSTMBlock.


def depth_model(contender, depth):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((DEPTH_FEATURES,))
    if contender == "UnfoldedLSTMBlock":
        block = UnfoldedLSTMBlock(DEPTH_UNITS, depth)
    else:
        block = peers.depth_chain(DEPTH_UNITS, depth)
    return keras.Model(inputs, block(inputs))


def depth_step(contender, depth, jit):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(DEPTH_BATCH, DEPTH_FEATURES)).astype("float32")
    model = depth_model(contender, depth)
    y = np.zeros((DEPTH_BATCH, DEPTH_UNITS), "float32")
    return training_step(model, x, y, jit), model, x


def timed(function):
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def depth_rows(depth, jit, rounds, seconds, with_chain=True):
    """Rows of one depth. The chain is left out where it fails or takes too long."""
    arguments = ["--depth", depth, *(["--jit"] if jit else [])]
    arguments += ["--rounds", rounds, "--seconds", seconds]
    for contenders in ("both", "ours") if with_chain else ("ours",):
        printed = measure.in_a_process(
            __file__, *arguments, "--contenders", contenders, limit=CHAIN_LIMIT
        )
        if printed:
            return json.loads(printed)
    raise RuntimeError(f"No contender can be measured at depth {depth}")


def measure_depth(depth, jit, rounds, seconds, with_chain):
    keras.utils.set_random_seed(0)
    depth_step("UnfoldedLSTMBlock", 2, jit)[0]()  # what the backend loads once
    names = ["UnfoldedLSTMBlock", *(["chain"] if with_chain else [])]
    steps, models, first = {}, {}, {}
    for name in names:
        started = time.perf_counter()
        steps[name], models[name], x = depth_step(name, depth, jit)
        steps[name]()
        first[name] = time.perf_counter() - started
    if with_chain:
        chain = [layer for layer in models["chain"].layers if layer.weights]
        block = models["UnfoldedLSTMBlock"].layers[-1]
        peers.take_weights_of_block(chain, block)
        np.testing.assert_allclose(
            *(model.predict(x[:2], verbose=0) for model in models.values()), atol=1e-4
        )
    steps["products"] = peers.depth_floor(x, depth, DEPTH_UNITS, DEPTH_BATCH, jit)
    times = measure.interleaved(steps, rounds, seconds=seconds)
    rows = rows_of(
        times,
        "UnfoldedLSTMBlock",
        {"depth": depth, "units": DEPTH_UNITS, "batch": DEPTH_BATCH},
        lambda name: peak("depth", name, [depth], jit) if name in names else None,
    )
    for row in rows:
        name = row["contender"]
        if name in names:
            models[name].make_train_function(force=True)
            row["first_step_s"] = first[name]
            row["again_s"] = timed(steps[name]) - statistics.median(times[name])
    return rows


# The tied UnfoldedLSTMBlock, on torch: fused against the loop.


def tied_rows(size, jit, rounds, seconds):
    depth, units, batch = size
    steps = {}
    for name in ("UnfoldedLSTMBlock, tied", "loop"):
        keras.utils.set_random_seed(0)
        inputs = keras.Input((units,))
        model = keras.Model(inputs, UnfoldedLSTMBlock(units, depth, tied=True)(inputs))
        x = np.random.default_rng(0).normal(size=(batch, units)).astype("float32")
        steps[name] = training_step(model, x, np.zeros((batch, units), "float32"), jit)
    steps["loop"] = with_loop(steps["loop"])
    times = measure.interleaved(steps, rounds, seconds=seconds)
    columns = {"depth": depth, "units": units, "batch": batch}
    return rows_of(times, "UnfoldedLSTMBlock, tied", columns, lambda name: None)


# All.


def rows_of(times, ours, columns, memory):
    rows = []
    for name, seconds in times.items():
        rows.append(
            {
                **columns,
                "contender": name,
                "step_ms": 1e3 * statistics.median(seconds),
                "ratio": measure.ratio(seconds, times[ours]),
                "memory_mb": memory(name),
            }
        )
    return rows


def peak(table, contender, size, jit):
    arguments = ["--peak", table, contender, *size]
    printed = measure.in_a_process(__file__, *arguments, *(["--jit"] if jit else []), limit=900)
    return float(printed) if printed else None


def print_peak(table, contender, *size, jit):
    """The peak of memory in MB of two training steps after the first one, which compiles."""
    ops.convert_to_numpy(ops.matmul(ops.ones((64, 64)), ops.ones((64, 64))))
    before = measure.memory()
    size = [int(number) for number in size]
    if table == "grid":
        step = grid_step(contender, size, jit)[0]
    else:
        step = depth_step(contender, *size, jit)[0]
    step()
    measure.forget_peak()
    step()
    step()
    print(measure.peak_memory() - before)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tables", nargs="+", default=["grid", "depth"])
    parser.add_argument("--before", type=Path, help="a checkout of an older version")
    parser.add_argument("--output", type=Path, help="folder for the tables")
    parser.add_argument("--jit", action="store_true", help="on TensorFlow: compile with XLA")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument(
        "--seconds", type=float, default=45, help="for one size; six rounds at least"
    )
    parser.add_argument("--depths", type=int, nargs="+", default=DEPTHS)
    parser.add_argument("--peak", nargs="+", help=argparse.SUPPRESS)
    parser.add_argument("--serve", nargs="+", help=argparse.SUPPRESS)
    parser.add_argument("--depth", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--contenders", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    jit = {"tensorflow": arguments.jit, "jax": True, "torch": False}[BACKEND]
    if arguments.peak:
        print_peak(*arguments.peak, jit=jit)
        return
    if arguments.serve:
        name, size = arguments.serve[0], tuple(map(int, arguments.serve[1:]))
        theirs = name == "torch.nn.LSTM"
        measure.serve(torch_lstm_step(*size) if theirs else grid_step(name, size, jit)[0])
        return
    limits = arguments.rounds, arguments.seconds
    if arguments.depth:
        with_chain = arguments.contenders == "both"
        print(json.dumps(measure_depth(arguments.depth, jit, *limits, with_chain)))
        return
    if "grid" in arguments.tables:
        rows = []
        for size in GRID_SIZES:
            rows += grid_rows(size, jit, *limits, arguments.before)
            measure.write(rows, "grid", BACKEND, jit, arguments.output)
        for size in MEMORY_SIZES:
            columns = dict(zip(("layers", "units", "time", "batch"), size, strict=True))
            memory = peak("grid", "GridLSTM2D", size, jit)
            rows.append({**columns, "contender": "GridLSTM2D", "memory_mb": memory})
            measure.write(rows, "grid", BACKEND, jit, arguments.output)
    if "tied" in arguments.tables:
        rows = []
        for size in TIED_SIZES:
            rows += tied_rows(size, jit, *limits)
            measure.write(rows, "tied", BACKEND, jit, arguments.output)
    if "depth" in arguments.tables:
        rows, with_chain = [], True
        for depth in arguments.depths:
            found = depth_rows(depth, jit, *limits, with_chain)
            # What takes too long takes too long at any greater depth.
            with_chain = "chain" in [row["contender"] for row in found]
            rows += found
            measure.write(rows, "depth", BACKEND, jit, arguments.output)


if __name__ == "__main__":
    main()
