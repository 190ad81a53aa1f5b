"""Writes a run's federated data, once, and reads it back.

`data/` of a run directory holds the clients', the public and the test records
`clients.npy`, int64 [clients, 4]: the fields of `ClientReference`, and the SHA-256 of
each.
"""

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from fedtiny_tff import tasks
from fedtiny_tff.data import client_store, examples, partition, sources
from fedtiny_tff.data.client_store import ClientReference, ClientStore
from fedtiny_tff.errors import InputError
from pipelines import anomalies, files
from pipelines import config as config_lib

_FILES = ("clients.records", "public.records", "test.records", "clients.npy")
_CHECKSUMS = "checksums.json"


@dataclasses.dataclass(frozen=True)
class RunData:
  """A run's data, ready to be read by place.

  Attributes:
    info: Static facts of the dataset.
    clients: Records of all clients.
    references: int64 [clients, 4], where each client's records lie.
    public: The server's samples, taken from the training split.
    test: The test split, for final figures only.
    anomalies: Labels that nobody trains on, because they are what a model is to find;
      empty for classification.
  """

  info: examples.DatasetInfo
  clients: ClientStore
  references: np.ndarray
  public: ClientStore
  test: ClientStore
  anomalies: tuple[int, ...] = ()

  def reference(self, client: int) -> ClientReference:
    """Returns where a client's records lie."""
    return ClientReference(*self.references[client])

  def summary(self) -> dict[str, Any]:
    """Returns the `dataset` part of `report.json`."""
    return {
      "name": self.info.name,
      "input_shape": list(self.info.shape),
      "classes": list(self.info.class_names),
      "anomaly_classes": [self.info.class_names[label] for label in self.anomalies],
      "clients": len(self.references),
      "training_examples": int(self.references[:, 2].sum()),
      "development_examples": int(self.references[:, 3].sum()),
      "public_examples": self.public.num_records,
      "test_examples": self.test.num_records,
      "smallest_client": int(self.references[:, 2:].sum(axis=1).min()),
      "largest_client": int(self.references[:, 2:].sum(axis=1).max()),
    }


def read_all(store: ClientStore) -> tuple[np.ndarray, np.ndarray]:
  """Reads a whole store: float32 [n, ...] model inputs and int64 [n] labels."""
  features, labels = store.decode(store.read(0, store.num_records))
  return features.numpy(), labels.numpy()


def read_test(data: RunData, task: tasks.Task) -> tuple[np.ndarray, np.ndarray]:
  """Reads the test split as a task judges it.

  Returns:
    float32 [n, ...] model inputs; and int64 [n]: classes, or where there are none,
    1 for an anomaly and 0 for a normal example.
  """
  inputs, labels = read_all(data.test)
  if not task.has_classes:
    labels = np.isin(labels, data.anomalies).astype(np.int64)
  return inputs, labels


def _write(
  path: pathlib.Path,
  examples_: Iterable[examples.Example],
  order: np.ndarray,
  info: examples.DatasetInfo,
) -> None:
  with files.replacing(path) as file:
    client_store.write_records(file, examples_, order, info)


@dataclasses.dataclass(frozen=True)
class DataPlan:
  """A dataset and who gets what of it; nothing is written yet.

  Attributes:
    dataset: The examples.
    federation: Which training example belongs to whom.
    anomalies: Labels that belong to nobody.
  """

  dataset: examples.Dataset
  federation: partition.Federation
  anomalies: tuple[int, ...] = ()


def load_dataset(config: config_lib.RunConfig) -> examples.Dataset:
  """Opens the dataset.

  Raises:
    InputError: When files are missing.
  """
  return sources.load(config.dataset, config.data_dir)


def plan_data(
  config: config_lib.RunConfig, dataset: examples.Dataset, task: tasks.Task
) -> DataPlan:
  """Assigns the training split; anomalies are left out of it.

  Raises:
    InputError: When the split cannot be made.
  """
  left_out = anomalies.anomaly_labels(config.anomaly_classes, dataset.info, task)
  federation = partition.federate(
    dataset.labels,
    partitioner=config.partitioner,
    num_clients=config.num_clients,
    alpha=config.dirichlet_alpha,
    public_per_class=config.public_samples_per_class,
    seed=config.seed,
    left_out=left_out,
  )
  return DataPlan(dataset, federation, left_out)


def is_written(folder: pathlib.Path) -> bool:
  """Tells whether a folder holds all records."""
  # Written last: its presence says that the others are whole.
  return (folder / "clients.npy").exists() and (folder / _CHECKSUMS).exists()


def write_data(plan: DataPlan, folder: pathlib.Path) -> RunData:
  """Writes the records, unless that was done before, and opens them."""
  dataset, federation = plan.dataset, plan.federation
  if not is_written(folder):
    order = client_store.client_order(federation)
    _write(folder / "clients.records", dataset.train(), order, dataset.info)
    _write(
      folder / "public.records", dataset.train(), federation.public, dataset.info
    )
    test = np.arange(sum(1 for _ in dataset.test()))
    _write(folder / "test.records", dataset.test(), test, dataset.info)
    with files.replacing(folder / "clients.npy") as file:
      np.save(file, np.asarray(client_store.references(federation), np.int64))
    sums = {name: _checksum(folder / name) for name in _FILES}
    files.write_text(folder / _CHECKSUMS, json.dumps(sums, indent=2) + "\n")
  return open_data(plan, folder)


def _checksum(path: pathlib.Path) -> str:
  with path.open("rb") as file:
    return hashlib.file_digest(file, "sha256").hexdigest()


def _check_files(folder: pathlib.Path) -> None:
  """Makes sure that every file is as it was written.

  Raises:
    InputError: Naming the file that is not.
  """
  try:
    sums = json.loads((folder / _CHECKSUMS).read_text())
    for name in _FILES:
      if _checksum(folder / name) != sums[name]:
        raise InputError(
          f"{folder / name}: altered or truncated; delete {folder} and run again"
        )
  except (OSError, ValueError, KeyError, TypeError) as error:
    if isinstance(error, InputError):
      raise
    raise InputError(
      f"{folder}: cannot be read ({error}); delete it and run again"
    ) from error


def open_data(plan: DataPlan, folder: pathlib.Path) -> RunData:
  """Opens data that `write_data` wrote.

  Raises:
    InputError: When a file is missing or altered.
  """
  _check_files(folder)
  info = plan.dataset.info

  def store(name: str) -> ClientStore:
    path = folder / f"{name}.records"
    probe = ClientStore(str(path), info, 0)
    return dataclasses.replace(
      probe, num_records=path.stat().st_size // probe.stored_record_bytes
    )

  references = np.load(folder / "clients.npy", mmap_mode="r", allow_pickle=False)
  return RunData(
    info, store("clients"), references, store("public"), store("test"), plan.anomalies
  )
