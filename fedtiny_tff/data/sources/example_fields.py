"""Fields of `tf.train.Example` records, read many or one at a time."""

from typing import Any

import tensorflow as tf
from google.protobuf import message  # type: ignore[import-untyped]

from fedtiny_tff.data.sources.batch_decoding import UnusableRecord

_LISTS = {tf.string: "bytes_list", tf.int64: "int64_list", tf.float32: "float_list"}
_TYPE_NAMES = {"bytes_list": "bytes", "int64_list": "int64", "float_list": "float"}

Fields = dict[str, tf.io.FixedLenFeature]


def parse_many(records: tf.Tensor, fields: Fields) -> dict[str, tf.Tensor]:
  """Reads fields of many records.

  TensorFlow 2.14 believes the lengths that a record states and writes beyond its memory
  where they are wrong, so Protocol Buffers' own parser has a look at each first.

  Args:
    records: Serialized `tf.train.Example` messages, strings [n].
    fields: What must be there, with shape [] or [m].

  Returns:
    Of each field a tensor [n] or [n, m].

  Raises:
    tf.errors.OpError: When one of them cannot be read, or lacks a field.
  """
  example = tf.train.Example()
  try:
    for record in records.numpy():
      example.ParseFromString(record)
    return dict(tf.io.parse_example(records, fields))
  # What TensorFlow says of a bad record quotes its bytes, which need not be UTF-8.
  except (message.DecodeError, UnicodeDecodeError) as error:
    raise tf.errors.InvalidArgumentError(None, None, "a bad record") from error


def parse_one(record: bytes, fields: Fields) -> dict[str, Any]:
  """Reads fields of one record.

  Args:
    record: A serialized `tf.train.Example`.
    fields: What must be there, with shape [] or [n].

  Returns:
    Of each field the value (shape []) or the list of values.

  Raises:
    UnusableRecord: Naming the field that is missing, or of another type or length.
  """
  features = features_of(record)
  values = {}
  for name, field in fields.items():
    if name not in features:
      raise UnusableRecord(name, "is missing")
    wanted = _LISTS[field.dtype]
    found = features[name].WhichOneof("kind")
    if found != wanted:
      told = _TYPE_NAMES.get(found, "nothing")
      raise UnusableRecord(name, f"holds {told}, expected {_TYPE_NAMES[wanted]}")
    content = list(getattr(features[name], wanted).value)
    length = field.shape[0] if field.shape else 1
    if len(content) != length:
      raise UnusableRecord(name, f"holds {len(content)} values, expected {length}")
    values[name] = content if field.shape else content[0]
  return values


def features_of(record: bytes) -> dict[str, tf.train.Feature]:
  """Returns all fields of a record.

  Raises:
    UnusableRecord: When it is no `tf.train.Example`.
  """
  try:
    return dict(tf.train.Example.FromString(record).features.feature)
  except message.DecodeError as error:
    raise UnusableRecord(None, "is no tf.train.Example") from error
