"""Finds what `make arm64` prepared: an emulator, ARM64 Python and packages for it.

Standard library only, so that `pipelines.doctor` can ask.
"""

import dataclasses
import importlib.metadata
import json
import os
import pathlib
from typing import Any, Optional

_CHECKOUT = pathlib.Path(__file__).resolve().parents[2]
# Written by `tools/arm64.py`, which may share no code with this package.
FOLDER = _CHECKOUT / ".cache" / "arm64"
MARKER = "ready.json"
LAYOUT = 2

_MEND = "run `make arm64`"
_RUNTIME = "ai-edge-litert"


@dataclasses.dataclass(frozen=True)
class Emulator:
  """How to start the emulated Python.

  Attributes:
    executable: The user-mode emulator.
    root: Folder that takes the place of `/` where it holds a file.
    site: Folder with the aarch64 packages.
    checkout: Folder with this project's own packages.
  """

  executable: pathlib.Path
  root: pathlib.Path
  site: pathlib.Path
  checkout: pathlib.Path

  def command(self, module: str, *arguments: str) -> list[str]:
    """Returns the command line that runs a module, safe from the caller's folder."""
    return [
      str(self.executable),
      *("-cpu", "cortex-a76", "-L", str(self.root)),
      str(self.root / "usr" / "bin" / "python3.11"),
      *("-s", "-P", "-m", module),
      *arguments,
    ]

  def environment(self, temporary_folder: str) -> dict[str, str]:
    """Returns all variables of the emulated process."""
    return {
      "LC_ALL": "C.UTF-8",
      "PYTHONPATH": os.pathsep.join([str(self.checkout), str(self.site)]),
      # The checkout's byte code belongs to the Python of this machine.
      "PYTHONDONTWRITEBYTECODE": "1",
      "TMPDIR": temporary_folder,
    }


def find(folder: pathlib.Path = FOLDER) -> Optional[Emulator]:
  """Returns the emulator of a prepared folder, or None; `problem` tells why."""
  if problem(folder):
    return None
  return Emulator(
    folder / str(_marker(folder)["emulator"]),
    folder / "root",
    folder / "site",
    _CHECKOUT,
  )


def problem(folder: pathlib.Path = FOLDER) -> str:
  """Says in one line what is missing and how to mend it; empty when all is there."""
  marker = _marker(folder)
  if marker.get("layout") != LAYOUT:
    return f"the ARM64 emulator is not set up: {_MEND}"
  held = marker.get("wheels", {}).get(_RUNTIME)
  try:
    wanted = importlib.metadata.version(_RUNTIME)
  except importlib.metadata.PackageNotFoundError:
    return f"{_RUNTIME} is not installed: run `make setup`"
  if held != wanted:
    return f"the ARM64 emulator has {_RUNTIME} {held}, installed is {wanted}: {_MEND}"
  executable = folder / str(marker.get("emulator"))
  if not os.access(executable, os.X_OK):
    return f"the ARM64 emulator {executable} is gone: {_MEND}"
  return ""


def _marker(folder: pathlib.Path) -> dict[str, Any]:
  """Reads the marker, which is written last; empty when it cannot be read."""
  try:
    marker = json.loads((folder / MARKER).read_text(encoding="utf-8"))
  except (OSError, ValueError, RecursionError):
    return {}
  return marker if isinstance(marker, dict) else {}
