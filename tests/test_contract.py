"""What a user expects of any Keras layer, on every backend, in new processes and between them."""

import functools
import hashlib
import importlib.util
import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import ops
from keras_contract import run_layer_test

from keras_deeplstm.layers import (
    DenseStack,
    DepthLSTM,
    GridLSTM2D,
    GridLSTM3D,
    Highway,
    HighwayBlock,
    Residual,
    ResidualBlock,
    UnfoldedLSTMBlock,
)
from keras_deeplstm.layers.scan import WRITTEN_OUT

pytestmark = pytest.mark.backends

BACKEND = keras.backend.backend()
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
FEATURES, TIME, UNITS = 5, 4, 3
BLOCKS = [UnfoldedLSTMBlock, DenseStack, HighwayBlock, ResidualBlock]
STACKS = [DepthLSTM, Residual, Highway]  # of Dense layers here
LAYERS = [*BLOCKS, GridLSTM2D, GridLSTM3D, *STACKS]
long = functools.partial(pytest.param, marks=pytest.mark.long)


def inputs(layer_class, rows=6):
    sizes = {GridLSTM2D: (TIME,), GridLSTM3D: (2, TIME)}.get(layer_class, ())
    shape = (rows, *sizes, FEATURES)
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def make(layer_class, depth=3, units=UNITS, **options):
    if layer_class in STACKS:
        return layer_class(lambda step: keras.layers.Dense(FEATURES, "tanh"), depth, **options)
    return layer_class(units, depth, **options)


def width(layer_class):
    """Units of the output: a stack has as many as its input has features."""
    return FEATURES if layer_class in STACKS else UNITS


def numpy_of(tensor):
    return ops.convert_to_numpy(tensor)


# Keras' own checks: options, shape of the output without the batch, trainable and other weights.
# Batch normalization keeps two moving averages of each of the three products it sees.
CHECKS = [
    (UnfoldedLSTMBlock, {}, (UNITS,), 3, 0),
    (UnfoldedLSTMBlock, {"normalization": "batch", "dropout": 0.2}, (UNITS,), 7, 6),
    (UnfoldedLSTMBlock, {"input_mode": "state", "return_all_steps": True}, (3, UNITS), 6, 0),
    (DenseStack, {"dropout": 0.2}, (UNITS,), 3, 0),
    (HighwayBlock, {}, (UNITS,), 4, 0),
    (ResidualBlock, {"return_all_steps": True}, (3, UNITS), 10, 0),
    (ResidualBlock, {"kind": "four-layer", "dropout": 0.2}, (UNITS,), 6, 0),
    (GridLSTM2D, {"return_sequences": True, "dropout": 0.2}, (TIME, UNITS), 8, 0),
    long(
        *(GridLSTM2D, {"normalization": "layer", "output": "both", "unroll": True}),
        *((2 * UNITS,), 16, 0),
    ),
    long(
        *(GridLSTM3D, {"directions": ("top_left", "top_right"), "return_sequences": True}),
        *((2, TIME, 2 * UNITS), 13, 0),
    ),
    (DepthLSTM, {"dropout": 0.2}, (FEATURES,), 5 + 3 * 2, 0),
    (DepthLSTM, {"tied": True, "unroll": False, "output": "both"}, (2 * FEATURES,), 5 + 2, 0),
    (Residual, {"kind": "scaled"}, (FEATURES,), 4 + 3 * 2, 0),
    (Highway, {"normalization": "rms"}, (FEATURES,), 3 + 3 * 2, 0),
]


@pytest.mark.parametrize(
    "layer_class, options, output, trainable, other",
    CHECKS,
    ids=lambda value: getattr(value, "__name__", None) or str(value),
)
def test_what_keras_checks_of_its_own_layers(layer_class, options, output, trainable, other):
    nested = {"layers": lambda step: keras.layers.Dense(FEATURES)}
    arguments = nested if layer_class in STACKS else {"units": UNITS}
    run_layer_test(
        layer_class,
        {**arguments, "depth": 3, **options},
        inputs(layer_class).shape,
        expected_output_shape=(6, *output),
        expected_num_trainable_weights=trainable,
        expected_num_non_trainable_weights=other,
        expected_num_seed_generators=1,
        expected_num_losses=0,
        supports_masking=True,
    )


# New processes, and from one backend to another.

SCRIPT = """
import hashlib, json, sys
import keras
import numpy as np
import keras_deeplstm  # registers the layers
from keras_deeplstm.layers import UnfoldedLSTMBlock
folder = sys.argv[1]
data = dict(np.load(f"{folder}/data.npz"))
model = keras.models.load_model(f"{folder}/model.keras")
again = keras.models.clone_model(model)
again.load_weights(f"{folder}/model.weights.h5")
for each in (model, again):
    eagerly = keras.backend.backend() == "tensorflow"
    each.compile(keras.optimizers.SGD(3e-4), "mse", run_eagerly=eagerly)
outputs = model.predict_on_batch(data["x"])
np.testing.assert_array_equal(outputs, again.predict_on_batch(data["x"]))
losses = [float(model.train_on_batch(data["x"], data["y"])) for _ in range(6)]
keras.utils.set_random_seed(5)
block = UnfoldedLSTMBlock(3, 4)
block.build((None, 5))
values = [np.asarray(keras.ops.convert_to_numpy(w)).tobytes() for w in block.weights]
print(json.dumps({
    "outputs": outputs.tolist(),
    "losses": losses,
    "initial": hashlib.sha256(b"".join(values)).hexdigest(),
}))
"""


def all_layers():
    """A model with every layer of the package; without dropout, so that backends agree.

    Eight units: layer normalization over three makes the loss leap, and rounding errors grow.
    """
    x = sequences = keras.Input((None, FEATURES))
    x = keras.layers.Masking()(x)
    x = keras.layers.Bidirectional(GridLSTM2D(8, 2, normalization="layer"))(x)
    x = UnfoldedLSTMBlock(8, 3, normalization="batch")(x)
    for block in (ResidualBlock, HighwayBlock, DenseStack):
        x = block(8, 2)(x)
    x = GridLSTM3D(8, 2)(keras.layers.Reshape((2, 2, 2))(x))
    for stack in STACKS:
        x = stack([keras.layers.Dense(8, "tanh") for _ in range(2)])(x)
    return keras.Model(sequences, x)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder with a trained model, and what it gives here."""
    folder = tmp_path_factory.mktemp("saved")
    keras.utils.set_random_seed(0)
    model = all_layers()
    x = inputs(GridLSTM2D)
    x[2, 2:] = 0  # masked
    y = np.random.default_rng(1).normal(size=(6, 8)).astype("float32")
    # Here and there eagerly on TensorFlow, where to compile takes longer than to train.
    model.compile(keras.optimizers.SGD(3e-4), "mse", run_eagerly=BACKEND == "tensorflow")
    model.train_on_batch(x, y)
    model.save(folder / "model.keras")
    model.save_weights(folder / "model.weights.h5")
    np.savez(folder / "data.npz", x=x, y=y)
    outputs = model.predict_on_batch(x)
    losses = [float(model.train_on_batch(x, y)) for _ in range(6)]
    assert losses == sorted(losses, reverse=True)
    return folder, outputs, losses


def elsewhere(folder, backend, **environment):
    """Load the model in a new process."""
    environment |= {"KERAS_BACKEND": backend, "PYTHONPATH": ROOT, "PYTHONHASHSEED": "1"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(folder)],
        capture_output=True,
        text=True,
        env=os.environ | environment,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_file_gives_the_same_bits_in_a_new_process_and_seeds_the_same_weights(saved):
    folder, outputs, losses = saved
    there = elsewhere(folder, BACKEND)
    np.testing.assert_array_equal(np.array(there["outputs"], "float32"), outputs)
    np.testing.assert_allclose(there["losses"], losses, rtol=1e-6)
    keras.utils.set_random_seed(5)
    block = UnfoldedLSTMBlock(3, 4)
    block.build((None, 5))
    values = [numpy_of(weight).tobytes() for weight in block.weights]
    assert there["initial"] == hashlib.sha256(b"".join(values)).hexdigest()


# Round the three: each writes and reads. The other directions are long, and so is that from
# TensorFlow: where its tests run alone, JAX is not installed.
NEXT = {"jax": "torch", "torch": "tensorflow", "tensorflow": None}


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(other, marks=() if other == NEXT[BACKEND] else pytest.mark.long)
        for other in NEXT
        if other != BACKEND
    ],
)
def test_a_file_of_one_backend_loads_on_the_others(saved, other):
    if importlib.util.find_spec(other) is None:
        pytest.skip(f"{other} is not installed")
    folder, outputs, losses = saved
    there = elsewhere(folder, other, JAX_DISABLE_MOST_OPTIMIZATIONS="1")
    np.testing.assert_allclose(np.array(there["outputs"], "float32"), outputs, atol=1e-5)
    np.testing.assert_allclose(there["losses"], losses, rtol=1e-5)


TWO_DEVICES = """
import sys
import keras
import numpy as np
jax = keras.backend.backend() == "jax"
if not jax:
    import tensorflow as tf
    two = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], two)
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
from keras_deeplstm.callbacks import DivergenceGuard, GradientFlow, GradientNoise, SignalFlow
from keras_deeplstm.layers import DepthLSTM, GridLSTM2D, UnfoldedLSTMBlock

def train():
    keras.utils.set_random_seed(0)
    x = sequences = keras.Input((4, 5))
    x = GridLSTM2D(3, 2)(x)
    x = UnfoldedLSTMBlock(3, 4)(x)
    x = DepthLSTM(lambda step: keras.layers.Dense(3, "tanh"), depth=2)(x)
    model = keras.Model(sequences, x)
    model.compile(keras.optimizers.SGD(0.1), "mse")
    rng = np.random.default_rng(0)
    x, y = (rng.normal(size=s).astype("float32") for s in [(8, 4, 5), (8, 3)])
    flow = GradientFlow(statistics=("norm", "update_ratio"))
    noise, signals, guard = GradientNoise(), SignalFlow(), DivergenceGuard()
    callbacks = [flow, noise, signals, guard]
    history = model.fit(x, y, batch_size=8, epochs=3, verbose=0, callbacks=callbacks)
    assert not guard.diverged
    outputs = signals.to_frame()
    outputs = outputs[outputs.statistic.isin(["norm", "mean"])].value
    values = flow.to_frame().value, noise.to_frame().value, outputs
    return history.history["loss"], model.get_weights(), values

one = train()
if jax:
    devices = keras.distribution.list_devices("cpu")
    assert len(devices) == 2
    keras.distribution.set_distribution(keras.distribution.DataParallel(devices=devices))
    two = train()
else:
    with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
        two = train()
np.testing.assert_allclose(one[0], two[0], rtol=1e-5)
for a, b, rtol in zip(one[2], two[2], (1e-4, 5e-3, 1e-4), strict=True):
    np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-7)
for a, b in zip(one[1], two[1], strict=True):
    np.testing.assert_allclose(a, b, atol=1e-6)
"""


@pytest.mark.skipif(BACKEND == "torch", reason="Keras 3.15 distributes nothing on torch")
@(pytest.mark.long if BACKEND == "tensorflow" else pytest.mark.backends)
def test_two_devices_train_as_one():
    """The norms of gradients are those of the whole batch, too, not the mean of local norms."""
    environment = {
        **os.environ,
        "PYTHONPATH": ROOT,
        "JAX_NUM_CPU_DEVICES": "2",
        "CUDA_VISIBLE_DEVICES": "",
    }
    done = subprocess.run(
        [sys.executable, "-c", TWO_DEVICES], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr


# Compiled steps.


class Same(keras.utils.PyDataset):
    """The same batch again and again. Of its arrays TensorFlow knows the rank, but no shape."""

    def __init__(self, x, y):
        super().__init__()
        self.batch = x, y

    def __len__(self):
        return 3

    def __getitem__(self, index):
        return self.batch


DEEP = WRITTEN_OUT + 2  # a loop


@functools.cache
def trained(layer_class, depth, jit, known=True):
    """Losses and weights after three steps, with shapes known when it is compiled or not."""
    x, y = inputs(layer_class), np.zeros((6, width(layer_class)), "float32")
    if layer_class is GridLSTM2D and depth == 1:
        x = x[:, :1]  # no loop at all
    keras.utils.set_random_seed(1)
    shape = x.shape[1:] if known else (*[None] * (x.ndim - 2), x.shape[-1])
    model = keras.Sequential([keras.Input(shape), make(layer_class, depth)])
    model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=jit)
    if known:
        losses = [float(model.train_on_batch(x, y)) for _ in range(3)]
    else:
        losses = model.fit(Same(x, y), verbose=0, shuffle=False).history["loss"]
    return [np.array(losses), *model.get_weights()]


@pytest.mark.skipif(BACKEND == "torch", reason="torch.compile is not promised")
@pytest.mark.parametrize(
    "layer_class, depth",
    [
        *((layer_class, DEEP) for layer_class in [UnfoldedLSTMBlock, GridLSTM2D]),
        # Loops that do not run, for which XLA cannot reserve nothing.
        (UnfoldedLSTMBlock, 1),
        (GridLSTM2D, 1),
        *(long(block, 1) for block in BLOCKS[1:]),
        *(long(layer_class, 2) for layer_class in LAYERS),
        *(long(layer_class, DEEP) for layer_class in [*BLOCKS[1:], GridLSTM3D, *STACKS]),
    ],
)
def test_compiled_training_steps_agree(layer_class, depth):
    losses, *_ = results = trained(layer_class, depth, jit=True)
    assert losses[-1] < losses[0]
    for with_jit, without in zip(results, trained(layer_class, depth, jit=False), strict=True):
        np.testing.assert_allclose(with_jit, without, atol=1e-5)


@pytest.mark.skipif(BACKEND == "torch", reason="torch.compile is not promised")
@pytest.mark.parametrize(
    "layer_class",
    [UnfoldedLSTMBlock, GridLSTM2D, *map(long, [*BLOCKS[1:], GridLSTM3D, *STACKS])],
)
@pytest.mark.parametrize("jit", [True, long(False)])
def test_training_with_unknown_shapes(layer_class, jit):
    """With a GPU this is what `fit` does by default: XLA, and shapes that are known at run time."""
    losses, *weights = trained(layer_class, DEEP, jit)
    results = trained(layer_class, DEEP, jit, known=False)
    for found, expected in zip(results, [losses.mean(keepdims=True), *weights], strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.skipif(BACKEND == "torch", reason="a loop in Python there")
@pytest.mark.parametrize("layer_class", LAYERS)
def test_the_program_does_not_grow_with_depth(layer_class):
    """Of a stack only if it is tied, and asked to run in a loop."""
    options = {"tied": True, "unroll": False} if layer_class in STACKS else {}

    def size(depth):
        layer = make(layer_class, depth, **options)
        x = inputs(layer_class)
        layer.build(x.shape)
        if BACKEND == "jax":
            import jax

            return len(str(jax.make_jaxpr(layer)(x)).splitlines())
        import tensorflow as tf

        graph = (
            tf.function(layer).get_concrete_function(tf.TensorSpec(x.shape)).graph.as_graph_def()
        )
        return len(graph.node) + sum(len(function.node_def) for function in graph.library.function)

    assert size(50) == size(WRITTEN_OUT + 2)


@pytest.mark.skipif(BACKEND == "torch", reason="SavedModel is promised for TensorFlow and JAX")
def test_export_to_saved_model(tmp_path):
    """All blocks side by side; GridLSTM2D has a test of its own."""
    import tensorflow as tf

    features = keras.Input((FEATURES,))
    outputs = [make(layer_class, dropout=0.1)(features) for layer_class in [*BLOCKS, *STACKS]]
    model = keras.Model(features, outputs)
    model.export(str(tmp_path), verbose=False)
    x = inputs(UnfoldedLSTMBlock)
    exported = tf.saved_model.load(str(tmp_path))
    for part in (x, x[:2]):
        for found, expected in zip(exported.serve(part), model.predict_on_batch(part), strict=True):
            np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)


# Edges.


@functools.cache
def predictor(layer_class, **options):
    """A model of the layer alone; its `predict` is compiled once for all tests."""
    keras.utils.set_random_seed(0)
    shape = inputs(layer_class).shape[1:]
    return keras.Sequential([keras.Input(shape), make(layer_class, **options)])


@pytest.mark.parametrize("layer_class", [*BLOCKS, GridLSTM2D, *map(long, [GridLSTM3D, *STACKS])])
def test_one_bad_value_spoils_only_its_row(layer_class):
    x = inputs(layer_class)
    good = predictor(layer_class).predict(x, verbose=0)
    for value in (np.nan, np.inf):
        x[(2, *[0] * (x.ndim - 1))] = value
        spoiled = predictor(layer_class).predict(x, verbose=0)
        np.testing.assert_array_equal(np.delete(spoiled, 2, axis=0), np.delete(good, 2, axis=0))
    x[2] = np.nan
    assert np.isnan(predictor(layer_class).predict(x, verbose=0)[2]).all()


@pytest.mark.parametrize("layer_class", [UnfoldedLSTMBlock, GridLSTM2D])
@pytest.mark.parametrize("size", [1e30, -1e30, 1e-40])
def test_extreme_inputs_give_finite_states(layer_class, size):
    x = np.full_like(inputs(layer_class), size)
    output = predictor(layer_class).predict(x, verbose=0)
    assert (np.abs(output) <= 1).all()


@pytest.mark.parametrize("bias", [-50.0, 50.0])
def test_shut_gates_let_nothing_through_and_open_ones_everything(bias):
    """Forget gates of 0 and of 1: z beyond what a sigmoid tells from these."""
    layer = make(UnfoldedLSTMBlock, 4, forget_bias=bias, input_mode="state", return_state=True)
    x = inputs(UnfoldedLSTMBlock)
    layer.build(x.shape)
    layer.memory_bias.assign(100 * np.ones(UNITS))  # large against what the steps add
    memory = numpy_of(layer(x)[2])
    before = numpy_of(ops.matmul(x, layer.memory_kernel) + layer.memory_bias)
    # Each of four steps adds a value in (-1, 1); a shut gate keeps only what the last one adds.
    kept = before if bias > 0 else 0 * before
    assert (np.abs(memory - kept) < (4 if bias > 0 else 1)).all()


@pytest.mark.parametrize("layer_class", LAYERS)
def test_one_row_one_unit_one_feature(layer_class):
    if layer_class not in STACKS:
        x = inputs(layer_class)[:1, ..., :1]
        assert tuple(layer_class(1, 2)(x).shape) == (1, 1)
    one = predictor(layer_class).predict(inputs(layer_class)[:1], verbose=0)
    many = predictor(layer_class).predict(inputs(layer_class), verbose=0)
    np.testing.assert_allclose(one, many[:1], atol=1e-6)


@pytest.mark.parametrize("layer_class", [*BLOCKS, *STACKS])
def test_an_empty_batch(layer_class):
    empty = make(layer_class)(np.zeros((0, FEATURES), "float32"))
    assert tuple(empty.shape) == (0, width(layer_class))


@pytest.mark.parametrize("layer_class", [*BLOCKS, *STACKS])
def test_sequences_and_masks_pass_through_blocks(layer_class):
    x = np.random.default_rng(3).normal(size=(2, TIME, FEATURES)).astype("float32")
    layer = make(layer_class)
    each = np.stack([numpy_of(layer(x[:, t])) for t in range(TIME)], axis=1)
    np.testing.assert_allclose(numpy_of(layer(x)), each, atol=1e-6)
    distributed = keras.layers.TimeDistributed(layer)(x)
    np.testing.assert_allclose(numpy_of(distributed), each, atol=1e-6)
    mask = np.array([[True, True, False, True]] * 2)
    np.testing.assert_array_equal(
        numpy_of(layer.compute_mask(x, ops.convert_to_tensor(mask))), mask
    )


@pytest.mark.long
def test_a_grid_of_fifty_layers_trains_and_survives_a_file(tmp_path):
    model = keras.Sequential([keras.Input((TIME, FEATURES)), make(GridLSTM2D, 50)])
    model.compile(keras.optimizers.Adam(1e-2), "mse")
    x, y = inputs(GridLSTM2D), np.full((6, UNITS), 0.3, "float32")
    losses = model.fit(x, y, epochs=5, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict_on_batch(x), model.predict_on_batch(x))


@pytest.mark.parametrize("layer_class", LAYERS)
def test_other_types_of_numbers(layer_class):
    layer = make(layer_class, np.int32(2), units=np.int64(UNITS), dropout=np.float32(0))
    expected = numpy_of(layer(inputs(layer_class)))
    assert keras.backend.standardize_dtype(expected.dtype) == "float32"
    wide = numpy_of(layer(inputs(layer_class).astype("float64")))
    np.testing.assert_allclose(wide, expected, atol=1e-6)
    json.dumps(layer.get_config())
