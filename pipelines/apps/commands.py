"""Which commands there are: the modules of this package that end in `app.run_app`."""

import ast
import functools
import pathlib
import re
import runpy
from typing import Optional

PROGRAM = "fedtiny"
PACKAGE = "pipelines"
_FOLDER = pathlib.Path(__file__).parents[1]
_RUNS_AN_APP = re.compile(
  r"^if __name__ == .*\bapp\.run_app\(", re.MULTILINE | re.DOTALL
)
_MENTION = re.compile(r"(?:python -m )?\bpipelines\.([a-z_]+)\b(?![.:/])")


@functools.cache
def summaries() -> dict[str, str]:
  """Returns the first line of every command's docstring, by the command's name."""
  found = {}
  for path in sorted(_FOLDER.glob("[!_]*.py")):
    source = path.read_text(encoding="utf-8")
    if _RUNS_AN_APP.search(source):
      described = ast.get_docstring(ast.parse(source)) or ""
      found[path.stem] = described.splitlines()[0] if described else ""
  return found


def as_called(text: str, program: str) -> str:
  """Names commands in a text the way the program was called.

  Args:
    text: In which they are `python -m pipelines.NAME` or `pipelines.NAME`.
    program: How the process was called, such as `fedtiny run`.
  """
  if not program.startswith(f"{PROGRAM} "):
    return text

  def renamed(found: re.Match[str]) -> str:
    is_command = found[1] in summaries()
    return f"{PROGRAM} {found[1]}" if is_command else found[0]

  return _MENTION.sub(renamed, text)


class Recorder:
  """Takes down what a command would be run with, in place of running it."""

  current: Optional["Recorder"] = None

  def __init__(self) -> None:
    """Has nothing yet."""
    self.summary = ""
    self.groups: dict[str, list[str]] = {}
    self.arguments: tuple[str, ...] = ()


def run(name: str) -> None:
  """Runs a command as `python -m pipelines.NAME` does; ends the process.

  Args:
    name: Key of `summaries`.
  """
  runpy.run_module(f"{PACKAGE}.{name}", run_name="__main__")
