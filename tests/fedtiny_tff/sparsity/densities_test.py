"""Counts per layer: exact sums, bounds, and the three ways to choose them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedtiny_tff.sparsity import densities
from fedtiny_tff.sparsity import spec as spec_lib
from tests.fedtiny_tff import support

_SPEC = support.spec_of_sizes(10, 20, 70)
_KINDS = sorted(densities.LAYER_DENSITIES)


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
    densities.LAYER_DENSITIES[kind](_SPEC, density, _rng())


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


def test_noise_around_erk_stays_within_half_and_one_and_a_half_of_it():
  # Kernels of 3x3x8x8 and 3x3x16x32, and a 1x1x8x16: 22/576, 54/4608 and 26/128 times
  # their sizes are 22, 54 and 26; 0.1 of 5,312 is 531 weights, 5.206 times 102. The
  # third is overfull and dense: 128; the others share 403 as 22 to 54.
  shapes = ((3, 3, 8, 8), (3, 3, 16, 32), (1, 1, 8, 16))
  spec = spec_lib.PrunableSpec(
    tuple(spec_lib.LayerSpec(f"l{i}", shape) for i, shape in enumerate(shapes)),
    ((0, 1, 2),),
  )
  assert densities.erk_counts(spec, 0.1, _rng()) == (116, 287, 128)
  seen = set()
  for seed in range(20):
    first, second, third = densities.noisy_erk_counts(spec, 0.1, _rng(seed))
    assert 58 <= first <= 175
    assert 143 - 11 <= second <= 430 + 11
    assert 64 <= third <= 128
    assert first + second + third == 531
    seen.add((first, second, third))
  assert len(seen) > 10


def test_noise_around_erk_that_cannot_reach_the_target_is_erk():
  spec = support.spec_of_sizes(*[10] * 200)
  erk = densities.erk_counts(spec, 0.999, _rng())
  assert densities.noisy_erk_counts(spec, 0.999, _rng()) == erk


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
  if density == 1.0:
    # Skips 10,000 draws that cannot be accepted; density 1 is tested below.
    kind = kind.replace("noisy_erk", "erk").replace("noisy", "uniform")
  counts = densities.LAYER_DENSITIES[kind](spec, density, generator)
  assert sum(counts) == max(len(shapes), int(density * spec.size + 1e-9))
  assert all(1 <= n <= size for n, size in zip(counts, spec.sizes, strict=True))


@pytest.mark.parametrize("kind", _KINDS)
def test_density_one_keeps_everything(kind):
  assert densities.LAYER_DENSITIES[kind](_SPEC, 1.0, _rng()) == (10, 20, 70)


def test_the_table_names_four_kinds():
  assert set(densities.LAYER_DENSITIES) == {"noisy", "uniform", "erk", "noisy_erk"}


class TestGroups:
  SPEC = spec_lib.PrunableSpec(
    (
      spec_lib.LayerSpec("fours", (5, 8), 4),
      spec_lib.LayerSpec("pairs", (5, 6), 2),
      spec_lib.LayerSpec("ones", (10, 3)),
    ),
    ((0, 1, 2),),
  )

  def test_total_by_hand(self):
    assert densities.total_count(self.SPEC, 0.29) == 29
    # One group of each: 4 + 2 + 1.
    assert densities.total_count(self.SPEC, 0.01) == 7
    assert densities.total_count(self.SPEC, 1.0) == 100

  def test_whole_groups_sum_to_the_next_smaller_number(self):
    spec = support.spec_of_sizes(40, 60).with_channel_block(4)
    # floor(0.299 * 100) = 29, and 28 is a multiple of 4.
    assert densities.total_count(spec, 0.299) == 28
    assert densities.total_count(spec, 1.0) == 100
    # Fours are full at 8, and the only single weight is kept.
    mixed = spec_lib.PrunableSpec(
      (spec_lib.LayerSpec("a", (2, 4), 4), spec_lib.LayerSpec("b", (1, 1))), ((0, 1),)
    )
    assert [densities.total_count(mixed, n / 9) for n in range(5, 10)] == [
      5, 5, 5, 5, 9,
    ]  # fmt: skip

  @pytest.mark.parametrize(
    ("counts", "total", "expected"),
    [
      ((4, 2, 1), 7, (4, 2, 1)),
      # 5 to 4, 3 to 2: 16 are missing. The largest layer takes them.
      ((5, 3, 1), 23, (20, 2, 1)),
      # 19 are missing: 16 fit in fours, then 2 in pairs, and 1.
      ((4, 2, 1), 26, (20, 4, 2)),
      # 3 are too many: pairs and ones give them, the fours have no such group.
      ((8, 4, 3), 12, (8, 2, 2)),
    ],
  )
  def test_fitting_by_hand(self, counts, total, expected):
    sizes, steps = self.SPEC.sizes, self.SPEC.channel_blocks
    assert densities.fit_counts(counts, sizes, total, steps) == expected

  def test_a_coarse_layer_goes_too_far_where_the_fine_one_is_full(self):
    # 3 are missing and the single weights are all in: one four more, one weight less.
    assert densities.fit_counts((4, 5), (12, 5), 12, (4, 1)) == (8, 4)
    # The other way round: 3 too many, and one weight is the least.
    assert densities.fit_counts((8, 1), (12, 5), 6, (4, 1)) == (4, 2)

  def test_a_total_that_no_groups_have_is_refused(self):
    with pytest.raises(
      ValueError, match=r"groups of \[2, 4\] weights cannot sum to 13"
    ):
      densities.fit_counts((4, 2), (12, 6), 13, (4, 2))
    with pytest.raises(ValueError, match="total must be between 6 and 18, got 5"):
      densities.fit_counts((4, 2), (12, 6), 5, (4, 2))

  def test_uniform_by_hand(self):
    # A quarter of 40, 30, 30: 10, 7, 7 are 8, 6, 7 in groups: 4 of 25 are missing, and
    # the largest layer takes them.
    found = densities.uniform_counts(self.SPEC, 0.25, _rng())
    assert found == (12, 6, 7)

  def test_blocks_of_one_change_nothing(self):
    spec = support.spec_of_sizes(400, 900, 1600)
    for kind in _KINDS:
      draw = densities.LAYER_DENSITIES[kind]
      assert draw(spec, 0.1, _rng(5)) == draw(spec.with_channel_block(1), 0.1, _rng(5))


def _reachable(sizes, steps):
  """Returns every sum of whole groups, by trying all."""
  sums = {0}
  for size, step in zip(sizes, steps, strict=True):
    sums = {total + n for total in sums for n in range(step, size + 1, step)}
  return sums


_GROUPED = st.lists(
  st.tuples(st.sampled_from([1, 2, 4]), st.integers(1, 5)), min_size=1, max_size=5
)


@support.quick
@given(_GROUPED, st.floats(1e-3, 1.0), st.sampled_from(_KINDS), st.integers(0, 3))
def test_grouped_counts_are_whole_and_have_the_largest_sum(layers, density, kind, seed):
  steps = [step for step, _ in layers]
  sizes = [step * groups for step, groups in layers]
  spec = spec_lib.PrunableSpec(
    tuple(
      spec_lib.LayerSpec(f"l{i}", (size,), step)
      for i, (size, step) in enumerate(zip(sizes, steps, strict=True))
    ),
    (tuple(range(len(layers))),),
  )
  total = densities.total_count(spec, density)
  wanted = max(sum(steps), int(density * sum(sizes) + 1e-9))
  assert total == max(n for n in _reachable(sizes, steps) if n <= wanted)
  if density <= 0.75:
    found = densities.LAYER_DENSITIES[kind](spec, density, _rng(seed))
    assert sum(found) == total
    for count, size, step in zip(found, sizes, steps, strict=True):
      assert step <= count <= size
      assert count % step == 0


@support.quick
@given(_GROUPED, st.data())
def test_every_sum_that_groups_have_is_reached(layers, data):
  steps = [step for step, _ in layers]
  sizes = [step * groups for step, groups in layers]
  wanted = [data.draw(st.integers(0, size + 3)) for size in sizes]
  total = data.draw(st.sampled_from(sorted(_reachable(sizes, steps))))
  found = densities.fit_counts(wanted, sizes, total, steps)
  assert sum(found) == total
  assert all(
    c % s == 0 and s <= c <= n for c, s, n in zip(found, steps, sizes, strict=True)
  )
