"""How every app starts and ends: flags, help, signals, exit codes.

Bad input ends in one line on stderr and exit code 2; Ctrl-C in 130; SIGTERM in
143; a failed verification in 3. Anything else that escapes is a defect and keeps
its traceback.
"""

import os
import signal
import sys
import textwrap
from collections.abc import Callable, Sequence
from typing import Optional

from absl import flags, logging

from fedtiny_tff.errors import InputError
from pipelines.errors import ExitCode, Terminated

_HELP_FLAGS = ("--help", "-help", "-h", "-?", "--helpfull", "--helpshort")


def _terminate(signum: int, frame: object) -> None:
  del signum, frame
  # A second signal while we unwind must not tear the clean-up apart.
  signal.signal(signal.SIGTERM, signal.SIG_IGN)
  raise Terminated


def _describe(flag: flags.Flag) -> str:
  default = "" if flag.value is None else f" (default {flag.default_as_str})"
  text = f"{flag.help}{default}"
  head = f"  --{'[no]' if flag.boolean else ''}{flag.name}"
  body = textwrap.wrap(text, 60)
  lines = [f"{head:<30}{body[0]}"] + [f"{'':<30}{line}" for line in body[1:]]
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
    f"{'  --help':<30}This text.\n"
    "Exit codes: 0 done, 2 bad input, 3 verification failed, 4 budget not met,\n"
    "  130 interrupted, 143 terminated."
  )
  return "\n\n".join(parts)


def _quiet_libraries() -> None:
  """Silences start-up chatter of TensorFlow; its errors still appear."""
  os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
  os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
  os.environ.setdefault("PYTHONWARNINGS", "ignore")
  logging.set_verbosity(logging.ERROR)


def _parse(argv: Sequence[str]) -> None:
  try:
    rest = flags.FLAGS(list(argv))
  except (flags.Error, OSError, UnicodeDecodeError) as error:
    raise InputError(f"{str(error).splitlines()[0]}; see --help") from error
  if len(rest) > 1:
    raise InputError(f"unexpected argument {rest[1]!r}: every flag begins with --")


def _fail(name: str, message: object) -> None:
  print(f"{name}: {' '.join(str(message).split())}", file=sys.stderr, flush=True)


def run_app(
  main: Callable[[], Optional[int]],
  summary: str,
  groups: dict[str, list[str]],
  argv: Optional[Sequence[str]] = None,
) -> int:
  """Runs an app and returns its exit code.

  Args:
    main: The app's work, after flags are parsed; None means done.
    summary: What the app does; the first part of `--help`.
    groups: Group title to flag names, for `--help`.
    argv: Command line; the process's by default.
  """
  argv = list(sys.argv if argv is None else argv)
  name = os.path.splitext(os.path.basename(argv[0]))[0]
  if any(argument in _HELP_FLAGS for argument in argv[1:]):
    print(help_text(summary, groups))
    return ExitCode.DONE
  _quiet_libraries()
  signal.signal(signal.SIGTERM, _terminate)
  try:
    _parse(argv)
    return main() or ExitCode.DONE
  except InputError as error:
    _fail(name, error)
    return ExitCode.BAD_INPUT
  except KeyboardInterrupt:
    _fail(name, "interrupted; the same command goes on after the last finished round")
    return ExitCode.INTERRUPTED
  except Terminated:
    _fail(name, "terminated; the same command goes on after the last finished round")
    return ExitCode.TERMINATED
  except Exception as error:
    # Imported late: the exporter pulls in TensorFlow, which --help must not.
    from tflite_export.artifacts import VerificationError

    if isinstance(error, VerificationError):
      _fail(name, f"verification failed: {error}")
      return ExitCode.VERIFICATION_FAILED
    if isinstance(error, OSError):
      _fail(name, f"{error.strerror or error}: {error.filename or 'no file named'}")
      return ExitCode.BAD_INPUT
    raise
