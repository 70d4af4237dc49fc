"""`log=` of GradientFlow and SignalFlow: what becomes of each recorded step, sink by sink."""

import json
import math
import sqlite3
import struct

import keras
import numpy as np
import pandas as pd
import pytest
from event_files import scalars

from keras_deeplstm import models
from keras_deeplstm.callbacks import GradientFlow, SignalFlow
from keras_deeplstm.callbacks.step_recorder import by_step

X, Y = np.linspace(-1, 1, 24, dtype="float32").reshape(6, 4), np.arange(6) % 3
TAG = "gradient_norm/block/recurrent_kernel/depth_002"
KINDS = {"gradients": GradientFlow, "signals": lambda **options: SignalFlow(X, **options)}


def build():
    model = models.classifier((4,), 3, depth=3, units=2)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def fit(model, *callbacks, x=X, epochs=1):
    """Three steps an epoch."""
    model.fit(
        x, Y, batch_size=2, epochs=epochs, shuffle=False, verbose=0, callbacks=list(callbacks)
    )


class Sink(list):
    """A list as a sink; an empty one is as good as any."""

    def __call__(self, values, step):
        self.append((step, values))

    @property
    def steps(self):
        return [step for step, _ in self]


def norms(flow):
    """The frame of what is looked for in the sinks: `(step, value)`."""
    frame = flow.to_frame()
    kernel = (frame.weight == "recurrent_kernel") & (frame.depth == 2)
    return list(frame[kernel][["step", "value"]].itertuples(index=False, name=None))


def test_tags():
    """Literal frames; what is not finite is passed on."""
    columns = ["step", "layer", "weight", "depth", "statistic", "value"]
    rows = [
        (7, "block", "kernel", np.nan, "norm", 0.5),
        (7, "block", "recurrent_kernel", 2.0, "max_abs", math.inf),
        (12, "outer/dense", "bias", np.nan, "norm", math.nan),
    ]
    found = list(by_step(pd.DataFrame(rows, columns=columns)))
    first = {
        "gradient_norm/block/kernel": 0.5,
        "gradient_max_abs/block/recurrent_kernel/depth_002": math.inf,
    }
    assert found[0] == (7, first)
    assert found[1][0] == 12 and math.isnan(found[1][1]["gradient_norm/outer/dense/bias"])
    columns = ["step", "layer", "signal", "direction", "depth", "statistic", "value"]
    rows = [
        (3, "grid", "f", "time", 1.0, "open", 1.0),
        (3, "grid", "output", np.nan, np.nan, "norm", 2.0),
    ]
    signals = {"signal_open/grid/f/time_001": 1.0, "signal_norm/grid/output": 2.0}
    assert list(by_step(pd.DataFrame(rows, columns=columns))) == [(3, signals)]


@pytest.mark.backends
@pytest.mark.usefixtures("eager")
def test_each_recorded_step_is_logged_once(tmp_path):
    flows, sinks = {}, {kind: Sink() for kind in KINDS}
    for kind, make in KINDS.items():
        flows[kind] = make(log=sinks[kind], tensorboard=tmp_path / kind)
    seen = []

    def look(batch, logs):
        seen.append([len(sink) for sink in sinks.values()])
        flows["gradients"].to_frame()  # to ask in between takes no step away from the sinks

    model = build()
    fit(model, *flows.values(), keras.callbacks.LambdaCallback(on_train_batch_end=look), epochs=2)
    assert seen == [[0, 0]] * 3 + [[3, 3]] * 3  # at the end of an epoch, and not before
    for kind, flow in flows.items():
        assert sinks[kind].steps == [1, 2, 3, 4, 5, 6]
        logged = [value for _, values in sinks[kind] for value in values.values()]
        assert {type(value) for value in logged} == {float}
        assert logged == flow.to_frame().value.tolist()
        # TensorBoard holds the same numbers in single precision.
        events = scalars(tmp_path / kind)
        assert set(events) == set(sinks[kind][0][1])
        for tag, values in events.items():
            single = [(step, float(np.float32(values[tag]))) for step, values in sinks[kind]]
            assert values == single
    found = [(step, values[TAG]) for step, values in sinks["gradients"]]
    assert found == norms(flows["gradients"])

    # A second fit goes on, and so does a copy that was restored in between.
    states = {kind: flow.get_state() for kind, flow in flows.items()}
    later = {kind: Sink() for kind in KINDS}
    copies = [make(every=2, log=later[kind]) for kind, make in KINDS.items()]
    for copy, state in zip(copies, states.values(), strict=True):
        copy.set_state(state)
    bad = X.copy()
    bad[:2] = np.nan
    fit(model, *flows.values(), *copies, x=bad)
    for kind in KINDS:
        assert sinks[kind].steps == [1, 2, 3, 4, 5, 6, 7, 8, 9]
        assert later[kind].steps == [8]
    assert math.isnan(sinks["gradients"][6][1][TAG])


@pytest.mark.backends
@pytest.mark.usefixtures("eager")
def test_an_error_of_the_function_passes_through():
    def refuse(values, step):
        raise KeyError(step)

    with pytest.raises(KeyError, match="1"):
        fit(build(), GradientFlow(log=refuse))


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
def test_what_is_no_function(make):
    message = "`log` must be a function of a dict and a step, or None. Received: log='wandb'"
    with pytest.raises(ValueError, match=message):
        make(log="wandb")


# Sinks that may not be installed.


def wandb_records(path):
    """What a run that is offline has written: the log format of LevelDB, behind seven bytes."""
    from wandb.proto import wandb_internal_pb2

    data, at, record = path.read_bytes(), 7, b""
    while at < len(data):
        left = 32_768 - at % 32_768
        if left < 7:  # a block has no room for another head
            at += left
            continue
        _, size, kind = struct.unpack_from("<IHB", data, at)
        record += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # whole, or the last part
            yield wandb_internal_pb2.Record.FromString(record)
            record = b""


@pytest.mark.usefixtures("eager")
def test_wandb(tmp_path):
    wandb = pytest.importorskip("wandb")
    settings = wandb.Settings(silent=True, disable_git=True)
    run = wandb.init(project="depth", mode="offline", dir=tmp_path, settings=settings)
    run.define_metric("*", step_metric="training_step")

    def log(values, step):
        run.log({**values, "training_step": step})

    flow = GradientFlow(log=log)
    fit(build(), flow, SignalFlow(X, log=log), epochs=2)
    run.finish()
    wandb.teardown()  # its service may still hold the end of the file when `finish` returns
    (path,) = tmp_path.rglob("*.wandb")
    history = [
        {item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
        for record in wandb_records(path)
        if record.WhichOneof("record_type") == "history"
    ]
    # Nothing is left out, although the second callback logs steps that are older.
    steps = [row["training_step"] for row in history]
    assert steps == [1, 2, 3, 1, 2, 3, 4, 5, 6, 4, 5, 6]
    assert [(row["training_step"], row[TAG]) for row in history if TAG in row] == norms(flow)


@pytest.mark.usefixtures("eager")
def test_trackio(tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path))  # which it reads when it is imported
    trackio = pytest.importorskip("trackio")
    trackio.init(project="depth")
    flow = GradientFlow(log=trackio.log)
    fit(build(), flow, SignalFlow(X, log=trackio.log))
    trackio.finish()
    connection = sqlite3.connect(tmp_path / "depth.db")
    rows = connection.execute("SELECT step, metrics FROM metrics ORDER BY id").fetchall()
    connection.close()
    found = [(step, json.loads(metrics)) for step, metrics in rows]
    assert [step for step, _ in found] == [1, 2, 3, 1, 2, 3]
    assert [(step, values[TAG]) for step, values in found if TAG in values] == norms(flow)


@pytest.mark.usefixtures("eager")
def test_mlflow(tmp_path):
    mlflow = pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")  # `mlflow-skinny` has no store of its own
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'mlflow.db'}")
    with mlflow.start_run() as run:
        flow = GradientFlow(log=mlflow.log_metrics)
        fit(build(), flow, SignalFlow(X, log=mlflow.log_metrics))
    client = mlflow.MlflowClient()
    found = client.get_metric_history(run.info.run_id, TAG)
    assert [(metric.step, metric.value) for metric in found] == norms(flow)
    found = client.get_metric_history(run.info.run_id, "signal_open/block/f/depth_003")
    assert [metric.step for metric in found] == [1, 2, 3]
