"""Speed of sampling: characters per second, beside one `model.predict` per character.

    python benchmarks/text.py [--output FILE]      (KERAS_BACKEND chooses the backend)

`model.predict` gets one character and the states of the time before: the cheapest that it can be
asked for. Both are measured by turns in one process. A call of the sampler draws 64 characters.
"""

import argparse
import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import pandas as pd
from measure import MACHINE, interleaved, ratio

from keras_deeplstm import models
from keras_deeplstm.states import with_states
from keras_deeplstm.text import AT_ONCE, Sampler, Vocabulary

VOCABULARY = Vocabulary("".join(map(chr, range(32, 97))))  # 65 symbols, as tinyshakespeare has


def measure(block, depth, units, rounds):
    keras.utils.set_random_seed(0)
    model = models.character_language_model(len(VOCABULARY), block, depth=depth, units=units)
    step = with_states(model)
    inputs = [np.zeros((1, 1), "int32")]
    inputs += [np.zeros((1, *state.shape[1:]), "float32") for state in step.inputs[1:]]
    started = time.perf_counter()
    text = Sampler(model, VOCABULARY).stream(seed=0)
    next(text)
    first = time.perf_counter() - started
    times = interleaved(
        {
            "sampler": lambda: next(text),
            "predict": lambda: step.predict(inputs, verbose=0),
        },
        rounds,
    )
    return {
        "backend": keras.backend.backend(),
        "block": block,
        "depth": depth,
        "units": units,
        "first_call_s": first,
        "characters_per_s": AT_ONCE / statistics.median(times["sampler"]),
        "predict_ms": 1000 * statistics.median(times["predict"]),
        "times_as_fast": AT_ONCE * ratio(times["predict"], times["sampler"]),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", help="CSV file for the table")
    parser.add_argument("--depth", type=int, default=2)
    parser.add_argument("--units", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=50)
    arguments = parser.parse_args()
    rows = []
    for block in models.SEQUENCE_BLOCKS:
        rows.append(measure(block, arguments.depth, arguments.units, arguments.rounds))
        print(rows[-1], flush=True)
    table = pd.DataFrame(rows)
    table["machine"] = MACHINE
    if arguments.output:
        table.round(3).to_csv(arguments.output, index=False)


if __name__ == "__main__":
    main()
