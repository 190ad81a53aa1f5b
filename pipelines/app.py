"""How every app starts and ends: flags, help, signals, exit codes.

Bad input ends in one line on stderr and exit code 2; Ctrl-C in 130; SIGTERM in
143; a failed verification in 3; too little memory on a microcontroller in 4; a full disk
in 5; a reader of the output that has gone (`| head`) in 141, silently. Anything else that
escapes is a defect and keeps its traceback.
"""

import errno
import logging
import os
import select
import sys
import textwrap
from collections.abc import Callable, Sequence
from typing import NoReturn, Optional

from absl import flags

from fedtiny_tff.errors import InputError
from pipelines import credentials, interruption, logs
from pipelines.errors import ExitCode, Terminated

# The last is a process's own limit of a file's size.
_STORAGE_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_HELP_FLAGS = ("--help", "-help", "-h", "-?", "--helpfull", "--helpshort")


def _describe(flag: flags.Flag) -> str:
  default = "" if flag.value is None else f" (default {flag.default_as_str})"
  text = f"{flag.help}{default}"
  head = f"  --{'[no]' if flag.boolean else ''}{flag.name}"
  body = textwrap.wrap(text, 60)
  lines = [f"{head:<29} {body[0]}"] + [f"{'':<30}{line}" for line in body[1:]]
  return "\n".join(lines)


def help_text(summary: str, groups: dict[str, list[str]]) -> str:
  """Renders an app's help.

  Args:
    summary: What the app does, with an example.
    groups: Group title to flag names, in order.
  """
  parts = [summary.strip()]
  for title, names in groups.items():
    rows = [_describe(flags.FLAGS[name]) for name in names]
    parts.append("\n".join([f"{title}:", *rows]))
  parts.append(
    "Common:\n"
    f"{'  --flagfile':<30}File with one flag per line; flags after it win.\n"
    + "".join(f"{_describe(flags.FLAGS[name])}\n" for name in logs.FLAGS)
    + f"{'  --help':<30}This text.\n"
    "Exit codes: 0 done, 2 bad input, 3 verification failed, 4 budget not met,\n"
    "  5 no space left, 130 interrupted, 141 output closed, 143 terminated."
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


def _parse(argv: Sequence[str], wanted: Sequence[str]) -> list[str]:
  """Reads the flags and returns the arguments: as many as are wanted, more after "…"."""
  credentials.check_arguments(argv[1:])
  try:
    rest = flags.FLAGS(list(argv))
  except UnicodeDecodeError as error:
    raise InputError(f"--flagfile: the file is not UTF-8 text ({error.reason})") from error
  # absl lets a ValueError of its own through for --noflag=value.
  except (flags.Error, OSError, ValueError) as error:
    raise InputError(f"{str(error).splitlines()[0]}; see --help") from error
  logs.configure()
  credentials.check_flags((name, flags.FLAGS[name].value) for name in flags.FLAGS)
  given = list(rest[1:])
  takes_more = bool(wanted) and wanted[-1].endswith("…")
  if len(given) > len(wanted) and not takes_more:
    extra = given[len(wanted)]
    raise InputError(f"unexpected argument {extra!r}: every flag begins with --")
  if len(given) < len(wanted):
    raise InputError(f"{wanted[len(given)]} is missing; see --help")
  return given


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
  name = os.path.splitext(os.path.basename(argv[0]))[0]
  if any(argument in _HELP_FLAGS for argument in argv[1:]):
    return _run(name, lambda: print(help_text(summary, groups)))
  _quiet_libraries()
  interruption.install()
  return _run(name, lambda: main(*_parse(argv, arguments)), goes_on)


def _run(
  name: str, work: Callable[[], Optional[int]], goes_on: bool = True
) -> int:
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
    logs.complain(name, message, failed)
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
  # Imported late: the exporter pulls in TensorFlow, which --help must not.
  from tflite_export.artifacts import BudgetError, VerificationError

  if isinstance(error, VerificationError):
    failed, what = ExitCode.VERIFICATION_FAILED, "verification failed"
    if isinstance(error, BudgetError):
      failed, what = ExitCode.BUDGET_NOT_MET, "budget not met"
    return failed, f"{what}: {error}"
  return None, ""


def _is_storage_full(error: BaseException) -> bool:
  if isinstance(error, OSError) and error.errno is not None:
    return error.errno in _STORAGE_FULL
  # TensorFlow and HDF5 have no other way to say so.
  return os.strerror(errno.ENOSPC) in str(error)


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
