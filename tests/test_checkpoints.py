import hashlib
import json
import resource
import signal

import numpy as np
import pytest

from keras_deeplstm.experiments.runs import checkpoints
from keras_deeplstm.experiments.runs.checkpoints import CheckpointError, newest, save

ARRAYS = {"model/0": np.arange(6.0).reshape(2, 3), "model/1": np.array([3, 2], "int64")}


def save_epochs(folder, *epochs):
    for epoch in epochs:
        save(folder, epoch, ARRAYS | {"epoch": np.array(epoch)}, {"rows": [{"loss": 0.1 + epoch}]})


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def test_round_trip_and_the_newest_two(tmp_path):
    folder = tmp_path / "checkpoints"
    assert newest(folder) == (None, [])
    save_epochs(folder, 1, 2, 10)
    checkpoint, damaged = newest(folder)
    assert (checkpoint.epoch, damaged) == (10, [])
    assert checkpoint.notes["rows"] == [{"loss": 10.1}]
    assert list(checkpoint.arrays) == ["model/0", "model/1", "epoch"]
    for name, array in ARRAYS.items():
        assert checkpoint.arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(checkpoint.arrays[name], array)
    assert [name[:10] for name in files(folder)] == ["epoch_0002", "epoch_0010"]


def truncate(path):
    path.write_bytes(path.read_bytes()[:-1])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def empty(path):
    path.write_bytes(b"")


def replace_by_a_folder(path):
    path.unlink()
    path.mkdir()


def replace_by_another(path):
    """An intact file of another training, which only its name gives away."""
    other = path.parent / "other"
    save(other, 2, {"model/0": np.zeros((2, 3))}, {})
    next(other.iterdir()).replace(path)
    other.rmdir()


DAMAGES = [truncate, flip, empty, replace_by_a_folder, replace_by_another]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_does_not_count(tmp_path, damage):
    """The newest intact one counts; the checksum in the name tells which are intact."""
    save_epochs(tmp_path, 1, 2)
    damage(next(tmp_path.glob("epoch_0002*")))
    checkpoint, damaged = newest(tmp_path)
    assert (checkpoint.epoch, damaged) == (1, [2])
    damage(next(tmp_path.glob("epoch_0001*")))
    with pytest.raises(CheckpointError, match=r"No intact checkpoint in .* of epochs: 2"):
        newest(tmp_path)
    assert len(files(tmp_path)) == 2  # nothing is deleted


def test_the_damaged_one_is_replaced_and_the_intact_one_stays(tmp_path):
    save_epochs(tmp_path, 1, 2)
    bad = next(tmp_path.glob("epoch_0002*"))
    empty(bad.rename(bad.with_name(f"epoch_0002-{'0' * 16}.npz")))
    save_epochs(tmp_path, 2)
    assert files(tmp_path)[1] == bad.name
    assert [newest(tmp_path)[0].epoch, len(files(tmp_path))] == [2, 2]


def test_a_deleted_checkpoint_is_not_missed(tmp_path):
    save_epochs(tmp_path, 1, 2)
    next(tmp_path.glob("epoch_0002*")).unlink()
    assert newest(tmp_path)[0].epoch == 1


def test_other_files_are_not_checkpoints(tmp_path):
    for name in (".epoch_0009-0123456789abcdef.1a2b3c4d.npz", "epoch_x.npz", "epoch_0009.npz"):
        (tmp_path / name).write_bytes(b"")
    assert newest(tmp_path) == (None, [])


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\5\6" + bytes(18)])
def test_a_file_with_the_right_name_that_is_no_checkpoint(tmp_path, content):
    name = f"epoch_0001-{hashlib.sha256(content).hexdigest()[:16]}.npz"
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match="1 damaged, of epochs: 1"):
        newest(tmp_path)


def test_a_newer_version_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "VERSION", 2)
    save_epochs(tmp_path, 1)
    monkeypatch.setattr(checkpoints, "VERSION", 1)
    with pytest.raises(CheckpointError, match=r"version 2, newer than .* supports \(1\). Upgrade"):
        newest(tmp_path)


def test_nothing_is_pickled(tmp_path):
    with pytest.raises(ValueError, match="allow_pickle"):
        save(tmp_path, 1, {"object": np.array([json], object)}, {})
    assert not list(tmp_path.iterdir())


@pytest.fixture
def disk_full():
    """A function that lets no file grow beyond some bytes, as a full disk does."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_leaves_what_is_there(tmp_path, disk_full):
    save_epochs(tmp_path, 1, 2)
    before = files(tmp_path)
    disk_full(300)
    with pytest.raises(OSError):
        save_epochs(tmp_path, 3)
    assert files(tmp_path) == before
    assert newest(tmp_path)[0].epoch == 2
