"""Bars in the terminal: how long it takes, until it is done."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


def progress():
    """A bar with the time left first: of a title that is too long the end is left out.

    There is none where the output is no terminal.
    """
    # `deeplstm --help` does not wait for it.
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.table import Column

    title = Column(no_wrap=True, overflow="ellipsis", ratio=1)
    bar = Progress(
        TimeRemainingColumn(),
        TextColumn("left"),
        BarColumn(bar_width=10),
        TextColumn("{task.description}", table_column=title),
        expand=True,
        transient=True,
    )
    # Not `console.is_terminal`: FORCE_COLOR, which notebooks set, makes that true of a file.
    bar.disable = not bar.console.file.isatty()
    return bar


@contextmanager
def epoch_bar() -> Iterator[Callable[[int, int | None, float], None] | None]:
    """Yields a function of steps done, all steps and loss, which shows how far an epoch is.

    None where the output is no terminal: then nothing has to be told.
    """
    if not sys.stdout.isatty():
        yield None
        return
    with progress() as bar:
        task = bar.add_task("")

        def show(step, steps, loss):
            if step <= bar.tasks[task].completed:  # a new epoch
                bar.reset(task)
            text = f"step {step:,}" + (f" of {steps:,}" if steps else "") + f", loss {loss:.4g}"
            bar.update(task, completed=step, total=steps, description=text)

        yield show
