"""TFRecord files of small examples, and passes over datasets, that tests share."""

import numpy as np
import tensorflow as tf

from fedtiny_tff.data.examples import BadRecord


def feature(value):
  """Returns a field: bytes, an integer, or floats."""
  if isinstance(value, bytes):
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
  if isinstance(value, int):
    return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
  return tf.train.Feature(float_list=tf.train.FloatList(value=value))


def example(**fields):
  """Returns a serialized `tf.train.Example`."""
  features = {name: feature(value) for name, value in fields.items()}
  message = tf.train.Example(features=tf.train.Features(feature=features))
  return message.SerializeToString()


def png(image):
  """Encodes uint8 [height, width, channels]."""
  return tf.io.encode_png(image).numpy()


def write(path, records):
  """Writes a TFRecord file."""
  with tf.io.TFRecordWriter(str(path)) as writer:
    for record in records:
      writer.write(record)


def read(dataset, split="train"):
  """Returns features, labels, clients (or None) and bad records of a split."""
  bad: list[BadRecord] = []
  batches = list(dataset.read(split, bad.append))
  assert all(len(batch.labels) for batch in batches)
  if not batches:
    return np.zeros(0), np.zeros(0, np.int64), None, bad
  clients = None
  if dataset.has_clients:
    clients = [str(name) for batch in batches for name in batch.clients]
  features = np.concatenate([batch.features for batch in batches])
  return features, np.concatenate([batch.labels for batch in batches]), clients, bad


def damage(path, record):
  """Flips a bit in the last byte of a record's content."""
  content = bytearray(path.read_bytes())
  start = 0
  for _ in range(record + 1):
    length = int.from_bytes(content[start : start + 8], "little")
    end = start + 12 + length
    start = end + 4
  content[end - 1] ^= 1
  path.write_bytes(content)


def checksum(content):
  """Returns TFRecord's masked CRC-32C.

  https://www.tensorflow.org/tutorials/load_data/tfrecord
  """
  value = 0xFFFFFFFF
  for byte in content:
    value ^= byte
    for _ in range(8):
      value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
  value ^= 0xFFFFFFFF
  return ((value >> 15 | value << 17) + 0xA282EAD8) & 0xFFFFFFFF
