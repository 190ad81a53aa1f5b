"""Exact counts, ties, and what may drop or grow."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from fedtiny_tff.sparsity import masks
from tests.fedtiny_tff import support

# Few distinct values, so that ties are the rule; both zeros are among them.
_VALUES = st.sampled_from([-2.0, -1.0, -0.5, -0.0, 0.0, 0.5, 1.0, 2.0])


@st.composite
def _layers(draw):
  """Draws (weights, mask, scores, count), with weights zero where pruned."""
  size = draw(st.integers(1, 24))
  column = st.lists(_VALUES, min_size=size, max_size=size)
  mask = np.array(draw(st.lists(st.booleans(), min_size=size, max_size=size)))
  weights = np.where(mask, np.array(draw(column), np.float32), np.float32(0.0))
  scores = np.array(draw(column), np.float32)
  count = draw(st.integers(0, min(int(mask.sum()), int((~mask).sum()))))
  return weights, mask, scores, count


def test_top_k_takes_the_largest_and_the_lower_index_of_a_tie():
  scores = tf.constant([0.5, 2.0, -1.0, 2.0, 0.5])
  # Largest first: indices 1, 3 (tied at 2.0), then 0 before 4 (tied at 0.5).
  for count, expected in [(0, []), (1, [1]), (2, [1, 3]), (3, [0, 1, 3])]:
    marked = masks.top_k_mask(scores, count)
    assert np.flatnonzero(marked).tolist() == expected


def test_all_equal_scores_still_give_the_exact_count():
  marked = masks.top_k_mask(tf.zeros([7]), 3)
  assert marked.numpy().tolist() == [True] * 3 + [False] * 4


def test_top_k_of_an_empty_vector_is_empty():
  assert masks.top_k_mask(tf.zeros([0]), 0).shape == [0]


def test_top_k_works_in_a_graph_with_a_count_that_is_a_tensor():
  @tf.function(input_signature=[tf.TensorSpec([4]), tf.TensorSpec([], tf.int32)])
  def marked(scores, count):
    result = masks.top_k_mask(scores, count)
    assert result.shape == [4]
    return result

  scores = tf.constant([3.0, 1.0, 4.0, 1.0])
  assert marked(scores, tf.constant(3)).numpy().tolist() == [True, True, True, False]
  assert not marked(scores, tf.constant(0)).numpy().any()


@pytest.mark.parametrize(
  ("size", "norms"), [(1, [0.0, 3.0, 4.0, 0.0]), (2, [0.0, 4.0])]
)
def test_what_is_not_a_number_has_no_norm(size, norms):
  values = tf.constant([np.nan, 3.0, -4.0, 0.0])
  assert masks.group_norms(values, size).numpy().tolist() == norms


def test_more_than_there_are_cannot_be_marked():
  with pytest.raises(tf.errors.InvalidArgumentError, match="at least k"):
    masks.top_k_mask(tf.zeros([3]), 4)


def test_magnitude_ignores_the_sign():
  # |w| = 3, 1, 2, 2: the two largest are 3 and the first of the twos.
  kept = masks.magnitude_mask(tf.constant([-3.0, 1.0, 2.0, -2.0]), 2)
  assert kept.numpy().tolist() == [True, False, True, False]


def test_drop_takes_the_smallest_active_weights():
  weights = tf.constant([0.5, -0.1, 0.0, 0.3, -0.1])
  mask = tf.constant([True, True, False, True, True])
  # Of the two 0.1 the one at the lower index ranks higher: index 4 goes first.
  assert np.flatnonzero(masks.drop_mask(weights, mask, 1)).tolist() == [4]
  assert np.flatnonzero(masks.drop_mask(weights, mask, 2)).tolist() == [1, 4]
  assert np.flatnonzero(masks.drop_mask(weights, mask, 3)).tolist() == [1, 3, 4]


def test_an_active_zero_is_dropped_and_a_pruned_zero_is_not():
  weights = tf.constant([0.0, 0.0, 1.0])
  mask = tf.constant([False, True, True])
  assert np.flatnonzero(masks.drop_mask(weights, mask, 1)).tolist() == [1]


def test_grow_takes_the_largest_scores_among_pruned_positions_only():
  scores = tf.constant([9.0, -4.0, 0.0, 4.0, 0.0])
  mask = tf.constant([True, False, False, False, True])
  # Pruned: 1, 2, 3 with |score| 4, 0, 4.
  assert np.flatnonzero(masks.grow_mask(scores, mask, 1)).tolist() == [1]
  assert np.flatnonzero(masks.grow_mask(scores, mask, 2)).tolist() == [1, 3]
  # A pruned score of zero still beats every active position.
  assert np.flatnonzero(masks.grow_mask(scores, mask, 3)).tolist() == [1, 2, 3]


def test_drop_and_grow_by_hand():
  weights = tf.constant([0.9, 0.1, 0.0, 0.0, -0.2, 0.0])
  mask = tf.constant([True, True, False, False, True, False])
  scores = tf.constant([7.0, 8.0, 0.5, -3.0, 9.0, 1.0])
  # Drop 2 smallest active: 0.1 (index 1) and -0.2 (index 4), although theirs are
  # the largest scores. Grow 2 largest |score| among 2, 3, 5: indices 3 and 5.
  new_weights, new_mask = masks.drop_and_grow(weights, mask, scores, 2)
  np.testing.assert_array_equal(new_weights, support.floats([0.9, 0, 0, 0, 0, 0]))
  assert np.flatnonzero(new_mask).tolist() == [0, 3, 5]


def test_moving_nothing_changes_nothing():
  weights, mask = tf.constant([0.9, 0.0]), tf.constant([True, False])
  new_weights, new_mask = masks.drop_and_grow(weights, mask, tf.constant([1.0, 1.0]), 0)
  np.testing.assert_array_equal(new_weights, weights)
  np.testing.assert_array_equal(new_mask, mask)


def test_growing_more_than_is_pruned_changes_the_density_and_is_the_callers_fault():
  # Documented limit of `count`; schedules.adjustment_count keeps to it.
  grown = masks.grow_mask(tf.ones([3]), tf.constant([True, True, False]), 2)
  assert np.count_nonzero(grown) == 2


@support.quick
@given(st.lists(_VALUES, min_size=1, max_size=24), st.data())
def test_the_count_is_exact_and_no_unmarked_score_is_larger(values, data):
  scores = np.array(values, np.float32)
  count = data.draw(st.integers(0, len(scores)))
  marked = masks.top_k_mask(tf.constant(scores), count).numpy()
  assert marked.sum() == count
  if 0 < count < len(scores):
    assert scores[marked].min() >= scores[~marked].max()


@support.quick
@given(_layers())
def test_drop_and_grow_keeps_its_promises(layer):
  weights, mask, scores, count = layer
  new_weights, new_mask = (
    t.numpy()
    for t in masks.drop_and_grow(
      tf.constant(weights), tf.constant(mask), tf.constant(scores), count
    )
  )
  dropped = mask & ~new_mask
  grown = new_mask & ~mask
  # Density is invariant and exactly `count` moved, so nothing came straight back.
  assert new_mask.sum() == mask.sum()
  assert dropped.sum() == grown.sum() == count
  assert not (dropped & grown).any()
  assert not new_weights[grown].any()
  assert not new_weights[~new_mask].any()
  stayed = mask & new_mask
  np.testing.assert_array_equal(new_weights[stayed], weights[stayed])
  if dropped.any() and stayed.any():
    assert np.abs(weights[dropped]).max() <= np.abs(weights[stayed]).min()
  still_pruned = ~mask & ~new_mask
  if grown.any() and still_pruned.any():
    assert np.abs(scores[grown]).min() >= np.abs(scores[still_pruned]).max()


@support.quick
@given(_layers())
def test_drop_and_grow_marks_are_those_of_drop_and_grow_alone(layer):
  weights, mask, scores, count = map(tf.constant, layer)
  dropped = masks.drop_mask(weights, mask, count).numpy()
  grown = masks.grow_mask(scores, mask, count).numpy()
  assert dropped.sum() == grown.sum() == layer[3]
  assert not (dropped & ~layer[1]).any()
  assert not (grown & layer[1]).any()
  _, new_mask = masks.drop_and_grow(weights, mask, scores, count)
  np.testing.assert_array_equal(new_mask, (layer[1] & ~dropped) | grown)


class TestGroups:
  """Groups of consecutive weights: their norms decide, and they move whole."""

  def test_norms_by_hand(self):
    values = tf.constant([3.0, -4.0, 0.0, -0.0, -6.0, 8.0, 1.0, 0.0])
    np.testing.assert_array_equal(masks.group_norms(values, 1), np.abs(values))
    # 3² + 4² = 5², 6² + 8² = 10².
    np.testing.assert_array_equal(masks.group_norms(values, 2), [5.0, 0.0, 10.0, 1.0])
    np.testing.assert_allclose(masks.group_norms(values, 4), [5.0, 101**0.5], rtol=1e-6)

  @pytest.mark.parametrize("scale", [1e-30, 1e30])
  def test_norms_of_tiny_and_huge_values_are_no_ties(self, scale):
    # In float32 the squares are zero, or infinite.
    values = tf.constant([1.0, 1.0, 3.0, 4.0], tf.float32) * scale
    norms = masks.group_norms(values, 2)
    np.testing.assert_allclose(norms / scale, [2**0.5, 5.0], rtol=1e-6)
    assert (
      masks.magnitude_mask(values, 1, 2).numpy().tolist() == [False] * 2 + [True] * 2
    )

  def test_a_group_is_kept_for_its_norm_not_for_its_largest_weight(self):
    # Norms: sqrt(0.9² + 0) = 0.9 and sqrt(0.7² + 0.7²) = 0.99.
    weights = tf.constant([0.9, 0.0, 0.7, -0.7])
    assert np.flatnonzero(masks.magnitude_mask(weights, 1, 2)).tolist() == [2, 3]
    assert np.flatnonzero(masks.magnitude_mask(weights, 1)).tolist() == [0]

  def test_of_equal_groups_the_lower_index_is_kept(self):
    weights = tf.constant([1.0, 2.0, -2.0, 1.0, 2.0, -1.0])
    for count in range(4):
      kept = np.flatnonzero(masks.magnitude_mask(weights, count, 2)).tolist()
      assert kept == list(range(2 * count))

  def test_drop_and_grow_pairs_by_hand(self):
    # Pairs:            0: 0.9      1: 0.5       2: pruned  3: 0.6      4: pruned
    weights = tf.constant([0.9, 0.0, 0.3, -0.4, 0.0, 0.0, 0.6, 0.0, 0.0, 0.0])
    mask = tf.constant([True] * 4 + [False] * 2 + [True] * 2 + [False] * 2)
    # Norms of the pruned pairs: 5 and 4.5; the largest single score is 4.5's. Active
    # pairs have larger ones yet, which do not matter.
    scores = tf.constant([9.0, 9.0, 9.0, 9.0, -3.0, 4.0, 9.0, 9.0, 4.5, 0.0])
    new_weights, new_mask = masks.drop_and_grow(weights, mask, scores, 1, 2)
    expected = support.floats([0.9, 0, 0, 0, 0, 0, 0.6, 0, 0, 0])
    np.testing.assert_array_equal(new_weights, expected)
    assert np.flatnonzero(new_mask).tolist() == [0, 1, 4, 5, 6, 7]

  def test_drop_and_grow_fours_by_hand(self):
    weights = tf.constant([0.1] * 4 + [0.0] * 4 + [0.15, 0, 0, 0])
    mask = tf.constant([True] * 4 + [False] * 4 + [True] * 4)
    # Norms 0.2 and 0.15: the last four go, although one of them is the largest.
    new_weights, new_mask = masks.drop_and_grow(weights, mask, tf.zeros([12]), 1, 4)
    np.testing.assert_array_equal(new_weights, support.floats([0.1] * 4 + [0] * 8))
    assert np.flatnonzero(new_mask).tolist() == list(range(8))

  def test_a_size_that_does_not_divide_is_refused(self):
    with pytest.raises(tf.errors.InvalidArgumentError, match="multiple of 4"):
      masks.magnitude_mask(tf.zeros([6]), 1, 4)


@support.quick
@given(st.data(), st.sampled_from([1, 2, 4]))
def test_groups_move_whole_in_exact_number_and_do_not_come_back(data, size):
  groups = data.draw(st.integers(1, 12))
  column = st.lists(_VALUES, min_size=groups * size, max_size=groups * size)
  active = np.array(
    data.draw(st.lists(st.booleans(), min_size=groups, max_size=groups))
  )
  mask = np.repeat(active, size)
  weights = np.where(mask, np.array(data.draw(column), np.float32), np.float32(0.0))
  scores = np.array(data.draw(column), np.float32)
  count = data.draw(st.integers(0, min(int(active.sum()), int((~active).sum()))))
  new_weights, new_mask = (
    t.numpy()
    for t in masks.drop_and_grow(
      tf.constant(weights), tf.constant(mask), tf.constant(scores), count, size
    )
  )
  by_group = new_mask.reshape(groups, size)
  assert (by_group == by_group[:, :1]).all()
  dropped, grown = active & ~by_group[:, 0], by_group[:, 0] & ~active
  assert dropped.sum() == grown.sum() == count
  assert not new_weights[~new_mask].any()
  assert not new_weights[np.repeat(grown, size)].any()
  # The order of NumPy's stable sort: largest first, the lower index among equals.
  held, lost = np.flatnonzero(active), np.flatnonzero(~active)
  norms = np.square(weights.reshape(groups, size)).sum(axis=1)
  gains = np.square(scores.reshape(groups, size)).sum(axis=1)
  kept = held[np.argsort(-norms[held], kind="stable")[: len(held) - count]]
  assert set(np.flatnonzero(dropped)) == set(held) - set(kept)
  wanted = lost[np.argsort(-gains[lost], kind="stable")[:count]]
  assert set(np.flatnonzero(grown)) == set(wanted)
