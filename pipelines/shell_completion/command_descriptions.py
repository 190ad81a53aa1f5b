"""What commands say of themselves and of their flags, for the completion of shells."""

import contextlib
import dataclasses
import multiprocessing
import runpy
import signal
import sys
from typing import Any

from absl import flags

from pipelines.apps import commands, logs
from pipelines.settings import choices


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


def describe_all() -> dict[str, CommandDescription]:
  """Describes every command, each in a process of its own: flags are the process's."""
  context = multiprocessing.get_context("fork")
  names = list(commands.summaries())
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
    name: Key of `commands.summaries`.
  """
  commands.Recorder.current = recorder = commands.Recorder()
  try:
    with contextlib.suppress(SystemExit):
      runpy.run_module(f"{commands.PACKAGE}.{name}", run_name="__main__")
  finally:
    commands.Recorder.current = None
  listed = [each for group in recorder.groups.values() for each in group]
  shown = list(dict.fromkeys([*listed, *logs.FLAGS]))
  return CommandDescription(
    recorder.summary,
    recorder.groups,
    recorder.arguments,
    tuple(_described(flags.FLAGS[each]) for each in shown),
    tuple(sorted(_own_flags() - set(shown))),
  )


def _described(flag: flags.Flag) -> FlagDescription:
  known: Any = getattr(flag.parser, "enum_values", None)
  for table in (choices.CLOSED, choices.OPEN, choices.LISTS):
    known = known or table.get(flag.name)
  named = tuple(value for value in known or () if value)
  return FlagDescription(flag.name, flag.help or "", bool(flag.boolean), named)


def _own_flags() -> set[str]:
  """Returns the flags that modules of ours define, the started one among them."""
  ours = (commands.PACKAGE, sys.argv[0])
  return {
    flag.name
    for module, defined in flags.FLAGS.flags_by_module_dict().items()
    if module.split(".")[0] in ours or module in ours
    for flag in defined
  }
