"""Images in folders: class/image or client/class/image, perhaps in train/ and test/."""

import pathlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent import futures
from typing import Optional, Union

import numpy as np

from fedtiny_tff.arrays import Array
from fedtiny_tff.data.examples import (
  TEST,
  TRAIN,
  BadRecord,
  Batch,
  Dataset,
  DatasetInfo,
  OnBadRecord,
)
from fedtiny_tff.data.extraction import NO_EXTRACTION
from fedtiny_tff.data.extraction_base import Extraction, Resize
from fedtiny_tff.data.preprocessing import Preprocessing
from fedtiny_tff.data.sources import holdout, image_listing, images, texts
from fedtiny_tff.data.sources.image_folder_walk import Entry, ImageFile
from fedtiny_tff.data.sources.image_listing import Listing
from fedtiny_tff.data.sources.options import SourceOptions
from fedtiny_tff.errors import InputError

NAME = "image_folder"
_BATCH_BYTES = 32 * 2**20
_MAX_BATCH = 1024
_THREADS = 4


def open_image_folder(options: SourceOptions) -> Dataset:
  """Images whose folders say what they show and perhaps whose they are.

  `--data_dir` holds class/image or client/class/image; which one it is shows in where
  the images lie. Either may stand under `train/` and `test/`; without, a share of
  each client's images (of each class where there are no clients) is the test split.
  Classes are the training split's class folders with images, sorted.

  Raises:
    InputError: When the folder holds no such images.
  """
  wanted = "a folder of class/image or client/class/image"
  if not options.data_dir:
    raise InputError(f"dataset {NAME} needs --data_dir: {wanted}")
  if not pathlib.Path(options.data_dir).is_dir():
    given = texts.one_line(options.data_dir)
    raise InputError(f"--data_dir={given}: no such folder; name {wanted}")
  if options.image_channels not in (1, 3):
    raise InputError(f"--image_channels must be 1 or 3, got {options.image_channels}")
  folder = pathlib.Path(options.data_dir)
  listing = image_listing.list_images(folder)
  training = _images(listing.train)
  class_names = tuple(sorted({image.class_name for image in training}))
  if len(class_names) < 2:
    raise InputError(
      f"{texts.one_line(str(folder))}: class {class_names[0]} is the only one; training "
      "needs two or more"
    )
  splits = _splits(listing, {name: i for i, name in enumerate(class_names)}, options)
  shape = (*(options.image_size or _first_size(training)), options.image_channels)
  info = DatasetInfo(
    name=NAME,
    shape=shape,
    feature_type="uint8",
    class_names=class_names,
    preprocessing=Preprocessing(
      1 / 255,
      (0.0,) * shape[-1],
      (1.0,) * shape[-1],
      _extraction(options, shape),
    ),
  )
  reader = _Reader(info, splits, listing.has_clients, options.image_size)
  return Dataset(
    info,
    reader.read,
    listing.has_clients,
    measures_inputs=True,
    notes=listing.notes,
  )


def _extraction(options: SourceOptions, shape: tuple[int, ...]) -> Extraction:
  """Returns what is made of raw images, which may have any colours."""
  if options.image_size is None and shape[-1] != 1:
    return NO_EXTRACTION
  return Resize(shape[0], shape[1], grey=shape[-1] == 1)


def _images(entries: Sequence[Entry]) -> list[ImageFile]:
  return [entry for entry in entries if isinstance(entry, ImageFile)]


def _splits(
  listing: Listing, labels: Mapping[str, int], options: SourceOptions
) -> dict[str, tuple[Entry, ...]]:
  """Returns the entries of each split; those that are no images are told in training."""
  if listing.test is not None:
    return {TRAIN: listing.train, TEST: listing.test}
  training = _images(listing.train)
  owners = None
  if listing.has_clients:
    owners = np.array([image.client for image in training])
  targets = np.array([labels[image.class_name] for image in training], np.int64)
  is_test, in_neither = holdout.held_out(owners, targets, options.test_share)
  test = [training[number] for number in np.flatnonzero(is_test)]
  gone = {training[number] for number in np.flatnonzero(is_test | in_neither)}
  train = tuple(entry for entry in listing.train if entry not in gone)
  return {TRAIN: train, TEST: tuple(test)}


def _first_size(training: Sequence[ImageFile]) -> tuple[int, int]:
  """Returns height and width of the first image that can be decoded."""
  for image in training:
    found = _decoded(image.path, 3, None)
    if isinstance(found, np.ndarray):
      return found.shape[0], found.shape[1]
  raise InputError(
    f"{texts.one_line(training[0].path)}: {found}, and none of the {len(training)} "
    "training images can be decoded; save them as PNG or JPEG"
  )


def _decoded(
  path: str, channels: int, size: Optional[tuple[int, int]]
) -> Union[Array, str]:
  """Returns an image's pixels, or why it has none."""
  try:
    encoded = pathlib.Path(path).read_bytes()
    return images.decode(encoded, channels, size, makes_grey=True)
  except images.UnusableImage as error:
    return str(error)
  except OSError as error:
    return f"cannot be read: {error.strerror}"


class _Reader:
  """Streams the images of a split."""

  def __init__(
    self,
    info: DatasetInfo,
    splits: Mapping[str, Sequence[Entry]],
    has_clients: bool,
    size: Optional[tuple[int, int]],
  ):
    self._info = info
    self._splits = splits
    self._has_clients = has_clients
    self._size = size
    self._labels = {name: label for label, name in enumerate(info.class_names)}

  def read(self, split: str, on_bad_record: OnBadRecord) -> Iterator[Batch]:
    """Decodes a split's images, some side by side, in their order."""
    entries = self._splits[split]
    size = min(max(_BATCH_BYTES // int(np.prod(self._info.shape)), 1), _MAX_BATCH)
    with futures.ThreadPoolExecutor(_THREADS) as pool:
      for start in range(0, len(entries), size):
        part = entries[start : start + size]
        chosen = []
        for entry, found in zip(part, pool.map(self._load, part), strict=True):
          if isinstance(entry, ImageFile) and isinstance(found, np.ndarray):
            chosen.append((entry, found))
          else:
            on_bad_record(self._bad_record(entry, str(found)))
        if chosen:
          yield self._batch(chosen)

  def _load(self, entry: Entry) -> Union[Array, str]:
    """Returns an image's pixels, or why it cannot be used."""
    if isinstance(entry, BadRecord):
      return entry.reason
    if entry.class_name not in self._labels:
      return f"class {entry.class_name} does not occur in the training split"
    found = _decoded(entry.path, self._info.shape[-1], self._size)
    if isinstance(found, np.ndarray) and found.shape != self._info.shape:
      height, width = self._info.shape[:2]
      return (
        f"is {found.shape[0]}x{found.shape[1]} pixels, the first image {height}x{width}: "
        "bring all to one size with --image_size"
      )
    return found

  def _bad_record(self, entry: Entry, reason: str) -> BadRecord:
    if isinstance(entry, BadRecord):
      return entry
    return BadRecord(texts.one_line(entry.path), None, None, reason)

  def _batch(self, chosen: Sequence[tuple[ImageFile, Array]]) -> Batch:
    files = [entry for entry, _ in chosen]
    labels = np.array([self._labels[file.class_name] for file in files], np.int64)
    clients = None
    if self._has_clients:
      clients = np.array([file.client for file in files], np.str_)
    return Batch(np.stack([pixels for _, pixels in chosen]), labels, clients)
