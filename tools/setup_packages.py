"""Installs the packages of a lock file with pip, and clears what it left half done."""

from __future__ import annotations

import csv
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

from tools.setup_messages import SetupError, say

_PROGRESS_SECONDS = 15
_MOST_ERROR_LINES = 30


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


def has_pip(python: pathlib.Path) -> bool:
  """Whether an interpreter can run pip."""
  command = [str(python), "-m", "pip", "--version"]
  quiet = subprocess.DEVNULL
  return not subprocess.call(command, stdin=quiet, stdout=quiet, stderr=quiet)


def pip_environment() -> dict[str, str]:
  """Returns the environment variables with which pip installs where it is told to."""
  # A mirror or proxy named in the environment stays; what would make pip install
  # elsewhere, or Python import from elsewhere, does not.
  unwanted = {"PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PYTHONPATH", "PYTHONHOME"}
  kept = {name: value for name, value in os.environ.items() if name not in unwanted}
  return {**kept, "PIP_USER": "0", "PYTHONUNBUFFERED": "1"}


def install(
  python: pathlib.Path,
  site_packages: pathlib.Path,
  lock: pathlib.Path,
  log_path: pathlib.Path,
) -> None:
  """Installs what a lock file names, by its hashes.

  Args:
    python: The environment's interpreter.
    site_packages: Where it has its packages.
    lock: The lock file.
    log_path: Where to write what pip says.

  Raises:
    SetupError: pip failed; what tells why is on stderr.
  """
  command = [str(python), "-m", "pip", "install", "--no-deps", "--require-hashes"]
  command += ["--only-binary=:all:", "--no-input", "--disable-pip-version-check"]
  command += ["--no-warn-script-location", "--progress-bar=off", "-r", str(lock)]
  started = time.monotonic()
  with log_path.open("wb") as log:
    pip = subprocess.Popen(
      command,
      stdin=subprocess.DEVNULL,
      stdout=log,
      stderr=subprocess.STDOUT,
      env=pip_environment(),
      # Should only this script be killed, pip keeps the lock of the checkout.
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
        say(f"  {seconds} s: {fetched} fetched, {installed} installed in all")
  if pip.returncode:
    print("\n".join(error_lines(log_path.read_text(errors="replace"))), file=sys.stderr)
    raise SetupError(
      f"pip could not install {lock.name}, its output is in {log_path}; mend what it"
      " says (often the network or a full disk) and run `make setup` again",
      1,
    )


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
