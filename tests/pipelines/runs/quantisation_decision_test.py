"""Tests of what is too much, what is better, and what is told."""

import math

import pytest

from pipelines.runs.quantisation_decision import (
  Figures,
  drop,
  is_better,
  is_too_much,
  reason,
  shown,
)


@pytest.mark.parametrize(
  ("before", "after", "expected"),
  [
    (Figures(0.99, 0.1), Figures(0.98, 0.9), False),
    (Figures(0.99, 0.1), Figures(0.9799, 0.1), True),
    (Figures(0.5, 0.1), Figures(0.6, 0.1), False),
    (Figures(None, 2.0), Figures(None, 2.1), False),
    (Figures(None, 2.0), Figures(None, 2.11), True),
    (Figures(None, 0.0), Figures(None, 0.0), False),
    (Figures(None, 0.0), Figures(None, 0.1), True),
    (Figures(None, 2.0), Figures(None, math.nan), True),
  ],
)
def test_is_too_much(before, after, expected):
  assert is_too_much(before, after) is expected


def test_drop():
  assert drop(Figures(0.75, 1.0), Figures(0.5, 1.0)) == 0.25
  assert drop(Figures(None, 2.0), Figures(None, 3.0)) == 0.5


@pytest.mark.parametrize(
  ("after", "before", "expected"),
  [
    (Figures(0.9, 1.0), Figures(0.8, 0.5), True),
    (Figures(0.8, 0.4), Figures(0.8, 0.5), True),
    (Figures(0.8, 0.5), Figures(0.8, 0.5), False),
    (Figures(0.9, math.nan), Figures(0.1, 0.5), False),
    (Figures(0.1, 0.5), Figures(0.9, math.nan), True),
    (Figures(None, 1.0), Figures(None, 2.0), True),
    (Figures(None, 2.0), Figures(None, 1.0), False),
  ],
)
def test_is_better(after, before, expected):
  assert is_better(after, before) is expected


def test_shown():
  assert shown(Figures(0.25, 9.0)) == 0.25
  assert shown(Figures(None, 9.0)) == 9.0
  assert shown(Figures(None, math.inf)) is None


def test_reason():
  figures = {"float": Figures(0.98, 0.1), "post_training": Figures(0.93, 0.2)}
  assert "costs 5.00 points of accuracy" in reason(figures, 10, False)
  figures["quantisation_aware"] = Figures(0.96, 0.1)
  assert reason(figures, 10, True).endswith("2.00 points of accuracy: better.")
  assert reason(figures, 10, False).endswith("not better and not taken.")
  figures["quantisation_aware"] = Figures(0.93, 0.1)
  assert reason(figures, 10, True).endswith("as many, with less loss.")
  assert "held out" in reason(figures, 0, False)
  losses = {"float": Figures(None, 1.0), "post_training": Figures(None, 1.5)}
  assert "50.00 % more loss" in reason(losses, 10, False)
