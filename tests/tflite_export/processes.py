"""Runs small programs in a fresh Python."""

import os
import subprocess
import sys


def printed(program, **environment):
  """Returns what a program prints, stripped; `environment` comes on top of ours."""
  return subprocess.run(
    [sys.executable, "-c", program],
    capture_output=True,
    check=True,
    text=True,
    env={**os.environ, "PYTHONPATH": os.getcwd(), **environment},
  ).stdout.strip()


def loaded_by(modules, prefixes):
  """Returns which modules with the given prefixes importing `modules` loads."""
  names = printed(f"import sys, {', '.join(modules)}\nprint(*sys.modules)").split()
  return [name for name in names if name.startswith(prefixes)]
