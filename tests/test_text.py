"""Vocabulary, states that are passed and carried, and sampling."""

import json

import keras
import numpy as np
import pytest
from keras import ops

from keras_deeplstm import models
from keras_deeplstm.layers import GridLSTM2D
from keras_deeplstm.states import CarriedStates, with_states
from keras_deeplstm.text import AT_ONCE, Sampler, Vocabulary, draw, sample

pytestmark = pytest.mark.backends

LETTERS = Vocabulary("\nabcdefghi")


def language_model(block, depth=2, units=6, symbols=10, **options):
    """A model whose likeliest text goes on without repeating one symbol for ever."""
    model = models.character_language_model(symbols, block, depth=depth, units=units, **options)
    generator = np.random.default_rng({"lstm": 5, "grid_lstm": 1, "transformer": 1}[block])
    drawn = [generator.normal(scale=1.5, size=weight.shape) for weight in model.weights]
    model.set_weights(
        [0 * w if "bias" in v.path else w for v, w in zip(model.weights, drawn, strict=True)]
    )
    return model


def symbols(*shape):
    return np.random.default_rng(2).integers(0, len(LETTERS), shape).astype("int32")


def softmax(logits):
    return ops.convert_to_numpy(ops.softmax(logits))


# Vocabulary.


def test_vocabulary_of_characters():
    vocabulary = Vocabulary.of("größe\n𝄞")
    assert vocabulary.symbols == "\negrßö𝄞"
    assert len(vocabulary) == 7 and not vocabulary.of_bytes
    numbers = vocabulary.encode("𝄞öre")
    assert (numbers.dtype, numbers.tolist()) == ("int32", [6, 5, 3, 1])
    assert vocabulary.decode(numbers) == "𝄞öre"
    assert Vocabulary.from_config(vocabulary.get_config()).symbols == vocabulary.symbols
    with pytest.raises(ValueError, match="characters that are not in the vocabulary: 'X', 'é'"):
        vocabulary.encode("grXé")
    with pytest.raises(ValueError, match=r"'J', \.\.\.$"):
        vocabulary.encode("ABCDEFGHIJKL")


def test_vocabulary_of_bytes():
    vocabulary = Vocabulary.of("aé".encode() + b"\x00\xff")
    assert vocabulary.symbols == b"\x00a\xa9\xc3\xff" and vocabulary.of_bytes
    assert vocabulary.encode("éa").tolist() == [3, 2, 1]
    assert vocabulary.get_config() == {"symbols": [0, 97, 169, 195, 255]}
    assert Vocabulary.from_config(vocabulary.get_config()).symbols == vocabulary.symbols
    # A character may begin in one piece and end in the next; what is no UTF-8 is shown as such.
    assert list(vocabulary.decoded([[1, 3], [2], [4], [3]])) == ["a", "é", "\ufffd", "", "\ufffd"]
    with pytest.raises(ValueError, match="bytes that are not in the vocabulary: 98"):
        vocabulary.encode("ab")


@pytest.mark.parametrize("wrong", ["", "aa", b""])
def test_wrong_vocabulary(wrong):
    with pytest.raises(ValueError, match="`symbols` must hold at least one symbol, and each once"):
        Vocabulary(wrong)


# States.


@pytest.mark.parametrize(
    ("block", "options"),
    [
        ("lstm", {}),
        ("grid_lstm", {}),
        ("grid_lstm", {"tied": True, "project_inputs": "both", "output": "both", "priority": None}),
    ],
)
def test_two_halves_with_the_state_carried_equal_the_whole(block, options):
    model = language_model(block, **options)
    x = symbols(3, 14)
    whole = softmax(model.predict_on_batch(x))
    for inference in (False, True):
        states = with_states(model, inference=inference)
        zeros = [np.zeros((3, 6), "float32")] * 4
        first, *between = states.predict_on_batch([x[:, :7], *zeros])
        second, *_ = states.predict_on_batch([x[:, 7:], *between])
        np.testing.assert_allclose(
            softmax(np.concatenate([first, second], axis=1)), whole, atol=1e-6
        )

    # The same with states that a layer carries.
    inputs = keras.Input((None,), batch_size=3, dtype="int32")
    begins = keras.Input((), batch_size=3, dtype="bool")
    carried = keras.Model((inputs, begins), CarriedStates(with_states(model), 3)(inputs, begins))
    yes, no = np.ones(3, bool), np.zeros(3, bool)
    first = carried.predict_on_batch((x[:, :7], yes))
    second = carried.predict_on_batch((x[:, 7:], no))
    np.testing.assert_allclose(softmax(np.concatenate([first, second], axis=1)), whole, atol=1e-6)
    # Only the row that begins anew begins anew.
    again = softmax(carried.predict_on_batch((x[:, :7], np.array([True, False, True]))))
    np.testing.assert_allclose(again[::2], whole[::2, :7], atol=1e-6)
    assert abs(again[1] - whole[1, :7]).max() > 1e-3


def test_training_and_evaluation_have_states_of_their_own():
    layer = CarriedStates(with_states(language_model("lstm", dropout=0.5)), 2)
    inputs = keras.Input((None,), batch_size=2, dtype="int32")
    begins = keras.Input((), batch_size=2, dtype="bool")
    model = keras.Model((inputs, begins), layer(inputs, begins))
    assert model.output_shape == (2, None, len(LETTERS))
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x, no = symbols(2, 5), np.zeros(2, bool)

    def held():
        return [
            [ops.convert_to_numpy(state) for state in states]
            for states in (layer.training_states, layer.evaluation_states)
        ]

    assert not np.any(held())
    model.train_on_batch((x, no), x)
    training, evaluation = held()
    assert all(np.any(state) for state in training) and not np.any(evaluation)
    model.test_on_batch((x, no), x)
    np.testing.assert_array_equal(held()[0], training)
    assert all(np.any(state) for state in held()[1])
    model.train_on_batch((x, no), x)
    assert all(np.any(a != b) for a, b in zip(held()[0], training, strict=True))


def test_carried_states_refuse_another_number_of_rows():
    layer = CarriedStates(with_states(language_model("lstm", depth=1)), 3)
    for name, rows, rows_that_begin in (("inputs", 1, 3), ("begins", 3, 1)):
        with pytest.raises(ValueError, match=f"Argument `{name}` must have batch_size=3 rows"):
            layer(symbols(rows, 2), begins=np.ones(rows_that_begin, bool))
    # Where the number is known only when it runs.
    inputs, begins = keras.Input((None,), dtype="int32"), keras.Input((), dtype="bool")
    model = keras.Model((inputs, begins), layer(inputs, begins))
    assert model.predict_on_batch((symbols(3, 2), np.ones(3, bool))).shape == (3, 2, 10)
    with pytest.raises(Exception, match=r"must have batch_size=3 rows|expected shape \[3"):
        model.predict_on_batch((symbols(1, 2), np.ones(1, bool)))


def test_a_layer_that_carries_states_can_be_saved(tmp_path):
    inputs = keras.Input((None,), batch_size=2, dtype="int32")
    begins = keras.Input((), batch_size=2, dtype="bool")
    layer = CarriedStates(with_states(language_model("grid_lstm")), 2)
    model = keras.Model((inputs, begins), layer(inputs, begins))
    x, no = symbols(2, 5), np.zeros(2, bool)
    model.predict_on_batch((x, no))
    model.save(tmp_path / "model.keras")
    other = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(
        other.predict_on_batch((x, no)), model.predict_on_batch((x, no)), atol=1e-6
    )


def test_a_sequential_model_is_a_chain():
    layers = [keras.layers.Embedding(10, 4), keras.layers.LSTM(4, return_sequences=True)]
    model = keras.Sequential([keras.Input((None,), dtype="int32"), *layers])
    x = symbols(1, 6)
    states = [np.zeros((1, 4), "float32")] * 2
    outputs, *states = with_states(model).predict_on_batch([x, *states])
    np.testing.assert_allclose(outputs, model.predict_on_batch(x), atol=1e-6)
    assert [state.shape for state in states] == [(1, 4)] * 2
    model.add(keras.layers.Dense(10))
    assert len(sample(model, LETTERS, "a", length=3)) == 3


@pytest.mark.parametrize(("layer", "size"), [(keras.layers.LSTM, (4,)), (GridLSTM2D, (4, 2))])
def test_masks_go_from_layer_to_layer(layer, size, tmp_path, eager):
    model = keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            keras.layers.Embedding(7, 4, mask_zero=True),
            layer(*size, return_sequences=True),
            keras.layers.Dropout(0.5),
            keras.layers.GRU(3),
            keras.layers.Dense(2),
        ]
    )
    x = np.array([[1, 2, 3, 4, 5, 6], [1, 2, 3, 0, 0, 0], [0, 3, 4, 5, 6, 0]], "int32")
    copy = with_states(model)
    zeros = [np.zeros((3, *state.shape[1:]), "float32") for state in copy.inputs[1:]]
    whole = model.predict_on_batch(x)
    np.testing.assert_allclose(copy.predict_on_batch([x, *zeros])[0], whole, atol=1e-6)
    _, *between = copy.predict_on_batch([x[:, :2], *zeros])
    outputs, *_ = copy.predict_on_batch([x[:, 2:], *between])
    np.testing.assert_allclose(outputs, whole, atol=1e-6)
    copy.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded.predict_on_batch([x, *zeros])[0], whole, atol=1e-6)


def test_models_whose_states_cannot_be_passed():
    x = inputs = keras.Input((None,), dtype="int32")
    x = keras.layers.Embedding(5, 4)(x)
    x = keras.layers.add([x, keras.layers.LSTM(4, return_sequences=True)(x)])
    with pytest.raises(ValueError, match=r"must be a chain of layers.* not so for layer 'add"):
        with_states(keras.Model(inputs, x))
    for layer in (
        keras.layers.LSTM(4, go_backwards=True),
        keras.layers.Bidirectional(keras.layers.LSTM(4)),
    ):
        model = keras.Sequential([keras.Input((None, 3)), layer])
        with pytest.raises(ValueError, match="reads its sequences backwards"):
            with_states(model)
    with pytest.raises(ValueError, match="Layer 'positions' counts positions from the begin"):
        with_states(models.character_language_model(5, "transformer", units=4))
    nested = keras.Sequential([keras.Input((None, 3)), keras.layers.LSTM(4)], name="inner")
    model = keras.Sequential([keras.Input((None, 3)), nested, keras.layers.Dense(2)])
    with pytest.raises(ValueError, match="Layer 'inner' is a model itself"):
        with_states(model)


# Drawing one symbol.


def drawn(logits, uniform, top_k=None, top_p=1.0):
    logits = ops.convert_to_tensor(np.array(logits, "float32"))
    return int(draw(logits, float(uniform), top_k or logits.shape[0], top_p))


PROBABILITIES = np.array([0.1, 0.4, 0.2, 0.3])


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({}, [0.1, 0.4, 0.2, 0.3]),
        ({"top_k": 4}, [0.1, 0.4, 0.2, 0.3]),
        ({"top_k": 2}, [0, 4 / 7, 0, 3 / 7]),
        ({"top_k": 1}, [0, 1, 0, 0]),
        ({"top_p": 0.65}, [0, 4 / 7, 0, 3 / 7]),
        ({"top_p": 0.75}, [0, 4 / 9, 2 / 9, 3 / 9]),
        ({"top_p": 0.01}, [0, 1, 0, 0]),
        ({"top_k": 2, "top_p": 0.95}, [0, 4 / 7, 0, 3 / 7]),
        ({"top_k": 3, "top_p": 0.5}, [0, 4 / 7, 0, 3 / 7]),
    ],
)
def test_draw_has_the_distribution_of_the_logits(limits, expected):
    # Even numbers in place of random ones: frequencies are then probabilities, but for 1 in 210.
    uniforms = (np.arange(210) + 0.5) / 210
    counts = np.bincount(
        [drawn(np.log(PROBABILITIES) + 7, u, **limits) for u in uniforms], minlength=4
    )
    np.testing.assert_allclose(counts / 210, expected, atol=1.01 / 210)


def test_draw_at_its_bounds():
    assert drawn(np.log(PROBABILITIES), 0.0) == 1  # the likeliest comes first
    assert drawn(np.log(PROBABILITIES), np.float32(1 - 2**-24)) == 0
    assert drawn([-1e30, 5, -1e30], np.float32(1 - 2**-24)) == 1
    assert drawn([0, 0], np.float32(1 - 2**-24), top_k=1) == drawn([0, 0], 0.0)


# Text.


@pytest.mark.parametrize("block", ["lstm", "grid_lstm"])
def test_greedy_text_is_that_of_full_predictions(block):
    model = language_model(block)
    prompt, length = "abcabhi", AT_ONCE + 20
    written = sample(model, LETTERS, prompt, length=length, temperature=0)
    assert len(written) == length and len(set(written)) > 2
    # In one pass: after every text so far, the next symbol is the likeliest.
    numbers = LETTERS.encode(prompt + written)
    best = model.predict_on_batch(numbers[None])[0].argmax(-1)
    np.testing.assert_array_equal(best[len(prompt) - 1 : -1], numbers[len(prompt) :])
    # Step by step, from the prompt alone.
    so_far = prompt
    for _ in range(10):
        logits = model.predict_on_batch(LETTERS.encode(so_far)[None])[0, -1]
        so_far += LETTERS.decode([logits.argmax()])
    assert so_far == prompt + written[:10]


def test_sampled_text():
    sampler = Sampler(language_model("grid_lstm"), LETTERS)
    options = {"length": AT_ONCE + 1, "temperature": 1.5}
    text = "".join(sampler.stream("ab", seed=3, **options))
    assert len(text) == AT_ONCE + 1
    assert "".join(sampler.stream("ab", seed=3, **options)) == text
    assert "".join(sampler.stream("ab", seed=4, **options)) != text
    assert "".join(sampler.stream("ba", seed=3, **options)) != text
    # A long prompt is read as one that came piece by piece.
    greedy = "".join(sampler.stream("ab", length=200, temperature=0))
    rest = "".join(sampler.stream("ab" + greedy[:150], length=50, temperature=0))
    assert rest == greedy[150:]
    exactly = greedy[: AT_ONCE - 1]  # with "ab", all that one call reads and the first symbol
    assert "".join(sampler.stream("ab" + exactly, length=9, temperature=0)) == greedy[63:72]
    # Without a prompt, as after a line break; without an end, on and on.
    assert "".join(sampler.stream(length=70, seed=5)) == "".join(
        sampler.stream("\n", length=70, seed=5)
    )
    endless = sampler.stream(seed=5)
    assert "".join(next(endless) for _ in range(4))[:70] == "".join(
        sampler.stream(length=70, seed=5)
    )
    # The weights are a copy, until others are set.
    other = language_model("grid_lstm", dropout=0.3)
    other.set_weights([2 * weight for weight in other.get_weights()])
    sampler.set_weights(other.get_weights())
    assert "".join(sampler.stream("ab", length=20, seed=3)) == sample(
        other, LETTERS, "ab", length=20, seed=3
    )


def test_sampled_text_has_the_distribution_of_the_model():
    """A model without memory: its readout has a bias and nothing else."""
    model = models.character_language_model(4, "lstm", depth=1, units=2)
    bias = np.log(PROBABILITIES).astype("float32")
    model.set_weights([*(np.zeros_like(w) for w in model.get_weights()[:-1]), bias])
    sampler = Sampler(model, Vocabulary("abcd"))

    def frequencies(**options):
        text = "".join(sampler.stream(length=1000, seed=0, **options))
        return [text.count(symbol) / 1000 for symbol in "abcd"]

    np.testing.assert_allclose(frequencies(), PROBABILITIES, atol=0.05)
    cold = PROBABILITIES**2 / np.sum(PROBABILITIES**2)
    np.testing.assert_allclose(frequencies(temperature=0.5), cold, atol=0.05)
    np.testing.assert_allclose(frequencies(top_k=2), [0, 4 / 7, 0, 3 / 7], atol=0.05)
    np.testing.assert_allclose(frequencies(top_p=0.8), [0, 4 / 9, 2 / 9, 3 / 9], atol=0.05)
    for temperature in (0, 1e-38, 1e-6):  # a logit divided by 1e-38 is infinite
        assert frequencies(temperature=temperature) == [0, 1, 0, 0]


@pytest.mark.parametrize("connection", ["lstm", pytest.param("residual", marks=pytest.mark.long)])
def test_a_transformer_writes_what_its_window_says(connection):
    """Its text is that of the last 5 symbols, read anew for each, so far as there are so many."""
    model = language_model("transformer", context=5, heads=2, connection=connection)
    sampler = Sampler(model, LETTERS)
    written = "abc" + "".join(sampler.stream("abc", length=AT_ONCE + 20, temperature=0))
    assert len(set(written)) > 2
    for end in (3, 4, 5, 6, 20, len(written) - 1):
        seen = LETTERS.encode(written[max(end - 5, 0) : end])
        best = model.predict_on_batch(seen[None])[0, -1].argmax()
        assert LETTERS.decode([best]) == written[end]
    # The weights are a copy, until others are set.
    model.set_weights([2 * weight for weight in model.get_weights()])
    assert "abc" + "".join(sampler.stream("abc", length=40, temperature=0)) == written[:43]
    sampler.set_weights(model.get_weights())
    assert "".join(sampler.stream("abc", length=40, seed=1)) == sample(
        model, LETTERS, "abc", length=40, seed=1
    )


@pytest.mark.parametrize("block", ["lstm", "grid_lstm"])
def test_dropout_has_no_part_in_sampling(block):
    options = {"length": 20, "seed": 0}
    text = sample(language_model(block), LETTERS, **options)
    assert sample(language_model(block, dropout=0.5), LETTERS, **options) == text


def test_the_sampler_of_a_run(tmp_path):
    model = language_model("lstm")
    with pytest.raises(FileNotFoundError, match=r"vocabulary\.json"):
        Sampler.load(tmp_path)
    (tmp_path / "vocabulary.json").write_text("{}")
    with pytest.raises(ValueError, match=r"vocabulary\.json' holds no vocabulary"):
        Sampler.load(tmp_path)
    (tmp_path / "vocabulary.json").write_text(json.dumps(LETTERS.get_config()))
    with pytest.raises(FileNotFoundError, match=r"best\.keras' is not there"):
        Sampler.load(str(tmp_path))
    model.save(tmp_path / "best.keras")
    written = [
        "".join(sampler.stream("ab", length=40, seed=3))
        for sampler in (Sampler.load(tmp_path), Sampler(model, LETTERS))
    ]
    assert written[0] == written[1]


def test_sampling_bytes():
    vocabulary = Vocabulary.of("aé".encode())
    model = language_model("lstm", symbols=len(vocabulary))
    text = sample(model, vocabulary, "é", length=30, seed=0)
    assert set(text) <= set("aé\ufffd")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"length": 0}, "Argument `length` must be a positive integer. Received: length=0"),
        ({"temperature": -1}, "Argument `temperature` must be at least 0."),
        ({"temperature": float("nan")}, "Argument `temperature` must be a finite number."),
        ({"top_k": 0}, "Argument `top_k` must be a positive integer."),
        ({"top_p": 0}, r"Argument `top_p` must be in \(0, 1\]. Received: top_p=0"),
        ({"top_p": 1.5}, r"Argument `top_p` must be in \(0, 1\]. Received: top_p=1.5"),
        ({"prompt": "aZb?"}, "characters that are not in the vocabulary: '\\?', 'Z'"),
    ],
)
def test_wrong_sampling(options, message):
    sampler = Sampler(language_model("lstm", depth=1, units=2), LETTERS)
    with pytest.raises(ValueError, match=message):
        sampler.stream(**options)  # at once, not when the first piece is asked for


def test_a_model_for_another_vocabulary():
    with pytest.raises(ValueError, match=r"must return logits \(batch, time, 10\).* 11\)"):
        Sampler(language_model("lstm", symbols=11), LETTERS)
    with pytest.raises(ValueError, match="must return logits"):
        Sampler(models.sequence_classifier(3, 10, "lstm", units=2), LETTERS)
    blind = keras.Sequential([keras.Input((None,)), keras.layers.Embedding(10, 10)])
    with pytest.raises(
        ValueError, match="no recurrent layer, and no `PositionEmbedding`, so it kn"
    ):
        Sampler(blind, LETTERS)
