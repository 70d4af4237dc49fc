"""The settings of a run on images or tables: for Python, the command line, `config.json`."""

import dataclasses
import re
from collections.abc import Callable
from dataclasses import InitVar, dataclass, field
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

import tyro

from keras_deeplstm import validation
from keras_deeplstm.experiments.settings import base
from keras_deeplstm.experiments.settings.blocks import OWN_BLOCKS, Block, Options, TypedOptions
from keras_deeplstm.experiments.tasks import Task, get_task, resolve
from keras_deeplstm.experiments.tasks.measures import Measure
from keras_deeplstm.experiments.words import ratio_text

_SHARED = ("tied", "each_step", "activation", "kernel_initializer", "recurrent_initializer")
_GATE_BIASES = ("forget_bias", "input_gate_bias")
_LSTM = ("input_mode", "normalization", "peepholes", *_GATE_BIASES, "state_initializer")
_GRID = ("patch", "corners", "turns", "read", "project_inputs", "output", "hidden_units")
DEPTH = 10
DEPTHS = {"cnn": 2, "image_grid": 2}  # of blocks of which it is another
# Those that an image_grid is read from: at first opposite ones.
CORNERS = ("top_left", "bottom_right", "top_right", "bottom_left")
CNN_FILTERS = 32  # of the first convolution; each further one has twice as many


@dataclass(frozen=True)
class ModelConfig(base.Model):
    """What the model is made of. Options that the block does not know are refused.

    Raises:
        ConfigError: A value is out of its range, or has no meaning for the block.

    Example:

    >>> from keras_deeplstm.experiments import ModelConfig
    >>> model = ModelConfig(depth=30, units=64, tied=True, dropout=0.1)
    >>> model.label, model.build_arguments()["depth"]
    ('UnfoldedLSTMBlock tied dropout0.1', 30)
    >>> ModelConfig(block="dense", forget_bias=1.0)  # doctest: +NORMALIZE_WHITESPACE
    Traceback (most recent call last):
    keras_deeplstm.experiments.settings.base.ConfigError: Argument `model.forget_bias` has no
    meaning for block 'dense'. Its own options: tied, each_step, activation,
    kernel_initializer, recurrent_initializer
    """

    BLOCKS: ClassVar = {
        "unfolded_lstm": ("UnfoldedLSTMBlock", (*_SHARED, *_LSTM)),
        "dense": ("DenseStack", _SHARED),
        "highway": ("HighwayBlock", _SHARED),
        "residual": ("ResidualBlock", (*_SHARED, "kind")),
        "cnn": ("CNN", ()),
        "deep_cnn": ("DeepCNN", ("connection", "tied", *_GATE_BIASES)),
        "image_grid": ("GridLSTM3D", ("tied", *_GRID)),
    }
    COMMON: ClassVar = (*base.Model.COMMON, "input_noise", "options")

    block: Annotated[
        str,
        tyro.conf.arg(metavar="{unfolded_lstm,dense,highway,residual,cnn,deep_cnn,image_grid}"),
    ] = "unfolded_lstm"
    """Kind of the deep part: an LSTM over depth; a plain, a highway or a residual network of the
    same depth; to compare filters with, a small convolutional network; a deep convolutional network
    whose layers are connected by an LSTM, or by residual additions; a Grid LSTM along rows, columns
    and depth of images. Or one of your own."""
    depth: base.Depth | None = None
    """Number of steps over depth, 10 if not given; of a cnn, number of convolutions, 2 if not
    given; of an image_grid, number of layers, 2 if not given."""
    units: base.Units = base.UNITS
    """Width of every step; of a cnn, of the dense layer after the convolutions; of a deep_cnn,
    filters of each convolution."""
    parameters: base.Count | None = None
    """Instead of units: the largest number of parameters; the widest model within it is taken."""
    dropout: base.Fraction = 0.0
    """Dropout rate on the output of every step; of a cnn, before the readout; of an image_grid,
    between its layers."""
    input_noise: base.NotNegative = 0.0
    """Standard deviation of the normal noise that is added to the inputs in training."""
    tied: bool = False
    """All steps share one set of weights."""
    each_step: bool = False
    """Each step is read out, not only the last one: for tasks with a target for each."""
    input_mode: Literal["first", "every", "state"] = "first"
    """Where the input enters (unfolded_lstm): first step, every step, or initial state."""
    normalization: Literal["batch", "layer"] | None = None
    """Normalization inside the LSTM (unfolded_lstm)."""
    peepholes: bool = False
    """The gates see the memory (unfolded_lstm)."""
    connection: base.Connection = "lstm"
    """What connects the convolutions of a deep_cnn: an LSTM over depth; residual additions,
    pre-norm, post-norm, with a learned weight or scaled by 1 / sqrt(layer); or highway gates."""
    kind: Literal[
        "pre", "scaled", "post", "deepnorm", "rezero", "skipinit", "fixup", "four-layer"
    ] = "pre"
    """Of a residual network: where it is normalized, or what its steps are weighed by at first."""
    forget_bias: base.Number | Literal["depth"] | None = "depth"
    """Initial bias of the forget gate (unfolded_lstm, and deep_cnn with connection lstm); "depth"
    is log(depth), at least 1."""
    input_gate_bias: base.Number | Literal["depth"] | None = None
    """Initial bias of the input gate (of the same); "depth" is -log(depth)."""
    state_initializer: Literal["zeros", "noise"] = "zeros"
    """Initial state (unfolded_lstm): zeros, or noise that is drawn again for each batch."""
    patch: base.Count = 2
    """Height and width of the patches that are the cells of an image_grid, in pixels."""
    corners: Literal[1, 2, 4] = 1
    """From how many corners an image_grid is read: the top left one, that and the bottom right one,
    or all. Each has a network of its own."""
    turns: bool = False
    """There is one network, whose layers take the corners in turn (image_grid)."""
    read: Literal["last", "all"] = "last"
    """What is read out of an image_grid: the last cell of each network, or all cells."""
    project_inputs: Literal["hidden", "both"] = "hidden"
    """What the patch gives below the first layer of an image_grid: h, or h and c."""
    output: Literal["hidden", "both"] = "hidden"
    """What is read out at the top of an image_grid: h, or h and c."""
    hidden_units: base.Count | None = None
    """Size of a relu layer between an image_grid and the readout; None for no such layer."""
    activation: str | None = None
    """Keras activation; None leaves the choice to the block."""
    kernel_initializer: str | None = None
    """Keras initializer of the input weights; None leaves the choice to the block."""
    recurrent_initializer: str | None = None
    """Keras initializer of the weights between steps; None leaves the choice to the block."""
    options: TypedOptions = field(default_factory=Options)
    """Options of a block of your own, each as NAME=VALUE."""

    @property
    def own(self) -> Block | None:
        return OWN_BLOCKS.get(self.block)

    def _complete(self):
        validation.known("block", self.block, (*self.BLOCKS, *OWN_BLOCKS))
        if not isinstance(self.options, dict):
            raise ValueError(f"Argument `model.options` must be a dict. Received: {self.options!r}")
        options, depth = self.options, DEPTHS.get(self.block, DEPTH)
        if self.own is not None:
            options = self.own.complete(self.options)
            # It is kept in one place only.
            depth = options.pop("depth", 1)
            if "depth" in self.options:
                object.__setattr__(self, "depth", depth)
        object.__setattr__(self, "options", Options(options))
        if self.depth is None:
            object.__setattr__(self, "depth", depth)

    def _check(self):
        if self.own is not None:
            changed = list(self.changed(but=("block", "options", "depth")))
            changed += ["depth"] if self.depth != 1 and "depth" not in self.own.options else []
            for name in changed:
                raise ValueError(
                    f"Argument `model.{name}` has no meaning for block {self.block!r}. Its own "
                    f"options: {', '.join(f'--model.options {o}=...' for o in self.own.options)}"
                )
            return
        if self.options:
            raise ValueError(
                f"Argument `model.options` is for blocks of your own. Block {self.block!r} has "
                f"arguments of its own. Received: model.options={dict(self.options)}"
            )
        if self.block == "cnn":
            validation.positive_integer("model.depth", self.depth, at_most=5)
            if self.parameters is not None:
                raise ValueError("Argument `model.parameters` has no meaning for block 'cnn'")
        super()._check()
        if self.block == "deep_cnn":
            base.check_connection(self.connection, self.block_options, _GATE_BIASES)
        if self.turns and self.corners == 1:
            raise ValueError("Argument `model.turns` has no meaning with `model.corners` = 1")

    def builder(self, numbers: bool = False, output_range: Any = None) -> Callable[..., Any]:
        """The function that builds it of input shape and number of outputs.

        Args:
            numbers: Whether the outputs are numbers, not logits of classes.
            output_range: The bounds of these numbers, or None.
        """
        if self.own is not None:
            depth = {"depth": self.depth} if "depth" in self.own.options else {}
            return partial(self.own.build, **depth, **self.options)
        from keras_deeplstm import models  # the command's help does not wait for Keras

        if self.block in ("cnn", "deep_cnn"):
            return partial(models.cnn_classifier, **self.build_arguments())
        if self.block == "image_grid":
            return partial(models.image_grid_classifier, **self.build_arguments())
        if not numbers:
            return partial(models.classifier, **self.build_arguments())
        return partial(models.regressor, output_range=output_range, **self.build_arguments())

    def build_arguments(self) -> dict[str, Any]:
        """The keyword arguments of a function of `keras_deeplstm.models`."""
        noise = {"input_noise": self.input_noise} if self.input_noise else {}
        if self.block == "cnn":
            filters = tuple(CNN_FILTERS * 2**number for number in range(self.depth or 0))
            return {"filters": filters, "units": self.units, "dropout": self.dropout, **noise}
        arguments = super().build_arguments() | noise
        if arguments.pop("each_step", False):
            arguments["return_all_steps"] = True
        if self.block == "deep_cnn":
            del arguments["block"]
            arguments["connection"] = self.connection
        if self.block == "image_grid":
            for name in ("block", "patch", "corners", "turns", "read"):
                arguments.pop(name, None)
            arguments["patches"] = (self.patch, self.patch)
            arguments["directions"] = CORNERS[: self.corners]
            arguments["combine"] = "turns" if self.turns else "concat"
            arguments["return_sequences"] = self.read == "all"
        return arguments

    @property
    def flags(self) -> list[str]:
        """What tells this model from others of its block, in words: ``["tied", "batch"]``."""
        if self.own is not None:
            defaults = self.own.options
            return [f"{k}={v}" for k, v in self.options.items() if v != defaults[k]]
        changed = self.block_options
        changed.pop("connection", None)
        words: list[str] = [self.connection] if self.block == "deep_cnn" else []
        words += ["tied"] if changed.pop("tied", False) else []
        # Whoever reads LSTM expects tied weights, whoever reads dense does not.
        if not words and self.block == "unfolded_lstm":
            words = ["untied"]
        if "forget_bias" in changed:
            changed["forget_bias"] = f"bias{self.forget_bias}"
        if "input_gate_bias" in changed:
            changed["input_gate_bias"] = f"input-bias-{self.input_gate_bias}"
        if "state_initializer" in changed:
            changed["state_initializer"] = "noise-state"
        if self.block == "image_grid":  # whose values tell nothing without their names
            changed = {k: v if v is True else f"{k}={v}" for k, v in changed.items()}
        # A registered initializer of ours is named "package>name".
        words += [
            name if value is True else str(value).rpartition(">")[2]
            for name, value in changed.items()
        ]
        if self.dropout:
            words.append(f"dropout{self.dropout}")
        if self.input_noise:
            words.append(f"noise{self.input_noise}")
        return list(dict.fromkeys(words))  # he_normal for both initializers is said once

    @property
    def words(self) -> str:
        """The block in words: ``"UnfoldedLSTMBlock"``."""
        return self.block if self.own is not None else super().words

    @property
    def label(self) -> str:
        """Name for tables and legends, without the depth: ``"UnfoldedLSTMBlock untied"``."""
        return " ".join([self.words, *self.flags])


Columns = Annotated[tuple[str, ...], tyro.conf.arg(metavar="COLUMN")]
Kind = Literal["classification", "regression"] | None


@dataclass(frozen=True)
class RunConfig(base.Settings):
    """One task, one model, one training setting, one seed.

    Raises:
        ConfigError: A value is out of its range, or there is no such task.

    Example:

    >>> from keras_deeplstm.experiments import ModelConfig, RunConfig
    >>> config = RunConfig("digits", ModelConfig(depth=30, units=64), epochs=5, seed=1)
    >>> config.slug
    'digits-unfolded_lstm-untied-depth30-units64-seed1'
    >>> RunConfig.from_dict(config.to_dict()) == config
    True
    >>> config.flat()["model.depth"]
    30
    """

    command: ClassVar = "run"
    FIXED: ClassVar = 30

    task: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="TASK")]
    """Name of the task; `deeplstm list tasks` shows them all. Or a path: an .npz file, a table
    (.csv or .parquet, with --target), or a folder of images."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """What the model is made of. Options that the block does not know are refused."""
    epochs: base.Count = 10
    """Passes over the training set."""
    batch_size: base.Count = 128
    """Examples per training step."""
    optimizer: base.Optimizer = "adam"
    """One of adam, adamw, nadam, rmsprop, sgd."""
    learning_rate: base.Positive = 1e-3
    """Learning rate of the optimizer."""
    schedule: Literal["constant", "cosine"] = "constant"
    """Of the learning rate: always the same, or falling to zero along a cosine over all epochs."""
    clipnorm: base.Positive | None = 1.0
    """Each weight's gradient is clipped to this norm; None switches clipping off."""
    clipvalue: base.Positive | None = None
    """Instead of clipnorm: each element of the gradients is clipped to this size."""
    jit_compile: bool | None = None
    """Compile the training step with XLA; None leaves that to Keras: on TensorFlow with a GPU, on
    JAX always. On a CPU it pays for many and for wide steps."""
    seed: base.Seed = 0
    """Seed of the initial weights, the order of the data and dropout."""
    gradient_every: base.Count = 10
    """Gradient norms are recorded at every n-th training step."""
    shift: Annotated[int, partial(validation.integer, at_least=0)] = 0
    """In training, images are moved by up to so many pixels along both axes, drawn again each
    time."""
    folds: Annotated[int, partial(validation.integer, at_least=2)] | None = None
    """Cross-validation: training and validation data are parted into n folds, each with the same
    share of every class; None leaves them as the task has them. The test data are never part."""
    fold: int = 1
    """The fold that validates, from 1 to the number of folds."""
    target: InitVar[Columns] = ()
    """Column of a table to predict from the others; or several, of numbers."""
    kind: InitVar[Kind] = None
    """Whether a class or a number of a column is predicted; if not given, text, booleans
    and integers of at most 20 different values are classes."""
    drop: InitVar[Columns] = ()
    """Columns of a table that are left out."""

    def _complete(self, target=(), kind=None, drop=()):
        # A path is made absolute, so that a run can only go on with the data it began with.
        task = resolve(self.task, target=target, kind=kind, drop=drop)
        object.__setattr__(self, "task", task)

    def _check(self):
        super()._check()
        validation.positive_integer("fold", self.fold, at_most=self.folds or 1)

    @property
    def subject(self) -> str:
        """The task for people, which for a path is the name at its end."""
        return get_task(self.task).name

    @property
    def title(self) -> str:
        """One line that names the run: ``"digits: UnfoldedLSTMBlock untied, depth 10"``."""
        return f"{self.subject}: {self.model.label}, depth {self.model.depth}"

    @property
    def slug(self) -> str:
        """Folder name that tells the settings: ``"digits-unfolded_lstm-untied-depth10-..."``."""
        model = self.model
        words = [self.subject, model.block, *model.flags]
        size = f"units{model.units}"
        if model.parameters is not None:
            size = f"parameters{model.parameters}"
        words += [f"depth{model.depth}", *([] if model.own else [size]), f"seed{self.seed}"]
        if self.folds:
            words.append(f"fold{self.fold}of{self.folds}")
        return re.sub(r"[^A-Za-z0-9._-]", "-", "-".join(words))

    def make_task(self) -> Task:
        """The task."""
        return get_task(self.task)

    @property
    def measure(self) -> Measure:
        """The metric of the task."""
        return self.make_task().measure

    @property
    def results(self) -> tuple[str, ...]:
        metric = self.measure.name
        return (f"test_{metric}", f"val_{metric}", "parameters", "seconds")

    @property
    def about(self) -> str:
        return self.make_task().about

    @property
    def introduction(self) -> str:
        return "\n".join(filter(None, (self.make_task().remark, self.title)))

    def repeated(self, seed: int) -> "RunConfig":
        """The same with another seed, in the first fold."""
        return dataclasses.replace(self, seed=seed, fold=1)

    @property
    def repetition(self) -> str:
        """What tells this run from others of its model: ``", fold 2 of 5, seed 1"``."""
        fold = f", fold {self.fold} of {self.folds}" if self.folds else ""
        return fold + super().repetition

    @property
    def rounds(self) -> int:
        """The epochs."""
        return self.epochs

    def progress(self, row: dict[str, Any]) -> str:
        metric = f"val_{self.measure.name}"
        return (
            f"epoch {row['epoch']} of {self.epochs}  loss {row['loss']:.4f}  "
            f"{metric} {self.measure.text(row[metric])}  {row['seconds']:.1f} s"
        )

    def outcome(self, result: dict[str, Any]) -> str:
        value = result[f"test_{self.measure.name}"]
        solved = {None: "", True: " (solved)", False: " (not solved)"}
        return (
            f"test {self.measure.words} {self.measure.text(value)}"
            f"{solved[self.make_task().solved(value)]}, first/last gradient "
            f"{ratio_text(result['gradient_ratio_start'])} -> "
            f"{ratio_text(result['gradient_ratio_end'])}, {result['seconds']:.0f} s"
        )

    def short(self, result: dict[str, Any]) -> str:
        value = self.measure.text(result[f"test_{self.measure.name}"])
        return value if self.measure.name == "accuracy" else f"{self.measure.words} {value}"
