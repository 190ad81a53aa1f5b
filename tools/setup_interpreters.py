"""Finds a Python that `.venv/` can be made with; runs on any that has 3.7's syntax."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Optional

from tools.setup_messages import SetupError

WANTED_PYTHON = (3, 11)
# The lock holds wheels for manylinux_2_31.
_OLDEST_GLIBC = (2, 31)

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
    or tuple(interpreter.version[:2]) != WANTED_PYTHON
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


def _numbers(version: str) -> tuple[int, ...]:
  return tuple(int(part) for part in re.findall(r"\d+", version))
