"""Writes a run's federated data, once, and opens them."""

import dataclasses
import json
import pathlib
from typing import Any, Optional

import numpy as np

from fedtiny_tff import tasks
from fedtiny_tff.data import client_store, examples, federation, partition_file
from fedtiny_tff.data.examples import TEST, TRAIN
from fedtiny_tff.errors import InputError
from pipelines.apps import damage, files
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
  """Writes the data, unless that was done before, and opens them.

  Raises:
    InputError: When they are damaged, their source changed while it was read, or they
      are others than `keep` noted.
  """
  if plan.written is None and not data_folder.is_written(folder):
    assert plan.unwritten is not None
    _write(plan, plan.unwritten, folder)
  data = data_folder.open_folder(folder) if plan.written is None else plan.written
  _check_noted(folder, _identity_of(data))
  return data


def keep(data: RunData, folder: pathlib.Path) -> None:
  """Notes beside a folder which data it holds, or stands for where they are prepared.

  Whoever removes the folder, or prepares others, gets these again or none.

  Raises:
    InputError: When others were noted before.
  """
  identity = _identity_of(data)
  _check_noted(folder, identity)
  if not _note(folder).exists():
    files.write_text(_note(folder), json.dumps(identity, indent=1) + "\n")


def _note(folder: pathlib.Path) -> pathlib.Path:
  return folder.with_name(f"{folder.name}.json")


def _identity_of(data: RunData) -> dict[str, Any]:
  folder = pathlib.Path(data.clients.path).parent
  return _identity(data_folder.read_description(folder)[1])


def _identity(document: dict[str, Any]) -> dict[str, Any]:
  """Returns what of a `dataset.json` says which data there are, and who has which."""
  names = (*(f"{name}.records" for name in data_folder.RECORDS), *data_folder.ARRAYS)
  return {
    "info": document["info"],
    "sha256": {name: document["files"][name]["sha256"] for name in names},
  }


def _check_noted(folder: pathlib.Path, identity: dict[str, Any]) -> None:
  """Raises `InputError` when `keep` noted other data, or its note is damaged."""
  path = _note(folder)
  if not path.exists():
    return
  try:
    noted = damage.parsed(path.read_text())
  except (OSError, ValueError) as error:
    raise InputError(
      f"{path}: cannot be read ({error}); delete it if the dataset is as it was"
    ) from error
  if noted != identity:
    raise InputError(
      f"{path}: says that other data were begun with, so the dataset has changed; bring "
      f"that back and delete {folder}, or begin anew with another --output_dir"
    )


def reopen(
  config: config_lib.RunConfig,
  folder: pathlib.Path,
  task: tasks.Task,
  progress: Optional[Progress] = None,
) -> RunData:
  """Opens a run's data, which are written again if somebody removed them.

  Raises:
    InputError: When they are damaged, gone together with the dataset, or it changed.
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
  document = data_folder.description(
    folder, info, plan.anomalies, _made(what), what.assignment
  )
  # Without a description they do not count as written.
  _check_noted(folder, _identity(document))
  files.write_text(
    folder / data_folder.DESCRIPTION, json.dumps(document, indent=1) + "\n"
  )


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
