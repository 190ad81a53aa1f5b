"""The small dense model has as many parameters as a sparse one may have, not more."""

import dataclasses
import functools

import numpy as np
import pytest

from fedtiny_tff.errors import InputError
from fedtiny_tff.model_structure import model_profile
from fedtiny_tff.models import registry
from fedtiny_tff.sparsity import densities
from fedtiny_tff.strategies import small_dense
from fedtiny_tff.strategies.pruning_config import PruningConfig
from tests.fedtiny_tff import support


@functools.cache
def _find(width):
  return registry.get_model("small_cnn", (8, 8, 1), 10, width)


def _parameters(channels):
  """Three convolutions with batch norm, and a classifier with bias."""
  a, b, c = channels
  return 9 * (a + a * b + b * c) + 2 * (a + b + c) + 10 * c + 10


def _plan(density, width=0.5, find=_find):
  return small_dense.SmallDense().plan_models(find, width, PruningConfig(density, 5))


@pytest.mark.parametrize("density", [0.5, 0.1, 0.02])
def test_no_wider_model_is_allowed(density):
  plan = _plan(density)
  # 16, 32 and 64 channels at width 0.5.
  prunable = 9 * (16 * 32 + 32 * 64) + 640
  assert plan.full.spec.size == prunable
  limit = int(density * prunable) + _parameters((16, 32, 64)) - prunable
  shapes = [layer.shape for layer in plan.trained.spec.layers]
  channels = (*shapes[0][2:], shapes[1][3])
  assert model_profile.profile_model(plan.trained).parameters == _parameters(channels)
  assert _parameters(channels) <= limit
  # The channels that a little more width adds first.
  wider = min(
    zip(channels, (32, 64, 128), strict=True), key=lambda p: (2 * p[0] + 1) / p[1]
  )
  step = (2 * wider[0] + 1) / (2 * wider[1])
  more = tuple(int(base_ * step + 0.5) for base_ in (32, 64, 128))
  assert _parameters(more) > limit


def test_it_is_pre_trained_and_trained_and_the_full_one_stands_beside_it():
  plan = _plan(0.1)
  assert plan.pretrained is plan.trained is not plan.full
  assert plan.full is _find(0.5)
  strategy = plan.strategy
  assert strategy.is_smaller
  assert strategy.prunes
  assert not strategy.is_sparse
  spec = plan.trained.spec
  weights = support.random_weights(plan.trained)
  start = support.pretrained(np.asarray(weights.prunable), spec)
  [mask] = strategy.candidate_masks(start, PruningConfig(0.1, 5))
  assert mask.all()
  assert mask.size == spec.size
  first, memory = strategy.begin(start, mask)
  np.testing.assert_array_equal(first.prunable, weights.prunable)
  assert memory == ()
  assert strategy.plan_events(spec, spec.sizes, PruningConfig(0.1, 300)) == ()


def test_density_one_is_the_full_model():
  plan = _plan(1.0)
  assert plan.trained is plan.full


def test_groups_of_channels_count_as_they_do_for_sparse_masks():
  def find(width):
    found = _find(width)
    return dataclasses.replace(found, spec=found.spec.with_channel_block(4))

  plan = _plan(0.1, find=find)
  assert {layer.channel_block for layer in plan.full.spec.layers} == {2, 4}
  unpruned = _parameters((16, 32, 64)) - plan.full.spec.size
  limit = densities.total_count(plan.full.spec, 0.1) + unpruned
  assert model_profile.profile_model(plan.trained).parameters <= limit


def test_what_no_model_can_have_is_bad_input():
  # 1, 2 and 4 channels: 9 + 2 * 7 + 10 are never pruned, and a weight a layer is kept.
  # One channel each: 9 * 3 + 2 * 3 + 10 + 10 parameters.
  with pytest.raises(InputError, match=r"has 53 weights .* and only 36 are allowed"):
    _plan(0.001, 1 / 32)
