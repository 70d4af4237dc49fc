"""Tasks of long memory: what is drawn, what is asked, what is right, and tasks as text.

Every definition is checked twice: by a literal example, and by a plain Python reference that reads
any sequence drawn as a person would.
"""

import dataclasses
import os
import re
import subprocess
import sys

import hypothesis.strategies as st
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings

from keras_deeplstm.experiments.settings.sequences import SequenceConfig
from keras_deeplstm.experiments.tasks import DataError, sequences
from keras_deeplstm.experiments.tasks.sequences import TASKS, Criterion, parse, spec
from keras_deeplstm.experiments.tasks.sequences.series import KNOWN, Series

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TEXTS = [
    "reber",
    "reber:data=1",
    "noise-free",
    "noise-free:p=7,regular=false",
    "long-lag:p=5,q=9",
    "two-sequence",
    "two-sequence:length=20,signal=1,noise=signal",
    "two-sequence:noise=targets",
    "adding",
    "adding:length=30,target=mean",
    "adding:target=sum",
    "multiplication:n_seq=13",
    "temporal-order",
    "temporal-order:symbols=3",
    "counting",
    "counting:letters=abc,largest=5",
    "periodic-bits:period=3",
    "parity:bits=50",
    "parity:bits=9,curriculum=true",
    "addition:digits=3",
    "addition",
    "memorization:length=4,vocabulary=6",
    "sines",
    "sines:low=1.0,high=1.0",
    "series",
    "series:data=sunspots,inputs=33,horizon=11",
]
law = settings(max_examples=20, deadline=None, derandomize=True)
seeds = st.integers(0, 2**32 - 1)
every_task = pytest.mark.parametrize("text", TEXTS)


@pytest.fixture(autouse=True)
def series_of_our_own(tmp_path, monkeypatch):
    """Series by the names of real ones: a trend, and what comes again with their periods."""
    (tmp_path / "data" / "timeseries").mkdir(parents=True)
    for name, length, seed in (("airline", 144, 1), ("sunspots", 309, 2)):
        step, noise = np.arange(length), np.random.default_rng(seed).normal(size=length)
        values = step / 5 + 10 * np.sin(2 * np.pi * step / KNOWN[name].period) + noise
        frame = pd.DataFrame({"when": step, "value": values})
        frame.to_csv(tmp_path / "data" / "timeseries" / KNOWN[name].file, index=False)
    monkeypatch.setenv("DEEPLSTM_DATA", str(tmp_path / "data"))


def draw(text, count=64, seed=0):
    return parse(text).sample(np.random.default_rng(seed), count)


def perfect(batch):
    """Outputs beyond reproach: the clean target, or all that may follow and nothing else."""
    known = batch.truth is not None and batch.truth.shape == batch.y.shape
    return batch.truth.astype("float32") if known else batch.y


def symbols(batch, names):
    """The inputs of each sequence as a string."""
    lengths = [batch.x.shape[1]] * len(batch.x) if batch.mask is None else batch.mask.sum(axis=1)
    assert set(np.unique(batch.x)) <= {0, 1}
    return [
        "".join(names[code] for code in row[:length].argmax(axis=1))
        for row, length in zip(batch.x, lengths, strict=True)
    ]


# What all tasks promise.


@every_task
def test_shapes(text):
    task = parse(text)
    batch = draw(text, 5)
    steps = () if task.steps is None else (task.steps,)
    assert batch.x.shape == (5, *steps, task.features) and batch.x.dtype == "float32"
    assert batch.y.shape == (5, *(steps if batch.weight is not None else ()), task.outputs)
    assert batch.y.dtype == "float32"
    if batch.mask is not None:
        assert batch.mask.shape == (5, task.steps) and batch.mask.dtype == bool
    if batch.weight is not None:
        assert batch.weight.shape == (5, task.steps) and batch.weight.dtype == "float32"
        assert set(np.unique(batch.weight)) <= {0, 1, batch.weight.max()}
        assert batch.weight.min() >= 0 and batch.weight.any(axis=1).all()
    for words in (task.name, task.description, task.source, task.criterion.words):
        assert words and "\n" not in words
    assert task.readout in ("softmax", "sigmoid", "linear")


@every_task
def test_padding_stands_at_the_end_and_is_zero(text):
    batch = draw(text)
    if batch.mask is None:
        return
    assert batch.mask[:, 0].all()
    assert (np.diff(batch.mask.astype(int), axis=1) <= 0).all()
    of_steps = [batch.x] if batch.weight is None else [batch.x, batch.y, batch.weight]
    for array in of_steps:
        assert not array[~batch.mask].any()


@every_task
def test_equal_generators_draw_equal_batches(text):
    for one, same in zip(draw(text), draw(text), strict=True):
        np.testing.assert_array_equal(one, same)
    assert not np.array_equal(draw(text).x, draw(text, seed=1).x)


@every_task
def test_perfect_outputs_are_right_and_no_numbers_are_wrong(text):
    task, batch = parse(text), draw(text)
    correct, error = task.score(perfect(batch), batch)
    assert correct.shape == error.shape == (64,)
    assert correct.all() and not error.any()
    correct, _ = task.score(np.full_like(batch.y, np.nan), batch)
    assert not correct.any()
    with pytest.raises(ValueError, match=r"must have the shape of the targets, \(64,"):
        task.score(batch.y[..., 0], batch)


@every_task
def test_a_text_makes_a_task_and_a_task_its_text(text):
    task = parse(text)
    assert spec(task) == text
    assert parse(spec(task)) == task
    assert type(task) is TASKS[task.name]


def test_neither_keras_nor_tensorflow_is_needed():
    # The command does not import Keras until one of its commands needs it; nor do the tasks.
    code = (
        "import sys; sys.argv = ['deeplstm']; import numpy; "
        "import keras_deeplstm.experiments.tasks.sequences as s; "
        "t = s.parse('adding'); b = t.sample(numpy.random.default_rng(0), 2); "
        "t.score(b.y, b); print({'keras', 'tensorflow', 'pandas', 'sklearn'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": ROOT},
        check=True,
    )
    assert done.stdout.strip() == "set()"


# Reber's grammar.

INNER = "B(?:TS*X(?:XT*VP)*(?:S|XT*VV)|PT*V(?:V|P(?:XT*VP)*(?:S|XT*VV)))E"
REBER = re.compile(f"B(?:T{INNER}T|P{INNER}P)E")
# Every string that was begun can be ended in one of these ways.
ENDS = {
    string[begin:]
    for inner in ("BTXSE", "BTSXXVVE", "BPVVE", "BPVPSE", "BPTVPXTVPSE")
    for string in (f"BT{inner}TE", f"BP{inner}PE")
    for begin in range(len(string) + 1)
}


@pytest.mark.parametrize("data", [0, 1, 2])
def test_reber_strings(data):
    task = parse(f"reber:data={data}")
    train, test = task.strings()
    assert len(train) == len(test) == 256
    assert len({*train, *test}) == 512
    assert all(REBER.fullmatch(string) for string in (*train, *test))
    assert min(map(len, (*train, *test))) == 9
    assert max(map(len, (*train, *test))) == task.steps + 1
    # Neither set gets the rare, long strings.
    assert abs(np.mean([*map(len, train)]) - np.mean([*map(len, test)])) < 1.5
    assert 0.4 < np.mean([string[1] == "T" for string in (*train, *test)]) < 0.6


def test_reber_takes_the_strings_of_its_set():
    task = parse("reber")
    train, test = task.strings()
    batch = task.sample(np.random.default_rng(0), 2000)
    assert set(symbols(batch, "BTPSXVE")) == {string[:-1] for string in train}
    both = task.test(None, 0)
    assert symbols(both, "BTPSXVE") == [string[:-1] for string in (*train, *test)]
    assert len(both.x) == task.criterion.sequences == 512


def test_reber_targets_and_what_may_follow():
    task = parse("reber")
    batch = task.test(None, 0)
    for row, string in enumerate((*task.strings()[0], *task.strings()[1])):
        for step in range(len(string) - 1):
            assert "BTPSXVE"[batch.y[row, step].argmax()] == string[step + 1]
        assert batch.y[row].sum() == batch.weight[row].sum() == len(string) - 1
    for row, string in enumerate(task.strings()[0][:40]):
        for step in range(1, len(string)):
            may = [any(REBER.fullmatch(string[:step] + s + end) for end in ENDS) for s in "BTPSXVE"]
            assert batch.truth[row, step - 1].tolist() == may


def test_reber_is_right_if_what_may_follow_is_most_active():
    task, batch = parse("reber"), draw("reber", 3)
    outputs = np.where(batch.truth, 0.3, 0.2)
    last = batch.mask[1].sum() - 2  # predicts the last symbol but one
    outputs[1, last] = batch.truth[1, last][::-1]
    assert not np.array_equal(outputs[1, last] > 0.25, batch.truth[1, last])
    outputs[2, 0] = 0.25  # none is more active than another
    correct, error = task.score(outputs, batch)
    assert correct.tolist() == [True, False, False]
    np.testing.assert_allclose(error, [0, *(1 / batch.mask[1:].sum(axis=1))])


# Long time lags.


def test_noise_free_in_order():
    task = parse("noise-free:p=3")
    batch = draw("noise-free:p=3")
    names = "12xy"
    assert set(symbols(batch, names)) == {"x12", "y12"}
    assert batch.weight.tolist() == [[1, 1, 3]] * 64
    for read, row in zip(symbols(batch, names), batch.y, strict=True):
        assert "".join(names[code] for code in row.argmax(axis=1)) == read[1:] + read[0]
    outputs = np.array(batch.y)
    outputs[0, 0, 2] += 0.24
    outputs[1, 0, 2] += 0.26
    outputs[2, -1, 0] -= 0.26
    correct, error = task.score(outputs, batch)
    assert np.flatnonzero(~correct).tolist() == [1, 2]
    np.testing.assert_allclose(error[:4], [0.24, 0.26, 0.26, 0], rtol=1e-5)


def test_noise_free_at_random():
    task = parse("noise-free:p=12,regular=false")
    batch = task.sample(np.random.default_rng(0), 2000)
    codes = np.concatenate([batch.x.argmax(axis=2), batch.y[:, -1:].argmax(axis=2)], axis=1)
    assert (codes[:, 0] == codes[:, -1]).all() and set(codes[:, 0]) == {11, 12}
    assert 0.45 < (codes[:, 0] == 11).mean() < 0.55
    assert np.bincount(codes[:, 1:-1].ravel(), minlength=13)[:11].min() > 0.9 * 2000
    assert codes[:, 1:-1].max() == 10
    np.testing.assert_array_equal(batch.y[:, :-1], batch.x[:, 1:])
    assert (batch.weight == [*[1] * 11, 120]).all()
    outputs = np.zeros_like(batch.y)  # all wrong, but for the end
    outputs[:, -1] = batch.y[:, -1]
    outputs[0, -1, 3] = 0.26
    correct, error = task.score(outputs, batch)
    assert np.flatnonzero(~correct).tolist() == [0] and error[0] == np.float32(0.26)


@given(seeds, st.integers(1, 6), st.integers(1, 30))
@law
def test_long_lag(seed, p, q):
    batch = draw(f"long-lag:p={p},q={q}", 30, seed)
    names = "0123456789"[:p] + "ebxy"
    for string, target in zip(symbols(batch, names), batch.y, strict=True):
        assert re.fullmatch(f"b[xy][0-9]{{{q},}}e", string)
        assert target.tolist() == [string[1] == "x", string[1] == "y"]


def test_long_lag_lengths():
    task = parse("long-lag:p=4,q=3")
    batch = task.sample(np.random.default_rng(0), 10_000)
    k = batch.mask.sum(axis=1) - 6
    assert k.min() == 0 and k.max() < 197 == task.steps - 6
    assert 0.9**197 < 1e-9 < 0.9**196
    assert abs(k.mean() - 9) < 0.4
    assert abs((k == 0).mean() - 0.1) < 0.01 and abs((k == 1).mean() - 0.09) < 0.01
    assert abs(batch.y.mean(axis=0) - 0.5).max() < 0.02
    correct, error = task.score(batch.y + np.array([0.19, -0.21]), batch)
    assert not correct.any() and np.allclose(error, 0.21)
    assert task.score(batch.y + 0.19, batch)[0].all()


# Two sequences.


@pytest.mark.parametrize("noise", ["none", "signal", "targets"])
def test_two_sequence(noise):
    task = parse(f"two-sequence:noise={noise}")
    batch = task.sample(np.random.default_rng(0), 4000)
    lengths = batch.mask.sum(axis=1)
    assert set(lengths) == set(range(100, 111))
    assert np.bincount(lengths)[100:].min() > 0.75 * 4000 / 11
    first, x = batch.truth[:, 0] == batch.truth[0, 0], batch.x[..., 0]
    first = first if x[0, :3].mean() > 0 else ~first
    assert 0.47 < first.mean() < 0.53
    rest = x[:, 3:][batch.mask[:, 3:]]
    assert abs(rest.mean()) < 0.01 and abs(rest.var() - 0.2) < 0.003
    signal = x[:, :3] - np.where(first, 1, -1)[:, None]
    if noise == "signal":
        assert abs(signal.mean()) < 0.02 and abs(signal.var() - 0.2) < 0.01
    else:
        assert not signal.any()
    clean = np.where(first, 0.2, 0.8) if noise == "targets" else np.where(first, 1, 0)
    np.testing.assert_array_equal(batch.truth[:, 0], clean.astype("float32"))
    if noise == "targets":
        wide = batch.y[:, 0] - clean
        assert abs(wide.mean()) < 0.02 and abs(wide.var() - 0.1) < 0.01
    else:
        np.testing.assert_array_equal(batch.y, batch.truth)


def test_two_sequence_scores():
    for noise, limit in (("none", 0.2), ("signal", 0.2), ("targets", 0.1)):
        task = parse(f"two-sequence:noise={noise}")
        batch = task.sample(np.random.default_rng(0), 2)
        off = np.array([[limit - 0.001], [-limit - 0.001]])
        correct, error = task.score(batch.truth + off, batch)
        assert correct.tolist() == [True, False]
        np.testing.assert_allclose(error, [limit - 0.001, limit + 0.001], rtol=1e-5)
    a = parse("two-sequence")
    assert a.criterion == Criterion(256, 0, 0.01)
    b = parse("two-sequence:noise=signal")
    assert b.criterion == Criterion(256, 5, 0.04)
    c = parse("two-sequence:noise=targets")
    assert c.criterion == Criterion(256, 0, 0.015)


# Adding and multiplication.


def marked_pairs(pairs, length):
    """The places that are marked, and the numbers there."""
    marks = [mark for _, mark in pairs]
    assert marks[0] == marks[length - 1] == -1
    assert set(marks[1 : length - 1]) <= {0, 1}
    places = [place for place in range(length) if marks[place] == 1]
    return places, [pairs[place][0] for place in places]


@given(seeds, st.integers(4, 60), st.sampled_from(["adding", "multiplication"]))
@law
def test_marked_numbers(seed, length, name):
    batch = draw(f"{name}:length={length}", 30, seed)
    assert set(batch.mask.sum(axis=1)) <= set(range(length, length + length // 10 + 1))
    for pairs, long, (target,) in zip(
        batch.x.tolist(), batch.mask.sum(axis=1).tolist(), batch.y.tolist(), strict=True
    ):
        places, numbers = marked_pairs(pairs, long)
        assert places[-1] < length // 2  # so that the lag is T/2
        # One of the two is among the first ten; if only one is seen, the other is the first pair.
        assert len(places) == 1 or (len(places) == 2 and places[0] < 10)
        if name == "adding":
            assert target == pytest.approx(0.5 + sum(numbers) / 4, abs=1e-6)
        else:
            assert target == pytest.approx(np.prod(numbers), abs=1e-6)


@pytest.mark.parametrize(("name", "low"), [("adding", -1), ("multiplication", 0)])
def test_distribution_of_marked_numbers(name, low):
    count = 20_000
    batch = parse(f"{name}:length=40").sample(np.random.default_rng(0), count)
    numbers = batch.x[..., 0][batch.mask]
    assert low <= numbers.min() < low + 0.001 and 0.999 < numbers.max() < 1
    assert abs(numbers.mean() - (low + 1) / 2) < 0.01
    assert set(batch.mask.sum(axis=1)) == {40, 41, 42, 43, 44}
    often = (batch.x[..., 1] == 1).sum(axis=0) / count
    # The first mark is 1/10 at each of ten places, the second 1/19 at each of the 19 others of 20.
    np.testing.assert_allclose(often[1:10], 0.1 + 0.9 / 19, atol=0.01)
    np.testing.assert_allclose(often[10:20], 1 / 19, atol=0.01)
    assert not often[20:].any() and not often[0]
    assert abs(((batch.x[..., 1] == 1).sum(axis=1) == 1).mean() - 0.1 - 0.9 / 19) < 0.01


@pytest.mark.parametrize("target", ["mean", "sum"])
def test_adding_in_its_modern_form(target):
    task = parse(f"adding:length=9,target={target}")
    batch = task.sample(np.random.default_rng(0), 5000)
    assert batch.x.shape == (5000, 9, 2) and batch.mask is None
    marks = batch.x[..., 1]
    assert set(np.unique(marks)) == {0, 1}
    assert (marks[:, :4].sum(axis=1) == 1).all() and (marks[:, 4:].sum(axis=1) == 1).all()
    assert marks.mean(axis=0).min() > 0.15
    for pairs, (y,) in zip(batch.x[:50].tolist(), batch.y[:50].tolist(), strict=True):
        numbers = [number for number, mark in pairs if mark]
        assert y == pytest.approx(sum(numbers) / (2 if target == "mean" else 1), abs=1e-6)
    assert batch.x[..., 0].min() >= 0 and batch.x[..., 0].max() < 1
    # Who always says the mean is wrong by 1/24 or 1/6.
    trivial = np.full_like(batch.y, 0.5 if target == "mean" else 1)
    _, error = task.score(trivial, batch)
    assert error.mean() == pytest.approx(1 / 24 if target == "mean" else 1 / 6, rel=0.05)
    _, error = task.score(batch.y + 0.1, batch)
    np.testing.assert_allclose(error, 0.01, rtol=1e-4)


def test_scores_of_marked_numbers():
    off = np.array([[0.039], [-0.039], [0.041], [-0.041]])
    for text in ("adding", "adding:target=mean", "multiplication"):
        batch = draw(text, 4)
        correct, error = parse(text).score(batch.y + off, batch)
        assert correct.tolist() == [True, True, False, False]
        squared = text.endswith("mean")
        np.testing.assert_allclose(error, abs(off[:, 0]) ** (2 if squared else 1), rtol=1e-4)


def test_a_first_pair_that_is_marked():
    batch = parse("adding:length=4").sample(np.random.default_rng(0), 20)
    # Of four pairs, T/2 = 2 can be marked, so both are, and the first one counts as nothing.
    np.testing.assert_array_equal(batch.x[..., 1], [[-1, 1, 0, -1]] * 20)
    np.testing.assert_allclose(batch.y[:, 0], 0.5 + batch.x[:, 1, 0] / 4, rtol=1e-6)
    batch = parse("multiplication:length=4").sample(np.random.default_rng(0), 20)
    np.testing.assert_array_equal(batch.y[:, 0], batch.x[:, 1, 0])


# Temporal order.


@given(seeds)
@law
def test_temporal_order_of_two(seed):
    batch = draw("temporal-order", 30, seed)
    for string, target in zip(symbols(batch, "abcdXYEB"), batch.y, strict=True):
        assert 100 <= len(string) <= 110
        assert re.fullmatch("E[abcd]*[XY][abcd]*[XY][abcd]*B", string)
        one, two = (place for place, s in enumerate(string, start=1) if s in "XY")
        assert 10 <= one <= 20 and 50 <= two <= 60
        name = {"XX": "Q", "XY": "R", "YX": "S", "YY": "U"}[string[one - 1] + string[two - 1]]
        assert target.tolist() == [name == other for other in "QRSU"]


@given(seeds)
@law
def test_temporal_order_of_three(seed):
    classes = dict(XXX="Q", XXY="R", XYX="S", XYY="U", YXX="V", YXY="A", YYX="B", YYY="C")
    batch = draw("temporal-order:symbols=3", 30, seed)
    for string, target in zip(symbols(batch, "abcdXYEB"), batch.y, strict=True):
        places = [place for place, s in enumerate(string, start=1) if s in "XY"]
        bounds = [(10, 20), (33, 43), (66, 76)]
        assert all(low <= p <= high for p, (low, high) in zip(places, bounds, strict=True))
        name = classes["".join(string[place - 1] for place in places)]
        assert target.tolist() == [name == other for other in "QRSUVABC"]


def test_temporal_order_is_balanced():
    task = parse("temporal-order")
    batch = task.sample(np.random.default_rng(0), 8000)
    assert abs(batch.y.mean(axis=0) - 0.25).max() < 0.02
    assert set(batch.mask.sum(axis=1)) == set(range(100, 111))
    relevant = batch.x[..., 4:6].any(axis=2).sum(axis=0)
    assert np.flatnonzero(relevant).tolist() == [*range(9, 20), *range(49, 60)]
    assert relevant[relevant > 0].min() > 0.8 * 8000 / 11
    filled = batch.x[:, 20:49, :4].mean(axis=(0, 1))
    np.testing.assert_allclose(filled, 0.25, atol=0.01)
    outputs = batch.y + np.array([0.29, -0.29, 0, 0])
    outputs[0, 3] += 0.31
    correct, error = task.score(outputs, batch)
    assert np.flatnonzero(~correct).tolist() == [0]
    np.testing.assert_allclose(error[:2], [0.89 / 4, 0.58 / 4], rtol=1e-5)


# Counting and periodic bits.


def test_counting_by_hand():
    batch = parse("counting:letters=abc").of_length(2)
    assert symbols(batch, "Sabc") == ["Saabbcc"]
    legal = ["a", "ab", "ab", "b", "c", "c", "T"]
    assert [
        "".join(s for s, on in zip("abcT", row, strict=True) if on) for row in batch.y[0]
    ] == legal
    assert symbols(parse("counting").of_length(1), "Sab") == ["Sab"]
    assert parse("counting").of_length(1).y[0].tolist() == [[1, 0, 0], [1, 1, 0], [0, 0, 1]]


@given(seeds, st.sampled_from(["ab", "abc"]), st.integers(1, 12))
@law
def test_counting(seed, letters, largest):
    batch = draw(f"counting:letters={letters},largest={largest}", 20, seed)
    language = {"".join(s * n for s in letters) + "T" for n in range(1, largest + 2)}
    for string, rows in zip(symbols(batch, "S" + letters), batch.y, strict=True):
        assert string[0] == "S" and string[1:] + "T" in language
        for step in range(len(string)):
            begun = string[1 : step + 1]
            may = [any(w.startswith(begun + s) for w in language) for s in letters + "T"]
            assert rows[step].tolist() == may


def test_counting_far():
    task = parse("counting:letters=abc,largest=4")
    n = task.sample(np.random.default_rng(0), 4000).mask.sum(axis=1) // 3
    assert np.bincount(n)[1:].min() > 900 and n.max() == 4
    trained = task.test(None, 0)
    assert trained.mask.sum(axis=1).tolist() == [4, 7, 10, 13]
    assert len(trained.x) == task.criterion.sequences
    assert task.of_length(1000).x.shape == (1, 3001, 4)

    def counts_to(n):
        def predict(x):
            lengths = x[..., 1].sum(axis=1).astype(int)  # as many a as n says
            return task.strings(lengths).y * (lengths <= n)[:, None, None]

        return predict

    assert [task.reach(counts_to(n), 20) for n in (0, 3, 4, 7, 9, 20)] == [0, 3, 4, 7, 9, 20]
    outputs = trained.y * 0.6
    outputs[0, 4:] = 1  # in the padding, where nobody looks
    outputs[2, 3, 3] = 0.5  # on neither side
    correct, error = task.score(outputs, trained)
    assert correct.tolist() == [True, True, False, True]
    np.testing.assert_allclose(error, [0, 0, 0.1, 0])


def test_periodic_bits():
    task = parse("periodic-bits:length=6")
    batch = task.test(None, 0)
    assert batch.x[..., 0].astype(int).tolist() == [
        [1, 0, 0, 0, 1, 0],
        [0, 0, 0, 1, 0, 0],
        [0, 0, 1, 0, 0, 0],
        [0, 1, 0, 0, 0, 1],
    ]
    assert batch.y[..., 0].astype(int).tolist() == [
        [0, 0, 0, 1, 0, 0],
        [0, 0, 1, 0, 0, 0],
        [0, 1, 0, 0, 0, 1],
        [1, 0, 0, 0, 1, 0],
    ]
    assert batch.weight.tolist() == [[0, 0, 0, 1, 1, 1]] * 4
    drawn = task.sample(np.random.default_rng(0), 4000)
    assert np.unique(drawn.x, axis=0).shape == (4, 6, 1)
    assert abs(drawn.x.mean(axis=(0, 2)) - 0.25).max() < 0.03
    outputs = batch.y * 0.2 + 0.4
    outputs[0, :3] = 1  # before the first period is over
    outputs[2, 5] = 0.49
    correct, error = task.score(outputs, batch)
    assert correct.tolist() == [True, True, False, True]
    np.testing.assert_allclose(error, [0.4, 0.4, (0.8 + 0.51) / 3, 0.4], rtol=1e-5)


# The tasks of the paper on Grid LSTM.


@given(seeds, st.integers(1, 300))
@law
def test_parity(seed, bits):
    batch = draw(f"parity:bits={bits}", 20, seed)
    assert set(np.unique(batch.x)) <= {-1, 1}
    for row, target in zip(batch.x.tolist(), batch.y.tolist(), strict=True):
        assert target == [row.count(1) % 2]


def test_parity_is_balanced():
    task = parse("parity")
    batch = task.sample(np.random.default_rng(0), 10_000)
    assert abs(batch.x.mean(axis=0)).max() < 0.04 and abs(batch.y.mean() - 0.5) < 0.02
    assert len(np.unique(batch.x, axis=0)) == 256
    assert task.score(np.abs(batch.y - 0.49), batch)[0].all()
    assert not task.score(np.full_like(batch.y, 0.5), batch)[0].any()


@pytest.mark.parametrize(
    ("bits", "sizes", "chances"),
    [
        (1, [1], [1]),
        (4, [1, 4], [0.65, 0.35]),
        (5, [1, 5], [2 / 3, 1 / 3]),
        (6, [1, 2, 5, 6], [22 / 56, 14.5 / 56, 10 / 56, 9.5 / 56]),
        (11, [3, 7, 11], [1 / 6 + 77 / 262, 1 / 6 + 33 / 262, 1 / 6 + 21 / 262]),
    ],
)
def test_parity_with_a_curriculum(bits, sizes, chances):
    """In training m bits anywhere, the more seldom the more they are; in the test all of them."""
    task = parse(f"parity:bits={bits},curriculum=true")
    batch = task.sample(np.random.default_rng(0), 12_000)
    shown = (batch.x != 0).sum(axis=1)
    found, counts = np.unique(shown, return_counts=True)
    assert found.tolist() == sizes
    np.testing.assert_allclose(counts / 12_000, chances, atol=0.02)
    # All places are shown equally often, and ones among them half of the time.
    np.testing.assert_allclose((batch.x != 0).mean(axis=0), shown.mean() / bits, rtol=0.05)
    assert abs(batch.x.mean(axis=0)).max() < 0.04
    assert ((batch.x == 1).sum(axis=1, keepdims=True) % 2 == batch.y).all()
    test = task.test(np.random.default_rng(0), 1000)
    assert (test.x != 0).all() and ((test.x == 1).sum(axis=1, keepdims=True) % 2 == test.y).all()
    # The same sum has the same answer, whatever is shown.
    sums = np.concatenate([batch.x.sum(axis=1), test.x.sum(axis=1)])
    y = np.concatenate([batch.y[:, 0], test.y[:, 0]])
    assert all(len(set(y[sums == value])) == 1 for value in np.unique(sums))


def test_no_sum_is_rare_in_the_curriculum_of_parity():
    """Up to four standard deviations of the test, 6 of 36 bits, all are equally likely."""
    batch = parse("parity:bits=36,curriculum=true").sample(np.random.default_rng(0), 200_000)
    sums = batch.x.sum(axis=1)
    assert abs(sums).max() == 24
    found, counts = np.unique(sums[(batch.x != 0).all(axis=1)], return_counts=True)
    assert found.tolist() == list(range(-24, 25, 2))
    np.testing.assert_allclose(counts, counts.mean(), rtol=0.25)


def answers(batch):
    """What is asked and what is to be answered, as strings."""
    asked = symbols(batch, "0123456789-")
    y = ["".join("0123456789-"[c] for c in row.argmax(axis=1)) for row in batch.y]
    return [
        (ask, "".join(s for s, on in zip(said, weight, strict=True) if on))
        for ask, said, weight in zip(asked, y, batch.weight, strict=True)
    ]


@given(seeds, st.integers(1, 25))
@law
def test_addition(seed, digits):
    for asked, answer in answers(draw(f"addition:digits={digits}", 20, seed)):
        one, two = re.fullmatch(
            rf"([1-9]\d{{{digits - 1}}})-([1-9]\d{{{digits - 1}}})-{{{digits + 2}}}", asked
        ).groups()
        assert answer == str(int(one) + int(two)).ljust(digits + 2, "-")


def test_addition_by_hand():
    seen = dict(answers(draw("addition:digits=1", 2000)))
    assert len(seen) == 81
    assert seen["1-2---"] == "3--"
    assert seen["9-9---"] == "18-"


def test_whole_answers():
    task, batch = parse("addition:digits=3"), draw("addition:digits=3", 4)
    outputs = np.where(batch.y > 0, 0.2, 0.1)
    outputs[0, :7] = np.eye(11)[0]  # before the answer
    outputs[1, 7] = 0.2  # no output is larger than another
    outputs[2, 11] = np.eye(11)[0]  # goes on where the answer has ended
    correct, error = task.score(outputs, batch)
    assert correct.tolist() == [True, False, False, True]
    np.testing.assert_allclose(error, [0, 0.2, 0.2, 0])


def test_memorization():
    batch = draw("memorization:length=3,vocabulary=4", 500)
    read = symbols(batch, "abcd-")
    assert len(set(read)) == 64  # all of them
    for string, row in zip(read, batch.y, strict=True):
        assert string[3:] == "---" and not row[:3].any()
        assert "".join("abcd"[code] for code in row[3:].argmax(axis=1)) == string[:3]
    assert batch.weight.tolist() == [[0, 0, 0, 1, 1, 1]] * 500
    assert draw("memorization").x.shape == (64, 40, 65)


# Sines.


@given(seeds, st.integers(3, 40), st.integers(1, 60), st.floats(0.1, 20), st.floats(0, 10))
@law
def test_sines(seed, inputs, horizon, low, span):
    task = sequences.TASKS["sines"](inputs, horizon, low, low + span)
    batch = task.sample(np.random.default_rng(seed), 10)
    wave = np.concatenate([batch.x[..., 0], batch.y], axis=1).astype(float)
    assert abs(wave).max() <= 1
    # Samples of one frequency obey s[t+1] + s[t-1] = 2 cos(2 pi f / 100) s[t].
    sums, middle = wave[:, 2:] + wave[:, :-2], wave[:, 1:-1]
    factor = (sums * middle).sum(axis=1) / (middle**2).sum(axis=1)
    np.testing.assert_allclose(sums, factor[:, None] * middle, atol=1e-5)


def test_sines_frequencies_and_phases():
    batch = parse("sines:inputs=400").sample(np.random.default_rng(0), 2000)
    wave = batch.x[..., 0].astype(float)
    sums, middle = wave[:, 2:] + wave[:, :-2], wave[:, 1:-1]
    factor = (sums * middle).sum(axis=1) / (middle**2).sum(axis=1)
    hertz = np.arccos(factor / 2) * 100 / (2 * np.pi)
    assert 0.49 < hertz.min() < 0.55 and 3.95 < hertz.max() < 4.01
    assert abs(hertz.mean() - 2.25) < 0.08
    assert abs(wave[:, 0].mean()) < 0.05 and abs((wave[:, 0] ** 2).mean() - 0.5) < 0.03
    one = parse("sines:inputs=100,low=1,high=1").sample(np.random.default_rng(0), 3)
    np.testing.assert_allclose(one.y, one.x[..., 0], atol=1e-5)  # one second later


def test_sines_score():
    task, batch = parse("sines"), draw("sines", 2)
    outputs = batch.y + np.array([[0.03], [0.04]])
    correct, error = task.score(outputs, batch)
    assert correct.tolist() == [True, False]
    np.testing.assert_allclose(error, [0.09, 0.16], rtol=1e-4)
    assert task.criterion.error == pytest.approx(0.15)
    assert {*task.named} == {"1", "2", "3", "3.1", "4", "5", "5b", "5.1"}
    assert type(task)(**task.named["5"]) == task


def test_waves_to_show():
    shown = parse("sines").examples()
    assert list(shown) == ["1 Hz", "2 Hz", "3 Hz"]
    whole = np.concatenate([shown["2 Hz"].x[0, :, 0], shown["2 Hz"].y[0]])
    np.testing.assert_allclose(whole, np.sin(4 * np.pi * np.arange(125) / 100), atol=1e-6)
    assert list(parse("sines:high=2.5").examples()) == ["1 Hz", "2 Hz"]
    assert parse("adding").examples() == {} and parse("adding").reach(None) is None


# Real series.


def series(tmp_path, values, **parameters):
    pd.DataFrame({"value": values}).to_csv(tmp_path / "own.csv", index=False)
    return Series(str(tmp_path / "own.csv"), **parameters)


def test_windows_of_a_series(tmp_path):
    task = series(tmp_path, np.arange(100.0), inputs=5, horizon=3)
    batch = task.test(None, 0)
    assert batch.x.shape == (24, 5, 1) and batch.y.shape == (24, 3)
    # It rises by 1 a step; changes over the horizon are all 3, without any deviation: scale 1.
    np.testing.assert_array_equal(batch.x[:, :, 0], np.tile(np.arange(-4.0, 1.0), (24, 1)))
    np.testing.assert_array_equal(batch.y, np.tile([1.0, 2.0, 3.0], (24, 1)))
    # The naive forecast, the last value again, is 1, 2 and 3 too low, hence 2 in the mean.
    correct, error = task.score(np.zeros((24, 3)), batch)
    np.testing.assert_allclose(error, 1)
    correct, error = task.score(batch.y + 1, batch)
    assert correct.all()
    np.testing.assert_allclose(error, 0.5)


def test_validation_windows_come_before_those_of_the_test(tmp_path):
    values = np.random.default_rng(0).normal(size=200).cumsum()
    task = series(tmp_path, values, inputs=5, horizon=3)
    validation = task.validation(None, 0)
    whole = np.concatenate([validation.x[:, :, 0], validation.y], axis=1) * task._numbers[0]
    # 24 windows foretell 26 values; those of the test are the last, 174 to 199.
    for row, window in enumerate(whole):
        begin = 148 + row - 5
        expected = values[begin : begin + 8] - values[begin + 4]
        np.testing.assert_allclose(window, expected, atol=1e-5)
    naive = np.mean([np.abs(values[i : i + 3] - values[i - 1]) for i in range(148, 172)])
    one = np.abs(validation.y[7]).mean() * task._numbers[0] / naive
    assert task.score(np.zeros((24, 3)), validation)[1][7] == pytest.approx(one, rel=1e-5)
    assert task.score(np.zeros((24, 3)), validation)[1].mean() == pytest.approx(1)

    assert task.criterion.words == "mean error of 24 validation windows below 1"


def test_no_training_window_reaches_into_what_later_ones_foretell(tmp_path):
    values = np.random.default_rng(0).normal(size=100)
    task = series(tmp_path, values, inputs=5, horizon=3)
    batch = task.sample(np.random.default_rng(1), 2000)
    windows = np.concatenate([batch.x[:, :, 0], batch.y], axis=1) * task._numbers[0]
    found = {
        next(
            begin
            for begin in range(93)
            if np.allclose(values[begin : begin + 8] - values[begin + 4], window, atol=1e-5)
        )
        for window in windows
    }
    # The first value of the first test window that is to be foretold is the 75th: 100 - 24 - 2,
    # that of the first validation window the 49th.
    assert found == set(range(48 - 8 + 1))
    first = task.test(None, 0).y[0] * task._numbers[0]
    np.testing.assert_allclose(first, values[74:77] - values[73], rtol=1e-5)


def test_the_naive_forecast_of_a_series_with_a_period():
    task = Series("airline")
    values = task.values
    for begin, row in ((109, 0), (132, 23)):
        mean = np.abs(values[begin : begin + 12] - values[begin - 12 : begin]).mean()
        said = (values[begin - 12 : begin] - values[begin - 1]) / task._numbers[0]
        batch = task.test(None, 0)
        outputs = np.tile(said, (24, 1))
        assert task.score(outputs, batch)[1][row] == pytest.approx(mean / task._numbers[2]["test"])
    assert task._numbers[1] == 12  # the season, not the last value
    assert [len(batch.x) for batch in task.examples().values()] == [1, 1]
    assert task.checksum == Series("airline", inputs=12).checksum
    assert task.checksum != Series("sunspots").checksum


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a\n1\n2\n", "has 2 values; 24 inputs and a horizon of 12 need 131 at least"),
        ("Mon,1\n" * 200, "begins with Mon, 1: are these names, or values"),
        ("a\n" + "1,5\n" * 200, "more fields than its header names, which are: a"),
        ("a\n" + "x\n" * 200, "is no CSV file whose last column are numbers"),
        ("", "is no CSV file"),
        ("a\n" + "1\ninf\n" * 100, "holds infinite numbers"),
        (None, "There is no file"),
    ],
)
def test_a_file_that_is_no_series(content, message, tmp_path):
    if content is not None:
        (tmp_path / "own.csv").write_text(content)
    with pytest.raises(DataError, match=message):
        Series(str(tmp_path / "own.csv")).sample(np.random.default_rng(0), 1)


@pytest.mark.parametrize(
    "text",
    ["v\n{}", "{}", "t;v\n1;{}", "1949-01,{}", "2024\t{}", "t,v\n1,{},", "t,v,\n1,{},", "1,{},"],
)
def test_forms_of_a_series(text, tmp_path):
    """With and without a header, with other separators, with one at the end of lines."""
    head, _, line = text.rpartition("\n")
    lines = [line.format(value) for value in range(7, 207)]
    (tmp_path / "own.csv").write_text("\n".join([head, *lines] if head else lines))
    assert Series(str(tmp_path / "own.csv")).values.tolist() == list(range(7, 207))


def test_the_file_of_a_series_is_the_same_in_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = SequenceConfig("series:data=a, b.csv,inputs=5")
    assert config.task == f"series:data={tmp_path}/a, b.csv,inputs=5"
    assert parse(config.task) == Series(str(tmp_path / "a, b.csv"), inputs=5)
    monkeypatch.chdir("/")
    assert SequenceConfig.from_dict(config.to_dict()) == config
    assert config.slug.startswith("series-data-a--b.csv-inputs-5-grid_lstm-")
    assert SequenceConfig("series:data=co2").task == "series:data=co2"


def test_gaps_are_filled(tmp_path):
    values = np.arange(200.0)
    gaps = np.array(values)
    gaps[[5, 6, 90]] = np.nan
    np.testing.assert_allclose(series(tmp_path, gaps).values, values)


def test_series_without_a_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("DEEPLSTM_DATA")
    with pytest.raises(DataError, match=r"--data-dir or set DEEPLSTM_DATA .*timeseries/co2.csv"):
        Series("co2").sample(np.random.default_rng(0), 1)
    task = Series("airline")
    assert task.reading(tmp_path / "data").test(None, 0).y.shape == (24, 12)
    assert task.reading(tmp_path / "data") == task and task.data_dir is None


# Criteria and what the papers report.


def test_criterion():
    all_right = Criterion(4, wrong=0, error=0.1)
    assert all_right.words == "all of 4 fresh sequences right, mean error below 0.1"
    yes = np.array([True] * 4)
    assert all_right.holds(yes, np.array([0.0, 0.1, 0.1, 0.1]))
    assert not all_right.holds(yes, np.full(4, 0.1))
    assert not all_right.holds(yes, np.array([0, 0, 0, np.nan]))
    assert not all_right.holds(np.array([True, True, True, False]), np.zeros(4))
    some = Criterion(4, wrong=1, error=None, of="strings")
    assert some.words == "at most 1 of 4 strings wrong"
    assert some.holds(np.array([True, True, True, False]), np.full(4, np.nan))
    assert not some.holds(np.array([True, True, False, False]), np.zeros(4))
    small = Criterion(4, wrong=None, error=0.5)
    assert small.words == "mean error of 4 fresh sequences below 0.5"
    assert small.holds(~yes, np.array([1, 0, 0, 0]))
    with pytest.raises(ValueError, match=r"`error` must have the shape \(4,\)"):
        small.holds(yes, np.zeros((4, 1)))
    with pytest.raises(ValueError, match="needs `wrong` or `error`"):
        Criterion(4, None, None)


def test_criteria_of_the_papers():
    words = {text: parse(text).criterion.words for text in TEXTS}
    assert words["reber"] == "all of 512 strings of both sets right"
    assert words["noise-free"] == "all of 10,000 fresh sequences right"
    assert words["adding"] == "all of 2,000 fresh sequences right, mean error below 0.01"
    assert words["multiplication:n_seq=13"] == "at most 12 of 2,000 fresh sequences wrong"
    assert words["temporal-order"] == "all of 2,000 fresh sequences right, mean error below 0.1"
    assert words["addition"] == "all of 100 fresh sequences right"


@pytest.mark.parametrize(
    ("text", "count", "words"),
    [
        ("reber", 8_440, "8,440 sequences"),
        ("noise-free", 5_040, "5,040 sequences"),
        ("noise-free:regular=false", 5_680, "5,680 sequences"),
        ("noise-free:p=50", None, None),
        ("long-lag", 31_000, "31,000 sequences"),
        ("long-lag:p=50,q=1000", 203_000, "203,000 sequences"),
        ("two-sequence", 39_850, "27,380 sequences (ST1), 39,850 (ST2)"),
        ("two-sequence:noise=targets", 269_650, "269,650 sequences"),
        ("two-sequence:signal=2", None, None),
        ("adding", 74_000, "74,000 sequences"),
        ("adding:length=1000", 853_000, "853,000 sequences"),
        ("adding:target=mean", None, None),
        ("multiplication", 482_000, "482,000 sequences"),
        ("multiplication:n_seq=13", 1_273_000, "1,273,000 sequences"),
        ("temporal-order:symbols=3", 571_100, "571,100 sequences"),
        (
            "counting:letters=abc",
            None,
            "n up to 1000 and more, trained with a Kalman filter",
        ),
        ("parity:bits=250", None, "the most bits that are learned"),
        ("parity", None, None),
        ("memorization", None, None),
    ],
)
def test_what_the_papers_report(text, count, words):
    assert (parse(text).paper_sequences, parse(text).paper) == (count, words)


# Tasks as text.


def test_parse():
    task = parse(" adding : length = 500 , target = mean ")
    assert dataclasses.asdict(task) == {"length": 500, "target": "mean"}
    assert parse("noise-free:regular=False") == parse("noise-free:regular=false")
    assert spec(parse("sines:low=0.5")) == "sines"
    assert len({parse(text) for text in TEXTS}) == len(TEXTS)  # they can be keys


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "ading",
            "Unknown sequence task: 'ading'. Did you mean 'adding'? Available: ['reber', 'n",
        ),
        ("", "Unknown sequence task: ''. Available: ['reber'"),
        (
            "adding:lenght=5",
            "Unknown parameter of 'adding': 'lenght'. Did you mean 'length'?",
        ),
        ("adding:length", "Expected NAME=VALUE in 'adding:length'. Received: 'length'"),
        ("adding:", "Expected NAME=VALUE in 'adding:'. Received: ''"),
        ("adding:length=5,length=6", "Parameter 'length' comes twice in"),
        ("adding:length=5.5", "Argument `length` must be an integer. Received: length='5.5'"),
        (
            "adding:length=3",
            "Argument `length` must be an integer of at least 4. Received",
        ),
        ("adding:target=men", "Did you mean 'mean'?"),
        ("multiplication:n_seq=0", "Argument `n_seq` must be a positive integer."),
        ("reber:data=-1", "Argument `data` must be an integer of at least 0."),
        ("noise-free:regular=maybe", "Argument `regular` must be true or false."),
        ("noise-free:p=1", "Argument `p` must be an integer of at least 2."),
        ("long-lag:q=0", "Argument `q` must be a positive integer."),
        ("two-sequence:signal=101", "Argument `signal` must be at most 100."),
        ("two-sequence:noise=target", "Did you mean 'targets'?"),
        ("temporal-order:symbols=4", "Argument `symbols` must be at most 3."),
        ("counting:letters=abcd", "Argument `letters` must be one of ['ab', 'abc']."),
        ("periodic-bits:period=9,length=8", "Argument `length` must be an integer of at least 9."),
        ("parity:bits=0", "Argument `bits` must be a positive integer."),
        ("memorization:vocabulary=1", "Argument `vocabulary` must be an integer of at least 2."),
        ("sines:low=x", "Argument `low` must be a number. Received: low='x'"),
        ("sines:low=0", "Argument `low` must be a positive number."),
        ("sines:high=nan", "Argument `high` must be a finite number."),
        ("sines:low=5", "Argument `high` must be at least `low`. Received: low=5.0, high=4.0"),
    ],
)
def test_texts_that_name_no_task(text, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        parse(text)
