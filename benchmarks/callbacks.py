"""What the callbacks cost: training step time with each, against the step without any.

    python benchmarks/callbacks.py [--output FILE]          (KERAS_BACKEND chooses the backend)

All variants of a model train side by side: each round gives every variant the same number of
steps, and the cost is the median over the rounds of its time divided by that of `off` in the same
round, minus one. What the callback does at the end of an epoch is part of each round.

Memory is the peak of a process of its own that trains one variant, minus that of `off`.
"""

import argparse
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import pandas as pd
from keras import ops

from keras_deeplstm.callbacks import DivergenceGuard, GradientFlow
from keras_deeplstm.callbacks.gradient_flow import STATISTICS
from keras_deeplstm.layers import GridLSTM2D, UnfoldedLSTMBlock

STEPS = 10  # in a round
SECONDS = 50  # for one model; at least six rounds


def mlp():
    layers = [keras.layers.Dense(512, activation="relu") for _ in range(4)]
    return [keras.Input((784,)), *layers], (128, 784)


MODELS = {
    "MLP 4 x 512, batch 128": mlp,
    "MLP 4 x 512, batch 8": lambda: (mlp()[0], (8, 784)),
    "keras LSTM 256, 50 steps, batch 64": lambda: (
        [keras.Input((50, 64)), keras.layers.LSTM(256)],
        (64, 50, 64),
    ),
    "UnfoldedLSTMBlock depth 30, 100 units, batch 128": lambda: (
        [keras.Input((784,)), UnfoldedLSTMBlock(100, 30)],
        (128, 784),
    ),
    "GridLSTM2D 3 x 256, 50 steps, batch 64": lambda: (
        [keras.Input((50, 64)), GridLSTM2D(256, 3)],
        (64, 50, 64),
    ),
}


class SecondBackward(keras.callbacks.Callback):
    """What tools do that cannot see the gradients of the step: compute them once more."""

    def step(self, x, y):
        model = self._model
        if not hasattr(self, "run"):
            self.run = self.compile(model)
        return self.run(x, y)

    def compile(self, model):
        def norms(gradients):
            return [ops.sqrt(ops.sum(ops.square(ops.convert_to_tensor(g)))) for g in gradients]

        def loss(x, y):
            return model.compute_loss(x=x, y=y, y_pred=model(x, training=True))

        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            @tf.function(jit_compile=model.jit_compile)
            def run(x, y):
                with tf.GradientTape() as tape:
                    value = loss(x, y)
                return norms(tape.gradient(value, [v.value for v in model.trainable_variables]))

            return run
        import jax

        def stateless(values, x, y):
            pairs = zip(model.trainable_variables, values, strict=True)
            with keras.StatelessScope(state_mapping=list(pairs)):
                return loss(x, y)

        gradient = jax.jit(lambda *arguments: norms(jax.grad(stateless)(*arguments)))
        return lambda x, y: jax.block_until_ready(
            gradient([v.value for v in model.trainable_variables], x, y)
        )


def variants(folder):
    everything = [s for s in STATISTICS if s != "histogram"]
    return {
        "off": None,
        "norms every step": GradientFlow(),
        "all but histograms every step": GradientFlow(statistics=everything),
        "norms every 10th step": GradientFlow(every=10),
        "everything every 10th step": GradientFlow(every=10, statistics=STATISTICS),
        "DivergenceGuard": DivergenceGuard(),
        "second backward pass": SecondBackward(),
        "keras TensorBoard, histograms every 10th step": keras.callbacks.TensorBoard(
            folder, histogram_freq=1, write_graph=False
        ),
    }


def prepared(name, callback, jit_compile):
    """A compiled model, and the callback as `fit` leaves it before the first step."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([*MODELS[name]()[0], keras.layers.Dense(10)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, jit_compile=jit_compile)
    if callback is not None:
        callback.set_params({"steps": STEPS})
        callback.set_model(model)
        callback.on_train_begin()
    return model


def batch_for(name):
    shape = MODELS[name]()[1]
    rng = np.random.default_rng(0)
    return rng.normal(size=shape).astype("float32"), rng.integers(0, 10, shape[0])


def train_epoch(model, callback, epoch, x, y):
    """Train STEPS steps as `fit` would, and return the seconds."""
    if callback is not None:
        callback.on_epoch_begin(epoch)
    started = time.perf_counter()
    for _ in range(STEPS):
        model.train_on_batch(x, y)
        if isinstance(callback, SecondBackward):
            callback.step(x, y)
    if callback is not None:
        callback.on_epoch_end(epoch, {})
    return time.perf_counter() - started


def measure(name, jit_compile, rounds):
    x, y = batch_for(name)
    with tempfile.TemporaryDirectory() as folder:
        running = {
            variant: (prepared(name, callback, jit_compile), callback)
            for variant, callback in variants(folder).items()
        }
        times = {variant: [] for variant in running}
        started = time.perf_counter()
        for epoch in range(rounds + 2):
            if epoch >= 8 and time.perf_counter() - started > SECONDS:
                break
            # Each variant comes after every other one in turn.
            order = list(running)
            order = order[epoch % len(order) :] + order[: epoch % len(order)]
            for variant in order:
                model, callback = running[variant]
                times[variant].append(train_epoch(model, callback, epoch, x, y))
    rows = []
    peak = {variant: peak_memory(name, variant, jit_compile) for variant in times}
    for variant, seconds in times.items():
        # The first two rounds compile, with and without the tap.
        ratios = [a / b for a, b in zip(seconds[2:], times["off"][2:], strict=True)]
        rows.append(
            {
                "backend": keras.backend.backend(),
                "jit_compile": jit_compile,
                "model": name,
                "variant": variant,
                "step_ms": 1e3 * statistics.median(seconds[2:]) / STEPS,
                "cost_percent": 100 * (statistics.median(ratios) - 1),
                "memory_mb": peak[variant] - peak["off"],
            }
        )
        print(rows[-1], flush=True)
    return rows


def peak_memory(name, variant, jit_compile):
    """Peak of the memory in MB of a process that trains the variant for three epochs."""
    command = [sys.executable, __file__, "--peak", name, variant, str(int(jit_compile))]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return float(output.split()[-1])


def print_peak(name, variant, jit_compile):
    x, y = batch_for(name)
    with tempfile.TemporaryDirectory() as folder:
        callback = variants(folder)[variant]
        model = prepared(name, callback, jit_compile == "1")
        for epoch in range(3):
            train_epoch(model, callback, epoch, x, y)
    # Not `ru_maxrss`: Linux hands that on from the parent.
    status = Path("/proc/self/status").read_text()
    print(int(re.search(r"VmHWM:\s*(\d+) kB", status)[1]) / 1024)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", help="CSV file for the table")
    parser.add_argument("--rounds", type=int, default=32)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--peak", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peak:
        print_peak(*arguments.peak)
        return
    modes = [False, True] if keras.backend.backend() == "tensorflow" else [True]
    rows = [
        row
        for mode in modes
        for name in arguments.models
        for row in measure(name, mode, arguments.rounds)
    ]
    table = pd.DataFrame(rows)
    table["machine"] = f"{platform.machine()}, {os.cpu_count()} cores"
    if arguments.output:
        table.round(3).to_csv(arguments.output, index=False)


if __name__ == "__main__":
    main()
