"""Files that can run code when they are loaded are named, never loaded."""

import itertools
import pathlib
import tokenize
from collections.abc import Iterator
from typing import Any, BinaryIO, Optional

import numpy as np

from fedtiny_tff.data.sources import texts
from fedtiny_tff.errors import InputError

_PICKLE_SUFFIXES = (".pkl", ".pickle")
# Protocols 2 to 5 begin with their number, and all end with a full stop:
# https://github.com/python/cpython/blob/3.11/Lib/pickletools.py
_FIRST_BYTES = tuple(bytes([0x80, protocol]) for protocol in range(2, 6))
_LAST_BYTE = b"."
# A frame of this length begins like a pickle.
_RECORD_SUFFIX = ".tfrecord"
_MOST_FILES = 1000
# What a damaged header ends in, which NumPy has Python's own parsers read.
_DAMAGE = (
  ArithmeticError,
  AttributeError,
  LookupError,
  MemoryError,
  RecursionError,
  SyntaxError,
  TypeError,
  ValueError,
  tokenize.TokenError,
)


def refuse_pickles(place: pathlib.Path) -> None:
  """Refuses pickles; to be asked where the files wanted are missing.

  Found are pickles by name (`.pkl`, `.pickle`), arrays of Python objects (`.npy`) and
  pickles without a suffix, such as the batches of CIFAR's Python version; a file, or
  those in a folder and the folders in it.

  Args:
    place: File or folder where a dataset should be; may be missing.

  Raises:
    InputError: Naming the first such file and the safe way.
  """
  for path in itertools.islice(_files(place), _MOST_FILES):
    kind = _unsafe_kind(path)
    if kind is not None:
      raise InputError(
        f"{texts.one_line(str(path))} is {kind}: loading it could run any code, so it "
        "is not read; take the dataset's images, tables or TFRecord files and convert "
        "them with python -m pipelines.make_dataset"
      )


def _files(place: pathlib.Path) -> Iterator[pathlib.Path]:
  if place.is_file():
    yield place
    return
  try:
    entries = sorted(place.iterdir())
    yield from (entry for entry in entries if entry.is_file())
    for entry in entries:
      if entry.is_dir():
        yield from (inner for inner in sorted(entry.iterdir()) if inner.is_file())
  except OSError:
    return  # Whoever opens the dataset says so.


def _unsafe_kind(path: pathlib.Path) -> Optional[str]:
  suffix = path.suffix.lower()
  if suffix in _PICKLE_SUFFIXES:
    return "a pickle"
  try:
    with path.open("rb") as file:
      if suffix == ".npy":
        return "an array of Python objects" if _holds_objects(file) else None
      return "a pickle" if suffix != _RECORD_SUFFIX and _is_pickle(file) else None
  except OSError:
    return None


def _is_pickle(file: BinaryIO) -> bool:
  if file.read(2) not in _FIRST_BYTES:
    return False
  file.seek(-1, 2)
  return file.read(1) == _LAST_BYTE


def _holds_objects(file: BinaryIO) -> bool:
  """Tells from its header alone whether a .npy file holds pickled objects."""
  try:
    # numpy has no types for them.
    reading: Any = np.lib.format
    if reading.read_magic(file) == (1, 0):
      header = reading.read_array_header_1_0(file)
    else:
      header = reading.read_array_header_2_0(file)
  except _DAMAGE:
    return False
  return bool(header[2].hasobject)
