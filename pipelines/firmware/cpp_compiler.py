"""Runs C++ compilers over exported sources, in a folder that goes away again."""

import contextlib
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence

from tflite_export.artifacts import VerificationError

GXX = "g++"
# What firmware's developers compile of an export; the rest are headers.
SOURCES = ("main_functions.cc", "model_data.cc")

_TIMEOUT_SECONDS = 600
_SUFFIXES = (".cc", ".h")
# The headers of the standard library that exported sources include.
_PROBE = "#include <cmath>\n#include <cstdint>\n#include <cstdio>\n#include <limits>\n"
# A linker, unlike a compiler, does not begin its reasons with `error`.
_REASON = re.compile(r"error: |undefined reference|multiple definition|cannot find")


def problem(compiler: Sequence[str], *tools: str) -> str:
  """Tells why sources cannot be compiled here; empty when they can.

  A compiler for another processor is often installed without its C++ library, or does
  not know a newer processor: neither is a fault of the sources.

  Args:
    compiler: Program and options.
    tools: Programs that must be there besides.
  """
  for name in (compiler[0], *tools):
    if shutil.which(name) is None:
      return f"{name} is not installed"
  with sources_in_folder({}, {"probe.cc": _PROBE}) as place:
    failure = f"{compiler[0]} cannot be used"
    try:
      run((*compiler, "-fsyntax-only", "probe.cc"), place, failure)
    except VerificationError as error:
      return str(error)
    except OSError as error:
      return f"{failure}: {error.strerror}"
  return ""


@contextlib.contextmanager
def sources_in_folder(
  files: Mapping[str, bytes], headers: Mapping[str, str]
) -> Iterator[pathlib.Path]:
  """Writes the sources of the target `mcu` into a folder for as long as they are needed.

  Args:
    files: Of the target, by path; they lie in the folder itself.
    headers: More, by path below the folder.
  """
  texts = {
    pathlib.PurePosixPath(path).name: content
    for path, content in files.items()
    if path.endswith(_SUFFIXES)
  }
  texts |= {path: text.encode("utf-8") for path, text in headers.items()}
  with tempfile.TemporaryDirectory() as place:
    for name, content in texts.items():
      path = pathlib.Path(place) / name
      path.parent.mkdir(parents=True, exist_ok=True)
      path.write_bytes(content)
    yield pathlib.Path(place)


def run(command: Sequence[str], folder: pathlib.Path, failure: str) -> str:
  """Runs a compiler, or a tool beside it, in a folder.

  Args:
    command: Program and arguments.
    folder: Where its files are.
    failure: What it means when it fails, for the error.

  Returns:
    What it printed.

  Raises:
    VerificationError: It failed, with its first reason; or it did not end.
  """
  try:
    done = subprocess.run(
      command,
      cwd=folder,
      # Reasons are looked for in English.
      env={**os.environ, "LC_ALL": "C"},
      stdin=subprocess.DEVNULL,
      capture_output=True,
      text=True,
      errors="replace",
      timeout=_TIMEOUT_SECONDS,
      check=False,
    )
  except subprocess.TimeoutExpired as error:
    raise VerificationError(
      f"{failure}: {command[0]} did not end within {_TIMEOUT_SECONDS} s"
    ) from error
  if done.returncode:
    lines = done.stderr.splitlines()
    reasons = [line for line in lines if _REASON.search(line)]
    raise VerificationError(
      f"{failure}: {(reasons or lines or ['no reason given'])[0].strip()}"
    )
  return done.stdout
