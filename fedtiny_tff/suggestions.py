"""Which name somebody meant who mistyped one."""

import difflib
from collections.abc import Iterable

# Below, two words are alike by chance.
_LEAST_LIKENESS = 0.6
# A part of a name says less than all of it.
_PART = 0.95


def nearest(given: str, names: Iterable[str]) -> str:
  """Returns the name most like what was given; empty when none is like it.

  A part between underscores counts as well: `densty` means `target_density`.

  Args:
    given: What was typed.
    names: What there is.
  """
  typed = given.lower()
  if not typed:
    return ""
  found = max(((_likeness(typed, name), name) for name in names), default=None)
  return found[1] if found and found[0][0] >= _LEAST_LIKENESS else ""


def _likeness(typed: str, name: str) -> tuple[float, float]:
  """Returns how like a name is, and of equals how like the whole of it is."""
  whole = _ratio(typed, name.lower())
  parts = (_PART * _ratio(typed, part) for part in name.lower().split("_"))
  # One letter more or less is a slip, even where another name has the word as a part.
  is_slip = name.lower()[:-1] == typed or typed[:-1] == name.lower()
  return max(whole, *parts, float(is_slip)), whole


def _ratio(one: str, other: str) -> float:
  return difflib.SequenceMatcher(None, one, other).ratio()


def question(given: object, names: Iterable[str], prefix: str = "") -> str:
  """Returns `; did you mean NAME?` to end a message with, or nothing.

  Args:
    given: What was typed.
    names: What there is.
    prefix: What stands before a name, such as `--`.
  """
  meant = nearest(str(given), names)
  return f"; did you mean {prefix}{meant}?" if meant else ""
