"""The pool of coarsely pruned models."""

import numpy as np
import pytest

from fedtiny_tff.sparsity import candidates
from fedtiny_tff.sparsity import spec as spec_lib
from tests.fedtiny_tff import support

_SPEC = support.spec_of_sizes(40, 60, 100)
_WEIGHTS = np.random.default_rng(0).normal(size=200).astype(np.float32)


def _pool(**changes):
  arguments = {
    "density": 0.2, "pool_size": 4, "layer_densities": "noisy", "seed": 0, **changes
  }  # fmt: skip
  return candidates.candidate_masks(_WEIGHTS, _SPEC, **arguments)


@pytest.mark.parametrize(
  ("density", "expected"),
  # floor(0.1 / d + 0.5): 10.5, 5.5, 2.5, 1.5, 0.6 -> at least 1.
  [(0.01, 10), (0.02, 5), (0.05, 2), (0.1, 1), (1.0, 1), (0.001, 100)],
)
def test_default_pool_size(density, expected):
  assert candidates.default_pool_size(density) == expected


@pytest.mark.parametrize("density", [1e-300, 5e-324])
def test_the_least_densities_have_more_candidates_than_can_be(density):
  assert candidates.default_pool_size(density) == 2**31


def test_magnitude_mask_by_layer_by_hand():
  spec = support.spec_of_sizes(3, 4)
  weights = support.floats([1, -3, 2, 0.1, -0.4, 0.3, 0.4])
  # Layer by layer, although every weight of layer 1 is smaller than all of layer 0;
  # of the tied 0.4 the lower index stays.
  mask = candidates.magnitude_mask_by_layer(weights, spec, (2, 1))
  assert mask.tolist() == [False, True, True, False, True, False, False]


def test_all_candidates_have_one_length_on_the_wire():
  pool = _pool()
  assert pool.shape == (4, 200)
  assert pool.dtype == bool
  # floor(0.2 * 200).
  assert pool.sum(axis=1).tolist() == [40] * 4


def test_each_layer_keeps_its_largest_weights():
  for mask in _pool():
    for layer in range(3):
      where = _SPEC.slice(layer)
      kept = np.abs(_WEIGHTS[where][mask[where]])
      pruned = np.abs(_WEIGHTS[where][~mask[where]])
      assert kept.min() >= pruned.max()


def test_candidates_differ_in_their_layer_densities():
  assert len({_SPEC.active_counts(mask) for mask in _pool()}) > 1


def test_a_seed_fixes_the_pool_and_a_larger_pool_extends_it():
  np.testing.assert_array_equal(_pool(), _pool())
  np.testing.assert_array_equal(_pool(pool_size=6)[:4], _pool())
  assert (_pool(seed=1) != _pool()).any()


def test_layer_densities_are_known_before_any_weight_is():
  drawn = candidates.candidate_counts(
    _SPEC, density=0.2, pool_size=4, layer_densities="noisy", seed=0
  )
  assert drawn == [_SPEC.active_counts(mask) for mask in _pool()]


def test_uniform_candidates_are_all_the_same():
  pool = _pool(layer_densities="uniform")
  assert (pool == pool[0]).all()
  assert _SPEC.active_counts(pool[0]) == (8, 12, 20)


@pytest.mark.parametrize("size", [0, -1])
def test_an_empty_pool_is_refused(size):
  with pytest.raises(ValueError, match=f"pool_size must be at least 1, got {size}"):
    _pool(pool_size=size)


@pytest.mark.parametrize("density", [0.0, 1.4, float("nan")])
def test_a_bad_density_is_refused(density):
  with pytest.raises(ValueError, match=f"density must be in .*, got {density}"):
    _pool(density=density)


def test_layers_keep_whole_groups_of_their_own_size_by_hand():
  spec = spec_lib.PrunableSpec(
    (
      spec_lib.LayerSpec("fours", (2, 4), 4),
      spec_lib.LayerSpec("pairs", (3, 2), 2),
      spec_lib.LayerSpec("ones", (3,)),
    ),
    ((0, 1, 2),),
  )
  weights = support.floats([1, 1, 1, 1, 0, 1.9, 0, 0, 3, 0, -2, 2, 2.5, -2.5, 0, 5, 4])
  mask = candidates.magnitude_mask_by_layer(weights, spec, (4, 4, 1))
  # Norms of the fours: 2 and 1.9; of the pairs: 3, 2.83 and 3.54.
  assert np.flatnonzero(mask).tolist() == [0, 1, 2, 3, 8, 9, 12, 13, 15]
