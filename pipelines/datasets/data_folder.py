"""Federated data on disk, ready to be read by place.

`data/` of a run directory, or a folder that `pipelines.make_dataset` prepared, holds
the clients', the public and the test records; `clients.npy`, int64 [clients, 4]: the
fields of `ClientReference`; `test_clients.npy`, int64 [clients, 2]: where each
client's own test examples lie, first and how many; `client_ids.json`; `partition.json`,
which makes the same split elsewhere; and `dataset.json`, written last, which tells
what the others are and the SHA-256 of each.
"""

import dataclasses
import hashlib
import json
import math
import operator
import pathlib
from typing import Any

import numpy as np

from fedtiny_tff import tasks
from fedtiny_tff.data.client_store import ClientReference, ClientStore
from fedtiny_tff.data.examples import DatasetInfo
from fedtiny_tff.data.preprocessing import Preprocessing
from fedtiny_tff.data.sources import texts
from fedtiny_tff.errors import InputError
from pipelines.apps import damage, files

DESCRIPTION = "dataset.json"
FORMAT = "fedtiny-data"
_VERSION = 1
RECORDS = ("clients", "public", "test")
ARRAYS = ("clients.npy", "test_clients.npy")
CLIENT_IDS = "client_ids.json"
PARTITION = "partition.json"
_FILES = (*(f"{name}.records" for name in RECORDS), *ARRAYS, CLIENT_IDS, PARTITION)
# Above this the records' own checksums, one each, must do: hashing takes seconds.
_LARGEST_HASHED_BYTES = 1 << 30
_FRAMES_AT_A_TIME = 1 << 20
# Model inputs that are decoded at a time: what they are made of is several times as much.
_DECODED_BYTES = 64 << 20
# How a record begins in its file; see `client_store`.
_FRAME_START = np.dtype([("length", "<u8"), ("checksum", "<u4"), ("label", "<i8")])


@dataclasses.dataclass(frozen=True)
class RunData:
  """A run's data, ready to be read by place.

  Attributes:
    info: Static facts of the dataset.
    clients: Records of all clients.
    references: int64 [clients, 4], where each client's records lie.
    public: The server's samples, taken from the training split.
    test: The test split, for final figures only.
    test_references: int64 [clients, 2], first record and count of each client's own
      test examples; counts are 0 where the test split names no owners.
    client_ids: Name of each client.
    anomalies: Labels that nobody trains on, because they are what a model is to find;
      empty for classification.
    made: How the data came about: the assignment's flags, what was left out.
  """

  info: DatasetInfo
  clients: ClientStore
  references: np.ndarray
  public: ClientStore
  test: ClientStore
  test_references: np.ndarray
  client_ids: tuple[str, ...]
  anomalies: tuple[int, ...] = ()
  made: dict[str, Any] = dataclasses.field(default_factory=dict)

  def reference(self, client: int) -> ClientReference:
    """Returns where a client's records lie."""
    return ClientReference(*self.references[client])

  def first_clients(self, count: int) -> "RunData":
    """Returns the data with the first clients only; 0 means all.

    Raises:
      InputError: When there are fewer.
    """
    known = len(self.references)
    if count > known:
      raise InputError(
        f"--num_clients={count}, but dataset {self.info.name} has {known} clients; 0 "
        "takes all"
      )
    if count in (0, known):
      return self
    return dataclasses.replace(
      self,
      references=self.references[:count],
      test_references=self.test_references[:count],
      client_ids=self.client_ids[:count],
    )

  def summary(self) -> dict[str, Any]:
    """Returns the `dataset` part of `report.json`."""
    sizes = self.references[:, 2:].sum(axis=1)
    facts = {
      "name": self.info.name,
      "input_shape": list(self.info.shape),
      "classes": list(self.info.class_names),
      "anomaly_classes": [self.info.class_names[label] for label in self.anomalies],
      "clients": len(self.references),
      "training_examples": int(self.references[:, 2].sum()),
      "development_examples": int(self.references[:, 3].sum()),
      "public_examples": self.public.num_records,
      "test_examples": self.test.num_records,
      "smallest_client": int(sizes.min()),
      "largest_client": int(sizes.max()),
    }
    # What others prepared may say anything, but nothing else about these.
    return facts | self.made | facts


def read_all(store: ClientStore) -> tuple[np.ndarray, np.ndarray]:
  """Reads a whole store: float32 [n, ...] model inputs and int64 [n] labels."""
  features = np.empty([store.num_records, *store.info.shape], np.float32)
  labels = np.empty(store.num_records, np.int64)
  step = max(_DECODED_BYTES // (4 * math.prod(store.info.shape)), 1)
  for first in range(0, store.num_records, step):
    part = slice(first, min(first + step, store.num_records))
    features[part], labels[part] = store.decode(store.read(first, part.stop - first))
  return features, labels


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


def is_written(folder: pathlib.Path) -> bool:
  """Tells whether a folder holds all of it."""
  # Written last: its presence says that the others are whole.
  return (folder / DESCRIPTION).exists() and (folder / ARRAYS[0]).exists()


def _checksum(path: pathlib.Path) -> str:
  with path.open("rb") as file:
    return hashlib.file_digest(file, "sha256").hexdigest()


def description(
  folder: pathlib.Path,
  info: DatasetInfo,
  anomalies: tuple[int, ...],
  made: dict[str, Any],
  assignment: dict[str, Any],
) -> dict[str, Any]:
  """Returns what `dataset.json` is to say, which is written after everything else.

  Args:
    folder: With everything else.
    info: Static facts of the dataset.
    anomalies: Labels that nobody trains on.
    made: How the data came about, for reports.
    assignment: The flags that decided who gets what.
  """
  return {
    "format": FORMAT,
    "version": _VERSION,
    "info": {
      "name": info.name,
      "shape": list(info.shape),
      "feature_type": info.feature_type,
      "class_names": list(info.class_names),
      "preprocessing": info.preprocessing.to_json(),
      **({"columns": list(info.columns)} if info.columns else {}),
    },
    "anomalies": list(anomalies),
    "made": made,
    "assignment": assignment,
    "files": {
      name: {
        "bytes": (folder / name).stat().st_size,
        "sha256": _checksum(folder / name),
      }
      for name in _FILES
    },
  }


def _check_files(folder: pathlib.Path, stated: dict[str, Any]) -> None:
  """Makes sure that every file is as it was written.

  Raises:
    InputError: Naming the file that is not.
  """
  for name in _FILES:
    path, facts = folder / name, stated[name]
    if not files.is_inside(path, folder):
      raise InputError(f"{path}: is a link that leads out of {folder}; copy the file")
    size = path.stat().st_size
    is_whole = size == facts["bytes"] and (
      size > _LARGEST_HASHED_BYTES or _checksum(path) == facts["sha256"]
    )
    if not is_whole:
      raise InputError(f"{path}: altered or truncated; delete {folder} and run again")


def _check_facts(
  info: DatasetInfo, anomalies: tuple[int, ...], stated: dict[str, Any]
) -> None:
  """Raises `ValueError` when facts cannot be those of the files beside them."""
  if not info.shape or min(info.shape) < 1:
    raise ValueError(f"shape is {list(info.shape)}")
  if len(info.preprocessing.mean) not in (1, info.shape[-1]):
    raise ValueError(
      f"{len(info.preprocessing.mean)} means for {info.shape[-1]} channels"
    )
  if any(not 0 <= label < info.num_classes for label in anomalies):
    raise ValueError(f"anomalies are {list(anomalies)}")
  size = ClientStore("", info, 0).stored_record_bytes
  for name in RECORDS:
    if stated[f"{name}.records"]["bytes"] % size:
      raise ValueError(f"{name}.records holds other examples than {list(info.shape)}")


def _columns(names: Any) -> tuple[str, ...]:
  """Checks a table's columns, which may come from anybody; raises `ValueError`."""
  if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
    raise ValueError("columns is no list of names")
  return tuple(names)


def read_description(folder: pathlib.Path) -> tuple[DatasetInfo, dict[str, Any]]:
  """Reads `dataset.json`.

  Returns:
    The dataset's facts, and the whole document.

  Raises:
    InputError: When it is damaged.
  """
  path = folder / DESCRIPTION
  try:
    document = damage.parsed(path.read_text())
    if document["format"] != FORMAT or document["version"] != _VERSION:
      raise ValueError(f"not {FORMAT}, version {_VERSION}")
    info = document["info"]
    facts = DatasetInfo(
      _names("name", [info["name"]])[0],
      tuple(int(size) for size in info["shape"]),
      {"uint8": "uint8", "float32": "float32"}[info["feature_type"]],
      _names("class_names", info["class_names"]),
      Preprocessing.from_json(info["preprocessing"]),
      _columns(info.get("columns", [])),
    )
    for member in ("made", "assignment", "files"):
      if not isinstance(document[member], dict):
        raise ValueError(f"{member} is no object")
    # The report's page counts with it.
    operator.index(document["made"].get("bad_records", {"count": 0})["count"])
    document["anomalies"] = tuple(int(label) for label in document["anomalies"])
    _check_facts(facts, document["anomalies"], document["files"])
    return facts, document
  except (*damage.FORM, OSError) as error:
    raise InputError(
      f"{path}: cannot be read ({error}); delete {folder} and run again"
    ) from error


def open_folder(folder: pathlib.Path) -> RunData:
  """Opens data that were written.

  Records stay on the disk; what is held is an index of 48 bytes a client, mapped
  from its file, and the clients' names.

  Raises:
    InputError: When a file is missing or altered.
  """
  info, document = read_description(folder)
  try:
    _check_files(folder, document["files"])
    client_ids = _names(CLIENT_IDS, json.loads((folder / CLIENT_IDS).read_text()))
    if not client_ids:
      raise ValueError(f"{CLIENT_IDS} names no client")
    references, test_references = (
      np.load(folder / name, mmap_mode="r", allow_pickle=False) for name in ARRAYS
    )
    clients, public, test = (
      _store(folder / f"{name}.records", info) for name in RECORDS
    )
    _check_places(ARRAYS[0], references, len(client_ids), 4, clients)
    _check_places(ARRAYS[1], test_references, len(client_ids), 2, test)
  except damage.ARCHIVE as error:
    if isinstance(error, InputError):
      raise
    raise InputError(
      f"{folder}: cannot be read ({error}); delete it and run again"
    ) from error
  return RunData(
    info, clients, references, public, test, test_references, client_ids,
    document["anomalies"], dict(document["made"]),
  )  # fmt: skip


def _names(where: str, names: Any) -> tuple[str, ...]:
  """Checks names, which may come from anybody; raises `ValueError`."""
  if not isinstance(names, list):
    raise ValueError(f"{where} holds no list")
  for name in names:
    # There may be millions, almost all of them plain.
    is_plain = isinstance(name, str) and name.isascii() and name.isprintable()
    problem = None if is_plain and name else texts.problem_of_name(name)
    if problem is not None:
      raise ValueError(f"{where}: a name {problem}")
  return tuple(names)


def _check_places(
  name: str, places: np.ndarray, clients: int, columns: int, store: ClientStore
) -> None:
  """Raises `ValueError` unless places are int64 [clients, columns] in a store.

  The last columns, up to three, are the first record and counts.
  """
  if places.dtype != np.int64 or places.shape != (clients, columns):
    raise ValueError(
      f"{name} is {places.dtype} {list(places.shape)}, not int64 [{clients}, {columns}]"
    )
  # So that no sum of them overflows.
  if places.size and not 0 <= places.min() <= places.max() < 2**60:
    raise ValueError(f"{name} names impossible places")
  if places[:, -3:].sum(axis=1).max(initial=0) > store.num_records:
    raise ValueError(f"{name} names records beyond the {store.num_records} there are")


def _store(path: pathlib.Path, info: DatasetInfo) -> ClientStore:
  # Workers elsewhere have another working directory.
  probe = ClientStore(str(path.absolute()), info, 0)
  size = path.stat().st_size
  store = dataclasses.replace(probe, num_records=size // probe.stored_record_bytes)
  if 0 < size <= _LARGEST_HASHED_BYTES:
    _check_records(path, store)
  return store


def _check_records(path: pathlib.Path, store: ClientStore) -> None:
  """Raises `ValueError` unless records have the length they state, and known labels.

  TensorFlow believes the length that a record states, and ends the process where
  there is not so much memory; a label beyond the classes ends it in some later round.
  """
  shape = (store.num_records, store.stored_record_bytes)
  stored = np.memmap(path, np.uint8, "r", shape=shape)
  for first in range(0, len(stored), _FRAMES_AT_A_TIME):
    starts = stored[first : first + _FRAMES_AT_A_TIME, : _FRAME_START.itemsize]
    frames = np.ascontiguousarray(starts).view(_FRAME_START)[:, 0]
    wrong = np.flatnonzero(frames["length"] != store.record_bytes)
    if len(wrong):
      raise ValueError(f"{path.name}: record {first + wrong[0]} has another length")
    labels = frames["label"]
    wrong = np.flatnonzero((labels < 0) | (labels >= store.info.num_classes))
    if len(wrong):
      raise ValueError(
        f"{path.name}: record {first + wrong[0]} has label {labels[wrong[0]]}, not one "
        f"of {store.info.num_classes} classes"
      )
