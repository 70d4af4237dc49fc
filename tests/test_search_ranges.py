"""Which settings a search by command declares, and under which conditions."""

import keras_tuner
import pytest

from keras_deeplstm.experiments.search.config import SearchConfig
from keras_deeplstm.experiments.search.ranges import parse
from keras_deeplstm.experiments.settings import OWN_BLOCKS, Block, ConfigError


def declared(config):
    """Name -> the conditions of each of its hyperparameters, as keras-tuner has them."""
    hp = keras_tuner.HyperParameters()
    config.space.declare(hp)
    found = {}
    for one in hp.space:
        conditions = {condition.name: condition.values for condition in one.conditions}
        found.setdefault(one.name, []).append(conditions)
    return found


def test_conditions_are_what_settings_refuse():
    config = SearchConfig(
        "digits",
        block="unfolded_lstm,dense,deep_cnn",
        forget_bias="depth,1",
        optimizer="adam,sgd",
        set=(
            "connection=lstm,residual",
            "peepholes=true,false",
            "clipvalue=0.5..2",
            "clipnorm=none",
        ),
    )
    found = declared(config)
    assert list(found) == [
        "block", "connection", "optimizer", "depth", "units", "dropout", "learning_rate",
        "batch_size", "forget_bias", "peepholes", "clipvalue",
    ]  # fmt: skip
    always = ("block", "optimizer", "depth", "units", "learning_rate", "clipvalue")
    assert all(found[name] == [{}] for name in always)
    assert found["connection"] == [{"block": ["deep_cnn"]}]
    assert found["peepholes"] == [{"block": ["unfolded_lstm"]}]
    assert found["forget_bias"] == [
        {"block": ["unfolded_lstm"]},
        {"block": ["deep_cnn"], "connection": ["lstm"]},
    ]


def test_fixed_values_go_where_they_have_a_meaning():
    config = SearchConfig("digits", block="unfolded_lstm,dense", normalization="layer", tied="true")
    values = {"depth": 3, "units": 5, "dropout": 0.1, "learning_rate": 1e-3, "batch_size": 32}
    lstm, dense = (
        config.run({"block": block, **values}).model for block in config.space.ranges["block"]
    )
    assert (lstm.normalization, lstm.tied) == ("layer", True)
    assert (dense.normalization, dense.tied) == (None, True)


def test_a_text_and_its_windows():
    config = SearchConfig(
        "tinyshakespeare",
        block="grid_lstm,transformer",
        epochs="3",
        set=("sequence_length=32..128", "warmup=10,20", "schedule=decay,cosine", "decay=0.9,0.95"),
    )
    found = declared(config)
    assert found["warmup"] == [{"schedule": ["cosine"]}]
    assert found["decay"] == [{"schedule": ["decay"]}]
    run = config.run({
        "block": "transformer", "schedule": "cosine", "warmup": 20, "sequence_length": 64,
        "depth": 3, "units": 32, "dropout": 0.0, "learning_rate": 0.00123456,
    })  # fmt: skip
    assert (run.warmup, run.sequence_length, run.epochs, run.sample_length) == (20, 64, 3, 0)
    assert run.learning_rate == 0.00123  # three digits, so that it can be typed again
    assert config.rounds == 3 and config.resource == 27


def test_a_size_in_place_of_units():
    config = SearchConfig("digits", set=("parameters=1000..100_000",))
    assert "units" not in config.searched and "parameters" in config.searched
    assert SearchConfig("digits", set=("parameters=5000",)).searched == [
        "depth", "dropout", "learning_rate", "batch_size"
    ]  # fmt: skip
    with pytest.raises(ConfigError, match="Pass either"):
        SearchConfig("digits", units="8,16", set=("parameters=5000",))


def test_kinds_of_tasks():
    assert SearchConfig("digits").command == "run"
    assert SearchConfig("adding:length=50").command == "solve"
    assert SearchConfig("python-reference").command == "train-text"
    assert SearchConfig("some/where.txt").command == "train-text"
    assert SearchConfig("some/where", command="train-text").task.endswith("/some/where")
    assert SearchConfig("parity").space.example().model.block == "unfolded_lstm"
    config = SearchConfig("parity", block="unfolded_lstm,dense", set=("sequences=5000",))
    assert config.objective == ("wrong",) and config.rounds == 5
    with pytest.raises(ConfigError, match="Argument `folds` has no meaning for `deeplstm solve`"):
        SearchConfig("adding", folds=3)
    with pytest.raises(ConfigError, match="`deeplstm train-text` has no tables"):
        SearchConfig("python-reference", target=("price",))


def test_what_is_typed():
    assert parse("depth", "2..50") == (2, 50)
    assert parse("learning_rate", "1e-4..1e-2") == (1e-4, 1e-2)
    assert parse("depth", "10, 30") == [10, 30]
    assert parse("dropout", "0,0.5") == [0.0, 0.5]
    assert [type(value) for value in parse("dropout", "0,0.5")] == [float, float]
    assert parse("forget_bias", "depth,none,1") == ["depth", None, 1]
    assert parse("tied", "TRUE") is True
    for text in ("2..", "..", "a..b", "1..true"):
        with pytest.raises(ValueError, match="must be a range of numbers"):
            parse("depth", text)
    # Both ends the same: nothing to choose.
    assert "depth" not in SearchConfig("digits", depth="3..3").searched
    assert SearchConfig("digits", depth="3..3").space.example().model.depth == 3


def test_small_convolutional_networks():
    config = SearchConfig("digits", block="unfolded_lstm,cnn", depth="2..50")
    assert declared(config)["depth"] == [{"block": ["unfolded_lstm"]}]
    assert declared(SearchConfig("digits", block="cnn", depth="2..5"))["depth"] == [{}]


def test_types_of_options_of_own_blocks(monkeypatch):
    block = Block("mine", lambda *sizes, **options: None, options={"rate": 0.5, "width": 8})
    monkeypatch.setitem(OWN_BLOCKS, "mine", block)
    config = SearchConfig("digits", block="mine", options=("rate=0..1", "width=2..8"))
    hp = keras_tuner.HyperParameters()
    config.space.declare(hp)
    kinds = {one.name: type(one).__name__ for one in hp.space}
    assert (kinds["options.rate"], kinds["options.width"]) == ("Float", "Int")
    assert "units" not in kinds and "depth" not in kinds


@pytest.mark.parametrize(
    "given", ["command=run", "BLOCKS=1", "target=x", "seed=1,2", "task=a,b", "folds=2,3", "model=3"]
)
def test_what_has_an_option_of_its_own(given):
    with pytest.raises(ConfigError, match="`deeplstm run` has no setting"):
        SearchConfig("digits", set=(given,))
