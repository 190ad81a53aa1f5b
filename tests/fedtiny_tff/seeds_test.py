"""Randomness comes from the seed, the purpose and the numbers, and nothing else."""

import zlib

import numpy as np
import pytest

from fedtiny_tff import seeds


def _draw(*key):
  return seeds.generator(*key).integers(0, 2**62, 4).tolist()


def test_the_same_key_draws_the_same():
  assert _draw(7, "partition", 3, 4) == _draw(7, "partition", 3, 4)


def test_every_part_of_the_key_matters():
  keys = [
    (7, "partition", 3, 4),
    (8, "partition", 3, 4),
    (7, "public", 3, 4),
    (7, "partition", 4, 4),
    (7, "partition", 3, 5),
    (7, "partition", 4, 3),
    (7, "partition", 3),
    (7, "partition", 3, 0),
  ]
  draws = [tuple(_draw(*key)) for key in keys]
  assert len(set(draws)) == len(keys)


def test_the_stream_is_numpys_of_seed_purpose_and_numbers():
  # What saved runs depend on: it must not change between versions.
  sequence = np.random.SeedSequence([7, zlib.crc32(b"partition"), 1, 3])
  expected = np.random.default_rng(sequence).integers(0, 2**62, 4).tolist()
  assert _draw(7, "partition", 3) == expected


def test_global_state_is_neither_read_nor_changed():
  np.random.seed(1)
  before = np.random.get_state()[1].tolist()  # type: ignore[index]
  first = _draw(7, "partition")
  assert np.random.get_state()[1].tolist() == before  # type: ignore[index]
  np.random.seed(2)
  assert _draw(7, "partition") == first


def test_a_negative_seed_is_refused():
  with pytest.raises(ValueError, match="non-negative"):
    seeds.generator(-1, "partition")


@pytest.mark.parametrize(
  ("seed", "wanted"),
  [
    (0, [0, 0]),
    (7, [7, 0]),
    (2**31 + 5, [5, 1]),
    (2**62 - 1, [2**31 - 1, 2**31 - 1]),
    (2**62, [0, -(2**31)]),
  ],
)
def test_seeds_of_stateless_operations_hold_every_bit(seed, wanted):
  found = seeds.stateless(seed)
  assert found.dtype == np.int32
  assert found.tolist() == wanted
