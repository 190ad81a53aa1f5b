"""Ctrl-C and SIGTERM: they unwind what runs, and are never lost.

A signal raises an exception wherever the main thread happens to be. In the middle of
TensorFlow's C++ code that exception may come out as another one, or be swallowed; so
the signal is also remembered: `received` says how an app really ended, and `check`
stops work that went on. In a callback the exception cannot be passed on: the interpreter
prints it, which after a signal tells nobody anything.
"""

import signal
import sys
import types
from typing import Optional

from pipelines.apps.errors import Terminated

_EXCEPTIONS: dict[int, type[KeyboardInterrupt]] = {
  signal.SIGINT: KeyboardInterrupt,
  signal.SIGTERM: Terminated,
}
# The first signal that came, if any did.
_received: list[int] = []


def _raise(signum: int, frame: object) -> None:
  del frame
  # A second signal while we unwind must not tear the clean-up apart.
  signal.signal(signum, signal.SIG_IGN)
  _received.append(signum)
  raise _EXCEPTIONS[signum]


def install() -> None:
  """Handles both signals from now on, and forgets any that came before.

  A shell that starts commands in the background has them ignore Ctrl-C; that stays.
  """
  forget()
  for signum in _EXCEPTIONS:
    if signal.getsignal(signum) is not signal.SIG_IGN:
      signal.signal(signum, _raise)
  sys.excepthook = _print_exception
  sys.unraisablehook = _print_unraisable


def _is_ours(kind: type[BaseException]) -> bool:
  return bool(_received) and issubclass(kind, KeyboardInterrupt)


def _print_exception(
  kind: type[BaseException],
  error: BaseException,
  traceback: Optional[types.TracebackType],
) -> None:
  if not _is_ours(kind):
    sys.__excepthook__(kind, error, traceback)


def _print_unraisable(unraisable: "sys.UnraisableHookArgs") -> None:
  if not _is_ours(unraisable.exc_type):
    sys.__unraisablehook__(unraisable)


def forget() -> None:
  """Forgets what came: the app that it ended is over."""
  _received.clear()


def received() -> Optional[KeyboardInterrupt]:
  """Returns the exception that stands for the signal that came, or None."""
  return _EXCEPTIONS[_received[0]]() if _received else None


def check() -> None:
  """Raises again what a signal raised, in case a library swallowed it."""
  if interrupted := received():
    raise interrupted
