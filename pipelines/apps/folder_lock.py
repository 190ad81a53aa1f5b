"""One process at a time works in a folder, or with a file.

The kernel keeps the lock, so that it ends with the process, however that ends, and
no file is left behind.
"""

import errno
import fcntl
import logging
import os
import pathlib
import weakref
from typing import Optional

from fedtiny_tff.errors import InputError

_TAKEN = (errno.EWOULDBLOCK, errno.EACCES)
_KERNEL_LOCKS = pathlib.Path("/proc/locks")


class FolderLock:
  """Holds a folder, or a file, from its construction until `release`."""

  def __init__(self, folder: pathlib.Path, flag: str):
    """Takes a folder, or a file, that exists.

    Where the file system knows no locks, a warning says so and nothing is held.

    Args:
      folder: The folder, or the file.
      flag: Flag that named it, for the message.

    Raises:
      InputError: When another process holds it.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_NONBLOCK)
    self._close = weakref.finalize(self, os.close, descriptor)
    try:
      fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
      if error.errno not in _TAKEN:
        logging.warning(
          "%s cannot be locked (%s): take care that no second process works in it",
          folder,
          error.strerror,
        )
        return
      holder = _holder(os.fstat(descriptor).st_ino)
      self._close()
      who = f"process {holder}" if holder else "another process"
      how, kind = ("in", "folder") if folder.is_dir() else ("with", "file")
      raise InputError(
        f"--{flag}={folder}: {who} works {how} it; wait for its end, or name another "
        f"{kind}"
      ) from error

  def release(self) -> None:
    """Lets others take the folder; may be called again."""
    self._close()


def _holder(inode: int) -> Optional[int]:
  """Returns the process that holds the only lock on such an inode, if it is known."""
  try:
    lines = _KERNEL_LOCKS.read_text().splitlines()
  except OSError:
    return None
  # 1: FLOCK  ADVISORY  WRITE 4242 fe:00:131074 0 EOF
  fields = [line.split() for line in lines if " FLOCK " in line and "->" not in line]
  found = {int(each[4]) for each in fields if each[5].split(":")[-1] == str(inode)}
  return found.pop() if len(found) == 1 else None
