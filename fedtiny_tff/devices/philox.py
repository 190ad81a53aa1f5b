"""TensorFlow's stateless random numbers, in NumPy, for devices without TensorFlow.

A device goes through its examples in the order that the simulation draws for the same
seed, round and client. TensorFlow draws it with Philox 4x32-10, keyed by a scrambled
seed, and shuffles from the first element on.

Source: J. Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011.
"""

from collections.abc import Iterator

import numpy as np

from fedtiny_tff.arrays import Array

_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10
_WORD = 0xFFFFFFFF
# With which TensorFlow scrambles seeds.
_SEED_KEY = (0x3EC8F720, 0x02461E29)

Words = tuple[int, int, int, int]


def _block(counter: Words, key: tuple[int, int]) -> Words:
  """Returns four random words of 32 bits."""
  a, b, c, d = counter
  k0, k1 = key
  for _ in range(_ROUNDS):
    first, second = _MULTIPLIERS[0] * a, _MULTIPLIERS[1] * c
    a, b, c, d = (
      (second >> 32) ^ b ^ k0, second & _WORD, (first >> 32) ^ d ^ k1, first & _WORD,
    )  # fmt: skip
    k0, k1 = (k0 + _KEY_STEPS[0]) & _WORD, (k1 + _KEY_STEPS[1]) & _WORD
  return a, b, c, d


def words(seed: tuple[int, int]) -> Iterator[int]:
  """Yields random words of 32 bits without end.

  Args:
    seed: Two whole numbers of 32 bits, signed.
  """
  halves = [part & 0xFFFFFFFFFFFFFFFF for part in seed]
  counter = tuple(word for half in halves for word in (half & _WORD, half >> 32))
  mixed = _block(counter, _SEED_KEY)  # type: ignore[arg-type]
  key, number = mixed[:2], mixed[2] << 64 | mixed[3] << 96
  while True:
    yield from _block(
      (
        number & _WORD, number >> 32 & _WORD, number >> 64 & _WORD, number >> 96 & _WORD,
      ),
      key,
    )  # fmt: skip
    number += 1


def fold_in(seed: tuple[int, int], number: int) -> tuple[int, int]:
  """Makes a seed of a seed and a number of 32 bits, as TensorFlow's function does."""
  drawn = next(words(seed))
  return drawn - (1 << 32) if drawn >> 31 else drawn, number


def permutation(count: int, seed: tuple[int, int]) -> Array:
  """Draws an order of `count` elements, int32 [count]."""
  order = np.arange(count, dtype=np.int32)
  for i, word in zip(range(count - 1), words(seed), strict=False):
    other = i + word % (count - i)
    order[i], order[other] = order[other], order[i]
  return order


def shuffled_order(count: int, epochs: int, seed: tuple[int, int]) -> Array:
  """Draws the order in which every epoch visits the records.

  The same as `batches.shuffled_order`.

  Args:
    count: Number of records.
    epochs: Passes over them.
    seed: Two whole numbers of 32 bits.

  Returns:
    int32 [epochs, count].
  """
  drawn = [permutation(count, fold_in(seed, epoch)) for epoch in range(epochs)]
  return np.stack(drawn) if drawn else np.zeros([0, count], np.int32)
