"""A small dataset, read and shared out, whose figures can be worked out by hand.

Training examples are pairs; by index:

  0 (0, 0) a    1 (2, 4) a    2 (2, 4) b    3 (8, 2) b    4 (6, 6) a    5 (4, 0) a
  6 (1, 2) b    7 (8, 2) b

Test examples: (8, 2) b and (5, 7) a. Nobody has class c. Example 4 is public, client
x trains on 0 and 1 and holds out 5, client y trains on 2 and 6; 3 and 7 are a test
example, and left out.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Optional

import numpy as np

from fedtiny_tff.data import examples, federation, scan
from fedtiny_tff.data.examples import TEST, TRAIN
from fedtiny_tff.data.preprocessing import Preprocessing
from pipelines.apps.progress import Progress
from pipelines.datasets import data_inspection
from pipelines.datasets.data_clients import Assigned
from pipelines.datasets.data_observation import Observation, observed

INFO = examples.DatasetInfo(
  "pairs", (2,), "uint8", ("a", "b", "c"), Preprocessing(1 / 8, (0.0,), (1.0,))
)
FEATURES = {
  TRAIN: [(0, 0), (2, 4), (2, 4), (8, 2), (6, 6), (4, 0), (1, 2), (8, 2)],
  TEST: [(8, 2), (5, 7)],
}
LABELS = {TRAIN: [0, 0, 1, 1, 0, 0, 1, 1], TEST: [1, 0]}
FEDERATION = federation.Federation(
  public=np.array([4]),
  training=(np.array([0, 1]), np.array([2, 6])),
  development=(np.array([5]), np.array([], np.int64)),
  clients=np.arange(2),
  duplicates=federation.Duplicates(of_test=2),
)


def dataset(
  info: examples.DatasetInfo = INFO,
  features: Mapping[str, Any] = FEATURES,
  labels: Mapping[str, Any] = LABELS,
  batch: int = 3,
) -> examples.Dataset:
  """Returns a dataset that is streamed in small batches."""

  def read(split, on_bad_record):
    rows = np.array(features[split], info.feature_type).reshape(-1, *info.shape)
    numbers = np.array(labels[split], np.int64)
    for first in range(0, len(rows), batch):
      part = slice(first, first + batch)
      yield examples.Batch(rows[part], numbers[part])

  return examples.Dataset(info, read)


def inspect(
  source: Optional[examples.Dataset] = None,
  assigned: federation.Federation = FEDERATION,
  *,
  owners: Optional[list[int]] = None,
  anomalies: tuple[int, ...] = (),
  bad: int = 0,
) -> dict[str, Any]:
  """Returns the document of a dataset, the one above by default."""
  source = source or dataset()
  seen = Observation(source.info, 0, keeps_examples=False)
  found = scan.scan(observed(source, seen, Progress()))
  if owners is not None:
    test = dataclasses.replace(found.test, owners=np.array(owners, np.int32))
    found = dataclasses.replace(found, test=test)
  records = [examples.BadRecord("a.csv", row, "x", "is empty") for row in range(bad)]
  what = Assigned(source.info, found, assigned, "natural", ("x", "y"), anomalies)
  rejected = data_inspection.rejected({TRAIN: records, TEST: []})
  return data_inspection.inspect(what, seen.statistics(), rejected)
