"""What the callbacks cost: training step time with each, against the step without any.

    python benchmarks/callbacks.py [--output FILE]          (KERAS_BACKEND chooses the backend)

All variants of a model train side by side: each round gives every variant the same number of
steps, and the cost is the median over the rounds of its time divided by that of `off` in the same
round, minus one. What the callback does at the end of an epoch is part of each round.

Memory is the peak of a process of its own that trains one variant, minus that of `off`.
"""

import argparse
import itertools
import os
import statistics
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import measure
import numpy as np
import pandas as pd
from keras import ops

from keras_deeplstm.callbacks import DivergenceGuard, GradientFlow, GradientNoise, SignalFlow
from keras_deeplstm.callbacks.gradient_flow import STATISTICS
from keras_deeplstm.layers import GridLSTM2D, UnfoldedLSTMBlock

STEPS = 10  # in a round
WITH_MEMORY = (
    "off",
    "norms every step",
    "everything every 10th step",
    "second backward pass",
    "keras TensorBoard, histograms every 10th step",
)


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


def variants(folder, x):
    everything = [s for s in STATISTICS if s != "histogram"]
    return {
        "off": None,
        "norms every step": GradientFlow(),
        "all but histograms every step": GradientFlow(statistics=everything),
        "norms every 10th step": GradientFlow(every=10),
        "everything every 10th step": GradientFlow(every=10, statistics=STATISTICS),
        "update ratios every 10th step": GradientFlow(every=10, statistics=("update_ratio",)),
        "outputs every 10th step": SignalFlow(every=10),
        "states and gates of 64 examples every 10th step": SignalFlow(x[:64], every=10),
        "norms, update ratios and outputs every 10th step": keras.callbacks.CallbackList(
            [GradientFlow(every=10, statistics=("norm", "update_ratio")), SignalFlow(every=10)]
        ),
        "noise scale every 10th step": GradientNoise(every=10),
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


def rounds_of(model, callback, x, y):
    """A function that trains STEPS steps as `fit` would, an epoch of their own."""
    epochs = itertools.count()

    def train():
        epoch = next(epochs)
        if callback is not None:
            callback.on_epoch_begin(epoch)
        for step in range(STEPS):
            if callback is not None:
                callback.on_train_batch_begin(step)
            model.train_on_batch(x, y)
            if callback is not None:
                callback.on_train_batch_end(step, {})
            if isinstance(callback, SecondBackward):
                callback.step(x, y)
        if callback is not None:
            callback.on_epoch_end(epoch, {})

    return train


def rows_of(name, jit_compile, rounds, seconds):
    x, y = batch_for(name)
    with tempfile.TemporaryDirectory() as folder:
        # The two rounds of warming up compile, with and without the tap.
        callbacks = variants(folder, x)
        times = measure.interleaved(
            {
                variant: rounds_of(prepared(name, callback, jit_compile), callback, x, y)
                for variant, callback in callbacks.items()
            },
            rounds,
            seconds=seconds,
        )
    for variant, callback in callbacks.items():
        for recorder in getattr(callback, "callbacks", [callback]):
            recorded = not hasattr(recorder, "to_frame") or len(recorder.to_frame())
            assert recorded, f"{variant} has recorded nothing"
    memory = {
        variant: float(
            measure.in_a_process(__file__, "--peak", name, variant, int(jit_compile)) or "nan"
        )
        for variant in times
        if variant in WITH_MEMORY
    }
    rows = [
        {
            "backend": keras.backend.backend(),
            "jit_compile": jit_compile,
            "model": name,
            "variant": variant,
            "step_ms": 1e3 * statistics.median(taken) / STEPS,
            "cost_percent": 100 * (measure.ratio(taken, times["off"]) - 1),
            "memory_mb": memory[variant] - memory["off"] if variant in memory else None,
        }
        for variant, taken in times.items()
    ]
    print(pd.DataFrame(rows).round(2).to_string(index=False), flush=True)
    return rows


def print_peak(name, variant, jit_compile):
    """The peak of memory in MB of three epochs with a variant."""
    x, y = batch_for(name)
    with tempfile.TemporaryDirectory() as folder:
        callback = variants(folder, x)[variant]
        train = rounds_of(prepared(name, callback, jit_compile == "1"), callback, x, y)
        for _ in range(3):
            train()
    print(measure.peak_memory())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", help="CSV file for the table")
    parser.add_argument("--rounds", type=int, default=32)
    parser.add_argument(
        "--seconds", type=float, default=50, help="for one model; six rounds at least"
    )
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--no-jit", action="store_true", help="TensorFlow without XLA only")
    parser.add_argument("--peak", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peak:
        print_peak(*arguments.peak)
        return
    modes = [False, True] if keras.backend.backend() == "tensorflow" else [True]
    rows = []
    for mode in modes[:1] if arguments.no_jit else modes:
        for name in arguments.models:
            rows += rows_of(name, mode, arguments.rounds, arguments.seconds)
    table = pd.DataFrame(rows)
    table["machine"] = measure.MACHINE
    if arguments.output:
        table.round(3).to_csv(arguments.output, index=False)


if __name__ == "__main__":
    main()
