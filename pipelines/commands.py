"""Which commands there are: the modules of this package that end in `app.run_app`."""

import ast
import contextlib
import dataclasses
import functools
import multiprocessing
import pathlib
import re
import runpy
import signal
import sys
from typing import TYPE_CHECKING, Any, Optional

if TYPE_CHECKING:
  from absl import flags

PROGRAM = "fedtiny"
_PACKAGE = "pipelines"
_FOLDER = pathlib.Path(__file__).parent
_RUNS_AN_APP = re.compile(r"^if __name__ == .*\bapp\.run_app\(", re.MULTILINE | re.DOTALL)
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


@dataclasses.dataclass(frozen=True)
class FlagDescription:
  """What completion must know of a flag.

  Attributes:
    name: Without dashes.
    help: What it is for.
    is_boolean: Whether it is given without a value.
    values: Names it may be set to; empty where they are not known.
  """

  name: str
  help: str
  is_boolean: bool
  values: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class CommandDescription:
  """What a command's help says.

  Attributes:
    summary: The text above the flags.
    groups: Group title to flag names.
    arguments: What its arguments are called.
    flags: Every flag of the groups, and the common ones.
    unlisted: Other flags that it reads, which its help leaves out.
  """

  summary: str
  groups: dict[str, list[str]]
  arguments: tuple[str, ...]
  flags: tuple[FlagDescription, ...]
  unlisted: tuple[str, ...]


class Recorder:
  """Takes down what a command would be run with, in place of running it."""

  current: Optional["Recorder"] = None

  def __init__(self) -> None:
    """Has nothing yet."""
    self.summary = ""
    self.groups: dict[str, list[str]] = {}
    self.arguments: tuple[str, ...] = ()


def describe_all() -> dict[str, CommandDescription]:
  """Describes every command, each in a process of its own: flags are the process's."""
  context = multiprocessing.get_context("fork")
  names = list(summaries())
  with context.Pool(2, _forget_signals, maxtasksperchild=1) as pool:
    described = pool.map(describe, names, chunksize=1)
    # They end by themselves: a signal may find one with the lock of their queue.
    pool.close()
    pool.join()
  return dict(zip(names, described, strict=True))


def _forget_signals() -> None:
  """Lets signals end a forked process, where the parent raises."""
  for signum in (signal.SIGINT, signal.SIGTERM):
    signal.signal(signum, signal.SIG_DFL)


def describe(name: str) -> CommandDescription:
  """Describes a command; defines its flags on the way.

  Args:
    name: Key of `summaries`.
  """
  Recorder.current = recorder = Recorder()
  try:
    with contextlib.suppress(SystemExit):
      runpy.run_module(f"{_PACKAGE}.{name}", run_name="__main__")
  finally:
    Recorder.current = None
  # Late: `doctor` explains an installation without it.
  from absl import flags

  from pipelines import logs

  listed = [each for group in recorder.groups.values() for each in group]
  shown = list(dict.fromkeys([*listed, *logs.FLAGS]))
  return CommandDescription(
    recorder.summary,
    recorder.groups,
    recorder.arguments,
    tuple(_described(flags.FLAGS[each]) for each in shown),
    tuple(sorted(_own_flags() - set(shown))),
  )


def _described(flag: "flags.Flag") -> FlagDescription:
  from pipelines import choices

  known: Any = getattr(flag.parser, "enum_values", None)
  for table in (choices.CLOSED, choices.OPEN, choices.LISTS):
    known = known or table.get(flag.name)
  named = tuple(value for value in known or () if value)
  return FlagDescription(flag.name, flag.help or "", bool(flag.boolean), named)


def _own_flags() -> set[str]:
  """Returns the flags that modules of ours define, the started one among them."""
  from absl import flags

  ours = (_PACKAGE, sys.argv[0])
  return {
    flag.name
    for module, defined in flags.FLAGS.flags_by_module_dict().items()
    if module.split(".")[0] in ours or module in ours
    for flag in defined
  }


def run(name: str) -> None:
  """Runs a command as `python -m pipelines.NAME` does; ends the process.

  Args:
    name: Key of `summaries`.
  """
  runpy.run_module(f"{_PACKAGE}.{name}", run_name="__main__")
