"""FL-PQSU keeps the largest magnitudes of each layer."""

import numpy as np
import pytest

from fedtiny_tff.sparsity import densities
from fedtiny_tff.sparsity import spec as spec_lib
from fedtiny_tff.strategies import fl_pqsu
from fedtiny_tff.strategies.pruning_config import PruningConfig
from tests.fedtiny_tff import support


def _mask(prunable, spec, config):
  start = support.pretrained(support.floats(prunable), spec)
  masks = fl_pqsu.FLPQSU().candidate_masks(start, config)
  assert masks.shape == (1, spec.size)
  assert masks.dtype == bool
  return masks[0]


def _config(density, layer_densities="uniform"):
  return PruningConfig(density, 3, layer_densities=layer_densities)


def test_the_largest_magnitudes_of_each_layer_by_hand():
  spec = support.spec_of_sizes(4, 4)
  # Ranked together, the first layer would keep four.
  prunable = [5, -9, 7, 6, 0.1, -0.4, 0.3, 0.2]
  kept = np.flatnonzero(_mask(prunable, spec, _config(0.5)))
  assert kept.tolist() == [1, 2, 5, 6]


def test_equal_magnitudes_go_by_their_index():
  spec = support.spec_of_sizes(6, 4)
  kept = np.flatnonzero(_mask([1, -1] * 5, spec, _config(0.5)))
  assert kept.tolist() == [0, 1, 2, 6, 7]


def test_groups_go_by_their_l1_norm():
  layer = spec_lib.LayerSpec("layer", (2, 2), channel_block=2)
  spec = spec_lib.PrunableSpec((layer,), ((0,),))
  # L1 3 and 4; by the Euclidean norm, 3 over 2.8, the first group would be kept.
  mask = _mask([3, 0, -2, 2], spec, _config(0.5))
  assert mask.tolist() == [False, False, True, True]


@pytest.mark.parametrize("layer_densities", ["uniform", "noisy", "erk"])
def test_layers_keep_what_is_expected(layer_densities):
  strategy, config = fl_pqsu.FLPQSU(), _config(0.3, layer_densities)
  for block in (1, 3):
    spec = support.cnn().spec.with_channel_block(block)
    prunable = np.random.default_rng(0).normal(size=spec.size)
    counts = spec.active_counts(_mask(prunable, spec, config))
    assert counts == strategy.expected_counts(spec, config)
    assert sum(counts) == densities.total_count(spec, 0.3)


def test_what_is_not_a_number_counts_as_zero():
  spec = support.spec_of_sizes(4)
  mask = _mask([np.nan, 0.5, np.inf, np.nan], spec, _config(0.5))
  assert mask.tolist() == [False, True, True, False]
