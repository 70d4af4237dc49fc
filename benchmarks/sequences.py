"""The time to draw a batch of a sequence task, as a share of the time to train with it.

    python benchmarks/sequences.py [--output FOLDER]      (KERAS_BACKEND chooses the backend)

Batches of 8, Keras' LSTM with 16 units (UnfoldedLSTMBlock for parity): small, so that the training
step is as short as it gets in the studies.
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import pandas as pd
from measure import MACHINE, interleaved, ratio

from keras_deeplstm.experiments.settings.sequences import SequenceConfig, SequenceModelConfig
from keras_deeplstm.experiments.tasks.sequences import TASKS
from keras_deeplstm.experiments.training.examinations import inputs_of
from keras_deeplstm.experiments.training.sequences import design

BATCH = 8
ROUNDS = 30


def measure(name):
    block = "lstm" if TASKS[name]().steps else "unfolded_lstm"
    config = SequenceConfig(name, SequenceModelConfig(block, units=16), batch_size=BATCH)
    task = config.make_task()
    generator = np.random.default_rng(0)
    model = design(config, task)()
    model.compile("adam", "mse")

    def draw():
        batch = task.sample(generator, BATCH)
        return [inputs_of(batch), batch.y, *([] if batch.weight is None else [batch.weight])]

    some = draw()
    times = interleaved({"draw": draw, "train": lambda: model.train_on_batch(*some)}, ROUNDS)
    return {
        "backend": keras.backend.backend(),
        "task": name,
        "steps": task.steps or 0,
        "draw_ms": 1000 * float(np.median(times["draw"])),
        "train_ms": 1000 * float(np.median(times["train"])),
        "draw/train": ratio(times["draw"], times["train"]),
        "machine": MACHINE,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, help="folder for sequences-BACKEND.csv")
    arguments = parser.parse_args()
    # The series need data; drawing from them is an indexing like any other.
    table = pd.DataFrame([measure(name) for name in TASKS if name != "series"])
    print(table.to_string(index=False, float_format="{:.3g}".format))
    if arguments.output:
        file = arguments.output / f"sequences-{keras.backend.backend()}.csv"
        table.to_csv(file, index=False, float_format="%.4g")


if __name__ == "__main__":
    main()
