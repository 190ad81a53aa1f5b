"""What passes by while a dataset is read: where its values lie, and a few examples.

Memory stays that of one example's shape and of the examples that are kept.
"""

import bisect
import dataclasses
import operator
from collections.abc import Iterator
from typing import Optional

import numpy as np

from fedtiny_tff import seeds
from fedtiny_tff.data import scan
from fedtiny_tff.data.examples import (
  SPLITS,
  TRAIN,
  BadRecord,
  Batch,
  Dataset,
  DatasetInfo,
  OnBadRecord,
)
from pipelines.apps.progress import Progress

# Float features that are larger than this were hardly meant, and overflow when squared
# and added up in float32.
LARGEST_FLOAT = 1e6
# Of scales such as 1 / 255.
_ROUNDING = 1e-6
_CHUNK_VALUES = 1 << 20
_DRAWN_CLASSES = 100
_SAMPLES_OF_FEW_CLASSES = 3
_FEW_CLASSES = 20


@dataclasses.dataclass(frozen=True)
class SplitStatistics:
  """Where a split's stored features lie.

  Examples with values that are no finite numbers count, and enter nothing else.

  Attributes:
    examples: All of them.
    minimum: Per channel (last axis), float64; empty where there are no examples.
    maximum: Likewise.
    mean: Likewise.
    deviation: Likewise, standard deviation.
    whole_mean: Mean over all channels; None where there are no examples.
    whole_deviation: Likewise.
    constant_examples: Examples whose values are all equal, if they have several.
    beyond_range: Examples with a value above `largest_value`, by magnitude.
    not_finite: Examples with NaN or an infinity.
  """

  examples: int
  minimum: np.ndarray
  maximum: np.ndarray
  mean: np.ndarray
  deviation: np.ndarray
  whole_mean: Optional[float]
  whole_deviation: Optional[float]
  constant_examples: int
  beyond_range: int
  not_finite: int


def largest_value(info: DatasetInfo) -> float:
  """Returns what stored features should not exceed, by magnitude.

  Scaled uint8 features lie in [0, 1]; floats have a limit of common sense.
  """
  if info.feature_type != "uint8":
    return LARGEST_FLOAT
  return (1 + _ROUNDING) / info.preprocessing.scale


class StatisticsBuilder:
  """Adds batches up to `SplitStatistics`, without cancellation."""

  def __init__(self, info: DatasetInfo):
    """Begins with no example."""
    self._largest = largest_value(info)
    self._shape = info.shape
    values = int(np.prod(info.shape))
    self._seen = self._constant = self._beyond = self._not_finite = 0
    # Of each value of an example, over the finite examples.
    self._count = 0
    self._mean, self._squares = np.zeros(values), np.zeros(values)
    self._minimum = np.full(values, np.inf)
    self._maximum = np.full(values, -np.inf)

  def add(self, features: np.ndarray) -> None:
    """Adds examples [n, *shape]."""
    rows = features.reshape(len(features), -1)
    step = max(_CHUNK_VALUES // max(rows.shape[1], 1), 1)
    for first in range(0, len(rows), step):
      self._add(rows[first : first + step])

  def _add(self, rows: np.ndarray) -> None:
    self._seen += len(rows)
    if rows.dtype.kind == "f":
      finite = np.isfinite(rows).all(axis=1)
      self._not_finite += len(rows) - np.count_nonzero(finite)
      rows = rows if finite.all() else rows[finite]
    if not rows.size:
      return
    if rows.shape[1] > 1:
      self._constant += np.count_nonzero((rows == rows[:, :1]).all(axis=1))
    low, high = rows.min(axis=0), rows.max(axis=0)
    if high.max() > self._largest or low.min() < -self._largest:
      self._beyond += np.count_nonzero((np.abs(rows) > self._largest).any(axis=1))
    np.minimum(self._minimum, low, out=self._minimum)
    np.maximum(self._maximum, high, out=self._maximum)
    values = rows.astype(np.float64)
    mean = values.mean(axis=0)
    values -= mean
    offset, count = mean - self._mean, self._count + len(rows)
    self._squares += np.einsum("ij,ij->j", values, values)
    self._squares += np.square(offset) * self._count * len(rows) / count
    self._mean += offset * len(rows) / count
    self._count = count

  def result(self) -> SplitStatistics:
    """Returns the statistics of what was added."""
    whole_mean = whole_deviation = None
    minimum = maximum = mean = deviation = np.zeros(0)
    if self._count:
      channels = self._shape[-1] if self._shape else 1
      minimum = self._minimum.reshape(-1, channels).min(axis=0)
      maximum = self._maximum.reshape(-1, channels).max(axis=0)
      mean, deviation = self._over(channels)
      whole_mean, whole_deviation = (float(each[0]) for each in self._over(1))
    return SplitStatistics(
      self._seen, minimum, maximum, mean, deviation, whole_mean, whole_deviation,
      self._constant, self._beyond, self._not_finite,
    )  # fmt: skip

  def _over(self, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns mean and deviation of each channel, from those of each value."""
    means = self._mean.reshape(-1, channels)
    variances = self._squares.reshape(-1, channels) / self._count
    variance = variances.mean(axis=0) + means.var(axis=0)
    return means.mean(axis=0), np.sqrt(variance)


def samples_per_class(num_classes: int) -> int:
  """Returns how many examples of a class are drawn in a picture of all."""
  return _SAMPLES_OF_FEW_CLASSES if num_classes <= _FEW_CLASSES else 1


class Sample:
  """Examples of each of the first classes, chosen by chance, each as likely."""

  def __init__(self, num_classes: int, generator: np.random.Generator):
    """Begins with no example; the same generator chooses the same examples."""
    self._generator = generator
    self._each = samples_per_class(num_classes)
    classes = min(num_classes, _DRAWN_CLASSES)
    self._kept: list[list[tuple[float, np.ndarray]]] = [[] for _ in range(classes)]

  def add(self, batch: Batch) -> None:
    """Looks at examples; those with the smallest random keys stay."""
    keys = self._generator.random(len(batch.labels))
    limits = np.full(int(batch.labels.max(initial=0)) + 1, -1.0)
    drawn = min(len(limits), len(self._kept))
    limits[:drawn] = [self._limit(label) for label in range(drawn)]
    for place in np.flatnonzero(keys < limits[batch.labels]).tolist():
      label, key = int(batch.labels[place]), float(keys[place])
      if key < self._limit(label):
        kept = self._kept[label]
        entry = (key, np.array(batch.features[place]))
        bisect.insort(kept, entry, key=operator.itemgetter(0))
        del kept[self._each :]

  def _limit(self, label: int) -> float:
    kept = self._kept[label]
    return kept[-1][0] if len(kept) == self._each else 1.0

  def result(self) -> list[np.ndarray]:
    """Returns the chosen examples of each of the first classes, [up to n, ...]."""
    return [np.array([example for _, example in kept]) for kept in self._kept]


class Observation:
  """What was seen of both splits, once they have been read.

  Attributes:
    rejected: Bad records of each split.
  """

  def __init__(self, info: DatasetInfo, seed: int, *, keeps_examples: bool):
    """Begins with nothing.

    Args:
      info: What is going to be read.
      seed: Which examples are kept comes from it.
      keeps_examples: Whether to keep training examples, for pictures.
    """
    self._statistics = {split: StatisticsBuilder(info) for split in SPLITS}
    self._sample: Optional[Sample] = None
    if keeps_examples:
      self._sample = Sample(info.num_classes, seeds.generator(seed, "inspection"))
    self.rejected: dict[str, list[BadRecord]] = {split: [] for split in SPLITS}

  def add(self, split: str, batch: Batch) -> None:
    """Looks at examples of a split."""
    self._statistics[split].add(batch.features)
    if split == TRAIN and self._sample is not None:
      self._sample.add(batch)

  def statistics(self) -> dict[str, SplitStatistics]:
    """Returns the statistics of each split."""
    return {split: each.result() for split, each in self._statistics.items()}

  def samples(self) -> list[np.ndarray]:
    """Returns examples of each class; see `Sample.result`."""
    return [] if self._sample is None else self._sample.result()


def observed(dataset: Dataset, observation: Observation, progress: Progress) -> Dataset:
  """Returns a dataset that can be read once, and is seen while it is.

  Args:
    dataset: Where examples come from.
    observation: Sees them.
    progress: Where long reading is shown.
  """

  def read(split: str, on_bad: OnBadRecord) -> Iterator[Batch]:
    def rejected(record: BadRecord) -> None:
      on_bad(record)
      observation.rejected[split].append(record)

    batches = scan.checked(dataset.read(split, rejected), dataset.info)
    with progress.counting(f"{dataset.info.name}: {split} examples read") as counter:
      count = 0
      for batch in batches:
        observation.add(split, batch)
        count += len(batch.labels)
        counter.advance_to(count)
        yield batch

  return dataclasses.replace(dataset, read=read)
