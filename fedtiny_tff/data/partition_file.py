"""Partition files: who holds which training example, as text that others can reuse.

JSON of format "fedtiny-partition", version 1:

  {"format": "fedtiny-partition", "version": 1, "dataset": its name,
   "train_examples": N, "content_sha256": digest of all training examples in order,
   "public": [indices], "clients": [{"id": name, "training": [indices],
   "development": [indices]}, ...]}

Indices are places in the training split, from 0, and occur once at most in the whole
file. Each client trains on one at least.
"""

import dataclasses
import itertools
import json
import re
from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np

from fedtiny_tff.arrays import Array
from fedtiny_tff.data.sources import texts
from fedtiny_tff.errors import InputError

FORMAT = "fedtiny-partition"
VERSION = 1
_KEYS = (
  "format", "version", "dataset", "train_examples", "content_sha256", "public",
  "clients",
)  # fmt: skip
_CLIENT_KEYS = ("id", "training", "development")
_MOST_EXAMPLES = 2**40
_SHOWN_CHARACTERS = 40
_WAY_OUT = "give a partition.json that a run wrote, as it is"


@dataclasses.dataclass(frozen=True)
class SavedPartition:
  """A split of a training split; all index arrays are disjoint.

  Attributes:
    dataset: Name of the dataset.
    train_examples: Examples of its training split, N.
    content_sha256: Digest of all of them, in order, in hexadecimal.
    public: int64, indices of the server's samples.
    client_ids: Name of each client, all different.
    training: Per client, int64 indices that it trains on; at least one.
    development: Per client, int64 indices that it holds out.
  """

  dataset: str
  train_examples: int
  content_sha256: str
  public: Array
  client_ids: tuple[str, ...]
  training: tuple[Array, ...]
  development: tuple[Array, ...]


def to_text(saved: SavedPartition) -> str:
  """Returns the text of a partition file: one line of ASCII."""
  clients = [
    {"id": name, "training": training.tolist(), "development": development.tolist()}
    for name, training, development in zip(
      saved.client_ids, saved.training, saved.development, strict=True
    )
  ]
  document = {
    "format": FORMAT,
    "version": VERSION,
    "dataset": saved.dataset,
    "train_examples": saved.train_examples,
    "content_sha256": saved.content_sha256,
    "public": saved.public.tolist(),
    "clients": clients,
  }
  return json.dumps(document, separators=(",", ":")) + "\n"


def from_text(text: str, path: str) -> SavedPartition:
  """Reads the text of a partition file, which may come from anybody.

  Args:
    text: What the file holds.
    path: Its name, for messages.

  Returns:
    What it says, with each part's indices sorted.

  Raises:
    InputError: When it is not a valid partition.
  """
  return _Reader(path).partition(text)


def check(
  saved: SavedPartition, dataset_name: str, train_examples: int, content_sha256: str
) -> None:
  """Holds a partition against the data it is to be used for.

  Args:
    saved: What a file says.
    dataset_name: Name of the dataset.
    train_examples: Examples of its training split.
    content_sha256: Digest of all of them, in order.

  Raises:
    InputError: When the partition was made for other data.
  """
  if saved.dataset != dataset_name:
    found = f"dataset {_shown(saved.dataset)}, this is {_shown(dataset_name)}"
  elif saved.train_examples != train_examples:
    found = (
      f"{saved.train_examples} training examples, {dataset_name} has {train_examples} "
      "here"
    )
  elif saved.content_sha256 != content_sha256:
    found = f"other training examples than those of {dataset_name} here, or their order"
  else:
    return
  raise InputError(
    f"--partition_file: was made for {found}; give the partition.json of a run on the "
    "same data, or leave the flag out"
  )


def _shown(value: Any) -> str:
  """Returns a value in one short line; containers may be too deep to be shown."""
  if isinstance(value, list):
    return "a list"
  if isinstance(value, dict):
    return "an object"
  shown = ascii(value)
  return shown if len(shown) <= _SHOWN_CHARACTERS else shown[:_SHOWN_CHARACTERS] + "..."


def _part_name(part: int) -> str:
  """Names one of the index lists: public, then two of each client."""
  if part == 0:
    return "public"
  client, kind = divmod(part - 1, 2)
  return f"clients[{client}].{_CLIENT_KEYS[1 + kind]}"


class _Reader:
  """Checks one file; every message names it."""

  def __init__(self, path: str):
    self._path = path

  def _refuse(self, what: str) -> NoReturn:
    raise InputError(f"--partition_file={self._path}: {what}; {_WAY_OUT}")

  def partition(self, text: str) -> SavedPartition:
    document = self._parsed(text)
    count, digest = document["train_examples"], document["content_sha256"]
    if type(count) is not int or not 1 <= count <= _MOST_EXAMPLES:
      self._refuse(f"train_examples is {_shown(count)}, not a number of examples")
    if not isinstance(digest, str) or not re.fullmatch("[0-9a-f]{64}", digest):
      self._refuse(f"content_sha256 is {_shown(digest)}, not 64 hexadecimal digits")
    if not isinstance(document["dataset"], str):
      self._refuse(f"dataset is {_shown(document['dataset'])}, not a name")
    clients = self._clients(document["clients"])
    lists = [document["public"]]
    for client in clients:
      lists += [client["training"], client["development"]]
    public, *parts = self._indices(lists, count)
    for number, training in enumerate(parts[::2]):
      if not len(training):
        self._refuse(f"clients[{number}] has no training examples")
    return SavedPartition(
      document["dataset"],
      count,
      digest,
      public,
      tuple(client["id"] for client in clients),
      tuple(parts[::2]),
      tuple(parts[1::2]),
    )

  def _parsed(self, text: str) -> dict[str, Any]:
    try:
      document = json.loads(text, object_pairs_hook=self._object)
    except RecursionError:
      self._refuse("is nested too deeply")
    except json.JSONDecodeError as error:
      self._refuse(f"is not JSON: line {error.lineno}: {error.msg}")
    except InputError:
      raise
    except ValueError:
      # Python reads no whole number of some thousand digits.
      self._refuse("holds a number that is far too long")
    if not isinstance(document, dict) or document.get("format") != FORMAT:
      self._refuse(f'is not a partition file: "format" is not "{FORMAT}"')
    version = document.get("version")
    if type(version) is not int or version != VERSION:
      self._refuse(f"is of version {_shown(version)}; this program reads {VERSION}")
    self._check_keys(document, _KEYS, "the file")
    return document

  def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
      self._refuse("names a field twice in one object")
    return made

  def _check_keys(self, found: Any, keys: Sequence[str], where: str) -> None:
    if not isinstance(found, dict):
      self._refuse(f"{where} is {_shown(found)}, not an object")
    for key in keys:
      if key not in found:
        self._refuse(f"{where} has no field {key}")
    if len(found) > len(keys):
      unknown = next(key for key in found if key not in keys)
      self._refuse(f"{where} has an unknown field {_shown(unknown)}")

  def _clients(self, clients: Any) -> list[dict[str, Any]]:
    if not isinstance(clients, list) or not clients:
      self._refuse("clients is not a list of at least one client")
    seen: dict[str, int] = {}
    for number, client in enumerate(clients):
      self._check_keys(client, _CLIENT_KEYS, f"clients[{number}]")
      name = client["id"]
      problem = texts.problem_of_name(name)
      if problem is not None:
        told = problem.encode("ascii", "backslashreplace").decode()
        self._refuse(f"clients[{number}].id {told}")
      first = seen.setdefault(name, number)
      if first != number:
        self._refuse(f"clients[{first}] and clients[{number}] are both {_shown(name)}")
    return clients

  def _indices(self, lists: list[Any], train_examples: int) -> list[Array]:
    for part, values in enumerate(lists):
      if not isinstance(values, list):
        self._refuse(f"{_part_name(part)} is {_shown(values)}, not a list of indices")
    ends = np.cumsum([len(values) for values in lists])

    def part_of(place: int) -> str:
      return _part_name(int(np.searchsorted(ends, place, "right")))

    flat = list(itertools.chain.from_iterable(lists))

    def is_index(value: Any) -> bool:
      # bool is an int to Python.
      return type(value) is int and 0 <= value < train_examples

    if not all(map(is_index, flat)):
      place, value = next(each for each in enumerate(flat) if not is_index(each[1]))
      self._refuse(
        f"{part_of(place)} holds {_shown(value)}, not an index below {train_examples}"
      )
    indices = np.array(flat, np.int64)
    order = np.argsort(indices, kind="stable")
    repeated = np.flatnonzero(np.diff(indices[order]) == 0)
    if len(repeated):
      first, second = order[repeated[0] : repeated[0] + 2]
      self._refuse(
        f"index {indices[first]} is in {part_of(first)} and again in {part_of(second)}"
      )
    bounds = [0, *ends.tolist()]
    return [np.sort(indices[first:last]) for first, last in itertools.pairwise(bounds)]
