import os
import re

import numpy as np
import pytest

from keras_deeplstm.experiments.tasks import TASKS, DataError, get_task
from keras_deeplstm.experiments.tasks.mnist import ARRAYS


def test_digits():
    task = get_task("digits")
    data = task.load(None)
    assert [len(x) for x, _ in data] == [1257, 180, 360]
    for x, y in data:
        assert x.shape[1:] == task.input_shape
        assert x.dtype == np.float32
        assert (x.min(), x.max()) == (0, 1)
        counts = np.bincount(y, minlength=10)
        assert counts.max() - counts.min() <= 0.1 * len(y) / 10 + 1  # stratified

    # The splits are disjoint and together they are the data set.
    images = np.concatenate([x.reshape(len(x), -1) for x, _ in data])
    assert len(images) == 1797
    assert np.allclose(images.sum(), 561718 / 16)
    again = task.load(None)
    assert np.array_equal(again.test[1], data.test[1])


def test_folds():
    """Every image validates once, each fold has its share of every class, the test data stay."""
    data = get_task("digits").load(None)
    folds = [data.fold(number, 5) for number in (1, 2, 3, 4, 5)]
    pool = np.concatenate([data.train[0], data.validation[0]])
    seen = np.concatenate([fold.validation[0] for fold in folds])
    assert len(pool) == len(seen) == 1437
    assert sorted(image.tobytes() for image in pool) == sorted(image.tobytes() for image in seen)
    share = np.bincount(np.concatenate([data.train[1], data.validation[1]])) / 5
    for fold in folds:
        assert len(fold.train[0]) + len(fold.validation[0]) == 1437
        assert np.abs(np.bincount(fold.validation[1]) - share).max() < 1
        assert fold.test is data.test
    again = data.fold(2, 5)
    assert np.array_equal(again.train[0], folds[1].train[0])


def test_unknown_task():
    with pytest.raises(ValueError, match=re.escape("Unknown task 'digit'. Did you mean 'digits'?")):
        get_task("digit")


def test_every_task_has_its_name():
    assert all(name == task.name and 0 < task.criterion < 1 for name, task in TASKS.items())


def test_mnist_of_another_content_is_refused(tmp_path):
    arrays = {key: np.zeros(shape, np.uint8) for key, (shape, _) in ARRAYS.items()}
    np.savez_compressed(tmp_path / "mnist.npz", **arrays)
    with pytest.raises(DataError, match=r"mnist\.npz' is damaged: sha256 of x_train is "):
        get_task("mnist").load(tmp_path)


def test_mnist_of_another_shape_is_refused(tmp_path):
    (tmp_path / "mnist").mkdir()
    arrays = {key: np.zeros(3, np.uint8) for key in ARRAYS}
    np.savez(tmp_path / "mnist" / "mnist.npz", **arrays)
    message = re.escape("x_train must be uint8 of shape (60000, 28, 28). Received: uint8 of")
    with pytest.raises(DataError, match=message):
        get_task("mnist").load(tmp_path)


def _truncated(path):
    np.savez_compressed(path, x_train=np.arange(10_000))
    path.write_bytes(path.read_bytes()[:2_000])


@pytest.mark.parametrize(
    "write",
    [
        _truncated,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"<html>404</html>"),
        lambda path: np.savez(path, x_train=np.zeros(3)),
        lambda path: np.savez(path, **{key: np.array([{}], object) for key in ARRAYS}),
        lambda path: path.mkdir(),
    ],
    ids=["truncated", "empty", "html", "keys missing", "pickled", "folder"],
)
def test_damaged_mnist_is_one_clear_error(tmp_path, write):
    write(tmp_path / "mnist.npz")
    with pytest.raises(DataError, match=r"mnist\.npz' is damaged or not MNIST: "):
        get_task("mnist").load(tmp_path)


def test_mnist_that_is_not_in_the_folder(tmp_path, monkeypatch):
    message = re.escape(f"Dataset 'mnist' is not in '{tmp_path}'")
    with pytest.raises(DataError, match=message):
        get_task("mnist").load(tmp_path)
    monkeypatch.setenv("DEEPLSTM_DATA", str(tmp_path))
    with pytest.raises(DataError, match=message):
        get_task("mnist").load(None)


def test_mnist_offline(tmp_path, monkeypatch):
    import keras

    def offline():
        raise Exception("URL fetch failure on https://example.org: no route to host")

    monkeypatch.delenv("DEEPLSTM_DATA", raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr(keras.datasets.mnist, "load_data", offline)
    with pytest.raises(DataError) as caught:
        get_task("mnist").load(None)
    message = str(caught.value)
    for part in (str(tmp_path / "datasets"), "no route to host", "--data-dir", "DEEPLSTM_DATA"):
        assert part in message


@pytest.mark.skipif("DEEPLSTM_DATA" not in os.environ, reason="needs MNIST: DEEPLSTM_DATA not set")
def test_mnist():
    data = get_task("mnist").load(None)
    assert [x.shape for x, _ in data] == [(n, 28, 28, 1) for n in (55_000, 5_000, 10_000)]
    train = np.concatenate([data.train[1], data.validation[1]])
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(train).tolist() == counts
    counts = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert np.bincount(data.test[1]).tolist() == counts
    assert data.train[0].dtype == np.float32
    assert (data.train[0].min(), data.train[0].max()) == (0, 1)
