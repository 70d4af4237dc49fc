"""Tasks, runs, studies and reports, and the command `deeplstm`.

With a task or a study of your own, a file of some twenty lines is a command of the same kind:
define them, `register` them and call `main`. See docs/own-task.md.
"""

from keras_deeplstm.experiments.cli import main
from keras_deeplstm.experiments.config import ModelConfig, RunConfig
from keras_deeplstm.experiments.studies import STUDIES, Study, grid
from keras_deeplstm.experiments.tasks import TASKS, Splits, Task, get_task

__all__ = [
    "ModelConfig",
    "RunConfig",
    "Splits",
    "Study",
    "Task",
    "get_task",
    "grid",
    "main",
    "register",
]


def register(item: Task | Study) -> None:
    """Make a task or a study known under its name, to `main` and to configurations.

    Raises:
        ValueError: The name is taken.
    """
    known = TASKS if isinstance(item, Task) else STUDIES
    if known.get(item.name, item) is not item:
        raise ValueError(f"There is already a {type(item).__name__.lower()} called {item.name!r}")
    known[item.name] = item
