"""Environments of tools that are not part of a run's: each with a lock of its own."""

import pathlib
import subprocess
import sys
from collections.abc import Sequence

from tools.setup_messages import SetupError


def prepare(root: pathlib.Path, folder: str, lock: str) -> pathlib.Path:
  """Installs a lock file, by hashes, and returns the interpreter.

  Args:
    root: The checkout.
    folder: Where the environment lies in it; made anew where the lock has changed.
    lock: The lock file's name.

  Raises:
    SetupError: It cannot be made or filled.
  """
  home = root / folder
  python = home / "bin" / "python"
  wanted = (root / lock).read_text(encoding="utf-8")
  stamp = home / lock
  if python.exists() and stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
    return python
  _call([sys.executable, "-m", "venv", "--clear", str(home)], f"make {folder}")
  command = [str(python), "-m", "pip", "install", "--quiet", "--no-deps"]
  command += ["--require-hashes", "--only-binary=:all:", "--no-input"]
  command += ["--disable-pip-version-check", "-r", str(root / lock)]
  _call(command, f"install {lock}: check the network")
  stamp.write_text(wanted, encoding="utf-8")
  return python


def _call(command: Sequence[str], what: str) -> None:
  done = subprocess.run(
    command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
  )
  if done.returncode:
    last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
    raise SetupError(f"could not {what} ({last})")
