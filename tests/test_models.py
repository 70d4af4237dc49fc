import keras
import numpy as np
import pytest

from keras_deeplstm import models
from keras_deeplstm.layers import PositionEmbedding

pytestmark = pytest.mark.backends


def predict(model, x):
    return model.predict(x, verbose=0)


def test_classifier_flattens_images_and_gives_logits():
    model = models.classifier((4, 4, 1), 3, depth=2, units=5, tied=True)
    # 16 x 20 kernel, 5 x 20 recurrent kernel, 20 bias, 5 x 3 + 3 readout
    assert model.count_params() == 320 + 100 + 20 + 18
    assert predict(model, np.zeros((2, 4, 4, 1))).shape == (2, 3)


def _with_skip(*arguments, **options):
    return models.sequence_regressor(*arguments, skip=True, return_sequences=True, **options)


BUDGETS = [
    *(
        (models.classifier, ((12,), 3), {"block": block, "depth": depth, **options})
        for block, options in (
            ("unfolded_lstm", {}),
            ("unfolded_lstm", {"tied": True, "normalization": "batch"}),
            ("unfolded_lstm", {"tied": True, "input_mode": "state", "output": "both"}),
            ("dense", {}),
            ("highway", {}),
            ("residual", {}),
        )
        for depth in (1, 6)
    ),
    *(
        (build, arguments, {"block": block, "depth": 3, **options})
        for block, extra in (("grid_lstm", {"output": "both", "tied": True}), ("lstm", {}))
        for options in ({}, extra)
        for build, arguments in (
            (models.sequence_classifier, (4, 3)),
            (models.sequence_regressor, (4, 2)),
            (_with_skip, (4, 2)),
            (models.forecaster, (6, 2)),
            (models.character_language_model, (11,)),
        )
    ),
    *(
        (build, arguments, {"connection": connection, "depth": 3, **options})
        for build, arguments, some in (
            (models.character_language_model, (11, "transformer"), {"context": 5, "heads": 2}),
            (models.cnn_classifier, ((8, 8, 2), 3), {"kernel_size": 5}),
        )
        for connection, options in (
            *((connection, {}) for connection in models.CONNECTIONS),
            ("lstm", {"tied": True, "memory_normalization": "layer", **some}),
        )
    ),
    (models.cnn_classifier, ((7, 8, 2), 3), {"filters": (3, 2, 2)}),
]


# Every second is long, so that one of each builder and block is not.
@pytest.mark.parametrize(
    "build, arguments, options",
    [
        pytest.param(*one, id=f"{one[0].__name__}-{one[2]}", marks=[pytest.mark.long] * (n % 2))
        for n, one in enumerate(BUDGETS)
    ],
)
def test_a_budget_gives_the_largest_model_within_it(build, arguments, options):
    budget = 7_000
    model = build(*arguments, parameters=budget, **options)
    blocks = [layer for layer in model.layers if layer.name.startswith("block")]
    units = (blocks or [model.layers[-3]])[0].units
    assert models.count_parameters(build, *arguments, units=units, **options) == (
        model.count_params()
    )
    larger = build(*arguments, units=units + 1, **options)
    assert model.count_params() <= budget < larger.count_params()


def test_a_budget_beyond_the_largest_units_gives_those():
    model = models.classifier((4,), 3, "dense", depth=1, parameters=600_000)
    assert model.get_layer("block").units == 65_536
    assert model.count_params() == 5 * 65_536 + 3 * 65_536 + 3


def test_depth_and_width_against_known_counts():
    # H&S-like stack of keras.layers.LSTM: 4 (u (f + u) + u) a layer, embedding, readout.
    model = models.character_language_model(65, block="lstm", depth=2, units=128)
    assert model.count_params() == 65 * 128 + 2 * 4 * (128 * 256 + 128) + 129 * 65
    assert models.cnn_classifier((28, 28, 1), 10).count_params() == 3_274_634


def test_a_transformer_of_lstm_and_one_of_residual_additions_are_equally_large():
    build = models.character_language_model
    lstm, residual = (
        models.count_parameters(build, 65, "transformer", depth=12, units=64, connection=one)
        for one in ("lstm", "residual")
    )
    # Embedding, positions; attention; LSTM or feed-forward part; normalizations; readout.
    ends, attention = 65 * 64 + 64 * 64 + 65 * 65, 4 * (64 * 64 + 64)
    assert lstm == ends + 12 * (attention + 8 * 64**2 + 4 * 64 + 2 * 64) + 2 * 64
    assert residual == ends + 12 * (attention + 8 * 64**2 + 5 * 64 + 4 * 64) + 2 * 64
    assert lstm == pytest.approx(residual, rel=0.004)


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("connection", models.CONNECTIONS)
def test_a_transformer_does_not_see_what_follows(connection):
    model = models.character_language_model(
        7, "transformer", depth=2, units=8, context=6, connection=connection, seed=0
    )
    if connection == "rezero":  # whose layers do nothing at first
        model.get_layer("block").residual_weight.assign(np.ones((4, 1)))
    x = np.random.default_rng(0).integers(0, 7, (3, 6)).astype("int32")
    logits = predict(model, x)
    assert logits.shape == (3, 6, 7)
    np.testing.assert_allclose(predict(model, x[:, :4]), logits[:, :4], atol=1e-5)
    other = x.copy()
    other[:, 0] = (x[:, 0] + 1) % 7
    assert np.abs(predict(model, other) - logits)[:, -1].max() > 1e-3


def test_a_deep_cnn_is_convolutions_a_block_and_a_mean():
    model = models.cnn_classifier((6, 6, 1), 3, connection="lstm", depth=2, units=4, seed=0)
    x = np.random.default_rng(0).normal(size=(2, 6, 6, 1)).astype("float32")
    h = model.layers[2](model.layers[1](x))
    assert tuple(h.shape) == (2, 2, 2, 4)
    h = keras.ops.convert_to_numpy(model.get_layer("block")(h))
    scaled = (h - h.mean(-1, keepdims=True)) / np.sqrt(h.var(-1, keepdims=True) + 1e-3)
    logits = model.get_layer("logits")(scaled.mean((1, 2)))
    np.testing.assert_allclose(predict(model, x), keras.ops.convert_to_numpy(logits), atol=1e-5)


def test_bounded_outputs_stay_in_their_range():
    model = models.sequence_regressor(2, output_range=(-5, 100), depth=1, units=3)
    readout = model.get_layer("outputs")
    x = np.random.default_rng(0).normal(size=(4, 7, 2))
    for bias, expected in ((1e3, 100.0), (-1e3, -5.0), (0.0, 47.5)):
        readout.set_weights([np.zeros((3, 1)), np.array([bias])])
        np.testing.assert_allclose(predict(model, x), expected, rtol=1e-5)


def test_memory_and_inputs_are_read_out():
    x = np.random.default_rng(0).normal(size=(5, 4)).astype("float32")
    model = models.classifier((4,), 2, depth=3, units=6, output="both")
    _, h, c = model.get_layer("block")(x)
    logits = model.get_layer("logits")(keras.ops.concatenate([h, c], axis=1))
    np.testing.assert_allclose(predict(model, x), keras.ops.convert_to_numpy(logits), rtol=1e-5)
    assert model.get_layer("logits").kernel.shape == (12, 2)

    x = np.random.default_rng(0).normal(size=(5, 7, 4)).astype("float32")
    x[:2, 5:] = -1.0
    model = models.sequence_regressor(
        4, 2, depth=1, units=6, skip=True, return_sequences=True, mask_value=-1.0
    )
    readout = model.get_layer("outputs")
    kernel = np.zeros((10, 2))
    kernel[6, 0] = kernel[9, 1] = 1  # the first and the last input alone
    readout.set_weights([kernel, np.array([0.5, 0.0])])
    expected = np.where(x == -1, 0, x)[..., [0, 3]] + [0.5, 0]
    np.testing.assert_allclose(predict(model, x), expected, rtol=1e-5)


@pytest.mark.parametrize("block", models.SEQUENCE_BLOCKS)
def test_masked_steps_do_not_matter(block):
    model = models.sequence_classifier(2, 3, block=block, depth=2, units=4, mask_value=0.0)
    x = np.random.default_rng(0).normal(size=(4, 7, 2)).astype("float32")
    x[:, 5:] = 0.0
    np.testing.assert_allclose(predict(model, x), predict(model, x[:, :5]), atol=1e-6)


@pytest.mark.parametrize("block", ["grid_lstm", "lstm"])
def test_stateful_language_model_carries_its_state(block):
    keras.utils.set_random_seed(1)
    options = {"depth": 2, "units": 4, "batch_size": 3, "stateful": True}
    if block == "lstm" and keras.backend.backend() == "jax":  # where Keras loses them
        with pytest.raises(ValueError, match=r"On JAX .* needs block='grid_lstm', or "):
            models.character_language_model(7, block=block, **options)
        return
    model = models.character_language_model(7, block=block, **options)
    x = np.random.default_rng(0).integers(0, 7, (3, 8))
    whole = predict(model, x)
    for layer in model.layers:
        if layer.name.startswith("block"):
            layer.reset_state()
    halves = np.concatenate([predict(model, x[:, :4]), predict(model, x[:, 4:])], axis=1)
    np.testing.assert_allclose(halves, whole, atol=1e-6)


def test_forecaster_and_saved_file(tmp_path):
    model = models.forecaster(5, 2, depth=2, units=4)
    x = np.random.default_rng(0).normal(size=(3, 9, 2)).astype("float32")
    assert predict(model, x).shape == (3, 5, 2)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(predict(loaded, x), predict(model, x))


WRONG = [
    (lambda: models.classifier((4,), 3, block="dens"), "Did you mean 'dense'"),
    (lambda: models.classifier((4,), 0), "`num_classes` must be a positive integer"),
    (lambda: models.classifier((4,), 3, unit=3), "Unrecognized keyword arguments"),
    (lambda: models.classifier((4,), 3, units=3, parameters=9), "either `units` or `parameters`"),
    (lambda: models.classifier((400,), 3, parameters=99), "No `units` fit the budget: one unit"),
    (lambda: models.cnn_classifier((28, 28), 10), "must be (height, width, channels)"),
    (lambda: models.sequence_classifier(2, 3, block="gru"), "`block` must be one of"),
    (lambda: models.sequence_classifier(2, 3, depth=0), "`depth` must be a positive integer"),
    (lambda: models.sequence_regressor(2, output_range=(1, 1)), "(low, high) with low < high"),
    (lambda: models.sequence_regressor(2, output_range=(1,)), "(low, high) with low < high"),
    (lambda: models.sequence_regressor(2, output_range=100), "(low, high) with low < high"),
    (lambda: models.sequence_regressor(2, skip=True), "needs `return_sequences=True`"),
    (lambda: models.classifier((4,), 3, output="memory"), "`output` must be one of"),
    (lambda: models.classifier((4,), 3, "dense", output="both"), "is of block 'unfolded_lstm'"),
    (lambda: models.forecaster(0), "`horizon` must be a positive integer"),
    (lambda: models.character_language_model(5, stateful=True), "`batch_size` must be given"),
    (
        lambda: models.character_language_model(5, "transformer", batch_size=2, stateful=True),
        "has no states",
    ),
    (
        lambda: models.character_language_model(5, "transformer", connection="dense"),
        "`connection` must be one of",
    ),
    (
        lambda: models.character_language_model(
            5, "transformer", connection="residual", tied=True, units=4
        ),
        "`tied=True` needs `feedforward=False`",
    ),
    (lambda: models.cnn_classifier((8, 8, 1), 3, tied=True), "Only a deep network, with `conne"),
    (lambda: models.cnn_classifier((8, 8, 1), 3, depth=30), "Received: {'depth': 30}"),
    (lambda: models.cnn_classifier((8, 8, 1), 3, kernel_size=0), "`kernel_size` must be"),
    (
        lambda: models.cnn_classifier((8, 8, 1), 3, filters=(4,), connection="lstm"),
        "those of a deep one are its `units`",
    ),
    (lambda: models.cnn_classifier((8, 8, 1), 3, connection="x"), "`connection` must be one of"),
    (lambda: models.character_language_model(5, dropout=1.0), "`dropout` must be a float in"),
]


@pytest.mark.parametrize(
    "build, message", WRONG, ids=lambda v: v[:20] if isinstance(v, str) else ""
)
def test_wrong_arguments(build, message):
    with pytest.raises(ValueError) as error:
        build()
    assert message in str(error.value)


# Grids of images.


@pytest.mark.parametrize(
    "options",
    [
        {"units": 5},
        {"parameters": 9_000, "depth": 3, "tied": True, "hidden_units": 20, "hidden_dropout": 0.5},
        {"parameters": 20_000, "directions": ["top_left", "bottom_right"], "output": "both"},
        {"units": 4, "return_sequences": True, "patches": (4, 2), "input_noise": 0.1},
    ],
    ids=str,
)
def test_an_image_grid_is_counted_before_it_is_built(options):
    model = models.image_grid_classifier((8, 8, 3), 10, **options)
    expected = models.count_parameters(models.image_grid_classifier, (8, 8, 3), 10, **options)
    assert model.count_params() == expected <= options.get("parameters", 10**9)
    assert model.output_shape == (None, 10)
    block = model.get_layer("block")
    assert (block.depth, block.patches) == (options.get("depth", 2), options.get("patches", (2, 2)))


def test_what_an_image_grid_refuses():
    for message, options in {
        "`hidden_dropout` has no meaning without `hidden_units`": {"hidden_dropout": 0.1},
        "`hidden_units` must be a positive integer": {"hidden_units": 0},
        "must be multiples of those of `patches`=\\(3, 3\\)": {"patches": (3, 3)},
    }.items():
        with pytest.raises(ValueError, match=message):
            models.image_grid_classifier((8, 8, 1), 10, **options)
    with pytest.raises(ValueError, match="must be \\(height, width, channels\\)"):
        models.image_grid_classifier((8, 8), 10)


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_positions_take_numbers_of_any_type(policy):
    layer = PositionEmbedding(4, "ones", dtype=policy)
    for dtype in ("float32", "int32", "float16"):
        found = layer(np.ones((2, 3, 5), dtype))
        assert keras.backend.standardize_dtype(found.dtype) == layer.compute_dtype
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(found).astype("float32"), 2)
    with pytest.raises(ValueError, match="The last dimension of the inputs"):
        PositionEmbedding(4).build((None, 3, None))
    with pytest.raises(ValueError, match="has length=4 positions"):
        layer(np.ones((2, 5, 5), "float32"))


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="others know all shapes")
@pytest.mark.parametrize("length", [1, 4])
def test_more_times_than_positions_are_refused_also_when_their_number_is_unknown(length):
    import tensorflow as tf

    layer = PositionEmbedding(length)
    layer.build((None, None, 3))
    run = tf.function(layer, input_signature=[tf.TensorSpec((None, None, 3))])
    assert run(tf.ones((2, 1, 3))).shape == (2, 1, 3)
    with pytest.raises(tf.errors.InvalidArgumentError):
        run(tf.ones((2, 5, 3)))
