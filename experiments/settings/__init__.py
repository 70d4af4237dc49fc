"""The settings of any run: which kinds there are, and which of them a `config.json` is of."""

from typing import Any

from keras_deeplstm.experiments.settings.classifiers import RunConfig
from keras_deeplstm.experiments.settings.sequences import SequenceConfig
from keras_deeplstm.experiments.settings.text import TextConfig

Config = RunConfig | TextConfig | SequenceConfig


def from_dict(data: dict[str, Any]) -> Config:
    """The settings that `to_dict` wrote; see `RunConfig.from_dict`.

    A run that has a text is one of `deeplstm train-text`, one that has a number of sequences is one
    of `deeplstm solve`.
    """
    kind: type[Config] = RunConfig
    if isinstance(data, dict):
        kind = TextConfig if "text" in data else SequenceConfig if "sequences" in data else kind
    return kind.from_dict(data)
