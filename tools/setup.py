"""Makes `.venv/` from the lock files: what `make setup` runs.

It runs before anything is installed, on whatever `python3` the system has (3.7 or
newer), so it and what it imports use the standard library only.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pathlib
import re
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Optional

if not __package__:
  # A script finds its own folder only, not the package that it is part of.
  sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from tools import setup_environment, setup_interpreters, setup_packages
from tools.setup_messages import SetupError, say

try:
  import fcntl
except ImportError:
  # Windows, about which the check of the interpreter has a better message.
  fcntl = None  # type: ignore[assignment]

_ROOT = pathlib.Path(__file__).resolve().parents[1]
LOCKS = ("requirements.txt", "requirements-dev.txt")
_STAMP = "fedtiny-setup.json"
_LOG = "fedtiny-setup.log"


def set_up(root: pathlib.Path, commands: Iterable[str]) -> None:
  """Brings `.venv/` under root in line with the lock files.

  Args:
    root: The checkout.
    commands: Interpreters to try, best first.

  Raises:
    SetupError: It cannot be done.
  """
  interpreter = setup_interpreters.choose_interpreter(commands)
  venv = root / ".venv"
  python = venv / "bin" / "python"
  locks = [root / name for name in LOCKS]
  wanted = setup_environment.wanted_stamp(locks, interpreter, venv)
  step = setup_environment.plan(
    setup_environment.read_stamp(venv / _STAMP),
    wanted,
    setup_interpreters.probe(str(python)),
  )
  if step == "ready":
    setup_environment.write_launcher(root, venv)
    say(f"{venv.name}/ is up to date (Python {interpreter.version_text})")
    return
  if venv.is_symlink():
    # Made anew it would be emptied, and it may be another checkout's.
    raise SetupError(
      f"{venv} is a link to {os.readlink(str(venv))} and not what the lock files ask for; "
      "remove the link, and `make setup` makes a folder"
    )
  started = time.monotonic()
  # Without a stamp, an interruption from here on is mended by the next run.
  if (venv / _STAMP).exists():
    (venv / _STAMP).unlink()
  if step == "rebuild" or not setup_packages.has_pip(python):
    setup_environment.make_venv(interpreter, venv)
  site_packages = setup_environment.site_packages(python)
  damaged = setup_packages.remove_damaged(site_packages)
  if damaged:
    say(f"installing again what an interruption left incomplete: {' '.join(damaged)}")
  for lock in locks:
    count = len(re.findall(r"^[\w.-]+==", lock.read_text(encoding="utf-8"), re.M))
    say(f"installing the {count} packages of {lock.name}")
    setup_packages.install(python, site_packages, lock, venv / _LOG)
  setup_environment.write_launcher(root, venv)
  (venv / _STAMP).write_text(json.dumps(wanted, indent=2) + "\n", encoding="utf-8")
  say(
    f"done in {time.monotonic() - started:.0f} s; next: make run, or .venv/bin/fedtiny --help"
  )


@contextlib.contextmanager
def _locked(root: pathlib.Path) -> Iterator[None]:
  # Two set-ups at once would undo each other. Should only this script be killed, the
  # lock stays with pip, which holds the descriptor too.
  if fcntl is None:
    yield
    return
  descriptor = os.open(str(root), os.O_RDONLY)
  try:
    os.set_inheritable(descriptor, True)
    try:
      fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      say("waiting for another set-up of this checkout to end")
      fcntl.flock(descriptor, fcntl.LOCK_EX)
    yield
  finally:
    os.close(descriptor)


def main(arguments: Optional[Sequence[str]] = None) -> int:
  """Runs set-up for the checkout this file is in and returns the exit code."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument(
    "--python", default="", help="interpreter to use; default: python3.11, then python3"
  )
  chosen = parser.parse_args(arguments).python
  try:
    with _locked(_ROOT):
      set_up(_ROOT, [chosen] if chosen else ["python3.11", "python3"])
  except SetupError as error:
    print(f"setup: {error}", file=sys.stderr)
    return error.exit_code
  except OSError as error:
    print(
      f"setup: {error.filename or _ROOT}: {error.strerror}; let it be written, or run "
      "`make setup` as who made it",
      file=sys.stderr,
    )
    return 2
  except KeyboardInterrupt:
    print("setup: interrupted; run `make setup` again to go on", file=sys.stderr)
    return 130
  return 0


if __name__ == "__main__":
  sys.exit(main())
