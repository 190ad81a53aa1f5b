"""Prepares LiteRT under emulated ARM64 in `.cache/arm64/`: what `make arm64` runs.

Three parts, unpacked side by side and never installed: a user-mode emulator (the one
on PATH, else Debian's), Debian 12's Python for arm64, and the aarch64 wheels of the
packages that a `.tflite` file and a device's client (`pipelines.device_client`) need,
with versions and hashes of `requirements.txt`.
Neither root nor the machine's own package state is touched; apt checks Debian's
signatures. `tflite_export/arm64/arm64_setup.py` reads the result.
"""

import contextlib
import fcntl
import json
import os
import pathlib
import platform
import re
import shutil
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Optional

from tools import arm64_parts, setup_environment
from tools.setup_messages import SetupError

FOLDER = pathlib.Path(".cache", "arm64")
MARKER = "ready.json"
# Changes with everything that makes an older folder unfit.
LAYOUT = 2

# Static, so that it runs under `-L` without libraries of the host.
_EMULATOR_PACKAGE = "qemu-user-static:amd64"
_DEBIAN_PACKAGES = (
  "libbz2-1.0", "libc6", "libexpat1", "libffi8", "libgcc-s1", "liblzma5",
  "libpython3.11-minimal", "libpython3.11-stdlib", "libssl3", "libstdc++6",
  "python3.11-minimal", "zlib1g",
)  # fmt: skip
_WHEELS = ("absl-py", "ai-edge-litert", "numpy", "safetensors")


def machine_problem(
  system: str, machine: str, find: Callable[[str], Optional[str]]
) -> Optional[str]:
  """Says in one line why nothing can be prepared on this machine, or returns None.

  Args:
    system: As `platform.system()` tells it.
    machine: As `platform.machine()` tells it.
    find: Where a program is, None when it is missing.
  """
  if (system, machine) != ("Linux", "x86_64"):
    return (
      f"{system} {machine} is not supported: ARM64 is emulated on Linux x86_64; use"
      " such a machine or container"
    )
  missing = [name for name in ("apt-get", "dpkg", "dpkg-deb") if not find(name)]
  if missing:
    return (
      f"{' and '.join(missing)} not found: Debian's packages are needed; use Debian 12"
      " or a container of it"
    )
  return None


def locked_requirements(lock: str, names: Sequence[str]) -> str:
  """Cuts packages with their hashes out of the text of a lock file.

  Args:
    lock: Text of `requirements.txt`.
    names: Packages wanted.

  Returns:
    A requirements file that holds these packages only.

  Raises:
    SetupError: The lock does not name one of them.
  """
  blocks = []
  for name in names:
    found = re.search(
      rf"^{re.escape(name)}==\S+.*\n(?:[ \t]+.*\n?)*", lock, re.MULTILINE
    )
    if found is None:
      raise SetupError(f"requirements.txt does not lock {name}: run `make lock`")
    blocks.append(found[0])
  return "".join(blocks)


def wanted_marker(requirements: str) -> dict[str, Any]:
  """Returns what the marker of an up-to-date folder says, but for the emulator."""
  pins = re.findall(r"^([\w.-]+)==([^\s;\\]+)", requirements, re.MULTILINE)
  return {"layout": LAYOUT, "debian": list(_DEBIAN_PACKAGES), "wheels": dict(pins)}


def is_ready(folder: pathlib.Path, wanted: Mapping[str, Any]) -> bool:
  """Tells whether a folder holds what is wanted, and its emulator is still there."""
  marker = setup_environment.read_stamp(folder / MARKER)
  if marker is None or {**marker, "emulator": ""} != {**wanted, "emulator": ""}:
    return False
  return os.access(folder / str(marker.get("emulator", "")), os.X_OK)


def _fill(fresh: pathlib.Path, work: pathlib.Path, requirements: str) -> str:
  """Makes the content of a new folder and returns where the emulator is."""
  root = fresh / "root"
  for folder in (root, fresh / "site"):
    folder.mkdir()
  emulator = shutil.which(arm64_parts.EMULATOR)
  names = [f"{name}:arm64" for name in _DEBIAN_PACKAGES]
  arm64_parts.download_packages(
    work, names if emulator else [*names, _EMULATOR_PACKAGE]
  )
  arm64_parts.download_wheels(work, requirements)
  arm64_parts.say("unpacking")
  for package in sorted((work / "debs").glob("*_arm64.deb")):
    arm64_parts.call(
      ["dpkg", "-x", str(package), str(root)], work, "check the free disk space"
    )
  if not emulator:
    [package] = (work / "debs").glob("*_amd64.deb")
    arm64_parts.unpack_emulator(package, fresh / arm64_parts.EMULATOR)
  for wheel in sorted((work / "wheels").glob("*.whl")):
    with zipfile.ZipFile(wheel) as archive:
      archive.extractall(fresh / "site")
  arm64_parts.write_machine_files(root)
  return emulator or arm64_parts.EMULATOR


def _try(fresh: pathlib.Path, emulator: str) -> None:
  """Imports the packages once under the emulator."""
  arm64_parts.say("trying it")
  command = [str(fresh / emulator), "-cpu", "cortex-a76", "-L", "root"]
  command += ["-E", "PYTHONPATH=site", "root/usr/bin/python3.11", "-c"]
  command += ["import absl.flags, ai_edge_litert.interpreter, safetensors.numpy"]
  arm64_parts.call(
    command, fresh, f"try {arm64_parts.EMULATOR} of Debian 12: take another off PATH"
  )


def prepare(root: pathlib.Path) -> None:
  """Brings `.cache/arm64/` under root in line with the lock file.

  The folder that is there stays until its successor is complete.

  Args:
    root: The checkout.

  Raises:
    SetupError: It cannot be done; the message says what to change.
  """
  lock = (root / "requirements.txt").read_text(encoding="utf-8")
  requirements = locked_requirements(lock, _WHEELS)
  folder, wanted = root / FOLDER, wanted_marker(requirements)
  if is_ready(folder, wanted):
    arm64_parts.say(f"{FOLDER}/ is up to date")
    return
  problem = machine_problem(platform.system(), platform.machine(), shutil.which)
  if problem:
    raise SetupError(problem)
  started = time.monotonic()
  for left_over in folder.parent.glob("arm64.*"):
    shutil.rmtree(left_over, ignore_errors=True)
  with tempfile.TemporaryDirectory(prefix="arm64.", dir=folder.parent) as scratch:
    fresh, work = pathlib.Path(scratch, "fresh"), pathlib.Path(scratch, "work")
    for made in (fresh, work):
      made.mkdir()
    # As root, apt downloads as a user of its own, who must be able to look inside.
    pathlib.Path(scratch).chmod(0o755)
    emulator = _fill(fresh, work, requirements)
    _try(fresh, emulator)
    marker = {**wanted, "emulator": emulator}
    (fresh / MARKER).write_text(json.dumps(marker, indent=2) + "\n", encoding="utf-8")
    if folder.exists():
      folder.rename(pathlib.Path(scratch, "old"))
    fresh.rename(folder)
  arm64_parts.say(f"done in {time.monotonic() - started:.0f} s: {FOLDER}/")


@contextlib.contextmanager
def _locked(folder: pathlib.Path) -> Iterator[None]:
  descriptor = os.open(folder, os.O_RDONLY)
  try:
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    yield
  finally:
    os.close(descriptor)


def main(root: pathlib.Path) -> int:
  """Prepares the checkout at root and returns the exit code."""
  try:
    (root / FOLDER.parent).mkdir(exist_ok=True)
    # Two at once would remove each other's work.
    with _locked(root / FOLDER.parent):
      prepare(root)
  except (SetupError, OSError) as error:
    print(f"arm64: {error}", file=sys.stderr)
    return 2
  except KeyboardInterrupt:
    print("arm64: interrupted; run `make arm64` again", file=sys.stderr)
    return 130
  return 0


if __name__ == "__main__":
  sys.exit(main(pathlib.Path(__file__).resolve().parents[1]))
