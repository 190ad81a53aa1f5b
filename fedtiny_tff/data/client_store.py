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
from typing import BinaryIO, NamedTuple

import numpy as np
import tensorflow as tf

from fedtiny_tff.arrays import Array
from fedtiny_tff.data.examples import Batch, DatasetInfo
from fedtiny_tff.data.federation import Federation
from fedtiny_tff.errors import InputError

_LABEL_BYTES = 8
# TFRecord puts a length, a checksum of it and one of the content around each record:
# https://www.tensorflow.org/tutorials/load_data/tfrecord
_FRAME_BYTES = 16
_READ_BUFFER_BYTES = 1 << 16


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

  def labels(self, records: tf.Tensor) -> tf.Tensor:
    """Returns the labels of records, int64 [n], without decoding what else they hold."""
    return tf.bitcast(records[:, :_LABEL_BYTES], tf.int64)

  def decode(self, records: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Decodes and preprocesses records.

    Args:
      records: uint8 [n, record_bytes].

    Returns:
      float32 [n, *shape] model inputs, and int64 [n] labels.
    """
    labels = self.labels(records)
    features = records[:, _LABEL_BYTES:]
    if self.info.feature_type == "float32":
      grouped = tf.reshape(features, [-1, math.prod(self.info.shape), 4])
      features = tf.bitcast(grouped, tf.float32)
    features = tf.reshape(features, [-1, *self.info.shape])
    how = self.info.preprocessing
    scaled = tf.cast(features, tf.float32) * tf.constant(how.scale, tf.float32)
    return (scaled - tf.constant(how.mean)) / tf.constant(how.deviation), labels


def references(federation: Federation) -> Array:
  """Lays the clients out one after another, as `client_order` does.

  Returns:
    int64 [clients, 4], the fields of a `ClientReference` each.
  """
  training = np.array([len(part) for part in federation.training], np.int64)
  development = np.array([len(part) for part in federation.development], np.int64)
  first = np.cumsum(training + development) - training - development
  return np.stack([np.arange(len(training)), first, training, development], axis=1)


def client_order(federation: Federation) -> Array:
  """Returns which training example stands in which record of the clients' store."""
  parts = [
    part
    for pair in zip(federation.training, federation.development, strict=True)
    for part in pair
  ]
  return np.concatenate(parts)


def encode(batch: Batch, info: DatasetInfo) -> Array:
  """Encodes examples as records.

  Returns:
    uint8 [n, record bytes].
  """
  count = len(batch.labels)
  features = np.ascontiguousarray(batch.features, np.dtype(info.feature_type))
  labels = np.ascontiguousarray(batch.labels, "<i8")
  return np.concatenate(
    [
      labels.view(np.uint8).reshape(count, _LABEL_BYTES),
      features.reshape(count, -1).view(np.uint8),
    ],
    axis=1,
  )


def framed_records(batch: Batch, info: DatasetInfo) -> bytes:
  """Returns examples as they lie in a store's file, one after another."""
  return _framed(encode(batch, info))


def _framed(records: Array) -> bytes:
  """Puts records of equal length into TFRecord frames, one after another."""
  path = f"ram://{uuid.uuid4()}"
  with tf.io.TFRecordWriter(path) as writer:
    for record in records:
      writer.write(record.tobytes())
  try:
    with tf.io.gfile.GFile(path, "rb") as file:
      content: bytes = file.read()
      return content
  finally:
    tf.io.gfile.remove(path)


class RecordWriter:
  """Writes chosen examples of a split to their records, in one pass over it.

  Memory stays that of a batch and of the order.
  """

  def __init__(self, file: BinaryIO, order: Array, info: DatasetInfo):
    """Takes where to write.

    Args:
      file: Seekable, opened for writing.
      order: Index in the split of the example that goes into each record; none
        twice.
      info: Shape and type of the features.
    """
    order = np.asarray(order, np.int64)
    self._file = file
    self._info = info
    self._count = len(order)
    self._record_of = np.full(order.max(initial=-1) + 1, -1, np.int64)
    self._record_of[order] = np.arange(len(order))
    self._seen = 0
    self._written = 0

  def add(self, batch: Batch) -> None:
    """Writes what is wanted of the split's next examples."""
    records = self._record_of[self._seen : self._seen + len(batch.labels)]
    self._seen += len(batch.labels)
    wanted = np.flatnonzero(records >= 0)
    if not len(wanted):
      return
    chosen = Batch(batch.features[wanted], batch.labels[wanted])
    frames = memoryview(framed_records(chosen, self._info))
    size = len(frames) // len(wanted)
    places = records[wanted]
    # Examples in a row are written in one piece.
    ends = np.flatnonzero(np.diff(places) != 1) + 1
    for first, last in itertools.pairwise([0, *ends.tolist(), len(wanted)]):
      self._file.seek(int(places[first]) * size)
      self._file.write(frames[first * size : last * size])
    self._written += len(wanted)

  def finish(self) -> None:
    """Makes sure that all was there.

    Raises:
      InputError: When examples are missing.
    """
    missing = self._count - self._written
    if missing:
      raise InputError(
        f"dataset {self._info.name}: {missing} of {self._count} examples are missing: "
        "its files changed while they were read; leave them alone and run again"
      )
