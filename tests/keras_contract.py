"""What Keras checks of its own layers, for ours.

`keras.src.testing` is private: it is imported here and nowhere else, because checks written by hand
would not follow what Keras expects of a layer. It is part of the installed package.
"""

from keras.src.testing import test_case


class _Case(test_case.TestCase):
    def runTest(self):
        """A test case needs one."""


def run_layer_test(layer_class, arguments, input_shape, **expected):
    """Run Keras' `run_layer_test`.

    Configuration, building, symbolic and eager calls, one step of `fit`, mixed precision.
    """
    _Case().run_layer_test(layer_class, arguments, input_shape=input_shape, **expected)
