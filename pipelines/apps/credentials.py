"""Refuses user names and passwords in flags, which run directories would keep.

They come in inside URLs, `https://user:password@host`. What libraries need of them is to
be in the environment or in their own files, where nothing of ours reads or keeps it.
"""

import re
from collections.abc import Iterable

from fedtiny_tff.errors import InputError
from pipelines.apps.redaction import PASSWORD_IN_ADDRESS

_ARGUMENT_NAME = re.compile(r"--?\w+")


def check_arguments(arguments: Iterable[str]) -> None:
  """Refuses a command line with credentials, before anything repeats it.

  Raises:
    InputError: Naming the flag, not the value.
  """
  for argument in arguments:
    if PASSWORD_IN_ADDRESS.search(argument):
      name = _ARGUMENT_NAME.match(argument)
      _refuse(name[0] if name else "an argument")


def check_flags(values: Iterable[tuple[str, object]]) -> None:
  """Refuses flags with credentials, wherever they come from.

  Args:
    values: Name and value of each; lists are looked into.

  Raises:
    InputError: Naming the flag, not the value.
  """
  for name, value in values:
    parts = value if isinstance(value, (list, tuple)) else [value]
    if any(
      isinstance(part, str) and PASSWORD_IN_ADDRESS.search(part) for part in parts
    ):
      _refuse(f"--{name}")


def _refuse(name: str) -> None:
  raise InputError(
    f"{name}: holds a user name or password in a URL, which the run directory would "
    "keep; leave it out and give it where the library looks for it: in the environment"
  )
