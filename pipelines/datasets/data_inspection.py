"""Figures of a dataset and of who gets what of it, as a JSON document and in sentences.

All functions are pure: what reading found goes in.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Optional

import numpy as np

from fedtiny_tff.data import scan
from fedtiny_tff.data.examples import SPLITS, TEST, TRAIN, BadRecord, DatasetInfo
from pipelines.datasets import data_clients, data_warnings
from pipelines.datasets.data_clients import Assigned
from pipelines.datasets.data_observation import SplitStatistics, largest_value

FORMAT = "fedtiny-data-inspection"
_VERSION = 1
_NAMED_RECORDS = 20
_SHOWN_CHANNELS = 64


@dataclasses.dataclass(frozen=True)
class Rejected:
  """Records that could not be used.

  Attributes:
    count: Of each split; None where only the sum is known.
    total: Of both.
    first: Some of them: the fields of a `BadRecord`, as far as they are known.
  """

  count: Optional[Mapping[str, int]]
  total: int
  first: Sequence[Mapping[str, Any]]


def rejected(found: Mapping[str, Sequence[BadRecord]]) -> Rejected:
  """Names the first bad records of both splits, and counts them all."""
  everything = [record for split in SPLITS for record in found[split]]
  return Rejected(
    {split: len(found[split]) for split in SPLITS},
    len(everything),
    [dataclasses.asdict(record) for record in everything[:_NAMED_RECORDS]],
  )


def class_weights(counts: np.ndarray, wanted: np.ndarray) -> np.ndarray:
  """Weighs classes so that the wanted ones count alike.

  Args:
    counts: Examples of each class, int [classes].
    wanted: Classes that somebody may train on, bool [classes].

  Returns:
    n / (classes * examples of the class), of the wanted ones; 0 for a class without
    examples and for the others.
  """
  weighed = (counts > 0) & wanted
  scale = counts[wanted].sum() / max(np.count_nonzero(wanted), 1)
  return np.divide(scale, counts, out=np.zeros(len(counts)), where=weighed)


def inspect(
  what: Assigned,
  statistics: Mapping[str, SplitStatistics],
  left_out: Rejected,
  unavailable: Sequence[str] = (),
) -> dict[str, Any]:
  """Returns the document.

  Args:
    what: The dataset, and who gets what of it.
    statistics: Of each split.
    left_out: Records that could not be used.
    unavailable: What cannot be told of this dataset, in sentences.
  """
  info, found = what.info, what.found
  splits = {
    TRAIN: _split(found.train, found.test, statistics[TRAIN], info),
    TEST: _split(found.test, found.train, statistics[TEST], info),
  }
  document = {
    "format": FORMAT,
    "version": _VERSION,
    "dataset": _dataset(what),
    "rejected": {
      "count": left_out.total,
      "by_split": None if left_out.count is None else dict(left_out.count),
      "first": [dict(record) for record in left_out.first],
    },
    "splits": splits,
    "missing_classes": {
      split: _names(info, np.array(splits[split]["examples_by_class"]) == 0)
      for split in SPLITS
    },
    "class_weights": class_weights(
      np.array(splits[TRAIN]["examples_by_class"]), what.wanted_classes
    ).tolist(),
    "public": _public(what),
    "clients": data_clients.figures(what),
    "nobodys_training_examples": _nobodys(what),
    "duplicates_left_out": dataclasses.asdict(what.federation.duplicates),
    "notes": list(what.notes),
    "unavailable": list(unavailable),
  }
  document["warnings"] = data_warnings.of(document)
  return document


def _dataset(what: Assigned) -> dict[str, Any]:
  info = what.info
  return {
    "name": info.name,
    "shape": list(info.shape),
    "feature_type": info.feature_type,
    "classes": list(info.class_names),
    "anomaly_classes": [info.class_names[label] for label in what.anomalies],
    "preprocessing": info.preprocessing.to_json(),
    "preprocessing_in_words": info.preprocessing.in_words(),
    "largest_value_expected": round(largest_value(info), 3),
  }


def _names(info: DatasetInfo, chosen: np.ndarray) -> list[str]:
  return [info.class_names[label] for label in np.flatnonzero(chosen)]


def _share(part: int, whole: int) -> float:
  return part / whole if whole else 0.0


def _split(
  split: scan.SplitFacts,
  other: scan.SplitFacts,
  seen: SplitStatistics,
  info: DatasetInfo,
) -> dict[str, Any]:
  count = len(split)
  contents, first, places = np.unique(
    split.contents, return_index=True, return_inverse=True
  )
  repeats = count - len(contents)
  elsewhere = int(np.count_nonzero(np.isin(split.contents, other.contents)))
  # Compared with the label that the same features have where they first occur.
  contradictory = np.count_nonzero(split.labels != split.labels[first][places])
  return {
    "examples": count,
    "examples_by_class": np.bincount(split.labels, minlength=info.num_classes).tolist(),
    "features": _features(seen),
    "duplicates": {
      "within": repeats,
      "within_share": _share(repeats, count),
      "with_another_label": int(contradictory),
      "in_other_split": elsewhere,
      "in_other_split_share": _share(elsewhere, count),
    },
  }


def _features(seen: SplitStatistics) -> dict[str, Any]:
  has_values = seen.whole_mean is not None
  channels = len(seen.minimum)
  return {
    "minimum": float(seen.minimum.min()) if has_values else None,
    "maximum": float(seen.maximum.max()) if has_values else None,
    "mean": seen.whole_mean,
    "deviation": seen.whole_deviation,
    "channels": channels,
    "by_channel": [
      {
        "minimum": float(seen.minimum[channel]),
        "maximum": float(seen.maximum[channel]),
        "mean": float(seen.mean[channel]),
        "deviation": float(seen.deviation[channel]),
      }
      for channel in range(min(channels, _SHOWN_CHANNELS))
    ],
    "constant_channels": np.flatnonzero(seen.minimum == seen.maximum).tolist(),
    "constant_examples": seen.constant_examples,
    "examples_beyond_expected": seen.beyond_range,
    "examples_not_finite": seen.not_finite,
  }


def _public(what: Assigned) -> dict[str, Any]:
  labels = what.found.train.labels[what.federation.public]
  return {
    "examples": len(labels),
    "examples_by_class": np.bincount(labels, minlength=what.info.num_classes).tolist(),
  }


def _nobodys(what: Assigned) -> int:
  """Counts training examples that neither the server nor a client holds."""
  held = int(data_clients.client_sizes(what.federation).sum())
  return len(what.found.train) - held - len(what.federation.public)
