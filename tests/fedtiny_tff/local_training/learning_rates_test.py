"""The rate of every round, by hand."""

import pytest

from fedtiny_tff.local_training.learning_rates import (
  LEARNING_RATE_SCHEDULES,
  learning_rate,
)


@pytest.mark.parametrize(
  ("schedule", "expected"),
  [
    ("constant", [0.4, 0.4, 0.4, 0.4]),
    # (1 + cos(pi r / 4)) / 2 = 1, 0.85355, 0.5, 0.14645.
    ("cosine", [0.4, 0.341421, 0.2, 0.058579]),
    # Half of 4 rounds is round 2, three quarters round 3.
    ("step", [0.4, 0.4, 0.04, 0.004]),
  ],
)
def test_four_rounds(schedule, expected):
  rates = [learning_rate(schedule, 0.4, number, 4) for number in range(4)]
  assert rates == pytest.approx(expected, rel=1e-5)


def test_every_rate_is_positive_and_never_above_the_base():
  for schedule in LEARNING_RATE_SCHEDULES:
    rates = [learning_rate(schedule, 0.1, number, 300) for number in range(300)]
    assert all(0.0 < rate <= 0.1 for rate in rates)
    assert rates == sorted(rates, reverse=True)


def test_an_unknown_schedule_is_an_error():
  with pytest.raises(KeyError):
    learning_rate("linear", 0.1, 0, 1)
