"""Finds the presets that are shipped with the package, wherever a command is typed."""

import importlib.resources
import os
import pathlib
import re
from collections.abc import Sequence

# How presets are named on command lines: as they lie in a checkout.
PREFIX = "pipelines/presets/"
PRESETS = pathlib.Path(str(importlib.resources.files("pipelines"))) / "presets"
_FLAG = re.compile(r"(--?flagfile=)(.*)", re.DOTALL)


def located(arguments: Sequence[str]) -> list[str]:
  """Returns a command line that names presets by where they are installed.

  A file of the working directory goes first, so that a checkout reads its own.

  Args:
    arguments: Of a command, without the program's name.
  """
  found = list(arguments)
  for index, argument in enumerate(found):
    if argument == "--":
      break
    if match := _FLAG.fullmatch(argument):
      found[index] = match[1] + _located(match[2])
    elif index and found[index - 1] in ("--flagfile", "-flagfile"):
      found[index] = _located(argument)
  return found


def _located(name: str) -> str:
  preset = PRESETS / name.removeprefix(PREFIX)
  is_preset = name.startswith(PREFIX) and preset.parent == PRESETS and preset.is_file()
  return str(preset) if is_preset and not os.path.exists(name) else name
