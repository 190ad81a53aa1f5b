"""Names of a package that are loaded when they are asked for."""

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any


def lazy_names(
  package: str, places: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
  """Returns `__getattr__` and `__dir__` of a package.

  Args:
    package: Its `__name__`.
    places: Public name to the module that has it, a text: a constant import would be one
      of an outer ring.
  """

  def load(name: str) -> Any:
    if name not in places:
      raise AttributeError(f"module {package!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(places[name]), name)
    setattr(sys.modules[package], name, value)
    return value

  def listed() -> list[str]:
    return sorted({*vars(sys.modules[package]), *places})

  return load, listed
