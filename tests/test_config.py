import json
import re

import pytest

from keras_deeplstm import models
from keras_deeplstm.experiments.settings.base import ConfigError, differences
from keras_deeplstm.experiments.settings.classifiers import ModelConfig, RunConfig


def test_defaults_are_those_of_the_layers():
    assert RunConfig("digits").model.build_arguments() == {
        "block": "unfolded_lstm",
        "depth": 10,
        "units": 100,
        "dropout": 0.0,
    }


def test_build_arguments_hold_what_was_changed():
    model = ModelConfig(depth=3, units=8, tied=True, forget_bias=None, normalization="layer")
    assert model.build_arguments() == {
        "block": "unfolded_lstm",
        "depth": 3,
        "units": 8,
        "dropout": 0.0,
        "tied": True,
        "forget_bias": None,
        "normalization": "layer",
    }


def test_a_budget_takes_the_place_of_units():
    model = ModelConfig(block="highway", parameters=9000, input_noise=0.25)
    arguments = {"block": "highway", "depth": 10, "parameters": 9000, "dropout": 0.0}
    assert model.build_arguments() == {**arguments, "input_noise": 0.25}
    assert model.label == "HighwayBlock noise0.25"
    slug = "digits-highway-noise0.25-depth10-parameters9000-seed0"
    assert RunConfig("digits", model).slug == slug


def test_a_cnn_has_convolutions_for_depth():
    model = ModelConfig(block="cnn", depth=3, units=64, dropout=0.5)
    assert model.builder().func is models.cnn_classifier
    assert model.build_arguments() == {"filters": (32, 64, 128), "units": 64, "dropout": 0.5}
    assert model.label == "CNN dropout0.5"


def test_an_image_grid_has_corners():
    grid = ModelConfig(block="image_grid")
    assert (grid.depth, grid.label) == (2, "GridLSTM3D")
    assert grid.build_arguments() == {
        **{"depth": 2, "units": 100, "dropout": 0.0, "patches": (2, 2), "combine": "concat"},
        **{"directions": ("top_left",), "return_sequences": False},
    }
    paper = ModelConfig(
        block="image_grid", depth=4, units=100, corners=4, turns=True, read="all", patch=4,
        project_inputs="both", output="both", hidden_units=4096, tied=True,
    )  # fmt: skip
    assert paper.builder().func is models.image_grid_classifier
    arguments = paper.build_arguments()
    assert arguments["directions"] == ("top_left", "bottom_right", "top_right", "bottom_left")
    assert (arguments["combine"], arguments["return_sequences"]) == ("turns", True)
    assert (arguments["patches"], arguments["hidden_units"]) == ((4, 4), 4096)
    assert paper.label == (
        "GridLSTM3D tied patch=4 corners=4 turns read=all project_inputs=both output=both "
        "hidden_units=4096"
    )
    assert RunConfig("digits", paper).slug.startswith("digits-image_grid-tied-patch-4-corners-4-")


def test_a_deep_cnn_has_a_connection():
    model = ModelConfig(block="deep_cnn", connection="rezero", depth=30, parameters=90_000)
    assert model.builder().func is models.cnn_classifier
    assert model.build_arguments() == {
        "connection": "rezero",
        "depth": 30,
        "parameters": 90_000,
        "dropout": 0.0,
    }
    assert model.label == "DeepCNN rezero"
    lstm = ModelConfig(block="deep_cnn", tied=True, input_gate_bias="depth")
    assert lstm.label == "DeepCNN lstm tied input-bias-depth"
    arguments = lstm.build_arguments()
    assert (arguments["connection"], arguments["tied"]) == ("lstm", True)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"parameters": 0}, "`model.parameters` must be a positive integer"),
        (
            {"parameters": 9, "units": 8},
            "Pass either `model.units` or `model.parameters`. Received: model.units=8, model.pa",
        ),
        (
            {"block": "cnn", "depth": 10},
            "`model.depth` must be at most 5. Received: model.depth=10",
        ),
        (
            {"block": "cnn", "depth": 2, "parameters": 9},
            "`model.parameters` has no meaning for block 'cnn'",
        ),
        ({"block": "cnn", "depth": 2, "tied": True}, "`model.tied` has no meaning for block 'cnn'"),
        (
            {"block": "deep_cnn", "connection": "residual", "forget_bias": 1.0},
            "`model.forget_bias` has no meaning for connection 'residual'",
        ),
        (
            {"block": "image_grid", "turns": True},
            "`model.turns` has no meaning with `model.corners`",
        ),
        ({"block": "image_grid", "corners": 3}, "`model.corners` must be one of"),
        ({"block": "image_grid", "patch": 0}, "`model.patch` must be a positive integer"),
        ({"corners": 4}, "`model.corners` has no meaning for block 'unfolded_lstm'"),
        ({"connection": "rezero"}, "`model.connection` has no meaning for block 'unfolded_lstm'"),
        ({"block": "deep_cnn", "connection": "pre"}, "`model.connection` must be one of"),
        (
            {"input_noise": -0.1},
            "`model.input_noise` must be at least 0. Received: model.in",
        ),
        ({"state_initializer": "ones"}, "`model.state_initializer` must be one of"),
        ({"input_gate_bias": "deep"}, "`model.input_gate_bias` must be"),
        ({"depth": 0}, "`model.depth` must be a positive integer. Received: model.depth=0"),
        ({"depth": 10**9}, "`model.depth` must be at most 10000"),
        ({"depth": True}, "`model.depth` must be a positive integer"),
        ({"units": "8"}, "Received: model.units='8' (of type <class 'str'>)"),
        ({"dropout": 1.0}, "`model.dropout` must be a float in the range [0, 1)"),
        ({"block": "dence"}, "Did you mean 'dense'?"),
        ({"input_mode": "evry"}, "Did you mean 'every'?"),
        ({"forget_bias": float("nan")}, "`model.forget_bias` must be a finite number"),
        ({"forget_bias": "deep"}, "`model.forget_bias` must be"),
        ({"activation": 3}, "`model.activation` must be a string or None"),
        (
            {"block": "dense", "forget_bias": 1.0},
            "`model.forget_bias` has no meaning for block 'dense'. Its own options: tied,",
        ),
        ({"block": "dense", "normalization": "batch"}, "`model.normalization` has no meaning"),
    ],
)
def test_wrong_model(settings, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        ModelConfig(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"task": "mnits"}, "Unknown task 'mnits'. Did you mean 'mnist'? Available: ['digits',"),
        ({"epochs": 0}, "`epochs` must be a positive integer. Received: epochs=0"),
        ({"epochs": "10"}, "Received: epochs='10' (of type <class 'str'>)"),
        ({"batch_size": -1}, "`batch_size` must be a positive integer"),
        ({"optimizer": "adm"}, "Did you mean 'adam'?"),
        ({"learning_rate": 0.0}, "`learning_rate` must be a positive number"),
        ({"learning_rate": float("nan")}, "`learning_rate` must be a finite number"),
        ({"clipnorm": -1.0}, "`clipnorm` must be a positive number"),
        ({"schedule": "cosin"}, "Did you mean 'cosine'?"),
        ({"clipvalue": 0.0}, "`clipvalue` must be a positive number"),
        (
            {"clipvalue": 1.0},
            "Pass either `clipnorm` or `clipvalue`, and None for the other. "
            "Received: clipnorm=1.0, clipvalue=1.0",
        ),
        ({"seed": -1}, "`seed` must be an integer in [0, 4294967295]. Received: seed=-1"),
        ({"seed": 1.0}, "`seed` must be an integer"),
        ({"gradient_every": 0}, "`gradient_every` must be a positive integer"),
        ({"folds": 1}, "`folds` must be an integer of at least 2. Received: folds=1"),
        ({"folds": 5, "fold": 6}, "`fold` must be at most 5. Received: fold=6"),
        ({"fold": 2}, "`fold` must be at most 1"),
        ({"model": {"depth": 3}}, "`model` must be a ModelConfig"),
    ],
)
def test_wrong_run(settings, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        RunConfig(**{"task": "digits", **settings})


def test_json_round_trip():
    model = ModelConfig(depth=20, tied=True, forget_bias=1.5)
    config = RunConfig("mnist", model, epochs=3, clipnorm=None)
    assert RunConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "'config' must be a mapping. Received: list"),
        ({}, "Missing required key 'task' in 'config'"),
        ({"task": "digits", "epoch": 3}, "Unknown key 'epoch' in 'config'. Did you mean 'epochs'?"),
        ({"task": "digits", "model": {"unit": 3}}, "Unknown key 'unit' in 'model'."),
        ({"task": "digits", "model": 3}, "'model' must be a mapping. Received: int"),
        ({"task": "digits", "epochs": "3"}, "`epochs` must be a positive integer"),
    ],
)
def test_wrong_json(data, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        RunConfig.from_dict(data)


def test_configs_of_older_versions_have_no_folds():
    data = RunConfig("digits").to_dict()
    del data["folds"], data["fold"]
    assert RunConfig.from_dict(data) == RunConfig("digits")


def test_differences():
    old = RunConfig("digits", ModelConfig(depth=3))
    new = RunConfig("digits", ModelConfig(depth=4), learning_rate=0.5)
    assert differences(old, new) == "learning_rate: 0.001 -> 0.5, model.depth: 3 -> 4"
    assert differences(old, old) == ""


def test_names():
    relu = ModelConfig(
        block="dense",
        activation="relu",
        kernel_initializer="he_normal",
        recurrent_initializer="he_normal",
    )
    assert relu.label == "DenseStack relu he_normal"
    assert ModelConfig().label == "UnfoldedLSTMBlock untied"
    model = ModelConfig(tied=True, forget_bias=1.0, dropout=0.1, depth=20, units=32)
    assert model.label == "UnfoldedLSTMBlock tied bias1.0 dropout0.1"
    assert RunConfig("mnist", model, seed=7).slug == (
        "mnist-unfolded_lstm-tied-bias1.0-dropout0.1-depth20-units32-seed7"
    )
    fold = RunConfig("mnist", folds=5, fold=2)
    assert fold.slug == "mnist-unfolded_lstm-untied-depth10-units100-seed0-fold2of5"
