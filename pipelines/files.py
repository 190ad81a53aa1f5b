"""Writing files so that they are whole or absent."""

import contextlib
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator
from typing import BinaryIO, cast

from fedtiny_tff.errors import InputError

# Ends the name of everything unfinished, so that nothing else is ever removed.
_UNFINISHED = ".partial"


def _sync_folder(folder: pathlib.Path) -> None:
  descriptor = os.open(folder, os.O_RDONLY)
  try:
    os.fsync(descriptor)
  finally:
    os.close(descriptor)


@contextlib.contextmanager
def replacing(path: pathlib.Path) -> Iterator[BinaryIO]:
  """Opens a temporary file that takes the place of `path` when all went well.

  The content is synced before the rename, the folder after it.
  """
  path.parent.mkdir(parents=True, exist_ok=True)
  descriptor, name = tempfile.mkstemp(_UNFINISHED, f".{path.name}.", path.parent)
  try:
    with os.fdopen(descriptor, "wb") as file:
      yield cast(BinaryIO, file)
      file.flush()
      os.fsync(file.fileno())
    os.chmod(name, 0o644)
    os.replace(name, path)
  except BaseException:
    pathlib.Path(name).unlink(missing_ok=True)
    raise
  _sync_folder(path.parent)


def write_bytes(path: pathlib.Path, content: bytes) -> None:
  """Writes a file, whole or not at all."""
  with replacing(path) as file:
    file.write(content)


def write_text(path: pathlib.Path, content: str) -> None:
  """Writes a UTF-8 text file, whole or not at all."""
  write_bytes(path, content.encode())


@contextlib.contextmanager
def replacing_folder(path: pathlib.Path) -> Iterator[pathlib.Path]:
  """Yields a temporary folder that takes the place of `path` when all went well."""
  path.parent.mkdir(parents=True, exist_ok=True)
  fresh = pathlib.Path(tempfile.mkdtemp(_UNFINISHED, f".{path.name}.", path.parent))
  try:
    yield fresh
    for file in fresh.rglob("*"):
      if file.is_file():
        with file.open("rb") as opened:
          os.fsync(opened.fileno())
    fresh.chmod(0o755)
    if path.exists():
      old = pathlib.Path(tempfile.mkdtemp(_UNFINISHED, f".{path.name}.", path.parent))
      os.replace(path, old)
      os.replace(fresh, path)
      shutil.rmtree(old)
    else:
      os.replace(fresh, path)
  except BaseException:
    shutil.rmtree(fresh, ignore_errors=True)
    raise
  _sync_folder(path.parent)


def is_leftover(path: pathlib.Path) -> bool:
  """Whether a path is a temporary file or folder of this module."""
  return path.name.startswith(".") and path.name.endswith(_UNFINISHED)


def remove_leftovers(folder: pathlib.Path) -> None:
  """Removes temporary files that a killed process left behind in a folder tree."""
  for path in filter(is_leftover, sorted(folder.rglob(".*"), reverse=True)):
    if path.is_dir() and not path.is_symlink():
      shutil.rmtree(path, ignore_errors=True)
    else:
      path.unlink(missing_ok=True)


def make_folder(path: pathlib.Path, flag: str) -> None:
  """Makes a folder that can be written to.

  Args:
    path: The folder.
    flag: Flag that named it, for the message.

  Raises:
    InputError: When it cannot be made or written.
  """
  try:
    path.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(prefix=".probe.", suffix=_UNFINISHED, dir=path):
      pass
  except OSError as error:
    raise InputError(
      f"--{flag}={path}: cannot be written ({error.strerror}); choose another folder"
    ) from error
