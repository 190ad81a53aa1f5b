"""Examples that rows of SQLite files hold: floats, pixels or encoded images."""

import dataclasses
import itertools
import math
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Optional

import numpy as np
import tensorflow as tf

from fedtiny_tff.arrays import Array
from fedtiny_tff.data.examples import BadRecord, Batch, DatasetInfo, OnBadRecord
from fedtiny_tff.data.sources import (
  batch_decoding,
  encoded_images,
  example_fields,
  sqlite_files,
  texts,
)
from fedtiny_tff.data.sources.batch_decoding import Decoder, UnusableRecord
from fedtiny_tff.data.sources.encoded_images import ImageForm
from fedtiny_tff.data.sources.record_files import RecordBatch

LABEL = "label"
_MOST_ROWS = 1000


@dataclasses.dataclass(frozen=True)
class Content:
  """The field of a record that holds an example's features.

  Attributes:
    field: Its name.
    kind: tf.float32 for numbers, tf.int64 for pixels from 0 to 255, both row-major;
      tf.string for an encoded image.
  """

  field: str
  kind: tf.DType

  @property
  def feature_type(self) -> str:
    """NumPy type name of what is stored."""
    return "float32" if self.kind == tf.float32 else "uint8"


@dataclasses.dataclass(frozen=True)
class Source:
  """Rows that make part of a split.

  Attributes:
    path: File.
    split: Value of `split_name`.
    chosen: Which of these rows, bool [rows]; None = all.
  """

  path: pathlib.Path
  split: str
  chosen: Optional[Array] = None


def decoder(info: DatasetInfo, content: Content, resize: bool) -> Decoder:
  """Returns what makes labels and features of records.

  Args:
    info: What features are to be.
    content: Where they stand.
    resize: Whether encoded images of another size are brought to the right one.
  """
  length = math.prod(info.shape)
  is_image = content.kind == tf.string
  fields = {
    LABEL: tf.io.FixedLenFeature([], tf.int64),
    content.field: tf.io.FixedLenFeature([] if is_image else [length], content.kind),
  }
  form = None
  if is_image:
    height, width, channels = info.shape
    form = ImageForm(height, width, channels, resize)

  def decode(records: tf.Tensor) -> tuple[tf.Tensor, ...]:
    found = example_fields.parse_many(records, fields)
    values = found[content.field]
    if form is not None:
      return found[LABEL], encoded_images.decoder(form)(values)
    # Which record is at fault, and why, is told by `decode_one`.
    tf.debugging.Assert(tf.reduce_all(_is_right(values)), ["wrong values"])
    return found[LABEL], tf.reshape(
      tf.cast(values, info.feature_type), [-1, *info.shape]
    )

  def decode_one(record: bytes) -> tuple[Array, ...]:
    found = example_fields.parse_one(record, fields)
    label = np.asarray(found[LABEL], np.int64)
    if form is not None:
      return label, encoded_images.decode_one(found[content.field], form, content.field)
    values = np.array(found[content.field], content.kind.as_numpy_dtype)
    wrong = np.flatnonzero(~_is_right(tf.constant(values)).numpy())
    if len(wrong):
      wanted = "a finite number" if content.kind == tf.float32 else "0 to 255"
      reason = f"value {wrong[0]} is {values[wrong[0]]}, expected {wanted}"
      raise UnusableRecord(content.field, reason)
    return label, values.astype(info.feature_type).reshape(info.shape)

  return Decoder(decode, decode_one)


def _is_right(values: tf.Tensor) -> tf.Tensor:
  if values.dtype == tf.float32:
    return tf.math.is_finite(values)
  return (values >= 0) & (values <= 255)


class Reader:
  """Streams examples of SQLite files."""

  def __init__(
    self,
    info: DatasetInfo,
    decoder_of_records: Decoder,
    sources: Mapping[str, Sequence[Source]],
    refuse_twins: bool,
    client_prefixes: Mapping[str, str],
  ):
    """Sets up passes.

    Args:
      info: What examples are.
      decoder_of_records: Makes labels and features of records.
      sources: Where each split lies.
      refuse_twins: Whether an example that its client has already is a bad record.
      client_prefixes: What stands before a split's client ids, of some splits.
    """
    self._info = info
    self._decoder = decoder_of_records
    self._sources = sources
    self._refuse_twins = refuse_twins
    self._client_prefixes = client_prefixes

  def read(self, split: str, on_bad_record: OnBadRecord) -> Iterator[Batch]:
    """Streams a split, file after file, in each client after client."""
    example_bytes = np.dtype(self._info.feature_type).itemsize * math.prod(
      self._info.shape
    )
    size = min(encoded_images.batch_size(example_bytes), _MOST_ROWS)
    prefix = self._client_prefixes.get(split, "")
    for source in self._sources[split]:
      rows = sqlite_files.rows(
        source.path, source.split, on_bad_record, source.chosen, self._refuse_twins
      )
      while group := list(itertools.islice(rows, size)):
        name = texts.one_line(str(source.path))
        yield from self._batches(name, group, prefix, on_bad_record)

  def _batches(
    self,
    name: str,
    rows: Sequence[sqlite_files.Row],
    prefix: str,
    on_bad_record: OnBadRecord,
  ) -> Iterator[Batch]:
    """Decodes some rows, in one piece unless one of them is bad."""

    def tell(record: BadRecord) -> None:
      assert isinstance(record.record, int)
      on_bad_record(dataclasses.replace(record, record=rows[record.record].key))

    batch = RecordBatch(0, (tf.constant([row.serialized for row in rows]),))
    for found in batch_decoding.decoded(name, batch, self._decoder, tell):
      labels, features = found.columns
      flaws = batch_decoding.label_flaws(labels, self._info.num_classes)
      right = batch_decoding.usable(name, found.numbers, flaws, tell)
      if right.any():
        owners = [prefix + rows[number].client for number in found.numbers[right]]
        yield Batch(features[right], labels[right], np.array(owners, np.str_))
