"""Wrong arguments and what the user then reads.

Some mistakes cannot be made here, so that they have no test:

- `units` is one number for all steps, so that no two widths can disagree.
- No callback has a moving average, a monitor or a mode.
- A callback writes its whole record to `csv`, as Keras' CSVLogger does. A run keeps what is to be
  kept, and nobody overwrites its folder by accident.
- Settings are JSON; there is no YAML.
- There is no --resume; the same command begins a run or goes on with it.
- Commands train on arrays and on sequences of their own, on no generator.
- Commands only read --data-dir and DEEPLSTM_DATA; the cache is Keras' own.
"""

import copy
import json
import math
import re
from pathlib import Path

import keras
import numpy as np
import pytest
from finished_runs import make_run

from keras_deeplstm import models
from keras_deeplstm.callbacks import DivergenceGuard, FilterImages, GradientFlow, StateGradients
from keras_deeplstm.experiments import cli, runs
from keras_deeplstm.experiments.processes import startup
from keras_deeplstm.experiments.settings.base import ConfigError
from keras_deeplstm.experiments.settings.classifiers import ModelConfig, RunConfig
from keras_deeplstm.experiments.tasks import own
from keras_deeplstm.experiments.tasks.task import DataError
from keras_deeplstm.initializers import GateBias, OrthogonalGates
from keras_deeplstm.layers import (
    DenseStack,
    GridLSTM2D,
    GridLSTM3D,
    HighwayBlock,
    ResidualBlock,
    UnfoldedLSTMBlock,
)
from keras_deeplstm.states import CarriedStates

ROOT = Path(__file__).parents[1]
LAYERS = (UnfoldedLSTMBlock, DenseStack, HighwayBlock, ResidualBlock, GridLSTM2D, GridLSTM3D)
SEED = "Argument `seed` must be an integer in [0, 4294967295]. Received: seed="
OS_SYSTEM = {"module": "os", "class_name": "function", "config": "system"}

# Arguments of any of our layers.

ARGUMENTS = {
    "units-negative": (
        {"units": -3},
        "Argument `units` must be a positive integer. Received: units=-3",
    ),
    "units-text": (
        {"units": "8"},
        "Argument `units` must be a positive integer. Received: units='8' (of type <class 'str'>)",
    ),
    "units-list": (
        {"units": [64, 0]},
        "Argument `units` must be a positive integer. Received: units=[64, 0] "
        "(of type <class 'list'>)",
    ),
    "depth-zero": ({"depth": 0}, "Argument `depth` must be a positive integer. Received: depth=0"),
    "depth-large": (
        {"depth": 10**9},
        "Argument `depth` must be at most 10000. Received: depth=1000000000",
    ),
    "units-large": (
        {"units": 65_537},
        "Argument `units` must be at most 65536. Received: units=65537",
    ),
    "dropout": (
        {"dropout": -0.1},
        "Argument `dropout` must be a float in the range [0, 1). Received: dropout=-0.1",
    ),
    "activation-unknown": (
        {"activation": "tahn"},
        "Could not interpret activation function identifier: tahn. Did you mean 'tanh'?",
    ),
    "activation-config": (
        {"activation": OS_SYSTEM},
        "Argument `activation` must be a Keras activation, or a callable. Received a config for "
        "'function' of module 'os'",
    ),
    "initializer": (
        {"kernel_initializer": "glorot"},
        "Could not interpret initializer identifier: glorot. Did you mean 'glorot_normal'?",
    ),
    "regularizer": (
        {"kernel_regularizer": 3},
        "Could not interpret regularizer identifier: 3",
    ),
    "dtype": (
        {"dtype": "float8x"},
        "Cannot convert `policy` into a valid pair (`mode`, `source_name`) to instantiate "
        "`QuantizedDTypePolicy`. Received: policy=float8x",
    ),
    "seed-negative": ({"seed": -1}, f"{SEED}-1"),
    "seed-large": ({"seed": 2**32}, f"{SEED}4294967296"),
    "seed-true": ({"seed": True}, f"{SEED}True"),
}


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.__name__)
@pytest.mark.parametrize(("arguments", "message"), ARGUMENTS.values(), ids=ARGUMENTS)
def test_arguments_of_layers(layer, arguments, message):
    with pytest.raises(ValueError) as error:
        layer(**{"units": 4, "depth": 2, **arguments})
    assert str(error.value) == message
    assert len(message) <= 300


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.__name__)
def test_an_unknown_argument_of_a_layer(layer):
    with pytest.raises(ValueError) as error:
        layer(4, 2, unit=3)
    assert str(error.value) == (
        f"Unrecognized keyword arguments passed to {layer.__name__}: {{'unit': 3}}"
    )


OTHERS = {
    "recurrent-dropout": (
        lambda: GridLSTM2D(4, 2, recurrent_dropout="0.2"),
        "Argument `recurrent_dropout` must be a float in the range [0, 1). Received: "
        "recurrent_dropout='0.2' (of type <class 'str'>)",
    ),
    "recurrent-activation": (
        lambda: GridLSTM2D(4, 2, recurrent_activation="sigmod"),
        "Could not interpret activation function identifier: sigmod. Did you mean 'sigmoid'?",
    ),
    "GateBias": (
        lambda: GateBias(forget=[1.0, math.inf]),
        "Argument `forget` must be a finite number. Received: forget=inf",
    ),
    "OrthogonalGates": (lambda: OrthogonalGates(seed=1.5), f"{SEED}1.5"),
    "CarriedStates": (
        lambda: CarriedStates("model", 2),
        "Argument `model` must be a model of `with_states`. Received: model='model' "
        "(of type <class 'str'>)",
    ),
    # The message quotes the begin of what is long.
    "long": (
        lambda: UnfoldedLSTMBlock("8" * 1000, 2),
        f"Argument `units` must be a positive integer. Received: units='{'8' * 96}... "
        "(of type <class 'str'>)",
    ),
}


@pytest.mark.parametrize(("make", "message"), OTHERS.values(), ids=OTHERS)
def test_other_arguments(make, message):
    with pytest.raises(ValueError) as error:
        make()
    assert str(error.value) == message


# Calls.

X2, X3 = np.zeros((2, 4), "float32"), np.zeros((2, 5, 4), "float32")
CALLS = {
    "two-inputs": (
        lambda: UnfoldedLSTMBlock(4, 2)([X2, X2]),
        "expects 1 input(s), but it received 2",
    ),
    "number": (lambda: UnfoldedLSTMBlock(4, 2)(np.float32(3)), "expected min_ndim=2, found"),
    "axes": (lambda: GridLSTM2D(4, 2)(X3[None]), "expected ndim=3, found ndim=4."),
    "inputs-text": (
        lambda: UnfoldedLSTMBlock(4, 2)(np.array([["a", "b"]])),
        "Inputs to `UnfoldedLSTMBlock` must be numbers. Received: dtype=string",
    ),
    "inputs-complex": (
        lambda: GridLSTM2D(4, 2)(X3.astype("complex64")),
        "Inputs to `GridLSTM2D` must be numbers. Received: dtype=complex64",
    ),
    "mask-short": (
        lambda: UnfoldedLSTMBlock(4, 2)(X3, mask=np.ones((2, 4), bool)),
        "Argument `mask` must have shape (batch, ...)=(2, 5). Received: mask.shape=(2, 4)",
    ),
    "mask-list": (
        lambda: GridLSTM2D(4, 2)(X3, mask=[[True] * 5] * 2),
        "Argument `mask` must be an array or a tensor of shape (batch, time)=(2, 5). "
        "Received: mask=[[",
    ),
    "mask-axes": (
        lambda: DenseStack(4, 2)(X3, mask=np.ones((2, 5, 4), bool)),
        "Argument `mask` must have shape (batch, ...)=(2, 5). Received: mask.shape=(2, 5, 4)",
    ),
    # As many entries as there should be: it was taken without a word.
    "mask-transposed": (
        lambda: UnfoldedLSTMBlock(4, 2)(X3, mask=np.ones((5, 2), bool)),
        "Argument `mask` must have shape (batch, ...)=(2, 5). Received: mask.shape=(5, 2)",
    ),
    "initial-state": (
        lambda: GridLSTM2D(4, 1)(X3, initial_state="ab"),
        "Argument `initial_state` must contain 2*depth=2 tensors. Received: <class 'str'>",
    ),
    "batch-unknown": (
        lambda: GridLSTM2D(4, 1, stateful=True)(keras.Input((5, 4))),
        "With `stateful=True` the batch size must be static. Received: sequences_shape=(None, 5, 4",
    ),
    "batch-smaller": (
        lambda: [grid := GridLSTM2D(4, 1, stateful=True), grid(X3), grid(X3[:1])],
        "With `stateful=True` the batch size must stay the same, 2. "
        "Received: inputs.shape=(1, 5, 4)",
    ),
    "inputs-layer": (
        lambda: GridLSTM2D(4, 1)(keras.layers.Dense(3, name="readout")),
        "Only input tensors may be passed as positional arguments. The following argument value "
        "should be passed as a keyword argument: <Dense name=readout",
    ),
    "inputs-none": (
        lambda: DenseStack(4, 1)(None),
        "Inputs to a layer should be tensors. Got 'None'",
    ),
}


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="only it has tensors of text")
@pytest.mark.parametrize(("call", "message"), CALLS.values(), ids=CALLS)
def test_calls(call, message):
    with pytest.raises(ValueError) as error:
        call()
    assert message in str(error.value)


@pytest.mark.parametrize("rows", [5, 6])
def test_a_smaller_last_batch_in_fit(rows):
    """A stateful layer refuses it: one row would be broadcast over the states of four rows."""
    inputs = keras.Input(batch_shape=(4, 5, 4))
    grid = GridLSTM2D(1, 1, stateful=True)
    model = keras.Model(inputs, grid(inputs))
    model.compile(keras.optimizers.SGD(0.0), "mse")
    sequences, targets = np.ones((rows, 5, 4)), np.zeros((rows, 1))
    # On TensorFlow the compiled step finds it out, so that the error is TensorFlow's: the layer's,
    # or for two rows that of the loss, which runs beside it and may come first.
    messages = (
        r"batch size must stay the same|expected shape \[4,5,4\]|"
        r"Incompatible shapes: \[2,1\] vs. \[4,1\]"
    )
    with pytest.raises(Exception, match=messages):
        model.fit(sequences, targets, batch_size=4, shuffle=False, verbose=0)
    states = [keras.ops.convert_to_numpy(state) for state in grid.states]
    grid.reset_state()
    grid(sequences[:4].astype("float32"))  # the only batch that may have changed the states
    assert states[0].all() and states[1].all()
    for state, expected in zip(states, grid.states, strict=True):
        np.testing.assert_allclose(state, keras.ops.convert_to_numpy(expected), rtol=1e-6)


def test_unroll_backwards_and_mask_can_be_combined():
    grid = GridLSTM2D(4, 2, unroll=True, go_backwards=True)
    assert grid(X3, mask=np.ones((2, 5), bool)).shape == (2, 4)


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.__name__)
def test_too_many_parameters_are_refused_before_they_are_allocated(layer):
    x = {GridLSTM2D: X3, GridLSTM3D: X3[..., None]}.get(layer, X2)
    message = f"`{layer.__name__}` must have at most 2,147,483,648 parameters. Received: "
    with pytest.raises(ValueError, match=message):
        layer(65_536, 10_000)(x)


# Files.


@pytest.mark.parametrize("name", ["activation", "kernel_initializer", "bias_regularizer"])
def test_a_lambda_cannot_be_saved(name):
    layer = DenseStack(4, 2, name="deep", **{name: lambda *arguments, **options: 0.0})
    with pytest.raises(ValueError) as error:
        layer.get_config()
    assert str(error.value) == (
        f"Cannot save layer 'deep': argument `{name}` is a lambda. Use a named function decorated "
        f"with @keras.saving.register_keras_serializable()"
    )


@keras.saving.register_keras_serializable(package="test_misuse")
def half(x):
    return x / 2


@pytest.mark.parametrize("activation", [half, keras.layers.LeakyReLU(0.25)], ids=["own", "layer"])
def test_what_a_user_registers_can_be_loaded(activation, tmp_path):
    """What is refused to a stranger's file is open to the user."""
    model = keras.Sequential([keras.Input((4,)), DenseStack(4, 2, activation=activation)])
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    x = np.linspace(-1, 1, 8, dtype="float32").reshape(2, 4)
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), model.predict(x, verbose=0))


class Twice(keras.layers.Layer):
    def call(self, x):
        return 2 * x


@pytest.mark.parametrize(
    "layer", [keras.layers.Activation("relu"), keras.layers.PReLU(), Twice()], ids=type
)
def test_layers_that_could_not_be_loaded_are_refused_as_activations(layer):
    with pytest.raises(ValueError) as error:
        DenseStack(4, 2, activation=layer)
    assert str(error.value) == (
        "Argument `activation` must be a Keras activation, or a callable; of layers only ELU, "
        f"LeakyReLU, ReLU, Softmax for an activation. Received: activation={layer!r}"
    )
    for name in ("ELU", "LeakyReLU", "ReLU", "Softmax"):
        kept = DenseStack(4, 2, activation=getattr(keras.layers, name)())
        assert type(DenseStack.from_config(kept.get_config()).activation).__name__ == name


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"units": 4, "depth": 2, "foo": 1}, "Unrecognized keyword arguments passed to DenseStack"),
        ({"units": 4}, "missing 1 required positional argument: 'depth'"),
        ({"units": 0, "depth": 2}, "Argument `units` must be a positive integer."),
        ([4, 2], "argument after ** must be a mapping, not list"),
    ],
    ids=["unknown", "missing", "wrong", "list"],
)
def test_a_wrong_config_of_a_layer(config, reason):
    with pytest.raises(TypeError) as error:
        DenseStack.from_config(config)
    assert str(error.value).startswith("Cannot load `DenseStack`: ")
    assert reason in str(error.value)
    assert len(str(error.value)) <= 300


@pytest.mark.parametrize("values", [[1.0, 2.0, 3.0], [[[1.0]] * 2] * 5], ids=["few", "many"])
@pytest.mark.parametrize("layer_class", [DenseStack, UnfoldedLSTMBlock, GridLSTM2D])
def test_an_initializer_of_another_shape_says_so_when_built(layer_class, values):
    config = layer_class(4, 3).get_config()
    config["bias_initializer"] = {"class_name": "Constant", "config": {"value": values}}
    layer = layer_class.from_config(config)
    with pytest.raises(ValueError, match="Argument `bias_initializer` must give values of the"):
        layer.build((2, 5, 4) if layer_class is GridLSTM2D else (2, 4))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"dtype": {"class_name": None}}, "Argument `dtype` must be a Keras dtype."),
        (
            {"dtype": {"class_name": "DTypePolicyMap", "config": {}}},
            "Argument `dtype` must be a Keras dtype.",
        ),
        ({"batch_size": 10**12}, "Argument `batch_size` must be at most 65536."),
        ({"foo": 1}, "Unrecognized keyword arguments passed to CarriedStates"),
    ],
    ids=["no class", "empty map", "too large", "unknown"],
)
def test_a_wrong_config_of_carried_states(change, reason):
    x = keras.Input((4,))
    config = CarriedStates(keras.Model(x, x), 2).get_config()
    with pytest.raises(TypeError) as error:
        CarriedStates.from_config({**config, **change})
    assert str(error.value).startswith("Cannot load `CarriedStates`: ")
    assert reason in str(error.value)
    with pytest.raises(TypeError, match="its config has no model"):
        CarriedStates.from_config({"batch_size": 2})


def test_weights_of_another_depth_are_refused(tmp_path):
    def model(depth):
        return keras.Sequential([keras.Input((4,)), UnfoldedLSTMBlock(4, depth, name="deep")])

    model(4).save_weights(tmp_path / "a.weights.h5")
    with pytest.raises(ValueError) as error:
        model(6).load_weights(tmp_path / "a.weights.h5")
    assert (
        "The saved weights do not fit layer 'deep' with depth=6, units=4: they have the shapes "
        "[(4, 16), (3, 4, 16), (4, 16)], needed are [(4, 16), (5, 4, 16), (6, 16)]"
    ) in str(error.value)


# Callbacks.

CALLBACKS = {
    "every-zero": (
        lambda: GradientFlow(every=0),
        "Argument `every` must be a positive integer, 'epoch' or a function. Received: every=0",
    ),
    "every-true": (
        lambda: FilterImages(every=True),
        "Argument `every` must be a positive integer. Received: every=True",
    ),
    "every-half": (
        lambda: StateGradients(X2, X2, every=0.5),
        "Argument `every` must be a positive integer. Received: every=0.5",
    ),
    "statistics-unknown": (
        lambda: GradientFlow(statistics="nrom"),
        "Argument `statistics` must be one of ['norm', 'mean_abs', 'max_abs', 'zero_fraction', "
        "'ratio', 'update_ratio', 'clipped', 'histogram']. Received: statistics='nrom'. Did you "
        "mean 'norm'?",
    ),
    "statistics-number": (
        lambda: GradientFlow(statistics=3),
        "Argument `statistics` must be a name or several. Received: statistics=3",
    ),
    "layers-number": (
        lambda: GradientFlow(layers=[3]),
        "Argument `layers` must be a name or several. Received: layers=[3] "
        "(of type <class 'list'>)",
    ),
    "guard": (
        lambda: DivergenceGuard(factor=math.nan),
        "Argument `factor` must be a finite number. Received: factor=nan",
    ),
}


@pytest.mark.parametrize(("make", "message"), CALLBACKS.values(), ids=CALLBACKS)
def test_arguments_of_callbacks(make, message):
    with pytest.raises(ValueError) as error:
        make()
    assert str(error.value) == message


def classifier():
    model = models.classifier((4,), 2, "dense", depth=2, units=3)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss, run_eagerly=keras.backend.backend() == "tensorflow")
    return model


def fit(callback):
    classifier().fit(X2, np.zeros(2), verbose=0, callbacks=[callback])


def test_a_layer_that_the_model_does_not_have():
    message = "No trainable variable matches layers=('lstm_9',). Available: ['block', 'logits']"
    with pytest.raises(ValueError, match=re.escape(message)):
        fit(GradientFlow(layers=["lstm_9"]))


@pytest.mark.parametrize("shape", [3, (4,), (2, 2, 1, 1)])
def test_a_shape_of_no_image(shape):
    message = "Argument `image_shape` must be (height, width) or (height, width, channels). Receiv"
    with pytest.raises(ValueError, match=re.escape(message)):
        fit(FilterImages(image_shape=shape))


def test_a_probe_batch_of_two_lengths():
    message = "x and y of the probe batch differ in length: 2 and 3"
    with pytest.raises(ValueError, match=re.escape(message)):
        fit(StateGradients(X2, np.zeros(3)))


def test_one_layer_needs_no_list():
    flow = GradientFlow(layers="block")
    fit(flow)
    assert set(flow.to_frame().layer) == {"block"}


LOGS = {
    "tensorboard": lambda path: GradientFlow(tensorboard=path),
    "tensorboard-filters": lambda path: FilterImages(tensorboard=path),
    "csv": lambda path: GradientFlow(csv=path / "a.csv"),
    "pictures": FilterImages,
}


@pytest.mark.parametrize("make", LOGS.values(), ids=LOGS)
def test_logs_that_cannot_be_written(make, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=re.escape(f"Cannot write logs to '{tmp_path / 'file'}")):
        fit(make(tmp_path / "file"))


def test_a_folder_in_place_of_a_log_file(tmp_path):
    message = f"Cannot write logs to '{tmp_path}': Is a directory"
    with pytest.raises(OSError, match=re.escape(message)):
        fit(GradientFlow(csv=tmp_path))


def test_callbacks_can_be_copied():
    for callback in (GradientFlow(), FilterImages(), StateGradients(X2, X2), DivergenceGuard()):
        assert type(copy.deepcopy(callback)) is type(callback)


@pytest.mark.parametrize("kind", ["depth", "heatmap", "ratio"])
def test_nothing_recorded_is_an_empty_picture(kind):
    assert not GradientFlow().plot(kind).lines[1:]  # the ratio has a line at 1


def test_no_states_recorded_is_an_empty_picture():
    assert not StateGradients(X2, X2).plot().lines


# The command.


def status(argv):
    try:
        return cli.main(argv)
    except SystemExit as exit:
        return exit.code


COMMANDS = {
    "epochs": (
        "run digits --epochs 0",
        "Argument `epochs` must be a positive integer. Received: epochs=0",
    ),
    "batch-size": (
        "run digits --batch-size 0",
        "Argument `batch_size` must be a positive integer. Received: batch_size=0",
    ),
    "learning-rate": (
        "run digits --learning-rate 1e400",
        "Argument `learning_rate` must be a finite number. Received: learning_rate=inf",
    ),
    "optimizer": (
        "solve adding --optimizer adm",
        "Argument `optimizer` must be one of ['adam', 'adamw', 'nadam', 'rmsprop', 'sgd']. "
        "Received: optimizer='adm'. Did you mean 'adam'?",
    ),
    "seed": (
        "train-text --seed 4294967296",
        "Argument `seed` must be an integer in [0, 4294967295]. Received: seed=4294967296",
    ),
    "no-runs": ("publish .", "'.' holds no keras_deeplstm runs"),
    "restarts": (
        "study depth --restarts 1000000000",
        "Argument `restarts` must be at most 1000. Received: restarts=1000000000",
    ),
    "task": (
        "run mnits",
        "Unknown task 'mnits'. Did you mean 'mnist'? Available: ['digits', 'mnist', "
        "'fashion-mnist', 'rule-110', 'rule-110-recall'], and paths of .npz files, tables and "
        "folders of images",
    ),
}


@pytest.mark.parametrize(("command", "message"), COMMANDS.values(), ids=COMMANDS)
def test_commands(command, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert status(command.split()) == 2
    assert capsys.readouterr().err == f"deeplstm: error: {message}\n"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("backend", "message"),
    [
        (
            "tensorflwo",
            "Argument `KERAS_BACKEND` must be one of ['tensorflow', 'jax', 'torch']. "
            "Received: KERAS_BACKEND='tensorflwo'. Did you mean 'tensorflow'?",
        ),
        (
            "jax",
            "The backend 'jax' is not installed. Install it, or set KERAS_BACKEND to another one "
            "of ['tensorflow', 'jax', 'torch']",
        ),
    ],
    ids=["unknown", "absent"],
)
@pytest.mark.parametrize("command", ["run digits", "study depth", "search digits", "sample x"])
def test_a_backend_that_is_not_there(command, backend, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KERAS_BACKEND", backend)
    monkeypatch.setattr(startup.importlib.util, "find_spec", lambda name: None)
    assert status(command.split()) == 2
    assert capsys.readouterr().err == f"deeplstm: error: {message}\n"
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    assert status(["search", "digits", "--runs-dir", "file"]) == 1
    assert capsys.readouterr().err == (
        "deeplstm: error: Cannot write to folder 'file/search-digits-tpe': Not a directory\n"
    )


JSON = {
    "empty": ("", "config.json: Expecting value: line 1 column 1 (char 0)"),
    "syntax": ('{"task" 1}', "config.json: Expecting ':' delimiter: line 1 column 9 (char 8)"),
    "list": ("[]", "config.json: 'config' must be a mapping. Received: list"),
    "duplicate-key": ('{"task": "digits", "task": "mnist"}', "config.json: Duplicate key 'task'"),
    "unknown-key": (
        '{"task": "digits", "epoch": 1}',
        "config.json: Unknown key 'epoch' in 'config'. Did you mean 'epochs'?",
    ),
    "missing-key": ("{}", "config.json: Missing required key 'task' in 'config'"),
    "wrong-type": (
        '{"task": "digits", "epochs": "10"}',
        "config.json: Argument `epochs` must be a positive integer. Received: epochs='10' "
        "(of type <class 'str'>)",
    ),
    "nan": ('{"task": "digits", "clipnorm": NaN}', "config.json: Non-finite number NaN"),
    "nested": ("[" * 100_000, "config.json: it is nested too deeply"),
}


def test_settings_that_are_no_text(tmp_path):
    (tmp_path / "config.json").mkdir()
    assert runs.load(tmp_path).reason.startswith("config.json: [Errno 21] Is a directory: ")
    (tmp_path / "config.json").rmdir()
    assert runs.load(tmp_path).reason.startswith("config.json: [Errno 2] No such file or directory")
    (tmp_path / "config.json").write_bytes(b"\xff")
    assert runs.load(tmp_path).reason.startswith(
        "config.json: 'utf-8' codec can't decode byte 0xff"
    )


@pytest.mark.parametrize(("text", "reason"), JSON.values(), ids=JSON)
def test_settings_of_a_run_that_cannot_be_read(text, reason, tmp_path):
    (tmp_path / "config.json").write_text(text)
    run = runs.load(tmp_path)
    assert (run.state, run.reason) == ("damaged", reason)


GOOD = {"test_accuracy": 0.5, "val_accuracy": 0.5, "parameters": 1, "seconds": 1.0}
FILES = {
    "no-numbers": ("result.json", {"state": "finished"}, "'test_accuracy' must be a number"),
    "text": (
        "result.json",
        {"state": "finished", **GOOD, "gabor_r2_end": "high"},
        "'gabor_r2_end' must be a number. Received: 'high'",
    ),
    "state": ("result.json", {"state": 3}, "Received: state=3"),
    "list": ("result.json", [], "list indices must be integers"),
    "columns": ("metrics.csv", "a,b\n1,2\n", "metrics.csv: it lacks these columns"),
    "words": ("metrics.csv", "epoch,loss\n1,low\n", "or numbers in them: ['loss']"),
    "gradients": ("gradient_flow.csv", "a\n1\n", "gradient_flow.csv: it lacks these columns"),
    "environment": ("environment.json", [], "it must hold the command and the backend"),
    "versions": (
        "environment.json",
        {"command": "", "backend": "jax", "versions": 3},
        "it must hold the versions of packages",
    ),
}


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory):
    """A good run, and one that each test damages in its own way."""
    folder = tmp_path_factory.mktemp("runs")
    for name, seed in (("bad", 1), ("good", 0)):
        make_run(folder / name, ModelConfig("dense", depth=3, units=4), seed=seed)
    return folder


@pytest.mark.parametrize(("file", "content", "reason"), FILES.values(), ids=FILES)
def test_a_damaged_run_does_not_end_the_report(file, content, reason, two_runs, capsys):
    from keras_deeplstm.experiments.reports.findings import collect

    path = two_runs / "bad" / file
    before = path.read_bytes()
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    try:
        findings = collect([two_runs])
        assert status(["list", "--runs-dir", str(two_runs)]) == 0
    finally:
        path.write_bytes(before)
    assert [run.name for run in findings.finished] == ["good"]
    ((name, state, text),) = findings.problems
    assert (name, state) == ("bad", "damaged")
    assert reason in text


PLANS = {
    "empty": ("", "Expecting value: line 1 column 1 (char 0)"),
    "list": ("[]", "is damaged: it must hold the name of a study"),
    "study": ('{"study": ["x"], "runs": []}', "is damaged: it must hold the name of a study"),
    "runs": ('{"study": "depth", "runs": [["x"]]}', "is damaged: it must hold the name of a study"),
    "restarts": (
        '{"study": "depth", "runs": ["good"], "restarts": 1000000000}',
        "and at most 1000 restarts",
    ),
}


@pytest.mark.parametrize(("text", "message"), PLANS.values(), ids=PLANS)
def test_a_damaged_study(text, message, two_runs):
    from keras_deeplstm.experiments.reports.findings import collect

    (two_runs / "study.json").write_text(text)
    try:
        with pytest.raises(ConfigError, match=re.escape(message)):
            collect([two_runs])
    finally:
        (two_runs / "study.json").unlink()


# Data.

X, Y = np.zeros((40, 3), "float32"), np.arange(40) % 2
DATA = {
    "lengths": ({"x": X, "y": Y[:-1]}, "x and y of 'd.npz' differ in length: 40 and 39"),
    "class-small": (
        {"x": X[:2], "y": Y[:2]},
        "Class 0 of 'd.npz' has 1 of the examples to be split; each class needs at least 10",
    ),
    "nan-values": (
        {"x": np.where(np.arange(3) == 1, np.nan, X), "y": Y},
        "'d.npz' has 40 values that are NaN or infinite as float32, the first at x[0, 1]",
    ),
    "class-unknown": (
        {"x_train": X, "y_train": Y, "x_test": X, "y_test": Y + 1},
        "y_test of 'd.npz' has the class 2, y_train has not",
    ),
    "one-hot": (
        {"x": X, "y": np.eye(2)[Y]},
        "y of 'd.npz' must hold an integer or a string for each example, shape (n,). Received: "
        "float64 of shape (40, 2)",
    ),
    "text": (
        {"x": X.astype(str), "y": Y},
        "x of 'd.npz' must be uint8, which is scaled to [0, 1], or floats, which are taken as they "
        "are. Received: <U32",
    ),
}


@pytest.mark.parametrize(("arrays", "message"), DATA.values(), ids=DATA)
def test_data(arrays, message):
    with pytest.raises(DataError) as error:
        own.splits("d.npz", arrays)
    assert str(error.value) == message


def test_a_path_too_long_for_the_system_is_an_error_of_the_data(tmp_path):
    with pytest.raises(DataError, match="cannot be read: File name too long"):
        own.load(tmp_path / f"{'a' * 300}.npz")


def test_a_batch_larger_than_the_data_is_said(tmp_path):
    from keras_deeplstm.experiments.training import train

    class SaidError(Exception):
        pass

    def say(text):
        raise SaidError(text)  # the run needs to go no further

    np.savez(tmp_path / "d.npz", x=X, y=Y)
    config = RunConfig(str(tmp_path / "d.npz"), ModelConfig("dense", depth=2, units=2))
    with pytest.raises(
        SaidError, match=r"^batch_size=128 exceeds 28 samples; one batch per epoch$"
    ):
        train(config, tmp_path / "run", on_message=say)
