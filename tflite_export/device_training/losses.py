"""Losses and hits of a batch some rows of which do not count, in TFLite's operators.

They are those of `fedtiny_tff.tasks`, whose softmax cross-entropy TFLite does not have.
"""

import math
from collections.abc import Callable

import tensorflow as tf

from fedtiny_tff import tasks

# From inputs, labels and outputs of a batch to each row's loss and whether it was hit.
RowFigures = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]


def _classification(
  inputs: tf.Tensor, labels: tf.Tensor, logits: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
  del inputs
  chosen = tf.one_hot(labels, logits.shape[-1])
  losses = -tf.reduce_sum(tf.nn.log_softmax(logits) * chosen, axis=1)
  hits = tf.equal(tf.argmax(logits, axis=1, output_type=tf.int32), labels)
  return losses, tf.cast(hits, tf.float32)


def _reconstruction(
  inputs: tf.Tensor, labels: tf.Tensor, outputs: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
  values = math.prod(outputs.shape[1:])
  wanted = tf.reshape(inputs, [-1, values])
  given = tf.reshape(outputs, [-1, values])
  losses = tf.reduce_mean(tf.square(given - wanted), axis=1)
  return losses, tf.zeros([labels.shape[0]])


ROW_FIGURES: dict[str, RowFigures] = {
  tasks.CLASSIFY.name: _classification,
  tasks.RECONSTRUCT.name: _reconstruction,
}


def batch_metrics(
  task: tasks.Task,
  inputs: tf.Tensor,
  labels: tf.Tensor,
  outputs: tf.Tensor,
  rows: tf.Tensor,
) -> tasks.Metrics:
  """Sums figures over the rows that count.

  Args:
    task: What the outputs mean.
    inputs: float32 [batch, ...].
    labels: int32 [batch]; those of rows that do not count may be any number.
    outputs: float32 [batch, outputs].
    rows: float32 [batch], 1 for rows that count and 0 for others.
  """
  losses, hits = ROW_FIGURES[task.name](inputs, labels, outputs)
  return tasks.Metrics(
    tf.reduce_sum(losses * rows), tf.reduce_sum(hits * rows), tf.reduce_sum(rows)
  )
