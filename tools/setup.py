"""Makes `.venv/` from the lock files: what `make setup` runs.

It runs before anything is installed, on whatever `python3` the system has (3.7 or
newer), so it uses the standard library only.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, Optional

try:
  import fcntl
except ImportError:
  # Windows, about which the check of the interpreter has a better message.
  fcntl = None  # type: ignore[assignment]

_LOCKS = ("requirements.txt", "requirements-dev.txt")
_STAMP = "fedtiny-setup.json"
_LOG = "fedtiny-setup.log"
_WANTED_PYTHON = (3, 11)
# The lock holds wheels for manylinux_2_31.
_OLDEST_GLIBC = (2, 31)
_PROGRESS_SECONDS = 15
_MOST_ERROR_LINES = 30

# Must run on any Python there is, so that a wrong one can be named.
_PROBE = """
import json, platform, sys
try:
  import ensurepip, venv
  can_make_venv = True
except ImportError:
  can_make_venv = False
print(json.dumps({
  "executable": getattr(sys, "_base_executable", None) or sys.executable,
  "version": list(sys.version_info[:3]),
  "implementation": platform.python_implementation(),
  "platform": platform.system() + " " + platform.machine(),
  "libc": list(platform.libc_ver()),
  "base_prefix": getattr(sys, "base_prefix", sys.prefix),
  "can_make_venv": can_make_venv,
}))
"""


class SetupError(Exception):
  """Set-up cannot go on; the message is what the user is told.

  Attributes:
    exit_code: 2 when this machine or the call must change first, 1 when the
      installation itself failed.
  """

  def __init__(self, message: str, exit_code: int = 2) -> None:
    """Keeps the message and the exit code."""
    super().__init__(message)
    self.exit_code = exit_code


class Interpreter(NamedTuple):
  """What a Python interpreter says about itself.

  Attributes:
    executable: The interpreter outside any virtual environment.
    version: (major, minor, micro).
    implementation: Such as "CPython".
    platform: Such as "Linux x86_64".
    libc: (name, version), both empty when unknown.
    base_prefix: Where the interpreter is installed.
    can_make_venv: Whether the modules venv and ensurepip are there.
  """

  executable: str
  version: Sequence[int]
  implementation: str
  platform: str
  libc: Sequence[str]
  base_prefix: str
  can_make_venv: bool

  @property
  def version_text(self) -> str:
    """The version as "3.11.7"."""
    return ".".join(str(part) for part in self.version)

  @property
  def identity(self) -> str:
    """What must stay the same for a virtual environment to stay usable."""
    return f"{self.version_text} {self.base_prefix}"


def probe(command: str) -> Optional[Interpreter]:
  """Asks an interpreter about itself; None when it is missing or does not run."""
  try:
    done = subprocess.run(
      [command, "-c", _PROBE],
      stdin=subprocess.DEVNULL,
      stdout=subprocess.PIPE,
      stderr=subprocess.DEVNULL,
      check=True,
    )
    return Interpreter(**json.loads(done.stdout.decode()))
  except (OSError, subprocess.CalledProcessError, ValueError, TypeError):
    return None


def interpreter_problem(interpreter: Interpreter) -> Optional[str]:
  """Says in one line why an interpreter cannot be used, or returns None."""
  name = f"Python {interpreter.version_text} ({interpreter.executable})"
  if interpreter.platform != "Linux x86_64":
    return (
      f"{interpreter.platform} cannot be used: the lock files are for Linux x86_64;"
      " run this on a Linux x86-64 machine or in such a container"
    )
  if (
    interpreter.implementation != "CPython"
    or tuple(interpreter.version[:2]) != _WANTED_PYTHON
  ):
    return (
      f"{interpreter.implementation} {interpreter.version_text}"
      f" ({interpreter.executable}) cannot be used: TensorFlow Federated 0.87 needs"
      " CPython 3.9 to 3.11 and the lock files are for 3.11; install Python 3.11 and"
      " run `make setup PYTHON=/path/to/python3.11`"
    )
  libc, libc_version = interpreter.libc
  if libc != "glibc" or _numbers(libc_version) < _OLDEST_GLIBC:
    return (
      f"{name} runs on the C library '{libc} {libc_version}', but TensorFlow's wheels"
      " need glibc 2.31 or newer; use Debian 11, Ubuntu 20.04 or anything newer"
    )
  if not interpreter.can_make_venv:
    return (
      f"{name} lacks the modules venv and ensurepip; install them"
      " (Debian and Ubuntu: apt-get install python3.11-venv)"
    )
  return None


def choose_interpreter(
  commands: Iterable[str], ask: Callable[[str], Optional[Interpreter]] = probe
) -> Interpreter:
  """Returns the first usable interpreter among commands.

  Args:
    commands: Names or paths, best first.
    ask: How to learn about one; None for one that does not run.

  Raises:
    SetupError: None is usable; tells about the first that runs at all.
  """
  problems = []
  names = list(commands)
  for name in names:
    interpreter = ask(name)
    if interpreter is None:
      continue
    problem = interpreter_problem(interpreter)
    if problem is None:
      return interpreter
    problems.append(problem)
  if problems:
    raise SetupError(problems[0])
  raise SetupError(
    f"no Python runs under the name {' or '.join(names)}; install Python 3.11 (Debian"
    " and Ubuntu: apt-get install python3.11-venv) or run"
    " `make setup PYTHON=/path/to/python3.11`"
  )


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
  except (OSError, ValueError):
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


def remove_damaged(site_packages: pathlib.Path) -> list[str]:
  """Makes pip forget packages that an interrupted installation left incomplete.

  pip takes a package for installed as soon as its metadata is there. Without the
  metadata it installs the package again, over what is left of it.

  Args:
    site_packages: Where packages are installed.

  Returns:
    The names of the packages forgotten.
  """
  # pip keeps what it is about to replace under such names until it is done.
  for left_over in site_packages.glob("~*"):
    shutil.rmtree(left_over, ignore_errors=True)
  damaged = [
    path
    for path in sorted(site_packages.glob("*.dist-info"))
    if not path.name.startswith("pip-") and not _is_complete(path)
  ]
  for path in damaged:
    shutil.rmtree(path)
  return [path.name.split("-")[0] for path in damaged]


def count_fetched(log: str) -> int:
  """Counts the packages that pip's output says it has begun to fetch."""
  return len(re.findall(r"^(?:Collecting|Processing) ", log, re.MULTILINE))


def error_lines(log: str) -> list[str]:
  """Picks from pip's output what tells why it failed."""
  lines = [
    line
    for line in log.splitlines()
    if line.strip() and not re.match(r"WARNING|\[notice\]|Collecting|Processing", line)
  ]
  first = next((i for i, line in enumerate(lines) if line.startswith("ERROR")), 0)
  return lines[first:][-_MOST_ERROR_LINES:]


def _numbers(version: str) -> tuple[int, ...]:
  return tuple(int(part) for part in re.findall(r"\d+", version))


def _is_complete(dist_info: pathlib.Path) -> bool:
  # pip writes INSTALLER after the last file of a package.
  if not (dist_info / "INSTALLER").is_file() or not (dist_info / "RECORD").is_file():
    return False
  with (dist_info / "RECORD").open(encoding="utf-8", newline="") as record:
    # Rows without a hash are byte code, which anybody may delete.
    return all(
      (dist_info.parent / row[0]).exists()
      for row in csv.reader(record)
      if len(row) > 1 and row[1]
    )


def _say(message: str) -> None:
  print(f"setup: {message}", flush=True)


def _pip_environment() -> dict[str, str]:
  # A mirror or proxy named in the environment stays; what would make pip install
  # elsewhere, or Python import from elsewhere, does not.
  unwanted = {"PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PYTHONPATH", "PYTHONHOME"}
  kept = {name: value for name, value in os.environ.items() if name not in unwanted}
  return {**kept, "PIP_USER": "0", "PYTHONUNBUFFERED": "1"}


def _make_venv(interpreter: Interpreter, venv: pathlib.Path) -> None:
  _say(f"making {venv.name}/ with Python {interpreter.version_text}")
  done = subprocess.run(
    [interpreter.executable, "-m", "venv", "--clear", str(venv)],
    stdin=subprocess.DEVNULL,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    env=_pip_environment(),
    check=False,
  )
  if done.returncode:
    print(done.stdout.decode(errors="replace"), file=sys.stderr)
    raise SetupError(f"{interpreter.executable} could not make {venv}", 1)


def _pip_install(
  python: pathlib.Path, lock: pathlib.Path, log_path: pathlib.Path
) -> None:
  command = [str(python), "-m", "pip", "install", "--no-deps", "--require-hashes"]
  command += ["--only-binary=:all:", "--no-input", "--disable-pip-version-check"]
  command += ["--no-warn-script-location", "--progress-bar=off", "-r", str(lock)]
  site_packages = _site_packages(python)
  started = time.monotonic()
  with log_path.open("wb") as log:
    pip = subprocess.Popen(
      command,
      stdin=subprocess.DEVNULL,
      stdout=log,
      stderr=subprocess.STDOUT,
      env=_pip_environment(),
      # Should only this script be killed, pip keeps the lock of `_lock_checkout`.
      close_fds=False,
    )
    while True:
      try:
        pip.wait(timeout=_PROGRESS_SECONDS)
        break
      except subprocess.TimeoutExpired:
        fetched = count_fetched(log_path.read_text(errors="replace"))
        installed = len(list(site_packages.glob("*.dist-info")))
        seconds = round(time.monotonic() - started)
        _say(f"  {seconds} s: {fetched} fetched, {installed} installed in all")
  if pip.returncode:
    print("\n".join(error_lines(log_path.read_text(errors="replace"))), file=sys.stderr)
    raise SetupError(
      f"pip could not install {lock.name}, its output is in {log_path}; mend what it"
      " says (often the network or a full disk) and run `make setup` again",
      1,
    )


def _site_packages(python: pathlib.Path) -> pathlib.Path:
  major, minor = _WANTED_PYTHON
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
    _site_packages(python) / "fedtiny.pth": f"{root}\n",
    venv / "bin" / "fedtiny": script,
  }
  stale = {
    path: text
    for path, text in wanted.items()
    if not path.is_file() or path.read_text(encoding="utf-8") != text
  }
  for path, text in stale.items():
    path.write_text(text, encoding="utf-8")
  (venv / "bin" / "fedtiny").chmod(0o755)
  return bool(stale)


def _has_pip(python: pathlib.Path) -> bool:
  command = [str(python), "-m", "pip", "--version"]
  quiet = subprocess.DEVNULL
  return not subprocess.call(command, stdin=quiet, stdout=quiet, stderr=quiet)


def set_up(root: pathlib.Path, commands: Iterable[str]) -> None:
  """Brings `.venv/` under root in line with the lock files.

  Args:
    root: The checkout.
    commands: Interpreters to try, best first.

  Raises:
    SetupError: It cannot be done.
  """
  interpreter = choose_interpreter(commands)
  venv = root / ".venv"
  python = venv / "bin" / "python"
  locks = [root / name for name in _LOCKS]
  wanted = wanted_stamp(locks, interpreter, venv)
  step = plan(read_stamp(venv / _STAMP), wanted, probe(str(python)))
  if step == "ready":
    write_launcher(root, venv)
    _say(f"{venv.name}/ is up to date (Python {interpreter.version_text})")
    return
  started = time.monotonic()
  # Without a stamp, an interruption from here on is mended by the next run.
  if (venv / _STAMP).exists():
    (venv / _STAMP).unlink()
  if step == "rebuild" or not _has_pip(python):
    _make_venv(interpreter, venv)
  damaged = remove_damaged(_site_packages(python))
  if damaged:
    _say(f"installing again what an interruption left incomplete: {' '.join(damaged)}")
  for lock in locks:
    count = len(re.findall(r"^[\w.-]+==", lock.read_text(encoding="utf-8"), re.M))
    _say(f"installing the {count} packages of {lock.name}")
    _pip_install(python, lock, venv / _LOG)
  write_launcher(root, venv)
  (venv / _STAMP).write_text(json.dumps(wanted, indent=2) + "\n", encoding="utf-8")
  _say(f"done in {time.monotonic() - started:.0f} s; next: make run, or .venv/bin/fedtiny --help")


def _lock_checkout(root: pathlib.Path) -> None:
  # Two set-ups at once would undo each other; the lock ends with the processes that
  # hold the descriptor.
  if fcntl is None:
    return
  descriptor = os.open(str(root), os.O_RDONLY)
  os.set_inheritable(descriptor, True)
  try:
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError:
    _say("waiting for another set-up of this checkout to end")
    fcntl.flock(descriptor, fcntl.LOCK_EX)


def main(arguments: Optional[Sequence[str]] = None) -> int:
  """Runs set-up for the checkout this file is in and returns the exit code."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument(
    "--python", default="", help="interpreter to use; default: python3.11, then python3"
  )
  chosen = parser.parse_args(arguments).python
  root = pathlib.Path(__file__).resolve().parents[1]
  try:
    _lock_checkout(root)
    set_up(root, [chosen] if chosen else ["python3.11", "python3"])
  except SetupError as error:
    print(f"setup: {error}", file=sys.stderr)
    return error.exit_code
  except KeyboardInterrupt:
    print("setup: interrupted; run `make setup` again to go on", file=sys.stderr)
    return 130
  return 0


if __name__ == "__main__":
  sys.exit(main())
