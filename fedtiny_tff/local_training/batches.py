"""Mini-batches by step number, from records held in memory.

A client's records are read once per round and gathered batch by batch inside the
training loop. (A `tf.data` pipeline would be set up anew for each client of each
round, which costs more than a small client's training.)
"""

from typing import NamedTuple

import tensorflow as tf


class Examples(NamedTuple):
  """A client's examples and how training goes through them.

  Attributes:
    records: Raw records, [n, ...].
    order: int32 [epochs, n], indices into `records` in order of use.
    seed: int32 [2], of everything else that is random in a step.
  """

  records: tf.Tensor
  order: tf.Tensor
  seed: tf.Tensor


def shuffled(records: tf.Tensor, epochs: int, seed: tf.Tensor) -> Examples:
  """Goes through the records in a new order in every epoch.

  Args:
    records: Raw records, [n, ...].
    epochs: Passes over them.
    seed: int32 [2]; the same seed gives the same steps.
  """
  fold_in = tf.random.experimental.stateless_fold_in
  order = shuffled_order(tf.shape(records)[0], epochs, fold_in(seed, 0))
  return Examples(records, order, fold_in(seed, 1))


def in_stored_order(records: tf.Tensor) -> Examples:
  """Goes through the records once, as they are stored."""
  order = tf.range(tf.shape(records)[0])[tf.newaxis]
  return Examples(records, order, tf.zeros([2], tf.int32))


def shuffled_order(count: tf.Tensor, epochs: int, seed: tf.Tensor) -> tf.Tensor:
  """Draws the order in which every epoch visits the records.

  Args:
    count: Number of records.
    epochs: Passes over them.
    seed: int32 [2]; the same seed gives the same order.

  Returns:
    int32 [epochs, count].
  """
  fold_in = tf.random.experimental.stateless_fold_in
  indices = tf.range(tf.cast(count, tf.int32))
  return tf.stack(
    [
      tf.random.experimental.stateless_shuffle(indices, fold_in(seed, epoch))
      for epoch in range(epochs)
    ]
  )


def number_of_steps(order: tf.Tensor, batch_size: int) -> tf.Tensor:
  """Returns how many batches an order makes; every epoch ends with its own."""
  shape = tf.shape(order)
  return shape[0] * _steps_per_epoch(shape[1], batch_size)


def _steps_per_epoch(count: tf.Tensor, batch_size: int) -> tf.Tensor:
  return -(-count // batch_size)


def batch_records(examples: Examples, step: tf.Tensor, batch_size: int) -> tf.Tensor:
  """Gathers one batch of raw records.

  Args:
    examples: Records and their order.
    step: int32, from 0 to `number_of_steps` - 1.
    batch_size: Records per batch; the last of an epoch may have fewer.

  Returns:
    [batch, ...].
  """
  order = examples.order
  per_epoch = _steps_per_epoch(tf.shape(order)[1], batch_size)
  start = (step % per_epoch) * batch_size
  chosen = order[step // per_epoch, start : start + batch_size]
  return tf.gather(examples.records, chosen)
