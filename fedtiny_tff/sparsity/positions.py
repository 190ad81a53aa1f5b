"""Where the active weights of a sparse vector are, in the fewest bytes.

Three codes, all of a length that follows from the vector's size and the number of
active weights alone, so that message types stay static:

*   nothing at all, where no weight is active or every one is;
*   bitmap: one bit per position (`packing`), `ceil(size / 8)` bytes;
*   Elias-Fano: positions p_0 < p_1 < ... are cut at bit l. The lower l bits of all
    are laid end to end; the upper parts are one bit string of
    `count + (size - 1 >> l) + 1` bits in which bit `(p_i >> l) + i` is set for each
    i. Both strings are padded to whole bytes, most significant bit first, lower
    bits first. About log2(size / count) + 2 bits a position, within half a bit of
    the least possible; smaller than the bitmap below about 25 % density.

Source: P. Elias, "Efficient Storage and Retrieval by Content and Address of Static
Files", J. ACM 21(2), 1974.
"""

import dataclasses
from typing import Optional

import numpy as np
import tensorflow as tf

from fedtiny_tff.sparsity import packing


@dataclasses.dataclass(frozen=True)
class PositionCode:
  """A code for `count` positions out of `size`.

  Attributes:
    size: Length of the vector.
    count: Number of active positions, from 0 to `size`.
    low_bits: Where Elias-Fano cuts a position, at least 1; None is the bitmap.
  """

  size: int
  count: int
  low_bits: Optional[int]

  def __post_init__(self) -> None:
    """Refuses counts and cuts that no vector has with a ValueError."""
    if not 0 <= self.count <= self.size:
      raise ValueError(f"count must be in [0, {self.size}], got {self.count}")
    if self.low_bits is not None and self.low_bits < 1:
      raise ValueError(f"low_bits must be at least 1, got {self.low_bits}")

  @property
  def is_implied(self) -> bool:
    """Whether the count alone says where the active positions are."""
    return self.count in (0, self.size)

  @property
  def _upper_size(self) -> int:
    assert self.low_bits is not None
    return self.count + (max(self.size - 1, 0) >> self.low_bits) + 1

  @property
  def _lower_bytes(self) -> int:
    assert self.low_bits is not None
    return packing.packed_size_bytes(self.count * self.low_bits)

  @property
  def encoded_bytes(self) -> int:
    """Length of the encoding."""
    if self.is_implied:
      return 0
    if self.low_bits is None:
      return packing.packed_size_bytes(self.size)
    return self._lower_bytes + packing.packed_size_bytes(self._upper_size)

  def encode(self, mask: tf.Tensor) -> tf.Tensor:
    """Encodes the positions that a mask marks.

    Args:
      mask: bool [size] with exactly `count` True.

    Returns:
      uint8 [encoded_bytes].

    Raises:
      tf.errors.InvalidArgumentError: When `mask` has another number of True.
    """
    positions = tf.ensure_shape(tf.where(mask), [self.count, 1])[:, 0]
    if self.is_implied:
      return tf.zeros([0], tf.uint8)
    if self.low_bits is None:
      return packing.pack_mask(mask)
    shifts = tf.range(self.low_bits - 1, -1, -1, dtype=tf.int64)
    lower = tf.bitwise.bitwise_and(
      tf.bitwise.right_shift(positions[:, tf.newaxis], shifts), 1
    )
    upper = self._upper_parts(positions) + tf.range(self.count, dtype=tf.int64)
    marked = tf.scatter_nd(
      upper[:, tf.newaxis],
      tf.ones([self.count], tf.uint8),
      tf.constant([self._upper_size], tf.int64),
    )
    bits = tf.reshape(lower, [self.count * self.low_bits])
    packed = packing.pack_mask(tf.cast(bits, tf.bool))
    return tf.concat([packed, packing.pack_mask(tf.cast(marked, tf.bool))], axis=0)

  def _upper_parts(self, positions: tf.Tensor) -> tf.Tensor:
    return tf.bitwise.right_shift(positions, tf.constant(self.low_bits, tf.int64))

  def fits(self, encoded: tf.Tensor) -> tf.Tensor:
    """Whether `decode` gives positions that a mask could have, bool.

    Args:
      encoded: uint8 [encoded_bytes], from whomever.
    """
    if self.is_implied:
      return tf.constant(True)
    if self.low_bits is None:
      return tf.equal(_ones(packing.unpack_mask(encoded, self.size)), self.count)
    marked = packing.unpack_mask(encoded[self._lower_bytes :], self._upper_size)

    def ascend() -> tf.Tensor:
      places = self.decode(encoded)
      return tf.reduce_all(places[1:] > places[:-1]) & (places[-1] < self.size)

    return tf.cond(
      tf.equal(_ones(marked), self.count), ascend, lambda: tf.constant(False)
    )

  def decode(self, encoded: tf.Tensor) -> tf.Tensor:
    """Decodes positions, in ascending order.

    Args:
      encoded: uint8 [encoded_bytes].

    Returns:
      int64 [count].

    Raises:
      tf.errors.InvalidArgumentError: When `encoded` holds another number.
    """
    if self.is_implied:
      return tf.range(self.count, dtype=tf.int64)
    if self.low_bits is None:
      mask = packing.unpack_mask(encoded, self.size)
      return tf.ensure_shape(tf.where(mask), [self.count, 1])[:, 0]
    lower = packing.unpack_mask(
      encoded[: self._lower_bytes], self.count * self.low_bits
    )
    powers = np.left_shift(1, np.arange(self.low_bits - 1, -1, -1))
    digits = tf.cast(tf.reshape(lower, [self.count, self.low_bits]), tf.int64)
    marked = packing.unpack_mask(encoded[self._lower_bytes :], self._upper_size)
    places = tf.ensure_shape(tf.where(marked), [self.count, 1])[:, 0]
    upper = places - tf.range(self.count, dtype=tf.int64)
    shifted = tf.bitwise.left_shift(upper, tf.constant(self.low_bits, tf.int64))
    return shifted + tf.reduce_sum(digits * tf.constant(powers, tf.int64), axis=1)


def _ones(bits: tf.Tensor) -> tf.Tensor:
  return tf.math.count_nonzero(bits, dtype=tf.int64)


def mask_at(places: tf.Tensor, size: int) -> tf.Tensor:
  """Turns positions, int64 [count], into a mask, bool [size]."""
  return packing.scatter(tf.ones_like(places, tf.bool), places, size)


def smallest_code(size: int, count: int) -> PositionCode:
  """Returns the code of fewest bytes; the bitmap where Elias-Fano is not smaller.

  Args:
    size: Length of the vector.
    count: Number of active positions.
  """
  codes = [PositionCode(size, count, None)]
  codes += [PositionCode(size, count, bits) for bits in range(1, size.bit_length() + 1)]
  return min(codes, key=lambda code: code.encoded_bytes)
