"""Examples as the records that the source `client_tfrecord` reads."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from fedtiny_tff.arrays import Array
from fedtiny_tff.data.examples import Batch, DatasetInfo
from fedtiny_tff.data.sources import client_keys, client_records
from fedtiny_tff.errors import InputError

_IMAGE_AXES = 3


def _are_images(info: DatasetInfo) -> bool:
  return (
    info.feature_type == "uint8"
    and len(info.shape) == _IMAGE_AXES
    and info.shape[-1] in (1, 3)
  )


def description(
  info: DatasetInfo, files: Mapping[str, Sequence[str]], with_normalisation: bool
) -> dict[str, Any]:
  """Returns the content of `dataset.json`.

  Args:
    info: Static facts.
    files: Names of each split's files, relative to the folder of `dataset.json`.
    with_normalisation: Whether mean and deviation in `info` are to be kept; they are
      measured whenever the records are read otherwise.
  """
  preprocessing = info.preprocessing.to_json()
  if not with_normalisation:
    del preprocessing["mean"], preprocessing["deviation"]
  return {
    "shape": list(info.shape),
    "classes": list(info.class_names),
    "splits": {split: list(names) for split, names in files.items()},
    "preprocessing": preprocessing,
  }


def serialized(batches: Iterable[Batch], info: DatasetInfo) -> Iterator[bytes]:
  """Turns examples into serialized `tf.train.Example` messages, in their order.

  Grey and colour images of bytes become PNG, which loses nothing; all else becomes
  floats, which hold any byte exactly.

  Args:
    batches: Examples that have owners.
    info: What they are.

  Raises:
    InputError: When nobody owns the examples.
  """
  as_image = _are_images(info)
  for features, labels, clients in batches:
    if clients is None:
      raise InputError(
        f"dataset {info.name} does not say whose its examples are, as "
        f"{client_records.NAME} must; choose another format"
      )
    for example, label, client in zip(features, labels, clients, strict=True):
      content = _image(example) if as_image else _floats(example)
      yield _serialized(str(client), int(label), content)


def _image(example: Array) -> dict[str, tf.train.Feature]:
  encoded = tf.io.encode_png(example).numpy()
  return {client_records.IMAGE: _bytes(encoded)}


def _floats(example: Array) -> dict[str, tf.train.Feature]:
  values = tf.train.FloatList(value=example.astype(np.float32).ravel())
  return {client_records.FEATURES: tf.train.Feature(float_list=values)}


def _bytes(content: bytes) -> tf.train.Feature:
  return tf.train.Feature(bytes_list=tf.train.BytesList(value=[content]))


def _serialized(
  client: str, label: int, content: Mapping[str, tf.train.Feature]
) -> bytes:
  labels = tf.train.Int64List(value=[label])
  fields = {
    client_keys.CLIENT_ID: _bytes(client.encode()),
    client_keys.LABEL: tf.train.Feature(int64_list=labels),
    **content,
  }
  example = tf.train.Example(features=tf.train.Features(feature=fields))
  # Fields come in any order otherwise, and files would differ from run to run.
  message: bytes = example.SerializeToString(deterministic=True)
  return message
