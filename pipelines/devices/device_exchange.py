"""Where a device's messages lie, and a folder in which they do; see `device_http`.

What is read has a limit, and what is written is whole or absent. Standard library only.
"""

import contextlib
import os
import pathlib
import stat
from collections.abc import Iterator
from typing import BinaryIO, Optional, Protocol

from fedtiny_tff.errors import InputError
from pipelines.apps import files
from pipelines.apps.errors import STORAGE_FULL


class Final(InputError):
  """Trying again cannot help."""


class Unreachable(Exception):
  """The other side cannot be reached now; it may be later."""


class Unwanted(Exception):
  """Nobody asks any more for what was to be written."""


class Exchange(Protocol):
  """Where messages lie, by their paths in `device_tasks`.

  Attributes:
    received_bytes: What was read.
    sent_bytes: What was written.
  """

  received_bytes: int
  sent_bytes: int

  def read(self, path: str, most_bytes: int) -> Optional[bytes]:
    """Returns a file's content, None where there is none.

    Args:
      path: Where it lies.
      most_bytes: More is not read.

    Raises:
      InputError: When it is longer than it may be.
      Final: When it is closed to this client.
      Unreachable: When it is not to be had now.
    """

  def exists(self, path: str) -> bool:
    """Tells whether a file is there; raises as `read` does."""

  def write(self, path: str, content: bytes) -> None:
    """Writes a file, whole or not at all.

    Raises:
      InputError: When it is refused for good.
      Final: When this client may not write it.
      Unreachable: When it cannot be written now.
      Unwanted: When nobody asks for it any more.
    """


class FolderExchange:
  """A folder on this machine, or one that is mounted here."""

  def __init__(self, folder: pathlib.Path):
    """Takes a folder, which need not be there yet."""
    self._folder = folder
    self.received_bytes = 0
    self.sent_bytes = 0

  def read(self, path: str, most_bytes: int) -> Optional[bytes]:
    """Reads a file; see `Exchange`."""
    with self._reaching(path):
      content = read_file(self._folder / path, most_bytes)
    self.received_bytes += len(content or b"")
    if content is not None and len(content) > most_bytes:
      raise too_long(path, most_bytes)
    return content

  def exists(self, path: str) -> bool:
    """Tells whether a file is there; see `Exchange`."""
    with self._reaching(path):
      try:
        return stat.S_ISREG((self._folder / path).lstat().st_mode)
      except FileNotFoundError:
        return False

  def write(self, path: str, content: bytes) -> None:
    """Writes a file; see `Exchange`."""
    with self._reaching(path):
      files.write_bytes(self._folder / path, content)
    self.sent_bytes += len(content)

  @contextlib.contextmanager
  def _reaching(self, path: str) -> Iterator[None]:
    """Lets a full disk through, and tells what may pass from what does not."""
    try:
      yield
    except PermissionError as error:
      raise Final(
        f"--exchange={self._folder}: {path} is closed to this user ({error.strerror}); "
        "give this user the permission"
      ) from error
    except OSError as error:
      if error.errno in STORAGE_FULL:
        raise
      raise Unreachable(f"{path}: {error.strerror}") from error


def read_file(path: pathlib.Path, most_bytes: int) -> Optional[bytes]:
  """Reads a regular file that nobody may have lengthened without end.

  Args:
    path: Where; the last part of it is no link.
    most_bytes: One byte more is read at most.

  Returns:
    Its content, None where there is no such file.

  Raises:
    OSError: When it cannot be read.
  """
  file = open_regular(path)
  if file is None:
    return None
  with file:
    return file.read(most_bytes + 1)


def open_regular(path: pathlib.Path) -> Optional[BinaryIO]:
  """Opens a file for reading if it is a regular one; its last part is no link.

  Raises:
    OSError: When it cannot be opened.
  """
  try:
    # Without waiting for whoever would write to a pipe.
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
  except (FileNotFoundError, NotADirectoryError):
    return None
  if stat.S_ISREG(os.fstat(handle).st_mode):
    return open(handle, "rb")
  os.close(handle)
  return None


def too_long(path: str, most_bytes: int) -> InputError:
  """Returns the error of a file that is longer than any of its kind."""
  return InputError(
    f"{path}: has more than {most_bytes:,} bytes, which none of its kind has; let the "
    "server write it again"
  )
