"""Train the character language model of one run, and leave its results in the run's folder.

Beside what every run has, the folder holds `vocabulary.json`, `samples.txt` and `best.keras`, the
model with the lowest validation loss so far. The text is read in order, so that the place of a step
is a function of its number; the states carried from batch to batch are variables of the model, so
that a checkpoint holds them. An interrupted run therefore ends with the same bits as one that was
not, as `experiments.training` says of other runs.
"""

import hashlib
import math
import statistics
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras

from keras_deeplstm.experiments.processes import signals
from keras_deeplstm.experiments.runs import files
from keras_deeplstm.experiments.sampling import opening_of
from keras_deeplstm.experiments.settings.base import ConfigError
from keras_deeplstm.experiments.settings.text import TextConfig
from keras_deeplstm.experiments.tasks import DataError
from keras_deeplstm.experiments.tasks.text import (
    sources,
    streams,
)
from keras_deeplstm.experiments.tasks.text.streams import Streams
from keras_deeplstm.experiments.training.classifiers import (
    CHECKPOINT_SHARE,
    attempt,
    iterators_end_with_errors,
    last_checkpoint,
    optimizer_with,
)
from keras_deeplstm.experiments.training.journal import (
    DivergedError,
    Journal,
)
from keras_deeplstm.models import character_language_model
from keras_deeplstm.states import CarriedStates, with_states
from keras_deeplstm.text import Sampler, Vocabulary

BITS = 1 / math.log(2)  # of a nat
OPENING = 200  # symbols of real text, at most, that a model reads before it writes


def train(
    config: TextConfig,
    folder: Path,
    *,
    data_dir: Path | None = None,
    command: str = "",
    overwrite: bool = False,
    checkpoint_share: float = CHECKPOINT_SHARE,
    on_report: Callable[[dict[str, Any], str], None] | None = None,
    on_message: Callable[[str], None] = warnings.warn,
) -> dict[str, Any]:
    """Train, evaluate and record one run; go on with it if it was interrupted.

    Args:
        config: The settings.
        folder: The run's folder.
        data_dir: Folder with data sets, for a text that has a name.
        command, overwrite: As for `experiments.training.train`.
        checkpoint_share: After each part of a pass a checkpoint is written, unless checkpoints have
            taken more than this share of the time so far.
        on_report: Called after each part with its row of `metrics.csv`, and with the sample that
            was drawn ("" if there is none).
        on_message: As for `experiments.training.train`.

    Returns:
        What `result.json` holds. A run that is finished already is not trained again.

    Raises:
        DataError: The text is absent, damaged or too short; no folder is made.
        ConfigError: The model refuses an option, or does not fit the budget; no folder is made.
        RunExistsError: Another process trains this run, the folder holds something else, or the
            text has changed since the run was started.
        CheckpointError, DivergedError, Interrupted, OSError: As `experiments.training.train`.
    """
    text = sources.load(config.text, config.bytes, data_dir)
    vocabulary = Vocabulary.of(text)
    parts = _split(vocabulary.encode(text), config)
    keras.backend.clear_session()
    keras.utils.set_random_seed(config.seed)
    try:
        arguments = config.model.build_arguments()
        model = character_language_model(len(vocabulary), **arguments)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    known = {**vocabulary.get_config(), "opening": _opening(text, config)}

    def work(run):
        files.write_json(folder / "vocabulary.json", known)
        options = (checkpoint_share, on_report, on_message)
        return _fit(model, vocabulary, opening_of(known), parts, run, *options)

    content = text if isinstance(text, bytes) else text.encode()
    return attempt(work, config, folder, command, overwrite, hashlib.sha256(content).hexdigest())


def _split(codes, config):
    """Training, validation and test text, in order, as `Streams`."""
    ends = _ends(len(codes), config)
    found = []
    names = ("training", "validation", "test")
    for name, start, end in zip(names, [0, *ends], [*ends, len(codes)], strict=True):
        needed = config.batch_size * config.sequence_length + 1
        if end - start < needed:
            raise DataError(
                f"Text '{config.text}' is too short: its {name} part has {end - start:,} symbols, "
                f"a batch needs batch_size * sequence_length + 1 = {needed:,}. Take smaller "
                f"batches or sequences, or another --split"
            )
        found.append(Streams(codes[start:end], config.batch_size, config.sequence_length))
    return found


def _ends(length, config):
    """Where the training text ends, and where the validation text does."""
    first, second, _ = config.split
    return [round(length * share) for share in (first, first + second)]


def _opening(text, config):
    """Whole lines, if they are not too long, from the begin of the validation text."""
    begin, _ = _ends(len(text), config)
    opening = text[begin : begin + OPENING]
    lines = opening.rfind(b"\n" if isinstance(text, bytes) else "\n") + 1
    opening = opening[:lines] if lines > OPENING // 4 else opening
    return list(opening) if isinstance(opening, bytes) else opening


def trained_model(model: keras.Model, batch_size: int) -> tuple[keras.Model, keras.Model]:
    """A model that carries its states from batch to batch, and the one in it that has the weights.

    Args:
        model: A character language model; its weights are copied.
        batch_size: Number of streams.

    Returns:
        A `keras.Model` from `(symbols, begins)`, as `Streams` gives them, to logits; and the model
        of `states.with_states` that it runs.
    """
    inner = with_states(model)
    symbols = keras.Input((None,), batch_size=batch_size, dtype="int32")
    begins = keras.Input((), batch_size=batch_size, dtype="bool")
    logits = CarriedStates(inner, batch_size)(symbols, begins)
    return keras.Model((symbols, begins), logits), inner


def make_optimizer(config: TextConfig, steps_of_pass: int) -> keras.optimizers.Optimizer:
    """The optimizer with its learning rate, whose schedule is a function of the step."""
    rate = config.learning_rate
    if config.schedule == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(rate, config.epochs * steps_of_pass)
    elif config.schedule == "decay" and config.decay_after < config.epochs:
        # Torch's char-rnn: the first pass with a lower rate is the one after `decay_after`.
        ends = range(config.decay_after, config.epochs)
        rate = keras.optimizers.schedules.PiecewiseConstantDecay(
            [number * steps_of_pass - 1 for number in ends],  # the last step of each
            [rate * config.decay**power for power in range(len(ends) + 1)],
        )
    return optimizer_with(config, rate)


class Evaluations(keras.callbacks.Callback):
    """Bits, samples and the best model; adds to the logs, so it comes before the journal.

    Args:
        folder: The run's folder.
        config: Its settings.
        plan: How a pass is parted.
        model: The character language model, which gets the weights of the trained one when it is
            saved.
        inner: The model that is trained.
        vocabulary: Of the text.
        opening: What the model reads before it writes a sample.
    """

    def __init__(self, folder, config, plan, model, inner, vocabulary, opening):
        super().__init__()
        self.folder, self.config, self.plan = folder, config, plan
        self.plain, self.inner, self.opening = model, inner, opening
        self.sampler = Sampler(model, vocabulary) if config.sample_length else None
        self.best = None  # the row with the lowest validation loss
        self.samples = []
        self.sample = ""  # of the last part

    def get_state(self):
        """What a checkpoint has to hold."""
        return {"best": self.best, "samples": self.samples}

    def set_state(self, state):
        """The inverse of `get_state`."""
        self.best, self.samples = state["best"], state["samples"]

    def on_epoch_end(self, epoch, logs=None):
        """Complete the row; after an evaluation keep the model if it is the best, and sample."""
        part = epoch + 1
        # An epoch of `fit` is a part of a pass; in the row, epochs are passes.
        logs["epoch"] = round(part / self.plan.parts_of_pass, 4)
        logs["step"] = part * self.plan.steps
        rate = keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)
        logs["learning_rate"] = float(f"{rate:.6g}")
        logs["bits"] = BITS * logs["loss"]
        self.sample = ""
        if "val_loss" not in logs:
            return
        logs["val_bits"] = BITS * logs["val_loss"]
        if not math.isfinite(logs["val_loss"]):
            raise DivergedError(
                f"The validation loss became {logs['val_loss']} at step {logs['step']}"
            )
        row = {name: logs[name] for name in ("step", "epoch", "loss", "val_loss", "val_bits")}
        if self.best is None or row["val_loss"] < self.best["val_loss"]:
            self.best = row
            # Before the checkpoint: none refers to a best model that is not there.
            self.plain.set_weights(self.inner.get_weights())
            with files.atomic(self.folder / "best.keras") as path:
                self.plain.save(path)
        if self.sampler:
            self.sampler.set_weights(self.inner.get_weights())
            pieces = self.sampler.stream(
                self.opening,
                length=self.config.sample_length,
                seed=(self.config.seed, logs["step"]),
            )
            self.sample = "".join(pieces)
            self.samples.append({**row, "text": self.sample})
            files.write_text(self.folder / "samples.txt", samples_text(self.samples))


def samples_text(samples: list[dict[str, Any]]) -> str:
    """The content of `samples.txt`."""
    return "".join(
        f"--- step {sample['step']}, epoch {sample['epoch']:g}, validation "
        f"{sample['val_bits']:.3f} bits per symbol\n{sample['text']}\n\n"
        for sample in samples
    )


def _fit(model, vocabulary, opening, data, run, checkpoint_share, on_report, on_message):
    folder, config = run.folder, run.config
    train_data, validation_data, test_data = data
    plan = streams.plan(train_data.steps_of_pass, config.evaluate_every, config.report_every)
    train_data.follow(plan.parts_of_pass, plan.steps)

    def step_name(part):
        return f"step {part * plan.steps}"

    trained, inner = trained_model(model, config.batch_size)
    optimizer = make_optimizer(config, plan.parts_of_pass * plan.steps)
    optimizer.build(trained.trainable_variables)
    trained.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    evaluations = Evaluations(folder, config, plan, model, inner, vocabulary, opening)
    checkpoint = last_checkpoint(run, on_message, step_name)
    parts = config.epochs * plan.parts_of_pass

    def report(row):
        if on_report is not None:
            on_report(row, evaluations.sample)

    with signals.delayed() as check_signals:
        recorders = {"evaluations": evaluations}
        journal = Journal(
            folder, train_data, recorders, check_signals, report, checkpoint_share, step_name
        )
        journal.set_model(trained)
        if checkpoint is not None:
            journal.restore(checkpoint)
            on_message(
                f"Run '{run.name}' goes on after {step_name(checkpoint.epoch)} of "
                f"{parts * plan.steps}"
            )
        with iterators_end_with_errors():
            trained.fit(
                train_data,
                validation_data=validation_data,
                validation_freq=plan.parts,
                initial_epoch=checkpoint.epoch if checkpoint else 0,
                epochs=parts,
                verbose=0,
                shuffle=False,
                callbacks=[evaluations, journal],
            )
        inner.set_weights(keras.models.load_model(folder / "best.keras").get_weights())
        test_loss = trained.evaluate(test_data, verbose=0, callbacks=[journal])
        seconds = journal.elapsed()
        later = [row for row in journal.rows[1:] if "val_loss" not in row]  # the first one compiles
        symbols = plan.steps * config.batch_size * config.sequence_length
        result = {
            "state": "finished",
            "test_loss": test_loss,
            "test_bits": BITS * test_loss,
            "val_loss": evaluations.best["val_loss"],
            "val_bits": evaluations.best["val_bits"],
            "best_step": evaluations.best["step"],
            "best_epoch": evaluations.best["epoch"],
            "symbols": len(vocabulary),
            "parameters": model.count_params(),
            "units": model.get_layer("embedding").output_dim,
            "steps": parts * plan.steps,
            "seconds": round(seconds, 2),
            "symbols_per_second": round(
                symbols / statistics.median(row["seconds"] for row in later or journal.rows)
            ),
            "resumed_after_steps": [plan.steps * part for part in journal.resumed_after],
        }
        files.write_json(folder / "result.json", result)
    return result
