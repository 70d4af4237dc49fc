"""Search spaces and hypermodels, as a notebook uses them."""

import pathlib

import keras
import keras_tuner
import numpy as np
import pytest

from keras_deeplstm import models, search
from keras_deeplstm.search import HyperModel, Space
from keras_deeplstm.search.space import BLOCK_OPTIONS, TRAINING

PAGE = pathlib.Path(__file__).parent.parent / "docs" / "search.md"
SMALL = {"depth": (2, 4), "units": [4, 8], "batch_size": [16, 32]}
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(64, 6)).astype("float32"), RNG.integers(0, 2, 64)


def draw(space, seed):
    """Hyperparameters that a random search would choose."""
    oracle = keras_tuner.oracles.RandomSearchOracle(objective="val_loss", seed=seed + 1)
    hp = keras_tuner.HyperParameters()
    space(hp)
    oracle.update_space(hp)
    hp.values = oracle.populate_space("0")["values"]
    return hp


def sample(space, seed):
    return space(draw(space, seed))


def test_ranges_values_and_fixed_options():
    space = Space(search.OVER_DEPTH)
    seen = [sample(space, seed) for seed in range(60)]
    assert all(2 <= options["depth"] <= 50 for options in seen)
    assert all(16 <= options["units"] <= 128 for options in seen)
    assert all(0 <= options["dropout"] <= 0.5 for options in seen)
    assert all(1e-4 <= options["learning_rate"] <= 1e-2 for options in seen)
    assert {options["tied"] for options in seen} == {True, False}
    assert {options["normalization"] for options in seen} == {None, "batch", "layer"}
    assert {options["forget_bias"] for options in seen} == {"depth", 1.0}
    assert {options["batch_size"] for options in seen} == {32, 64, 128}
    assert {options["block"] for options in seen} == {"unfolded_lstm"}
    # Logarithmic: as many below the geometric mean as above it.
    assert 20 < sum(options["depth"] <= 10 for options in seen) < 40
    assert {float(f"{options['dropout']:.3g}") for options in seen} == {
        options["dropout"] for options in seen
    }
    assert "block" not in space.searched and "depth" in space.searched


def test_options_of_other_blocks_are_left_out():
    space = Space({**search.OVER_DEPTH, "block": ["unfolded_lstm", "dense"]})
    seen = [sample(space, seed) for seed in range(20)]
    for options in seen:
        known = {*BLOCK_OPTIONS} if options["block"] != "dense" else {"tied"}
        assert set(options) & {*BLOCK_OPTIONS} == known
    assert {options["block"] for options in seen} == {"unfolded_lstm", "dense"}


CASES = [
    (models.classifier, ((6,), 2), {}),
    (models.classifier, ((6,), 2), {"block": ["unfolded_lstm", "dense", "highway", "residual"]}),
    (models.cnn_classifier, ((8, 8, 1), 3), {"depth": None, "kernel_size": 3}),
    (models.sequence_classifier, (3, 4), {"block": ["grid_lstm", "lstm"]}),
    (models.sequence_regressor, (3,), {}),
    (models.forecaster, (5,), {}),
    (models.character_language_model, (11,), {}),
]


@pytest.mark.parametrize(("builder", "arguments", "options"), CASES)
def test_every_builder(builder, arguments, options):
    options = {key: value for key, value in {**SMALL, **options}.items() if value is not None}
    hypermodel = HyperModel(builder, *arguments, **options)
    for seed in range(3):
        hp = draw(hypermodel.space, seed)
        values = hypermodel.space(hp)
        model = hypermodel.build(hp)
        assert isinstance(model, keras.Model)
        assert float(model.optimizer.learning_rate) == pytest.approx(values["learning_rate"])
        kept = {k: v for k, v in values.items() if k not in TRAINING}
        count = models.count_parameters(builder, *arguments, **hypermodel.options, **kept)
        assert model.count_params() == count


def test_a_small_cnn_has_no_depth():
    small = HyperModel(models.cnn_classifier, (8, 8, 1), 3)
    assert small.space.searched == ["units", "dropout", "learning_rate", "batch_size"]
    deep = HyperModel(models.cnn_classifier, (8, 8, 1), 3, connection="lstm")
    assert deep.space.searched == ["depth", *small.space.searched]


def test_five_lines_of_a_notebook(eager, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = (
        PAGE.read_text().partition("## In a notebook")[2].split("```")[1].removeprefix("python\n")
    )
    for long, short in {
        "depth=(2, 50)": "depth=(2, 4), units=4",
        "max_trials=20": "max_trials=1",
        "epochs=5": "epochs=1, verbose=0, callbacks=[board]",
    }.items():
        assert long in code
        code = code.replace(long, short)
    images = RNG.random((64, 8, 8, 1))
    names = {"x": images, "y": Y, "x_val": images, "y_val": Y}
    names["board"] = keras.callbacks.TensorBoard(tmp_path / "board")
    exec(code, names)
    tuner = names["tuner"]
    assert tuner.get_best_models()[0].predict(images, verbose=0).shape == (64, 10)
    values = tuner.get_best_hyperparameters()[0].values
    assert set(values) >= {"depth", "dropout", "tied", "learning_rate", "batch_size"}
    # TensorBoard's HParams shows the hyperparameters of each trial.
    events = list((tmp_path / "board").rglob("events.out*"))
    assert any(b"_hparams_/session_start_info" in path.read_bytes() for path in events)


def test_the_batch_size_is_searched():
    hypermodel = HyperModel(models.classifier, (6,), 2, depth=2, units=4, batch_size=[16, 32])
    hp = keras_tuner.HyperParameters()
    model = hypermodel.build(hp)
    hp.values["batch_size"] = 32
    sizes = []
    count = keras.callbacks.LambdaCallback(on_train_begin=lambda logs: None)
    count.on_train_batch_end = lambda batch, logs: sizes.append(batch)
    hypermodel.fit(hp, model, X, Y, epochs=1, verbose=0, callbacks=[count])
    assert len(sizes) == 2
    # Data sets and generators have their own.
    hypermodel.fit(hp, model, X, Y, epochs=1, verbose=0, callbacks=[count], batch_size=64)
    assert len(sizes) == 3


def test_a_budget_instead_of_units():
    hypermodel = HyperModel(models.classifier, (6,), 2, depth=(2, 30), parameters=5000)
    assert "units" not in hypermodel.space.searched
    model = hypermodel.build(keras_tuner.HyperParameters())
    assert 4000 < model.count_params() <= 5000


def test_no_metrics_are_no_metrics():
    hypermodel = HyperModel(models.classifier, (6,), 2, depth=(2, 30), metrics=[])
    assert hypermodel.compiled["metrics"] == []
    assert HyperModel(models.classifier, (6,), 2).compiled["metrics"] == ["accuracy"]
    model = hypermodel.build(keras_tuner.HyperParameters())
    assert list(model.evaluate(X, Y, verbose=0, return_dict=True)) == ["loss"]


def test_too_large_models_are_not_built(monkeypatch):
    hypermodel = HyperModel(
        models.classifier, (784,), 10, depth=[10_000, 2], units=[1000, 4], max_parameters=10**8
    )
    hp = keras_tuner.HyperParameters()
    with pytest.raises(keras_tuner.errors.FailedTrialError) as caught:
        hypermodel.build(hp)
    assert "parameters exceed max_parameters=100,000,000" in str(caught.value)


def test_a_builder_of_ones_own():
    def build(depth, units):
        layers = [keras.layers.Dense(units) for _ in range(depth)]
        return keras.Sequential([keras.Input((6,)), *layers])

    hypermodel = HyperModel(build, loss="mean_squared_error", depth=(2, 4))
    assert hypermodel.space.searched == ["depth", "units", "learning_rate", "batch_size"]
    assert len(hypermodel.build(keras_tuner.HyperParameters()).layers) == 2
    with pytest.raises(ValueError, match="Argument `loss` is needed for the builder 'build'"):
        HyperModel(build)
