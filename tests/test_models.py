import numpy as np
import pytest

from keras_deeplstm import models

pytestmark = pytest.mark.backends


def test_classifier_flattens_images_and_gives_logits():
    model = models.classifier((4, 4, 1), 3, depth=2, units=5, tied=True)
    assert model.output_shape == (None, 3)
    # 16 x 20 kernel, 5 x 20 recurrent kernel, 20 bias, 5 x 3 + 3 readout
    assert model.count_params() == 320 + 100 + 20 + 18
    assert model.predict(np.zeros((2, 4, 4, 1)), verbose=0).shape == (2, 3)


def test_classifier_names_what_is_wrong():
    with pytest.raises(ValueError, match="Did you mean 'dense'"):
        models.classifier((4,), 3, block="dens")
    with pytest.raises(ValueError, match="`num_classes` must be a positive integer"):
        models.classifier((4,), 0)
    with pytest.raises(ValueError, match="Unrecognized keyword arguments"):
        models.classifier((4,), 3, unit=3)
