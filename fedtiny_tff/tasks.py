"""What a model is for, and what follows from it: loss, figures, number of outputs.

`classify`: logits, one per class; cross-entropy; accuracy. `reconstruct`: the input
again, flat; mean squared error; how well that error tells anomalies from normal
examples. The input is what the model is fed with: preprocessed, and augmented in
training.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import NamedTuple, Optional

import numpy as np
import tensorflow as tf

from fedtiny_tff import roc
from fedtiny_tff.arrays import Array
from fedtiny_tff.errors import InputError


class Metrics(NamedTuple):
  """Sums over examples, so that clients' metrics add up.

  Attributes:
    loss_sum: float32, sum of the examples' losses.
    correct: float32, examples whose class was hit; 0 where there are no classes.
    examples: float32, examples seen.
  """

  loss_sum: tf.Tensor
  correct: tf.Tensor
  examples: tf.Tensor


class Quality(NamedTuple):
  """How good outputs are.

  Attributes:
    loss: Mean over the examples.
    accuracy: Share of the classes hit; None where there are no classes.
    auc: Area under the ROC curve of the reconstruction error, anomalies being
      positive; None where nothing is reconstructed, or without either kind.
  """

  loss: float
  accuracy: Optional[float]
  auc: Optional[float]


@dataclasses.dataclass(frozen=True)
class Task:
  """A task.

  Attributes:
    name: Key of `TASKS`.
    has_classes: Whether there is an output per class; otherwise there is one per
      value of the input.
    batch_metrics: From inputs [n, ...], labels int64 [n] and outputs [n, outputs],
      tensors, to sums over the batch; differentiable.
    quality: From inputs, outputs and labels, NumPy arrays of such shapes, to
      figures. Where there are no classes, a label says whether the example is an
      anomaly (1) or normal (0).
  """

  name: str
  has_classes: bool
  batch_metrics: Callable[[tf.Tensor, tf.Tensor, tf.Tensor], Metrics]
  quality: Callable[[Array, Array, Array], Quality]

  def num_outputs(
    self, model: str, input_shape: tuple[int, ...], num_classes: Optional[int]
  ) -> int:
    """Returns how many values a model gives for one example.

    Args:
      model: Its name, for the error.
      input_shape: Shape of one example.
      num_classes: Number of classes; ignored where there are none.

    Raises:
      InputError: When classes are needed and there are none.
    """
    if not self.has_classes:
      return math.prod(input_shape)
    if num_classes is None or num_classes < 1:
      raise InputError(f"model {model!r} needs at least 1 class, got {num_classes}")
    return num_classes


def _classification_metrics(
  features: tf.Tensor, labels: tf.Tensor, logits: tf.Tensor
) -> Metrics:
  del features
  losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
    labels, tf.cast(logits, tf.float32)
  )
  hits = tf.equal(tf.argmax(logits, axis=1), labels)
  return Metrics(
    tf.reduce_sum(losses),
    tf.reduce_sum(tf.cast(hits, tf.float32)),
    tf.cast(tf.size(labels), tf.float32),
  )


def _classification_quality(inputs: Array, logits: Array, labels: Array) -> Quality:
  del inputs
  exact = logits.astype(np.float64)
  shifted = exact - exact.max(axis=1, keepdims=True)
  log_shares = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
  return Quality(
    loss=float(-log_shares[np.arange(len(labels)), labels].mean()),
    accuracy=float(np.mean(np.argmax(logits, axis=1) == labels)),
    auc=None,
  )


def class_accuracy(
  classes: Array, labels: Array, num_classes: int
) -> tuple[Optional[float], ...]:
  """Returns the share of hits among the examples of each class.

  Args:
    classes: int [N], what was answered.
    labels: int [N], what was right.
    num_classes: Number of classes.

  Returns:
    One share per class, None for a class without an example.
  """
  hits = classes == labels
  return tuple(
    float(hits[labels == label].mean()) if (labels == label).any() else None
    for label in range(num_classes)
  )


def _reconstruction_metrics(
  features: tf.Tensor, labels: tf.Tensor, outputs: tf.Tensor
) -> Metrics:
  values = math.prod(outputs.shape[1:])
  wanted = tf.reshape(tf.cast(features, tf.float32), [-1, values])
  given = tf.reshape(tf.cast(outputs, tf.float32), [-1, values])
  errors = tf.reduce_mean(tf.square(given - wanted), axis=1)
  count = tf.cast(tf.size(labels), tf.float32)
  return Metrics(tf.reduce_sum(errors), tf.zeros([], tf.float32), count)


def _reconstruction_quality(inputs: Array, outputs: Array, labels: Array) -> Quality:
  count = len(labels)
  difference = outputs.reshape(count, -1).astype(np.float64) - inputs.reshape(count, -1)
  errors = np.square(difference).mean(axis=1)
  return Quality(
    loss=float(errors.mean()),
    accuracy=None,
    auc=roc.area_under_roc(errors, labels.astype(bool)),
  )


CLASSIFY = Task("classify", True, _classification_metrics, _classification_quality)
RECONSTRUCT = Task(
  "reconstruct", False, _reconstruction_metrics, _reconstruction_quality
)

TASKS: dict[str, Task] = {task.name: task for task in (CLASSIFY, RECONSTRUCT)}
