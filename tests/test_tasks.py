import dataclasses
import gzip
import hashlib
import io
import os
import re
import shutil
import urllib.error
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keras_deeplstm.experiments import cli, register, runs
from keras_deeplstm.experiments.search.config import SearchConfig
from keras_deeplstm.experiments.settings.base import ConfigError
from keras_deeplstm.experiments.settings.classifiers import ModelConfig, RunConfig
from keras_deeplstm.experiments.tasks import TASKS, DataError, get_task, own, published, task
from keras_deeplstm.experiments.tasks.fashion_mnist import FILES
from keras_deeplstm.experiments.tasks.mnist import ARRAYS
from keras_deeplstm.experiments.training import train


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
    for number in (0, 6):
        with pytest.raises(ValueError, match=f"from 1 to 5. Received: number={number}"):
            data.fold(number, 5)


def test_unknown_task():
    with pytest.raises(ValueError, match=re.escape("Unknown task 'digit'. Did you mean 'digits'?")):
        get_task("digit")


def test_every_task_has_its_name():
    assert list(TASKS)[:3] == ["digits", "mnist", "fashion-mnist"]
    assert all(name == task.name and 0 < task.criterion < 1 for name, task in TASKS.items())


def test_mnist_of_another_content_is_refused(tmp_path):
    shapes = {key: (count, 28, 28)[: 3 if "x" in key else 1] for key, (count, _) in ARRAYS.items()}
    arrays = {key: np.zeros(shape, np.uint8) for key, shape in shapes.items()}
    np.savez_compressed(tmp_path / "mnist.npz", **arrays)
    with pytest.raises(DataError, match=r"mnist\.npz' is damaged: x_train's sha256 is "):
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
        lambda path: np.savez_compressed(path, x_train=np.zeros(10**8, np.uint8)),
    ],
    ids=["truncated", "empty", "html", "keys missing", "pickled", "too much"],
)
def test_damaged_mnist_is_one_clear_error(tmp_path, write):
    write(tmp_path / "mnist.npz")
    with pytest.raises(DataError, match=r"mnist\.npz' is damaged or not MNIST: "):
        get_task("mnist").load(tmp_path)


def test_mnist_that_is_not_in_the_folder(tmp_path, monkeypatch):
    message = re.escape(f"Dataset 'mnist' is not in '{tmp_path}'")
    with pytest.raises(DataError, match=message):
        get_task("mnist").load(tmp_path)
    (tmp_path / "mnist.npz").mkdir()  # no file either
    monkeypatch.setenv("DEEPLSTM_DATA", str(tmp_path))
    with pytest.raises(DataError, match=message):
        get_task("mnist").load(None)


def test_mnist_offline(tmp_path, monkeypatch):
    """The error names the cache, the cause and the ways to pass the data."""
    import keras

    def offline(*arguments, **options):
        raise Exception("URL fetch failure on https://example.org: no route to host")

    monkeypatch.delenv("DEEPLSTM_DATA", raising=False)
    monkeypatch.setattr(published, "DEBIAN", tmp_path)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr(keras.utils, "get_file", offline)
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


@pytest.fixture
def images(monkeypatch):
    """Arrays with 50 + 10 images, where neither the user nor Debian has a folder of data sets."""
    monkeypatch.setattr(published, "VALIDATION_IMAGES", 5)
    monkeypatch.setattr(published, "DEBIAN", Path("nowhere"))
    monkeypatch.delenv("DEEPLSTM_DATA", raising=False)
    rng = np.random.default_rng(0)
    arrays = [
        *(rng.integers(0, 256, (50, 28, 28)), np.arange(50) % 10),
        *(rng.integers(0, 256, (10, 28, 28)), np.arange(10)),
    ]
    return [array.astype(np.uint8) for array in arrays]


def check_images(data, arrays):
    x_train, y_train, x_test, y_test = arrays
    assert [x.shape for x, _ in data] == [(n, 28, 28, 1) for n in (45, 5, 10)]
    assert all(x.dtype == np.float32 and y.dtype == np.int64 for x, y in data)
    x = np.concatenate([data.train[0], data.validation[0]])
    assert np.array_equal(x[..., 0], (x_train / np.float32(255)).astype(np.float32))
    assert np.array_equal(np.concatenate([data.train[1], data.validation[1]]), y_train)
    assert np.array_equal(data.test[0][..., 0], (x_test / np.float32(255)).astype(np.float32))
    assert np.array_equal(data.test[1], y_test)


def cache_of_keras(tmp_path, monkeypatch):
    """An empty cache; and a list of what is downloaded, which never succeeds."""
    import keras

    asked = []

    def offline(url, *arguments):
        asked.append(url)
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr("keras.src.utils.file_utils.config.keras_home", lambda: tmp_path / "home")
    monkeypatch.setattr("keras.src.utils.file_utils.urlretrieve", offline)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    assert keras.utils.get_file.__module__ == "keras.src.utils.file_utils"
    cache = tmp_path / "home" / "datasets"
    cache.mkdir(parents=True)
    return cache, asked


def test_mnist_is_known_by_its_content(images, tmp_path, monkeypatch):
    """In the cache of Keras as well, which would refuse a file that is encoded differently."""
    for array, (key, (count, _)) in zip(images, list(ARRAYS.items()), strict=True):
        digest = hashlib.sha256(array.tobytes()).hexdigest()
        monkeypatch.setitem(ARRAYS, key, ({60_000: 50, 10_000: 10}[count], digest))
    cache, asked = cache_of_keras(tmp_path, monkeypatch)
    for write in (np.savez, np.savez_compressed):
        write(cache / "mnist.npz", **dict(zip(ARRAYS, images, strict=True)))
        check_images(get_task("mnist").load(None), images)
        check_images(get_task("mnist").load(cache), images)
    assert not asked
    images[0][3, 1, 2] ^= 1
    np.savez(cache / "mnist.npz", **dict(zip(ARRAYS, images, strict=True)))
    with pytest.raises(DataError, match=r"'.*mnist\.npz' is damaged: x_train's sha256 is "):
        get_task("mnist").load(cache)
    with pytest.raises(DataError, match=r"'mnist' is not in the cache .* that holds mnist\.npz"):
        get_task("mnist").load(None)
    assert asked == ["https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz"]


# Fashion-MNIST


@pytest.fixture
def fashion(images, tmp_path, monkeypatch):
    """A folder with the files of Fashion-MNIST; their few images are taken for the published."""
    folder = tmp_path / "data" / "fashion-mnist"
    folder.mkdir(parents=True)
    for name, array in zip(list(FILES), images, strict=True):
        header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes()
        content = header + array.tobytes()
        (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
        monkeypatch.setitem(FILES, name, (array.shape, digest))
    return folder


IMAGES = "train-images-idx3-ubyte"


def test_fashion_mnist(fashion, images, monkeypatch):
    folder = fashion
    load = get_task("fashion-mnist").load
    for place in ("fashion-mnist", "fashion_mnist"):
        folder = folder.rename(folder.with_name(place))
        for data_dir in (folder, folder.parent):
            check_images(load(data_dir), images)
    monkeypatch.setenv("DEEPLSTM_DATA", str(folder.parent))
    check_images(load(None), images)
    assert get_task("fashion-mnist").sizes(load(None)) == ((28, 28, 1), 10)


def test_fashion_mnist_is_known_by_its_content(fashion, images):
    """As Debian packs it, with another header; or not packed at all."""
    load = get_task("fashion-mnist").load
    for path in list(fashion.iterdir()):
        content = gzip.decompress(path.read_bytes())
        with gzip.GzipFile("another-name", "wb", 1, path.open("wb"), mtime=1) as file:
            file.write(content)
        assert gzip.decompress(path.read_bytes()) == content
    check_images(load(fashion), images)
    for path in list(fashion.iterdir()):
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
        check_images(load(fashion), images)  # packed ones beside others, and at last none


def test_fashion_mnist_of_debian_comes_after_the_users(fashion, images, tmp_path, monkeypatch):
    monkeypatch.setattr(published, "DEBIAN", fashion.parent)
    check_images(get_task("fashion-mnist").load(None), images)
    with pytest.raises(DataError, match=re.escape(f"'fashion-mnist' is not in '{tmp_path}'")):
        get_task("fashion-mnist").load(tmp_path)


def test_fashion_mnist_from_the_cache(fashion, images, tmp_path, monkeypatch):
    cache, asked = cache_of_keras(tmp_path, monkeypatch)
    load = get_task("fashion-mnist").load
    place = shutil.move(fashion, cache / "fashion-mnist")
    check_images(load(None), images)
    path = place / f"{IMAGES}.gz"
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()), 1, mtime=1))
    check_images(load(None), images)
    assert not asked
    path.unlink()
    with pytest.raises(DataError) as caught:
        load(None)
    origin = f"https://storage.googleapis.com/tensorflow/tf-keras-datasets/{IMAGES}.gz"
    assert str(caught.value) == (
        f"Dataset 'fashion-mnist' is not in the cache '{cache}' and could not be downloaded: URL "
        f"fetch failure on {origin}: None -- no route to host. Pass --data-dir or set "
        f"DEEPLSTM_DATA to a folder that holds fashion-mnist/{IMAGES}.gz"
    )
    assert asked == [origin]


@pytest.mark.parametrize("whole", [True, False])
def test_a_torn_download(whole, fashion, images, tmp_path, monkeypatch):
    """What lies in the cache is downloaded anew; an error names what is wrong again."""
    cache, _ = cache_of_keras(tmp_path, monkeypatch)
    place = shutil.move(fashion, cache / "fashion-mnist")
    content = (place / f"{IMAGES}.gz").read_bytes()
    (place / f"{IMAGES}.gz").write_bytes(content[:1000])

    def download(url, path, *arguments):
        Path(path).write_bytes(content if whole else content[:2000])

    monkeypatch.setattr("keras.src.utils.file_utils.urlretrieve", download)
    if whole:
        check_images(get_task("fashion-mnist").load(None), images)
        return
    message = f"could not be downloaded: '{place / IMAGES}.gz' is damaged: Compressed file ended"
    with pytest.raises(DataError, match=re.escape(message)):
        get_task("fashion-mnist").load(None)


def _flipped(content):
    return content[:99] + bytes([content[99] ^ 1]) + content[100:]


SIZE = f"is not {IMAGES} of Fashion-MNIST, which has 39,216 bytes: it has "


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda packed, content: packed[:1000], "is damaged: Compressed file ended before"),
        (lambda packed, content: packed[:-8], "is damaged: Compressed file ended before"),
        (lambda packed, content: b"<html>404</html>", "is damaged: Not a gzipped file"),
        (lambda packed, content: b"", f"{SIZE}0"),
        (lambda packed, content: gzip.compress(content[:-1]), f"{SIZE}39,215"),
        (lambda packed, content: gzip.compress(content + b"0"), f"{SIZE}more"),
        (lambda packed, content: packed + gzip.compress(bytes(10**8)), f"{SIZE}more"),
        (lambda packed, content: gzip.compress(_flipped(content)), "is damaged: its md5 is "),
    ],
    ids=["torn", "end missing", "html", "empty", "short", "long", "bomb", "one bit"],
)
@pytest.mark.parametrize("packed", [True, False], ids=["gz", "idx"])
def test_damaged_fashion_mnist(packed, change, message, fashion):
    """Each damage is one error that names the file and the cause."""
    path = fashion / f"{IMAGES}.gz"
    before = path.read_bytes()
    after = change(before, gzip.decompress(before))
    if not packed:
        path.unlink()
        path = path.with_suffix("")
        try:
            after = gzip.decompress(after)
        except (OSError, EOFError):
            message = SIZE  # not packed, it is just short
    path.write_bytes(after)
    with pytest.raises(DataError, match=re.escape(f"'{path}' {message}")):
        get_task("fashion-mnist").load(fashion)


def test_a_bomb_is_not_unpacked(fashion, monkeypatch):
    """One byte more than there should be is enough to see that there are more."""
    (fashion / f"{IMAGES}.gz").write_bytes(gzip.compress(bytes(10**8)))
    unpacked, limits = published._unpacked, []

    def counted(path, limit):
        found = unpacked(path, limit)
        limits.append((limit, len(found)))
        return found

    monkeypatch.setattr(published, "_unpacked", counted)
    with pytest.raises(DataError, match="it has more"):
        get_task("fashion-mnist").load(fashion)
    assert limits == [(39_217, 39_217)]


def test_fashion_mnist_absent(fashion, tmp_path):
    """The error names the files that are missing."""
    load = get_task("fashion-mnist").load
    message = f"Dataset 'fashion-mnist' is not in '{tmp_path}': none of fashion-mnist/{IMAGES}.gz, "
    with pytest.raises(DataError, match=re.escape(message)):
        load(tmp_path)
    (fashion / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataError, match=r"none of .*, t10k-labels-idx1-ubyte is there"):
        load(fashion)


def test_fashion_mnist_has_the_published_checksums():
    """Those of the files when they are not packed."""
    assert FILES == {
        "train-images-idx3-ubyte": ((60_000, 28, 28), "f4a8712d7a061bf5bd6d2ca38dc4d50a"),
        "train-labels-idx1-ubyte": ((60_000,), "9018921c3c673c538a1fc5bad174d6f9"),
        "t10k-images-idx3-ubyte": ((10_000, 28, 28), "8181f5470baa50b63fa0f6fddb340f0a"),
        "t10k-labels-idx1-ubyte": ((10_000,), "15d484375f8d13e6eb1aabb0c3f46965"),
    }


@pytest.mark.skipif(
    not (published.DEBIAN / "fashion-mnist").is_dir(), reason="needs Debian's dataset-fashion-mnist"
)
def test_fashion_mnist_of_debian(monkeypatch):
    monkeypatch.delenv("DEEPLSTM_DATA", raising=False)
    data = get_task("fashion-mnist").load(None)
    assert [x.shape for x, _ in data] == [(n, 28, 28, 1) for n in (55_000, 5_000, 10_000)]
    assert np.bincount(data.test[1]).tolist() == [1000] * 10


# Paths in place of names


def test_a_path_becomes_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "letters").mkdir()
    (tmp_path / "digits").mkdir()
    for name, path in (
        ("letters", "letters"),
        ("letters.npz", "letters.npz"),
        ("LETTERS.NPZ", "LETTERS.NPZ"),
        ("./letters/", "letters"),
        ("absent/letters", "absent/letters"),
        (".", ""),
    ):
        assert RunConfig(name).task == str(tmp_path / path)
        assert SearchConfig(name).task == str(tmp_path / path)
    assert RunConfig("digits").task == "digits"  # a name comes before a folder
    assert RunConfig("./digits").task == str(tmp_path / "digits")
    assert RunConfig("~/x.npz").task == os.path.expanduser("~/x.npz")
    config = RunConfig("letters", ModelConfig(depth=3))
    monkeypatch.chdir("/")
    assert dataclasses.replace(config).task == str(tmp_path / "letters")
    assert RunConfig.from_dict(config.to_dict()) == config


@pytest.mark.parametrize("name", ["lettres", "", 3, None, ["a/b"]])
def test_neither_a_name_nor_a_path(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    message = f"Unknown task {name!r}. Available: ['digits', 'mnist', 'fashion-mnist'"
    with pytest.raises(ConfigError, match=re.escape(message)) as caught:
        RunConfig(name)
    assert str(caught.value).endswith(", and paths of .npz files, tables and folders of images")


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/data/letters.npz", "letters"),
        ("/data/letters.v2", "letters.v2"),
        ("/data/my letters (new).NPZ", "my_letters_new"),
        ("/data/<b>.npz", "b"),
        ("/data/字母.npz", "data"),
        ("/", "data"),
        ("/data/" + "a" * 200, "a" * 40),
        (r"C:\data\letters.npz", "letters"),
    ],
)
def test_name_of_a_path(path, name):
    config = RunConfig(path)
    assert get_task(path).name == config.subject == name
    assert config.title == f"{name}: UnfoldedLSTMBlock untied, depth 10"
    assert config.slug == f"{name}-unfolded_lstm-untied-depth10-units100-seed0"
    assert runs.check_name(config.slug) == config.slug


def test_command_with_a_path():
    config = RunConfig("/my data/x.npz", epochs=3)
    assert config.command_line() == "deeplstm run '/my data/x.npz' --epochs 3"


# .npz files


def gratings(n, classes="ab", shape=(4, 4)):
    """`n` images of each class that are told apart by their brightness, and their labels."""
    rng = np.random.default_rng(0)
    y = np.repeat(np.array(list(classes)), n)
    level = np.repeat(np.arange(len(classes)) * 100, n).reshape(-1, *[1] * len(shape))
    return (rng.integers(0, 50, (len(y), *shape)) + level).astype(np.uint8), y


def load(path, **arrays):
    np.savez(path, **arrays)
    return get_task(str(path)).load(None)


def test_npz_that_is_split(tmp_path):
    """The splits are those given; uint8 is scaled; classes are numbered in sorted order."""
    x_train, y_train = gratings(10, "cab")
    x_test, y_test = gratings(2, "ba")
    path = tmp_path / "letters.npz"
    given = {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}
    data = load(path, **given, x_validation=x_test[:1], y_validation=y_test[:1])
    assert [x.shape for x, _ in data] == [(n, 4, 4, 1) for n in (30, 1, 4)]
    assert np.array_equal(data.train[0][..., 0], x_train.astype(np.float32) / 255)
    assert data.train[1].tolist() == [2] * 10 + [0] * 10 + [1] * 10
    assert data.validation[1].tolist() == [1]
    assert data.test[1].tolist() == [1, 1, 0, 0]
    assert all(x.dtype == np.float32 and y.dtype == np.int64 for x, y in data)
    assert get_task(str(path)).sizes(data) == ((4, 4, 1), 3)

    # Without validation data, one of each class is taken out of the training data.
    data = load(path, **given)
    assert [np.bincount(y).tolist() for _, y in data] == [[9, 9, 9], [1, 1, 1], [2, 2]]
    assert np.array_equal(data.test[0][..., 0], x_test.astype(np.float32) / 255)
    both = np.concatenate([data.train[0], data.validation[0]])[..., 0] * 255
    assert sorted(both.sum((1, 2)).round()) == sorted(x_train.sum((1, 2)))


def test_npz_that_is_not_split(tmp_path):
    x, y = gratings(20, "ba")
    data = load(tmp_path / "a.npz", x=x, y=y)
    assert [np.bincount(y).tolist() for _, y in data] == [[14, 14], [2, 2], [4, 4]]
    images = np.concatenate([x for x, _ in data])[..., 0] * 255
    assert sorted(images.sum((1, 2)).round()) == sorted(x.sum((1, 2)))
    for images, labels in data:  # labels stay with their images
        assert np.array_equal(labels == 0, images.mean((1, 2, 3)) > 100 / 255 - 0.1)
    again = load(tmp_path / "b.npz", x=x, y=y)
    assert all(map(np.array_equal, data.train, again.train))
    assert data.digest() == again.digest()
    assert load(tmp_path / "b.npz", x=x, y=y[::-1]).digest() != data.digest()


@pytest.mark.parametrize(
    ("shape", "dtype", "expected"),
    [
        ((5,), np.uint8, (5,)),
        ((5,), np.float64, (5,)),
        ((3, 5), np.float16, (3, 5, 1)),
        ((3, 5, 3), ">f4", (3, 5, 3)),
        ((3, 5, 2), np.uint8, (3, 5, 2)),
    ],
)
def test_shapes_and_types_of_inputs(shape, dtype, expected, tmp_path):
    x, y = gratings(10, shape=shape)
    data = load(tmp_path / "a.npz", x=x.astype(dtype), y=y)
    assert get_task(str(tmp_path / "a.npz")).sizes(data) == (expected, 2)
    total = x.sum() / (255 if dtype == np.uint8 else 1)
    assert sum(x.sum(dtype=np.float64) for x, _ in data) == pytest.approx(total, rel=1e-6)
    assert all(x.dtype == np.float32 for x, _ in data)


@pytest.mark.parametrize(
    "labels",
    [[[7], [-3]], np.array([255, 0], np.uint8), np.array([10, 9]), ["b", "a"], ["10", "09"]],
    ids=["column", "bytes", "integers", "strings", "digits as text"],
)
def test_labels_are_numbered_in_sorted_order(labels, tmp_path):
    x, _ = gratings(10)
    data = load(tmp_path / "a.npz", x=x, y=np.repeat(np.asarray(labels), 10, axis=0))
    for images, y in data:
        assert np.array_equal(y, images.mean((1, 2, 3)) < 75 / 255)


X, Y = gratings(10)
GIVEN = {"x_train": X, "y_train": Y, "x_test": X, "y_test": Y}
NAMES = "x and y, or x_train, y_train, x_test, y_test and, if you like, x_validation, y_validation"


def _one_nan():
    x = X.astype("float64")
    x[3, 1, 2] = np.nan
    x[4, 0, 0] = 1e300
    return x


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": X}, f"must hold the arrays {NAMES}. It holds x"),
        ({"X": X, "Y": Y}, "It holds X, Y"),
        ({**GIVEN, "x_val": X, "y_val": Y}, "It holds x_test, x_train, x_val, y_test, y_train, "),
        ({"x": X, "y": Y[:-1]}, "x and y of '{path}' differ in length: 20 and 19"),
        (
            {**GIVEN, "y_test": Y[:3]},
            "x_test and y_test of '{path}' differ in length: 20 and 3",
        ),
        ({"x": X.astype(int), "y": Y}, "x of '{path}' must be uint8, which is scaled to [0, 1]"),
        ({"x": X.astype(str), "y": Y}, "or floats, which are taken as they are. Received: <U"),
        ({"x": X[:, 0, 0], "y": Y}, "(n, height, width, channels). Received: (20,)"),
        ({"x": np.uint8(3), "y": Y}, "(n, height, width, channels). Received: ()"),
        ({"x": X[:0], "y": Y[:0]}, "(n, height, width, channels). Received: (0, 4, 4)"),
        ({"x": X[:, :0], "y": Y}, "(n, height, width, channels). Received: (20, 0, 4)"),
        (
            {"x": _one_nan(), "y": Y},
            "'{path}' has 2 values that are NaN or infinite as float32, the first at x[3, 1, 2]",
        ),
        (
            {"x": X, "y": np.arange(20.0)},
            "y of '{path}' must hold an integer or a string for each example, shape (n,). "
            "Received: float64 of shape (20,)",
        ),
        ({"x": X, "y": np.eye(2)[np.arange(20) % 2]}, "Received: float64 of shape (20, 2)"),
        ({"x": X, "y": np.zeros(20, bool)}, "Received: bool of shape (20,)"),
        ({"x": X, "y": np.zeros(20, int)}, "'{path}' has one class only, 0"),
        (
            {"x": X, "y": np.r_[np.zeros(11, int), np.ones(9, int)]},
            "Class 1 of '{path}' has 9 of the examples to be split; each class needs at least 10",
        ),
        (
            {**GIVEN, "x_test": X[:, :3]},
            "x_train of '{path}' has inputs of shape (4, 4, 1), x_test of (3, 4, 1)",
        ),
        (
            {**GIVEN, "y_test": np.arange(20)},
            "y_train of '{path}' is <U1, y_test is int64; use one kind",
        ),
        (
            {**GIVEN, "y_test": np.where(Y == "b", "q", Y)},
            "y_test of '{path}' has the class 'q', y_train has not",
        ),
        (
            {"x": X, "y": Y.astype(object)},
            "'{path}' contains Python objects; refusing to load them (allow_pickle=False)",
        ),
        (
            {"x": X, "y": np.array([(1, {})], [("a", int), ("b", object)])},
            "contains Python objects; refusing",
        ),
    ],
)
def test_wrong_npz(arrays, message, tmp_path):
    path = tmp_path / "a.npz"
    with pytest.raises(DataError, match=re.escape(message.replace("{path}", str(path)))):
        load(path, **arrays)


def _npz(path, x, size=None):
    """An .npz file with y, and these bytes for x; the archive may claim that there are more."""
    y = io.BytesIO()
    np.save(y, Y)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("y.npy", y.getvalue())
        archive.writestr("x.npy", x)
        if size is not None:
            archive.getinfo("x.npy").file_size = size


def _npy(shape, dtype="|u1", content=b"", version=(1, 0)):
    file = io.BytesIO()
    header = {"descr": dtype, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    head = file.getvalue()
    return head[:6] + bytes(version) + head[8:] + content


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: None, "'{path}' does not exist"),
        (lambda path: path.write_bytes(b""), "is damaged or not an .npz file: "),
        (lambda path: path.write_bytes(b"<html>404</html>"), "is damaged or not an .npz file: "),
        (lambda path: _npz(path, b""), "is damaged or not an .npz file: "),
        (lambda path: _npz(path, b"x" * 999), "is damaged or not an .npz file: "),
        (lambda path: _npz(path, _npy((9,))), "x.npy is not as long as its header says"),
        (lambda path: _npz(path, _npy((10**12,))), "x.npy is not as long as its header says"),
        (lambda path: _npz(path, _npy((-1,))), "x.npy is not as long as its header says"),
        (lambda path: _npz(path, _npy((0,), version=(9, 9))), "is damaged or not an .npz file: "),
        (lambda path: _npz(path, _npy((0,), "(" * 200)), "is damaged or not an .npz file: "),
        # 3 * 10**9 bytes are 12 GB as float32; the file itself has a few hundred.
        (
            lambda path: _npz(path, _npy((3 * 10**9,)), len(_npy((3 * 10**9,))) + 3 * 10**9),
            "'{path}' needs 12.0 GB of memory; data of at most 8.6 GB are loaded",
        ),
        (
            lambda path: _npz(path, _npy((10**9,)), len(_npy((10**9,))) + 10**9),
            "is damaged or not an .npz file: ",
        ),
    ],
)
def test_npz_of_a_stranger(write, message, tmp_path):
    path = tmp_path / "a.npz"
    write(path)
    with pytest.raises(DataError, match=re.escape(message.replace("{path}", str(path)))):
        get_task(str(path)).load(None)


def test_torn_npz_is_one_error_wherever_it_is_torn(tmp_path):
    np.savez_compressed(tmp_path / "whole.npz", x=X, y=Y)
    content = (tmp_path / "whole.npz").read_bytes()
    path = tmp_path / "a.npz"
    rng = np.random.default_rng(0)
    for _ in range(200):
        torn = bytearray(content)
        torn[rng.integers(len(torn))] ^= 1 << rng.integers(8)
        path.write_bytes(torn[: rng.integers(1, len(torn) + 1)] if rng.random() < 0.3 else torn)
        try:
            data = get_task(str(path)).load(None)
        except DataError as error:
            assert str(path) in str(error)
        else:  # in a date, for instance
            assert sum(len(x) for x, _ in data) == len(X)


# Folders of images


def save(path, pixels, mode=None, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.asarray(pixels, np.uint8))
    (image if mode is None else image.convert(mode)).save(path, **options)


def save_all(folder, x, y):
    for number, (image, label) in enumerate(zip(x, y, strict=True)):
        save(folder / str(label) / f"{number:03d}.png", image)


def test_folder_with_a_folder_for_each_class(tmp_path):
    """The same splits as those of the same images in an .npz file."""
    x, y = gratings(10, ("10", "9"), (4, 6))
    save_all(tmp_path / "letters", x, y)
    (tmp_path / "letters" / "README.txt").write_text("beside the classes")
    (tmp_path / "letters" / "9" / ".DS_Store").write_text("")
    (tmp_path / "letters" / ".git").mkdir()
    data = get_task(str(tmp_path / "letters")).load(None)
    assert [np.bincount(y).tolist() for _, y in data] == [[7, 7], [1, 1], [2, 2]]
    assert data.digest() == load(tmp_path / "a.npz", x=x, y=y).digest()
    assert get_task(str(tmp_path / "letters")).sizes(data) == ((4, 6, 1), 2)  # height first


def test_folder_with_splits(tmp_path):
    x, y = gratings(10, "ab")
    for name, n in (("train", 20), ("test", 3)):
        save_all(tmp_path / name, x[-n:], y[-n:])
    load = get_task(str(tmp_path)).load
    assert [np.bincount(y).tolist() for _, y in load(None)] == [[9, 9], [1, 1], [0, 3]]
    save_all(tmp_path / "validation", x[:2], y[:2])
    data = load(None)
    assert [np.bincount(y, minlength=2).tolist() for _, y in data] == [[10, 10], [2, 0], [0, 3]]
    assert np.array_equal(data.train[0][..., 0], x.astype(np.float32) / 255)
    assert np.array_equal(data.validation[0][..., 0], x[:2].astype(np.float32) / 255)


GREY_IMAGE = np.arange(0, 240, 15).reshape(4, 4)


def test_kinds_of_images(tmp_path):
    """Grey if all are; jpg and bmp as well; black letters on nothing are black on white."""

    def first(folder):
        x, _ = own.images.read(folder).values()
        return x[0]

    for number, (name, mode) in enumerate(
        [("a.png", None), ("b.PNG", "LA"), ("c.bmp", None), ("d.jpeg", None), ("e.png", "1")]
    ):
        save(tmp_path / "grey" / "a" / f"{number}{name}", GREY_IMAGE, mode)
    x, y = own.images.read(tmp_path / "grey").values()
    assert x.shape == (5, 4, 4, 1) and y.tolist() == ["a"] * 5
    for i in (0, 1, 2):
        assert np.array_equal(x[i, ..., 0], GREY_IMAGE)
    assert np.abs(x[3, ..., 0] - GREY_IMAGE.astype(int)).max() < 20  # jpg changes pixels a little
    assert set(x[4].ravel()) == {0, 255}

    color = np.stack([GREY_IMAGE, 2 * GREY_IMAGE % 256, 255 - GREY_IMAGE], axis=-1)
    save(tmp_path / "grey" / "b" / "1.bmp", color)
    x, _ = own.images.read(tmp_path / "grey").values()
    assert x.shape == (6, 4, 4, 3)
    assert np.array_equal(x[0], np.stack([GREY_IMAGE] * 3, axis=-1))
    assert np.array_equal(x[5], color)

    rgba = np.dstack([np.zeros((4, 4, 3)), GREY_IMAGE * 17 % 256])
    save(tmp_path / "alpha" / "a" / "1.png", rgba)
    assert np.abs(first(tmp_path / "alpha")[..., 0] - (255 - rgba[..., 3])).max() <= 1
    save(tmp_path / "palette" / "a" / "1.png", color, "P")
    assert first(tmp_path / "palette").shape == (4, 4, 3)
    save(tmp_path / "see" / "a" / "1.png", GREY_IMAGE, transparency=0)
    assert np.array_equal(first(tmp_path / "see")[..., 0], np.where(GREY_IMAGE, GREY_IMAGE, 255))


def _other_size(folder):
    save(folder / "a" / "1.png", GREY_IMAGE)
    save(folder / "b" / "2.png", GREY_IMAGE[:3])


def _torn_image(folder):
    noise = np.random.default_rng(0).integers(0, 256, (40, 40))
    save(folder / "a" / "1.png", noise)
    content = (folder / "a" / "1.png").read_bytes()
    (folder / "a" / "1.png").write_bytes(content[: len(content) // 2])


def _text(folder, name="1.png"):
    (folder / "a").mkdir()
    (folder / "a" / name).write_text("no image")


def _disguised(folder):
    """A format that Pillow would know, but whose decoder is not to be reached."""
    (folder / "a").mkdir()
    Image.fromarray(GREY_IMAGE.astype(np.uint8)).save(folder / "a" / "1.png", format="TIFF")


def _deep(folder):
    (folder / "a").mkdir()
    Image.fromarray(np.full((4, 4), 40_000, np.uint16)).save(folder / "a" / "1.png")


def _splits(folder, *names):
    for name in names:
        save(folder / name / "a" / "1.png", GREY_IMAGE)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda folder: None, "'{path}' holds no folders with images, one for each class"),
        (
            lambda folder: save(folder / "1.png", GREY_IMAGE),
            "'{path}' holds no folders with images, one for each class",
        ),
        (lambda folder: (folder / "a").mkdir(), "'{path}/a' holds no images. Each folder stands"),
        (lambda folder: save(folder / "a" / "1.png", GREY_IMAGE), "has one class only, 'a'"),
        (
            lambda folder: save_all(folder, X[:11], Y[:11]),
            "Class 'b' of '{path}' has 1 of the examples to be split; each class needs at least 10",
        ),
        (
            _other_size,
            "All images must have one size; resize them first. '{path}/a/1.png' has 4 x 4 pixels, "
            "'{path}/b/2.png' has 4 x 3",
        ),
        (_text, "'{path}/a/1.png' cannot be read as an image: cannot identify image file"),
        (_disguised, "'{path}/a/1.png' cannot be read as an image: cannot identify image file"),
        (_torn_image, "'{path}/a/1.png' cannot be read as an image: "),
        (_deep, "'{path}/a/1.png' has more than 8 bits for a pixel; save it with 8"),
        (lambda folder: _text(folder, "1.txt"), "'{path}/a/1.txt' is not a .png, .jpg or .bmp"),
        (
            lambda folder: ((folder / "a").mkdir(), os.mkfifo(folder / "a" / "1.png")),
            "'{path}/a/1.png' is not a .png, .jpg or .bmp image",
        ),
        (
            lambda folder: _splits(folder, "train"),
            "'{path}/train' holds the folder 'a' instead of images. Above the folders of the "
            "classes there may be 'train' and 'test', both of them",
        ),
        (
            lambda folder: _splits(folder, "train", "test", "val"),
            "'{path}' holds folders 'train' and 'test'; beside them only 'validation' may stand. "
            "Received: val",
        ),
        (
            lambda folder: (_splits(folder, "train"), (folder / "test").mkdir()),
            "'{path}/test' holds no folders with images, one for each class",
        ),
    ],
)
def test_wrong_folder(write, message, tmp_path):
    path = tmp_path / "letters"
    path.mkdir()
    write(path)
    with pytest.raises(DataError, match=re.escape(message.replace("{path}", str(path)))):
        get_task(str(path)).load(None)


def test_folder_larger_than_memory(tmp_path, monkeypatch):
    """Said before a pixel is decoded: 20 images of 4 x 4, 4 bytes each."""
    save_all(tmp_path, X, Y)
    monkeypatch.setattr(task, "LARGEST", 1280)
    get_task(str(tmp_path)).load(None)
    monkeypatch.setattr(task, "LARGEST", 1279)
    monkeypatch.setattr(own.images, "_pixels", None)
    with pytest.raises(DataError, match="GB of memory"):
        get_task(str(tmp_path)).load(None)


# Runs on data of one's own


TINY = ["--model.depth", "2", "--model.units", "1", "--epochs", "1"]


@pytest.mark.usefixtures("eager", "quick_pictures")
@pytest.mark.parametrize("kind", ["letters.npz", pytest.param("letters", marks=pytest.mark.long)])
def test_a_run_on_own_data_and_its_report(kind, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    x, y = gratings(20, "abc")
    if kind == "letters":
        save_all(tmp_path / kind, x, y)
    else:
        np.savez(kind, x=x, y=y)
    assert cli.main(["run", kind, *TINY, "--batch-size", "21"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("letters: UnfoldedLSTMBlock untied, depth 2\n")
    assert "solved" not in out
    folder = tmp_path / "runs" / "letters-unfolded_lstm-untied-depth2-units1-seed0-1"
    run = runs.load(folder)
    assert run.config.task == str(tmp_path / kind)
    assert run.result["parameters"] == 16 * 4 + 1 * 4 + 2 * 4 + 1 * 3 + 3
    assert run.environment["data"] == get_task(kind).load(None).digest()
    assert len(os.listdir(folder / "filters")) == 2

    # The report needs the data no more; nor does the list.
    (tmp_path / kind).rename(tmp_path / "moved")
    monkeypatch.chdir("/")
    assert cli.main(["report", str(folder)]) == 0
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "letters: UnfoldedLSTMBlock untied, depth 2" in page
    assert f"Task letters: the data in &#39;{tmp_path / kind}&#39;." in page
    assert "solved" not in page
    assert "letters,UnfoldedLSTMBlock,2" in (folder / "table.csv").read_text()
    capsys.readouterr()
    assert cli.main(["list", "--runs-dir", str(tmp_path / "runs")]) == 0
    assert "  finished  letters  UnfoldedLSTMBlock untied" in capsys.readouterr().out
    assert cli.main(["run", str(tmp_path / kind), *TINY, "--runs-dir", str(tmp_path)]) == 4
    assert f"error: '{tmp_path / kind}' does not exist" in capsys.readouterr().err


@pytest.mark.usefixtures("eager")
def test_a_run_does_not_go_on_with_other_data(tmp_path):
    """Before the first checkpoint the data may still be mended."""
    x, y = gratings(10, shape=(16,))
    path = tmp_path / "a.npz"
    np.savez(path, x=x, y=y)
    model = ModelConfig("dense", depth=2, units=4)
    config = RunConfig(str(path), model, epochs=3, batch_size=8)

    def stop_after(epoch):
        def stop(row):
            if row["epoch"] == epoch:
                raise KeyboardInterrupt

        return stop

    folder, said = tmp_path / "run", []
    with pytest.raises(KeyboardInterrupt):
        train(config, folder, checkpoint_share=1, on_epoch=stop_after(2))
    began = runs.load(folder).environment
    np.savez(path, x=255 - x, y=y)
    with pytest.raises(runs.RunExistsError, match="The data of run 'run' have changed since it"):
        train(config, folder)
    assert runs.load(folder).environment == began
    np.savez(path, x=x, y=y)
    result = train(config, folder, on_message=said.append)
    assert (result["resumed_after_epochs"], said) == ([2], ["Run 'run' goes on after epoch 2 of 3"])

    np.savez(path, x=255 - x, y=y)
    mended = get_task(str(path)).load(None).digest()
    runs.begin(tmp_path / "b", config, data=began["data"])
    assert runs.load(tmp_path / "b").environment["data"] == began["data"]
    runs.begin(tmp_path / "b", config, data=mended)
    assert runs.load(tmp_path / "b").environment["data"] == mended


def test_list_of_tasks(capsys):
    assert cli.main(["list", "tasks"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["digits", "mnist", "fashion-mnist"]
    assert [line.split()[0] for line in lines[-2:]] == ["FILE.csv", "./FOLDER"]


def test_own_data_under_a_name(tmp_path):
    x, y = gratings(10)
    np.savez(tmp_path / "letters.npz", x=x, y=y)
    task = get_task(str(tmp_path / "letters.npz"))
    register(task)
    assert get_task("letters") is task
    assert RunConfig("letters").task == "letters"
    assert len(get_task("letters").load(None).test[0]) == 4
