"""Fields of a dataclass are of the type that they say, when it is a plain one."""

import dataclasses
import numbers
from typing import Any

_PLAIN: dict[Any, tuple[type, str]] = {
  int: (numbers.Integral, "a whole number"),
  float: (numbers.Real, "a number"),
  str: (str, "a text"),
}


def check(instance: Any) -> None:
  """Makes sure of the fields that are whole numbers, numbers or texts.

  A number in quotes, or True for 1, would otherwise be taken until something is computed
  with it, far from where it was written. NumPy's numbers are numbers.

  Args:
    instance: Of a dataclass.

  Raises:
    ValueError: Naming the first field of another type, and what was found.
  """
  for field in dataclasses.fields(instance):
    value = getattr(instance, field.name)
    wanted, called = _PLAIN.get(field.type, (object, ""))
    is_truth = isinstance(value, bool) and wanted is not object
    if is_truth or not isinstance(value, wanted):
      raise ValueError(f"{field.name} must be {called}, got {value!r:.80}")
