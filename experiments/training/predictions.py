"""What a trained model says of the test data, for pictures of where it is wrong."""

import keras
import numpy as np
import pandas as pd

from keras_deeplstm.experiments.runs import files
from keras_deeplstm.experiments.tasks.task import holds_classes

AT_ONCE = 250  # examples
OUTPUTS, EXAMPLES = 4, 1000  # of a regression, that are written


def write(model, data, measure, folder) -> None:
    """Write `confusion.csv` of a task of classes, `predictions.csv` of one of numbers.

    Of a task with a target for each step it is `steps.csv`, with the metric of each.
    """
    x, y = data.test
    outputs = _outputs(model, x)
    if outputs.ndim > 2:
        name, table = "steps.csv", _by_step(y, outputs, measure)
    elif holds_classes(y) and outputs.shape[1] > 1:
        name, table = "confusion.csv", _confusion(y, outputs.argmax(axis=1), data.classes)
    else:
        name, table = "predictions.csv", _predictions(y.reshape(len(y), -1), outputs)
    files.write_text(folder / name, table.to_csv(index=False, float_format="%.5g"))


def _outputs(model, x):
    # Step by step: to compile a function that is used once takes longer.
    parts = (x[begin : begin + AT_ONCE] for begin in range(0, len(x), AT_ONCE))
    return np.concatenate(
        [keras.ops.convert_to_numpy(model(part, training=False)) for part in parts]
    )


def _by_step(y, outputs, measure):
    """The metric of each step alone, from 1."""
    rows = []
    for step in range(outputs.shape[1]):
        metric = measure.make()
        metric.update_state(y[:, step : step + 1], outputs[:, step : step + 1])
        rows.append((step + 1, float(metric.result())))
    return pd.DataFrame(rows, columns=["step", "value"])


def _confusion(true, predicted, names):
    """How many examples of a class were taken for which one; rows for those that there are."""
    pairs, counts = np.unique(np.stack([true, predicted], axis=1), axis=0, return_counts=True)
    said = [[names[number] if names else number for number in pair] for pair in pairs]
    return pd.DataFrame(said, columns=["true", "predicted"]).assign(count=counts)


def _predictions(true, predicted):
    """The first examples, and of these the first outputs, numbered from 1."""
    pairs = zip(true[:EXAMPLES].T[:OUTPUTS], predicted[:EXAMPLES].T, strict=False)
    frames = [
        pd.DataFrame({"output": number, "true": numbers, "predicted": told})
        for number, (numbers, told) in enumerate(pairs, 1)
    ]
    return pd.concat(frames)
