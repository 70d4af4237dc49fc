"""The disk fails, or the process is killed, at each moment at which something is written.

The long tests take every moment, the others a sample.
"""

import dataclasses
import functools
import gc
import hashlib
import http.server
import itertools
import multiprocessing
import re
import shutil
import threading
import time

import pytest
import worker_calls
from faults import error_at, full_disk_at, moments
from finished_runs import make_run
from golden import assert_same
from search_training import Training, told

from keras_deeplstm.experiments import runs
from keras_deeplstm.experiments.reports.page import write_report
from keras_deeplstm.experiments.reports.publish import publish
from keras_deeplstm.experiments.runs import checkpoints, files
from keras_deeplstm.experiments.search import tuner as tuner_module
from keras_deeplstm.experiments.search.config import SearchConfig
from keras_deeplstm.experiments.search.tuner import search_in
from keras_deeplstm.experiments.settings.classifiers import ModelConfig, RunConfig
from keras_deeplstm.experiments.settings.sequences import SequenceConfig, SequenceModelConfig
from keras_deeplstm.experiments.settings.text import TextConfig, TextModelConfig
from keras_deeplstm.experiments.tasks import DataError
from keras_deeplstm.experiments.tasks.text import sources
from keras_deeplstm.experiments.training import train
from keras_deeplstm.experiments.training import train as train_on_sequences
from keras_deeplstm.experiments.training import train as train_on_text

pytestmark = pytest.mark.usefixtures("any_memory")

IMAGES = RunConfig(
    "digits", ModelConfig(depth=2, units=4, dropout=0.2), epochs=3, batch_size=600, gradient_every=2
)
SEQUENCES = SequenceConfig(
    "parity",
    SequenceModelConfig("dense", depth=1, units=4),
    batch_size=16,
    sequences=256,
    evaluate_every=64,
    full=True,
)
TEXT = TextModelConfig("lstm", depth=1, units=4)


def long(*values):
    return pytest.param(*values, marks=pytest.mark.long)


# What is trained, and of how many moments one is tried.
ALL = [long("image", 1), long("sequence", 1), long("text", 1)]


@pytest.fixture
def work_in(tmp_path):
    """Gives, for a kind of run, a function that trains one in a folder, or goes on with it."""
    return functools.partial(work_of, tmp_path=tmp_path)


@pytest.fixture
def work(kind, work_in, request):
    """Such a function for the kind that the test is about."""
    if kind == "sequence":  # the others have so many steps that it pays to compile them
        request.getfixturevalue("eager")
    return work_in(kind)


def work_of(kind, tmp_path):
    if kind == "image":
        function, config = train, IMAGES
    elif kind == "sequence":
        function, config = train_on_sequences, SEQUENCES
    else:
        path = tmp_path / "numbers.txt"
        path.write_text("".join(f"{n} and {n} make {n + n}.\n" for n in range(90)))
        function = train_on_text
        config = TextConfig(
            str(path), TEXT, epochs=2, batch_size=4, sequence_length=10,
            evaluate_every=20, report_every=10, sample_length=10,
        )  # fmt: skip

    def train_in(folder):
        function(config, folder, checkpoint_share=1, on_message=lambda text: None)
        # TensorFlow keeps much of each model. Keras collects garbage before each run; with what a
        # hundred runs have left, that would take longer than the run.
        gc.collect()
        gc.freeze()
        return folder

    return train_in


@pytest.fixture
def reference(work, tmp_path):
    """A run that nothing disturbs."""
    return work(tmp_path / "run")


def safe_epoch(folder):
    """The last one that a checkpoint holds."""
    found, _ = checkpoints.newest(folder / "checkpoints")
    return found.epoch if found else 0


# Runs.


@pytest.mark.parametrize(("kind", "share"), [("sequence", 23), *ALL])
def test_killed_at_each_moment(work, share, tmp_path):
    """From whatever a kill leaves, the run ends as if nothing had happened."""
    folder = tmp_path / "run"
    left = moments(folder, tmp_path / "left", lambda: work(folder))
    assert len(left) > 40
    assert max(map(safe_epoch, left)) >= 3
    for copy in left[::share]:
        state, epoch = runs.load(copy).state, safe_epoch(copy)
        assert_same(work(copy), folder)
        if state != "finished" and epoch:  # then it did not begin anew
            result = runs.load(copy).result
            assert any(name.startswith("resumed_after") and result[name] for name in result)


@pytest.mark.parametrize(("kind", "share"), [("sequence", 97), *ALL])
@pytest.mark.parametrize("fault", [full_disk_at, long(error_at)])
def test_an_error_at_each_moment(work, reference, fault, share, tmp_path):
    """The error is told, what was safe stays, and the run can go on."""
    for number in itertools.count(share, share):
        folder = tmp_path / f"run{number}"
        with fault(folder, number) as happened:
            try:
                work(folder)
                told = None
            except OSError as error:
                told = error
        if not happened:
            break
        state = runs.load(folder).state if folder.exists() else "damaged"
        assert told or state == "finished", happened
        if state != "finished" and (folder / "metrics.csv").exists():
            epochs = len(runs.load(folder).metrics)
            assert safe_epoch(folder) >= epochs - 1, happened
        assert_same(work(folder), reference)
    assert number > 50


def test_a_folder_that_is_deleted_while_it_is_trained(tmp_path):
    """The error names the file, and no folder with half of a run is left."""
    folder = tmp_path / "run"

    def delete(row):
        shutil.rmtree(folder)

    with pytest.raises(FileNotFoundError, match=re.escape(str(folder))):
        train_on_sequences(SEQUENCES, folder, checkpoint_share=1, on_epoch=delete)
    assert not folder.exists()


def test_a_lock_that_a_dead_process_has_left(tmp_path):
    """The kernel knows who lives; what is written in the file does not count."""
    folder = tmp_path / "run"
    runs.begin(folder, SEQUENCES)
    (folder / runs.LOCK).write_text("1")  # the number of a process that always lives
    assert runs.load(folder).state == "created"
    with runs.lock(folder):
        assert runs.load(folder).state == "running"
        with pytest.raises(runs.RunExistsError, match="in use by another process"):
            runs.check_usable(folder, SEQUENCES)


@pytest.mark.long
def test_a_hundred_starts_at_the_same_moment(tmp_path):
    """One of three processes has the run, each time."""
    context = multiprocessing.get_context("spawn")
    barrier, answers = context.Barrier(3), context.Queue()
    arguments = (tmp_path, 100, barrier, answers)
    processes = [context.Process(target=worker_calls.compete, args=arguments) for _ in range(3)]
    for process in processes:
        process.start()
    won = [answers.get() for _ in processes]
    for process in processes:
        process.join()
    assert sorted(number for some in won for number in some) == list(range(100))


def test_a_clock_that_jumps(work_in, tmp_path, monkeypatch):
    """The clock goes back a day after each look; durations do not come from it."""
    now = itertools.count(time.time(), -86_400)
    monkeypatch.setattr(time, "time", lambda: next(now))
    folder = work_in("sequence")(tmp_path / "run")
    metrics = runs.load(folder).metrics
    assert (metrics["seconds"] >= 0).all()
    assert 0 < runs.load(folder).result["seconds"] < 3600


# Searches.

SEARCH = SearchConfig(
    "digits", sampler="random", trials=5, depth="2..6", units="4,8", dropout="0", batch_size="64"
)


@pytest.mark.parametrize("share", [41, long(1)])
@pytest.mark.parametrize("fault", [full_disk_at, long(error_at)])
def test_a_search_whose_disk_fails_at_each_moment(fault, share, tmp_path, monkeypatch):
    """The trial fails, or the search ends; it goes on to the same trials."""
    monkeypatch.setattr(tuner_module, "train", Training())

    def search(folder):
        folder.mkdir(exist_ok=True)
        for lock in folder.glob("study.log.lock*"):  # of which Optuna waits for the end
            lock.unlink()
        search_in(SEARCH, folder, str(folder / "study.log"), "a")
        return told(folder, "a")

    expected = search(tmp_path / "golden")
    for number in itertools.count(share, share):
        folder = tmp_path / f"search{number}"
        with fault(folder, number) as happened:
            try:
                search(folder)
                ended = True
            except (OSError, RuntimeError):  # the latter of a lock that could not be given back
                ended = False
        if not happened:
            break
        found = search(folder)
        for before, trial in zip(expected, found, strict=True):
            # A run that cannot write its files is no result, but it does not end the search.
            if trial != before:
                assert ended and trial[2] == "failed" and trial[:2] == before[:2], happened
    assert number > 40


# Reports.


@pytest.mark.usefixtures("quick_pictures")
@pytest.mark.parametrize("share", [61, long(1)])
def test_a_report_is_the_old_one_or_the_new_one(share, tmp_path):
    """A kill or an error at any moment leaves whole pages, of results as well."""
    study = tmp_path / "depth-limit-digits"
    study.mkdir()
    make_run(study / "one", ModelConfig(depth=10))
    names = {"study": "depth-limit", "command": "", "runs": ["one", "two"]}
    files.write_json(study / "study.json", names)
    page = tmp_path / "docs" / f"{study.name}.md"

    def write():
        write_report([study])
        publish([study], tmp_path / "tables", page.parent)

    def pages():
        return {path: path.read_text() for path in (study / "report.html", page)}

    write()
    old = pages()
    make_run(study / "two", ModelConfig(depth=30), accuracy=0.95)
    left = moments(tmp_path, tmp_path.with_name(f"{tmp_path.name}-left"), write)
    new = pages()
    assert len(left) > 20
    assert all(old[path] != new[path] for path in old)
    seen = set()
    for copy in left:
        for number, path in enumerate(old):
            text = (copy / path.relative_to(tmp_path)).read_text()
            assert text in (old[path], new[path])
            seen.add((number, text == new[path]))
            pictures = re.findall(r"^!.*\]\((.*?)\)$", text, re.MULTILINE)
            assert all((copy / "docs" / name).exists() for name in pictures)
    assert len(seen) == 4

    for path, text in old.items():
        path.write_text(text)
    for number in itertools.count(share, share):
        with error_at(tmp_path, number) as happened:
            try:
                write()
            except OSError:
                assert all(text in (old[p], new[p]) for p, text in pages().items())
        if not happened:
            break
    assert pages() == new


# Downloads.


def test_a_download_that_breaks_off(tmp_path, monkeypatch):
    """Whatever a download left before, the next call has the whole file, or an error."""
    content = b"To be, or not to be, that is the question. " * 100
    digest = hashlib.sha256(content).hexdigest()
    answers = iter([(200, content[: len(content) // 2]), (200, content[::-1]), (404, b"")])

    class Server(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            status, body = next(answers, (200, content))
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments):
            pass

    monkeypatch.setattr("keras.src.utils.file_utils.config.keras_home", lambda: tmp_path)
    monkeypatch.delenv("DEEPLSTM_DATA", raising=False)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        corpus = dataclasses.replace(
            sources.CORPORA["tinyshakespeare"],
            url=f"http://127.0.0.1:{server.server_port}/input.txt",
            sha256=digest,
            size=len(content),
        )
        monkeypatch.setitem(sources.CORPORA, "tinyshakespeare", corpus)
        for _ in range(2):
            with pytest.raises(DataError, match="could not be downloaded"):
                sources.load("tinyshakespeare")
        assert sources.load("tinyshakespeare").encode() == content
        # Killed in the middle: the half of a file lies where Keras looks for the whole.
        (path,) = (path for path in tmp_path.rglob("*") if path.is_file())
        path.write_bytes(content[:999])
        assert sources.load("tinyshakespeare").encode() == content
        server.shutdown()
    assert sources.load("tinyshakespeare").encode() == content  # from the cache
