"""Speed of character language models: of sampling, and of training and evaluation.

    python benchmarks/text.py [--tables sampling training] [--output FOLDER]

KERAS_BACKEND chooses the backend. Sampling stands beside one `model.predict` per character, which
gets one character and the states of the time before: the cheapest that it can be asked for; a call
of the sampler draws 64 characters. Training and evaluation of a grid, as `deeplstm train-text` does
them, stand beside stacks of `keras.layers.LSTM` with as many parameters and, on torch, of
`torch.nn.LSTM`; `ratio` is the contender's time divided by that of the grid. All that stands beside
each other is measured by turns in one process.
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
from keras_deeplstm.experiments.training.text import trained_model
from keras_deeplstm.states import with_states
from keras_deeplstm.text import AT_ONCE, Sampler, Vocabulary

VOCABULARY = Vocabulary("".join(map(chr, range(32, 97))))  # 65 symbols, as tinyshakespeare has


BATCH, LENGTH = 50, 50
GRID_UNITS, STACK_UNITS = 128, 181  # layers of equally many weights: 16 * 128**2 = 8 * 181**2


def sampling(block, depth, units, rounds):
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


def calls(block, depth, units):
    """A function that trains one step, one that evaluates one, and the number of parameters."""
    keras.utils.set_random_seed(0)
    model = models.character_language_model(len(VOCABULARY), block, depth=depth, units=units)
    trained, _ = trained_model(model, BATCH)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    trained.compile(keras.optimizers.Adam(2e-3, clipnorm=1.0), loss)
    codes = np.random.default_rng(0).integers(0, len(VOCABULARY), (2, BATCH, LENGTH))
    batch = (codes[0].astype("int32"), np.zeros(BATCH, bool)), codes[1].astype("int32")
    return (
        lambda: trained.train_on_batch(*batch),
        lambda: trained.test_on_batch(*batch),
        model.count_params(),
    )


def torch_calls(depth, units):
    """The same with `torch.nn.LSTM`."""
    import torch

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = torch.nn.Embedding(len(VOCABULARY), units)
            self.lstm = torch.nn.LSTM(units, units, depth, batch_first=True)
            self.readout = torch.nn.Linear(units, len(VOCABULARY))

        def forward(self, codes, states):
            hidden, states = self.lstm(self.embedding(codes), states)
            return self.readout(hidden), states

    torch.manual_seed(0)
    model = Model()
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    x, y = torch.randint(0, len(VOCABULARY), (2, BATCH, LENGTH))
    held = [torch.zeros(depth, BATCH, units) for _ in range(2)]

    def loss():
        logits, states = model(x, tuple(held))
        held[:] = [state.detach() for state in states]
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), y.flatten())

    def train():
        optimizer.zero_grad()
        value = loss()
        value.backward()
        for parameter in model.parameters():
            torch.nn.utils.clip_grad_norm_(parameter, 1.0)
        optimizer.step()
        return value.item()

    def evaluate():
        with torch.no_grad():
            return loss().item()

    return train, evaluate, sum(parameter.numel() for parameter in model.parameters())


def training(depth, rounds):
    """Rows of all contenders with equal numbers of parameters."""
    contenders = {
        "GridLSTM2D": calls("grid_lstm", depth, GRID_UNITS),
        "keras.layers.LSTM": calls("lstm", depth, STACK_UNITS),
    }
    if keras.backend.backend() == "torch":
        contenders["torch.nn.LSTM"] = torch_calls(depth, STACK_UNITS)
    train = interleaved({name: found[0] for name, found in contenders.items()}, rounds)
    evaluate = interleaved({name: found[1] for name, found in contenders.items()}, rounds)
    return [
        {
            "backend": keras.backend.backend(),
            "contender": name,
            "depth": depth,
            "parameters": parameters,
            "trained_characters_per_s": BATCH * LENGTH / statistics.median(train[name]),
            "training_ratio": ratio(train[name], train["GridLSTM2D"]),
            "evaluated_characters_per_s": BATCH * LENGTH / statistics.median(evaluate[name]),
            "evaluation_ratio": ratio(evaluate[name], evaluate["GridLSTM2D"]),
        }
        for name, (_, _, parameters) in contenders.items()
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tables", nargs="+", default=["sampling", "training"])
    parser.add_argument("--output", help="folder for the tables")
    parser.add_argument("--rounds", type=int, default=50)
    arguments = parser.parse_args()
    tables = {}
    if "sampling" in arguments.tables:
        blocks = models.SEQUENCE_BLOCKS
        tables["text"] = [sampling(block, 2, 128, arguments.rounds) for block in blocks]
    if "training" in arguments.tables:
        tables["text-training"] = [
            row for depth in (3, 6) for row in training(depth, arguments.rounds)
        ]
    for name, rows in tables.items():
        table = pd.DataFrame(rows)
        table["machine"] = MACHINE
        print(table.to_string())
        if arguments.output:
            file = f"{name}-{keras.backend.backend()}.csv"
            table.round(3).to_csv(os.path.join(arguments.output, file), index=False)


if __name__ == "__main__":
    main()
