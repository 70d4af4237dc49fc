"""The settings of a run on a sequence task: for Python, the command line, `config.json`."""

import re
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

import tyro

from keras_deeplstm import validation
from keras_deeplstm.experiments.settings import base
from keras_deeplstm.experiments.tasks.measures import Measure
from keras_deeplstm.experiments.tasks.sequences import SequenceTask, parse, spec

_BIASES = ("forget_bias", "input_gate_bias")
_LSTM = ("tied", "output", "normalization", "peepholes", *_BIASES)
_GRID = (*_LSTM, "priority", "project_inputs", "skip")
_UNFOLDED = (*_LSTM, "input_mode")
OVER_TIME = ("grid_lstm", "lstm", "guess")


@dataclass(frozen=True)
class SequenceModelConfig(base.Model):
    """What the model is made of. Options that the block does not know are refused."""

    BLOCKS: ClassVar = {
        "grid_lstm": ("GridLSTM2D", _GRID),
        "lstm": ("LSTM", ("skip", *_BIASES)),
        "guess": ("Guessing", ()),
        "unfolded_lstm": ("UnfoldedLSTMBlock", _UNFOLDED),
        "dense": ("DenseStack", ("tied", "activation")),
        "highway": ("HighwayBlock", ("tied", "activation")),
        "residual": ("ResidualBlock", ("tied", "activation")),
    }

    block: Literal[
        "grid_lstm", "lstm", "guess", "unfolded_lstm", "dense", "highway", "residual"
    ] = "grid_lstm"
    """LSTMs over time and depth, or stacked LSTMs over time, or guess: small recurrent networks
    whose weights are drawn at random until they solve the task, never trained. Of a task without
    time, one of the others."""
    depth: base.Depth = 1
    """Number of layers, or of steps over depth."""
    units: base.Units | None = None
    """Width of every layer or step; 100 if neither units nor parameters are given."""
    parameters: base.Count | None = None
    """Instead of units: the widest model with at most this many parameters."""
    dropout: base.Fraction = 0.0
    """Dropout rate on the outputs of layers or steps."""
    tied: Literal[False, "depth", True] = False
    """Layers or steps share their weights; of a grid_lstm also "depth", only those over depth."""
    forget_bias: base.Number | None = None
    """Initial bias of the forget gate, of a grid_lstm that over time; None leaves it to the block.
    The logarithm of the length makes a memory that lasts as long (chrono initialization)."""
    input_gate_bias: base.Number | None = None
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
    peepholes: bool = False
    """The gates see the memory; of grid_lstm and unfolded_lstm."""
    activation: str | None = None
    """Keras activation; of dense, highway and residual."""
    skip: bool = False
    """The outputs read the inputs of their step, too; of grid_lstm and lstm, for tasks that are
    answered at every step."""

    def _check(self):
        super()._check()
        if self.block != "grid_lstm":
            validation.one_of("model.tied", self.tied, (False, True))
        if self.block in OVER_TIME:
            validation.one_of("model.normalization", self.normalization, ("layer", None))
        if self.block == "guess" and self.changed(but=("block", "units")):
            raise ValueError(
                "Block 'guess' has one layer, no dropout, and `model.units`. Received: "
                f"model.depth={self.depth}, model.dropout={self.dropout}, "
                f"model.parameters={self.parameters}"
            )


@dataclass(frozen=True)
class SequenceConfig(base.Settings):
    """One task, one model, one training setting, one seed; trained until the task is solved."""

    command: ClassVar = "solve"
    COUNTED: ClassVar = "sequences"
    RESULTS: ClassVar = ("solved", "trained_sequences", "parameters", "units", "seconds")

    task: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="TASK")]
    """Name of the task, with parameters if you like: adding:length=200,target=mean;
    `deeplstm list sequences` shows them all."""
    model: SequenceModelConfig = field(default_factory=SequenceModelConfig)
    sequences: base.Count = 100_000
    """Train with at most this many sequences."""
    evaluate_every: base.Count = 1000
    """Look whether the task is solved after this many sequences."""
    full: bool = False
    """Train with all these sequences, even if the task is solved before."""
    batch_size: base.Count = 32
    """Sequences per training step."""
    optimizer: base.Optimizer = "adam"
    """One of adam, adamw, nadam, rmsprop, sgd."""
    learning_rate: base.Positive = 1e-3
    """Learning rate of the optimizer, at the start."""
    momentum: base.Fraction = 0.0
    """Momentum; of optimizers sgd and rmsprop."""
    schedule: Literal["constant", "step", "cosine"] = "constant"
    """The learning rate stays; or is multiplied by --decay after each --decay-every sequences; or
    falls to zero along a cosine over the whole training."""
    decay: base.Factor = 0.1
    """Factor of the learning rate; of schedule step."""
    decay_every: base.Count = 250_000
    """Sequences between the changes of the learning rate; of schedule step."""
    clipnorm: base.Positive | None = 1.0
    """Each weight's gradient is clipped to this norm; None switches that off."""
    clipvalue: base.Positive | None = None
    """Each element of gradients is clipped to this size; needs --clipnorm None."""
    input_noise: base.NotNegative = 0.0
    """Standard deviation of normal noise that is added to the inputs in training."""
    jit_compile: bool | None = None
    """Compile the training step with XLA; None leaves that to Keras: on TensorFlow with a GPU, on
    JAX always. With small models it pays on a CPU, too, but for runs of a few seconds."""
    seed: base.Seed = 0
    """Seed of the initial weights and of all sequences."""

    def _complete(self):
        if not isinstance(self.task, str):
            validation.refuse("task", "a string", self.task)
        # The same task has one name only, whatever the order of its parameters.
        object.__setattr__(self, "task", spec(parse(self.task)))

    def _check(self):
        super()._check()
        self._check_decay("step", "decay", "decay_every")
        if self.model.block == "guess":
            own = ("sequences", "seed")
            others = self.changed(but=("task", "model", *own))
            base.refuse_unknown("", others, "block 'guess', which does not train", own)
        else:
            for name, least in (("evaluate_every", "batch_size"), ("sequences", "evaluate_every")):
                if getattr(self, name) < getattr(self, least):
                    expected = f"at least {least}={getattr(self, least)}"
                    validation.refuse(name, expected, getattr(self, name))
        if self.momentum and self.optimizer not in ("sgd", "rmsprop"):
            raise ValueError(f"Argument `momentum` has no meaning for optimizer {self.optimizer!r}")
        over_time = self.model.block in OVER_TIME
        if over_time != (self.make_task().steps is not None):
            blocks = [block for block in self.model.BLOCKS if (block in OVER_TIME) != over_time]
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
    def rounds(self) -> int:
        """The most evaluations."""
        return self.sequences // (self.steps_of_part * self.batch_size)

    @property
    def open_ended(self) -> bool:
        return not self.full

    @property
    def measure(self) -> Measure:
        return Measure("wrong", "min", ".1%")

    @property
    def objectives(self) -> dict[str, Measure]:
        number = Measure("number", "min", ".4g")
        return {"wrong": self.measure, "error": number, "loss": number}

    @property
    def subject(self) -> str:
        """The task with its parameters."""
        return self.task

    @property
    def stem(self) -> str:
        return re.sub(r"=.*[/\\]", "=", self.task, flags=re.DOTALL)  # a file without its folders

    @property
    def about(self) -> str:
        task = self.make_task()
        return f"{task.description}\nSolved: {task.criterion.words}"

    @property
    def introduction(self) -> str:
        return f"{self.title}\n{self.about}"

    def progress(self, row: dict[str, Any]) -> str:
        if self.model.block == "guess":
            return ""
        return (
            f"{row['sequences']} sequences  loss {row['loss']:.4f}  wrong {row['wrong']:.1%} of "
            f"{row['seen']}  error {row['error']:.4g}  {row['seconds']:.1f} s"
        )

    def outcome(self, result: dict[str, Any]) -> str:
        """Solved or not, errors on new sequences, seconds."""
        seconds = f"{result['seconds']:.0f} s"
        if result["diverged"]:
            return f"not solved, diverged: {result['diverged']}; {seconds}"
        solved = f"not solved with {result['trained_sequences']:,} sequences"
        if result["solved"]:
            solved = f"solved with {result['sequences']:,} sequences"
        if result["test_wrong"] is None:  # guessing has found nothing to test
            return f"{solved}; {seconds}"
        return (
            f"{solved}; in the test {result['test_wrong']:.2%} of {result['test_sequences']:,} "
            f"wrong, mean error {result['test_error']:.3g}; {seconds}"
        )

    def short(self, result: dict[str, Any]) -> str:
        return f"solved: {result['sequences']:,}" if result["solved"] else "not solved"
