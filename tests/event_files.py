"""What TensorBoard finds in a folder."""

import numpy as np
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util.tensor_util import make_ndarray


def scalars(folder):
    """Of each tag the list of `(step, value)`, as often as they were written."""
    events = EventAccumulator(str(folder), size_guidance={"tensors": 0}).Reload()
    found = {tag: events.Tensors(tag) for tag in events.Tags()["tensors"]}
    numbers = {
        tag: [(e.step, make_ndarray(e.tensor_proto)) for e in es] for tag, es in found.items()
    }
    return {
        tag: [(step, float(value)) for step, value in pairs]
        for tag, pairs in numbers.items()
        if all(value.ndim == 0 for _, value in pairs)  # not histograms
    }


def assert_metrics(folder, metrics, counted):
    """Raise unless the scalars are the numbers of `metrics.csv`, each once; return the others."""
    found = scalars(folder)
    for name in metrics.dropna(axis=1, how="all").columns.drop(counted):
        rows = metrics[[counted, name]].dropna()
        assert found.pop(name) == [
            (step, float(np.float32(value))) for step, value in rows.itertuples(index=False)
        ]
    assert counted not in found
    return found
