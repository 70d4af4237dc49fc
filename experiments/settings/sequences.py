"""The settings of a run on a sequence task, for Python, the command line and JSON."""

import re
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

import tyro

from keras_deeplstm import validation
from keras_deeplstm.experiments.settings.base import (
    OPTIMIZERS,
    ConfigError,
    SequenceModel,
    Settings,
    changed,
    check_clipping,
    check_jit_compile,
    check_keys,
    check_seed,
    config_errors,
    refuse_unknown,
)
from keras_deeplstm.experiments.settings.classifiers import UNITS
from keras_deeplstm.experiments.tasks.sequences import (
    SequenceTask,
    parse,
    spec,
)

_BIASES = ("forget_bias", "input_gate_bias")
BLOCKS = {
    "grid_lstm": (
        "GridLSTM2D",
        ("tied", "priority", "project_inputs", "output", "normalization", "skip", *_BIASES),
    ),
    "lstm": ("LSTM", ("skip", *_BIASES)),
    "guess": ("Guessing", ()),
    "unfolded_lstm": (
        "UnfoldedLSTMBlock",
        ("tied", "input_mode", "output", "normalization", *_BIASES),
    ),
    "dense": ("DenseStack", ("tied", "activation")),
    "highway": ("HighwayBlock", ("tied", "activation")),
    "residual": ("ResidualBlock", ("tied", "activation")),
}
OVER_TIME = ("grid_lstm", "lstm", "guess")


@dataclass(frozen=True)
class SequenceModelConfig(SequenceModel):
    """What the model is made of. Options that the block does not know are refused."""

    BLOCKS: ClassVar = BLOCKS
    DEFAULT_UNITS: ClassVar = UNITS

    block: Literal[
        "grid_lstm", "lstm", "guess", "unfolded_lstm", "dense", "highway", "residual"
    ] = "grid_lstm"
    """LSTMs over time and depth, or stacked LSTMs over time, or guess: small recurrent networks
    whose weights are drawn at random until they solve the task, never trained. Of a task without
    time, one of the others."""
    depth: int = 1
    """Number of layers, or of steps over depth."""
    units: int | None = None
    """Width of every layer or step; 100 if neither units nor parameters are given."""
    parameters: int | None = None
    """Instead of units: the widest model with at most this many parameters."""
    dropout: float = 0.0
    """Dropout rate on the outputs of layers or steps."""
    tied: Literal[False, "depth", True] = False
    """Layers or steps share their weights; of a grid_lstm also "depth", only those over depth."""
    forget_bias: float | None = None
    """Initial bias of the forget gate, of a grid_lstm that over time; None leaves it to the block.
    The logarithm of the length makes a memory that lasts as long (chrono initialization)."""
    input_gate_bias: float | None = None
    """Initial bias of the input gate, the same. A negative one keeps distractors out."""
    priority: Literal["depth"] | None = "depth"
    """Whether the depth LSTM reads the new state of the time LSTM, or that before; of grid_lstm."""
    project_inputs: Literal["hidden", "both"] = "hidden"
    """Projections of the inputs into hidden state, or into memory as well; of grid_lstm."""
    output: Literal["hidden", "both"] = "hidden"
    """What is read out at the top, hidden state or memory as well; of grid_lstm, unfolded_lstm."""
    input_mode: Literal["first", "every", "state"] = "first"
    """Where the input enters: first step, every step, or initial state; of unfolded_lstm."""
    normalization: Literal["batch", "layer"] | None = None
    """Normalization inside the LSTMs; "batch" of unfolded_lstm only."""
    activation: str | None = None
    """Keras activation; of dense, highway and residual."""
    skip: bool = False
    """The outputs read the inputs of their step, too; of grid_lstm and lstm, for tasks that are
    answered at every step."""

    def __post_init__(self):
        with config_errors():
            validation.one_of("model.block", self.block, tuple(BLOCKS))
            validation.positive_integer("model.depth", self.depth, at_most=10_000)
            for name in ("units", "parameters"):
                if getattr(self, name) is not None:
                    validation.positive_integer(f"model.{name}", getattr(self, name))
            if self.units is not None and self.parameters is not None:
                raise ValueError(
                    f"Pass either `model.units` or `model.parameters`. Received: "
                    f"model.units={self.units}, model.parameters={self.parameters}"
                )
            validation.fraction("model.dropout", self.dropout)
            tied = (False, "depth", True) if self.block == "grid_lstm" else (False, True)
            if self.tied not in tied:
                raise ValueError(
                    f"Argument `model.tied` must be one of {tied}. "
                    f"Received: model.tied={self.tied!r}"
                )
            for name in _BIASES:
                if getattr(self, name) is not None:
                    validation.finite(f"model.{name}", getattr(self, name))
            validation.one_of("model.priority", self.priority, ("depth", None))
            validation.one_of("model.project_inputs", self.project_inputs, ("hidden", "both"))
            validation.one_of("model.output", self.output, ("hidden", "both"))
            validation.one_of("model.input_mode", self.input_mode, ("first", "every", "state"))
            kinds = (None, "layer") if self.block in OVER_TIME else (None, "batch", "layer")
            validation.one_of("model.normalization", self.normalization, kinds)
            validation.boolean("model.skip", self.skip)
            if self.block == "guess" and (self.depth, self.dropout, self.parameters) != (
                1,
                0,
                None,
            ):
                raise ValueError(
                    "Block 'guess' has one layer, no dropout, and `model.units`. Received: "
                    f"model.depth={self.depth}, model.dropout={self.dropout}, "
                    f"model.parameters={self.parameters}"
                )
            if not isinstance(self.activation, str | None):
                raise ValueError(
                    f"Argument `model.activation` must be a string or None. "
                    f"Received: model.activation={self.activation!r}"
                )
            known = BLOCKS[self.block][1]
            refuse_unknown("model.", self._changed(), f"block {self.block!r}", known)


@dataclass(frozen=True)
class SequenceConfig(Settings):
    """One task, one model, one training setting, one seed; trained until the task is solved."""

    RESULTS: ClassVar = ("solved", "trained_sequences", "parameters", "units", "seconds")

    task: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="TASK")]
    """Name of the task, with parameters if you like: adding:length=200,target=mean;
    `deeplstm list sequences` shows them all."""
    model: SequenceModelConfig = field(default_factory=SequenceModelConfig)
    sequences: int = 100_000
    """Train with at most this many sequences."""
    evaluate_every: int = 1000
    """Look whether the task is solved after this many sequences."""
    full: bool = False
    """Train with all these sequences, even if the task is solved before."""
    batch_size: int = 32
    """Sequences per training step."""
    optimizer: str = "adam"
    """One of adam, adamw, nadam, rmsprop, sgd."""
    learning_rate: float = 1e-3
    """Learning rate of the optimizer, at the start."""
    momentum: float = 0.0
    """Momentum; of optimizers sgd and rmsprop."""
    schedule: Literal["constant", "step", "cosine"] = "constant"
    """The learning rate stays; or is multiplied by --decay after each --decay-every sequences; or
    falls to zero along a cosine over the whole training."""
    decay: float = 0.1
    """Factor of the learning rate; of schedule step."""
    decay_every: int = 250_000
    """Sequences between the changes of the learning rate; of schedule step."""
    clipnorm: float | None = 1.0
    """Each weight's gradient is clipped to this norm; None switches that off."""
    clipvalue: float | None = None
    """Each element of gradients is clipped to this size; needs --clipnorm None."""
    input_noise: float = 0.0
    """Standard deviation of normal noise that is added to the inputs in training."""
    jit_compile: bool | None = None
    """Compile the training step with XLA; None leaves that to Keras: on TensorFlow with a GPU, on
    JAX always. With small models it pays on a CPU, too, but for runs of a few seconds."""
    seed: int = 0
    """Seed of the initial weights and of all sequences."""

    def __post_init__(self):
        with config_errors():
            if not isinstance(self.task, str):
                raise ValueError(f"Argument `task` must be a string. Received: task={self.task!r}")
            # The same task has one name only, whatever the order of its parameters.
            object.__setattr__(self, "task", spec(parse(self.task)))
            if not isinstance(self.model, SequenceModelConfig):
                raise ValueError(
                    f"Argument `model` must be a SequenceModelConfig. Received: {self.model!r}"
                )
            if self.model.block == "guess":
                own = ("sequences", "seed")
                others = changed(self, but=("task", "model", *own))
                refuse_unknown("", others, "block 'guess', which does not train", own)
            for name in ("sequences", "evaluate_every", "batch_size", "decay_every"):
                validation.positive_integer(name, getattr(self, name))
            if self.evaluate_every < self.batch_size:
                raise ValueError(
                    f"Argument `evaluate_every` must be at least batch_size={self.batch_size}. "
                    f"Received: evaluate_every={self.evaluate_every}"
                )
            if self.sequences < self.evaluate_every and self.model.block != "guess":
                raise ValueError(
                    f"Argument `sequences` must be at least evaluate_every={self.evaluate_every}. "
                    f"Received: sequences={self.sequences}"
                )
            validation.boolean("full", self.full)
            validation.one_of("optimizer", self.optimizer, OPTIMIZERS)
            validation.finite("learning_rate", self.learning_rate, positive=True)
            if not 0 <= validation.finite("momentum", self.momentum) < 1:
                raise ValueError(
                    f"Argument `momentum` must be in [0, 1). Received: {self.momentum}"
                )
            if self.momentum and self.optimizer not in ("sgd", "rmsprop"):
                raise ValueError(
                    f"Argument `momentum` has no meaning for optimizer {self.optimizer!r}"
                )
            validation.one_of("schedule", self.schedule, ("constant", "step", "cosine"))
            if validation.finite("decay", self.decay, positive=True) > 1:
                raise ValueError(f"Argument `decay` must be at most 1. Received: {self.decay}")
            if self.schedule != "step":
                names = ("decay", "decay_every")
                unused = [n for n in names if getattr(self, n) != getattr(type(self), n)]
                refuse_unknown("", unused, f"schedule {self.schedule!r}", ())
            check_clipping(self.clipnorm, self.clipvalue)
            if validation.finite("input_noise", self.input_noise) < 0:
                raise ValueError(
                    f"Argument `input_noise` must be >= 0. Received: {self.input_noise}"
                )
            check_jit_compile(self.jit_compile)
            check_seed(self.seed)
            over_time = self.model.block in OVER_TIME
            if over_time != (self.make_task().steps is not None):
                blocks = [block for block in BLOCKS if (block in OVER_TIME) != over_time]
                raise ValueError(
                    f"Task {self.subject!r} has {'no ' if over_time else ''}time. Argument "
                    f"`model.block` must be one of {blocks}. Received: {self.model.block!r}"
                )

    def make_task(self) -> SequenceTask:
        """The task."""
        return parse(self.task)

    @property
    def steps_of_part(self) -> int:
        """Training steps between two evaluations."""
        return self.evaluate_every // self.batch_size

    @property
    def parts(self) -> int:
        """The most evaluations."""
        return self.sequences // (self.steps_of_part * self.batch_size)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "SequenceConfig":
        """The inverse of `to_dict`; unknown keys and wrong values raise `ConfigError`."""
        check_keys(cls, data, "config")
        if "task" not in data:
            raise ConfigError("Missing required key 'task' in 'config'")
        model = data.get("model", {})
        check_keys(SequenceModelConfig, model, "model")
        return cls(**{**data, "model": SequenceModelConfig(**model)})

    @property
    def subject(self) -> str:
        """The task with its parameters."""
        return self.task

    @property
    def slug(self) -> str:
        """Folder name that tells the settings: ``"adding-length-200-lstm-depth1-100units-..."``."""
        size = self.model.size.replace(",", "").replace(" ", "")
        words = [self.subject, self.model.block, *self.model.label.split()[1:]]
        words += [f"depth{self.model.depth}", size, f"seed{self.seed}"]
        return re.sub(r"[^A-Za-z0-9._-]", "-", "-".join(words))


def sequence_outcome(result: dict[str, Any]) -> str:
    """One line for the terminal: solved or not, errors on new sequences, seconds."""
    seconds = f"{result['seconds']:.0f} s"
    if result["diverged"]:
        return f"not solved, diverged: {result['diverged']}; {seconds}"
    solved = f"not solved with {result['trained_sequences']:,} sequences"
    if result["solved"]:
        solved = f"solved with {result['sequences']:,} sequences"
    if result["test_wrong"] is None:  # guessing has found nothing to test
        return f"{solved}; {seconds}"
    return (
        f"{solved}; in the test {result['test_wrong']:.2%} of {result['test_sequences']:,} wrong, "
        f"mean error {result['test_error']:.3g}; {seconds}"
    )
