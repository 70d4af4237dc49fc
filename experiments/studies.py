"""Studies: named tables of runs that answer one question."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from keras_deeplstm.experiments import runs
from keras_deeplstm.experiments.config import ModelConfig, RunConfig
from keras_deeplstm.experiments.tasks import DataError, get_task

# A gradient that shrinks or grows by no more than this factor on its way down is said to arrive.
ARRIVES_WITHIN = 100
DEPTHS = (10, 30, 100)


@dataclass(frozen=True)
class Study:
    """A question and the runs that answer it."""

    name: str
    question: str
    datasets: tuple[str, ...]
    configs: Callable[[str, int | None, int], list[RunConfig]]
    """The runs, from data set, number of epochs (None: the study's choice) and seed."""
    answer: Callable[[list[runs.Run]], list[str]]
    """Sentences computed from the finished runs, at least one of them; the first is the answer."""

    def folder_name(self, dataset: str, epochs: int | None, seed: int) -> str:
        """Name of the folder for these choices: ``"depth-digits-epochs5"``."""
        words = [self.name, dataset]
        if epochs is not None:
            words.append(f"epochs{epochs}")
        if seed:
            words.append(f"seed{seed}")
        return "-".join(words)


def ratio_text(ratio: float | None) -> str:
    """Two significant digits: ``0.41``, ``1.0``, ``12``, ``2.1e-7``; a dash for None."""
    if ratio is None:
        return "–"
    if ratio == 0 or 1e-3 <= ratio < 1e4:
        return f"{ratio:#.2g}".rstrip(".") if ratio < 100 else f"{ratio:.0f}"
    mantissa, exponent = f"{ratio:.1e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def _depth_configs(dataset, epochs, seed):
    models = (
        ModelConfig(),
        ModelConfig(tied=True),
        ModelConfig(block="dense", activation="tanh", kernel_initializer="glorot_uniform"),
        ModelConfig(block="dense", activation="relu", kernel_initializer="he_normal"),
    )
    settings = {
        "digits": {"epochs": 20, "batch_size": 64, "gradient_every": 5},
        "mnist": {"epochs": 3, "batch_size": 128, "gradient_every": 20},
    }[dataset]
    if epochs is not None:
        settings["epochs"] = epochs
    return [
        RunConfig(dataset, dataclasses.replace(model, depth=depth), seed=seed, **settings)
        for depth in DEPTHS
        for model in models
    ]


def _depth_answer(finished):
    sentences = []
    for depth in sorted({run.config.model.depth for run in finished}, reverse=True):
        verdicts = {}
        for run in finished:
            if run.config.model.depth == depth and (verdict := _verdict(run.result)):
                accuracy = f"{run.result['test_accuracy']:.1%} test accuracy"
                name = f"{run.config.model.label} ({accuracy})"
                verdicts.setdefault(verdict, []).append(name)
        if verdicts:
            clauses = [f"{verdict} in {_enumerate(names)}" for verdict, names in verdicts.items()]
            sentences.append(f"At depth {depth} the gradient {_enumerate(clauses)}.")
    sentences = sentences or ["No finished run has a gradient for each step."]
    return [
        *sentences,
        f"It arrives if, at the start and at the end of training, its norm at the first recurrent "
        f"matrix is at least 1/{ARRIVES_WITHIN} of and at most {ARRIVES_WITHIN} times that at the "
        f"last; else it fades or grows. A model whose steps share one matrix has no such ratio.",
    ]


def _verdict(result):
    ratios = (result["gradient_ratio_start"], result["gradient_ratio_end"])
    if None in ratios:
        return None
    if min(ratios) < 1 / ARRIVES_WITHIN:
        return "fades"
    return "grows" if max(ratios) > ARRIVES_WITHIN else "arrives"


def _enumerate(words):
    return " and ".join(part for part in (", ".join(words[:-1]), words[-1]) if part)


depth = Study(
    name="depth",
    question="Does the gradient reach the bottom of an LSTM over depth, "
    "and of a plain network of the same depth?",
    datasets=("digits", "mnist"),
    configs=_depth_configs,
    answer=_depth_answer,
)

STUDIES = {study.name: study for study in (depth,)}


def run_study(
    study: Study,
    configs: list[RunConfig],
    folder: Path,
    *,
    data_dir: Path | None = None,
    limit: int | None = None,
    overwrite: bool = False,
    command: str = "",
) -> bool:
    """Train the runs that are not yet finished in `folder`, and say so in the terminal.

    Args:
        study: The study.
        configs: Its runs.
        folder: Where the runs' folders are; a study that was interrupted goes on there.
        data_dir: Folder with data sets.
        limit: Train at most this many runs now.
        overwrite: Train all runs anew.
        command: How the study was started, for the record.

    Returns:
        Whether no run failed.

    Raises:
        RunExistsError: `folder` holds a run of the same name with other settings.
        DataError: The data are absent or damaged.
    """
    # Imported here, so that `deeplstm --help` need not wait for Keras.
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from keras_deeplstm.experiments.training import train

    todo = []
    for config in configs:
        run = runs.load(folder / config.slug)
        if overwrite or run.config is None:
            runs.check_free(run.folder, overwrite)
        elif run.config != config:
            raise runs.RunExistsError(
                f"Run '{run.folder}' has other settings ({_differences(run.config, config)}). "
                f"Use --overwrite or another --runs-dir"
            )
        if overwrite or run.state != "finished":
            todo.append(config)
    folder.mkdir(parents=True, exist_ok=True)
    runs.write_json(
        folder / "study.json",
        {"study": study.name, "command": command, "runs": [config.slug for config in configs]},
    )

    skipped = len(configs) - len(todo)
    todo = todo[:limit]
    succeeded = True
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=10),
        TimeRemainingColumn(),
        TextColumn("left"),
        transient=True,
    )
    progress.disable = not progress.console.is_terminal

    def say(line):
        progress.console.print(line, markup=False, highlight=False, soft_wrap=True)

    if skipped:
        say(f"{skipped} of {len(configs)} runs are already finished and are not run again.")
    with progress:
        # The time of an epoch grows with the depth, so depth x epochs measures the work.
        bar = progress.add_task("", total=sum(run.model.depth * run.epochs for run in todo))
        done = 0
        for number, config in enumerate(todo, skipped + 1):
            depth = config.model.depth
            title = f"{number}/{len(configs)} {config.model.label}, depth {depth}"

            def show(row, title=title, config=config, done=done):
                progress.update(
                    bar,
                    description=f"{title}, epoch {row['epoch']}/{config.epochs}",
                    completed=done + config.model.depth * row["epoch"],
                )

            progress.update(bar, description=title)
            try:
                result = train(
                    config, folder / config.slug, data_dir=data_dir, command=command, on_epoch=show
                )
            except DataError:
                raise
            except Exception as error:  # one bad run must not cost the others
                say(f"{title}: FAILED: {error}")
                succeeded = False
            else:
                say(f"{title}: {outcome(config, result)}")
            done += depth * config.epochs
            progress.update(bar, completed=done)
    return succeeded


def outcome(config: RunConfig, result: dict) -> str:
    """One line for the terminal: test accuracy, gradient ratio, seconds."""
    accuracy = result["test_accuracy"]
    solved = "solved" if accuracy >= get_task(config.task).criterion else "not solved"
    return (
        f"test accuracy {accuracy:.1%} ({solved}), first/last gradient "
        f"{ratio_text(result['gradient_ratio_start'])} -> "
        f"{ratio_text(result['gradient_ratio_end'])}, {result['seconds']:.0f} s"
    )


def _differences(old, new):
    old, new = old.to_dict(), new.to_dict()
    old |= {f"model.{key}": value for key, value in old.pop("model").items()}
    new |= {f"model.{key}": value for key, value in new.pop("model").items()}
    return ", ".join(f"{key}: {old[key]} -> {new[key]}" for key in new if old[key] != new[key])
