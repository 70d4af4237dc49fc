"""Draw the pictures of README.md, docs/index.md and docs/callbacks.md from small real runs.

Command: `python docs/pictures.py docs/pictures`. The data are scikit-learn's digits; no download.
"""

import contextlib
import pathlib
import re
import sys
import tempfile
import warnings

import keras
import matplotlib.pyplot as plt

from keras_deeplstm import models
from keras_deeplstm.callbacks import (
    DivergenceGuard,
    FilterImages,
    GaborSimilarity,
    GradientFlow,
    GradientNoise,
    SignalFlow,
    StateGradients,
)
from keras_deeplstm.diagnostics import mean_field_gradients, state_gradients
from keras_deeplstm.experiments import get_task
from keras_deeplstm.experiments.reports.drawing import with_few_colors

DOCS = pathlib.Path(__file__).resolve().parent
SIZE = {"figsize": (5.6, 3.4), "layout": "constrained"}


def save(figure, file):
    """Few pixels, but enough for a sharp screen."""
    figure.savefig(file, dpi=120)
    plt.close(figure)
    shrink(file)


def shrink(file):
    """Write it again with few colors."""
    file.write_bytes(with_few_colors(file.read_bytes()))


def getting_started(folder):
    """Run the code of docs/index.md as it stands there."""
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / "index.md").read_text(), re.DOTALL)
    code, block = blocks[0], blocks[1]
    before, layers, after = code.partition("layers = [")
    with_block = before + block + "model.compile(" + after.partition("model.compile(")[2]
    assert layers, "docs/index.md no longer has the model that the block replaces"
    for program, name in ((code, "own-model.png"), (with_block, "block.png")):
        names = {}
        with tempfile.TemporaryDirectory() as scratch, contextlib.chdir(scratch):
            exec(program, names)
        figure = names["flow"].plot(ax=plt.subplots(**SIZE)[1]).figure
        save(figure, folder / name)


def readme(folder):
    """Run the first example of README.md as it stands there."""
    (code,) = re.findall(r"```python\n(.*?)```", (DOCS.parent / "README.md").read_text(), re.DOTALL)
    names = {}
    with tempfile.TemporaryDirectory() as scratch, contextlib.chdir(scratch):
        exec(code, names)
    save(names["flow"].plot(ax=plt.subplots(**SIZE)[1]).figure, folder / "readme.png")


def classifier(digits, **options):
    """A compiled network over depth for digits."""
    keras.utils.set_random_seed(0)
    model = models.classifier((8, 8, 1), 10, units=100, **options)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-3, clipnorm=1.0), loss, metrics=["accuracy"])
    return model


def callbacks(folder):
    """An LSTM of depth 30, with all callbacks that watch."""
    digits = get_task("digits").load(None)
    model = classifier(digits, depth=30)
    x, y = digits.validation
    flow = GradientFlow(statistics=("norm", "update_ratio", "histogram"))
    states, signals = StateGradients(x[:64], y[:64]), SignalFlow(x[:64], every=20)
    # One scale for both pictures, which ends near the largest trained weight.
    filters = FilterImages(folder, every=20, count=9, scaling=0.4)
    gabor = GaborSimilarity(count=100)
    noise = GradientNoise()
    model.fit(
        *digits.train,
        batch_size=64,
        epochs=20,
        validation_data=digits.validation,
        callbacks=[flow, states, signals, filters, gabor, noise],
        verbose=0,
    )
    for watcher in (flow, states, signals, gabor, noise):
        print(watcher.verdict())
    for kind in ("depth", "heatmap", "ratio", "updates", "histogram"):
        figure, ax = plt.subplots(**SIZE)
        flow.plot(kind, ax=ax)
        save(figure, folder / f"gradient-flow-{kind}.png")
    for kind in ("depth", "gates", "dead"):
        figure, ax = plt.subplots(**SIZE)
        signals.plot(kind, ax=ax)
        save(figure, folder / f"signal-flow-{kind}.png")
    watchers = {"state-gradients": states, "gabor": gabor, "gradient-noise": noise}
    for name, watcher in watchers.items():
        figure, ax = plt.subplots(**SIZE)
        watcher.plot(ax=ax)
        save(figure, folder / f"{name}.png")
    for epoch, name in ((0, "before"), (20, "after")):
        shrink((folder / f"epoch_{epoch:04}.png").rename(folder / f"filters-{name}.png"))


def guard(folder):
    """A learning rate that rises until the loss diverges; the guard stops and puts weights back."""
    digits = get_task("digits").load(None)
    model = classifier(digits, depth=3, block="dense", activation="relu")
    rate = keras.optimizers.schedules.ExponentialDecay(1e-3, 20, 4, staircase=True)
    model.compile(keras.optimizers.Adam(rate), model.loss, metrics=["accuracy"])
    watch = DivergenceGuard()
    losses = []
    # The loss that Keras reports is the mean of the epoch so far.
    note = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda _, logs: losses.append(logs["loss"])
    )
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        model.fit(*digits.train, batch_size=64, epochs=30, callbacks=[watch, note], verbose=0)
    print(watch.reason, [str(one.message) for one in said])
    after = model.evaluate(*digits.train, verbose=0)[0]
    figure, ax = plt.subplots(**SIZE)
    ax.plot(range(1, len(losses) + 1), losses, label="training loss")
    ax.axvline(watch.step, color="0.5", linestyle=":", label=f"diverged at step {watch.step}")
    ax.plot(len(losses), after, "o", color="C2", label="with the weights put back")
    ax.set(xlabel="training step", ylabel="loss (nats)", yscale="log")
    ax.legend(frameon=False)
    save(figure, folder / "divergence-guard.png")


def mean_field(folder):
    """Gradients of the memory cells before training: what theory predicts, and what they are."""
    digits = get_task("digits").load(None)
    x, y = digits.validation[0][:32], digits.validation[1][:32]
    biases = {
        "forget_bias=1.0": {"forget_bias": 1.0},
        'forget_bias="depth"': {},
        'forget_bias="depth"\ninput_gate_bias="depth"': {"input_gate_bias": "depth"},
    }
    figure, axes = plt.subplots(1, 3, figsize=(10, 3.6), sharey=True, layout="constrained")
    for ax, (name, options) in zip(axes, biases.items(), strict=True):
        for number, depth in enumerate((10, 30, 100, 300, 1000)):
            model = classifier(digits, depth=depth, **options)
            measured = state_gradients(model, x, y).query("path == 'total'")
            measured = measured.pivot(index="depth", columns="state", values="value")
            flat = x.reshape(len(x), -1)
            predicted = mean_field_gradients(model.get_layer("block"), flat)
            predicted = predicted.pivot(index="depth", columns="state", values="value")
            points = sorted({round((depth - 1) * part / 12) for part in range(13)})
            share, color = (predicted.index - 1) / (depth - 1), f"C{number}"
            ax.plot(share, predicted["c"], color=color, label=f"depth {depth}")
            norms = measured["c"] / measured["h"].iloc[-1]
            ax.plot(share[points], norms.iloc[points], "o", color=color, markersize=3.5)
        ax.set(xlabel="depth step, first to last", yscale="log", ylim=(1e-8, 1e3))
        ax.set_title(name, fontsize=10)
        ax.set_xticks([0, 1], ["1", "depth"])
    axes[0].set_ylabel("norm of dL/dc, to that of dL/dh at the end")
    axes[0].plot([], [], "o", color="0.4", markersize=3.5, label="measured")
    labels = axes[0].get_legend_handles_labels()
    figure.legend(*labels, frameon=False, loc="outside lower center", ncols=6)
    save(figure, folder / "mean-field.png")


if __name__ == "__main__":
    target = pathlib.Path(sys.argv[1]).resolve()
    target.mkdir(exist_ok=True)
    readme(target)
    getting_started(target)
    callbacks(target)
    guard(target)
    mean_field(target)
