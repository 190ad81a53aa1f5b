import numpy as np
import pytest

from fedtiny_tff.errors import InputError
from tests.tflite_export import models
from tflite_export.compare import Comparison, compare, keras_outputs

REFERENCE = np.array([[1.0, 0.0], [0.0, 2.0], [4.0, 3.0], [0.0, 1.0]])


def test_figures_by_hand():
  outputs = REFERENCE.copy()
  outputs[2] = [3.0, 3.5]
  assert compare(REFERENCE, outputs, np.array([0, 1, 1, 0])) == Comparison(
    accuracy=0.75, argmax_agreement=0.75, max_abs_error=1.0, relative_error=0.25
  )


def test_without_labels_there_is_no_accuracy():
  assert compare(REFERENCE, REFERENCE, None) == Comparison(None, 1.0, 0.0, 0.0)


def test_nan_passes_no_limit():
  outputs = REFERENCE.copy()
  outputs[0, 0] = np.nan
  assert not compare(REFERENCE, outputs, None).relative_error <= 1e9


def test_error_against_an_all_zero_reference_is_infinite():
  zeros = np.zeros((1, 2))
  assert compare(zeros, zeros + 1e-9, None).relative_error == float("inf")
  assert compare(zeros, zeros, None).relative_error == 0


@pytest.mark.parametrize(
  ("outputs", "labels"),
  [
    (REFERENCE[:, :1], None),
    (REFERENCE[:2], None),
    (REFERENCE, np.array([0])),
    (REFERENCE, np.zeros((4, 1), int)),
  ],
)
def test_shapes_that_do_not_belong_together_are_refused(outputs, labels):
  with pytest.raises(InputError, match="give"):
    compare(REFERENCE, outputs, labels)


def test_nothing_to_compare_is_refused():
  with pytest.raises(InputError, match="N > 0"):
    compare(REFERENCE[:0], REFERENCE[:0], None)


def test_keras_outputs_are_the_same_in_batches():
  model = models.small_classifier()
  inputs = models.random_inputs(130)
  whole = model(inputs, training=False).numpy()
  np.testing.assert_allclose(keras_outputs(model, inputs), whole, atol=1e-5)


@pytest.mark.parametrize("shape", [(0, 16, 16, 3), (4, 8, 8, 3)])
def test_inputs_that_do_not_fit_are_refused(shape):
  with pytest.raises(InputError, match="evaluation inputs have shape"):
    keras_outputs(models.small_classifier(), np.zeros(shape, np.float32))
