"""Where images lie in a folder: class/image or client/class/image."""

import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Optional, Union

from fedtiny_tff.data.examples import SPLITS, TRAIN, BadRecord
from fedtiny_tff.data.sources import texts, unsafe
from fedtiny_tff.errors import InputError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif")
_CLASS_DEPTH = 1
_CLIENT_DEPTH = 2


class ImageFile(NamedTuple):
  """A file that is an image by its name.

  Attributes:
    path: Where it lies.
    folders: Names of the folders that lead to it: (class,) or (client, class).
  """

  path: str
  folders: tuple[str, ...]

  @property
  def class_name(self) -> str:
    """Name of its class."""
    return self.folders[-1]

  @property
  def client(self) -> str:
    """Whose it is; only where there are two folders."""
    return self.folders[0]


Entry = Union[ImageFile, BadRecord]


class Listing(NamedTuple):
  """All that lies in a dataset's folder, sorted by name, level by level.

  Attributes:
    train: Images of the training split, and what cannot be used among them.
    test: Likewise of the test split; None where the folder has no splits.
    has_clients: Whether the outer folders are clients.
  """

  train: tuple[Entry, ...]
  test: Optional[tuple[Entry, ...]]
  has_clients: bool


def list_images(folder: pathlib.Path) -> Listing:
  """Lists a dataset's images.

  Names that begin with a dot are ignored.

  Args:
    folder: Holds class folders, or client folders that hold class folders; or
      `train/` and perhaps `test/` that hold such.

  Raises:
    InputError: When it has no image, or images at different depths.
  """
  splits = _split_folders(folder)
  root = folder.resolve()
  entries = [tuple(_walk(split, (), root)) for split in splits]
  images = [e for split in entries for e in split if isinstance(e, ImageFile)]
  if not any(isinstance(entry, ImageFile) for entry in entries[0]):
    unsafe.refuse_pickles(folder)
    left_out = f"; left out: {entries[0][0]}" if entries[0] else ""
    raise InputError(
      f"{_shown(splits[0])}: no image ({', '.join(SUFFIXES)}) in folders of classes, "
      f"nor in folders of clients that hold such{left_out}"
    )
  by_depth = {len(image.folders): image for image in reversed(images)}
  if len(by_depth) > 1:
    raise InputError(
      f"images lie at different depths: {_shown(by_depth[_CLASS_DEPTH].path)} in "
      f"class/, {_shown(by_depth[_CLIENT_DEPTH].path)} in client/class/; choose one"
    )
  has_clients = _CLIENT_DEPTH in by_depth
  return Listing(entries[0], entries[1] if len(splits) > 1 else None, has_clients)


def _shown(path: Union[str, pathlib.Path]) -> str:
  return texts.one_line(str(path))


def _split_folders(folder: pathlib.Path) -> Sequence[pathlib.Path]:
  """Returns the training folder and perhaps the test folder."""
  try:
    names = [entry.name for entry in _visible(folder) if entry.is_dir()]
    # A class may be called train, too: CIFAR-100 has one.
    splits = [name for name in SPLITS if name in names and _is_split(folder / name)]
  except OSError as error:
    raise InputError(f"{_shown(folder)}: {error.strerror}; check --data_dir") from error
  if not splits:
    return [folder]
  others = [name for name in names if name not in splits]
  if others:
    raise InputError(
      f"{_shown(folder)}: {splits[0]}/ lies beside {_shown(others[0])}/; a folder with "
      "splits has train/ and test/ only"
    )
  if TRAIN not in splits:
    raise InputError(f"{_shown(folder)}: has test/ but no train/")
  return [folder / name for name in splits]


def _is_split(folder: pathlib.Path) -> bool:
  """Tells whether a folder called train or test holds folders rather than images."""
  return any(entry.is_dir() for entry in _visible(folder))


def _visible(folder: Union[str, pathlib.Path]) -> Sequence["os.DirEntry[str]"]:
  with os.scandir(folder) as found:
    shown = [entry for entry in found if not entry.name.startswith(".")]
  return sorted(shown, key=lambda entry: entry.name)


def _bad(path: str, reason: str) -> BadRecord:
  return BadRecord(_shown(path), None, None, reason)


def _walk(
  folder: Union[str, pathlib.Path], folders: tuple[str, ...], root: pathlib.Path
) -> Iterator[Entry]:
  """Yields what lies in a folder and below it."""
  try:
    found = _visible(folder)
  except OSError as error:
    yield _bad(str(folder), f"cannot be read: {error.strerror}")
    return
  if not found and folders:
    yield _bad(str(folder), "an empty folder")
  for entry in found:
    path = os.path.join(folder, entry.name)
    if entry.is_dir(follow_symlinks=False):
      problem = _folder_problem(entry.name, len(folders))
      if problem:
        yield _bad(path, problem)
      else:
        yield from _walk(path, (*folders, entry.name), root)
      continue
    reason = _file_problem(entry, path, len(folders), root)
    yield _bad(path, reason) if reason else ImageFile(path, folders)


def _folder_problem(name: str, depth: int) -> Optional[str]:
  if depth == _CLIENT_DEPTH:
    return "a folder in client/class/, where only images belong"
  wrong = texts.problem_of_name(name)
  return f"the folder's name {wrong}" if wrong else None


def _file_problem(
  entry: "os.DirEntry[str]", path: str, depth: int, root: pathlib.Path
) -> Optional[str]:
  """Tells why something that is no folder is no image of a class either."""
  target = pathlib.Path(os.path.realpath(path))
  if entry.is_symlink() and not target.is_relative_to(root):
    return "a link that leads out of the dataset's folder"
  if entry.is_dir():
    return "a link to a folder"
  if not entry.is_file():
    return "no regular file"
  if not entry.name.lower().endswith(SUFFIXES):
    return f"no image by its name ({', '.join(SUFFIXES)})"
  return None if depth else "an image in no class folder"
