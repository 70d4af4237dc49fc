"""Runs on images and tables: what is theirs of a training."""

import math
import statistics
from functools import partial

import keras
import numpy as np

from keras_deeplstm.experiments.tasks import get_task
from keras_deeplstm.experiments.tasks.task import holds_classes
from keras_deeplstm.experiments.training import predictions, recorders
from keras_deeplstm.experiments.training.devices import even_parts, number_of_devices
from keras_deeplstm.experiments.training.journal import check_finite
from keras_deeplstm.experiments.training.session import compile_model, optimizer_of

EVALUATED = 32  # examples at a time, without gradients


class Training:
    """See `session.Training`."""

    parallel = True

    def __init__(self, config, data_dir):
        self.config, self.task = config, get_task(config.task)
        self.data = self.task.load(data_dir)
        self.digest = self.data.digest()

    def design(self):
        """The builder of the settings for the sizes of the data."""
        numbers = not holds_classes(self.data.train[1])
        build = self.config.model.builder(numbers, self.task.output_range)
        return partial(build, *self.task.sizes(self.data))

    def build(self):
        """The model of the settings."""
        config, parts = self.config, number_of_devices()
        if config.batch_size % parts:
            raise ValueError(
                f"Argument `batch_size` must be a multiple of the number of devices, {parts}. "
                f"Received: batch_size={config.batch_size}"
            )
        shape = self.data.train[0].shape[1:]
        if config.shift and len(shape) != 3:
            raise ValueError(
                "Argument `shift` is for images, `(height, width, channels)`. Those of "
                f"{config.subject!r} are {shape}. Received: shift={config.shift}"
            )
        if config.folds is not None:
            self.data = self.data.fold(config.fold, config.folds)
        self.model, (_, outputs) = self.design()(), self.task.sizes(self.data)
        found = getattr(self.model, "output_shape", None)  # None of one that was never called
        steps = self.data.train[1].shape[1:-1]
        wanted = (None, *(min(most, config.model.depth) for most in steps), outputs)
        if found != wanted:
            raise ValueError(
                f"The model of block {config.model.block!r} must have outputs of shape {wanted}"
                f"{_hint(steps, config.model)}. Received: {found}"
            )
        steps = config.epochs * math.ceil(len(self.data.train[0]) / config.batch_size)
        loss, metrics = keras.losses.get(self.task.loss), [self.task.measure.make()]
        compile_model(self.model, config, optimizer_of(config, steps), loss, metrics)

    def work(self, session):
        """Train all epochs, then test the model as it is."""
        config, data, model = self.config, self.data, self.model
        samples, parts = len(data.train[0]), number_of_devices()
        for note in data.notes:
            session.on_message(note)
        if config.batch_size > samples:
            session.on_message(
                f"batch_size={config.batch_size} exceeds {samples} samples; one batch per epoch"
            )
        evaluated = EVALUATED // parts * parts or parts
        recording = recorders.make(config, model, data, session)
        shuffled = Shuffled(*data.train, config.batch_size, config.seed, parts, config.shift)
        journal = session.resume(model, shuffled, recording, config.epochs)
        recorders.log_again(recording, session)
        session.fit(
            validation_data=even_parts(data.validation),
            validation_batch_size=evaluated,
        )
        tested = even_parts(data.test)
        test = model.evaluate(
            *tested,
            batch_size=evaluated,
            verbose=0,
            return_dict=True,
            callbacks=[journal],
        )
        metric, last = self.task.measure.name, journal.rows[-1]
        validated = {name: last[name] for name in ("val_loss", f"val_{metric}")}
        check_finite(validated | {f"test_{name}": value for name, value in test.items()})
        seconds = journal.elapsed()
        predictions.write(model, data, self.task.measure, session.folder)
        if config.model.block == "image_grid":
            recorders.draw_gates(model, data, session.folder)
        numbers = recorders.write(recording, config, session.folder)
        session.save(model)
        later = [row["seconds"] for row in journal.rows[1:]]  # the first epoch compiles
        own = {"options": {**config.model.options}} if config.model.own else {}
        return {
            f"test_{metric}": test[metric],
            "test_loss": test["loss"],
            "test_examples": len(tested[0]),
            f"val_{metric}": last[f"val_{metric}"],
            **own,
            "parameters": model.count_params(),
            "epochs": config.epochs,
            "seconds": round(seconds, 2),
            "seconds_per_epoch": statistics.median(later) if later else None,
            **numbers,
            "resumed_after_epochs": journal.resumed_after,
        }


def _hint(steps, model):
    """What makes a model one of the task, if its steps over depth are what is wrong."""
    if steps and model.each_step:
        return f", as the task has targets for {steps[0]} steps"
    if steps and not model.own:
        return ": the task needs --model.each-step"
    return ": the task has no target for each step" if model.each_step else ""


class Shuffled(keras.utils.PyDataset):
    """Batches whose order is a function of seed and epoch, unlike that of `fit(shuffle=True)`.

    With `shift` each image of a batch is moved by up to so many pixels along both axes.
    """

    def __init__(self, x, y, batch_size, seed, parts=1, shift=0):
        super().__init__()
        self.x, self.y, self.batch_size, self.seed, self.shift = x, y, batch_size, seed, shift
        # Several devices get equal parts, of the last batch as well: an epoch leaves out a few.
        self.examples = len(x) - len(x) % batch_size % parts
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Put the examples in the order of this epoch, from 0."""
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.x))
        self.order, self.epoch = order[: self.examples], epoch

    def __len__(self):
        return math.ceil(self.examples / self.batch_size)

    def __getitem__(self, index):
        rows = self.order[index * self.batch_size : (index + 1) * self.batch_size]
        x = self.x[rows]
        if self.shift:
            draw = np.random.default_rng([self.seed, self.epoch, index])
            x = moved(x, draw.integers(-self.shift, self.shift + 1, (len(x), 2)))
        return x, self.y[rows]


def moved(images, offsets):
    """Images `(number, height, width, channels)` moved down and to the right, with zeros behind.

    `keras.layers.RandomTranslation` draws from a state of its own, not by epoch and batch, so that
    a run that was killed would go on with other images.

    Example:

    >>> import numpy as np
    >>> from keras_deeplstm.experiments.training.classifiers import moved
    >>> moved(np.arange(1, 7).reshape(1, 2, 3, 1), np.array([[1, -2]]))[0, ..., 0].tolist()
    [[0, 0, 0], [3, 0, 0]]
    """
    most = np.abs(offsets).max(initial=0)
    padded = np.pad(images, ((0, 0), (most, most), (most, most), (0, 0)))
    _, height, width, _ = images.shape
    return np.stack(
        [
            image[down : down + height, right : right + width]
            for image, (down, right) in zip(padded, most - offsets, strict=True)
        ]
    )
