"""Import paths of version 0.1 that have moved: they answer until version 0.3, with a warning."""

import importlib
import importlib.abc
import importlib.util
import warnings

HERE = __name__.rpartition(".")[0]
SEQUENCE_TASKS = (
    *("task", "adding", "algorithmic", "counting", "long_lags", "reber", "series", "sines"),
    *("temporal_order", "two_sequence"),
)
MOVED = {  # old name: new name, both without the package's own
    "config": "settings",
    "sequences": "tasks.sequences",
    **{f"sequences.{name}": f"tasks.sequences.{name}" for name in SEQUENCE_TASKS},
    "sequences.config": "settings.sequences",
    "sequences.training": "training.sequences",
    "summary": "runs.groups",
    "text": "tasks.text",
    "text.training": "training.text",
}


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds a module of version 0.1 by its old name."""

    def find_spec(self, fullname, path=None, target=None):
        """The spec of a module that has moved, else None."""
        package, _, name = fullname.partition(f"{HERE}.")
        if package or name not in MOVED:
            return None
        return importlib.util.spec_from_loader(fullname, self, is_package=True)

    def create_module(self, spec):
        """The module at its new place, which keeps its name."""
        new = f"{HERE}.{MOVED[spec.name.removeprefix(f'{HERE}.')]}"
        text = f"{spec.name} has moved to {new}. Its old name goes with version 0.3"
        warnings.warn(text, DeprecationWarning, stacklevel=2)
        module = importlib.import_module(new)
        self.own = module.__spec__
        return module

    def exec_module(self, module):
        """Put back what the import of the old name has changed."""
        module.__spec__ = self.own
