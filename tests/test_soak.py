"""A study, over and over, killed every few minutes. SOAK_MINUTES says how long, default 120."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time

import psutil
import pytest
from golden import assert_same

from keras_deeplstm.experiments import runs

pytestmark = pytest.mark.soak

MINUTES = float(os.environ.get("SOAK_MINUTES", "120"))
BETWEEN_KILLS = (30, 240)  # seconds
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


def start(folder):
    """The study `depth` with three seeds, in a process like that of a user, in `folder`.

    Each run records the command, which is the same wherever it is typed.
    """
    folder.mkdir(exist_ok=True)
    code = (
        "import signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell may ignore it
        "sys.argv[0] = 'deeplstm'\n"
        "from keras_deeplstm.experiments.cli import main\n"
        "sys.exit(main())\n"
    )
    arguments = ["study", "depth", "--seeds", "3"]
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": ROOT},
    )


def size(folder):
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def all_gone(processes):
    _, alive = psutil.wait_procs(processes, timeout=30)
    return not alive


def test_a_study_that_is_killed_every_few_minutes(tmp_path):
    process = start(tmp_path / "reference")
    assert (process.wait(), process.stderr.read()) == (0, "")
    (reference,) = (tmp_path / "reference" / "runs").iterdir()
    names = sorted(run.name for run in runs.find(reference))

    generator, ends = random.Random(0), time.monotonic() + 60 * MINUTES
    rounds = kills = 0
    # On a slow machine the time may be over before one study is whole: that one is then left alone.
    while time.monotonic() < ends or not rounds:
        process = start(tmp_path / "killed")
        try:
            over = time.monotonic() >= ends
            process.wait(None if over else generator.uniform(*BETWEEN_KILLS))
        except subprocess.TimeoutExpired:
            family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(True)]
            process.send_signal(generator.choice(SIGNALS))
            process.communicate()
            assert all_gone(family)
            kills += 1
            continue
        error = process.stderr.read()
        assert process.returncode == 0, error
        (folder,) = (tmp_path / "killed" / "runs").iterdir()
        assert sorted(run.name for run in runs.find(folder)) == names
        for name in names:
            assert_same(folder / name, reference / name)
        hidden = [path for path in folder.rglob(".*") if path.name != runs.LOCK]
        assert not hidden
        assert size(folder) == pytest.approx(size(reference), rel=0.05)
        shutil.rmtree(folder)
        rounds += 1
        left = (ends - time.monotonic()) / 60
        print(f"\n{rounds} studies of {len(names)} runs, {kills} kills, {left:.0f} minutes left")
    assert kills
