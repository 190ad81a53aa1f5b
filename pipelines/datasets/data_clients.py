"""How many examples, and of which classes, each client has.

All functions are pure: who gets what goes in.
"""

import collections
import dataclasses
from collections.abc import Sequence
from typing import Any, Optional

import numpy as np

from fedtiny_tff.data import federation, scan
from fedtiny_tff.data.examples import DatasetInfo

# Clients whose label counts are told one by one; of more, the first.
SHOWN_CLIENTS = 100
# Label counts that are held at a time, whatever the population.
_COUNTS_AT_A_TIME = 1 << 20


@dataclasses.dataclass(frozen=True)
class Assigned:
  """A dataset, and who gets what of it.

  Attributes:
    info: Static facts.
    found: What a pass over it found.
    federation: Which training example belongs to whom.
    partitioner: How it was assigned: a partitioner's name, or "file".
    client_ids: Name of each client.
    anomalies: Labels that belong to nobody.
    notes: What a person should know of how it was read, a sentence each.
  """

  info: DatasetInfo
  found: scan.Scan
  federation: federation.Federation
  partitioner: str
  client_ids: tuple[str, ...]
  anomalies: tuple[int, ...] = ()
  notes: tuple[str, ...] = ()

  @property
  def wanted_classes(self) -> np.ndarray:
    """Which classes somebody may train on, bool [classes]."""
    return ~np.isin(np.arange(self.info.num_classes), self.anomalies)


def client_parts(assigned: federation.Federation, client: int) -> np.ndarray:
  """Returns the examples of a client: those it trains on, then its held-out part."""
  return np.concatenate([assigned.training[client], assigned.development[client]])


def client_sizes(assigned: federation.Federation) -> np.ndarray:
  """Returns int64 [clients, 2]: examples each trains on, and its held-out ones."""
  return np.array(
    [
      (len(training), len(held_out))
      for training, held_out in zip(
        assigned.training, assigned.development, strict=True
      )
    ],
    np.int64,
  ).reshape(-1, 2)


def label_counts(what: Assigned, clients: Sequence[int]) -> np.ndarray:
  """Counts the labels that clients hold, in their held-out parts too.

  Args:
    what: The labels and who has them.
    clients: Numbers of the clients.

  Returns:
    int64 [clients, classes].
  """
  labels, classes = what.found.train.labels, what.info.num_classes
  return np.array(
    [
      np.bincount(labels[client_parts(what.federation, client)], minlength=classes)
      for client in clients
    ],
    np.int64,
  ).reshape(-1, classes)


def figures(what: Assigned) -> dict[str, Any]:
  """Returns the clients' part of the document.

  A client does not miss a class that nobody may train on.
  """
  sizes = client_sizes(what.federation)
  totals = sizes.sum(axis=1)
  missing, missing_at = _missing(what, len(sizes))
  test = _own_test_examples(what, len(sizes))
  shown = range(min(len(sizes), SHOWN_CLIENTS))
  counts = label_counts(what, shown)
  return {
    "count": len(sizes),
    "partitioner": what.partitioner,
    "training_examples": int(sizes[:, 0].sum()),
    "held_out_examples": int(sizes[:, 1].sum()),
    "sizes": {
      "minimum": int(totals.min()),
      "percentile_10": float(np.percentile(totals, 10)),
      "median": float(np.median(totals)),
      "maximum": int(totals.max()),
    },
    "by_missing_classes": {
      str(number): clients
      for number, clients in sorted(collections.Counter(missing.tolist()).items())
    },
    "clients_missing_class": missing_at.tolist(),
    "of_one_class": int((missing == what.wanted_classes.sum() - 1).sum()),
    "of_one_example": int(np.count_nonzero(totals == 1)),
    "without_held_out_examples": int(np.count_nonzero(sizes[:, 1] == 0)),
    "without_test_examples": (
      None if test is None else int(np.count_nonzero(test == 0))
    ),
    "shown": len(shown),
    "label_by_client": [
      {
        "client": what.client_ids[client],
        "training_examples": int(sizes[client, 0]),
        "held_out_examples": int(sizes[client, 1]),
        "test_examples": None if test is None else int(test[client]),
        "examples_by_class": counts[client].tolist(),
      }
      for client in shown
    ],
  }


def _missing(what: Assigned, clients: int) -> tuple[np.ndarray, np.ndarray]:
  """Counts the wanted classes that each client lacks, and who lacks each class.

  Returns:
    int64 [clients], and int64 [classes].
  """
  wanted = what.wanted_classes
  lacking = []
  lacked = np.zeros(len(wanted), np.int64)
  step = max(_COUNTS_AT_A_TIME // len(wanted), 1)
  for first in range(0, clients, step):
    some = range(first, min(first + step, clients))
    is_missing = label_counts(what, some) == 0
    lacking.append(is_missing[:, wanted].sum(axis=1))
    lacked += is_missing.sum(axis=0)
  return np.concatenate(lacking), lacked


def _own_test_examples(what: Assigned, clients: int) -> Optional[np.ndarray]:
  """Counts the test examples that each client owns; None where nobody does."""
  test = what.found.test
  if test.owners is None:
    return None
  _, places = federation.test_order(test.owners, len(test), what.federation.clients)
  return places[:, 1].reshape(clients)
