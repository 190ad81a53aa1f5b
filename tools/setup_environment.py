"""What a finished `.venv/` looks like, and what one that is there still needs."""

from __future__ import annotations

import hashlib
import json
import pathlib
import shlex
import stat
import subprocess
import sys
from collections.abc import Iterable, Mapping
from typing import Optional

from tools import setup_packages
from tools.setup_interpreters import WANTED_PYTHON, Interpreter
from tools.setup_messages import SetupError, say


def wanted_stamp(
  lock_files: Iterable[pathlib.Path], interpreter: Interpreter, venv: pathlib.Path
) -> Mapping[str, str]:
  """Returns what the stamp of a finished environment must say."""
  digest = hashlib.sha256()
  for path in lock_files:
    content = path.read_bytes()
    digest.update(f"{path.name} {len(content)}\n".encode())
    digest.update(content)
  return {
    "lock": digest.hexdigest(),
    "python": interpreter.identity,
    "venv": str(venv),
  }


def read_stamp(path: pathlib.Path) -> Optional[Mapping[str, str]]:
  """Reads the stamp; None when it is missing or unreadable."""
  try:
    stamp = json.loads(path.read_text(encoding="utf-8"))
  except (OSError, ValueError, RecursionError):
    return None
  return stamp if isinstance(stamp, dict) else None


def plan(
  stamp: Optional[Mapping[str, str]],
  wanted: Mapping[str, str],
  inside: Optional[Interpreter],
) -> str:
  """Decides what an environment needs.

  Args:
    stamp: What the last finished set-up left, or None.
    wanted: What it must say now.
    inside: The environment's own interpreter, or None when it does not run.

  Returns:
    "ready", "install" (packages into the environment that is there) or "rebuild".
  """
  if inside is None or inside.identity != wanted["python"]:
    return "rebuild"
  # Scripts in a moved environment still start the interpreter at the old place.
  if stamp is not None and stamp.get("venv") != wanted["venv"]:
    return "rebuild"
  return "ready" if stamp == wanted else "install"


def make_venv(interpreter: Interpreter, venv: pathlib.Path) -> None:
  """Makes an empty environment, in place of what is there.

  Raises:
    SetupError: The interpreter could not; what it says is on stderr.
  """
  say(f"making {venv.name}/ with Python {interpreter.version_text}")
  done = subprocess.run(
    [interpreter.executable, "-m", "venv", "--clear", str(venv)],
    stdin=subprocess.DEVNULL,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    env=setup_packages.pip_environment(),
    check=False,
  )
  if done.returncode:
    print(done.stdout.decode(errors="replace"), file=sys.stderr)
    raise SetupError(f"{interpreter.executable} could not make {venv}", 1)


def site_packages(python: pathlib.Path) -> pathlib.Path:
  """Returns where an environment has its packages."""
  major, minor = WANTED_PYTHON
  return python.parents[1] / "lib" / f"python{major}.{minor}" / "site-packages"


def write_launcher(root: pathlib.Path, venv: pathlib.Path) -> bool:
  """Makes `.venv/bin/fedtiny` start the checkout's commands from any folder.

  Args:
    root: The checkout.
    venv: Its environment.

  Returns:
    Whether anything had to be written.
  """
  python = venv / "bin" / "python"
  # -P: no file of the folder it is started in may stand in for one of ours.
  script = f'#!/bin/sh\nexec {shlex.quote(str(python))} -P -m pipelines "$@"\n'
  wanted = {
    # Python reads it at its start, and finds the checkout's packages.
    site_packages(python) / "fedtiny.pth": f"{root}\n",
    venv / "bin" / "fedtiny": script,
  }
  stale = {
    path: text
    for path, text in wanted.items()
    if not path.is_file() or path.read_text(encoding="utf-8") != text
  }
  for path, text in stale.items():
    path.write_text(text, encoding="utf-8")
  launcher = venv / "bin" / "fedtiny"
  # Whoever may only read the environment finds it as it was made.
  if stat.S_IMODE(launcher.stat().st_mode) != 0o755:
    launcher.chmod(0o755)
  return bool(stale)
