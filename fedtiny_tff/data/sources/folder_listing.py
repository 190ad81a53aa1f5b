"""Where examples lie in a folder: class/file or client/class/file."""

import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Optional, Union

from fedtiny_tff.data.examples import SPLITS, TRAIN
from fedtiny_tff.data.sources import folder_walk, texts, unsafe
from fedtiny_tff.data.sources.folder_walk import (
  CLASS_DEPTH,
  CLIENT_DEPTH,
  Entry,
  FileKind,
  Walk,
)
from fedtiny_tff.errors import InputError

_NAMES_TOLD = 8


class Listing(NamedTuple):
  """All that lies in a dataset's folder, sorted by name, level by level.

  Attributes:
    train: Files of the training split, and what cannot be used among them.
    test: Likewise of the test split; None where the folder has no splits.
    has_clients: Whether the outer folders, or the files' names, tell clients.
    notes: What else lies there, or is missing, a sentence each.
  """

  train: tuple[Entry, ...]
  test: Optional[tuple[Entry, ...]]
  has_clients: bool
  notes: tuple[str, ...]


def list_files(
  folder: pathlib.Path, kind: FileKind, client_separator: str = ""
) -> Listing:
  """Lists a dataset's examples.

  Hidden names, which begin with a dot, and the litter of operating systems (Thumbs.db,
  desktop.ini, __MACOSX) are ignored. Files beside class folders that are no examples
  by their names are told in notes; in class folders they are bad records. A class
  folder without an example makes no class, and a client's folder without one no
  client; notes tell these, too.

  Args:
    folder: Holds class folders, or client folders that hold class folders; or
      `train/` and perhaps `test/` that hold such.
    kind: What the examples are.
    client_separator: Ends the client's id at the start of each file's name; "" where
      names have no such id.

  Raises:
    InputError: When it has no example, examples at different depths, or clients by
      folders and by names.
  """
  splits = _split_folders(folder)
  walks = [Walk(folder.resolve(), kind, client_separator) for _ in splits]
  if splits != [folder]:
    walks[0].add_files(folder)
  for walk, split in zip(walks, splits, strict=True):
    walk.enter(split, ())
  if not walks[0].files():
    unsafe.refuse_pickles(folder)
    first = next(iter(walks[0].entries(class_depth=0)), None)
    left_out = f"; left out: {first}" if first else ""
    raise InputError(
      f"{_shown(splits[0])}: no {kind.name} ({', '.join(kind.suffixes)}) in folders of "
      f"classes, nor in folders of clients that hold such; check --data_dir{left_out}"
    )
  depth = _depth(walks, kind)
  if client_separator and depth == CLIENT_DEPTH:
    raise InputError(
      f"{_shown(splits[0])}: {kind.many} lie in client/class/, which says whose they are; "
      "leave --client_separator out, or name the folder that holds the classes"
    )
  entries = [walk.entries(depth) for walk in walks]
  return Listing(
    entries[0],
    entries[1] if len(splits) > 1 else None,
    has_clients=depth == CLIENT_DEPTH or bool(client_separator),
    notes=tuple(_notes(folder, walks, depth, kind)),
  )


def _depth(walks: Sequence[Walk], kind: FileKind) -> int:
  """Returns how many folders lead to an example."""
  files = [file for walk in walks for file in walk.files()]
  by_depth = {len(file.folders): file for file in reversed(files)}
  if len(by_depth) > 1:
    raise InputError(
      f"{kind.many} lie at different depths: {_shown(by_depth[CLASS_DEPTH].path)} in "
      f"class/, {_shown(by_depth[CLIENT_DEPTH].path)} in client/class/; choose one"
    )
  return next(iter(by_depth))


def _notes(
  folder: pathlib.Path, walks: Sequence[Walk], class_depth: int, kind: FileKind
) -> Iterator[str]:
  """Says what lies beside class folders, and which have no training example."""
  beside = [
    os.path.relpath(path, folder) for walk in walks for path in walk.beside(class_depth)
  ]
  training = walks[0]
  files = training.files()
  classes = {f[-1] for f in training.folders if len(f) == class_depth}
  classes -= {file.class_name for file in files}
  clients = set()
  if class_depth == CLIENT_DEPTH:
    clients = {f[0] for f in training.folders if f} - {file.client for file in files}
  none = f"without a training {kind.name} make no"
  for found, what in (
    (beside, "files beside class folders are not used"),
    (sorted(classes), f"class folders {none} class"),
    (sorted(clients), f"clients' folders {none} client"),
  ):
    if found:
      yield f"{_shown(folder)}: {what}: {_told(found)}"


def _told(names: Sequence[str]) -> str:
  more = f" and {len(names) - _NAMES_TOLD} more" if len(names) > _NAMES_TOLD else ""
  return ", ".join(map(texts.value, names[:_NAMES_TOLD])) + more


def _shown(path: Union[str, pathlib.Path]) -> str:
  return texts.one_line(str(path))


def _split_folders(folder: pathlib.Path) -> Sequence[pathlib.Path]:
  """Returns the training folder and perhaps the test folder."""
  try:
    names = _folders(folder)
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
    raise InputError(f"{_shown(folder)}: has test/ but no train/; add it")
  return [folder / name for name in splits]


def _is_split(folder: pathlib.Path) -> bool:
  """Tells whether a folder called train or test holds folders rather than files."""
  return bool(_folders(folder))


def _folders(folder: pathlib.Path) -> list[str]:
  found = folder_walk.visible(folder)
  return [entry.name for entry in found if folder_walk.leads_to_folder(entry)]
