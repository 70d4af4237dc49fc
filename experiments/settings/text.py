"""The settings of a character language model's run: for Python, the command line, `config.json`."""

import os
import re
import shlex
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import tyro

from keras_deeplstm import validation
from keras_deeplstm.experiments.settings import base
from keras_deeplstm.experiments.tasks.measures import Measure
from keras_deeplstm.experiments.tasks.text.sources import NAMES

_GRID = ("tied", "priority", "project_inputs", "output", "normalization", "peepholes")
_TRANSFORMER = ("connection", "heads", "feedforward", "tied")
_DEPTH_LSTM = ("forget_bias", "input_gate_bias", "memory", "memory_normalization")


@dataclass(frozen=True)
class TextModelConfig(base.Model):
    """What the model is made of. Options that the block does not know are refused."""

    BLOCKS: ClassVar = {
        "grid_lstm": ("GridLSTM2D", _GRID),
        "lstm": ("LSTM", ()),
        "transformer": ("Transformer", (*_TRANSFORMER, *_DEPTH_LSTM)),
    }
    DEFAULT_UNITS: ClassVar = 128
    IN_WORDS: ClassVar = ("connection",)

    block: Literal["grid_lstm", "lstm", "transformer"] = "grid_lstm"
    """LSTMs over time and depth; stacked LSTMs over time; or causal attention, connected along
    depth by an LSTM, or by what that is compared with."""
    depth: base.Depth = 2
    """Number of layers; of a transformer, of attention layers."""
    units: base.Units | None = None
    """Width of every layer; 128 if neither units nor parameters are given."""
    parameters: base.Count | None = None
    """Instead of units: the widest model with at most this many parameters."""
    dropout: base.Fraction = 0.0
    """Dropout rate on the outputs of layers, between them and before the readout."""
    tied: Literal[False, "depth", True] = False
    """Layers share their depth LSTM ("depth"), or all weights (True); of grid_lstm. Of a
    transformer without feed-forward parts: all layers share all weights (True)."""
    priority: Literal["depth"] | None = "depth"
    """Whether the depth LSTM reads the new state of the time LSTM, or that before; of grid_lstm."""
    project_inputs: Literal["hidden", "both"] | None = None
    """Projections of the embedding into hidden state, or into memory as well; of grid_lstm."""
    output: Literal["hidden", "both"] = "hidden"
    """What is read out at the top, hidden state or memory as well; of grid_lstm."""
    normalization: Literal["layer"] | None = None
    """Normalization inside the LSTMs; of grid_lstm."""
    peepholes: bool = False
    """The gates see the memory; of grid_lstm."""
    connection: base.Connection = "lstm"
    """What connects the layers of a transformer: an LSTM over depth; residual additions, pre-norm,
    post-norm, with a learned weight or scaled by 1 / sqrt(layer); or highway gates."""
    heads: base.Count = 4
    """Heads of attention; of a transformer."""
    feedforward: bool | None = None
    """Whether a feed-forward part follows each attention; if not given, not with an LSTM, which has
    as many weights; of a transformer."""
    forget_bias: base.Number | Literal["depth"] | None = "depth"
    """Initial bias of the forget gate; "depth" is log(depth), at least 1; of connection lstm."""
    input_gate_bias: base.Number | Literal["depth"] | None = None
    """Initial bias of the input gate; "depth" is -log(depth); of connection lstm."""
    memory: Literal["zeros", "input"] = "zeros"
    """The first memory cell: zeros, or the input; of connection lstm."""
    memory_normalization: Literal["layer", "rms"] | None = None
    """Normalization of the memory where it enters tanh; of connection lstm."""

    @property
    def over_time(self) -> bool:
        """Whether it has states that go on over time; a transformer sees a window of the text."""
        return self.block != "transformer"

    def _check(self):
        super()._check()
        if self.block != "transformer":
            return
        base.check_connection(self.connection, self.block_options, _DEPTH_LSTM)
        if self.tied:
            if self.tied == "depth":
                validation.refuse("model.tied", "a boolean for block 'transformer'", self.tied)
            if self.feedforward or (self.feedforward is None and self.connection != "lstm"):
                raise ValueError(
                    "Argument `model.tied` needs `model.feedforward` to be false: all layers are "
                    f"one. Received: model.connection={self.connection!r}, "
                    f"model.feedforward={self.feedforward}"
                )

    @property
    def words(self) -> str:
        """The block in words; a transformer with its connection."""
        words = super().words
        return words if self.over_time else f"{words} {self.connection}"


@dataclass(frozen=True)
class TextConfig(base.Settings):
    """One text, one character language model, one training setting, one seed."""

    command: ClassVar = "train-text"
    COUNTED: ClassVar = "step"
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
    sequence_length: base.Count = 50
    """Time steps that a gradient goes back; the state is carried from batch to batch. A transformer
    sees so many symbols, and trains on random places of the text."""
    batch_size: base.Count = 50
    """Places of the text that are read at once."""
    epochs: base.Count = 20
    """Passes over the training text."""
    evaluate_every: base.Count = 1000
    """Evaluate on the validation text, and keep the best model, after at most this many steps;
    always at the end of a pass."""
    report_every: base.Count = 100
    """A row of metrics.csv, and a checkpoint if the time for one is there, after at most this many
    steps. That much may be lost if a run is interrupted."""
    optimizer: base.Optimizer = "adam"
    """One of adam, adamw, nadam, rmsprop, sgd."""
    learning_rate: base.Positive = 2e-3
    """Learning rate of the optimizer, at the start."""
    schedule: Literal["constant", "decay", "cosine"] = "decay"
    """The learning rate stays; or is multiplied by --decay for every pass after --decay-after; or
    falls to zero along a cosine over the whole training."""
    warmup: Annotated[int, partial(validation.integer, at_least=0)] = 0
    """First steps, in which the learning rate rises from zero; of schedule cosine."""
    beta_2: base.Factor = 0.999
    """Decay of the mean squared gradient; of optimizers adam, adamw and nadam."""
    decay: base.Factor = 0.97
    """Factor of the learning rate for each pass; of schedule decay."""
    decay_after: base.Count = 10
    """The first passes, which have the full learning rate; of schedule decay."""
    clipnorm: base.Positive | None = 1.0
    """Each weight's gradient is clipped to this norm; None switches that off."""
    clipvalue: base.Positive | None = None
    """Each element of gradients is clipped to this size; needs --clipnorm None."""
    jit_compile: bool | None = None
    """Compile the training step with XLA; None leaves that to Keras: on TensorFlow with a GPU, on
    JAX always. On a CPU it pays for a transformer."""
    sample_length: Annotated[int, partial(validation.integer, at_least=0)] = 300
    """Symbols that the model writes after each evaluation; 0 for none."""
    seed: base.Seed = 0
    """Seed of the initial weights, dropout and samples."""

    def _complete(self):
        if not isinstance(self.text, str) or not self.text or "\0" in self.text:
            validation.refuse("text", "the name of a file or a text", self.text)
        if self.text not in NAMES:
            # So that a run can only go on with the text that it began with.
            object.__setattr__(self, "text", os.path.abspath(self.text))

    def _check(self):
        super()._check()
        self._check_decay("decay", "decay", "decay_after")
        self._check_decay("cosine", "warmup")
        if "adam" not in self.optimizer and "beta_2" in self.changed():
            base.refuse_unknown("", ["beta_2"], f"optimizer {self.optimizer!r}", ())
        split = self.split if isinstance(self.split, tuple) else ()
        shares = [validation.finite("split", share, positive=True) for share in split]
        if len(shares) != 3 or abs(sum(shares) - 1) >= 1e-6:
            validation.refuse("split", "three positive numbers with the sum 1", self.split)

    @property
    def measure(self) -> Measure:
        return Measure("bits", "min", ".3f")

    @property
    def subject(self) -> str:
        """The text's name, or that of its file without folders."""
        return Path(self.text).name

    @property
    def listed(self) -> str:
        return f"text: {self.subject}"

    @property
    def stem(self) -> str:
        return f"text-{re.sub(r'[^A-Za-z0-9._-]+', '_', self.subject)[:30]}"

    @property
    def rounds(self) -> int:
        """The epochs."""
        return self.epochs

    def progress(self, row: dict[str, Any]) -> str:
        parts = [
            f"step {row['step']}",
            f"epoch {row['epoch']:.4g} of {self.epochs}",
            f"loss {row['loss']:.4f} ({row['bits']:.3f} bits)",
        ]
        if "val_bits" in row:
            parts.append(f"validation {row['val_loss']:.4f} ({row['val_bits']:.3f} bits)")
        return "  ".join([*parts, f"{row['seconds']:.1f} s"])

    def outcome(self, result: dict[str, Any]) -> str:
        """Bits on the test text, parameters, seconds."""
        return (
            f"test {result['test_bits']:.3f} bits per symbol ({result['test_loss']:.4f} nats), "
            f"{result['parameters']:,} parameters, {result['seconds']:.0f} s"
        )

    def short(self, result: dict[str, Any]) -> str:
        return f"{result['test_bits']:.3f} bits"

    def next_step(self, folder: Path) -> str:
        return f"Sample: deeplstm sample {shlex.quote(str(folder))}"
