"""Which examples are the test split where a source has none.

The choice is a property of the data: it is the same for every seed of a run, so that
runs with different seeds are measured on the same examples.
"""

from typing import Optional

import numpy as np

from fedtiny_tff import seeds
from fedtiny_tff.arrays import Array

# Its value is arbitrary, but part of what a test split is: it never changes.
_SPLIT_SEED = 20221201
_FEWEST_TO_HOLD_OUT_OF = 5


def _test_counts(sizes: Array, share: float, gap: int) -> Array:
  """Returns how many examples each group gives away; one at least stays."""
  wanted = np.maximum(np.rint(sizes * share).astype(np.int64), 1)
  wanted[(sizes < _FEWEST_TO_HOLD_OUT_OF) | (share <= 0)] = 0
  given: Array = np.clip(wanted, 0, np.maximum(sizes - gap - 1, 0))
  return given


def held_out(
  owners: Optional[Array], labels: Array, share: float, gap: int = 0
) -> tuple[Array, Array]:
  """Chooses the test examples.

  Of each client's n examples, round(n * share) are held out: at least one of five
  or more, none of fewer, and never all. Where nobody owns them, the same holds for
  each class.

  Windows that overlap cannot be drawn at random, since most rows of a test window
  would be trained on. With a `gap`, the last share of each client's examples of each
  class is held out instead, and the `gap` examples before it are in neither split:
  tables are often sorted by class, and the last rows alone would show one. Fewer are
  held out, or none, where otherwise nothing would be left to train on.

  Args:
    owners: Who owns each example, integers or strings [n]; None where nobody does.
    labels: int [n].
    share: Share to hold out, from 0 to less than 1.
    gap: How many of the next examples of the same client and class share rows with an
      example; 0 = none.

  Returns:
    Two bool masks [n]: test examples, and examples that are in neither split.
  """
  count = len(labels)
  groups = np.unique(labels if owners is None else owners, return_inverse=True)[1]
  if gap and owners is not None:
    pairs = np.stack([groups, labels], axis=1)
    groups = np.unique(pairs, axis=0, return_inverse=True)[1]
  # Keys are drawn one by one: examples added at the end change those of no other.
  keys = np.arange(count, 0, -1) if gap else _keys(count)
  order = np.lexsort((keys, groups))
  sizes = np.bincount(groups)
  first = np.cumsum(sizes) - sizes
  ranks = np.empty(count, np.int64)
  ranks[order] = np.arange(count) - first[groups[order]]
  test_counts = _test_counts(sizes, share, gap)
  is_test = ranks < test_counts[groups]
  gap_ends = np.where(test_counts > 0, test_counts + gap, 0)
  return is_test, ~is_test & (ranks < gap_ends[groups])


def _keys(count: int) -> Array:
  return seeds.generator(_SPLIT_SEED, "test split").random(count)
