"""Means over clients that a few bad ones cannot pull anywhere.

Coordinate by coordinate the largest and smallest values are left out, as many on either
side; the median leaves out all but the middle. Clients count alike, whatever number of
examples they claim.

Source: "Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates",
D. Yin et al., ICML 2018, arXiv 1803.01498.
"""

from typing import Any, NamedTuple

import tensorflow as tf

# Leaves out all but the middle, or the middle two.
MEDIAN_SHARE = 0.5


class Stack(NamedTuple):
  """Values of several clients, side by side.

  Attributes:
    values: Any structure of tensors [slots, ...]; zero beyond the first `count`.
    count: int32, clients in it.
  """

  values: Any
  count: tf.Tensor


def empty(one: Any, slots: int) -> Stack:
  """Returns a stack without clients.

  Args:
    one: A client's value: any structure of tensors or tf.TensorSpecs of static shape.
    slots: Most clients that it is to hold.
  """
  zeros = tf.nest.map_structure(
    lambda each: tf.zeros([slots, *each.shape], each.dtype), one
  )
  return Stack(zeros, tf.zeros([], tf.int32))


def append(stack: Stack, value: Any) -> Stack:
  """Adds a client's value.

  Args:
    stack: Has a free slot.
    value: Structure like that of the stack.
  """

  def put(rows: tf.Tensor, one: tf.Tensor) -> tf.Tensor:
    return tf.where(tf.equal(_slots(rows), stack.count), one[tf.newaxis], rows)

  values = tf.nest.map_structure(put, stack.values, value)
  return Stack(values, stack.count + 1)


def _slots(rows: tf.Tensor) -> tf.Tensor:
  """Returns the number of each slot, in a shape that broadcasts with the rows."""
  return tf.reshape(tf.range(rows.shape[0]), [-1, *[1] * (rows.shape.rank - 1)])


def merge(left: Stack, right: Stack) -> Stack:
  """Puts two stacks into one, which has slots for both."""
  values = tf.nest.map_structure(
    lambda a, b: a + tf.roll(b, left.count, axis=0), left.values, right.values
  )
  return Stack(values, left.count + right.count)


def trimmed_mean(stack: Stack, share: float) -> Any:
  """Averages what is left of each coordinate without its extremes.

  Args:
    stack: At least one client.
    share: Of the clients, left out on either side, rounded down: at least one of three
      or more, unless it is 0; and so many that one or two are left.

  Returns:
    A structure like a client's value.
  """
  count = stack.count
  trimmed = tf.cast(tf.floor(share * tf.cast(count, tf.float32) + 1e-4), tf.int32)
  trimmed = tf.maximum(trimmed, 1 if share > 0.0 else 0)
  trimmed = tf.maximum(tf.minimum(trimmed, (count - 1) // 2), 0)

  def of_one(rows: tf.Tensor) -> tf.Tensor:
    slot = _slots(rows)
    ordered = tf.sort(tf.where(slot < count, rows, rows.dtype.max), axis=0)
    is_left = tf.logical_and(slot >= trimmed, slot < count - trimmed)
    left = tf.cast(tf.maximum(count - 2 * trimmed, 1), rows.dtype)
    # Summed before it is divided, what is left of equal values may be another.
    return tf.reduce_sum(tf.where(is_left, ordered / left, tf.zeros_like(rows)), axis=0)

  return tf.nest.map_structure(of_one, stack.values)


def to_unit_norm(value: Any) -> Any:
  """Scales a structure of float tensors so that all of it has Euclidean norm 1.

  Zeros stay zeros.
  """
  norm = tf.linalg.global_norm(tf.nest.flatten(value))
  scale = tf.math.divide_no_nan(1.0, norm)
  return tf.nest.map_structure(lambda each: each * scale, value)
