"""The defaults are dense FedAvg."""

import numpy as np
import pytest

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
  assert memory == ()
  assert strategy.kept_weights(mask, memory) is mask


def test_nothing_is_adjusted():
  strategy = base.Strategy()
  assert strategy.initial_memory(np.ones(10, bool)) == ()
  assert strategy.plan_events(_SPEC, (4, 6), PruningConfig(0.1, 300)) == ()
  assert not strategy.is_sparse
  with pytest.raises(ValueError, match="'fedavg' never adjusts masks, asked for 1"):
    strategy.adjustment(base.AdjustmentPlan(_SPEC, 1, (1,), 0, 0))


def test_layers_start_with_what_they_keep():
  assert base.Strategy().starting_counts(_SPEC, [2, 3]) == (2, 3)
