"""How every app starts and ends: flags, help, signals, exit codes.

Bad input ends in one line on stderr and exit code 2; Ctrl-C in 130; SIGTERM in
143; a failed verification in 3; too little memory on a microcontroller in 4; a full disk
in 5; a reader of the output that has gone (`| head`) in 141, silently. Anything else that
escapes is a defect and keeps its traceback.
"""

import errno
import gc
import logging
import os
import re
import select
import shutil
import sys
import textwrap
from collections.abc import Callable, Sequence
from typing import NoReturn, Optional

from absl import flags

from fedtiny_tff import suggestions
from fedtiny_tff.errors import InputError
from pipelines.apps import commands, credentials, interruption, logs, preset_files
from pipelines.apps.errors import EXIT_CODES, STORAGE_FULL, ExitCode, Terminated

# Of help: its width, and where the texts of flags begin.
_COLUMNS = 90
_INDENT = 30
# What Python says of a text that is no number, and what it means.
_SAID_OF_NUMBERS = {
  "could not convert string to float": "is no number, such as 0.1",
  "invalid literal for int() with base 10": "is no whole number, such as 20",
}
# Of a full disk.
_SAID_BY_SQLITE = "database or disk is full"
# Imports and traced graphs are millions of objects that stay; to look through them as
# often as Python does by default took a tenth of a short run's processor time.
_GARBAGE_THRESHOLDS = (10_000, 10, 10)
_HELP_FLAGS = ("--help", "-help", "-h", "-?", "--helpfull", "--helpshort")


def _describe(flag: flags.Flag, columns: int) -> str:
  default = "" if flag.value is None else f" (default {flag.default_as_str})"
  head = f"  --{'[no]' if flag.boolean else ''}{flag.name}"
  return _beside(head, f"{flag.help}{default}", columns)


def _beside(head: str, text: str, columns: int) -> str:
  """Returns a text beside its head; below it, where there is no room."""
  indent = _INDENT if columns >= _COLUMNS else 4
  body = textwrap.wrap(text, max(columns - indent, 20))
  lines = [f"{'':<{indent}}{line}" for line in body]
  if len(head) < indent:
    return "\n".join([f"{head:<{indent}}{body[0]}", *lines[1:]])
  return "\n".join([head, *lines])


def _columns() -> int:
  """Returns how wide help may be: of a narrow terminal, its width."""
  if sys.stdout is None or not sys.stdout.isatty():
    return _COLUMNS
  return min(_COLUMNS, shutil.get_terminal_size().columns)


def help_text(summary: str, groups: dict[str, list[str]]) -> str:
  """Renders an app's help.

  Args:
    summary: What the app does, with an example.
    groups: Group title to flag names, in order.
  """
  columns = _columns()
  parts = [summary.strip()]
  for title, names in groups.items():
    rows = [_describe(flags.FLAGS[name], columns) for name in names]
    parts.append("\n".join([f"{title}:", *rows]))
  parts.append(
    "Common:\n"
    + _beside(
      "  --flagfile", "File with one flag per line; flags after it win.", columns
    )
    + "".join(f"\n{_describe(flags.FLAGS[name], columns)}" for name in logs.FLAGS)
    + f"\n{_beside('  --help', 'This text.', columns)}\n{EXIT_CODES}"
  )
  return "\n\n".join(parts)


def _is_news(record: logging.LogRecord) -> bool:
  # Keras calls it once per batch-norm layer built in a graph; nobody can act on it.
  return "_colocate_with" not in record.getMessage()


def _quiet_libraries() -> None:
  """Silences TensorFlow's start-up chatter; Python-level warnings still appear."""
  # 3, because TF 2.14 logs the absence of GPU plug-ins as errors.
  os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
  os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
  logging.getLogger("tensorflow").addFilter(_is_news)


def _parse(
  argv: Sequence[str], wanted: Sequence[str], groups: dict[str, list[str]]
) -> list[str]:
  """Reads the flags and returns the arguments: as many as are wanted, more after "…".

  Args:
    argv: The command line.
    wanted: What the arguments besides flags are called.
    groups: Group title to flag names; what a mistyped flag may have meant.
  """
  credentials.check_arguments(argv[1:])
  _check_unicode(argv[1:])
  try:
    rest = flags.FLAGS([argv[0], *preset_files.located(argv[1:])])
  except UnicodeDecodeError as error:
    raise InputError(
      f"--flagfile: the file is not UTF-8 text ({error.reason}); save it as such"
    ) from error
  except flags.UnrecognizedFlagError as error:
    known = [name for group in groups.values() for name in group]
    meant = suggestions.question(
      error.flagname, [*known, *logs.FLAGS, "flagfile", "help"], "--"
    )
    raise InputError(
      f"--{error.flagname}: unknown flag{_aside(meant)}; see --help"
    ) from error
  except flags.IllegalFlagValueError as error:
    raise InputError(f"{_nearest_value(error)}; see --help") from error
  except flags.CantOpenFlagFileError as error:
    reason = re.sub(r"^ERROR:: ", "", str(error).splitlines()[0])
    raise InputError(
      f"--flagfile: {reason}; name a file that is there, such as a preset of "
      f"{preset_files.PRESETS}/"
    ) from error
  # absl lets a ValueError of its own through for --noflag=value.
  except (flags.Error, OSError, ValueError) as error:
    raise InputError(f"{str(error).splitlines()[0]}; see --help") from error
  logs.configure()
  credentials.check_flags((name, flags.FLAGS[name].value) for name in flags.FLAGS)
  given = list(rest[1:])
  takes_more = bool(wanted) and wanted[-1].endswith("…")
  if len(given) > len(wanted) and not takes_more:
    extra = given[len(wanted)]
    raise InputError(f"unexpected argument {extra!r}: begin every flag with --")
  if len(given) < len(wanted):
    raise InputError(f"{wanted[len(given)]} is missing; see --help")
  return given


def _check_unicode(arguments: Sequence[str]) -> None:
  """Refuses bytes that are no UTF-8: no file of ours and no output could hold them."""
  for argument in arguments:
    try:
      argument.encode()
    except UnicodeEncodeError as error:
      raise InputError(
        f"{argument!r:.60}: is not UTF-8 text; write it so, or rename the file"
      ) from error


def _nearest_value(error: flags.IllegalFlagValueError) -> str:
  """Returns what is wrong with a flag's value, and which one may have been meant."""
  message = str(error).splitlines()[0]
  for said, meant in _SAID_OF_NUMBERS.items():
    message = message.replace(said, meant)
  found = re.match(r"flag --(\w+)=(\S*): ", message)
  known = getattr(flags.FLAGS[found[1]].parser, "enum_values", ()) if found else ()
  meant = suggestions.question(found[2] if found else "", known)
  return message + _aside(meant)


def _aside(meant: str) -> str:
  """Puts what may have been meant in brackets: more of the message follows."""
  return f" ({meant.removeprefix('; ')})" if meant else ""


def run_app(
  main: Callable[..., Optional[int]],
  summary: str,
  groups: dict[str, list[str]],
  argv: Optional[Sequence[str]] = None,
  arguments: Sequence[str] = (),
  goes_on: bool = True,
) -> int:
  """Runs an app and returns its exit code.

  Args:
    main: The app's work, after flags are parsed; None means done. It is called with
      the arguments of the command line.
    summary: What the app does; the first part of `--help`.
    groups: Group title to flag names, for `--help`.
    argv: Command line; the process's by default.
    arguments: What the arguments besides flags are called; all must be given, and
      more may be of a last one that ends in "…".
    goes_on: Whether the same command goes on where it was interrupted.
  """
  argv = list(sys.argv if argv is None else argv)
  if (recorder := commands.Recorder.current) is not None:
    recorder.summary, recorder.groups = summary, groups
    recorder.arguments = tuple(arguments)
    return ExitCode.DONE
  name = os.path.splitext(os.path.basename(argv[0]))[0]
  if any(argument in _HELP_FLAGS for argument in argv[1:]):
    shown = commands.as_called(help_text(summary, groups), name)
    return _run(name, lambda: print(shown))
  _quiet_libraries()
  gc.set_threshold(*_GARBAGE_THRESHOLDS)
  interruption.install()
  return _run(name, lambda: main(*_parse(argv, arguments, groups)), goes_on)


def _run(name: str, work: Callable[[], Optional[int]], goes_on: bool = True) -> int:
  """Returns the exit code of an app's work, after saying why if it failed."""
  try:
    code = work() or ExitCode.DONE
    # What is only written at the interpreter's end could not be answered for.
    if sys.stdout is not None:
      sys.stdout.flush()
    return code
  except (Exception, KeyboardInterrupt, SystemExit) as error:
    # A signal may come out of TensorFlow's C++ code as any exception.
    received = interruption.received()
    if received is None and _lost_reader(error):
      _discard_output()
      return ExitCode.OUTPUT_CLOSED
    failed, message = _explain(received or error, goes_on)
    if failed is None:
      if not logs.settings().is_json:
        raise
      logs.complain_of_defect(name, error)
      return 1
    logs.complain(name, commands.as_called(message, name), failed)
    return failed


def _lost_reader(error: BaseException) -> bool:
  """Returns whether an error means that nobody reads the output, as after `| head`."""
  # What rich makes of it, after it has redirected the output.
  if isinstance(error, SystemExit):
    return isinstance(error.__context__, BrokenPipeError)
  if not isinstance(error, BrokenPipeError):
    return False
  # Other pipes may break as well.
  poll = select.poll()
  poll.register(sys.stdout.fileno(), 0)
  return any(event & select.POLLERR for _, event in poll.poll(0))


def _discard_output() -> None:
  """Lets the interpreter write what is left to nowhere when it ends."""
  nowhere = os.open(os.devnull, os.O_WRONLY)
  os.dup2(nowhere, sys.stdout.fileno())
  os.close(nowhere)


def _explain(error: BaseException, goes_on: bool) -> tuple[Optional[ExitCode], str]:
  """Returns how an error ends the app; no exit code for a defect."""
  go_on = "run the same command again"
  go_on += "; finished rounds are kept" if goes_on else "; nothing was written"
  if isinstance(error, InputError):
    return ExitCode.BAD_INPUT, str(error)
  if isinstance(error, KeyboardInterrupt):
    if isinstance(error, Terminated):
      return ExitCode.TERMINATED, f"terminated; {go_on}"
    return ExitCode.INTERRUPTED, f"interrupted; {go_on}"
  if _is_storage_full(error):
    name = getattr(error, "filename", None)
    where = f"{name}: " if name else ""
    return ExitCode.STORAGE_FULL, f"{where}no space is left; free some and {go_on}"
  if isinstance(error, OSError) and error.filename:
    return ExitCode.BAD_INPUT, f"{error.filename}: {error.strerror}"
  return _explain_failure(error)


def _explain_failure(error: BaseException) -> tuple[Optional[ExitCode], str]:
  # Never imported here: the exporter pulls in TensorFlow, which --help must not, and
  # which devices do not have. What was not imported cannot have failed.
  artifacts = sys.modules.get("tflite_export.artifacts")
  if artifacts is not None and isinstance(error, artifacts.VerificationError):
    failed, what = ExitCode.VERIFICATION_FAILED, "verification failed"
    if isinstance(error, artifacts.BudgetError):
      failed, what = ExitCode.BUDGET_NOT_MET, "budget not met"
    return failed, f"{what}: {error}"
  return None, ""


def _is_storage_full(error: BaseException) -> bool:
  if isinstance(error, OSError) and error.errno is not None:
    return error.errno in STORAGE_FULL
  # TensorFlow, HDF5 and what speaks with SQLite have no other way to say so.
  said = os.strerror(errno.ENOSPC), _SAID_BY_SQLITE
  return any(each in str(error) for each in said)


def leave(code: int) -> NoReturn:
  """Ends the process with an exit code.

  After an interruption the interpreter's own shutdown is skipped: a thread of the
  broken-off gRPC call may still run, and would abort the process.
  """
  if code in (ExitCode.INTERRUPTED, ExitCode.TERMINATED):
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
  sys.exit(code)
