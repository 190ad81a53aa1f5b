"""Mini-batches by step number, from records held in memory.

A client's records are read once per round and gathered batch by batch inside the
training loop. (A `tf.data` pipeline would be set up anew for each client of each
round, which costs more than a small client's training.)
"""

import tensorflow as tf


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


def stored_order(count: tf.Tensor) -> tf.Tensor:
  """Visits the records once, as they are stored: int32 [1, count]."""
  return tf.range(tf.cast(count, tf.int32))[tf.newaxis]


def number_of_steps(order: tf.Tensor, batch_size: int) -> tf.Tensor:
  """Returns how many batches an order makes; every epoch ends with its own."""
  shape = tf.shape(order)
  return shape[0] * _steps_per_epoch(shape[1], batch_size)


def _steps_per_epoch(count: tf.Tensor, batch_size: int) -> tf.Tensor:
  return -(-count // batch_size)


def batch_records(
  records: tf.Tensor, order: tf.Tensor, step: tf.Tensor, batch_size: int
) -> tf.Tensor:
  """Gathers one batch.

  Args:
    records: [n, ...].
    order: int32 [epochs, n].
    step: int32, from 0 to `number_of_steps` - 1.
    batch_size: Records per batch; the last of an epoch may have fewer.

  Returns:
    [batch, ...].
  """
  per_epoch = _steps_per_epoch(tf.shape(order)[1], batch_size)
  start = (step % per_epoch) * batch_size
  chosen = order[step // per_epoch, start : start + batch_size]
  return tf.gather(records, chosen)
