"""Sparse vectors as they travel: active values, and one bit per position.

A mask of n positions takes ceil(n / 8) bytes; position i is bit 7 - i % 8 of
byte i // 8 (most significant first, as `numpy.packbits` has it). Unused bits of
the last byte are 0.
"""

import tensorflow as tf

_BIT_VALUES = (128, 64, 32, 16, 8, 4, 2, 1)


def packed_size_bytes(size: int) -> int:
  """Returns how many bytes a packed mask of `size` positions takes."""
  return -(-size // 8)


def pack_mask(mask: tf.Tensor) -> tf.Tensor:
  """Packs bool [n] into uint8 [ceil(n / 8)]."""
  size = mask.shape[0]
  padded = tf.pad(tf.cast(mask, tf.uint8), [[0, -size % 8]])
  bits = tf.reshape(padded, [-1, 8]) * tf.constant(_BIT_VALUES, tf.uint8)
  return tf.reduce_sum(bits, axis=1)


def unpack_mask(packed: tf.Tensor, size: int) -> tf.Tensor:
  """Unpacks uint8 [ceil(size / 8)] into bool [size]."""
  bits = tf.bitwise.bitwise_and(
    packed[:, tf.newaxis], tf.constant(_BIT_VALUES, tf.uint8)
  )
  return tf.reshape(tf.not_equal(bits, 0), [-1])[:size]


def gather_active(vector: tf.Tensor, mask: tf.Tensor, count: int) -> tf.Tensor:
  """Takes the active entries of a vector, in order.

  Args:
    vector: [n].
    mask: bool [n] with exactly `count` True.
    count: Static length of the result.

  Returns:
    [count].

  Raises:
    tf.errors.InvalidArgumentError: When `mask` has another number of True.
  """
  return tf.ensure_shape(tf.boolean_mask(vector, mask), [count])


def scatter(values: tf.Tensor, places: tf.Tensor, size: int) -> tf.Tensor:
  """Puts values at their places, zeros (or False) elsewhere.

  Args:
    values: [count].
    places: int64 [count], all different.
    size: Length of the result.

  Returns:
    [size], of the values' type.
  """
  nothing = tf.zeros([size], values.dtype)
  return tf.tensor_scatter_nd_update(nothing, places[:, tf.newaxis], values)
