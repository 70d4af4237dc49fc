"""Tasks, runs, studies and reports, and the command `deeplstm`.

With a task, a model or a study of your own, a file of some twenty lines is a command of the same
kind: define them, `register` them and call `main`. See docs/own-task.md.
"""

import sys
from typing import Any

from keras_deeplstm.experiments import moved
from keras_deeplstm.experiments.cli import main
from keras_deeplstm.experiments.settings import OWN_BLOCKS, Block, ModelConfig, RunConfig
from keras_deeplstm.experiments.studies import STUDIES, Study, grid
from keras_deeplstm.experiments.tasks import TASKS, Splits, Task, get_task

__all__ = [
    "Block", "ModelConfig", "RunConfig", "Splits", "Study", "Task", "get_task", "grid", "main",
    "register",
]  # fmt: skip


sys.meta_path.insert(0, moved.Finder())


def register(item: Task | Block | Study) -> None:
    """Make a task, a block or a study known under its name, to `main` and to configurations.

    Args:
        item: A `Task`, a `Block` or a `Study`. The same one again changes nothing.

    Raises:
        ValueError: The name is taken by another one.

    Example:

    >>> import numpy as np
    >>> from keras_deeplstm.experiments import RunConfig, Splits, Task, register
    >>> x, y = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], "float32"), np.array([0, 1, 1, 0])
    >>> register(Task("xor", "which bits differ?", (2,), 2, lambda _: Splits(*[(x, y)] * 3)))
    >>> RunConfig("xor").title
    'xor: UnfoldedLSTMBlock untied, depth 10'
    """
    tables: dict[type, dict[str, Any]] = {Task: TASKS, Block: OWN_BLOCKS, Study: STUDIES}
    known = next(table for kind, table in tables.items() if isinstance(item, kind))
    builtin = ModelConfig.BLOCKS if isinstance(item, Block) else ()
    if known.get(item.name, item) is not item or item.name in builtin:
        raise ValueError(f"There is already a {type(item).__name__.lower()} called {item.name!r}")
    known[item.name] = item
