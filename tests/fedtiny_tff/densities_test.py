"""Counts per layer: exact sums, bounds, and the three ways to choose them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedtiny_tff import densities
from fedtiny_tff import spec as spec_lib
from tests.fedtiny_tff import support

_SPEC = support.spec_of_sizes(10, 20, 70)
_KINDS = sorted(densities.LAYER_COUNTS)


def _rng(seed=0):
  return np.random.default_rng(seed)


@pytest.mark.parametrize(
  ("density", "expected"),
  [
    (0.3, 30),
    (0.299, 29),
    # 0.29 * 100 is 28.999999999999996 in floats, and means 29.
    (0.29, 29),
    (1.0, 100),
    # At least one weight per layer.
    (0.001, 3),
  ],
)
def test_total_is_the_floor_of_the_product(density, expected):
  assert densities.total_count(_SPEC, density) == expected


@pytest.mark.parametrize("density", [0.0, -0.1, 1.4, float("nan"), float("inf")])
@pytest.mark.parametrize("kind", _KINDS)
def test_a_density_outside_its_range_is_refused(kind, density):
  with pytest.raises(ValueError, match=rf"density must be in \(0, 1\], got {density}"):
    densities.LAYER_COUNTS[kind](_SPEC, density, _rng())


@pytest.mark.parametrize(
  ("total", "expected"),
  [
    (15, (5, 5, 5)),
    # The largest layer takes what is missing ...
    (30, (5, 5, 20)),
    # ... then the next largest: 70 + 20 are full, 5 stay.
    (95, (5, 20, 70)),
    # Trimmed to 1 each in the same order: 5 - 4, then 5 - 1.
    (10, (5, 4, 1)),
    (3, (1, 1, 1)),
    (100, (10, 20, 70)),
  ],
)
def test_fitting_by_hand(total, expected):
  assert densities.fit_counts((5, 5, 5), (10, 20, 70), total) == expected


def test_fitting_brings_wanted_counts_into_their_layers_first():
  # 0 becomes 1, 99 becomes 20; 70 stays: 91, so 9 go from the largest layer.
  assert densities.fit_counts((0, 99, 70), (10, 20, 70), 82) == (1, 20, 61)


def test_of_equal_layers_the_first_is_filled():
  assert densities.fit_counts((2, 2), (8, 8), 7) == (5, 2)


@pytest.mark.parametrize("total", [2, 101, 0, -1])
def test_an_impossible_total_is_refused(total):
  message = f"total must be between 3 and 100, got {total}"
  with pytest.raises(ValueError, match=message):
    densities.fit_counts((5, 5, 5), (10, 20, 70), total)


def test_uniform_by_hand():
  # 0.1: 1, 2, 7. 0.25: 2 (2.5), 5, 17 (17.5) is 24; the largest gets the 25th.
  assert densities.uniform_counts(_SPEC, 0.1, _rng()) == (1, 2, 7)
  assert densities.uniform_counts(_SPEC, 0.25, _rng()) == (2, 5, 18)


def test_uniform_is_uniform_where_floats_round_down():
  # 0.29 * 100 = 28.999999999999996 must count as 29 in every layer.
  spec = support.spec_of_sizes(100, 100, 100)
  assert densities.uniform_counts(spec, 0.29, _rng()) == (29, 29, 29)


def test_erk_by_hand():
  spec = spec_lib.PrunableSpec(
    (spec_lib.LayerSpec("a", (2, 2)), spec_lib.LayerSpec("b", (4, 4))), ((0, 1),)
  )
  # sum/prod: 4/4 = 1 and 8/16 = 0.5, times sizes: 4 and 8. Density 0.5: 10 weights,
  # scale 10/12: 3.33 and 6.67 are 3 and 6, and the larger gets the tenth.
  assert densities.erk_counts(spec, 0.5, _rng()) == (3, 7)
  # Density 0.8: 16 weights, scale 16/12 makes layer a overfull: it is kept dense.
  assert densities.erk_counts(spec, 0.8, _rng()) == (4, 12)


def test_noise_differs_by_seed_and_repeats_with_it():
  spec = support.spec_of_sizes(400, 900, 1600)
  first = densities.noisy_counts(spec, 0.1, _rng(1))
  assert densities.noisy_counts(spec, 0.1, _rng(1)) == first
  assert densities.noisy_counts(spec, 0.1, _rng(2)) != first


def test_noise_stays_within_half_and_one_and_a_half_of_the_target():
  spec = support.spec_of_sizes(400, 900, 1600)
  for seed in range(20):
    small, middle, large = densities.noisy_counts(spec, 0.1, _rng(seed))
    # U(0.5, 1.5) * 0.1 of 400 and 900, rounded down.
    assert 20 <= small <= 60
    assert 45 <= middle <= 135
    # The largest also absorbs what is left: at most 2 % of 290 weights.
    assert 80 - 6 <= large <= 240 + 6


def test_noise_near_density_one_falls_back_to_uniform():
  # Draws are capped at 1, so the mean of 200 is about 0.87, never 0.98.
  spec = support.spec_of_sizes(*[10] * 200)
  uniform = densities.uniform_counts(spec, 0.999, _rng())
  assert densities.noisy_counts(spec, 0.999, _rng()) == uniform


@support.quick
@given(
  kind=st.sampled_from(_KINDS),
  shapes=st.lists(
    st.lists(st.integers(1, 6), min_size=1, max_size=4), min_size=1, max_size=5
  ),
  # Above 0.75 noise may have to exhaust its draws: one case below covers it.
  density=st.one_of(st.floats(1e-4, 0.75), st.just(1.0)),
  seed=st.integers(0, 3),
)
def test_sums_are_exact_and_counts_within_their_layers(kind, shapes, density, seed):
  spec = spec_lib.PrunableSpec(
    tuple(spec_lib.LayerSpec(f"l{i}", tuple(s)) for i, s in enumerate(shapes)),
    (tuple(range(len(shapes))),),
  )
  generator = _rng(seed)
  if kind == "noisy" and density == 1.0:
    # Skips 10,000 draws that cannot be accepted; density 1 is tested below.
    kind = "uniform"
  counts = densities.LAYER_COUNTS[kind](spec, density, generator)
  assert sum(counts) == max(len(shapes), int(density * spec.size + 1e-9))
  assert all(1 <= n <= size for n, size in zip(counts, spec.sizes, strict=True))


@pytest.mark.parametrize("kind", _KINDS)
def test_density_one_keeps_everything(kind):
  assert densities.LAYER_COUNTS[kind](_SPEC, 1.0, _rng()) == (10, 20, 70)


def test_the_table_names_three_kinds():
  assert set(densities.LAYER_COUNTS) == {"noisy", "uniform", "erk"}
