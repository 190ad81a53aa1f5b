"""Builds the source distribution and the wheel: what `make dist` runs.

Both hold what git tracks and nothing else, which is checked. No network is needed: the
build backend is the setuptools of `.venv/`, alone, as TFF's lock holds a `packaging` that
knows no licence expressions and setuptools brings its own.

Exit code: 0 when both were built, 1 when they hold too much or too little, 2 when the
backend failed.
"""

import argparse
import importlib.metadata
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Collection, Sequence
from typing import Optional

from tools.setup_messages import SetupError

FOLDER = "dist"
PACKAGES = ("fedtiny_tff", "tflite_export", "pipelines")
# What setuptools writes into a source distribution.
_WRITTEN = ("PKG-INFO", "setup.cfg")
# Where no git tells: what is never part of a checkout.
_TOP_UNTRACKED = {".git", ".venv", ".cache", "runs", "build", "dist", *_WRITTEN}
_UNTRACKED = shutil.ignore_patterns(
  "__pycache__", "*.egg-info", ".*_cache", ".hypothesis"
)
_BACKEND = """
import sys
hook, folder, site = sys.argv[1:]
sys.path.insert(0, site)
from setuptools import build_meta
getattr(build_meta, hook)(folder)
"""


def tracked_files(root: pathlib.Path) -> list[str]:
  """Lists the files of a checkout; in an unpacked source distribution, all of them."""
  command = ["git", "-C", str(root), "ls-files", "-z"]
  try:
    # The checkout may be a folder of another repository, which tracks none of it.
    if (root / ".git").exists():
      done = subprocess.run(command, capture_output=True, check=True)
      names = os.fsdecode(done.stdout).split("\0")
      return sorted(name for name in names if name and (root / name).is_file())
  except (OSError, subprocess.CalledProcessError):
    pass
  found = []
  for folder, folders, files in os.walk(root):
    here = pathlib.Path(folder)
    skipped = _UNTRACKED(folder, [*folders, *files])
    skipped |= _TOP_UNTRACKED if here == root else set()
    folders[:] = [each for each in folders if each not in skipped]
    found += [here / each for each in files if each not in skipped]
  return sorted(path.relative_to(root).as_posix() for path in found)


def sdist_names(path: pathlib.Path) -> list[str]:
  """Lists the files of a source distribution but for those that setuptools writes."""
  with tarfile.open(path) as archive:
    names = [each.name.partition("/")[2] for each in archive if each.isfile()]
  return [name for name in names if name not in _WRITTEN and ".egg-info/" not in name]


def wheel_names(path: pathlib.Path) -> list[str]:
  """Lists the files of a wheel but for its metadata."""
  with zipfile.ZipFile(path) as archive:
    names = archive.namelist()
  return [name for name in names if ".dist-info/" not in name]


def shipped(tracked: Collection[str]) -> list[str]:
  """Lists those files of a checkout that a wheel must hold: code and what it reads."""
  return [
    name
    for name in tracked
    if name.split("/")[0] in PACKAGES and pathlib.PurePath(name).name != "BUILD"
  ]


def differences(what: str, held: Collection[str], wanted: Collection[str]) -> list[str]:
  """Says in a line each what a distribution lacks and what it should not hold."""
  lacking = [
    f"{what} lacks {name}; include it in MANIFEST.in"
    for name in sorted(set(wanted) - set(held))
  ]
  foreign = [
    f"{what} holds {name}; exclude it in MANIFEST.in"
    for name in sorted(set(held) - set(wanted))
  ]
  return lacking + foreign


def call_backend(hook: str, source: pathlib.Path, output: pathlib.Path) -> None:
  """Calls a hook of PEP 517 in a process that can import setuptools only.

  Args:
    hook: Its name.
    source: Folder with the project, which setuptools writes into.
    output: Folder for what the hook makes.

  Raises:
    SetupError: It failed; setuptools' own words are on stderr.
  """
  try:
    installed = importlib.metadata.distribution("setuptools")
  except importlib.metadata.PackageNotFoundError:
    raise SetupError("setuptools is not installed; run `make setup`") from None
  with tempfile.TemporaryDirectory() as site:
    # With its metadata, as its commands are entry points.
    for name in {path.parts[0] for path in installed.files or ()} - {".."}:
      pathlib.Path(site, name).symlink_to(str(installed.locate_file(name)))
    command = [sys.executable, "-I", "-S", "-B", "-c", _BACKEND]
    done = subprocess.run(
      [*command, hook, str(output), site],
      cwd=source,
      capture_output=True,
      text=True,
      stdin=subprocess.DEVNULL,
      check=False,
    )
  if done.returncode:
    print(done.stderr, file=sys.stderr)
    raise SetupError(f"setuptools failed at {hook}; mend pyproject.toml")


def _only(folder: pathlib.Path, pattern: str) -> pathlib.Path:
  (path,) = folder.glob(pattern)
  return path


def build(
  root: pathlib.Path, output: pathlib.Path
) -> tuple[pathlib.Path, pathlib.Path]:
  """Builds the source distribution of a checkout, and from that the wheel.

  Args:
    root: The checkout; nothing is written there.
    output: Folder for both; others' files in it stay.

  Returns:
    Where they are.

  Raises:
    SetupError: The build backend failed.
  """
  with tempfile.TemporaryDirectory() as temporary:
    place = pathlib.Path(temporary)
    for name in tracked_files(root):
      (place / "checkout" / name).parent.mkdir(parents=True, exist_ok=True)
      shutil.copy2(root / name, place / "checkout" / name)
    (place / "made").mkdir()
    call_backend("build_sdist", place / "checkout", place / "made")
    sdist = _only(place / "made", "*.tar.gz")
    with tarfile.open(sdist) as archive:
      # Made a moment ago of our own files; Debian 12's Python 3.11.2 has no filters yet.
      archive.extractall(place / "unpacked")
    # From what others will have, not from what lies here.
    call_backend("build_wheel", _only(place / "unpacked", "*"), place / "made")
    wheel = _only(place / "made", "*.whl")
    output.mkdir(parents=True, exist_ok=True)
    shutil.move(sdist, output / sdist.name)
    shutil.move(wheel, output / wheel.name)
    return output / sdist.name, output / wheel.name


def problems(
  sdist: pathlib.Path, wheel: pathlib.Path, tracked: Sequence[str]
) -> list[str]:
  """Says in a line each what is wrong with distributions of a checkout's files."""
  return [
    *differences(sdist.name, sdist_names(sdist), tracked),
    *differences(wheel.name, wheel_names(wheel), shipped(tracked)),
  ]


def main(arguments: Optional[Sequence[str]] = None) -> int:
  """Builds those of the checkout this file is in and returns the exit code."""
  root = pathlib.Path(__file__).resolve().parents[1]
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--output", type=pathlib.Path, default=root / FOLDER)
  output = parser.parse_args(arguments).output
  try:
    made = build(root, output)
  except SetupError as error:
    print(f"dist: {error}", file=sys.stderr)
    return 2
  found = problems(*made, tracked_files(root))
  for path in made:
    print(f"{path} ({path.stat().st_size:,} bytes)")
  for line in found:
    print(f"dist: {line}", file=sys.stderr)
  return 1 if found else 0


if __name__ == "__main__":
  sys.exit(main())
