"""Searches by `deeplstm search`: what pruning saves, and what further processes bring.

    python benchmarks/search.py pruning [--output FILE]
    python benchmarks/search.py processes [--output FILE]

`pruning`: the digits, depth 2 to 50, with TPE, once with hyperband and once without, three seeds
each. Epochs of training do not depend on the machine or its load. A search goes on where it was
interrupted, in `--runs-dir`.

`processes`: trials per minute of 1, 2 and 4 processes on one journal file and on one SQLite
database, on runs of two epochs of a small model, which leave most of their time to Python. Only the
time counts in which all processes are at work: neither their start nor their end.
"""

import argparse
import pathlib
import subprocess
import sys
import tempfile

import pandas as pd
from measure import MACHINE

from keras_deeplstm.experiments.search import trials

TRIALS, EPOCHS = 30, 27
SMALL = ["--depth", "2", "--dropout", "0", "--batch-size", "128", "--epochs", "2"]
RESULTS = pathlib.Path(__file__).parent / "results"


def search(runs_dir, name, *options):
    """Run a search, and return what its study has."""
    command = [sys.executable, "-m", "keras_deeplstm", "search", "digits", "--name", name]
    subprocess.run([*command, "--runs-dir", str(runs_dir), *options], check=True)
    return trials.study_in(pathlib.Path(runs_dir) / name)


def pruning(runs_dir):
    """A row for each search."""
    rows = []
    for seed in range(3):
        for pruner in ("none", "hyperband"):
            options = ["--trials", str(TRIALS), "--epochs", str(EPOCHS), "--seed", str(seed)]
            options += [] if pruner == "none" else ["--pruner", pruner]
            found = trials.read(search(runs_dir, f"pruning-{pruner}-seed{seed}", *options))
            scores = [trial.score for trial in found if trial.state == "finished"]
            rows.append({
                "task": "digits", "depth": "2..50", "sampler": "tpe", "pruner": pruner,
                "seed": seed, "trials": len(found),
                "pruned": sum(trial.state == "pruned" for trial in found),
                "epochs": sum(trial.result.epochs for trial in found),
                "lowest_validation_error": round(1 - max(scores), 4),
            })  # fmt: skip
    table = pd.DataFrame(rows)
    without = table[table["pruner"] == "none"].set_index("seed")["epochs"]
    table["share_of_epochs"] = (table["epochs"] / table["seed"].map(without)).round(3)
    return table


def processes(runs_dir):
    """A row for each number of processes and each storage."""
    rows = []
    for storage in ("journal", "sqlite"):
        for workers in (1, 2, 4):
            name = f"{storage}-{workers}"
            place = (
                f"sqlite:///{runs_dir}/all.db" if storage == "sqlite" else f"{runs_dir}/{name}.log"
            )
            study = search(
                runs_dir, name, "--sampler", "random", "--trials", str(8 + 8 * workers), *SMALL,
                "--workers", str(workers), "--storage", place,
            )  # fmt: skip
            rows.append({"storage": storage, "processes": workers, **_pace(study)})
    table = pd.DataFrame(rows)
    alone = table[table["processes"] == 1].set_index("storage")["trials_per_minute"]
    table["of_one_process"] = (table["trials_per_minute"] / table["storage"].map(alone)).round(2)
    return table


def _pace(study):
    found = study.get_trials(deepcopy=False)
    ends = {}
    for trial in found:
        times = ends.setdefault(trial.user_attrs["lease"]["token"], [])
        times.append(trial.datetime_complete)
    begin, end = max(map(min, ends.values())), min(map(max, ends.values()))
    counted = sum(begin < trial.datetime_complete <= end for trial in found)
    minutes = (end - begin).total_seconds() / 60
    return {"trials": counted, "trials_per_minute": round(counted / minutes, 1)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=["pruning", "processes"])
    parser.add_argument("--output", type=pathlib.Path)
    parser.add_argument("--runs-dir", type=pathlib.Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        table = globals()[options.what](options.runs_dir or temporary)
    table = table.assign(machine=MACHINE)
    output = options.output or RESULTS / f"search-{options.what}.csv"
    table.to_csv(output, index=False)
    print(table.to_string(index=False))


if __name__ == "__main__":
    main()
