"""Where a run was trained: versions, machine and command."""

import os
import platform
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

PACKAGES = ("keras_deeplstm", "keras", "tensorflow", "jax", "torch", "numpy", "scikit-learn")


def describe(command: str) -> dict[str, Any]:
    """The content of `environment.json`; of the environment variables none but Keras' backend."""
    import keras  # `deeplstm --help` and `deeplstm list` do not wait for it

    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        "command": command,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "backend": keras.config.backend(),
        "python": platform.python_version(),
        "versions": versions,
        "platform": platform.platform(),
        "processor": platform.machine(),
        "cpus": os.cpu_count(),
    }
