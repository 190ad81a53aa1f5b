"""FedTiny with groups of channels: what is sent, dropped and grown, by hand."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from fedtiny_tff.sparsity import spec as spec_lib
from fedtiny_tff.strategies import fedtiny
from fedtiny_tff.strategies.pruning_config import PruningConfig
from tests.fedtiny_tff import support
from tests.fedtiny_tff.strategies.fedtiny_events import applied, ints, planned


class TestChannelBlocks:
  """A layer of 4 × 2 in pairs and one of 1 × 3 in single weights, in one block.

  Pairs of the first: weights 0-1, 2-3, 4-5, 6-7; the second begins at 8.
  """

  SPEC = spec_lib.PrunableSpec(
    (spec_lib.LayerSpec("pairs", (4, 2), 2), spec_lib.LayerSpec("ones", (1, 3))),
    ((0, 1),),
  )
  MASK = tf.constant([True, True] + [False] * 4 + [True, True] + [True, False, False])

  def adjustment(self, *capacities):
    return planned(self.SPEC, 0, capacities)

  def gradients(self):
    # Norms of the pairs: 9 (active), 3 at most 3, 3.2 although 2.3 at most, 9 (active).
    pairs = [9.0, 0.0, 3.0, 0.0, -2.2, 2.3, 0.0, 9.0]
    return [tf.constant(pairs), tf.constant([9.0, -0.5, 0.25])]

  def test_a_group_is_sent_for_its_norm_with_every_gradient(self):
    sent = self.adjustment(1, 1).client_statistics(
      self.gradients(), self.MASK, ints(1, 1)
    )
    # Pair 2 begins at weight 4; of the single weights the one at 8 + 1.
    assert sent.indices.numpy().tolist() == [4, 9]
    np.testing.assert_array_equal(sent.values, support.floats([-2.2, 2.3, -0.5]))
    # A position each, and two gradients of the pair.
    specs = self.adjustment(1, 1).statistics_specs()
    assert [spec.shape for spec in specs] == [[2], [3]]

  @pytest.mark.parametrize(
    ("indices", "fit"),
    [((9, 10), True), ((10, 0), False), ((0, 11), False), ((-1, 0), False)],
  )
  def test_a_group_fits_with_all_its_weights(self, indices, fit):
    # Of 11 weights, a pair begins at 9 at the latest, a single weight at 10.
    sent = fedtiny.TopGradients(ints(*indices), tf.zeros([3]))
    assert bool(self.adjustment(1, 1).positions_fit(sent)) == fit

  def test_unused_slots_add_nothing(self):
    adjustment = self.adjustment(2, 2)
    sent = adjustment.client_statistics(self.gradients(), self.MASK, ints(1, 0))
    assert sent.indices.numpy().tolist() == [4, 0, 0, 0]
    np.testing.assert_array_equal(sent.values, support.floats([-2.2, 2.3, 0, 0, 0, 0]))
    total = adjustment.accumulate(adjustment.zero(), sent, tf.constant(2.0))
    expected = np.zeros(11, np.float32)
    expected[4:6] = [-4.4, 4.6]
    np.testing.assert_allclose(total, expected, rtol=1e-6)

  def test_of_equal_groups_the_lower_index_is_sent(self):
    gradients = [
      tf.constant([0.0] * 2 + [1.0, -2.0, 2.0, 1.0] + [0.0] * 2),
      tf.zeros([3]),
    ]
    sent = self.adjustment(1, 1).client_statistics(gradients, self.MASK, ints(1, 1))
    assert sent.indices.numpy().tolist() == [2, 9]

  def test_an_event_by_hand(self):
    adjustment = self.adjustment(1, 1)
    weights = tf.constant([0.3, 0.0, 0, 0, 0, 0, 0.2, -0.2, 0.7, 0, 0], tf.float32)
    sent = adjustment.client_statistics(self.gradients(), self.MASK, ints(1, 1))
    mean = adjustment.accumulate(adjustment.zero(), sent, tf.constant(1.0))
    new_weights, new_mask = applied(adjustment, weights, self.MASK, mean, ints(1, 1))
    # Norms of the active pairs: 0.3 and 0.283, so the last one goes; pair 2 comes.
    assert np.flatnonzero(new_mask).tolist() == [0, 1, 4, 5, 9]
    np.testing.assert_array_equal(new_weights, support.floats([0.3] + [0] * 10))

  def test_one_large_gradient_loses_to_a_mean_of_groups(self):
    # Two clients, one pair each; opposite signs of one value cancel in pair 1.
    adjustment = self.adjustment(1, 0)
    total = adjustment.zero()
    for first, values in ((2, [4.0, 0.1]), (2, [-4.0, 0.1]), (4, [1.0, 1.0])):
      sent = fedtiny.TopGradients(ints(first), tf.constant(values))
      total = adjustment.accumulate(total, sent, tf.constant(1.0))
    weights = tf.zeros([11])
    _, new_mask = applied(adjustment, weights, self.MASK, total, ints(1, 0))
    assert np.flatnonzero(new_mask).tolist() == [0, 1, 4, 5, 8]

  def test_gradients_that_are_no_numbers_keep_the_counts(self):
    adjustment = self.adjustment(1, 1)
    nothing = [tf.fill([8], np.nan), tf.fill([3], np.nan)]
    sent = adjustment.client_statistics(nothing, self.MASK, ints(1, 1))
    mean = adjustment.accumulate(adjustment.zero(), sent, tf.constant(1.0))
    weights = tf.fill([11], np.nan)
    _, new_mask = applied(adjustment, weights, self.MASK, mean, ints(1, 1))
    assert self.SPEC.active_counts(new_mask.numpy()) == (4, 1)

  def test_a_pool_is_of_whole_groups(self):
    spec = support.spec_of_sizes(96, 200).with_channel_block(4)
    weights = np.random.default_rng(0).normal(size=296).astype(np.float32)
    config = PruningConfig(0.1, 10, pool_size=5)
    pool = fedtiny.FedTiny().candidate_masks(support.pretrained(weights, spec), config)
    # floor(29.6) = 29, and 28 in fours, for every candidate.
    assert pool.sum(axis=1).tolist() == [28] * 5
    groups = pool.reshape(5, -1, 4)
    assert (groups == groups[..., :1]).all()
    assert len({mask.tobytes() for mask in pool}) > 1


@support.quick
@given(st.integers(0, 10_000), st.sampled_from([1, 2, 4]))
def test_events_of_groups_keep_density_and_move_whole_groups(seed, size):
  generator = np.random.default_rng(seed)
  spec = support.spec_of_sizes(24, 16, blocks=((0, 1),)).with_channel_block(size)
  groups = generator.random(40 // size) < 0.5
  mask = np.repeat(groups, size)
  weights = np.where(mask, generator.integers(-2, 3, 40), 0).astype(np.float32)
  counts = support.movable_groups(generator, spec, mask)
  adjustment = planned(spec, 0, counts)
  total = adjustment.zero()
  for _ in range(2):
    gradients = [
      tf.constant(generator.integers(-2, 3, n), tf.float32) for n in spec.sizes
    ]
    sent = adjustment.client_statistics(gradients, tf.constant(mask), ints(*counts))
    assert sent.indices.shape == [sum(counts)]
    assert sent.values.shape == [sum(counts) * size]
    total = adjustment.accumulate(total, sent, tf.constant(0.5))
  new_weights, new_mask = (
    t.numpy()
    for t in applied(
      adjustment, tf.constant(weights), tf.constant(mask), total, ints(*counts)
    )
  )
  assert spec.active_counts(new_mask) == spec.active_counts(mask)
  by_group = new_mask.reshape(-1, size)
  assert (by_group == by_group[:, :1]).all()
  # What was dropped is pruned now, and exactly `counts` groups are.
  dropped, grown = mask & ~new_mask, new_mask & ~mask
  assert spec.active_counts(dropped) == tuple(n * size for n in counts)
  assert spec.active_counts(grown) == tuple(n * size for n in counts)
  assert not new_weights[~new_mask].any()
  assert not new_weights[grown].any()
