"""What the benchmarks share: timing side by side, tables, the peak of memory, the machine."""

import os
import platform
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

MACHINE = f"{platform.machine()}, {os.cpu_count()} cores"


def interleaved(functions, rounds, seconds=None, warm_up=2):
    """Seconds of each call of each function, measured side by side.

    Each round calls every function once, each time another one first, so that a machine that
    changes its speed changes it for all.

    Args:
        functions: Functions by name.
        rounds: Number of rounds.
        seconds: Stop after this time, but not before six rounds.
        warm_up: Rounds before, which are not measured.

    Returns:
        A list of seconds, one per round, by name.
    """
    times = {name: [] for name in functions}
    names = list(functions)
    begun = time.perf_counter()
    for number in range(rounds + warm_up):
        if seconds and number >= warm_up + 6 and time.perf_counter() - begun > seconds:
            break
        first = number % len(names)
        for name in names[first:] + names[:first]:
            started = time.perf_counter()
            functions[name]()
            if number >= warm_up:
                times[name].append(time.perf_counter() - started)
    return times


def ratio(times, other):
    """Median over the rounds of the time, divided by that of the other in the same round."""
    return statistics.median(a / b for a, b in zip(times, other, strict=True))


def write(rows, table, backend, jit, folder):
    """Print a table of what there is so far, and keep it in the folder, if there is one."""
    import pandas as pd  # not in the processes whose memory is measured

    frame = pd.DataFrame(rows)
    frame.insert(0, "jit_compile", jit)
    frame.insert(0, "backend", backend)
    frame["machine"] = MACHINE
    print(frame.round(3).to_string(index=False), flush=True)
    if folder:
        xla = "-xla" if jit and backend == "tensorflow" else ""
        frame.round(3).to_csv(folder / f"{table}-{backend}{xla}.csv", index=False)


DONE = "done\n"


class Elsewhere:
    """A function of another process, which works only while it is called.

    `script --serve ...` calls `serve` there.
    """

    def __init__(self, script, *arguments, **environment):
        self.process = subprocess.Popen(
            [sys.executable, script, "--serve", *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | environment,
        )

    def __call__(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        while (line := self.process.stdout.readline()) != DONE:  # what libraries print
            if not line:
                raise RuntimeError("The other process has ended")

    def end(self):
        self.process.communicate()


def serve(function):
    """Call `function` once for each line of the standard input."""
    for _ in sys.stdin:
        function()
        print(DONE, end="", flush=True)


def in_a_process(script, *arguments, limit=None):
    """The last line that another Python process prints; None if it fails or takes over `limit` s.

    What it measures is not touched by what this process has compiled or keeps in memory.
    """
    command = [sys.executable, script, *map(str, arguments)]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired:
        return None
    return ended.stdout.splitlines()[-1] if ended.returncode == 0 else None


def memory():
    """Memory of this process in MB."""
    return _status("VmRSS")


def peak_memory():
    """Peak of this process' memory in MB, since its begin or `forget_peak`.

    Not `ru_maxrss`: Linux hands that on from the parent process.
    """
    return _status("VmHWM")


def forget_peak():
    """Let the peak be what the memory is now."""
    Path("/proc/self/clear_refs").write_text("5")


def _status(what):
    status = Path("/proc/self/status").read_text()
    return int(re.search(rf"{what}:\s*(\d+) kB", status)[1]) / 1024
