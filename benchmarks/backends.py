"""Training on the tasks of the sequence studies: TensorFlow beside JAX.

    python benchmarks/backends.py [--output FILE]

A run of each of the studies named below trains in a process of its own on TensorFlow, then on JAX,
and so on by turns. Timed are its parts with their evaluations, as `deeplstm solve` does both; the
first part, which compiles, is told apart. Both compile with XLA (`jit_compile`).
"""

import argparse
import dataclasses
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import pandas as pd
from measure import MACHINE, in_a_process, ratio

BACKENDS = ("tensorflow", "jax")
ROUNDS = 3
PARTS = 4
# Study, the begin of the run's name, and sequences of a part.
RUNS = [
    ("hochreiter-1997", "adding-lstm", 800),
    ("hochreiter-1997", "adding-grid_lstm", 800),
    ("algorithms", "addition-digits-3-lstm", 3_000),
    ("algorithms", "addition-digits-3-grid_lstm-tied", 3_000),
    ("parity", "parity-bits-16-curriculum-true-unfolded_lstm-tied", 32_000),
]


def train(study, begin, sequences):
    """Print the seconds of the first part, and the sequences per second of the others."""
    from keras_deeplstm.experiments.studies import STUDIES
    from keras_deeplstm.experiments.training import train

    plan = STUDIES[study].plan()
    (config,) = (config for name, config in plan.items() if name.startswith(begin))
    config = dataclasses.replace(
        config, sequences=PARTS * sequences, evaluate_every=sequences, full=True
    )
    ends = [time.perf_counter()]
    with tempfile.TemporaryDirectory() as folder:
        train(config, Path(folder) / "run", on_epoch=lambda row: ends.append(time.perf_counter()))
    print(json.dumps([ends[1] - ends[0], (PARTS - 1) * sequences / (ends[-1] - ends[1])]))


def measure(study, begin, sequences):
    found = {backend: [] for backend in BACKENDS}
    for number in range(ROUNDS):
        for backend in BACKENDS if number % 2 else BACKENDS[::-1]:
            os.environ["KERAS_BACKEND"] = backend
            said = in_a_process(__file__, "--train", study, begin, sequences)
            found[backend].append(json.loads(said))
    row = {"study": study, "run": begin}
    for backend in BACKENDS:
        first, rates = zip(*found[backend], strict=True)
        row[f"first_part_s_{backend}"] = statistics.median(first)
        row[f"sequences_per_s_{backend}"] = statistics.median(rates)
    rates = [[rate for _, rate in found[backend]] for backend in reversed(BACKENDS)]
    return {**row, "jax/tensorflow": ratio(*rates), "machine": MACHINE}


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, help="write a table as CSV")
    parser.add_argument("--train", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.train:
        study, begin, sequences = arguments.train
        train(study, begin, int(sequences))
        sys.exit()
    table = pd.DataFrame([measure(*run) for run in RUNS])
    print(table.to_string(index=False, float_format="{:.3g}".format))
    if arguments.output:
        table.to_csv(arguments.output, index=False, float_format="%.4g")


if __name__ == "__main__":
    main()
