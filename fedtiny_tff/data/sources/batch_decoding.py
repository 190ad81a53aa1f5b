"""Decodes records batch by batch; a batch that fails is halved to find the bad ones."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import NamedTuple, Optional

import numpy as np
import tensorflow as tf

from fedtiny_tff.arrays import Array
from fedtiny_tff.data.examples import BadRecord, OnBadRecord
from fedtiny_tff.data.sources import record_files

Columns = tuple[Array, ...]
# Of records in a batch, by place: the field that is bad, and why.
Flaws = dict[int, tuple[str, str]]


class UnusableRecord(ValueError):
  """A record that cannot be used."""

  def __init__(self, field: Optional[str], reason: str):
    """Says what is wrong.

    Args:
      field: Which part of it is bad; None for all of it.
      reason: What is wrong with it.
    """
    super().__init__(reason)
    self.field = field
    self.reason = reason


@dataclasses.dataclass(frozen=True)
class Decoder:
  """Two ways to decode records, with equal results.

  Attributes:
    decode: Decodes tensors [n]; any error of TensorFlow means that one of them is
      bad, or only that `decode_one` is to be asked.
    decode_one: Decodes a single record; raises `UnusableRecord`.
  """

  decode: Callable[..., tuple[tf.Tensor, ...]]
  decode_one: Callable[..., Columns]


class Decoded(NamedTuple):
  """Decoded records.

  Attributes:
    numbers: Of each in its file, int64 [n].
    columns: Arrays [n, ...].
  """

  numbers: Array
  columns: Columns


def decoded(
  name: str,
  batch: record_files.RecordBatch,
  decoder: Decoder,
  on_bad_record: OnBadRecord,
  chosen: Optional[Array] = None,
) -> Iterator[Decoded]:
  """Decodes a batch, in one piece unless a record in it is bad.

  Args:
    name: What messages call the file.
    batch: What to decode.
    decoder: How.
    on_bad_record: Told of bad records, in their order.
    chosen: bool [records of the file], which to look at; None = all.
  """
  columns = batch.columns
  numbers = np.arange(batch.first, batch.first + len(columns[0]))
  if chosen is not None and not chosen[numbers].all():
    numbers = numbers[chosen[numbers]]
    columns = tuple(tf.gather(column, numbers - batch.first) for column in columns)
  waiting = [(numbers, columns)]
  while waiting:
    numbers, columns = waiting.pop()
    if not len(numbers):
      continue
    try:
      values = decoder.decode(*columns)
      yield Decoded(numbers, tuple(value.numpy() for value in values))
      continue
    # A record that is quoted in TensorFlow's message need not be UTF-8.
    except (tf.errors.OpError, UnicodeDecodeError):
      half = len(numbers) // 2
    if half:
      # The first half is to be looked at next.
      waiting.append((numbers[half:], tuple(column[half:] for column in columns)))
      waiting.append((numbers[:half], tuple(column[:half] for column in columns)))
      continue
    try:
      single = decoder.decode_one(*(column[0].numpy() for column in columns))
      yield Decoded(numbers, tuple(np.asarray(value)[np.newaxis] for value in single))
    except UnusableRecord as error:
      on_bad_record(BadRecord(name, int(numbers[0]), error.field, error.reason))


def label_flaws(labels: Array, num_classes: int) -> Flaws:
  """Returns what is wrong with labels [n] that are not in [0, classes)."""
  wrong = np.flatnonzero((labels < 0) | (labels >= num_classes))
  return {
    int(place): ("label", f"{labels[place]} is not in [0, {num_classes})")
    for place in wrong
  }


def usable(
  name: str, numbers: Array, flaws: Flaws, on_bad_record: OnBadRecord
) -> Array:
  """Returns which decoded records have no flaw, and tells of the others in order.

  Args:
    name: What messages call the file.
    numbers: Of the records in it, int64 [n].
    flaws: What is wrong with some of them.
    on_bad_record: Told of these.
  """
  right = np.ones(len(numbers), bool)
  for place, (field, reason) in sorted(flaws.items()):
    right[place] = False
    on_bad_record(BadRecord(name, int(numbers[place]), field, reason))
  return right
