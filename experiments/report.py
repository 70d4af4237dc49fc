"""Reports of runs: one HTML page that needs nothing else, and its table as CSV beside it."""

import base64
import dataclasses
import io
import itertools
import os
from dataclasses import dataclass
from pathlib import Path

import jinja2
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from keras_deeplstm.callbacks import gradient_plots
from keras_deeplstm.experiments import runs
from keras_deeplstm.experiments.config import ConfigError, RunConfig
from keras_deeplstm.experiments.studies import STUDIES, ratio_text
from keras_deeplstm.experiments.tasks import get_task

LINES = 10  # in one picture; more runs make more pictures


@dataclass(frozen=True)
class Picture:
    """A PNG picture in base64, the text that stands for it, and its caption."""

    data: str
    alt: str
    caption: str = ""


@dataclass(frozen=True)
class Section:
    """Pictures that belong together, in rows, and how to read them."""

    title: str
    text: str
    rows: list[list[Picture]]


def write_report(folders: list[Path], output: Path | None = None) -> Path:
    """Write the report of runs and return its path.

    Args:
        folders: Folders of runs, or folders that contain them, such as a study's.
        output: The page; default `report.html` in the folder given, or in the one that several
            folders share.

    Raises:
        ConfigError: One of the folders holds no run.
    """
    found = []
    for folder in folders:
        found += runs.find(folder)
        if not found or not found[-1].folder.is_relative_to(folder):
            raise ConfigError(f"'{folder}' holds no keras_deeplstm runs")
    if len(folders) == 1:
        common = folders[0]
    else:
        common = Path(os.path.commonpath([folder.resolve() for folder in folders]))
    study, missing = None, []
    if len(folders) == 1 and (common / "study.json").exists():
        plan = runs.read_json(common / "study.json")
        study = STUDIES.get(plan["study"])
        present = {run.name: run for run in found}
        found = [present[name] for name in plan["runs"] if name in present]
        missing = [name for name in plan["runs"] if name not in present]

    finished, problems = [], [(name, "missing", "") for name in missing]
    for run in found:
        try:
            if run.state == "finished":
                _ = run.environment, run.metrics, run.gradients
                finished.append(run)
            else:
                problems.append((run.name, run.state, run.reason))
        except (OSError, ValueError) as error:
            problems.append((run.name, "damaged", str(error)))

    labels = _labels(finished)
    table = _table(finished, labels)
    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    html = templates.get_template("report.html").render(
        title=_title(study, found, common),
        question=study.question if study else None,
        answer=study.answer(finished) if study and finished else [],
        table=table.to_dict("records"),
        ratio_text=ratio_text,
        tasks=[get_task(name) for name in table["task"].unique()],
        problems=problems,
        sections=_sections(finished, labels),
        settings=_settings(finished),
        environments=[run.environment for run in finished[:1]],
        commands=list(dict.fromkeys(run.environment["command"] for run in finished)),
    )
    output = output or common / "report.html"
    runs.write_text(output, html)
    runs.write_text(output.with_name("table.csv"), table.to_csv(index=False))
    return output


def _title(study, found, folder):
    if study:
        return f"Study: {study.name} ({found[0].config.task})" if found else f"Study: {study.name}"
    if len(found) == 1:
        return found[0].config.title if found[0].config else found[0].name
    return f"{len(found)} runs in {folder.name}"


def _labels(finished):
    """A name for each run in legends: that of its model, or of its folder where models repeat."""
    keys = [(run.config.task, run.config.model.depth, run.config.model.label) for run in finished]
    return [
        key[-1] if keys.count(key) == 1 else run.name
        for run, key in zip(finished, keys, strict=True)
    ]


def _table(finished, labels):
    columns = ("parameters", "test_accuracy", "gradient_ratio_start", "gradient_ratio_end")
    rows = [
        {
            "run": run.name,
            "task": run.config.task,
            "model": label,
            "depth": run.config.model.depth,
            **{column: run.result[column] for column in columns},
            "seconds": run.result["seconds"],
        }
        for run, label in zip(finished, labels, strict=True)
    ]
    names = ["run", "task", "model", "depth", *columns, "seconds"]
    # As objects, so that a ratio that does not exist stays None and does not become NaN.
    return pd.DataFrame(rows, columns=names, dtype=object)


def _settings(finished):
    """Training settings with the value, or the values, that the runs have."""
    values = {}
    for field in dataclasses.fields(RunConfig):
        if field.name not in ("task", "model"):
            distinct = dict.fromkeys(str(getattr(run.config, field.name)) for run in finished)
            values[field.name] = ", ".join(distinct)
    return values


def _sections(finished, labels):
    if not finished:
        return []
    named = sorted(zip(finished, labels, strict=True), key=_group)
    palette = itertools.cycle(sns.color_palette("colorblind"))
    colors = dict(zip(dict.fromkeys(labels), palette, strict=False))
    groups = []
    for (task, depth), members in itertools.groupby(named, key=_group):
        members = list(members)
        for first in range(0, len(members), LINES):
            groups.append((f"{task}, depth {depth}", members[first : first + LINES]))
    depth_rows = _depth_pictures(groups)
    if len(finished) == 1 and depth_rows[0]:
        depth_rows[0].append(_heatmap(finished[0]))
    sections = [
        Section(
            "Learning",
            "Accuracy on the validation data, and loss on the training data, after each epoch.",
            [
                [
                    _curves(title, members, colors, "val_accuracy", "validation accuracy"),
                    _curves(title, members, colors, "loss", "training loss (nats)", log=True),
                ]
                for title, members in groups
            ],
        ),
        Section(
            "Gradient against depth",
            "Norm of the loss gradient of each step's recurrent matrix at several moments of "
            "training: step 1 is next to the input, the last step next to the output. A flat "
            "line means that the gradient arrives undiminished. All pictures have the same scale. "
            "Models whose steps share one matrix are not shown: it has one gradient.",
            depth_rows,
        ),
        Section(
            "First and last matrix during training",
            "Gradient norm of the first recurrent matrix divided by that of the last. At 1 both "
            "get the same gradient; far below 1 it fades on its way to the input.",
            [[_ratio_picture(title, members, colors) for title, members in groups]],
        ),
        Section(
            "Filters of the first layer",
            "The weights that the first layer applies to the image, before and after training.",
            [_filter_pictures(run, label) for run, label in named],
        ),
    ]
    return [section for section in sections if any(section.rows)]


def _group(named):
    run, _ = named
    return run.config.task, run.config.model.depth


def _curves(title, members, colors, column, label, log=False):
    figure, ax = _figure(title, "epoch", label, log)
    for run, name in members:
        ax.plot(run.metrics["epoch"], run.metrics[column], ".-", color=colors[name], label=name)
    ax.xaxis.get_major_locator().set_params(integer=True)
    last = "; ".join(f"{name} {run.metrics[column].iloc[-1]:.3g}" for run, name in members)
    return _picture(figure, f"{label} against epoch, {title}. At the end: {last}.")


def _ratio_picture(title, members, colors):
    figure, ax = _figure(title, "training step", "first / last gradient norm", log=True)
    ax.axhline(1, color="0.6", linewidth=1)
    for run, name in members:
        ratios = gradient_plots.first_last_ratio(_stacked(run))
        if len(ratios):
            ax.plot(ratios["step"], ratios["ratio"], color=colors[name], label=name)
    ends = "; ".join(
        f"{name} {ratio_text(run.result['gradient_ratio_start'])} to "
        f"{ratio_text(run.result['gradient_ratio_end'])}"
        for run, name in members
    )
    return _picture(figure, f"Ratio of gradient norms during training, {title}: {ends}.")


def _depth_pictures(groups):
    """A picture for each run that has a matrix for each step; all of one scale."""
    rows = []
    for _, members in groups:
        rows.append([])
        for run, label in members:
            if len(_stacked(run)):
                title = f"{label}, depth {run.config.model.depth}"
                figure, ax = _figure(title, "depth step", "gradient norm (L2)", log=True)
                gradient_plots.plot_depth(_stacked(run), ax=ax)
                ax.set_title(_plain(title))
                rows[-1].append((title, figure))
    limits = np.array([figure.axes[0].get_ylim() for row in rows for _, figure in row])
    for _, figure in itertools.chain(*rows):
        figure.axes[0].set_ylim(limits[:, 0].min(), limits[:, 1].max())
    return [
        [_picture(figure, f"Gradient norm against depth step, {title}.") for title, figure in row]
        for row in rows
    ]


def _heatmap(run):
    figure, ax = _figure("", "training step", "depth step")
    ax.grid(visible=False)
    gradient_plots.plot_heatmap(_stacked(run), ax=ax)
    return _picture(figure, "Gradient norm over depth step and training step.")


def _stacked(run):
    """The gradient norms of the weights that each depth step has of its own."""
    return run.gradients[run.gradients["depth"].notna()]


def _filter_pictures(run, label):
    pictures = []
    files = sorted((run.folder / "filters").glob("epoch_*.png"))
    for file in dict.fromkeys([*files[:1], *files[-1:]]):
        epoch = int(file.stem.removeprefix("epoch_"))
        when = f"after {epoch} epochs" if epoch else "before training"
        caption = f"{label}, depth {run.config.model.depth}, {when}"
        data = base64.b64encode(file.read_bytes()).decode()
        pictures.append(Picture(data, f"Weights of the first layer: {caption}.", caption))
    return pictures


def _figure(title, xlabel, ylabel, log=False):
    figure = Figure(figsize=(5, 4.2), layout="constrained")
    ax = figure.subplots()
    ax.set(title=_plain(title), xlabel=xlabel, ylabel=ylabel, yscale="log" if log else "linear")
    ax.grid(alpha=0.3)
    return figure, ax


def _picture(figure, alt):
    ax = figure.axes[0]
    handles, labels = ax.get_legend_handles_labels()
    if ax.get_legend() is not None:
        ax.get_legend().remove()
    if handles:
        # Below the axes, where it covers no data.
        columns = 1 if max(map(len, labels)) > 20 else 3
        figure.legend(handles, list(map(_plain, labels)), loc="outside lower center", ncols=columns)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=150)
    return Picture(base64.b64encode(file.getvalue()).decode(), alt)


def _plain(text):
    """Text that matplotlib does not take for a formula."""
    return text.replace("$", r"\$")
