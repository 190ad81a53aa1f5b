"""One pass over a dataset: labels, owners, contents and where inputs lie.

Everything that decides who gets which example, in about 20 bytes an example; the
features themselves are read again when they are written.
"""

import dataclasses
import hashlib
from collections.abc import Iterator
from typing import Optional

import numpy as np

from fedtiny_tff.arrays import Array
from fedtiny_tff.data import examples
from fedtiny_tff.data.examples import BadRecord, Batch, Dataset, OnBadRecord
from fedtiny_tff.errors import InputError

_CONTENT_BYTES = 8


@dataclasses.dataclass(frozen=True)
class SplitFacts:
  """What is known of each example of a split, in the source's order.

  Attributes:
    labels: int64 [N].
    contents: uint64 [N], hash of the features: equal for equal features.
    owners: Client of each example, int32 [N], an index into `Scan.client_ids`; None
      where the source does not say.
  """

  labels: Array
  contents: Array
  owners: Optional[Array]

  def __len__(self) -> int:
    """Returns the number of examples."""
    return len(self.labels)


@dataclasses.dataclass(frozen=True)
class Scan:
  """A dataset, seen once.

  Attributes:
    train: The training split.
    test: The test split.
    client_ids: All clients of the training split, sorted; empty where the source
      does not name them. Owners that hold test examples only come after them.
    mean: Per channel (last axis), of the training split's stored features times
      `scale`; float64.
    deviation: Likewise, standard deviation; 1 for a channel that never changes.
    bad_records: What was left out.
  """

  train: SplitFacts
  test: SplitFacts
  client_ids: tuple[str, ...]
  mean: Array
  deviation: Array
  bad_records: tuple[BadRecord, ...] = ()

  @property
  def content_sha256(self) -> str:
    """Digest of all training examples, in order."""
    digest = hashlib.sha256(self.train.contents.astype("<u8").tobytes())
    digest.update(self.train.labels.astype("<i8").tobytes())
    return digest.hexdigest()


def content_hashes(features: Array) -> Array:
  """Hashes examples by their features.

  Args:
    features: [n, ...].

  Returns:
    uint64 [n].
  """
  rows = np.ascontiguousarray(features).reshape(len(features), -1)
  if rows.dtype.kind == "f":
    # Models see no difference between 0 and -0.
    rows = rows + rows.dtype.type(0)
  return np.array(
    [
      int.from_bytes(
        hashlib.blake2b(row, digest_size=_CONTENT_BYTES).digest(), "little"
      )
      for row in rows.view(np.uint8)
    ],
    np.uint64,
  )


class _Moments:
  """Mean and variance per channel, merged batch by batch without cancellation."""

  def __init__(self, channels: int):
    self._count = 0
    self._mean = np.zeros(channels)
    self._squares = np.zeros(channels)

  def add(self, features: Array) -> None:
    values = features.reshape(-1, features.shape[-1]).astype(np.float64)
    count = self._count + len(values)
    mean = values.mean(axis=0)
    offset = mean - self._mean
    # In place: as float64 a batch of images is eight times its size.
    values -= mean
    self._squares += np.square(values, out=values).sum(axis=0)
    self._squares += np.square(offset) * self._count * len(values) / count
    self._mean += offset * len(values) / count
    self._count = count

  def result(self, scale: float) -> tuple[Array, Array]:
    deviation = np.sqrt(self._squares / max(self._count, 1)) * scale
    return self._mean * scale, np.where(deviation > 0, deviation, 1.0)


def checked(batches: Iterator[Batch], info: examples.DatasetInfo) -> Iterator[Batch]:
  """Holds a source to what it says of its examples.

  Raises:
    InputError: When shape, type or labels differ.
  """
  for batch in batches:
    features = batch.features
    if features.shape[1:] != info.shape or features.dtype != info.feature_type:
      raise InputError(
        f"dataset {info.name}: an example is {features.dtype}"
        f"{list(features.shape[1:])}, expected {info.feature_type}{list(info.shape)}"
      )
    outside = (batch.labels < 0) | (batch.labels >= info.num_classes)
    if outside.any():
      raise InputError(
        f"dataset {info.name}: label {batch.labels[outside][0]} is not in "
        f"[0, {info.num_classes}); mend it in the dataset"
      )
    if len(features):
      yield batch


def unchanged(
  batches: Iterator[Batch], facts: SplitFacts, info: examples.DatasetInfo
) -> Iterator[Batch]:
  """Holds a later pass over a split to what the first one found.

  Places in a split are decided by the first pass; by a later one that found anything
  else, examples would move to other clients or parts.

  Args:
    batches: The later pass.
    facts: What the first one found.
    info: Facts of the dataset.

  Raises:
    InputError: When examples were added, removed or altered.
  """
  seen = 0
  for batch in checked(batches, info):
    expected = slice(seen, seen + len(batch.labels))
    seen = expected.stop
    if not (
      np.array_equal(batch.labels, facts.labels[expected])
      and np.array_equal(content_hashes(batch.features), facts.contents[expected])
    ):
      raise _changed(info)
    yield batch
  if seen != len(facts):
    raise _changed(info)


def _changed(info: examples.DatasetInfo) -> InputError:
  return InputError(
    f"dataset {info.name}: its files changed while they were read; leave them alone and "
    "run again"
  )


def _read_split(
  dataset: Dataset, split: str, on_bad: OnBadRecord, moments: Optional[_Moments]
) -> tuple[Array, Array, list[Array]]:
  labels, contents, owners = [], [], []
  for batch in checked(dataset.read(split, on_bad), dataset.info):
    labels.append(batch.labels.astype(np.int64))
    contents.append(content_hashes(batch.features))
    if moments is not None:
      moments.add(batch.features)
    if batch.clients is not None:
      owners.append(np.asarray(batch.clients, np.str_))
  return (
    np.concatenate(labels) if labels else np.zeros(0, np.int64),
    np.concatenate(contents) if contents else np.zeros(0, np.uint64),
    owners,
  )


def scan(
  dataset: Dataset, on_bad_record: OnBadRecord = examples.fail_on_bad_record
) -> Scan:
  """Reads a dataset once.

  Args:
    dataset: What to read.
    on_bad_record: Told of every bad record, in both splits.

  Raises:
    InputError: When the training split is empty, or an example is not what the
      dataset says.
  """
  found: list[BadRecord] = []

  def note(record: BadRecord) -> None:
    on_bad_record(record)
    found.append(record)

  moments = _Moments(dataset.info.shape[-1] if dataset.info.shape else 1)
  labels, contents, names = _read_split(dataset, examples.TRAIN, note, moments)
  if not len(labels):
    left_out = f"; {len(found)} records were left out" if found else ""
    raise InputError(
      f"dataset {dataset.info.name}: no training example can be used: look at the data "
      f"with python -m pipelines.data{left_out}"
    )
  test_labels, test_contents, test_names = _read_split(
    dataset, examples.TEST, note, None
  )
  client_ids, owners, test_owners = _numbered(dataset, names, test_names)
  mean, deviation = moments.result(dataset.info.preprocessing.scale)
  return Scan(
    SplitFacts(labels, contents, owners),
    SplitFacts(test_labels, test_contents, test_owners),
    client_ids,
    mean,
    deviation,
    tuple(found),
  )


def _numbered(
  dataset: Dataset, names: list[Array], test_names: list[Array]
) -> tuple[tuple[str, ...], Optional[Array], Optional[Array]]:
  """Numbers the clients by sorted id; of the test split's, unknown ones come last."""
  if not dataset.has_clients:
    return (), None, None
  ids, owners = np.unique(np.concatenate(names), return_inverse=True)
  test = np.concatenate(test_names) if test_names else np.zeros(0, ids.dtype)
  places = np.minimum(np.searchsorted(ids, test), len(ids) - 1)
  test_owners = np.where(ids[places] == test, places, len(ids))
  return (
    tuple(str(name) for name in ids),
    owners.astype(np.int32),
    test_owners.astype(np.int32),
  )


def fitted_info(dataset: Dataset, found: Scan) -> examples.DatasetInfo:
  """Returns the dataset's facts, with mean and deviation measured where they are to be."""
  info = dataset.info
  if not dataset.measures_inputs:
    return info
  measured = dataclasses.replace(
    info.preprocessing,
    mean=tuple(float(np.float32(value)) for value in found.mean),
    deviation=tuple(float(np.float32(value)) for value in found.deviation),
  )
  return dataclasses.replace(info, preprocessing=measured)
