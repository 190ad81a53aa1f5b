"""Writing files so that they are whole or absent.

Everything unfinished is locked by whoever writes it. The lock ends with its process,
however that ends, and cannot be taken for another's, as a process id can. So the next
writer of the same name can tell what was left behind, and removes it. Where a file system
knows no locks (`flock`), nothing is removed.
"""

import contextlib
import ctypes
import errno
import fcntl
import os
import pathlib
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from typing import BinaryIO, Optional

from fedtiny_tff.errors import InputError

# Ends the name of everything unfinished, so that nothing else is ever removed.
_UNFINISHED = ".partial"

# Of linux/fcntl.h and linux/fs.h.
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
# What a rename to something else than an empty folder ends in.
_OCCUPIED = (errno.EEXIST, errno.ENOTDIR, errno.ENOTEMPTY)
# The last is what stacked file systems answer about folders of their lower layers.
_NO_EXCHANGE = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EXDEV)


def _sync_folder(folder: pathlib.Path) -> None:
  descriptor = os.open(folder, os.O_RDONLY)
  try:
    os.fsync(descriptor)
  finally:
    os.close(descriptor)


def _new_file(path: pathlib.Path) -> str:
  descriptor, name = tempfile.mkstemp(_UNFINISHED, f".{path.name}.", path.parent)
  os.close(descriptor)
  return name


def _new_folder(path: pathlib.Path) -> str:
  return tempfile.mkdtemp(_UNFINISHED, f".{path.name}.", path.parent)


@contextlib.contextmanager
def _unfinished(
  path: pathlib.Path, make: Callable[[pathlib.Path], str]
) -> Iterator[pathlib.Path]:
  """Makes a temporary file or folder that is to become `path`, locked meanwhile.

  Those of the same name that nobody writes any more are removed first, and this one
  when something goes wrong.
  """
  path.parent.mkdir(parents=True, exist_ok=True)
  _remove_abandoned(path)
  lock = None
  while lock is None:
    fresh = pathlib.Path(make(path))
    lock = _lock_of_new(fresh)
  try:
    yield fresh
  except BaseException:
    _remove(fresh)
    raise
  finally:
    os.close(lock)


def _lock_of_new(path: pathlib.Path) -> Optional[int]:
  """Locks what was just made; None where another process took it for abandoned."""
  try:
    descriptor = os.open(path, os.O_RDONLY)
  except FileNotFoundError:
    return None
  with contextlib.suppress(OSError):
    # Waits for a process that is about to remove it.
    fcntl.flock(descriptor, fcntl.LOCK_EX)
  if _is_at(descriptor, path):
    return descriptor
  os.close(descriptor)
  return None


def _is_at(descriptor: int, path: pathlib.Path) -> bool:
  try:
    return os.path.samestat(os.fstat(descriptor), path.lstat())
  except FileNotFoundError:
    return False


def _remove_abandoned(path: pathlib.Path) -> None:
  """Removes what killed processes left behind that were writing `path`."""
  name = re.compile(
    rf"\.{re.escape(path.name)}\.[a-z0-9_]{{8}}{re.escape(_UNFINISHED)}"
  )
  with contextlib.suppress(OSError), os.scandir(path.parent) as entries:
    for found in [entry.name for entry in entries if name.fullmatch(entry.name)]:
      _remove_unless_written(path.parent / found)


def _remove_unless_written(path: pathlib.Path) -> None:
  """Removes a temporary file or folder, unless a living process holds its lock."""
  with contextlib.suppress(OSError):
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
      fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
      # Its writer may have finished, and renamed it, since its name was found.
      if _is_at(descriptor, path):
        _remove(path)
    finally:
      os.close(descriptor)


def _remove(path: pathlib.Path) -> None:
  if path.is_dir() and not path.is_symlink():
    shutil.rmtree(path, ignore_errors=True)
  else:
    path.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing(path: pathlib.Path) -> Iterator[BinaryIO]:
  """Opens a temporary file that takes the place of `path` when all went well.

  The content is synced before the rename, the folder after it.
  """
  with _unfinished(path, _new_file) as fresh:
    with fresh.open("wb") as file:
      yield file
      file.flush()
      os.fsync(file.fileno())
    fresh.chmod(0o644)
    os.replace(fresh, path)
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
  with _unfinished(path, _new_folder) as fresh:
    yield fresh
    _sync_content(fresh)
    if path.exists() and _exchange(fresh, path):
      _remove(fresh)
    else:
      with _out_of_the_way(path) if path.exists() else contextlib.nullcontext():
        os.replace(fresh, path)
  _sync_folder(path.parent)


def _sync_content(folder: pathlib.Path) -> None:
  """Syncs a temporary folder's files and lets others read it."""
  for file in folder.rglob("*"):
    if file.is_file():
      with file.open("rb") as opened:
        os.fsync(opened.fileno())
  folder.chmod(0o755)


@contextlib.contextmanager
def making_folder(path: pathlib.Path, flag: str) -> Iterator[pathlib.Path]:
  """Yields a temporary folder that becomes `path`, still new or empty, in the end.

  Args:
    path: What `new_folder` returned.
    flag: Flag that named it, for the message.

  Raises:
    InputError: When somebody has written there meanwhile; that stays.
  """
  # A rename replaces links, not what they lead to.
  place = pathlib.Path(os.path.realpath(path))
  with _unfinished(place, _new_folder) as fresh:
    yield fresh
    _sync_content(fresh)
    try:
      # The check is the rename's own: no moment lies between the two.
      os.replace(fresh, place)
    except OSError as error:
      if error.errno not in _OCCUPIED:
        raise
      raise _exists(path, flag) from error
  _sync_folder(place.parent)


def _exists(folder: pathlib.Path, flag: str) -> InputError:
  return InputError(f"--{flag}={folder}: exists already; name a new folder")


def _exchange(first: pathlib.Path, second: pathlib.Path) -> bool:
  """Swaps what two names stand for, in one step that no kill can interrupt.

  Returns:
    False where the C library, the kernel or the file system knows no such step.

  Source: https://man7.org/linux/man-pages/man2/rename.2.html
  """
  library = ctypes.CDLL(None, use_errno=True)
  if not hasattr(library, "renameat2"):
    return False
  names = os.fsencode(first), os.fsencode(second)
  if not library.renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE):
    return True
  code = ctypes.get_errno()
  if code in _NO_EXCHANGE:
    return False
  raise OSError(code, os.strerror(code), str(second))


@contextlib.contextmanager
def _out_of_the_way(path: pathlib.Path) -> Iterator[None]:
  """Moves a folder away, locked; then removes it, or back where nothing replaced it."""
  lock = os.open(path, os.O_RDONLY)
  try:
    with contextlib.suppress(OSError):
      fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    old = pathlib.Path(_new_folder(path))
    try:
      os.replace(path, old)
      yield
    finally:
      if _is_at(lock, old) and not path.exists():
        os.replace(old, path)
      _remove(old)
  finally:
    os.close(lock)


def is_inside(path: pathlib.Path, folder: pathlib.Path) -> bool:
  """Whether a path lies in a folder, also after all links are followed."""
  # Not `Path.resolve`, which ends a link that leads to itself in a RuntimeError.
  place, root = map(os.path.realpath, (path, folder))
  return pathlib.PurePath(place).is_relative_to(root)


def is_leftover(path: pathlib.Path) -> bool:
  """Whether a path is a temporary file or folder of this module."""
  return path.name.startswith(".") and path.name.endswith(_UNFINISHED)


def remove_leftovers(folder: pathlib.Path) -> None:
  """Removes temporary files that a killed process left behind in a folder tree."""
  for path in filter(is_leftover, sorted(folder.rglob(".*"), reverse=True)):
    if path.is_symlink():
      path.unlink(missing_ok=True)
    else:
      _remove_unless_written(path)


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


def new_folder(name: Optional[str], flag: str) -> pathlib.Path:
  """Returns the path of a folder that an app is to write, which is new or empty.

  Args:
    name: The flag's value.
    flag: Flag that named it, for the message.

  Raises:
    InputError: When none is named, or it is there.
  """
  if not name:
    raise InputError(f"--{flag} is missing: name the folder to write")
  folder = pathlib.Path(name)
  if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
    raise _exists(folder, flag)
  return folder
