"""Which client and class records belong to, and which are held out by that."""

import functools
import pathlib
from collections.abc import Sequence
from typing import Optional

import numpy as np
import tensorflow as tf

from fedtiny_tff.arrays import Array
from fedtiny_tff.data.examples import BadRecord
from fedtiny_tff.data.sources import (
  batch_decoding,
  example_fields,
  holdout,
  record_files,
  texts,
)
from fedtiny_tff.data.sources.batch_decoding import Columns, Decoder, UnusableRecord

CLIENT_ID = "client_id"
LABEL = "label"
FIELDS: example_fields.Fields = {
  CLIENT_ID: tf.io.FixedLenFeature([], tf.string),
  LABEL: tf.io.FixedLenFeature([], tf.int64),
}
_BATCH = 1 << 14


def ignore(record: BadRecord) -> None:
  """Leaves it to the pass that reads the examples themselves."""


@functools.lru_cache(1 << 16)
def client_of(encoded: bytes) -> tuple[str, Optional[str]]:
  """Returns a client's id, and what is wrong with it or None."""
  try:
    client = encoded.decode()
  except UnicodeDecodeError:
    return "", f"is not UTF-8: {texts.value(encoded)}"
  return client, texts.problem_of_name(client)


def held_out(
  files: Sequence[pathlib.Path], num_classes: int, share: float
) -> dict[pathlib.Path, Array]:
  """Chooses test examples by their keys alone, before anything is decoded.

  Args:
    files: Records of all examples.
    num_classes: Labels are in [0, classes).
    share: Share of each client's examples that is held out.

  Returns:
    Of each file a bool mask of its records. A record without client or label is no
    test example.
  """
  numbered: dict[str, int] = {}
  found = [_keys(path, numbered, num_classes) for path in files]
  owners, labels = (np.concatenate(parts) for parts in zip(*found, strict=True))
  owned = owners >= 0
  is_test = np.zeros(len(owners), bool)
  is_test[owned], _ = holdout.held_out(owners[owned], labels[owned], share)
  ends = np.cumsum([len(part) for part, _ in found])
  return dict(zip(files, np.split(is_test, ends[:-1]), strict=True))


def _decode(records: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
  found = example_fields.parse_many(records, FIELDS)
  return found[CLIENT_ID], found[LABEL]


def _decode_one(record: bytes) -> Columns:
  try:
    found = example_fields.parse_one(record, FIELDS)
  except UnusableRecord:
    return np.array(b"", object), np.asarray(-1)
  return np.array(found[CLIENT_ID], object), np.asarray(found[LABEL], np.int64)


def _keys(
  path: pathlib.Path, numbered: dict[str, int], num_classes: int
) -> tuple[Array, Array]:
  """Reads clients and labels of all records of a file.

  Args:
    path: The file.
    numbered: Number of each client; new ones are added.
    num_classes: Labels are in [0, classes).

  Returns:
    Numbers of the clients, -1 where there is none or no right label; and labels;
    int64 [n].
  """
  owners, labels = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
  decoder = Decoder(_decode, _decode_one)
  for batch in record_files.read_file(path, _BATCH, ignore):
    for found in batch_decoding.decoded("", batch, decoder, ignore):
      clients = [client_of(encoded) for encoded in found.columns[0]]
      labels.append(found.columns[1])
      right = (labels[-1] >= 0) & (labels[-1] < num_classes)
      right &= np.array([problem is None for _, problem in clients])
      numbers = [numbered.setdefault(client, len(numbered)) for client, _ in clients]
      owners.append(np.where(right, numbers, -1))
  return np.concatenate(owners), np.concatenate(labels)
