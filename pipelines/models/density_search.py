"""Searches the largest density whose model fits flash and RAM."""

import dataclasses
import math
from collections.abc import Callable

from tflite_export.artifacts import BudgetError
from tflite_export.mcu_options import McuOptions
from tflite_export.microcontrollers.mcu_budget import Footprint

# Part of a budget that other masks and weights of the same density may take more.
_RESERVE = 0.01
# How near a limit is near enough, of the limit and of the density.
_NEAR = 0.01
_MOST_TRIALS = 8
_DIGITS = 3

Measure = Callable[[float], Footprint]


@dataclasses.dataclass(frozen=True)
class Choice:
  """A density and what a model of it takes."""

  density: float
  footprint: Footprint


def choose(
  measured: Measure, limit: float, least: float, options: McuOptions
) -> Choice:
  """Finds the largest density whose model fits, to within a hundredth.

  Flash grows about linearly with the density, which says where to try next. A hundredth
  of what is allowed stays free, unless only the least density fits.

  Args:
    measured: What a model of a density takes; must not shrink with the density.
    limit: The largest density wanted.
    least: The smallest one allowed.
    options: The limits of memory.

  Raises:
    BudgetError: When not even the least density fits.
  """
  tight = with_reserve(options)
  high = Choice(limit, measured(limit))
  if high.footprint.fits(tight):
    return high
  low = high if least == limit else Choice(least, measured(least))
  if not low.footprint.fits(options):
    raise BudgetError(
      f"no density from {least:g} to {limit:g} fits; at {least:g}: "
      f"{'; '.join(low.footprint.excesses(options))} (code of the interpreter is not "
      "counted); raise the budget, lower --width or take a smaller --model"
    )
  if low.footprint.fits(tight):
    return _search(measured, low, high, tight)
  return low


def _search(
  measured: Measure, low: Choice, high: Choice, options: McuOptions
) -> Choice:
  """Returns the largest density found that fits.

  Args:
    measured: As for `choose`.
    low: Fits.
    high: Does not.
    options: The limits, reserve taken off.
  """
  misses = 0
  for _ in range(_MOST_TRIALS):
    # Where flash is far from linear, the line through both ends always misses.
    density = _halfway(low, high) if misses > 1 else _on_line(low, high, options)
    density = _rounded_down(density)
    if not low.density < density < high.density:
      break
    trial = Choice(density, measured(density))
    if trial.footprint.fits(options):
      low, misses = trial, 0
    else:
      high, misses = trial, misses + 1
    if high.density - low.density <= _NEAR * high.density or _is_full(low, options):
      break
  return low


def with_reserve(options: McuOptions) -> McuOptions:
  """Returns limits that leave something over."""
  flash, ram = (
    None if allowed is None else math.floor((1 - _RESERVE) * allowed)
    for allowed in (options.flash_bytes, options.ram_bytes)
  )
  return dataclasses.replace(options, flash_bytes=flash, ram_bytes=ram)


def _is_full(choice: Choice, options: McuOptions) -> bool:
  """Returns whether what fits comes near to the limit of flash."""
  allowed = options.flash_bytes
  return allowed is not None and choice.footprint.flash_bytes >= (1 - _NEAR) * allowed


def _halfway(low: Choice, high: Choice) -> float:
  """Returns the density that is so many times one as it is a part of the other."""
  return math.sqrt(low.density * high.density)


def _on_line(low: Choice, high: Choice, options: McuOptions) -> float:
  """Returns where flash should reach its limit; halfway if RAM is what is short."""
  allowed = options.flash_bytes
  span = high.footprint.flash_bytes - low.footprint.flash_bytes
  if allowed is None or not 0 < allowed - low.footprint.flash_bytes < span:
    return _halfway(low, high)
  # Just below: what is met exactly in theory is missed half of the time.
  aim = (1 - _NEAR / 4) * allowed - low.footprint.flash_bytes
  share = min(max(aim / span, 0.02), 0.98)
  return low.density + share * (high.density - low.density)


def _rounded_down(density: float) -> float:
  """Returns a density that a person can read."""
  scale = 10 ** (_DIGITS - 1 - math.floor(math.log10(density)))
  return math.floor(density * scale) / scale
