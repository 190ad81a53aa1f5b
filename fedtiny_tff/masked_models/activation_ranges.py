"""Ranges of activations: measured batch by batch, combined, cut to percentiles.

Full-integer files need the range of every activation tensor. Only two kinds of numbers
are ever taken from the examples, and both combine over clients: the smallest and the
largest value of each tensor, and how many values fall into each of `BINS` equal parts
of that range.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from fedtiny_tff.arrays import Array

# Parts of a tensor's range whose values are counted.
BINS = 2048

# From a slice of the records, [n, ...], to the activation tensors, float32 [n, ...].
Activations = Callable[[tf.Tensor], Sequence[tf.Tensor]]


class Ranges(NamedTuple):
  """The values each tensor takes.

  No example at all gives (+inf, -inf), which changes no other range; a tensor that is
  anywhere NaN or infinite has the range (-inf, +inf).

  Attributes:
    minimum: float32 [tensors].
    maximum: float32 [tensors].
  """

  minimum: tf.Tensor
  maximum: tf.Tensor


def measure(
  activations: Activations, tensors: int, records: tf.Tensor, batch_size: int
) -> Ranges:
  """Finds the smallest and the largest value of every tensor.

  Args:
    activations: Gives the tensors.
    tensors: How many it gives, at least 1.
    records: Whatever `activations` takes, [n, ...].
    batch_size: Records at a time; has no influence on the result.
  """

  @tf.function
  def measured(records: tf.Tensor) -> Ranges:
    infinity = tf.fill([tensors], np.float32(np.inf))
    total = Ranges(infinity, -infinity)
    size = tf.shape(records)[0]
    for start in tf.range(0, size, batch_size):
      batch = records[start : tf.minimum(start + batch_size, size)]
      found = [_extremes(tensor) for tensor in activations(batch)]
      minimum, maximum = (tf.stack(part) for part in zip(*found, strict=True))
      total = Ranges(
        tf.minimum(total.minimum, minimum), tf.maximum(total.maximum, maximum)
      )
    return total

  ranges: Ranges = measured(records)
  return ranges


def _extremes(tensor: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
  # Minimum and maximum may pass over NaN.
  finite = tf.reduce_all(tf.math.is_finite(tensor))
  infinity = tf.constant(np.inf, tf.float32)
  return (
    tf.where(finite, tf.reduce_min(tensor), -infinity),
    tf.where(finite, tf.reduce_max(tensor), infinity),
  )


def count(
  activations: Activations, ranges: Ranges, records: tf.Tensor, batch_size: int
) -> tf.Tensor:
  """Counts the values of every tensor in `BINS` equal parts of its range.

  Values outside go to the nearest part.

  Args:
    activations: Gives the tensors.
    ranges: Their ranges, [tensors].
    records: Whatever `activations` takes, [n, ...].
    batch_size: Records at a time; has no influence on the result.

  Returns:
    int64 [tensors, BINS].
  """
  # What is counted of a tensor without parts, or that is not finite, is never used.
  usable = tf.math.is_finite(ranges.maximum - ranges.minimum)
  usable = tf.logical_and(usable, ranges.maximum > ranges.minimum)
  lower = tf.where(usable, ranges.minimum, 0.0)
  upper = tf.where(usable, ranges.maximum, 1.0)

  @tf.function
  def counted(records: tf.Tensor) -> tf.Tensor:
    ends = zip(*(tf.unstack(part) for part in (usable, lower, upper)), strict=True)
    within = list(ends)
    total = tf.zeros([len(within), BINS], tf.int64)
    size = tf.shape(records)[0]
    for start in tf.range(0, size, batch_size):
      batch = records[start : tf.minimum(start + batch_size, size)]
      parts = [
        tf.histogram_fixed_width(tf.where(use, x, 0.0), [low, high], BINS, tf.int64)
        for x, (use, low, high) in zip(activations(batch), within, strict=True)
      ]
      total += tf.stack(parts)
    return total

  return counted(records)


def cut_tails(counts: Array, ranges: Ranges, percentile: float) -> Ranges:
  """Cuts the rare extremes off every range.

  Where a tensor has positive values, its range ends with the part that holds the
  percentile; where it has negative ones, it begins with the part that holds 100 minus
  the percentile. An end is moved to zero at most, never across. 100 cuts nothing.

  Args:
    counts: int64 [tensors, BINS], from `count` over these ranges.
    ranges: [tensors], NumPy arrays.
    percentile: In (50, 100].

  Returns:
    NumPy arrays.
  """
  pairs = zip(*ranges, strict=True)
  cut = [
    _cut_tails(row, float(low), float(high), percentile)
    for row, (low, high) in zip(np.asarray(counts), pairs, strict=True)
  ]
  return Ranges(*np.asarray(cut, np.float32).reshape(-1, 2).T)


def _cut_tails(
  counts: Array, low: float, high: float, percentile: float
) -> tuple[float, float]:
  kept = _parts_kept(counts, percentile), _parts_kept(counts[::-1], percentile)
  part = (high - low) / BINS
  # All parts kept must give the very end back, whatever the rounding.
  upper = high if kept[0] == BINS else low + kept[0] * part
  lower = low if kept[1] == BINS else high - kept[1] * part
  return (min(lower, 0.0) if low < 0 else low, max(upper, 0.0) if high > 0 else high)


def _parts_kept(counts: Array, percentile: float) -> int:
  """Returns how many parts, from the first, hold that share of all values."""
  # Rounded, so that 99.99 % of 10,000 values are 9,999 and not one more.
  wanted = np.ceil(np.round(counts.sum() * (percentile / 100), 6))
  return min(int(np.searchsorted(np.cumsum(counts), wanted)) + 1, BINS)
