"""Draw the figures of README and docs from the runs of a study.

Commands: `deeplstm study depth --seeds 3`, then
`python docs/figures.py runs/depth-digits docs/gradient-depth.png`.
"""

import pathlib
import sys

import matplotlib.pyplot as plt
import seaborn as sns

from keras_deeplstm.callbacks import gradient_tables
from keras_deeplstm.experiments import runs
from keras_deeplstm.experiments.reports.drawing import with_few_colors


def gradient_depth(study, output, depth=100):
    """Gradient norm against depth at the start and at the end, a line for each model and seed."""
    found = [
        run
        for run in runs.find(study)
        if run.state == "finished" and run.config.model.depth == depth and not run.config.model.tied
    ]
    labels = sorted({run.config.model.label for run in found}, reverse=True)
    colors = dict(zip(labels, sns.color_palette("colorblind"), strict=False))
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True, layout="constrained")
    lines = {}
    for run in found:
        profile = gradient_tables.depth_profile(run.gradients)
        steps = sorted(profile.step.unique())
        label = run.config.model.label
        for ax, some in zip(axes, (steps[:1], steps[-10:]), strict=True):
            norm = profile[profile.step.isin(some)].groupby("depth").value.median()
            (lines[label],) = ax.plot(norm.index, norm, color=colors[label], linewidth=1)
    axes[0].set(title="first training step", yscale="log", ylabel="gradient norm (L2)")
    axes[1].set(title="end of training (median of 10 steps)")
    for ax in axes:
        ax.set(xlabel="depth step (1 = next to the input)")
        ax.grid(alpha=0.3)
    lines = [lines[label] for label in labels]
    figure.legend(lines, labels, loc="outside lower center", ncols=2)
    figure.savefig(output, dpi=110)
    output.write_bytes(with_few_colors(output.read_bytes()))


if __name__ == "__main__":
    gradient_depth(*map(pathlib.Path, sys.argv[1:3]))
