"""Draw the figure of README and docs from the runs of a study.

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
from keras_deeplstm.experiments.runs.groups import group_runs


def gradient_depth(study, output, depth=100):
    """Gradient norm against depth at the start and at the end, a line for each model and seed."""
    finished = [run for run in runs.find(study) if run.state == "finished"]
    of_depth = [run for run in finished if run.config.model.depth == depth]
    groups = group_runs([run for run in of_depth if not run.config.model.tied])[::-1]
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True, layout="constrained")
    lines = []
    for group, color in zip(groups, sns.color_palette("colorblind"), strict=False):
        for run in group.runs:
            profile = gradient_tables.depth_profile(run.gradients)
            steps = sorted(profile.step.unique())
            for ax, some in zip(axes, (steps[:1], steps[-10:]), strict=True):
                norm = profile[profile.step.isin(some)].groupby("depth").value.median()
                (line,) = ax.plot(norm.index, norm, color=color, linewidth=1)
        lines.append(line)
    axes[0].set(title="first training step", yscale="log", ylabel="gradient norm (L2)")
    axes[1].set(title="end of training (median of 10 steps)")
    for ax in axes:
        ax.set(xlabel="depth step (1 = next to the input)")
        ax.grid(alpha=0.3)
    figure.legend(lines, [group.label for group in groups], loc="outside lower center", ncols=2)
    figure.savefig(output, dpi=110)
    output.write_bytes(with_few_colors(output.read_bytes()))


if __name__ == "__main__":
    gradient_depth(*map(pathlib.Path, sys.argv[1:3]))
