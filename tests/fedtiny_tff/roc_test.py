"""The area under the ROC curve, worked out by hand."""

import itertools

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies

from fedtiny_tff.roc import area_under_roc
from tests.fedtiny_tff import support


def _area(scores, positive):
  return area_under_roc(np.asarray(scores, float), np.asarray(positive, bool))


@pytest.mark.parametrize(
  ("scores", "positive", "area"),
  [
    ([1, 2, 3, 4], [0, 0, 1, 1], 1.0),
    ([1, 2, 3, 4], [1, 1, 0, 0], 0.0),
    ([7, 7, 7], [1, 0, 0], 0.5),
    # Of 2 · 2 pairs: 3 against 1 and 2 wins twice; 2 against 1 wins, against 2 ties.
    ([1, 2, 2, 3], [0, 0, 1, 1], 3.5 / 4),
    # One of the two pairs is won.
    ([3, 2, 1], [0, 1, 0], 0.5),
    ([-np.inf, np.inf], [0, 1], 1.0),
    # NaN is as high as infinity.
    ([1, np.nan, np.inf], [0, 1, 0], 1.5 / 2),
  ],
)
def test_by_hand(scores, positive, area):
  assert _area(scores, positive) == area


@pytest.mark.parametrize("positive", [[0, 0], [1, 1], []])
def test_one_kind_has_no_area(positive):
  assert _area(range(len(positive)), positive) is None


@support.quick
@hypothesis.given(
  strategies.lists(
    strategies.tuples(strategies.integers(0, 4), strategies.booleans()), min_size=2
  )
)
def test_it_is_the_share_of_pairs_won(examples):
  scores, positive = zip(*examples, strict=True)
  pairs = [
    (high, low)
    for (high, one), (low, other) in itertools.product(examples, examples)
    if one and not other
  ]
  won = sum((high > low) + (high == low) / 2 for high, low in pairs)
  expected = won / len(pairs) if pairs else None
  assert _area(scores, positive) == pytest.approx(expected)


def test_many_examples_do_not_overflow():
  # 200,000 · 200,000 pairs are more than int32 counts.
  scores = np.arange(400_000)
  assert area_under_roc(scores, scores >= 200_000) == 1.0
