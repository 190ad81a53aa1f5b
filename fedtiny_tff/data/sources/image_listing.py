"""Where images lie in a folder: class/image or client/class/image."""

import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Optional, Union

from fedtiny_tff.data.examples import SPLITS, TRAIN
from fedtiny_tff.data.sources import image_folder_walk, texts, unsafe
from fedtiny_tff.data.sources.image_folder_walk import (
  CLASS_DEPTH,
  CLIENT_DEPTH,
  SUFFIXES,
  Entry,
  Walk,
)
from fedtiny_tff.errors import InputError

_NAMES_TOLD = 8


class Listing(NamedTuple):
  """All that lies in a dataset's folder, sorted by name, level by level.

  Attributes:
    train: Images of the training split, and what cannot be used among them.
    test: Likewise of the test split; None where the folder has no splits.
    has_clients: Whether the outer folders are clients.
    notes: What else lies there, or is missing, a sentence each.
  """

  train: tuple[Entry, ...]
  test: Optional[tuple[Entry, ...]]
  has_clients: bool
  notes: tuple[str, ...]


def list_images(folder: pathlib.Path) -> Listing:
  """Lists a dataset's images.

  Hidden names, which begin with a dot, and the litter of operating systems (Thumbs.db,
  desktop.ini, __MACOSX) are ignored. Files beside class folders that are no images by
  their names are told in notes; in class folders they are bad records. A class folder
  without an image makes no class, and a client's folder without one no client; notes
  tell these, too.

  Args:
    folder: Holds class folders, or client folders that hold class folders; or
      `train/` and perhaps `test/` that hold such.

  Raises:
    InputError: When it has no image, or images at different depths.
  """
  splits = _split_folders(folder)
  walks = [Walk(folder.resolve()) for _ in splits]
  if splits != [folder]:
    walks[0].add_files(folder)
  for walk, split in zip(walks, splits, strict=True):
    walk.enter(split, ())
  if not walks[0].images():
    unsafe.refuse_pickles(folder)
    first = next(iter(walks[0].entries(class_depth=0)), None)
    left_out = f"; left out: {first}" if first else ""
    raise InputError(
      f"{_shown(splits[0])}: no image ({', '.join(SUFFIXES)}) in folders of classes, "
      f"nor in folders of clients that hold such; check --data_dir{left_out}"
    )
  images = [image for walk in walks for image in walk.images()]
  by_depth = {len(image.folders): image for image in reversed(images)}
  if len(by_depth) > 1:
    raise InputError(
      f"images lie at different depths: {_shown(by_depth[CLASS_DEPTH].path)} in "
      f"class/, {_shown(by_depth[CLIENT_DEPTH].path)} in client/class/; choose one"
    )
  (depth,) = by_depth
  entries = [walk.entries(depth) for walk in walks]
  return Listing(
    entries[0],
    entries[1] if len(splits) > 1 else None,
    has_clients=depth == CLIENT_DEPTH,
    notes=tuple(_notes(folder, walks, depth)),
  )


def _notes(
  folder: pathlib.Path, walks: Sequence[Walk], class_depth: int
) -> Iterator[str]:
  """Says what lies beside class folders, and which folders have no training image."""
  beside = [
    os.path.relpath(path, folder) for walk in walks for path in walk.beside(class_depth)
  ]
  training = walks[0]
  images = training.images()
  classes = {f[-1] for f in training.folders if len(f) == class_depth}
  classes -= {image.class_name for image in images}
  clients = set()
  if class_depth == CLIENT_DEPTH:
    clients = {f[0] for f in training.folders if f} - {image.client for image in images}
  for found, what in (
    (beside, "files beside class folders are not used"),
    (sorted(classes), "class folders without a training image make no class"),
    (sorted(clients), "clients' folders without a training image make no client"),
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
  """Tells whether a folder called train or test holds folders rather than images."""
  return bool(_folders(folder))


def _folders(folder: pathlib.Path) -> list[str]:
  found = image_folder_walk.visible(folder)
  return [entry.name for entry in found if image_folder_walk.leads_to_folder(entry)]
