"""Tasks by name. A task is data, loss, metric and success criterion, one file each."""

import os
from typing import Any

from keras_deeplstm import validation
from keras_deeplstm.experiments.tasks import own, tables
from keras_deeplstm.experiments.tasks.automata import rule_110, rule_110_recall
from keras_deeplstm.experiments.tasks.digits import digits
from keras_deeplstm.experiments.tasks.fashion_mnist import fashion_mnist
from keras_deeplstm.experiments.tasks.mnist import mnist
from keras_deeplstm.experiments.tasks.task import DataError, Splits, Task

__all__ = ["OWN_DATA", "TASKS", "DataError", "Splits", "Task", "get_task", "resolve"]

# What a path may be in place of a name, and what is expected there.
OWN_DATA = {
    "FILE.npz": "data of your own: x and y, or x_train, y_train, x_test, y_test",
    "FILE.csv": "a table of your own, or FILE.parquet; --target names the column to predict",
    "./FOLDER": "images of your own: .png, .jpg or .bmp, one folder for each class",
}
TASKS = {t.name: t for t in (digits, mnist, fashion_mnist, rule_110, rule_110_recall)}


def get_task(name: str) -> Task:
    """Return the task called `name`, or the one that a path stands for.

    Args:
        name: "digits", "mnist", "fashion-mnist", "rule-110", "rule-110-recall" or a name that was
            registered; or the path of an .npz file, of a table or of a folder of images. The data
            are read when the task's `load` is called.

    Returns:
        A `Task`.

    Raises:
        ValueError: There is none. The text proposes the nearest one.

    Example:

    >>> from keras_deeplstm.experiments import get_task
    >>> task = get_task("digits")
    >>> task.input_shape, task.num_classes, task.load(None).train[0].shape
    ((8, 8, 1), 10, (1257, 8, 8, 1))
    >>> get_task("./letters.npz").name
    'letters'
    """
    name = resolve(name)
    make = tables.task if tables.is_table(name) else own.task
    return TASKS.get(name) or make(name)


def resolve(name: str, **asked: Any) -> str:
    """The name of a task as it is, a path made absolute: it means the same in any folder.

    Args:
        name: As for `get_task`.
        **asked: Of a table: `target`, `kind` and `drop`; they become part of its name.

    Returns:
        The name, or the absolute path.

    Raises:
        ValueError: It is neither, or something is asked of what is no table.
        DataError: A table cannot be read, or has no such columns.

    Example:

    >>> import os
    >>> from keras_deeplstm.experiments.tasks import resolve
    >>> resolve("digits"), os.path.relpath(resolve("./letters.npz"))
    ('digits', 'letters.npz')
    """
    if isinstance(name, str) and name not in TASKS and tables.is_table(name):
        return tables.resolve(name, **asked)
    for option in (option for option, value in asked.items() if value):
        raise ValueError(f"--{option} is for tables, .csv or .parquet. Received: {name!r}")
    if isinstance(name, str) and name not in TASKS and own.is_path(name):
        return os.path.abspath(os.path.expanduser(name))
    also = ", and paths of .npz files, tables and folders of images"
    return validation.known("task", name, TASKS, also)
