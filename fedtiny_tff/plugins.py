"""Plug-ins that are imported when they are used.

A dict per kind of plug-in says which names there are. Its entries are `Deferred`, so
that whoever only wants the names, such as a command's help, loads no TensorFlow. Plug-ins
of a user's own are entry points, `package.module:name`.
"""

import dataclasses
import importlib
import os
import re
import sys
from collections.abc import Callable
from typing import Any

from fedtiny_tff.errors import InputError

_ENTRY_POINT = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


@dataclasses.dataclass(frozen=True)
class Deferred:
  """Something callable in a module, which is imported at the first call.

  Attributes:
    place: `package.module:name`.
  """

  place: str

  def __post_init__(self) -> None:
    """Refuses what is no place.

    Raises:
      ValueError: Naming it.
    """
    module, colon, name = self.place.partition(":")
    if not (module and colon and name):
      raise ValueError(f"a plug-in's place is package.module:name, got {self.place!r}")

  def load(self) -> Any:
    """Imports the module and returns what is called."""
    module, _, name = self.place.partition(":")
    return getattr(importlib.import_module(module), name)

  def __call__(self, *arguments: Any, **options: Any) -> Any:
    """Calls it."""
    return self.load()(*arguments, **options)


def is_entry_point(name: str) -> bool:
  """Tells whether a name says where a user's own plug-in is to be found."""
  return _ENTRY_POINT.fullmatch(name) is not None


def call_own(kind: str, name: str, function: Callable[[], Any]) -> Any:
  """Calls a user's code, which may fail in any way.

  Args:
    kind: What it is to make, such as "model".
    name: Where it is from.
    function: The call.

  Raises:
    InputError: With the error it ended in, on one line.
  """
  try:
    return function()
  # A module that is a program ends in SystemExit, which would pass for success.
  except (Exception, SystemExit) as error:
    reason = f"{type(error).__name__}: {error}"
    raise InputError(
      f"{kind} {name}: {' '.join(reason.split())}; mend your code"
    ) from error


def _imported(kind: str, name: str, module_name: str) -> Any:
  """Imports a user's module; where there is none, no code needs mending."""
  try:
    return call_own(kind, name, lambda: importlib.import_module(module_name))
  except InputError as error:
    cause = error.__cause__
    if isinstance(cause, ModuleNotFoundError) and f"{module_name}.".startswith(
      f"{cause.name}."
    ):
      raise InputError(
        f"{kind} {name}: there is no module {cause.name}, neither in the current folder "
        "nor where Python looks for modules; go to its folder, or check its name"
      ) from cause
    raise


def load_entry_point(kind: str, name: str) -> Callable[..., Any]:
  """Imports a user's function or class, also from the current directory.

  Args:
    kind: What it makes, such as "model".
    name: `package.module:name`.

  Raises:
    InputError: When its module cannot be imported, or has no such function.
  """
  module_name, _, function_name = name.partition(":")
  folder = os.getcwd()
  if folder not in sys.path:
    sys.path.insert(0, folder)
  module = _imported(kind, name, module_name)
  found = call_own(kind, name, lambda: getattr(module, function_name, None))
  if not callable(found):
    raise InputError(
      f"{kind} {name}: module {module_name} has no function or class {function_name!r}; "
      "name one that it has"
    )
  entry_point: Callable[..., Any] = found
  return entry_point
