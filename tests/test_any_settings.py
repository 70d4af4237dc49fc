"""Whatever is given for an argument is taken, or refused with an error that is meant for it."""

import dataclasses
import math

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from keras_deeplstm.experiments.settings.base import ConfigError
from keras_deeplstm.experiments.settings.classifiers import ModelConfig, RunConfig
from keras_deeplstm.experiments.settings.sequences import SequenceConfig, SequenceModelConfig
from keras_deeplstm.experiments.settings.text import TextConfig, TextModelConfig
from keras_deeplstm.experiments.tasks.sequences import TASKS
from keras_deeplstm.initializers import GateBias, OrthogonalGates
from keras_deeplstm.layers import (
    DenseStack,
    GridLSTM2D,
    GridLSTM3D,
    HighwayBlock,
    ResidualBlock,
    UnfoldedLSTMBlock,
)

CLASSES = (UnfoldedLSTMBlock, DenseStack, HighwayBlock, ResidualBlock, GridLSTM2D, GridLSTM3D)
LAYERS = {layer: layer(1, 1).get_config() for layer in CLASSES}
LAYERS |= {one: one().get_config() for one in (GateBias, OrthogonalGates)}
CONFIGS = (RunConfig, TextConfig, SequenceConfig)
MODELS = {RunConfig: ModelConfig, TextConfig: TextModelConfig, SequenceConfig: SequenceModelConfig}

# Values that some argument takes, and values that no argument should.
WORDS = (
    *("zeros", "noise", "depth", "both", "hidden", "first", "every", "state", "layer", "batch"),
    *("tanh", "relu", "orthogonal", "l2", "max_norm", "float32", "mixed_float16", "bfloat16"),
    *("digits", "python-reference", "adam", "sgd", "cosine", "step", "decay", "lstm", "grid_lstm"),
    *("dense", "unfolded_lstm", "cnn", "guess", *TASKS, "adding:length=9", "adding:length=x"),
    *("../x", "", "a\0b", "\ud800", "x" * 300, "os.system", "./d.npz"),
)
NUMBERS = (0, 1, 2, 3, 50, -1, 10**9, 2**32, 2**200, 0.0, 0.5, 0.9, -0.5, 1e400, math.nan, 1e-300)
SIMPLE = st.one_of(
    st.sampled_from(WORDS),
    st.sampled_from(NUMBERS),
    st.sampled_from((None, True, False, 1j, b"x")),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
)
ANY = st.one_of(
    SIMPLE,
    st.lists(SIMPLE, max_size=3),
    st.tuples(SIMPLE, SIMPLE, SIMPLE),
    st.dictionaries(st.sampled_from(("module", "class_name", "config", "x")), SIMPLE, max_size=3),
)
FEW = settings(
    max_examples=300,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
MANY = settings(FEW, max_examples=10_000)


def some_of(names):
    """Up to three of these arguments, each with any value."""
    pairs = st.tuples(st.sampled_from(sorted(names)), ANY)
    return st.lists(pairs, max_size=3).map(dict)


layers = st.sampled_from(list(LAYERS)).flatmap(
    lambda layer: st.tuples(st.just(layer), some_of([*LAYERS[layer], "foo"]))
)


def fields(config):
    return [field.name for field in dataclasses.fields(config)]


configs = st.sampled_from(CONFIGS).flatmap(
    lambda config: st.tuples(
        st.just(config), some_of(fields(config)), some_of(fields(MODELS[config]))
    )
)


def make_layer(drawn):
    layer, arguments = drawn
    given = {**({"units": 4, "depth": 2} if layer in CLASSES else {}), **arguments}
    for make in (lambda: layer(**given), lambda: layer.from_config({**LAYERS[layer], **given})):
        try:
            made = make()
        except (ValueError, TypeError) as error:
            assert str(error)
        else:
            assert made.get_config().keys() == LAYERS[layer].keys()


def make_config(drawn):
    config, arguments, options = drawn
    subject = {RunConfig: "digits", TextConfig: "python-reference", SequenceConfig: "adding"}
    first = fields(config)[0]
    given = {first: subject[config], "model": options, **arguments}
    if config is SequenceConfig:
        given["sequences"] = arguments.get("sequences", 100_000)
    try:
        made = config.from_dict(given)
    except ConfigError as error:
        assert str(error)
    else:
        # What is taken has a name, a title and a way back.
        assert made.title and made.slug
        assert config.from_dict(made.to_dict()) == made


@FEW
@given(layers)
def test_layers(drawn):
    make_layer(drawn)


@FEW
@given(configs)
def test_settings_of_runs(drawn):
    make_config(drawn)


def train_a_step(drawn):
    """One step of training of a layer that is taken, and small enough for here."""
    layer, arguments = drawn
    assume(layer in CLASSES and "name" not in arguments)  # which is Keras' own matter
    try:
        made = layer(**({"units": 4, "depth": 2} | arguments))
    except (ValueError, TypeError):
        made = None
    assume(made is not None and made.units <= 64 and made.depth <= 20)
    features = made.units  # as it has to be without projections of a grid's inputs
    shape = (3, *{GridLSTM2D: (4,), GridLSTM3D: (2, 4)}.get(layer, ()), features)
    x = np.random.default_rng(0).normal(size=shape).astype("float32")
    inputs = keras.Input(batch_shape=shape)  # states that are kept need the size of a batch
    outputs = keras.tree.flatten(made(inputs))
    model = keras.Model(inputs, [keras.layers.Flatten()(output) for output in outputs])
    model.compile("sgd", "mse", run_eagerly=True)
    targets = [np.zeros(output.shape) for output in keras.tree.flatten(model(x))]
    model.train_on_batch(x, targets)


@settings(FEW, max_examples=10)
@given(layers)
def test_what_is_taken_trains(drawn):
    train_a_step(drawn)


@pytest.mark.long
@FEW
@given(layers)
def test_three_hundred_that_are_taken_train(drawn):
    train_a_step(drawn)


@pytest.mark.long
@MANY
@given(layers)
def test_many_layers(drawn):
    make_layer(drawn)


@pytest.mark.long
@MANY
@given(configs)
def test_many_settings_of_runs(drawn):
    make_config(drawn)
