"""Records of TFRecord files, read in batches up to the first that is damaged."""

import mmap
import os
import pathlib
import struct
from collections.abc import Iterator
from typing import NamedTuple

import tensorflow as tf

from fedtiny_tff.data.examples import BadRecord, OnBadRecord
from fedtiny_tff.data.sources import texts
from fedtiny_tff.errors import InputError

# A frame is a length, its checksum, the record and its checksum:
# https://www.tensorflow.org/tutorials/load_data/tfrecord
_FRAME_START = struct.Struct("<QI")
_FRAME_BYTES = _FRAME_START.size + 4


class RecordBatch(NamedTuple):
  """Records in a row.

  Attributes:
    first: Number of the first one in its file.
    columns: Tensors [n], one or more; of a TFRecord file one of strings.
  """

  first: int
  columns: tuple[tf.Tensor, ...]


def _whole_frames(path: pathlib.Path) -> tuple[int, bool]:
  """Counts frames that fit into a file, and tells whether they fill it.

  TensorFlow believes a frame's length and ends the process where there is not so
  much memory, so lengths are held against the file's first.
  """
  with path.open("rb") as file:
    size = os.fstat(file.fileno()).st_size
    if not size:
      return 0, True
    offset = count = 0
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
      while size - offset >= _FRAME_BYTES:
        length, _ = _FRAME_START.unpack_from(content, offset)
        if length > size - offset - _FRAME_BYTES:
          break
        offset += _FRAME_BYTES + length
        count += 1
    return count, offset == size


def read_file(
  path: pathlib.Path, size: int, on_bad_record: OnBadRecord
) -> Iterator[RecordBatch]:
  """Reads a TFRecord file; what follows a damaged frame is one bad record.

  Args:
    path: The file.
    size: Records in a batch, at most.
    on_bad_record: Told of a frame that is cut off or fails its checksum.

  Raises:
    InputError: When the file cannot be opened.
  """
  name = texts.one_line(str(path))
  try:
    count, is_whole = _whole_frames(path)
  except OSError as error:
    raise InputError(
      f"{name}: cannot be read: {error.strerror}; check --data_dir"
    ) from error
  dataset = tf.data.TFRecordDataset(str(path)).take(count)
  yield from read_dataset(name, dataset, size, on_bad_record, is_whole)


def read_dataset(
  name: str,
  dataset: tf.data.Dataset,
  size: int,
  on_bad_record: OnBadRecord,
  is_whole: bool = True,
) -> Iterator[RecordBatch]:
  """Reads a dataset of single records up to the first that is damaged.

  Args:
    name: What messages call it.
    dataset: Scalars, or tuples of such; in a fixed order.
    size: Records in a batch, at most.
    on_bad_record: Told of the first record that cannot be read.
    is_whole: Whether there is nothing after its last record.
  """
  first = 0
  try:
    for batch in dataset.batch(size).prefetch(1):
      columns = batch if isinstance(batch, tuple) else (batch,)
      yield RecordBatch(first, columns)
      first += len(columns[0])
  except tf.errors.DataLossError:
    is_whole = False
    rest = _intact(dataset.skip(first))
    if rest:
      yield RecordBatch(first, tuple(map(tf.stack, zip(*rest, strict=True))))
      first += len(rest)
  if not is_whole:
    reason = "is cut off or damaged; it and all that follows it in the file is lost"
    on_bad_record(BadRecord(name, first, None, reason))


def _intact(dataset: tf.data.Dataset) -> list[tuple[tf.Tensor, ...]]:
  """Returns the records before the damaged one, of which a batch tells nothing."""
  records = []
  try:
    for record in dataset:
      records.append(record if isinstance(record, tuple) else (record,))
  except tf.errors.DataLossError:
    pass
  return records
