"""Rule 110: a step of computation that is repeated, learned from its first repetitions.

Sixteen cells on a ring are on or off. At each step a cell is on unless it, its left and its right
neighbor are all on, or it and its right neighbor are off (Wolfram's rule 110, which is universal:
Cook, Complex Systems 15, 2004). A model gets the cells, -1 or 1, and is to say at each of its steps
over depth which are on: at the first one as it got them, then one step of the rule further. It
learns from the first 8 steps alone and is judged at its last one, with states of the cells that it
has not seen. In `rule-110-recall` it must say, at each step, also how the cells began.
"""

import functools
from pathlib import Path

import numpy as np

from keras_deeplstm.experiments.tasks.measures import Measure
from keras_deeplstm.experiments.tasks.task import Splits, Task

CELLS = 16
TRAINED, STEPS = 8, 32  # steps that are learned from, and the most that a model may have
EXAMPLES = (20_000, 1_000, 1_000)  # different ones, for training, validation and test
SEED = 110


def following(cells: np.ndarray) -> np.ndarray:
    """The next state of cells `(..., cells)`, integers 0 or 1.

    Example:

    >>> import numpy as np
    >>> from keras_deeplstm.experiments.tasks.automata import following
    >>> following(np.array([0, 0, 0, 1, 0, 1, 1, 1])).tolist()
    [0, 0, 1, 1, 1, 1, 0, 1]
    """
    left, right = np.roll(cells, 1, axis=-1), np.roll(cells, -1, axis=-1)
    return (cells | right) & ~(left & cells & right) & 1


def load(recall: bool, data_dir: Path | None = None) -> Splits:
    """Return the splits: x `(n, 16)`, and y `(n, 32, 16)`, with `recall` `(n, 32, 32)`."""
    # Registers the loss and the metric; here, because the command's help does not wait for Keras.
    from keras_deeplstm.experiments.tasks import each_step  # noqa: F401

    drawn = np.random.default_rng(SEED).permutation(2**CELLS)[: sum(EXAMPLES)]
    first = drawn[:, None] >> np.arange(CELLS) & 1
    states = [first]
    while len(states) < STEPS:
        states.append(following(states[-1]))
    y = np.stack(states, axis=1)
    if recall:
        y = np.concatenate([y, np.broadcast_to(first[:, None], y.shape)], axis=-1)
    x, y = (2 * first - 1).astype("float32"), y.astype("float32")
    ends = np.cumsum(EXAMPLES)[:-1]
    train, validation, test = zip(np.split(x, ends), np.split(y, ends), strict=True)
    return Splits(train, validation, test)


def _task(name, description, recall):
    return Task(
        name=name,
        description=description,
        input_shape=(CELLS,),
        num_classes=2 * CELLS if recall else CELLS,
        load=functools.partial(load, recall),
        criterion=0.99,
        loss=_object("FirstSteps", steps=TRAINED),
        metric=Measure(
            "exact_match", "max", ".1%", _object("ExactMatchAtLastStep", name="exact_match")
        ),
        remark=f"A model with --model.each-step learns from {TRAINED} of at most {STEPS} steps",
    )


def _object(kind, **config):
    """An object of a class of `each_step`, as Keras writes it."""
    return {
        "module": "keras_deeplstm.experiments.tasks.each_step",
        "class_name": kind,
        "config": config,
        "registered_name": f"keras_deeplstm>{kind}",
    }


rule_110 = _task("rule-110", "which of 16 cells are on after n steps of rule 110", False)
rule_110_recall = _task("rule-110-recall", "the same, and which were on at first", True)
