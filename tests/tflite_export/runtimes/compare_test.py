import numpy as np
import pytest
import tensorflow as tf

from fedtiny_tff import tasks
from fedtiny_tff.errors import InputError
from tests.tflite_export import models
from tflite_export.artifacts import ExportRequest
from tflite_export.runtimes.compare import Comparison, compare, keras_outputs

REFERENCE = np.array([[1.0, 0.0], [0.0, 2.0], [4.0, 3.0], [0.0, 1.0]])


def _request(labels, task=tasks.CLASSIFY):
  """A request without a model; its inputs are four examples of two zeros."""
  nothing = np.zeros((4, 2), np.float32)
  return ExportRequest(
    tf.keras.Model(), {}, task, nothing, nothing, labels, ("a", "b"), models.PROVENANCE
  )


def test_figures_by_hand():
  outputs = REFERENCE.copy()
  outputs[2] = [3.0, 3.5]
  assert compare(_request(np.array([0, 1, 1, 0])), REFERENCE, outputs) == Comparison(
    accuracy=0.75, class_accuracy=(0.5, 1.0), auc=None, argmax_agreement=0.75, max_abs_error=1.0,
    relative_error=0.25,
  )  # fmt: skip


def test_reconstructions_have_no_classes():
  # Errors against inputs of 0: 0.5, 2, 12.5, 0.5. Anomalies: the second, the fourth.
  request = _request(np.array([0, 1, 0, 1]), tasks.RECONSTRUCT)
  # Of four pairs the second wins one and loses one; the fourth ties and loses.
  assert compare(request, REFERENCE, REFERENCE) == Comparison(
    accuracy=None, class_accuracy=None, auc=1.5 / 4, argmax_agreement=None, max_abs_error=0.0,
    relative_error=0.0,
  )  # fmt: skip


def test_a_single_output_is_no_choice_of_a_class():
  """The largest of one is always the first, however far the file is off."""
  found = compare(_request(None), REFERENCE[:, :1], 1 - REFERENCE[:, :1])
  assert found.argmax_agreement is None
  assert found.max_abs_error == 7


@pytest.mark.parametrize("task", tasks.TASKS.values(), ids=lambda task: task.name)
def test_without_labels_there_is_no_quality(task):
  found = compare(_request(None, task), REFERENCE, REFERENCE)
  assert (found.accuracy, found.class_accuracy, found.auc) == (None, None, None)


def test_nan_passes_no_limit():
  outputs = REFERENCE.copy()
  outputs[0, 0] = np.nan
  assert not compare(_request(None), REFERENCE, outputs).relative_error <= 1e9


def test_error_against_an_all_zero_reference_is_infinite():
  zeros = np.zeros((1, 2))
  found = compare(_request(None), zeros, zeros + 1e-9)
  assert found.relative_error == float("inf")
  assert compare(_request(None), zeros, zeros).relative_error == 0


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
    compare(_request(labels), REFERENCE, outputs)


def test_nothing_to_compare_is_refused():
  with pytest.raises(InputError, match="N > 0"):
    compare(_request(None), REFERENCE[:0], REFERENCE[:0])


def test_keras_outputs_are_the_same_in_batches():
  model = models.small_classifier()
  inputs = models.random_inputs(130)
  whole = model(inputs, training=False).numpy()
  np.testing.assert_allclose(keras_outputs(model, inputs), whole, atol=1e-5)


@pytest.mark.parametrize("shape", [(0, 16, 16, 3), (4, 8, 8, 3)])
def test_inputs_that_do_not_fit_are_refused(shape):
  with pytest.raises(InputError, match="evaluation inputs have shape"):
    keras_outputs(models.small_classifier(), np.zeros(shape, np.float32))
