"""What a run records while it trains: the callbacks, their files, and the numbers they give."""

import math

import matplotlib.pyplot as plt
import numpy as np

from keras_deeplstm.callbacks import (
    FilterImages,
    GaborSimilarity,
    GradientFlow,
    StateGradients,
    filter_images,
    plot_image_gates,
)
from keras_deeplstm.callbacks.gradient_tables import (
    farthest,
    first_last_ratio,
    last_steps,
    stacks,
    state_ratios,
)
from keras_deeplstm.callbacks.step_recorder import by_step
from keras_deeplstm.diagnostics.state_gradients import layers_with_states
from keras_deeplstm.experiments.runs import files

PROBED = 64  # validation examples on which the gradients of the states are measured
SMALLEST = 4  # pixels of the side of a filter
SHOWN = 3  # classes, of each of which there is an image with what gates do on it


def make(config, model, data, session):
    """The callbacks that record a run, by the names under which checkpoints keep their state."""
    recorders = {"gradients": GradientFlow(every=config.gradient_every, log=session.log)}
    if layers_with_states(model):
        x, y = (part[:PROBED] for part in data.validation)
        recorders["states"] = StateGradients(x, y, every=config.epochs)
    if data.train[0].ndim == 4 and _shows_filters(model):
        recorders["filters"] = FilterImages(session.folder / "filters", every=config.epochs)
        recorders["gabor"] = GaborSimilarity()
    return recorders


def _shows_filters(model):
    """Whether the first layer of a model of images has filters in which something can be seen."""
    try:
        images = next(iter(filter_images(model).values()))
    except ValueError:  # a model of the user's own, of which no layer has kernels that see images
        return False
    return min(images.shape[1:3]) >= SMALLEST


def log_again(recorders, session):
    """Write for TensorBoard, if that is wanted, what a checkpoint has put back."""
    if session.log is not None:
        for step, values in by_step(recorders["gradients"].to_frame()):
            session.log(values, step)


def write(recorders, config, folder):
    """Write what was recorded, and return its numbers for `result.json`; None where there is none.

    `gradient_ratio_*`: the `farthest` of a `first_last_ratio`. `state_gradient_ratio_*` and
    `memory_path_ratio_*`: see `state_ratios`. `gabor_r2_*`: median over the filters, see
    `gabor_similarity`.
    """
    frame = recorders["gradients"].to_frame()
    files.write_text(folder / "gradient_flow.csv", frame.to_csv(index=False))
    ratios = first_last_ratio(stacks(frame))  # a tied model has none
    first, last = farthest(ratios), last_steps(ratios)
    numbers = _start_and_end(
        "gradient_ratio", *(r["ratio"].head(1).median() for r in (first, last))
    )

    states = recorders["states"].to_frame() if "states" in recorders else None
    gabor = {}
    if "gabor" in recorders:
        gabor = recorders["gabor"].to_frame().groupby("epoch")["r_squared"].median()
    return {
        **numbers,
        **write_states(states, folder, config.epochs),
        **_before_and_after("gabor_r2", gabor, config.epochs),
    }


def write_states(frame, folder, epochs):
    """Write the table of a `StateGradients`, if there is one; return its `state_ratios` by name."""
    state, memory = {}, {}
    if frame is not None:
        files.write_text(folder / "state_gradients.csv", frame.to_csv(index=False))
        ratios = state_ratios(frame)
        state, memory = ratios["first_last"], ratios["memory"]
    return {
        **_before_and_after("state_gradient_ratio", state, epochs),
        **_before_and_after("memory_path_ratio", memory, epochs),
    }


def draw_gates(model, data, folder):
    """Draw `filters/gates.png`: what the gates of a grid do on test images of some classes."""
    x, y = data.test
    _, first = np.unique(y, return_index=True)
    figure = plot_image_gates(model, x[first[:SHOWN]])
    (folder / "filters").mkdir(exist_ok=True)
    with files.atomic(folder / "filters" / "gates.png") as path:
        figure.savefig(path, format="png", dpi=120, bbox_inches="tight")
    plt.close(figure)


def _before_and_after(name, by_epoch, epochs):
    # A run that an older version began may lack what was before training.
    return _start_and_end(name, *(by_epoch.get(epoch, math.nan) for epoch in (0, epochs)))


def _start_and_end(name, *values):
    return {
        f"{name}_{when}": float(value) if math.isfinite(value) else None
        for when, value in zip(("start", "end"), values, strict=True)
    }
