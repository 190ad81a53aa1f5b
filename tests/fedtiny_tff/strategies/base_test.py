"""The defaults are dense FedAvg."""

import numpy as np
import pytest

from fedtiny_tff.costs import cost, device_cost
from fedtiny_tff.model_structure.model_profile import ModelProfile
from fedtiny_tff.sparsity import spec as spec_lib
from fedtiny_tff.strategies import base
from fedtiny_tff.strategies.pruning_config import PruningConfig
from tests.fedtiny_tff import support

_SPEC = support.spec_of_sizes(4, 6)


def test_nothing_is_pruned():
  masks = base.Strategy().candidate_masks(
    support.pretrained(np.zeros(10, np.float32), _SPEC), PruningConfig(0.1, 5)
  )
  assert masks.shape == (1, 10)
  assert masks.dtype == bool
  assert masks.all()


def test_there_is_one_model():
  asked = []

  def find(width):
    asked.append(width)
    return support.cnn()

  strategy = base.Strategy()
  found = strategy.plan_models(find, 0.75, PruningConfig(0.1, 5))
  assert asked == [0.75]
  assert found == base.plan_one_model(strategy, support.cnn())
  assert found.full is found.pretrained is found.trained is support.cnn()
  assert found.strategy is strategy
  assert not strategy.prunes


def test_the_rounds_begin_with_the_masked_weights():
  strategy = base.Strategy()
  start = support.pretrained(np.arange(1, 11, dtype=np.float32), _SPEC)
  mask = np.arange(10) % 3 == 0
  weights, memory = strategy.begin(start, mask)
  assert weights.prunable.tolist() == [1, 0, 0, 4, 0, 0, 7, 0, 0, 10]
  assert weights.prunable.dtype == np.float32
  # Also where the mask takes nothing away.
  assert strategy.begin(start, np.ones(10, bool))[0].prunable.dtype == np.float32
  assert memory == ()
  assert strategy.kept_weights(mask, memory) is mask


def test_nothing_is_adjusted():
  strategy = base.Strategy()
  assert strategy.initial_memory(np.ones(10, bool)) == ()
  assert strategy.plan_events(_SPEC, (4, 6), PruningConfig(0.1, 300)) == ()
  assert not strategy.is_sparse
  with pytest.raises(ValueError, match="'fedavg' never adjusts masks, asked for 1"):
    strategy.adjustment(base.AdjustmentPlan(_SPEC, 1, (1,), 0, 0))


class _Sparse(base.Strategy):
  """Prunes, and does nothing else of its own."""

  is_sparse = True

  def learning_rate_factor(self, round_index, events, scheduled):
    # What each argument is shows in the product.
    return (round_index + 2) * len(events) * scheduled


def test_a_dense_model_keeps_all_whatever_the_density():
  config = PruningConfig(0.1, 5)
  assert base.Strategy().expected_counts(_SPEC, config) == (4, 6)
  assert base.Strategy().candidate_counts(_SPEC, config) == [(4, 6)]


@pytest.mark.parametrize("kind", ["uniform", "noisy"])
def test_a_sparse_model_keeps_its_share_of_every_layer(kind):
  # Noise is zero on average: half of 4 and of 6.
  config = PruningConfig(0.5, 5, layer_densities=kind, seed=3)
  assert _Sparse().expected_counts(_SPEC, config) == (2, 3)
  assert _Sparse().candidate_counts(_SPEC, config) == [(2, 3)]


@pytest.mark.parametrize("kind", ["erk", "noisy_erk"])
def test_or_the_larger_share_of_the_smaller_layer(kind):
  layers = (
    spec_lib.LayerSpec("small", (10, 10)),
    spec_lib.LayerSpec("large", (30, 30)),
  )
  spec = spec_lib.PrunableSpec(layers, ((0, 1),))
  config = PruningConfig(0.1, 5, layer_densities=kind, seed=3)
  # Densities are as 20 / 100 to 60 / 900, so that of 100 weights 25 and 75 are left.
  assert _Sparse().expected_counts(spec, config) == (25, 75)


def test_learning_rates_are_those_of_the_schedule():
  strategy = base.Strategy()
  assert strategy.learning_rate_factor(3, (), 0.5) == 1.0
  assert base.learning_rate(strategy, 2, (), [0.5, 0.4, 0.3].__getitem__) == 0.3


def test_a_method_may_change_them():
  # 0.25 of the schedule, which is half of the first; (2 + 2) * 3 events * a half.
  found = base.learning_rate(_Sparse(), 2, [None] * 3, [0.5, 0.4, 0.25].__getitem__)  # type: ignore[list-item]
  assert found == 0.25 * 6


def test_a_round_costs_what_dense_training_costs():
  profile = ModelProfile(115, (40, 60), (1000, 600), 7, 0, 9, 0)
  workload = device_cost.Workload(3, 2, 2)
  found = base.Strategy().round_cost(profile, workload, (1, 2), ((0, 1),))
  assert found == cost.dense_cost(profile, workload)
  assert found.adjust_round_flops == 3 * 2 * 1607


def test_layers_start_with_what_they_keep():
  assert base.Strategy().starting_counts(_SPEC, [2, 3]) == (2, 3)
