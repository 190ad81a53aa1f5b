"""PruneFL's client statistics and server step, worked out by hand."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from fedtiny_tff.costs import device_cost
from fedtiny_tff.local_training import batches, training
from fedtiny_tff.local_training.optimizers import OptimizerConfig
from fedtiny_tff.masked_models.tfmot_masking import ModelWeights
from fedtiny_tff.model_structure.model_profile import ModelProfile
from fedtiny_tff.strategies import base, prunefl
from fedtiny_tff.strategies.adjustment import ClientStart, ServerModel
from fedtiny_tff.strategies.pruning_config import PruningConfig, regular_events
from tests.fedtiny_tff import support

# Layers of 4 and 6 weights in one block.
_SPEC = support.spec_of_sizes(4, 6, blocks=((0, 1),))
_MASK = tf.constant([True, True, False, False, True, False, False, True, False, False])


def _planned(spec=_SPEC, capacities=(2, 2)):
  return prunefl.PruneFL().adjustment(base.AdjustmentPlan(spec, 0, capacities, 0, 0))


def _applied(adjustment, weights, mask, mean, counts):
  """Returns new prunable weights and the new mask."""
  vectors = ModelWeights(weights, *(tf.zeros([0]) for _ in range(3)))
  moved = adjustment.apply(
    ServerModel(vectors, mask, ()), mean, tf.constant(counts), tf.constant(3)
  )
  assert moved.memory == ()
  return moved.weights.prunable.numpy(), moved.mask.numpy()


def test_a_hand_computed_event_with_two_clients():
  adjustment = _planned()
  total = adjustment.zero()
  # Squares: of the pruned weights of layer 0, 2 and 3; of layer 1, 5, 6, 8 and 9.
  first = [9, 9, 4, 1, 9, 0, 16, 9, 0, 0]
  second = [9, 9, 1, 4, 9, 0, 0, 9, 8, 1]
  for values, examples in ((first, 10.0), (second, 30.0)):
    sent = prunefl.SquaredGradients(tf.constant(values, tf.float32))
    total = adjustment.accumulate(total, sent, tf.constant(examples))
  mean = total / 40.0
  # (40 + 30) / 40 = 1.75 at 2, (10 + 120) / 40 = 3.25 at 3; 160 / 40 = 4 at 6,
  # 240 / 40 = 6 at 8.
  np.testing.assert_allclose(mean[2:4], [1.75, 3.25], rtol=1e-6)
  np.testing.assert_allclose(mean[5:7], [0.0, 4.0], rtol=1e-6)
  weights = tf.constant([0.4, -0.5, 0, 0, 0.1, 0, 0, -0.2, 0, 0], tf.float32)
  new_weights, new_mask = _applied(adjustment, weights, _MASK, mean, [1, 1])
  assert np.flatnonzero(new_mask).tolist() == [1, 3, 7, 8]
  wanted = [0, -0.5, 0, 0, 0, 0, 0, -0.2, 0, 0]
  np.testing.assert_array_equal(new_weights, support.floats(wanted))


def test_opposite_gradients_do_not_cancel():
  adjustment = _planned()
  mean = adjustment.zero()
  for _ in range(2):
    # (4)^2 and (-4)^2 at position 2.
    sent = prunefl.SquaredGradients(tf.constant([0, 0, 16.0] + [0] * 7))
    mean = adjustment.accumulate(mean, sent, tf.constant(0.5))
  assert mean[2] == 16.0


def test_a_client_of_weight_zero_changes_nothing():
  adjustment = _planned()
  sent = prunefl.SquaredGradients(tf.fill([10], 1e6))
  after = adjustment.accumulate(adjustment.zero(), sent, tf.constant(0.0))
  np.testing.assert_array_equal(after, adjustment.zero())


def test_clients_send_the_mean_square_over_their_steps():
  """Two steps of a linear model from zero weights; softmax by hand.

  At first both classes have probability 1/2: x = (2, 0), label 0 gives the gradient
  [[-1, 1], [0, 0]]. With learning rate 0 the second step's, x = (0, 4), label 1, is
  [[0, 0], [2, -2]].
  """
  model = support.linear()
  config = training.TrainingConfig(OptimizerConfig("sgd", 0.1, 0.0), 1, 1)
  trainer = training.LocalTrainer(model, config, support.decode_vectors)
  records, _ = support.labelled_records(
    support.floats([[2, 0], [0, 4]]), np.array([0, 1])
  )
  weights = support.random_weights(model)._replace(prunable=tf.zeros([4]))
  start = ClientStart(
    weights,
    tf.constant([True, False, False, True]),
    batches.in_stored_order(records),
    tf.constant(0.0),
    tf.constant([1]),
  )
  adjustment = _planned(model.spec, (1,))
  found = adjustment.train(trainer, start)
  # (1 + 0) / 2 in the first row, (0 + 4) / 2 in the second; pruned or not.
  np.testing.assert_allclose(found.statistics.values, [0.5, 0.5, 2.0, 2.0], rtol=1e-6)
  assert found.metrics.examples == 2.0
  (spec,) = adjustment.statistics_specs()
  assert (spec.shape, spec.dtype) == ([4], tf.float32)
  # With learning rate 0 the weights are those of the start.
  np.testing.assert_array_equal(found.weights.prunable, np.zeros(4))
  np.testing.assert_array_equal(found.weights.dense, weights.dense)


def test_a_client_of_one_step_sends_its_square():
  model = support.linear()
  config = training.TrainingConfig(OptimizerConfig("sgd", 0.1, 0.0), 1, 1)
  trainer = training.LocalTrainer(model, config, support.decode_vectors)
  records, _ = support.labelled_records(support.floats([[2, 0]]), np.array([0]))
  start = ClientStart(
    support.random_weights(model)._replace(prunable=tf.zeros([4])),
    tf.fill([4], True),
    batches.in_stored_order(records),
    tf.constant(0.5),
    tf.constant([1]),
  )
  found = _planned(model.spec, (1,)).train(trainer, start)
  # The gradient [[-1, 1], [0, 0]] as above, before its step of 0.5.
  np.testing.assert_allclose(found.statistics.values, [1, 1, 0, 0], rtol=1e-6)
  np.testing.assert_allclose(found.weights.prunable, [0.5, -0.5, 0, 0], rtol=1e-6)


@support.quick
@given(st.integers(0, 10_000), st.sampled_from([1, 2]))
def test_densities_are_invariant(seed, size):
  generator = np.random.default_rng(seed)
  spec = support.spec_of_sizes(12, 8, blocks=((0, 1),)).with_channel_block(size)
  mask = np.repeat(generator.random(20 // size) < 0.5, size)
  # Few values, so that ties are common.
  weights = np.where(mask, generator.integers(-2, 3, 20), 0).astype(np.float32)
  counts = support.movable_groups(generator, spec, mask)
  mean = tf.constant(generator.integers(0, 3, 20), tf.float32)
  new_weights, new_mask = _applied(
    _planned(spec, tuple(counts)), tf.constant(weights), tf.constant(mask), mean, counts
  )
  assert spec.active_counts(new_mask) == spec.active_counts(mask)
  by_group = new_mask.reshape(-1, size)
  assert (by_group == by_group[:, :1]).all()
  moved = tuple(n * size for n in counts)
  assert spec.active_counts(mask & ~new_mask) == moved
  assert spec.active_counts(new_mask & ~mask) == moved
  assert not new_weights[~(mask & new_mask)].any()


def test_the_whole_model_is_adjusted_at_once():
  strategy = prunefl.PruneFL()
  assert strategy.granularity == "entire"
  config = PruningConfig(0.5, 30)
  events = strategy.plan_events(_SPEC, (2, 3), config)
  assert events == regular_events(_SPEC, (2, 3), config)
  # ceil(0.15 * 1.951057 * 2) and of 3: 0.585 and 0.878.
  assert [(e.round_index, e.block, e.counts) for e in events] == [
    (10, 0, (1, 1)), (20, 0, (1, 1))
  ]  # fmt: skip


def test_it_starts_from_the_largest_weights():
  weights = support.floats([0.1, -0.9, 0.5, 0.2, -0.3, 0.0, 0.8, 0.3, -0.7, 0.1])
  config = PruningConfig(0.5, 10)
  found = prunefl.PruneFL().candidate_masks(support.pretrained(weights, _SPEC), config)
  assert [np.flatnonzero(mask).tolist() for mask in found] == [[1, 2, 4, 6, 8]]


def test_dense_gradients_are_charged():
  profile = ModelProfile(115, (40, 60), (1000, 600), 7, 0, 9, 0)
  workload = device_cost.Workload(3, 2, 2)
  found = prunefl.PruneFL().round_cost(profile, workload, (10, 30), ((0, 1),))
  forward = 2 * (250 + 300 + 7)
  assert found.forward_flops == forward
  # Two sparse passes, and the dense weight gradient of every example.
  assert found.adjust_round_flops == pytest.approx(2 * forward + 2 * 1607)
  assert found.memory == device_cost.MemoryCost(4 * 55, 4 * 115, 4 * 40)
