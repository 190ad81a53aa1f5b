"""What moved is counted by layer, and must be what was planned."""

import numpy as np
import pytest

from fedtiny_tff.federated import movement, states
from fedtiny_tff.masked_models.tfmot_masking import ModelWeights
from fedtiny_tff.sparsity import schedules
from fedtiny_tff.strategies import base
from tests.fedtiny_tff.support import spec_of_sizes

SPEC = spec_of_sizes(4, 4)
EVENT = schedules.AdjustmentEvent(2, 1, (1,))


def _state(*mask):
  nothing = ModelWeights(*(np.zeros(0, np.float32) for _ in range(4)))
  return states.ServerState(nothing, np.array(mask, bool), np.int32(2))


def _count(before, after, event):
  return movement.count_moved(base.Strategy(), SPEC, before, after, event)


BEFORE = _state(1, 1, 0, 0, 1, 1, 0, 0)


def test_moved_weights_are_counted_by_layer():
  after = _state(1, 1, 0, 0, 0, 1, 0, 1)
  assert _count(BEFORE, after, EVENT) == ((0, 1), (0, 1))
  assert _count(BEFORE, BEFORE, None) == ((0, 0), (0, 0))


def test_weights_that_go_for_good_are_planned_to():
  shrinks = schedules.AdjustmentEvent(2, 1, (1,), grows=False)
  after = _state(1, 1, 0, 0, 0, 1, 0, 0)
  assert _count(BEFORE, after, shrinks) == ((0, 1), (0, 0))
  for event in (EVENT, None):
    with pytest.raises(RuntimeError, match="round 2 left other densities than planned"):
      _count(BEFORE, after, event)
