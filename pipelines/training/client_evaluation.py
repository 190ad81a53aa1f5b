"""How well the final model serves each client.

Every client is judged on its own test examples where the test split names owners, else
on its held-out part, which selection has seen. The central figure of the test split
stands beside this.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any, Optional

import numpy as np
import tensorflow as tf

from fedtiny_tff import seeds
from fedtiny_tff.data.client_store import ClientStore
from pipelines.datasets.data_folder import RunData
from pipelines.runs import metrics_log

COLUMNS = ("client", "examples", "correct", "accuracy")
# More are not needed for a percentile, and each costs a look into the records.
_MOST_CLIENTS = 1_000
_BATCH = 1_024


@dataclasses.dataclass(frozen=True)
class ClientFigures:
  """Accuracy by client.

  Attributes:
    judged_on: "test" or "held_out".
    clients: Their ids.
    clients_in_all: How many have examples to be judged on; they are drawn from these.
    examples: int64 [clients], on how many each was judged; at least one.
    correct: int64 [clients], how many were hit.
  """

  judged_on: str
  clients: tuple[str, ...]
  clients_in_all: int
  examples: np.ndarray
  correct: np.ndarray

  @property
  def accuracies(self) -> np.ndarray:
    """Share of hits of each client, float64 [clients]."""
    return self.correct / self.examples

  def summary(self) -> dict[str, Any]:
    """Returns the `client_accuracy` part of `report.json`."""
    shares = self.accuracies
    return {
      "judged_on": self.judged_on,
      "clients": len(self.clients),
      "clients_in_all": self.clients_in_all,
      "mean": round(float(shares.mean()), 6),
      "percentile_10": round(float(np.percentile(shares, 10)), 6),
      "worst": round(float(shares.min()), 6),
      "worst_client": self.clients[int(shares.argmin())],
    }

  def to_csv(self) -> str:
    """Returns the rows of `clients.csv`."""
    rows = [
      {
        "client": metrics_log.no_formula(client),
        "examples": int(examples),
        "correct": int(correct),
        "accuracy": round(int(correct) / int(examples), 6),
      }
      for client, examples, correct in zip(
        self.clients, self.examples, self.correct, strict=True
      )
    ]
    return metrics_log.to_csv(COLUMNS, rows)


def evaluate_clients(
  model: tf.keras.Model, data: RunData, seed: int
) -> Optional[ClientFigures]:
  """Judges a classifier client by client.

  Args:
    model: From model inputs to logits.
    data: The run's data.
    seed: Seed of the run; draws the clients where there are more than a thousand.

  Returns:
    Figures of the clients that have examples to be judged on; None without any.
  """
  on_test = bool((data.test_references[:, 1] > 0).any())
  if on_test:
    store = data.test
    places = np.asarray(data.test_references)
  else:
    store = data.clients
    references = np.asarray(data.references)
    places = np.stack([references[:, 1] + references[:, 2], references[:, 3]], axis=1)
  chosen = np.flatnonzero(places[:, 1] > 0)
  if not len(chosen):
    return None
  clients_in_all = len(chosen)
  if len(chosen) > _MOST_CLIENTS:
    generator = seeds.generator(seed, "judged_clients")
    chosen = np.sort(generator.choice(chosen, _MOST_CLIENTS, replace=False))
  correct = np.zeros(len(chosen), np.int64)
  for owners, inputs, labels in _batches(store, places[chosen]):
    hits = model(inputs, training=False).numpy().argmax(axis=1) == labels
    correct += np.bincount(owners[hits], minlength=len(chosen))
  return ClientFigures(
    "test" if on_test else "held_out",
    tuple(data.client_ids[client] for client in chosen),
    clients_in_all,
    places[chosen, 1],
    correct,
  )


def _batches(
  store: ClientStore, places: np.ndarray
) -> Iterator[tuple[np.ndarray, tf.Tensor, np.ndarray]]:
  """Reads clients one after another, and joins the small ones to batches."""
  owners: list[np.ndarray] = []
  records: list[tf.Tensor] = []
  waiting = 0
  for number, (first, count) in enumerate(places.tolist()):
    for start in range(0, count, _BATCH):
      part = min(_BATCH, count - start)
      records.append(store.read(first + start, part))
      owners.append(np.full(part, number))
      waiting += part
      if waiting >= _BATCH:
        yield _joined(store, owners, records)
        owners, records, waiting = [], [], 0
  if waiting:
    yield _joined(store, owners, records)


def _joined(
  store: ClientStore, owners: list[np.ndarray], records: list[tf.Tensor]
) -> tuple[np.ndarray, tf.Tensor, np.ndarray]:
  inputs, labels = store.decode(tf.concat(records, axis=0))
  return np.concatenate(owners), inputs, labels.numpy()
