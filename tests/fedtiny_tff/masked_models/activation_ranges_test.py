"""Extremes, counts and percentiles of activations, with numbers worked out by hand."""

import hypothesis
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies as st

from fedtiny_tff.masked_models import activation_ranges
from fedtiny_tff.masked_models.activation_ranges import BINS, Ranges
from tests.fedtiny_tff.support import floats, quick

# Three records; the tensors are the record, and twice its first value minus 1.
RECORDS = tf.constant([[1.0, -2.0], [0.5, 3.0], [0.0, 0.25]])


def _activations(batch):
  return [batch, 2.0 * batch[:, 0] - 1.0]


def _ranges(low, high):
  return Ranges(floats(low), floats(high))


def _check(found, low, high):
  np.testing.assert_array_equal(found.minimum, floats(low))
  np.testing.assert_array_equal(found.maximum, floats(high))


class TestMeasure:
  @pytest.mark.parametrize("batch_size", [1, 2, 3, 10])
  def test_extremes_of_each_tensor(self, batch_size):
    found = activation_ranges.measure(_activations, 2, RECORDS, batch_size)
    _check(found, [-2.0, -1.0], [3.0, 1.0])

  def test_no_record_is_neutral(self):
    found = activation_ranges.measure(_activations, 2, RECORDS[:0], 4)
    _check(found, [np.inf] * 2, [-np.inf] * 2)

  @pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
  @pytest.mark.parametrize("place", [0, 1, 2])
  def test_what_is_not_finite_is_seen(self, broken, place):
    records = RECORDS.numpy()
    records[place, 1] = broken
    found = activation_ranges.measure(_activations, 2, tf.constant(records), 1)
    # The other tensor does not depend on that value.
    _check(found, [-np.inf, -1.0], [np.inf, 1.0])


class TestCount:
  @pytest.mark.parametrize("batch_size", [1, 2, 10])
  def test_counts_in_equal_parts(self, batch_size):
    ranges = _ranges([-2.0, -1.0], [3.0, 1.0])
    found = activation_ranges.count(_activations, ranges, RECORDS, batch_size).numpy()
    assert (found.dtype, found.shape) == (np.int64, (2, BINS))
    # Of the range 5: (1 + 2) / 5 of 2,048 parts is 1,228.8, and so on; 3 ends it.
    first = {1228: 1, 0: 1, 1024: 1, 2047: 1, 819: 1, 921: 1}
    assert {int(b): int(found[0, b]) for b in np.flatnonzero(found[0])} == first
    assert {int(b): int(found[1, b]) for b in np.flatnonzero(found[1])} == {
      2047: 1, 1024: 1, 0: 1
    }  # fmt: skip

  def test_values_outside_count_at_the_ends(self):
    ranges = _ranges([0.0, 0.0], [1.0, 1.0])
    found = activation_ranges.count(_activations, ranges, RECORDS, 4).numpy()
    assert (found[0, 0], found[0, -1]) == (2, 2)

  def test_a_constant_tensor_and_a_broken_one_do_no_harm(self):
    ranges = _ranges([2.0, -np.inf], [2.0, np.inf])

    def activations(batch):
      return [0.0 * batch + 2.0, batch[:, 0] / 0.0]

    found = activation_ranges.count(activations, ranges, RECORDS, 4).numpy()
    assert found.sum(axis=1).tolist() == [6, 3]


def _counts(**at):
  counts = np.zeros((1, BINS), np.int64)
  for place, number in at.items():
    counts[0, int(place[1:])] = number
  return counts


class TestCutTails:
  def test_a_positive_range_loses_its_upper_tail(self):
    # 9,999 of 10,000 values in part 511 of [0, 2048]: it ends at 512.
    counts = _counts(_511=9_999, _2047=1)
    found = activation_ranges.cut_tails(counts, _ranges([0.0], [2048.0]), 99.99)
    _check(found, [0.0], [512.0])

  def test_one_value_more_and_the_tail_stays(self):
    counts = _counts(_511=9_998, _2047=2)
    found = activation_ranges.cut_tails(counts, _ranges([0.0], [2048.0]), 99.99)
    _check(found, [0.0], [2048.0])

  def test_a_negative_range_loses_its_lower_tail(self):
    counts = _counts(_0=1, _1536=9_999)
    found = activation_ranges.cut_tails(counts, _ranges([-2048.0], [0.0]), 99.99)
    _check(found, [-512.0], [0.0])

  def test_a_signed_range_loses_both(self):
    counts = _counts(_0=5, _924=45, _1124=45, _2047=5)
    found = activation_ranges.cut_tails(counts, _ranges([-1024.0], [1024.0]), 95)
    _check(found, [-100.0], [101.0])

  def test_zero_stays_within(self):
    # All but one value lie in the part from 1,000 to 1,001.
    counts = _counts(_0=1, _2024=99)
    found = activation_ranges.cut_tails(counts, _ranges([-1024.0], [1024.0]), 99)
    _check(found, [0.0], [1001.0])
    found = activation_ranges.cut_tails(
      counts[:, ::-1], _ranges([-1024.0], [1024.0]), 99
    )
    _check(found, [-1001.0], [0.0])

  def test_an_end_that_is_not_cut_stays_exact(self):
    low, high = floats([-0.3, 0.1]), floats([0.7, 0.9])
    counts = np.ones((2, BINS), np.int64)
    found = activation_ranges.cut_tails(counts, Ranges(low, high), 100)
    _check(found, low, high)

  def test_a_constant_tensor_keeps_its_range(self):
    found = activation_ranges.cut_tails(_counts(_0=7), _ranges([2.0], [2.0]), 99)
    _check(found, [2.0], [2.0])

  @quick
  @hypothesis.given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([60.0, 90.0, 99.0, 99.9]),
    st.floats(-3, 3),
  )
  def test_is_numpys_percentile_within_a_part(self, seed, percentile, offset):
    values = np.random.default_rng(seed).normal(offset, 1.0, 3000).astype(np.float32)
    ranges = _ranges([values.min()], [values.max()])
    counts, _ = np.histogram(values, BINS, (values.min(), values.max()))
    found = activation_ranges.cut_tails(counts[np.newaxis], ranges, percentile)
    part = (values.max() - values.min()) / BINS
    kept = round(len(values) * percentile / 100)
    ordered = np.sort(values)
    low, high = min(ordered[-kept], 0.0), max(ordered[kept - 1], 0.0)
    assert found.minimum[0] == pytest.approx(
      low if values.min() < 0 else values.min(), abs=part
    )
    assert found.maximum[0] == pytest.approx(
      high if values.max() > 0 else values.max(), abs=part
    )
    assert found.minimum[0] >= values.min()
    assert found.maximum[0] <= values.max()
