"""Plug-ins that are imported when they are used.

A dict per kind of plug-in says which names there are. Its entries are `Deferred`, so
that whoever only wants the names, such as a command's help, loads no TensorFlow.
"""

import dataclasses
import importlib
from typing import Any


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
