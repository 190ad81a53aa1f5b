"""Examples in files, whose folders say what they show: what images and recordings share."""

import dataclasses
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent import futures
from typing import Union

import numpy as np

from fedtiny_tff.arrays import Array
from fedtiny_tff.data.examples import (
  TEST,
  TRAIN,
  BadRecord,
  Batch,
  DatasetInfo,
  OnBadRecord,
)
from fedtiny_tff.data.sources import folder_listing, holdout, texts
from fedtiny_tff.data.sources.folder_listing import Listing
from fedtiny_tff.data.sources.folder_walk import ClassFile, Entry, FileKind
from fedtiny_tff.data.sources.options import SourceOptions
from fedtiny_tff.errors import InputError

_BATCH_BYTES = 32 * 2**20
_MAX_BATCH = 1024
_THREADS = 4

# Makes features of a file's path, or says why there are none.
Load = Callable[[str], Union[Array, str]]


@dataclasses.dataclass(frozen=True)
class ClassFolders:
  """A folder of class/file or client/class/file.

  Attributes:
    folder: Where it is.
    listing: What lies in it.
    class_names: The training split's classes, sorted.
    splits: Files of "train" and "test", and what cannot be used among them.
  """

  folder: pathlib.Path
  listing: Listing
  class_names: tuple[str, ...]
  splits: Mapping[str, Sequence[Entry]]

  @property
  def training_files(self) -> list[ClassFile]:
    """The training split's files."""
    return files_of(self.splits[TRAIN])


def files_of(entries: Sequence[Entry]) -> list[ClassFile]:
  """Returns what may be an example."""
  return [entry for entry in entries if isinstance(entry, ClassFile)]


def open_folder(dataset: str, kind: FileKind, options: SourceOptions) -> ClassFolders:
  """Lists the files of a dataset whose folders are classes.

  `--data_dir` holds class/file or client/class/file; which one it is shows in where
  the files lie. Either may stand under `train/` and `test/`; without, a share of each
  client's files (of each class where there are no clients) is the test split. Classes
  are the training split's class folders with files, sorted.

  Args:
    dataset: Name of the dataset.
    kind: What its examples are.
    options: Reads `data_dir`, `client_separator` and `test_share`.

  Raises:
    InputError: When the folder holds no such files, or a single class.
  """
  wanted = f"a folder of class/{kind.name} or client/class/{kind.name}"
  if not options.data_dir:
    raise InputError(f"dataset {dataset} needs --data_dir: {wanted}")
  folder = pathlib.Path(options.data_dir)
  if not folder.is_dir():
    given = texts.one_line(options.data_dir)
    raise InputError(f"--data_dir={given}: no such folder; name {wanted}")
  listing = folder_listing.list_files(folder, kind, options.client_separator)
  class_names = tuple(sorted({file.class_name for file in files_of(listing.train)}))
  if len(class_names) < 2:
    bad = next((each for each in listing.train if isinstance(each, BadRecord)), None)
    left_out = f", left out: {bad}" if bad else ""
    raise InputError(
      f"{texts.one_line(str(folder))}: class {class_names[0]} is the only one{left_out}; "
      "training needs two or more"
    )
  splits = _splits(listing, class_names, options.test_share)
  return ClassFolders(folder, listing, class_names, splits)


def _splits(
  listing: Listing, class_names: Sequence[str], test_share: float
) -> dict[str, tuple[Entry, ...]]:
  """Returns the entries of each split; those that are no files are told in training."""
  if listing.test is not None:
    return {TRAIN: listing.train, TEST: listing.test}
  training = files_of(listing.train)
  owners = None
  if listing.has_clients:
    owners = np.array([file.client for file in training])
  labels = {name: label for label, name in enumerate(class_names)}
  targets = np.array([labels[file.class_name] for file in training], np.int64)
  is_test, in_neither = holdout.held_out(owners, targets, test_share)
  test = [training[number] for number in np.flatnonzero(is_test)]
  gone = {training[number] for number in np.flatnonzero(is_test | in_neither)}
  train = tuple(entry for entry in listing.train if entry not in gone)
  return {TRAIN: train, TEST: tuple(test)}


class Reader:
  """Streams the files of a split."""

  def __init__(self, info: DatasetInfo, folders: ClassFolders, load: Load):
    """Reads nothing yet.

    Args:
      info: What the examples are.
      folders: Where they lie.
      load: Makes features, of `info.shape` and type, of a file. Called in threads.
    """
    self._info = info
    self._folders = folders
    self._load = load
    self._labels = {name: label for label, name in enumerate(info.class_names)}

  def read(self, split: str, on_bad_record: OnBadRecord) -> Iterator[Batch]:
    """Reads a split's files, some side by side, in their order."""
    entries = self._folders.splits[split]
    example_bytes = np.dtype(self._info.feature_type).itemsize * int(
      np.prod(self._info.shape)
    )
    size = min(max(_BATCH_BYTES // example_bytes, 1), _MAX_BATCH)
    with futures.ThreadPoolExecutor(_THREADS) as pool:
      for start in range(0, len(entries), size):
        part = entries[start : start + size]
        chosen = []
        for entry, found in zip(part, pool.map(self._features, part), strict=True):
          if isinstance(entry, ClassFile) and isinstance(found, np.ndarray):
            chosen.append((entry, found))
          else:
            on_bad_record(_bad_record(entry, str(found)))
        if chosen:
          yield self._batch(chosen)

  def _features(self, entry: Entry) -> Union[Array, str]:
    """Returns a file's features, or why it cannot be used."""
    if isinstance(entry, BadRecord):
      return entry.reason
    if entry.class_name not in self._labels:
      return f"class {entry.class_name} does not occur in the training split"
    return self._load(entry.path)

  def _batch(self, chosen: Sequence[tuple[ClassFile, Array]]) -> Batch:
    files = [entry for entry, _ in chosen]
    labels = np.array([self._labels[file.class_name] for file in files], np.int64)
    clients = None
    if self._folders.listing.has_clients:
      clients = np.array([file.client for file in files], np.str_)
    return Batch(np.stack([features for _, features in chosen]), labels, clients)


def _bad_record(entry: Entry, reason: str) -> BadRecord:
  if isinstance(entry, BadRecord):
    return entry
  return BadRecord(texts.one_line(entry.path), None, None, reason)
