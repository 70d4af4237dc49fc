"""Writing to TensorBoard, on every backend. TensorFlow, which writes the files, is always there."""

import io

import numpy as np


class TensorBoardWriter:
    """An event file in a folder.

    Args:
        folder: The folder; created if absent.

    Raises:
        OSError: It cannot be written to.
    """

    def __init__(self, folder):
        import tensorflow as tf

        self._summary = tf.summary
        self._tf = tf
        try:
            self._writer = tf.summary.create_file_writer(str(folder))
        except tf.errors.OpError as error:
            raise OSError(f"Cannot write logs to '{folder}': {error.message}") from None

    def scalars(self, values, step):
        """Write a dict from tags to numbers."""
        with self._writer.as_default():
            for tag, value in values.items():
                self._summary.scalar(tag, value, step=step)
        self._writer.flush()

    def histograms(self, frame):
        """Write a frame of `GradientFlow.histograms`: a histogram per weight and step."""
        with self._writer.as_default():
            keys = ["step", "layer", "weight"]
            for (step, layer, weight), group in frame.groupby(keys, sort=False):
                share = group.groupby(["low", "high"], sort=True).share.mean()
                self._histogram(f"gradient_log10/{layer}/{weight}", share, step)
        self._writer.flush()

    def _histogram(self, tag, share, step):
        # TensorBoard's own wire format: rows [left edge, right edge, count].
        from tensorboard.plugins.histogram import metadata

        low, high = (np.array(share.index.get_level_values(i), "float64") for i in (0, 1))
        low, high = np.maximum(low, high[0] - 0.5), np.minimum(high, low[-1] + 0.5)
        buckets = np.stack([low, high, share.to_numpy()], axis=1)
        self._summary.write(
            tag,
            self._tf.constant(buckets, self._tf.float64),
            step=step,
            metadata=metadata.create_summary_metadata(display_name=None, description=None),
        )

    def figure(self, tag, figure, step):
        """Write a matplotlib figure as an image."""
        from PIL import Image

        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=120)
        pixels = np.asarray(Image.open(file).convert("RGB"))
        with self._writer.as_default():
            self._summary.image(tag, pixels[None], step=step)
        self._writer.flush()

    def close(self):
        """Close the file."""
        self._writer.close()
