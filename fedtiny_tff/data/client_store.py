"""Labelled examples on disk, grouped by client, read back by place.

A store is one TFRecord file whose records all have the same length, so that any of
them can be sought. Record: the label as int64 little-endian (8 bytes), then the
features row-major in their stored type. A client's records are contiguous: first those it trains on, then its held-out
part. A `ClientReference` says where they lie; it is all that a round needs to
carry, whatever the size of the population or of the data.
"""

import dataclasses
import itertools
import math
import uuid
from collections.abc import Iterable, Sequence
from typing import BinaryIO, NamedTuple

import numpy as np
import tensorflow as tf

from fedtiny_tff.data import partition
from fedtiny_tff.data.examples import DatasetInfo, Example
from fedtiny_tff.errors import InputError

_LABEL_BYTES = 8
# TFRecord puts a length, a checksum of it and one of the content around each record:
# https://www.tensorflow.org/tutorials/load_data/tfrecord
_FRAME_BYTES = 16
_READ_BUFFER_BYTES = 1 << 16
_WRITE_CHUNK = 1024


class ClientReference(NamedTuple):
  """Where a client's records lie.

  Attributes:
    client: int64, number of the client; seeds its randomness.
    first_record: int64, index of its first record in the store.
    training_examples: int64, how many records it trains on.
    development_examples: int64, how many held-out records follow them.
  """

  client: np.int64
  first_record: np.int64
  training_examples: np.int64
  development_examples: np.int64


@dataclasses.dataclass(frozen=True)
class ClientStore:
  """A store and how to decode it.

  Attributes:
    path: File of records.
    info: Shape, stored type and preprocessing of the features.
    num_records: Records in the file.
  """

  path: str
  info: DatasetInfo
  num_records: int

  @property
  def record_bytes(self) -> int:
    """Length of one record."""
    feature_bytes = np.dtype(self.info.feature_type).itemsize
    return _LABEL_BYTES + math.prod(self.info.shape) * feature_bytes

  @property
  def stored_record_bytes(self) -> int:
    """Length of one record in the file."""
    return self.record_bytes + _FRAME_BYTES

  def read(self, first: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """Reads the raw records `first` to `first + count` in one piece.

    Args:
      first: int64 scalar.
      count: int64 scalar; 0 gives an empty tensor.

    Returns:
      uint8 [count, record_bytes].
    """
    first, count = tf.cast(first, tf.int64), tf.cast(count, tf.int64)
    # tf.data.TFRecordDataset has no argument for the offset, and datasets that skip to
    # it read all that lies before.
    sought = tf.raw_ops.TFRecordDatasetV2(
      filenames=[self.path],
      compression_type="",
      buffer_size=_READ_BUFFER_BYTES,
      byte_offsets=tf.reshape(first * self.stored_record_bytes, [1]),
    )
    stored = tf.data.experimental.from_variant(sought, tf.TensorSpec([], tf.string))
    # A batch of at least one keeps the dataset well-formed when there are none.
    batch = stored.take(count).batch(tf.maximum(count, 1))
    nothing = tf.data.Dataset.from_tensors(tf.zeros([0], tf.string))
    records = batch.concatenate(nothing).take(1).get_single_element()
    whole = tf.debugging.assert_equal(
      tf.size(records, tf.int64), count, f"{self.path} ends before the client does"
    )
    with tf.control_dependencies([whole] if whole is not None else []):
      records = tf.identity(records)
    return tf.ensure_shape(
      tf.io.decode_raw(records, tf.uint8, fixed_length=self.record_bytes),
      [None, self.record_bytes],
    )

  def decode(self, records: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Decodes and preprocesses records.

    Args:
      records: uint8 [n, record_bytes].

    Returns:
      float32 [n, *shape] model inputs, and int64 [n] labels.
    """
    labels = tf.bitcast(records[:, :_LABEL_BYTES], tf.int64)
    features = records[:, _LABEL_BYTES:]
    if self.info.feature_type == "float32":
      grouped = tf.reshape(features, [-1, math.prod(self.info.shape), 4])
      features = tf.bitcast(grouped, tf.float32)
    features = tf.reshape(features, [-1, *self.info.shape])
    how = self.info.preprocessing
    scaled = tf.cast(features, tf.float32) * tf.constant(how.scale, tf.float32)
    return (scaled - tf.constant(how.mean)) / tf.constant(how.deviation), labels


def references(federation: partition.Federation) -> list[ClientReference]:
  """Lays the clients out one after another, as `client_order` does."""
  placed = []
  first = 0
  for client, (train, held_out) in enumerate(
    zip(federation.training, federation.development, strict=True)
  ):
    placed.append(
      ClientReference(
        *(np.int64(n) for n in (client, first, len(train), len(held_out)))
      )
    )
    first += len(train) + len(held_out)
  return placed


def client_order(federation: partition.Federation) -> np.ndarray:
  """Returns which training example stands in which record of the clients' store."""
  parts = [
    part
    for pair in zip(federation.training, federation.development, strict=True)
    for part in pair
  ]
  return np.concatenate(parts)


def encode(example: Example, info: DatasetInfo) -> bytes:
  """Encodes one example as a record.

  Raises:
    InputError: When it is not of the dataset's shape, type or labels.
  """
  features, label = example
  if features.shape != info.shape or features.dtype != np.dtype(info.feature_type):
    raise InputError(
      f"dataset {info.name}: an example is {features.dtype}{list(features.shape)}, "
      f"expected {info.feature_type}{list(info.shape)}"
    )
  if not 0 <= label < info.num_classes:
    raise InputError(
      f"dataset {info.name}: label {label} is not in [0, {info.num_classes})"
    )
  stored = np.ascontiguousarray(features)
  return int(label).to_bytes(_LABEL_BYTES, "little", signed=True) + stored.tobytes()


def _framed(records: Sequence[bytes]) -> bytes:
  """Puts records of equal length into TFRecord frames, one after another."""
  path = f"ram://{uuid.uuid4()}"
  with tf.io.TFRecordWriter(path) as writer:
    for record in records:
      writer.write(record)
  try:
    with tf.io.gfile.GFile(path, "rb") as file:
      return file.read()
  finally:
    tf.io.gfile.remove(path)


def write_records(
  file: BinaryIO,
  examples: Iterable[Example],
  order: Sequence[int] | np.ndarray,
  info: DatasetInfo,
) -> None:
  """Writes the examples named in `order` to their records, in one pass.

  Memory stays that of about a thousand examples.

  Args:
    file: Seekable, opened for writing.
    examples: All examples of a split, in their fixed order.
    order: Index of the example that goes into each record.
    info: Shape and type of the features.

  Raises:
    InputError: When there are fewer examples than `order` names.
  """
  record_of = {int(index): record for record, index in enumerate(order)}
  wanted = (
    (record_of.pop(index), encode(example, info))
    for index, example in enumerate(examples)
    if index in record_of
  )
  while chunk := list(itertools.islice(wanted, _WRITE_CHUNK)):
    frames = memoryview(_framed([encoded for _, encoded in chunk]))
    size = len(frames) // len(chunk)
    for number, (record, _) in enumerate(chunk):
      file.seek(record * size)
      file.write(frames[number * size : (number + 1) * size])
  if record_of:
    raise InputError(
      f"dataset {info.name}: {len(record_of)} of {len(order)} examples are missing; "
      "its files are shorter than its labels"
    )
