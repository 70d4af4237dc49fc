"""Runs on sequence tasks, which are trained until the task is solved: what is theirs of a training.

The sequences of a step are drawn from a generator that is seeded with the run's seed and the number
of the step, those of an evaluation with that of the evaluation.
"""

from collections.abc import Callable
from functools import partial

import keras
import numpy as np
import pandas as pd

from keras_deeplstm import models
from keras_deeplstm.experiments.runs import files
from keras_deeplstm.experiments.settings.sequences import OVER_TIME, SequenceConfig
from keras_deeplstm.experiments.tasks.sequences.task import SequenceTask, activated
from keras_deeplstm.experiments.training import examinations, guessing
from keras_deeplstm.experiments.training.journal import DivergedError, check_finite
from keras_deeplstm.experiments.training.session import compile_model, optimizer_of
from keras_deeplstm.initializers import GateBias

LOSSES = {
    "softmax": keras.losses.CategoricalCrossentropy(from_logits=True),
    "sigmoid": keras.losses.BinaryCrossentropy(from_logits=True),
    "linear": keras.losses.MeanSquaredError(),
}


def training_of(config, data_dir):
    """What trains these settings, or guesses."""
    kind = guessing.Guessing if config.model.block == "guess" else Training
    return kind(config, data_dir)


class Training:
    """See `session.Training`."""

    parallel = False

    def __init__(self, config, data_dir):
        self.config, self.task = config, config.make_task().reading(data_dir)
        self.digest = self.task.checksum

    def design(self):
        """See `design`."""
        return design(self.config, self.task)

    def build(self):
        """Model and optimizer; see `make_optimizer`."""
        config, loss = self.config, LOSSES[self.task.readout]
        self.model = self.design()()
        compile_model(self.model, config, make_optimizer(config), loss)

    def work(self, session):
        """Train until the task is solved or all sequences are used up, then test."""
        config, task, model = self.config, self.task, self.model

        def after(part):
            return f"{part * config.steps_of_part * config.batch_size} sequences"

        seen = examinations.Examinations(config, task, session.check_signals)
        recording, rounds = {"examinations": seen}, config.rounds
        data = Fresh(config, task)
        journal = session.resume(model, data, recording, rounds, after, last=after(rounds))
        seen.set_model(model)  # it may have nothing to train for any more
        test, reach = examinations.UNTESTED, None
        try:
            if seen.ended:
                journal.on_train_begin()
            else:
                session.fit()
            if not seen.diverged:
                found = examinations.test(seen.predict, task)
                check_finite({"test_error": found["error"]})
                test = found
        except DivergedError as error:
            seen.diverged = seen.diverged or str(error)
        if not seen.diverged:
            reach = task.reach(lambda x: activated(seen.predict(x), task.readout))
            _write_examples(session.folder, task, seen.predict)
        solved_after = None if seen.diverged else seen.solved_after
        session.save(model)
        return {
            "solved": solved_after is not None,
            "sequences": solved_after,
            "diverged": seen.diverged,
            "trained_sequences": journal.rows[-1]["sequences"],
            "test_wrong": test["wrong"],
            "test_error": test["error"],
            "test_sequences": test["seen"],
            "reach": reach,
            "parameters": model.count_params(),
            "units": next(layer.units for layer in model.layers if layer.name.startswith("block")),
            "seconds": round(journal.elapsed(), 2),
            "resumed_after_steps": [config.steps_of_part * p for p in journal.resumed_after],
        }


def design(config: SequenceConfig, task: SequenceTask) -> Callable[[], keras.Model]:
    """The builder of a model with linear outputs, as `Batch.x` and `Batch.y` need it."""
    arguments = config.model.build_arguments()
    if config.model.block not in OVER_TIME:
        return partial(
            models.classifier,
            (task.features,),
            task.outputs,
            input_noise=config.input_noise,
            **arguments,
        )
    if config.model.block == "lstm":  # as our layers do it by themselves
        biases = arguments.pop("input_gate_bias", 0.0), arguments.pop("forget_bias", 1.0)
        arguments["bias_initializer"] = GateBias(*biases)
        arguments["unit_forget_bias"] = False
    return partial(
        models.sequence_regressor,
        task.features,
        task.outputs,
        mask_value=examinations.PADDING,
        input_noise=config.input_noise,
        return_sequences=task.sample(np.random.default_rng(0), 1).y.ndim == 3,
        **arguments,
    )


def make_optimizer(config: SequenceConfig) -> keras.optimizers.Optimizer:
    """The optimizer with its learning rate, whose schedule is a function of the step."""
    schedule = None
    if config.schedule == "step":
        steps = max(1, config.decay_every // config.batch_size)
        schedule = keras.optimizers.schedules.ExponentialDecay(
            config.learning_rate, steps, config.decay, staircase=True
        )
    momentum = {"momentum": config.momentum} if config.momentum else {}
    return optimizer_of(config, config.rounds * config.steps_of_part, schedule, **momentum)


class Fresh(keras.utils.PyDataset):
    """New sequences of a task at each step."""

    def __init__(self, config, task):
        super().__init__()
        self.config, self.task = config, task
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Go to the begin of this part, counted from 0."""
        self.first = epoch * self.config.steps_of_part

    def __len__(self):
        return self.config.steps_of_part

    def __getitem__(self, index):
        generator = np.random.default_rng(
            [self.config.seed, examinations.TRAINING, self.first + index]
        )
        batch = self.task.sample(generator, self.config.batch_size)
        if batch.weight is None:
            return examinations.inputs_of(batch), batch.y
        return examinations.inputs_of(batch), batch.y, batch.weight


def _write_examples(folder, task, predict):
    """`examples.csv`: what is read, what follows and what the model says, step by step."""
    frames = []
    for name, batch in task.examples().items():
        read, truth = batch.x[0, :, 0], batch.y[0]
        said = activated(predict(examinations.inputs_of(batch)), task.readout)[0]
        nothing = np.full(len(read), np.nan)
        values, forecast = np.concatenate([read, truth]), np.concatenate([nothing, said])
        columns = {"step": np.arange(len(values)), "value": values, "forecast": forecast}
        frames.append(pd.DataFrame({"example": name, **columns}))
    if frames:
        files.write_text(folder / "examples.csv", pd.concat(frames).to_csv(index=False))
