"""`fedtiny`: one program with a sub-command per command module of this package.

    fedtiny run --flagfile=pipelines/presets/digits.flags --output_dir=runs/digits

is `python -m pipelines.run` with these flags, exit codes included.
"""

import os
import sys
from collections.abc import Sequence

from fedtiny_tff import suggestions, version
from pipelines.apps import commands
from pipelines.apps.errors import EXIT_CODES, ExitCode

_HELP = ("--help", "-help", "-h", "-?", "help")
_VERSION = ("--version", "-version", "-V", "version")
_USAGE = """
Federated pruning in TensorFlow Federated, to sparse .tflite files.

  fedtiny run --flagfile=pipelines/presets/digits.flags --output_dir=runs/digits
  fedtiny run --dry_run --flagfile=pipelines/presets/digits.flags --output_dir=runs/digits
  fedtiny COMMAND --help
"""
_MORE = """
`python -m pipelines.COMMAND` is the same. Tab completes commands, flags and values after
  eval "$(fedtiny completion bash)"      (or zsh; docs/command_line.md)
"""


def usage() -> str:
  """Returns the text of `fedtiny --help`."""
  known = commands.summaries()
  width = max(map(len, known)) + 2
  rows = [f"  {name:<{width}}{summary}" for name, summary in known.items()]
  return "\n\n".join(
    [
      _USAGE.strip("\n"),
      "\n".join(["Commands:", *rows]),
      f"{_MORE.strip()}\n{EXIT_CODES}",
    ]
  )


def _show(text: str) -> int:
  try:
    print(text, flush=True)
  except BrokenPipeError:
    # What the interpreter writes at its end must not fail again.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return ExitCode.OUTPUT_CLOSED
  return ExitCode.DONE


def _complain(message: str) -> int:
  print(f"{commands.PROGRAM}: {message}", file=sys.stderr)
  return ExitCode.BAD_INPUT


def _find_own_modules() -> None:
  """Lets `--model=PACKAGE.MODULE:FUNCTION` name what is in the working directory."""
  folder = os.getcwd()
  if not {"", folder} & set(sys.path):
    sys.path.append(folder)


def main(arguments: Sequence[str] | None = None) -> int:
  """Runs a sub-command.

  Args:
    arguments: What follows the program's name; the process's by default.

  Returns:
    The exit code, where no sub-command has ended the process.
  """
  given = list(sys.argv[1:] if arguments is None else arguments)
  if not given:
    print(usage(), file=sys.stderr)
    return ExitCode.BAD_INPUT
  name, *rest = given
  if name in _HELP:
    if not rest:
      return _show(usage())
    name, rest = rest[0], ["--help"]
  if name in _VERSION:
    return _show(f"{commands.PROGRAM} {version.VERSION}")
  known = commands.summaries()
  # Shells complete dashes as easily as underscores.
  name = name.replace("-", "_") if name.replace("-", "_") in known else name
  if name not in known:
    what = (
      f"unknown flag {name}" if name.startswith("-") else f"unknown command {name!r}"
    )
    meant = suggestions.question(name, known)
    return _complain(f"{what}{meant}; see {commands.PROGRAM} --help")
  _find_own_modules()
  sys.argv = [f"{commands.PROGRAM} {name}", *rest]
  commands.run(name)
  return ExitCode.DONE


if __name__ == "__main__":
  sys.exit(main())
