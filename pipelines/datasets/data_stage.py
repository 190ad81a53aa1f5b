"""Writes a run's federated data, once, and opens them."""

import dataclasses
import json
import pathlib
from typing import Any, Optional

import numpy as np

from fedtiny_tff import tasks
from fedtiny_tff.data import client_store, examples, federation, partition_file
from fedtiny_tff.data.examples import TEST, TRAIN
from pipelines.apps import files
from pipelines.apps.progress import Progress
from pipelines.datasets import data_folder
from pipelines.datasets.data_folder import RunData
from pipelines.datasets.data_plan import (
  DataPlan,
  Unwritten,
  open_dataset,
  plan_data,
)
from pipelines.settings import config as config_lib

# Bad records that are named; the others are counted.
_NAMED_BAD_RECORDS = 20


def write_data(plan: DataPlan, folder: pathlib.Path) -> RunData:
  """Writes the data, unless that was done before, and opens them."""
  if plan.written is not None:
    return plan.written
  if not data_folder.is_written(folder):
    assert plan.unwritten is not None
    _write(plan, plan.unwritten, folder)
  return data_folder.open_folder(folder)


def reopen(
  config: config_lib.RunConfig,
  folder: pathlib.Path,
  task: tasks.Task,
  progress: Optional[Progress] = None,
) -> RunData:
  """Opens a run's data, which are written again if somebody removed them.

  Raises:
    InputError: When they are damaged, or gone together with the dataset.
  """
  plan = plan_data(config, open_dataset(config, folder), task, progress)
  return write_data(plan, folder)


def _write(plan: DataPlan, what: Unwritten, folder: pathlib.Path) -> None:
  info = plan.info
  assigned, found = what.federation, what.found
  order = client_store.client_order(assigned)
  test_order, test_places = federation.test_order(
    what.test_owners, len(found.test), assigned.clients
  )
  with (
    files.replacing(folder / "clients.records") as clients,
    files.replacing(folder / "public.records") as public,
  ):
    writers = [
      client_store.RecordWriter(clients, order, info),
      client_store.RecordWriter(public, assigned.public, info),
    ]
    _write_split(what, TRAIN, writers)
  with files.replacing(folder / "test.records") as test:
    _write_split(what, TEST, [client_store.RecordWriter(test, test_order, info)])
  for name, array in zip(
    data_folder.ARRAYS, (client_store.references(assigned), test_places), strict=True
  ):
    with files.replacing(folder / name) as file:
      np.save(file, array)
  files.write_text(folder / data_folder.CLIENT_IDS, json.dumps(what.client_ids) + "\n")
  files.write_text(folder / data_folder.PARTITION, saved_partition(info, what))
  data_folder.describe(folder, info, plan.anomalies, _made(what), what.assignment)


def _write_split(
  what: Unwritten, split: str, writers: list[client_store.RecordWriter]
) -> None:
  for batch in what.read(split):
    for writer in writers:
      writer.add(batch)
  for writer in writers:
    writer.finish()


def saved_partition(info: examples.DatasetInfo, what: Unwritten) -> str:
  """Returns the text of a partition file that makes the same split again."""
  return partition_file.to_text(
    partition_file.SavedPartition(
      info.name,
      len(what.found.train),
      what.found.content_sha256,
      what.federation.public,
      what.client_ids,
      what.federation.training,
      what.federation.development,
    )
  )


def _made(what: Unwritten) -> dict[str, Any]:
  """Returns how data came about, for the report."""
  bad = what.found.bad_records
  return {
    "partitioner": what.partitioner,
    "bad_records": {
      "count": len(bad),
      "first": [str(record) for record in bad[:_NAMED_BAD_RECORDS]],
    },
    "duplicates_left_out": dataclasses.asdict(what.federation.duplicates),
  }
