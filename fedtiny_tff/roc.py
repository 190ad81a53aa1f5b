"""How well a score tells two kinds of examples apart: the area under the ROC curve."""

from typing import Optional

import numpy as np

from fedtiny_tff.arrays import Array


def _average_ranks(scores: Array) -> Array:
  """Ranks scores from 1; equal scores share the mean of their ranks, float64 [N]."""
  _, kind, counts = np.unique(scores, return_inverse=True, return_counts=True)
  last = np.cumsum(counts)
  ranks: Array = ((last - counts + 1 + last) / 2)[kind]
  return ranks


def area_under_roc(scores: Array, is_positive: Array) -> Optional[float]:
  """Returns how likely a random positive example scores above a random negative one.

  A tie counts half. Computed exactly, from the sum of the positives' ranks (the
  Mann-Whitney statistic).

  Args:
    scores: float [N]; NaN counts as the highest score.
    is_positive: bool [N].

  Returns:
    The area, in [0, 1]; None when all examples are of one kind.
  """
  positives = int(np.count_nonzero(is_positive))
  negatives = len(scores) - positives
  if not positives or not negatives:
    return None
  numbers = np.where(np.isnan(scores), np.inf, scores).astype(np.float64)
  rank_sum = float(_average_ranks(numbers)[is_positive].sum())
  wins = rank_sum - positives * (positives + 1) / 2
  return wins / (positives * negatives)
