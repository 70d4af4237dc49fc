"""Laws that hold for any input: what a layer must not depend on, and what adds up to the same."""

import functools
import json

import hypothesis.strategies as st
import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from keras_deeplstm.layers import (
    DenseStack,
    GridLSTM2D,
    HighwayBlock,
    ResidualBlock,
    UnfoldedLSTMBlock,
)
from keras_deeplstm.layers.residual_block import KINDS

pytestmark = pytest.mark.backends

ROWS, TIME, FEATURES, UNITS = 4, 6, 3, 2

# A small fixed set, so that what is compiled once serves all examples.
LAYERS = {
    "unfolded": lambda: UnfoldedLSTMBlock(UNITS, 3),
    "unfolded batch": lambda: UnfoldedLSTMBlock(UNITS, 3, normalization="batch", tied=True),
    "dense": lambda: DenseStack(UNITS, 3),
    "highway": lambda: HighwayBlock(UNITS, 3),
    "residual": lambda: ResidualBlock(UNITS, 3),
    "grid": lambda: GridLSTM2D(UNITS, 2, return_sequences=True),
    "grid layer": lambda: GridLSTM2D(UNITS, 2, normalization="layer", output="both"),
    "grid backwards": lambda: GridLSTM2D(UNITS, 2, return_sequences=True, go_backwards=True),
}

law = settings(
    max_examples=25,
    deadline=None,  # the first example compiles
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
seeds = st.integers(0, 2**32 - 1)
names = st.sampled_from(list(LAYERS))
orders = st.permutations(range(ROWS))
masks = st.lists(
    st.lists(st.booleans(), min_size=TIME, max_size=TIME), min_size=ROWS, max_size=ROWS
).map(np.array)


@functools.cache
def predict(name):
    """A compiled function of a batch of the one shape."""
    keras.utils.set_random_seed(0)
    shape = (TIME, FEATURES) if name.startswith("grid") else (FEATURES,)
    model = keras.Sequential([keras.Input(shape, batch_size=ROWS), LAYERS[name]()])
    return model.predict_on_batch


def batch(name, seed):
    shape = (ROWS, TIME, FEATURES) if name.startswith("grid") else (ROWS, FEATURES)
    return np.random.default_rng(seed).normal(0, 2, size=shape).astype("float32")


@law
@given(names, seeds, orders)
def test_rows_do_not_see_each_other(name, seed, order):
    x = batch(name, seed)
    y = predict(name)(x)
    np.testing.assert_allclose(predict(name)(x[list(order)]), y[list(order)], atol=1e-6)
    doubled = np.concatenate([x[:2], x[:2]])  # another half does not matter
    np.testing.assert_allclose(predict(name)(doubled)[:2], y[:2], atol=1e-6)


def sequences_and_states(seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(ROWS, TIME, FEATURES)).astype("float32")
    return x, list(rng.normal(size=(4, ROWS, UNITS)).astype("float32"))


@functools.cache
def grid_models():
    """The same weights: over a sequence, with state in and out, and the other way round."""
    keras.utils.set_random_seed(0)
    layer = GridLSTM2D(UNITS, 2, return_sequences=True, return_state=True)
    backwards = GridLSTM2D(UNITS, 2, return_sequences=True, return_state=True, go_backwards=True)

    def model(layer, length):
        x = keras.Input((length, FEATURES), batch_size=ROWS)
        mask = keras.Input((length,), batch_size=ROWS, dtype="bool")
        states = [keras.Input((UNITS,), batch_size=ROWS) for _ in range(4)]
        outputs = layer(x, initial_state=states, mask=mask)
        return keras.Model([x, mask, *states], list(outputs)).predict_on_batch

    models = model(layer, TIME), model(layer, TIME // 2), model(backwards, TIME)
    backwards.set_weights(layer.get_weights())
    return models


@law
@given(seeds, masks)
def test_chunks_with_carried_state_equal_the_whole(seed, mask):
    """At masked times before the first valid one a chunk cannot know what came before it."""
    whole, chunk, _ = grid_models()
    x, states = sequences_and_states(seed)
    half = TIME // 2
    y, *last = whole([x, mask, *states])
    first, *between = chunk([x[:, :half], mask[:, :half], *states])
    second, *end = chunk([x[:, half:], mask[:, half:], *between])
    np.testing.assert_allclose(first, y[:, :half], atol=1e-6)
    begun = np.maximum.accumulate(mask[:, half:], axis=1)
    np.testing.assert_allclose(second[begun], y[:, half:][begun], atol=1e-6)
    for a, b in zip(end, last, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


@law
@given(seeds, masks)
def test_backwards_is_the_sequence_reversed(seed, mask):
    whole, _, backwards = grid_models()
    x, states = sequences_and_states(seed)
    for a, b in zip(
        backwards([x, mask, *states]), whole([x[:, ::-1], mask[:, ::-1], *states]), strict=True
    ):
        np.testing.assert_allclose(a, b, atol=1e-6)


@law
@given(seeds, masks, st.floats(-1e6, 1e6, width=32))
def test_what_stands_at_masked_times_does_not_matter(seed, mask, value):
    whole = grid_models()[0]
    x, states = sequences_and_states(seed)
    other = np.where(mask[..., None], x, np.float32(value))
    for a, b in zip(whole([x, mask, *states]), whole([other, mask, *states]), strict=True):
        np.testing.assert_array_equal(a, b)


options = {
    UnfoldedLSTMBlock: {
        "tied": st.booleans(),
        "input_mode": st.sampled_from(["first", "every"]),
        "normalization": st.sampled_from([None, "batch", "layer"]),
        "peepholes": st.booleans(),
        "state_initializer": st.sampled_from(["zeros", "noise", "ones"]),
        "forget_bias": st.one_of(st.none(), st.just("depth"), st.floats(-3, 3)),
        "return_all_steps": st.booleans(),
        "return_state": st.booleans(),
        "recurrent_initializer": st.sampled_from(["orthogonal", "glorot_normal"]),
        "kernel_regularizer": st.sampled_from([None, "l2"]),
    },
    GridLSTM2D: {
        "tied": st.sampled_from([False, "depth", True]),
        "priority": st.sampled_from(["depth", None]),
        "project_inputs": st.sampled_from(["hidden", "both", None]),
        "output": st.sampled_from(["hidden", "both"]),
        "normalization": st.sampled_from([None, "layer"]),
        "peepholes": st.booleans(),
        "recurrent_dropout": st.floats(0, 0.9),
        "depth_forget_bias": st.one_of(st.none(), st.just("depth"), st.floats(-3, 3)),
        "input_gate_bias": st.one_of(st.none(), st.floats(-3, 3)),
        "go_backwards": st.booleans(),
        "bias_constraint": st.sampled_from([None, "non_neg"]),
    },
    HighwayBlock: {"tied": st.booleans(), "transform_bias": st.floats(-3, 0)},
    ResidualBlock: {
        "kind": st.sampled_from(KINDS),
        "tied": st.booleans(),
        "use_bias": st.booleans(),
        "activation": st.sampled_from(["relu", "tanh"]),
        "recurrent_regularizer": st.sampled_from([None, "l2"]),
    },
    DenseStack: {"tied": st.booleans(), "use_bias": st.booleans()},
}
common = {
    "units": st.integers(1, 3),
    "depth": st.integers(1, 4),
    "dropout": st.floats(0, 0.9),
    "seed": st.one_of(st.none(), st.integers(0, 9)),
    "dtype": st.sampled_from(["float32", "mixed_bfloat16"]),
}
configs = st.sampled_from(list(options)).flatmap(
    lambda layer: st.tuples(st.just(layer), st.fixed_dictionaries(common | options[layer]))
)


@settings(law, max_examples=60)
@given(configs)
def test_a_config_is_a_fixed_point_and_tells_the_shapes(drawn):
    layer_class, arguments = drawn
    layer = layer_class(**arguments)
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(layer)))
    again = keras.saving.deserialize_keras_object(config)
    assert json.loads(json.dumps(keras.saving.serialize_keras_object(again))) == config
    features = arguments["units"]  # as `project_inputs=None` wants it
    shape = (2, 3, features) if layer_class is GridLSTM2D else (2, features)
    again.build(shape)
    assert again.weight_shapes(features) == {w.name: tuple(w.shape) for w in again.weights}
    symbolic = again.compute_output_shape(shape)
    outputs = keras.tree.flatten(again(keras.KerasTensor(shape)))
    flat = symbolic if isinstance(symbolic[0], (tuple, list)) else [symbolic]
    assert [tuple(o.shape) for o in outputs] == [tuple(s) for s in flat]
