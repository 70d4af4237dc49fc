"""Tasks by name. A task is data, loss, metric and success criterion, one file each."""

from difflib import get_close_matches

from keras_deeplstm.experiments.tasks.digits import digits
from keras_deeplstm.experiments.tasks.mnist import mnist
from keras_deeplstm.experiments.tasks.task import DataError, Splits, Task

__all__ = ["TASKS", "DataError", "Splits", "Task", "get_task"]

TASKS = {task.name: task for task in (digits, mnist)}


def get_task(name: str) -> Task:
    """Return the task called `name`, or raise a ValueError that proposes the nearest one."""
    if name in TASKS:
        return TASKS[name]
    near = get_close_matches(str(name), TASKS, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"Unknown task {name!r}.{hint} Available: {list(TASKS)}")
