"""The settings of a character language model's run, for Python, the command line and JSON."""

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import tyro

from keras_deeplstm import validation
from keras_deeplstm.experiments.settings.base import (
    OPTIMIZERS,
    ConfigError,
    SequenceModel,
    Settings,
    check_clipping,
    check_keys,
    check_seed,
    config_errors,
    refuse_unknown,
)
from keras_deeplstm.experiments.tasks.text.sources import NAMES

BLOCKS = {
    "grid_lstm": ("GridLSTM2D", ("tied", "priority", "project_inputs", "output", "normalization")),
    "lstm": ("LSTM", ()),
}


@dataclass(frozen=True)
class TextModelConfig(SequenceModel):
    """What the model is made of. Options that the block does not know are refused."""

    BLOCKS: ClassVar = BLOCKS
    DEFAULT_UNITS: ClassVar = 128

    block: Literal["grid_lstm", "lstm"] = "grid_lstm"
    """LSTMs over time and depth, or stacked LSTMs over time."""
    depth: int = 2
    """Number of layers."""
    units: int | None = None
    """Width of every layer; 128 if neither units nor parameters are given."""
    parameters: int | None = None
    """Instead of units: the widest model with at most this many parameters."""
    dropout: float = 0.0
    """Dropout rate on the outputs of layers, between them and before the readout."""
    tied: Literal[False, "depth", True] = False
    """Layers share their depth LSTM ("depth"), or all weights (True); of grid_lstm."""
    priority: Literal["depth"] | None = "depth"
    """Whether the depth LSTM reads the new state of the time LSTM, or that before; of grid_lstm."""
    project_inputs: Literal["hidden", "both"] | None = None
    """Projections of the embedding into hidden state, or into memory as well; of grid_lstm."""
    output: Literal["hidden", "both"] = "hidden"
    """What is read out at the top, hidden state or memory as well; of grid_lstm."""
    normalization: Literal["layer"] | None = None
    """Normalization inside the LSTMs; of grid_lstm."""

    def __post_init__(self):
        with config_errors():
            validation.one_of("model.block", self.block, tuple(BLOCKS))
            validation.positive_integer("model.depth", self.depth, at_most=10_000)
            if self.units is not None:
                validation.positive_integer("model.units", self.units, at_most=65_536)
            if self.parameters is not None:
                validation.positive_integer("model.parameters", self.parameters)
                if self.units is not None:
                    raise ValueError(
                        f"Pass either `model.units` or `model.parameters`. Received: "
                        f"model.units={self.units}, model.parameters={self.parameters}"
                    )
            validation.fraction("model.dropout", self.dropout)
            if not isinstance(self.tied, bool) and self.tied != "depth":
                raise ValueError(
                    f"Argument `model.tied` must be False, 'depth' or True. "
                    f"Received: model.tied={self.tied!r}"
                )
            validation.one_of("model.priority", self.priority, ("depth", None))
            validation.one_of("model.project_inputs", self.project_inputs, ("hidden", "both", None))
            validation.one_of("model.output", self.output, ("hidden", "both"))
            validation.one_of("model.normalization", self.normalization, ("layer", None))
            known = BLOCKS[self.block][1]
            refuse_unknown("model.", self._changed(), f"block {self.block!r}", known)


@dataclass(frozen=True)
class TextConfig(Settings):
    """One text, one character language model, one training setting, one seed."""

    RESULTS: ClassVar = (
        *("val_loss", "val_bits", "test_loss", "test_bits", "best_epoch", "symbols_per_second"),
        *("parameters", "units", "seconds"),
    )

    text: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="FILE")] = "python-reference"
    """A file, UTF-8 or with --bytes any other; or a name: python-reference (the language reference
    in every Python installation), tinyshakespeare, enwik8 (which is always read as bytes)."""
    model: TextModelConfig = field(default_factory=TextModelConfig)
    bytes: bool = False
    """The symbols are bytes, not characters."""
    split: tuple[float, float, float] = (0.9, 0.05, 0.05)
    """Shares of training, validation and test text, in this order from the begin of the file."""
    sequence_length: int = 50
    """Time steps that a gradient goes back; the state goes on from batch to batch."""
    batch_size: int = 50
    """Places of the text that are read at once."""
    epochs: int = 20
    """Passes over the training text."""
    evaluate_every: int = 1000
    """Evaluate on the validation text, and keep the best model, after at most this many steps;
    always at the end of a pass."""
    report_every: int = 100
    """A row of metrics.csv, and a checkpoint if the time for one is there, after at most this many
    steps. That much may be lost if a run is interrupted."""
    optimizer: str = "adam"
    """One of adam, adamw, nadam, rmsprop, sgd."""
    learning_rate: float = 2e-3
    """Learning rate of the optimizer, at the start."""
    schedule: Literal["constant", "decay", "cosine"] = "decay"
    """The learning rate stays; or is multiplied by --decay for every pass after --decay-after; or
    falls to zero along a cosine over the whole training."""
    decay: float = 0.97
    """Factor of the learning rate for each pass; of schedule decay."""
    decay_after: int = 10
    """The first passes, which have the full learning rate; of schedule decay."""
    clipnorm: float | None = 1.0
    """Each weight's gradient is clipped to this norm; None switches that off."""
    clipvalue: float | None = None
    """Each element of gradients is clipped to this size; needs --clipnorm None."""
    sample_length: int = 300
    """Symbols that the model writes after each evaluation; 0 for none."""
    seed: int = 0
    """Seed of the initial weights, dropout and samples."""

    def __post_init__(self):
        with config_errors():
            if not isinstance(self.text, str) or not self.text or "\0" in self.text:
                raise ValueError(
                    f"Argument `text` must be the name of a file or a text. "
                    f"Received: text={validation.shown(self.text)}"
                )
            if self.text not in NAMES:
                # So that a run can only go on with the text that it began with.
                object.__setattr__(self, "text", os.path.abspath(self.text))
            if not isinstance(self.model, TextModelConfig):
                raise ValueError(
                    f"Argument `model` must be a TextModelConfig. Received: {self.model!r}"
                )
            validation.boolean("bytes", self.bytes)
            self._check_split()
            for name in ("sequence_length", "batch_size", "epochs", "decay_after"):
                validation.positive_integer(name, getattr(self, name))
            for name in ("evaluate_every", "report_every"):
                validation.positive_integer(name, getattr(self, name))
            validation.one_of("optimizer", self.optimizer, OPTIMIZERS)
            validation.finite("learning_rate", self.learning_rate, positive=True)
            validation.one_of("schedule", self.schedule, ("constant", "decay", "cosine"))
            if validation.finite("decay", self.decay, positive=True) > 1:
                raise ValueError(f"Argument `decay` must be at most 1. Received: {self.decay}")
            if self.schedule != "decay":
                changed = [
                    name
                    for name in ("decay", "decay_after")
                    if getattr(self, name) != getattr(type(self), name)
                ]
                refuse_unknown("", changed, f"schedule {self.schedule!r}", ())
            check_clipping(self.clipnorm, self.clipvalue)
            if self.sample_length != 0:
                validation.positive_integer("sample_length", self.sample_length)
            check_seed(self.seed)

    def _check_split(self):
        if isinstance(self.split, tuple) and len(self.split) == 3:
            shares = [validation.finite("split", share, positive=True) for share in self.split]
            if abs(sum(shares) - 1) < 1e-6:
                return
        raise ValueError(
            f"Argument `split` must be three positive numbers with the sum 1. "
            f"Received: split={validation.shown(self.split)}"
        )

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "TextConfig":
        """The inverse of `to_dict`; unknown keys and wrong values raise `ConfigError`."""
        check_keys(cls, data, "config")
        if "text" not in data:
            raise ConfigError("Missing required key 'text' in 'config'")
        model = data.get("model", {})
        check_keys(TextModelConfig, model, "model")
        data = {**data, "model": TextModelConfig(**model)}
        if isinstance(data.get("split"), list):
            data["split"] = tuple(data["split"])  # JSON knows no tuples
        return cls(**data)

    @property
    def subject(self) -> str:
        """The text's name, or that of its file without folders."""
        return Path(self.text).name

    @property
    def slug(self) -> str:
        """Folder name that tells the settings: ``"text-tinyshakespeare-grid_lstm-depth2-..."``."""
        name = re.sub(r"[^A-Za-z0-9._-]+", "_", self.subject)[:30]
        words = ["text", name, self.model.block, *self.model.label.split()[1:]]
        size = self.model.size.replace(",", "").replace(" ", "")
        words += [f"depth{self.model.depth}", size, f"seed{self.seed}"]
        return re.sub(r"[^A-Za-z0-9._-]", "-", "-".join(words))
