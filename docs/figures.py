"""Draw the figures of README and docs from the runs of a study.

deeplstm study depth
python docs/figures.py runs/depth-digits docs/gradient-depth.png
"""

import pathlib
import sys

import matplotlib.pyplot as plt
import seaborn as sns

from keras_deeplstm.callbacks import gradient_plots
from keras_deeplstm.experiments import runs


def gradient_depth(study, output, depth=100):
    """Gradient norm against depth at the last recorded steps, one line for each model."""
    found = [
        run
        for run in runs.find(study)
        if run.state == "finished" and run.config.model.depth == depth and not run.config.model.tied
    ]
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True, layout="constrained")
    for run, color in zip(found, sns.color_palette("colorblind"), strict=False):
        profile = gradient_plots.depth_profile(run.gradients)
        steps = sorted(profile.step.unique())
        for ax, some in zip(axes, (steps[:1], steps[-10:]), strict=True):
            norm = profile[profile.step.isin(some)].groupby("depth").value.median()
            ax.plot(norm.index, norm, color=color, label=run.config.model.label)
    axes[0].set(title="first training step", yscale="log", ylabel="gradient norm (L2)")
    axes[1].set(title="end of training (median of 10 steps)")
    for ax in axes:
        ax.set(xlabel="depth step (1 = next to the input)")
        ax.grid(alpha=0.3)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    figure.savefig(output, dpi=110)


if __name__ == "__main__":
    gradient_depth(pathlib.Path(sys.argv[1]), sys.argv[2])
