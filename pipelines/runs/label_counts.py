"""Who holds which classes, and which class is taken for which: tables of a run.

`client_labels.csv` counts the examples of a client's training and held-out parts by
class. It tells of single clients, so that runs which hide their reports lack it.
`confusion.csv` counts the answers of the final sparse model on the test split.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from pipelines.datasets.data_folder import RunData
from pipelines.runs import metrics_log

CLIENT_COLUMNS = ("client", "label", "examples")
CONFUSION_COLUMNS = ("label", "answer", "examples")
# Each costs a look into the records, and pictures show no more.
_MOST_CLIENTS = 1_000


def confusion(labels: np.ndarray, answers: np.ndarray) -> str:
  """Returns the rows of `confusion.csv`; pairs that never occur are left out.

  Args:
    labels: int [n], what was right.
    answers: int [n], what was answered.
  """
  pairs, counts = np.unique(np.stack([labels, answers]), axis=1, return_counts=True)
  return _csv(CONFUSION_COLUMNS, (*pairs.astype(np.int64), counts))


def client_labels(data: RunData) -> str:
  """Returns the rows of `client_labels.csv`; pairs without examples are left out.

  Of more than a thousand clients, a thousand of every size are told.
  """
  found = list(_counted(data))
  columns = [np.concatenate(column) for column in zip(*found, strict=True)]
  names = [metrics_log.no_formula(data.client_ids[client]) for client in columns[0]]
  return _csv(CLIENT_COLUMNS, (names, columns[1], columns[2]))


def _counted(data: RunData) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
  """Yields client, label and count of the labels of a client."""
  for client in _told_clients(data.references[:, 2:].sum(axis=1)):
    where = data.reference(client)
    count = where.training_examples + where.development_examples
    records = data.clients.read(where.first_record, count)
    labels, counts = np.unique(data.clients.labels(records), return_counts=True)
    yield np.full(len(labels), client), labels, counts


def _told_clients(sizes: np.ndarray) -> list[int]:
  """Returns all clients, or evenly many of every size, in their order."""
  if len(sizes) <= _MOST_CLIENTS:
    return list(range(len(sizes)))
  by_size = np.argsort(sizes, kind="stable")
  places = np.linspace(0, len(sizes) - 1, _MOST_CLIENTS).round().astype(int)
  return np.sort(by_size[places]).tolist()


def _csv(names: tuple[str, ...], columns: tuple[Any, ...]) -> str:
  rows = [
    dict(zip(names, (_plain(value) for value in row), strict=True))
    for row in zip(*columns, strict=True)
  ]
  return metrics_log.to_csv(names, rows)


def _plain(value: object) -> object:
  return int(value) if isinstance(value, np.integer) else value
