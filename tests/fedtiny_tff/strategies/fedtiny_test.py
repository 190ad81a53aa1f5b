"""FedTiny's client statistics and server step, worked out by hand."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from fedtiny_tff.strategies import fedtiny
from fedtiny_tff.strategies.pruning_config import PruningConfig
from tests.fedtiny_tff import support
from tests.fedtiny_tff.strategies.fedtiny_events import applied, ints, planned

# Layers of 4, 6 and 3 weights; the middle block holds the last two.
_SPEC = support.spec_of_sizes(4, 6, 3, blocks=((0,), (1, 2)))
_MASK = tf.constant(
  [
    *(True, True, False, False),
    *(True, False, False, True, False, False),
    *(False, True, False),
  ]
)


def _adjustment(capacities=(2, 1), block=1):
  return planned(_SPEC, block, capacities)


def _gradients(first, second, third):
  return [tf.constant(g, tf.float32) for g in (first, second, third)]


def test_the_largest_gradients_at_pruned_positions_with_their_sign():
  sent = _adjustment().client_statistics(
    _gradients([9] * 4, [8.0, 0.5, -3.0, -7.0, 2.0, 1.0], [-0.1, 5.0, 0.2]),
    _MASK,
    ints(2, 1),
  )
  # Layer 1, pruned 1, 2, 4, 5: |g| 0.5, 3, 2, 1: positions 2 and 4; 8 and -7 are
  # active. Layer 2, pruned 0, 2: 0.2 at 2, which is 6 + 2 in the block.
  assert sent.indices.dtype == tf.int32
  assert sent.indices.numpy().tolist() == [2, 4, 8]
  np.testing.assert_array_equal(sent.values, support.floats([-3.0, 2.0, 0.2]))


def test_unused_slots_hold_zero_at_zero():
  sent = _adjustment((3, 2)).client_statistics(
    _gradients([0] * 4, [8.0, 0.5, -3.0, -7.0, 2.0, 1.0], [-0.1, 5.0, 0.2]),
    _MASK,
    ints(1, 0),
  )
  assert sent.indices.numpy().tolist() == [2, 0, 0, 0, 0]
  np.testing.assert_array_equal(sent.values, support.floats([-3.0, 0, 0, 0, 0]))


def test_more_slots_than_pruned_positions_send_no_active_gradient():
  # Layer 2 has two pruned weights and three slots; the event asks for two.
  sent = _adjustment((0, 3)).client_statistics(
    _gradients([0] * 4, [0] * 6, [-0.1, 5.0, 0.2]), _MASK, ints(0, 2)
  )
  assert sent.indices.numpy().tolist() == [8, 6, 0]
  np.testing.assert_array_equal(sent.values, support.floats([0.2, -0.1, 0.0]))


def test_ties_and_both_zeros_take_the_lower_index():
  sent = _adjustment((4, 2)).client_statistics(
    _gradients([0] * 4, [9.0, 2.0, -0.0, 9.0, 0.0, -2.0], [-0.0, 4.0, 0.0]),
    _MASK,
    ints(4, 1),
  )
  # |g| 2 at 1 and 5, then 0 at 2 and 4; an active 9 is never taken for a zero.
  assert sent.indices.numpy().tolist() == [1, 5, 2, 4, 6, 0]
  np.testing.assert_array_equal(sent.values, support.floats([2, -2, 0, 0, 0, 0]))


def test_a_hand_computed_event_with_two_clients():
  adjustment = _adjustment((2, 1))
  weights = tf.constant([1, 2, 0, 0, 0.3, 0, 0, -0.2, 0, 0, 0, 0.5, 0], tf.float32)
  counts = ints(1, 1)
  # Pruned in layer 1: 1, 2, 4, 5; in layer 2: 0, 2. One gradient each is sent.
  first = adjustment.client_statistics(
    _gradients([0] * 4, [0, 2.0, -1.0, 0, 0, 0], [1.0, 0, 0.5]), _MASK, counts
  )
  second = adjustment.client_statistics(
    _gradients([0] * 4, [0, -0.5, 0, 0, 1.0, 0], [-0.5, 0, 0.9]), _MASK, counts
  )
  total = adjustment.accumulate(adjustment.zero(), first, tf.constant(10.0))
  total = adjustment.accumulate(total, second, tf.constant(30.0))
  mean = total / 40.0
  # Sent: 2.0 at 1 and 1.0 at 6 + 0 (weight 10); 1.0 at 4 and 0.9 at 6 + 2 (30).
  # Mean: 20/40 = 0.5 at 1, 30/40 = 0.75 at 4, 10/40 at 6, 27/40 = 0.675 at 8.
  expected = support.floats([0, 0.5, 0, 0, 0.75, 0, 0.25, 0, 0.675])
  np.testing.assert_allclose(mean, expected, rtol=1e-6)
  new_weights, new_mask = applied(adjustment, weights, _MASK, mean, counts)
  # Layer 1: -0.2 (index 3) goes, 4 comes. Layer 2: its only weight goes, 2 comes.
  np.testing.assert_array_equal(
    new_weights, support.floats([1, 2, 0, 0, 0.3, 0, 0, 0, 0, 0, 0, 0, 0])
  )
  assert np.flatnonzero(new_mask).tolist() == [0, 1, 4, 8, 12]
  # An average without weights would have grown position 1 of layer 1 instead.
  equal = adjustment.accumulate(
    adjustment.accumulate(adjustment.zero(), first, tf.constant(1.0)),
    second,
    tf.constant(1.0),
  )
  _, other = applied(adjustment, weights, _MASK, equal / 2.0, counts)
  assert np.flatnonzero(other).tolist() == [0, 1, 4, 5, 10]


def test_opposite_gradients_cancel():
  adjustment = _adjustment((1, 0))
  total = adjustment.zero()
  for value in (4.0, -4.0):
    sent = adjustment.client_statistics(
      _gradients([0] * 4, [0, value, 0, 0, 0, 0], [0] * 3), _MASK, ints(1, 0)
    )
    total = adjustment.accumulate(total, sent, tf.constant(1.0))
  np.testing.assert_array_equal(total, np.zeros(9, np.float32))


def test_a_client_of_weight_zero_changes_nothing():
  adjustment = _adjustment()
  sent = fedtiny.TopGradients(ints(1, 4, 8), tf.constant([1.0, -2.0, 3.0]))
  total = adjustment.accumulate(adjustment.zero(), sent, tf.constant(2.0))
  loud = fedtiny.TopGradients(ints(2, 5, 6), tf.constant([1e6, -1e6, 1e6]))
  after = adjustment.accumulate(total, loud, tf.constant(0.0))
  np.testing.assert_array_equal(after, total)


def test_unused_slots_add_nothing():
  adjustment = _adjustment((3, 2))
  sent = adjustment.client_statistics(
    _gradients([0] * 4, [8.0, 0.5, -3.0, -7.0, 2.0, 1.0], [1.0] * 3), _MASK, ints(0, 0)
  )
  total = adjustment.accumulate(adjustment.zero(), sent, tf.constant(5.0))
  assert total.shape == [9]
  assert not total.numpy().any()


def test_an_event_that_moves_nothing_leaves_all_as_it_is():
  weights = tf.where(_MASK, tf.range(1.0, 14.0), 0.0)
  new_weights, new_mask = applied(
    _adjustment(), weights, _MASK, tf.ones([9]), ints(0, 0)
  )
  np.testing.assert_array_equal(new_weights, weights)
  np.testing.assert_array_equal(new_mask, _MASK)


@support.quick
@given(st.integers(0, 10_000), st.sampled_from([0, 1]))
def test_density_is_invariant_and_only_the_blocks_layers_change(seed, block):
  generator = np.random.default_rng(seed)
  mask = generator.random(13) < 0.5
  # Few values, so that ties are common.
  weights = np.where(mask, generator.integers(-2, 3, 13), 0).astype(np.float32)
  layers = _SPEC.blocks[block]
  active = _SPEC.active_counts(mask)
  counts = [
    int(generator.integers(0, min(active[i], _SPEC.sizes[i] - active[i]) + 1))
    for i in layers
  ]
  adjustment = _adjustment(counts, block)
  total = adjustment.zero()
  for _ in range(2):
    gradients = [
      tf.constant(generator.integers(-2, 3, n), tf.float32) for n in _SPEC.sizes
    ]
    sent = adjustment.client_statistics(gradients, tf.constant(mask), ints(*counts))
    assert sent.indices.shape == [sum(counts)]
    total = adjustment.accumulate(total, sent, tf.constant(0.5))
  new_weights, new_mask = (
    t.numpy()
    for t in applied(
      adjustment, tf.constant(weights), tf.constant(mask), total, ints(*counts)
    )
  )
  assert _SPEC.active_counts(new_mask) == active
  grown = new_mask & ~mask
  dropped = mask & ~new_mask
  assert not new_weights[grown].any()
  assert not new_weights[~new_mask].any()
  for i in range(3):
    where = _SPEC.slice(i)
    moved = counts[layers.index(i)] if i in layers else 0
    assert grown[where].sum() == dropped[where].sum() == moved
    if i not in layers:
      np.testing.assert_array_equal(new_weights[where], weights[where])


def test_it_works_in_a_graph_with_static_shapes():
  adjustment = _adjustment((2, 1))

  @tf.function
  def event(weights, mask, gradients, counts):
    sent = adjustment.client_statistics(gradients, mask, counts)
    assert sent.indices.shape == [3]
    assert sent.values.shape == [3]
    total = adjustment.accumulate(adjustment.zero(), sent, 1.0)
    return applied(adjustment, weights, mask, total, counts)

  gradients = _gradients([9] * 4, [8.0, 0.5, -3.0, -7.0, 2.0, 1.0], [-0.1, 5.0, 0.2])
  weights = tf.where(_MASK, 1.0, 0.0)
  new_weights, new_mask = event(weights, _MASK, gradients, ints(2, 1))
  assert new_weights.shape == new_mask.shape == [13]
  # Layer 1 exchanges both of its weights for 2 and 4, layer 2 its only one for 2.
  assert np.flatnonzero(new_mask).tolist() == [0, 1, 6, 8, 12]


def test_shapes_of_what_is_sent_are_told_before_it_is_sent():
  # Two slots and one, each with a position and a gradient.
  specs = _adjustment((2, 1)).statistics_specs()
  assert specs == fedtiny.TopGradients(
    tf.TensorSpec([3], tf.int32), tf.TensorSpec([3], tf.float32)
  )
  sent = _adjustment((2, 1)).client_statistics(
    _gradients([9] * 4, [8.0, 0.5, -3.0, -7.0, 2.0, 1.0], [-0.1, 5.0, 0.2]),
    _MASK,
    ints(2, 1),
  )
  for spec, each in zip(specs, sent, strict=True):
    assert (spec.shape, spec.dtype) == (each.shape, each.dtype)


@pytest.mark.parametrize(
  ("indices", "fit"),
  [
    # The block holds 6 + 3 weights.
    ((0, 0, 0), True),
    ((8, 8, 8), True),
    ((9, 0, 0), False),
    ((0, 9, 0), False),
    ((0, 0, 9), False),
    ((-1, 0, 0), False),
    ((0, 0, -1), False),
  ],
)
def test_positions_of_another_block_do_not_fit(indices, fit):
  sent = fedtiny.TopGradients(ints(*indices), tf.zeros([3]))
  found = _adjustment((2, 1)).positions_fit(sent)
  assert found.shape == ()
  assert bool(found) == fit


def test_slots_must_match_the_blocks_layers():
  adjustment = _adjustment((2,))
  with pytest.raises(ValueError, match="zip"):
    adjustment.client_statistics(_gradients([0] * 4, [0] * 6, [0] * 3), _MASK, ints(1))


def test_the_pool_has_the_papers_size_unless_told():
  spec = support.spec_of_sizes(100, 200)
  weights = np.random.default_rng(0).normal(size=300).astype(np.float32)
  strategy = fedtiny.FedTiny()
  # floor(0.1 / 0.05 + 0.5) = 2.
  pool = strategy.candidate_masks(
    support.pretrained(weights, spec), PruningConfig(0.05, 10)
  )
  assert pool.shape == (2, 300)
  assert pool.sum(axis=1).tolist() == [15, 15]
  told = PruningConfig(0.05, 10, pool_size=3, layer_densities="uniform")
  pool = strategy.candidate_masks(support.pretrained(weights, spec), told)
  assert [spec.active_counts(mask) for mask in pool] == [(5, 10)] * 3


@pytest.mark.parametrize("kind", ["noisy", "uniform", "noisy_erk"])
def test_counts_without_weights_are_those_of_the_masks(kind):
  spec = support.spec_of_sizes(100, 200, 50)
  weights = np.random.default_rng(1).normal(size=350).astype(np.float32)
  config = PruningConfig(0.2, 10, pool_size=3, layer_densities=kind, seed=4)
  strategy = fedtiny.FedTiny()
  masks = strategy.candidate_masks(support.pretrained(weights, spec), config)
  counts = strategy.candidate_counts(spec, config)
  assert list(map(tuple, counts)) == [spec.active_counts(mask) for mask in masks]
  assert len(counts) == 3


@pytest.mark.parametrize(
  ("order", "blocks"), [("backward", [1, 0, 1, 0]), ("forward", [0, 1, 0, 1])]
)
def test_events_follow_the_configuration(order, blocks):
  config = PruningConfig(
    0.5, 100, adjust_every_rounds=2, adjust_until_round=10, adjust_order=order
  )
  events = fedtiny.FedTiny().plan_events(_SPEC, (2, 3, 1), config)
  assert [e.round_index for e in events] == [2, 4, 6, 8]
  assert [e.block for e in events] == blocks
  # Layer 2 has one active weight, which stays; layers 0 and 1 move at most
  # ceil(0.3 * 3) = 1.
  assert all(max(e.counts) <= 1 for e in events)
