"""Numbers as people read them, axes that end on round ones, and fewer points of many."""

import math
from collections.abc import Collection, Sequence
from typing import Optional, TypeGuard

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")
_PREFIXES = ("", "k", "M", "G", "T", "P", "E")
_ABSENT = "–"
# A number and its unit stay in one line.
_SPACE = "\N{NO-BREAK SPACE}"


def is_number(value: object) -> TypeGuard[float]:
  """Whether a value is a finite number."""
  return (
    isinstance(value, (int, float))
    and not isinstance(value, bool)
    and math.isfinite(value)
  )


def percent(value: Optional[float], digits: int = 1) -> str:
  """Returns a share as per cent, with more digits where it is tiny."""
  if value is None or not is_number(value):
    return _ABSENT
  if 0 < abs(value) < 0.1**digits / 100:
    return f"{100 * value:.1g}{_SPACE}%"
  return f"{100 * value:.{digits}f}{_SPACE}%"


def size(value: Optional[float]) -> str:
  """Returns bytes in decimal units, three digits of them."""
  if value is None or not is_number(value):
    return _ABSENT
  scaled, unit = _scaled(value, len(_UNITS))
  digits = 0 if unit == 0 or abs(scaled) >= 99.95 else 1
  return f"{scaled:,.{digits}f}{_SPACE}{_UNITS[unit]}"


def operations(value: Optional[float]) -> str:
  """Returns a number of operations, three digits of them."""
  if value is None or not is_number(value):
    return _ABSENT
  scaled, prefix = _scaled(value, len(_PREFIXES))
  return f"{scaled:.3g}{_SPACE}{_PREFIXES[prefix]}".rstrip()


def _scaled(value: float, steps: int) -> tuple[float, int]:
  """Divides by a thousand until three digits are left, or as often as may be."""
  scaled, step = float(value), 0
  while abs(scaled) >= 999.5 and step < steps - 1:
    scaled, step = scaled / 1000, step + 1
  return scaled, step


def count(value: Optional[float]) -> str:
  """Returns a number of things, in full."""
  if value is None or not is_number(value):
    return _ABSENT
  return f"{round(value):,}"


def figure(value: Optional[float], digits: int = 4) -> str:
  """Returns a number with some significant digits."""
  if value is None or not is_number(value):
    return _ABSENT
  return (
    f"{value:,.{digits}g}" if abs(value) < 10**digits else f"{value:.{digits - 1}e}"
  )


def times(part: Optional[float], whole: Optional[float]) -> str:
  """Says how a number compares with another that it is measured by."""
  if not is_number(part) or not is_number(whole) or not whole or part is None:
    return _ABSENT
  ratio = part / whole
  if ratio and ratio < 0.1:
    return f"{1 / ratio:,.0f}× less" if ratio > 1e-6 else "next to nothing"
  return percent(ratio)


def ticks(low: float, high: float, most: int = 6) -> list[float]:
  """Returns round numbers that enclose a range, evenly spaced.

  Args:
    low: Least value.
    high: Largest value, no less.
    most: How many there may be, about.
  """
  if high - low <= 1e-9 * max(1.0, abs(low), abs(high)):
    # Nothing but 0 begins at 0: it is no amount above something less.
    pad = abs(low) / 10
    low, high = low - pad, high + (pad or 1.0)
  raw = (high - low) / max(most - 1, 1)
  power = 10.0 ** math.floor(math.log10(raw))
  step = next(
    power * each for each in (1, 2, 2.5, 5, 10) if power * each >= raw * 0.999
  )
  first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
  # Rounding keeps 0.30000000000000004 out of labels.
  digits = max(0, 1 - math.floor(math.log10(step)))
  return [round(place * step, digits) for place in range(first, last + 1)]


def thinned(
  values: Sequence[Optional[float]], keep: Collection[int], most: int
) -> list[int]:
  """Returns which of many points to draw, ascending.

  The first, the last and those to keep are always among them, and of every stretch
  the least and the largest value, so that no peak is lost.

  Args:
    values: One per point; None where there is none.
    keep: Places that must stay, however many.
    most: How many others there may be, at least 4.
  """
  total = len(values)
  if total <= most:
    return list(range(total))
  chosen = {place for place in keep if 0 <= place < total} | {0, total - 1}
  stretches = max(most // 2 - 1, 1)
  for number in range(stretches):
    places = range(number * total // stretches, (number + 1) * total // stretches)
    known = [place for place in places if is_number(values[place])]
    if known:
      chosen.add(min(known, key=lambda place: (values[place], place)))
      chosen.add(max(known, key=lambda place: (values[place], -place)))
  return sorted(chosen)


def bins(total: int, most: int) -> list[range]:
  """Divides places into as many ranges as may be, of almost equal length."""
  parts = min(total, most)
  return [
    range(number * total // parts, (number + 1) * total // parts)
    for number in range(parts)
  ]


def shortened(text: str, most: int) -> str:
  """Returns a text of no more than some letters: its end tells names apart."""
  clean = " ".join(text.split()) or _ABSENT
  if len(clean) <= most:
    return clean
  head = (most - 1) // 3
  return f"{clean[:head]}…{clean[len(clean) - (most - 1 - head) :]}"
