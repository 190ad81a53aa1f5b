"""Magnitude masks to start from, and what sparse training costs."""

import numpy as np
import pytest

from fedtiny_tff.costs import device_cost
from fedtiny_tff.model_structure.model_profile import ModelProfile
from fedtiny_tff.sparsity import densities
from fedtiny_tff.strategies import base, sparse
from fedtiny_tff.strategies.pruning_config import PruningConfig
from tests.fedtiny_tff import support

_SPEC = support.spec_of_sizes(4, 6)
_WEIGHTS = support.floats([0.1, -0.9, 0.5, 0.2, -0.3, 0.0, 0.8, 0.3, -0.7, 0.1])


def _mask(density, spec=_SPEC, weights=_WEIGHTS, **changes):
  config = PruningConfig(density, 10, layer_densities="uniform", **changes)
  start = support.pretrained(weights, spec)
  return sparse.SparseStrategy().candidate_masks(start, config)


def test_every_layer_keeps_its_largest_weights():
  found = _mask(0.5)
  assert found.shape == (1, 10)
  assert found.dtype == bool
  # 2 of 4 and 3 of 6; of both 0.3 in magnitude the first stays.
  assert np.flatnonzero(found[0]).tolist() == [1, 2, 4, 6, 8]


def test_as_many_as_are_expected():
  spec = support.spec_of_sizes(40, 60)
  weights = np.random.default_rng(0).normal(size=100).astype(np.float32)
  strategy = sparse.SparseStrategy()
  for counts in densities.LAYER_DENSITIES:
    config = PruningConfig(0.3, 10, layer_densities=counts, seed=3)
    (mask,) = strategy.candidate_masks(support.pretrained(weights, spec), config)
    assert spec.active_counts(mask) == strategy.expected_counts(spec, config)
    assert mask.sum() == 30


def test_noise_is_not_for_a_single_mask():
  config = PruningConfig(0.5, 10, layer_densities="noisy")
  start = support.pretrained(_WEIGHTS, _SPEC)
  found = sparse.SparseStrategy().candidate_masks(start, config)
  np.testing.assert_array_equal(found, _mask(0.5))


def test_ties_keep_the_count():
  found = _mask(0.5, weights=np.ones(10, np.float32))
  assert np.flatnonzero(found[0]).tolist() == [0, 1, 4, 5, 6]


def test_groups_stay_whole():
  spec = _SPEC.with_channel_block(2)
  weights = support.floats([3, 0, 2.2, 2.3, 0, 0, 1, 1, 1.5, 0])
  found = _mask(0.5, spec, weights)
  # Four of ten weights are two pairs, one in each layer: norms 3.18 over 3, 1.5 over 1.41.
  assert np.flatnonzero(found[0]).tolist() == [2, 3, 8, 9]


def test_the_mask_never_moves():
  strategy = sparse.SparseStrategy()
  assert strategy.is_sparse
  assert strategy.plan_events(_SPEC, (2, 3), PruningConfig(0.5, 300)) == ()
  assert strategy.starting_counts(_SPEC, (2, 3)) == (2, 3)
  with pytest.raises(ValueError, match="never adjusts masks"):
    strategy.adjustment(base.AdjustmentPlan(_SPEC, 0, (1,), 0, 0))


def test_values_gradients_and_indices_of_the_active_weights_are_charged():
  # 100 prunable weights with 1000 and 600 multiply-accumulates; 15 others with 7.
  profile = ModelProfile(115, (40, 60), (1000, 600), 7, 0, 9, 0)
  workload = device_cost.Workload(3, 2, 2)
  found = sparse.SparseStrategy().round_cost(profile, workload, (10, 30), ((0, 1),))
  # A quarter of 1000, half of 600, all of 7.
  assert found.forward_flops == 2 * (250 + 300 + 7)
  assert found.training_flops_per_round == 3 * found.forward_flops * 6
  assert found.adjust_round_flops == 3 * found.forward_flops
  assert found.memory == device_cost.MemoryCost(4 * 55, 4 * 55, 4 * 40)


@pytest.mark.parametrize(
  ("order", "blocks"), [("forward", (0, 1)), ("backward", (1, 0))]
)
def test_blocks_move_in_turn(order, blocks):
  config = PruningConfig(
    0.5, 30, adjust_every_rounds=10, adjust_until_round=29, adjust_order=order
  )
  events = sparse.AdjustingStrategy().plan_events(_SPEC, (2, 3), config)
  # At most 0.3 of 2 or 3 weights, rounded up.
  assert [(each.round_index, each.block, each.counts) for each in events] == [
    (10, blocks[0], (1,)), (20, blocks[1], (1,))
  ]  # fmt: skip


def test_the_largest_gradients_of_the_costliest_block_are_charged_as_well():
  profile = ModelProfile(115, (40, 60), (1000, 600), 7, 0, 9, 0)
  workload = device_cost.Workload(3, 2, 2)
  found = sparse.AdjustingStrategy().round_cost(
    profile, workload, (10, 30), ((0,), (1,))
  )
  # Of 1000 three quarters more, of 600 the half, for one of the round's four batches.
  assert found.forward_flops == 2 * (250 + 300 + 7)
  assert found.training_flops_per_round == 3 * found.forward_flops * 6
  assert found.adjust_round_flops == 3 * found.forward_flops + 2 * 750 / 4
  # 0.3 of 10 or 30 weights, each an index and a value.
  assert found.memory == device_cost.MemoryCost(4 * 55, 4 * 55, 4 * 40, 8 * 9)
