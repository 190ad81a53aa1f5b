"""Sums of clipped vectors whose noise follows from a seed, by hand and against NumPy."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from fedtiny_tff.protection.private_queries import SeededAdaptiveSum, SeededGaussianSum
from tests.fedtiny_tff.support import quick

SEED = (3, 4)


def _release(query, clip_norm, records, seed=SEED):
  """Returns the noised sum, the state afterwards, and what was spent."""
  state = query.state_at(tf.constant(clip_norm, tf.float32), tf.constant(seed))
  parameters = query.derive_sample_params(state)
  tensors = [tf.nest.map_structure(tf.constant, record) for record in records]
  summed = query.initial_sample_state(tensors[0])
  for record in tensors:
    summed = query.accumulate_record(parameters, summed, record)
  return query.get_noised_result(summed, state)


def _vector(*values):
  return np.array(values, np.float32)


class TestGaussian:
  def test_long_vectors_are_clipped_and_short_ones_are_not(self):
    # (3, 4) has length 5 and becomes (0.6, 0.8); (0.3, 0) stays.
    found, _, _ = _release(
      SeededGaussianSum(9.0, 0.0), 1.0, [_vector(3, 4), _vector(0.3, 0)]
    )
    np.testing.assert_allclose(found, [0.9, 0.8], rtol=1e-6)

  def test_the_length_is_that_of_all_parts(self):
    found, _, _ = _release(
      SeededGaussianSum(9.0, 0.0), 2.5, [(_vector(3), _vector(0, 4))]
    )
    np.testing.assert_allclose(found[0], [1.5], rtol=1e-6)
    np.testing.assert_allclose(found[1], [0, 2], rtol=1e-6)

  @quick
  @given(
    st.lists(
      st.lists(st.floats(-100, 100, width=32), min_size=3, max_size=3),
      min_size=1,
      max_size=5,
    ),
    st.floats(0.125, 8, width=32),
  )
  def test_without_noise_it_is_the_sum_of_clipped_vectors(self, rows, clip_norm):
    records = np.float64(rows)
    found, _, _ = _release(
      SeededGaussianSum(1.0, 0.0), clip_norm, records.astype(np.float32)
    )
    lengths = np.linalg.norm(records, axis=1, keepdims=True)
    wanted = (records * clip_norm / np.maximum(lengths, clip_norm)).sum(axis=0)
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    assert np.linalg.norm(found) <= len(rows) * clip_norm * (1 + 1e-5)

  @pytest.mark.parametrize("clip_norm", [0.5, 2.0])
  def test_noise_is_a_multiple_of_the_longest_vector_of_the_release(self, clip_norm):
    # Whatever the first one was, 7 here.
    found, state, event = _release(
      SeededGaussianSum(7.0, 3.0), clip_norm, [np.zeros(20_000, np.float32)]
    )
    np.testing.assert_allclose(np.std(found), 3.0 * clip_norm, rtol=0.02)
    np.testing.assert_allclose(np.mean(found), 0.0, atol=0.1 * clip_norm)
    np.testing.assert_allclose(event.noise_multiplier, 3.0)
    assert SeededGaussianSum(7.0, 3.0).clip_norm(state) == clip_norm

  def test_the_same_seed_is_the_same_noise_and_every_tensor_has_its_own(self):
    query = SeededGaussianSum(1.0, 1.0)
    zeros = (np.zeros(4, np.float32), np.zeros(4, np.float32))
    first, again, other = (
      np.stack(_release(query, 1.0, [zeros], seed)[0]) for seed in (SEED, SEED, (3, 5))
    )
    np.testing.assert_array_equal(first, again)
    drawn = [*first.ravel(), *other.ravel()]
    assert len(set(drawn)) == 16

  def test_noise_does_not_depend_on_what_it_hides(self):
    query = SeededGaussianSum(1.0, 1.0)
    noise, _, _ = _release(query, 1.0, [_vector(0, 0)])
    found, _, _ = _release(query, 1.0, [_vector(3, 4)])
    np.testing.assert_allclose(found - noise, [0.6, 0.8], atol=1e-6)


class TestAdaptive:
  """Of four vectors expected; the share of short ones has no noise to speak of."""

  QUERY = SeededAdaptiveSum(9.0, 0.0, 1e-6, 4.0)

  @pytest.mark.parametrize(
    ("short", "exponent"),
    # The median is aimed at, with a rate of 0.2: 0.2 · (0.5 - share of short ones).
    [(0, 0.1), (1, 0.05), (2, 0.0), (3, -0.05), (4, -0.1)],
  )
  def test_the_clip_norm_follows_the_median(self, short, exponent):
    records = [_vector(0.5)] * short + [_vector(8.0)] * (4 - short)
    found, state, _ = _release(self.QUERY, 2.0, records)
    np.testing.assert_allclose(found, [0.5 * short + 2.0 * (4 - short)], rtol=1e-6)
    np.testing.assert_allclose(
      self.QUERY.clip_norm(state), 2.0 * np.exp(exponent), rtol=1e-5
    )

  def test_the_next_release_begins_with_it(self):
    _, state, _ = _release(self.QUERY, 2.0, [_vector(8.0)] * 4)
    found, _, _ = _release(self.QUERY, self.QUERY.clip_norm(state), [_vector(8.0)])
    np.testing.assert_allclose(found, [2.0 * np.exp(0.1)], rtol=1e-5)

  def test_noise_on_the_share_is_that_on_a_count(self):
    # Half are short: what moves the logarithm is 0.2 · 0.4 / 4 of a standard normal.
    query = SeededAdaptiveSum(1.0, 0.0, 0.4, 4.0)
    records = [_vector(0.5), _vector(8.0)] * 2
    moved = [
      np.log(query.clip_norm(_release(query, 1.0, records, (5, number))[1]))
      for number in range(150)
    ]
    np.testing.assert_allclose(np.std(moved), 0.02, rtol=0.2)
    np.testing.assert_allclose(np.mean(moved), 0.0, atol=0.005)

  def test_noise_on_vectors_is_another(self):
    query = SeededAdaptiveSum(1.0, 1.0, 1.0, 10.0)
    zero = [np.zeros(20_000, np.float32)]
    found, state, _ = _release(query, 2.0, zero)
    np.testing.assert_allclose(np.std(found), 2.0, rtol=0.02)
    # Of ten one is there, a short one: a share of 0.55, and a tenth of a standard normal.
    # Of the same seed that would be the first coordinate's.
    share = np.log(query.clip_norm(state) / 2.0) / -0.2 + 0.5
    assert abs(found[0] / 2.0 - (share - 0.55) / 0.1) > 1e-2
    again, same, _ = _release(query, 2.0, zero)
    np.testing.assert_array_equal(again, found)
    assert query.clip_norm(same) == query.clip_norm(state)

  def test_both_are_spent(self):
    _, _, event = _release(SeededAdaptiveSum(1.0, 3.0, 2.0, 4.0), 2.0, [_vector(1.0)])
    spent = [float(each.noise_multiplier) for each in event.events]
    # Whether a vector is short counts as a half: 2.0 is four times that.
    np.testing.assert_allclose(spent, [3.0, 4.0], rtol=1e-6)
