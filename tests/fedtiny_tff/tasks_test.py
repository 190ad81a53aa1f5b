"""What the tasks minimise and report, worked out by hand."""

import numpy as np
import pytest
import tensorflow as tf

from fedtiny_tff import tasks
from fedtiny_tff.errors import InputError

CLASSIFY, RECONSTRUCT = tasks.CLASSIFY, tasks.RECONSTRUCT

# Two examples of 2×1 values and their reconstructions: squared errors 0, 4 and 1, 1.
INPUTS = np.array([[[1.0], [2.0]], [[0.0], [3.0]]], np.float32)
OUTPUTS = np.array([[1.0, 4.0], [1.0, 2.0]], np.float32)


def _metrics(task, features, labels, outputs):
  constants = (
    tf.constant(features),
    tf.constant(labels, tf.int64),
    tf.constant(outputs),
  )
  return [float(figure) for figure in task.batch_metrics(*constants)]


def test_the_tasks_by_name():
  assert {name: task.has_classes for name, task in tasks.TASKS.items()} == {
    "classify": True,
    "reconstruct": False,
  }


def test_classification_sums():
  # Equal logits: ln 2 each; of tied classes the first is taken, so one hit.
  sums = _metrics(CLASSIFY, np.zeros((2, 5)), [0, 1], np.zeros((2, 2)))
  np.testing.assert_allclose(sums, [2 * np.log(2), 1.0, 2.0], rtol=1e-6)


def test_reconstruction_sums():
  # Means over the values: (0 + 4) / 2 and (1 + 1) / 2. Labels have no part in it.
  assert _metrics(RECONSTRUCT, INPUTS, [7, 7], OUTPUTS) == [3.0, 0.0, 2.0]


@pytest.mark.parametrize("task", tasks.TASKS.values(), ids=lambda task: task.name)
def test_nothing_sums_to_zero(task):
  assert _metrics(task, INPUTS[:0], [], OUTPUTS[:0]) == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("task", tasks.TASKS.values(), ids=lambda task: task.name)
def test_half_precision_outputs_are_summed_in_single(task):
  found = task.batch_metrics(
    tf.constant(INPUTS), tf.constant([0, 1], tf.int64), tf.cast(OUTPUTS, tf.float16)
  )
  assert {figure.dtype for figure in found} == {tf.float32}


def test_the_reconstruction_loss_has_its_gradient():
  outputs = tf.constant(OUTPUTS)
  with tf.GradientTape() as tape:
    tape.watch(outputs)
    metrics = RECONSTRUCT.batch_metrics(
      tf.constant(INPUTS), tf.constant([0, 0], tf.int64), outputs
    )
  # d/do of (o - i)² / 2 is the difference itself.
  gradient = tape.gradient(metrics.loss_sum, outputs)
  np.testing.assert_allclose(gradient, [[0.0, 2.0], [1.0, -1.0]])


def test_classification_quality():
  logits = np.array([[0.0, 0.0], [np.log(3.0), 0.0]], np.float32)
  found = CLASSIFY.quality(INPUTS, logits, np.array([1, 0]))
  # Shares of the right classes: 1/2 and 3/4. A tie is the first class, so a miss.
  assert found.loss == pytest.approx((np.log(2) + np.log(4 / 3)) / 2)
  assert (found.accuracy, found.auc) == (0.5, None)


def test_large_logits_do_not_overflow():
  logits = np.array([[1e4, 0.0]], np.float32)
  assert CLASSIFY.quality(INPUTS[:1], logits, np.array([1])).loss == 1e4


@pytest.mark.parametrize(
  ("anomalies", "auc"), [([1, 0], 1.0), ([0, 1], 0.0), ([0, 0], None)]
)
def test_reconstruction_quality(anomalies, auc):
  # Errors 2 and 1: the first example looks odder.
  found = RECONSTRUCT.quality(INPUTS, OUTPUTS, np.array(anomalies))
  assert found == tasks.Quality(loss=1.5, accuracy=None, auc=auc)


def test_number_of_outputs():
  assert CLASSIFY.num_outputs("net", (8, 8, 3), 10) == 10
  assert RECONSTRUCT.num_outputs("net", (8, 8, 3), None) == 192
  # A data set has classes whatever the model is for.
  assert RECONSTRUCT.num_outputs("net", (640,), 10) == 640


@pytest.mark.parametrize("classes", [None, 0])
def test_classification_needs_classes(classes):
  with pytest.raises(InputError, match=f"'net' needs at least 1 class, got {classes}"):
    CLASSIFY.num_outputs("net", (8,), classes)


def test_class_accuracy_is_each_class_by_itself():
  classes, labels = np.array([0, 1, 1, 0]), np.array([0, 1, 0, 0])
  assert tasks.class_accuracy(classes, labels, 3) == (2 / 3, 1.0, None)
