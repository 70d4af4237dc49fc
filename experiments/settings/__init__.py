"""The settings of any run: which kinds there are, and which of them a `config.json` is of."""

from typing import Any

from keras_deeplstm.experiments.settings.base import (
    ConfigError,
    Settings,
    UnknownError,
    config_errors,
)
from keras_deeplstm.experiments.settings.blocks import OWN_BLOCKS, Block
from keras_deeplstm.experiments.settings.classifiers import ModelConfig, RunConfig
from keras_deeplstm.experiments.settings.sequences import SequenceConfig, SequenceModelConfig
from keras_deeplstm.experiments.settings.text import TextConfig, TextModelConfig
from keras_deeplstm.experiments.tasks import tables

__all__ = [
    "OWN_BLOCKS",
    "Block",
    "ConfigError",
    "ModelConfig",
    "RunConfig",
    "SequenceConfig",
    "SequenceModelConfig",
    "Settings",
    "TextConfig",
    "TextModelConfig",
    "UnknownError",
    "config_errors",
    "from_dict",
]


def from_dict(data: dict[str, Any]) -> Settings:
    """The settings that `to_dict` wrote, of whatever kind; see `RunConfig.from_dict`.

    A run that has a text is one of `deeplstm train-text`, one that has a number of sequences is one
    of `deeplstm solve`. Nothing else is read: what is asked of a table must be part of its name.
    """
    kind: type[Settings] = RunConfig
    if isinstance(data, dict):
        kind = TextConfig if "text" in data else SequenceConfig if "sequences" in data else kind
        name = data.get("task")
        if kind is RunConfig and isinstance(name, str) and tables.is_table(name):
            asked = tables.Source.of(name)
            if not (asked.target and asked.kind):
                raise ConfigError(f"The task must name a target and a kind. Received: {name!r}")
    return kind.from_dict(data)
