"""Runs on texts, whose character language models write samples: what is theirs of a training.

Beside what every run has, the folder holds `vocabulary.json`, `samples.txt` and `best.keras`, the
model with the lowest validation loss so far. The text is read in order, so that the place of a step
is a function of its number; the states carried from batch to batch are variables of the model, so
that a checkpoint holds them.
"""

import hashlib
import math
import statistics
from functools import partial
from typing import Any

import keras

from keras_deeplstm.callbacks import StateGradients
from keras_deeplstm.experiments.runs import files
from keras_deeplstm.experiments.settings.text import TextConfig
from keras_deeplstm.experiments.tasks import DataError
from keras_deeplstm.experiments.tasks.text import sources, streams
from keras_deeplstm.experiments.tasks.text.streams import Pieces, Streams, Windows
from keras_deeplstm.experiments.training.journal import DivergedError, check_finite
from keras_deeplstm.experiments.training.recorders import write_states
from keras_deeplstm.experiments.training.session import compile_model, optimizer_of
from keras_deeplstm.models import character_language_model
from keras_deeplstm.states import CarriedStates, with_states
from keras_deeplstm.text import Sampler, Vocabulary

BITS = 1 / math.log(2)  # of a nat
OPENING = 200  # symbols of real text, at most, that a model reads before it writes
PROBED = 8  # sequences on which the gradients of the states of a transformer are measured


class Training:
    """See `session.Training`."""

    parallel = False

    def __init__(self, config, data_dir):
        self.config = config
        text = sources.load(config.text, config.bytes, data_dir)
        self.vocabulary = Vocabulary.of(text)
        self.parts = _split(self.vocabulary.encode(text), config)
        self.known = {**self.vocabulary.get_config(), "opening": _opening(text, config)}
        content = text if isinstance(text, bytes) else text.encode()
        self.digest = hashlib.sha256(content).hexdigest()

    def design(self):
        """The builder of the settings for the symbols of the text."""
        config = self.config
        arguments = config.model.build_arguments()
        if not config.model.over_time:
            arguments["context"] = config.sequence_length
        return partial(character_language_model, len(self.vocabulary), **arguments)

    def build(self):
        """The model that writes, and the one round it that carries states and is trained."""
        config, train = self.config, self.parts[0]
        self.model = self.design()()
        self.plan = streams.plan(train.steps_of_pass, config.evaluate_every, config.report_every)
        train.follow(self.plan.parts_of_pass, self.plan.steps)
        self.trained = self.inner = self.model
        if config.model.over_time:
            self.trained, self.inner = trained_model(self.model, config.batch_size)
        optimizer = make_optimizer(config, self.plan.parts_of_pass * self.plan.steps)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        compile_model(self.trained, config, optimizer, loss)

    def work(self, session):
        """Train all passes; the best model of all evaluations is tested."""
        config, plan, trained = self.config, self.plan, self.trained
        train, validation, test = self.parts
        files.write_json(session.folder / "vocabulary.json", self.known)
        evaluations = Evaluations(
            session.folder, config, plan, self.model, self.inner, self.vocabulary,
            sources.opening_of(self.known),
        )  # fmt: skip
        if on_epoch := session.on_epoch:
            session.on_epoch = lambda row: on_epoch({**row, "sample": evaluations.sample})
        parts = config.epochs * plan.parts_of_pass
        recorders = {"evaluations": evaluations}
        if not config.model.over_time:
            x, y = (part[:PROBED] for part in validation[0])
            recorders["states"] = StateGradients(x, y, every=parts)
        journal = session.resume(
            trained,
            train,
            recorders,
            parts,
            epoch_name=lambda part: f"step {part * plan.steps}",
            last=str(parts * plan.steps),
        )
        session.fit(validation_data=validation, validation_freq=plan.parts)
        best = keras.models.load_model(session.folder / "best.keras")
        self.inner.set_weights(best.get_weights())
        test_loss = trained.evaluate(test, verbose=0, callbacks=[journal])
        check_finite({"test_loss": test_loss})
        later = [row for row in journal.rows[1:] if "val_loss" not in row]  # the first one compiles
        seconds = statistics.median(row["seconds"] for row in later or journal.rows)
        symbols = plan.steps * config.batch_size * config.sequence_length
        numbers = {}
        if "states" in recorders:
            frame = recorders["states"].to_frame()
            frame["epoch"] /= plan.parts_of_pass  # in passes
            numbers = write_states(frame, session.folder, config.epochs)
        return {
            "test_loss": test_loss,
            "test_bits": BITS * test_loss,
            "val_loss": evaluations.best["val_loss"],
            "val_bits": evaluations.best["val_bits"],
            "best_step": evaluations.best["step"],
            "best_epoch": evaluations.best["epoch"],
            "symbols": len(self.vocabulary),
            "parameters": self.model.count_params(),
            "units": self.model.get_layer("embedding").output_dim,
            "steps": parts * plan.steps,
            "seconds": round(journal.elapsed(), 2),
            "symbols_per_second": round(symbols / seconds),
            **numbers,
            "resumed_after_steps": [plan.steps * part for part in journal.resumed_after],
        }


def _split(codes, config):
    """Training, validation and test text, in order, as `Streams`, or as `Windows` and `Pieces`."""
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
        part = codes[start:end], config.batch_size, config.sequence_length
        if config.model.over_time:
            found.append(Streams(*part))
        else:
            found.append(Pieces(*part) if found else Windows(*part, config.seed))
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

    The first maps `(symbols, begins)`, as `Streams` gives them, to logits; both copy the weights.
    """
    inner = with_states(model)
    symbols = keras.Input((None,), batch_size=batch_size, dtype="int32")
    begins = keras.Input((), batch_size=batch_size, dtype="bool")
    logits = CarriedStates(inner, batch_size)(symbols, begins)
    return keras.Model((symbols, begins), logits), inner


def make_optimizer(config: TextConfig, steps_of_pass: int) -> keras.optimizers.Optimizer:
    """The optimizer with its learning rate, whose schedule is a function of the step.

    ValueError: the warm-up is longer than the training.
    """
    rate, schedule = config.learning_rate, None
    if config.schedule == "decay" and config.decay_after < config.epochs:
        # Torch's char-rnn: the first pass with a lower rate is the one after `decay_after`.
        ends = range(config.decay_after, config.epochs)
        schedule = keras.optimizers.schedules.PiecewiseConstantDecay(
            [number * steps_of_pass - 1 for number in ends],  # the last step of each
            [rate * config.decay**power for power in range(len(ends) + 1)],
        )
    betas = {"beta_2": config.beta_2} if "adam" in config.optimizer else {}
    steps = config.epochs * steps_of_pass
    if config.warmup > steps:
        raise ValueError(
            f"Argument `warmup` must be at most the number of training steps, {steps}. "
            f"Received: warmup={config.warmup}"
        )
    return optimizer_of(config, steps, schedule, warmup=config.warmup, **betas)


class Evaluations(keras.callbacks.Callback):
    """Bits, samples and the best model; adds to the logs, so it comes before the journal.

    `model` gets the weights of the trained one, `inner`, when it is saved. It reads `opening`
    before it writes a sample.
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
