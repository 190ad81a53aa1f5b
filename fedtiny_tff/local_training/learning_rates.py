"""The clients' learning rate from round to round, in Python floats."""

import math
from collections.abc import Callable

# Share of the rate that is left at the end of `step` after each of its two drops.
_STEP_FACTOR = 0.1
_STEPS = (0.5, 0.75)


def _constant(share: float) -> float:
  del share
  return 1.0


def _cosine(share: float) -> float:
  return 0.5 * (1.0 + math.cos(math.pi * share))


def _step(share: float) -> float:
  return _STEP_FACTOR ** sum(share >= start for start in _STEPS)


LEARNING_RATE_SCHEDULES: dict[str, Callable[[float], float]] = {
  "constant": _constant,
  "cosine": _cosine,
  "step": _step,
}


def learning_rate(schedule: str, base: float, round_index: int, rounds: int) -> float:
  """Returns a round's learning rate.

  `constant` is the base; `cosine` falls from it towards 0 over all rounds; `step`
  takes a tenth after half and again after three quarters of the rounds.

  Args:
    schedule: Key of `LEARNING_RATE_SCHEDULES`.
    base: Rate of the first round.
    round_index: From 0.
    rounds: Rounds of the run.
  """
  return base * LEARNING_RATE_SCHEDULES[schedule](round_index / rounds)
