"""Reads a dataset once, to tell what is in it: a source's, or one that was prepared."""

import dataclasses
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from fedtiny_tff import tasks
from fedtiny_tff.data import federation, scan
from fedtiny_tff.data.client_store import ClientStore
from fedtiny_tff.data.examples import TRAIN, Batch, Dataset, OnBadRecord
from fedtiny_tff.errors import InputError
from fedtiny_tff.models import registry as models
from pipelines.apps import damage
from pipelines.apps.progress import Progress
from pipelines.datasets import data_folder, data_inspection, data_plan
from pipelines.datasets.data_clients import Assigned
from pipelines.datasets.data_folder import RunData
from pipelines.datasets.data_inspection import Rejected
from pipelines.datasets.data_observation import Observation, observed
from pipelines.settings import config as config_lib
from pipelines.settings import data_config

_READ_BYTES = 1 << 25
_UNAVAILABLE = (
  "prepared data hold what the server and the clients got, and the test split; "
  "training examples that nobody got are in no figure",
  "of records that could not be used, only what was noted when the folder was written",
)


@dataclasses.dataclass(frozen=True)
class ReadData:
  """A dataset, read.

  Attributes:
    what: Its facts, and who gets what of it.
    observation: Where its values lie, and some examples.
    rejected: Records that could not be used.
    unavailable: What cannot be told of it, in sentences.
  """

  what: Assigned
  observation: Observation
  rejected: Rejected
  unavailable: tuple[str, ...] = ()

  def document(self) -> dict[str, Any]:
    """Returns its figures; see `data_inspection.inspect`."""
    statistics = self.observation.statistics()
    return data_inspection.inspect(
      self.what, statistics, self.rejected, self.unavailable
    )


def read(
  config: config_lib.RunConfig, progress: Progress, *, keeps_examples: bool
) -> ReadData:
  """Reads a dataset and assigns it as a run with these flags would.

  Args:
    config: The run's flags.
    progress: Where long reading is shown.
    keeps_examples: Whether examples are wanted for pictures.

  Raises:
    InputError: When it cannot be read or assigned.
  """
  opened = data_plan.open_dataset(config)
  observation = Observation(opened.info, config.seed, keeps_examples=keeps_examples)
  if opened.written is not None:
    return _read_folder(config, opened.written, observation, progress)
  assert opened.source is not None
  opened = dataclasses.replace(
    opened, source=observed(opened.source, observation, progress)
  )
  # Who names anomalies need not name a model too.
  task = models.task_of(config.model)
  task = tasks.RECONSTRUCT if config.anomaly_classes else task
  try:
    plan = data_plan.plan_data(config, opened, task)
  except InputError as error:
    bad = observation.rejected[TRAIN]
    if not bad or observation.statistics()[TRAIN].examples:
      raise
    raise InputError(f"{error}, the first: {bad[0]}") from error
  made = plan.unwritten
  assert made is not None
  what = Assigned(
    plan.info,
    made.found,
    made.federation,
    made.partitioner,
    made.client_ids,
    plan.anomalies,
    made.source.notes,
  )
  rejected = data_inspection.rejected(observation.rejected)
  return ReadData(what, observation, rejected)


def _read_folder(
  config: config_lib.RunConfig,
  folder: pathlib.Path,
  observation: Observation,
  progress: Progress,
) -> ReadData:
  _, description = data_folder.read_description(folder)
  data_config.check_assignment(config.values, description["assignment"], folder)
  data = data_folder.open_folder(folder).first_clients(config.num_clients)
  source = observed(_dataset(data), observation, progress)
  found = _with_owners(scan.scan(source), data.test_references)
  partitioner, duplicates, rejected = _made(folder, data.made)
  first = data.public.num_records + data.references[:, 1]
  middle = first + data.references[:, 2]
  last = middle + data.references[:, 3]
  assigned = federation.Federation(
    np.arange(data.public.num_records),
    tuple(map(np.arange, first, middle)),
    tuple(map(np.arange, middle, last)),
    np.arange(len(data.references)),
    duplicates,
  )
  what = Assigned(
    data.info, found, assigned, partitioner, data.client_ids, data.anomalies
  )
  return ReadData(what, observation, rejected, _UNAVAILABLE)


def _dataset(data: RunData) -> Dataset:
  """Returns the records of a folder: the public ones, then the clients'; the test's."""

  def read_split(split: str, on_bad: OnBadRecord) -> Iterator[Batch]:
    del on_bad  # There are none: they were left out.
    stores = (data.public, data.clients) if split == TRAIN else (data.test,)
    for store in stores:
      yield from _batches(store)

  return Dataset(data.info, read_split)


def _batches(store: ClientStore) -> Iterator[Batch]:
  """Streams a store's examples, as they are stored."""
  label_bytes = np.dtype(np.int64).itemsize
  step = max(_READ_BYTES // store.record_bytes, 1)
  for first in range(0, store.num_records, step):
    count = min(step, store.num_records - first)
    records = store.read(first, count).numpy()
    labels, features = (
      np.ascontiguousarray(part)
      for part in (records[:, :label_bytes], records[:, label_bytes:])
    )
    yield Batch(
      features.view(store.info.feature_type).reshape(count, *store.info.shape),
      labels.view("<i8").reshape(count),
    )


def _with_owners(found: scan.Scan, places: np.ndarray) -> scan.Scan:
  """Says who owns which test example: int [clients, 2], the first and how many."""
  first, counts = places.T
  total = int(counts.sum())
  if not total:
    return found
  owners = np.full(len(found.test), len(places), np.int32)
  before = np.cumsum(counts) - counts
  owned = np.repeat(first - before, counts) + np.arange(total)
  owners[owned] = np.repeat(np.arange(len(places)), counts)
  return dataclasses.replace(found, test=dataclasses.replace(found.test, owners=owners))


def _made(
  folder: pathlib.Path, made: dict[str, Any]
) -> tuple[str, federation.Duplicates, Rejected]:
  """Reads how a folder came about.

  Raises:
    InputError: When it does not say so.
  """
  try:
    bad, duplicates = made["bad_records"], made["duplicates_left_out"]
    nowhere = {"file": None, "record": None, "field": None}
    return (
      str(made["partitioner"]),
      federation.Duplicates(**{name: int(each) for name, each in duplicates.items()}),
      Rejected(
        None,
        int(bad["count"]),
        [{**nowhere, "reason": str(reason)} for reason in bad["first"]],
      ),
    )
  except damage.FORM as error:
    raise InputError(
      f"{folder / data_folder.DESCRIPTION}: does not say what was left out; write it "
      "again"
    ) from error
