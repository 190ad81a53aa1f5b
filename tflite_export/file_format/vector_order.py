"""Orders the vectors of a flatbuffer so that little is lost between aligned ones.

A constant's data start at a multiple of 16 bytes, right behind 4 bytes of length. Files
are written from their end: behind a constant of which 12 bytes are left over when divided
by 16 the next one follows at once; before others, 4, 8 or 12 bytes are free, and vectors
of 32-bit numbers (shapes, scales, indices) go there.
"""

import collections
from collections.abc import Sequence
from typing import NamedTuple

_LENGTH_BYTES = 4


class Vector(NamedTuple):
  """A vector of numbers.

  Attributes:
    content: Its little-endian numbers.
    item_bytes: Size of one.
    alignment_bytes: What its first number's position is a multiple of.
  """

  content: bytes
  item_bytes: int
  alignment_bytes: int


def without_gaps(vectors: Sequence[Vector], alignment_bytes: int) -> list[Vector]:
  """Returns the aligned vectors, and before each those that fill the gap before it.

  Args:
    vectors: Distinct ones.
    alignment_bytes: Of those that make gaps, a multiple of 4.

  Returns:
    In order of writing, last in the file first; vectors that fill nothing are left out.
  """
  fillers: dict[int, collections.deque[Vector]] = {
    gap: collections.deque() for gap in range(0, alignment_bytes, _LENGTH_BYTES)
  }
  for vector in vectors:
    if vector.alignment_bytes == vector.item_bytes == _LENGTH_BYTES:
      fillers[_gap_filled(vector, alignment_bytes)].append(vector)
  ordered: list[Vector] = []
  position = 0
  for vector in vectors:
    if vector.alignment_bytes != alignment_bytes:
      continue
    gap = -(position + len(vector.content)) % alignment_bytes
    # Less than 4 bytes cannot be filled.
    ordered += _taken(fillers, gap // _LENGTH_BYTES * _LENGTH_BYTES, alignment_bytes)
    ordered.append(vector)
    position = _LENGTH_BYTES
  return ordered


def _gap_filled(vector: Vector, alignment_bytes: int) -> int:
  """Returns what is left of a vector and its length, divided by the alignment."""
  return (_LENGTH_BYTES + len(vector.content)) % alignment_bytes


def _taken(
  fillers: dict[int, collections.deque[Vector]], gap: int, alignment_bytes: int
) -> list[Vector]:
  """Takes one vector that fills a gap, or two, of those there are most of; or none."""
  if not gap:
    return []
  if fillers[gap]:
    return [fillers[gap].popleft()]
  pairs = [(first, (gap - first) % alignment_bytes) for first in fillers if first]
  left = {
    pair: min(len(fillers[each]) // (2 if pair[0] == pair[1] else 1) for each in pair)
    for pair in pairs
    if pair[1]
  }
  best = max(left, key=lambda pair: left[pair], default=None)
  if best is None or not left[best]:
    return []
  return [fillers[each].popleft() for each in best]
