"""The tensors that a model's layers return, taken from a training step that is traced or run."""

import contextlib
import threading

import keras

from keras_deeplstm.diagnostics.untouched import current_trace, first_output, replaced
from keras_deeplstm.nested import leaf_layers


class LayerOutputs:
    """Watches the layers of a model, those of nested models too, while a step calls them."""

    def __init__(self, model):
        self._model = model
        # By thread: each replica of a MirroredStrategy traces in its own, and they take turns.
        self._watching = {}
        self._replaced = contextlib.ExitStack()

    @contextlib.contextmanager
    def watched(self):
        """Within this context, the calls of this thread are watched.

        Layers that run within a loop or a rematerialization of the step are left out: what they
        return is no tensor of the step itself.

        Yields:
            A list of `(layer, tensor)`, in the order of the calls; of several outputs the first.
            It has no gradients.
        """
        thread = threading.get_ident()
        if not self._watching:
            for layer in leaf_layers(self._model):
                self._replaced.enter_context(replaced(layer, call=self._watched_call(layer)))
        outputs = []
        self._watching[thread] = outputs, current_trace()
        try:
            yield outputs
        finally:
            del self._watching[thread]
            if not self._watching:
                self._replaced.close()

    def _watched_call(self, layer):
        original = layer.call

        def call(*args, **kwargs):
            result = original(*args, **kwargs)
            outputs, trace = self._watching.get(threading.get_ident(), ([], None))
            first = first_output(result)
            if first is not None and trace == current_trace():
                outputs.append((layer, keras.ops.stop_gradient(first)))
            return result

        return call
