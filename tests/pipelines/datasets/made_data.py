"""Data to share out and write, and what then lies where."""

from typing import Any

import numpy as np

from fedtiny_tff.data import client_store, examples, federation, scan
from fedtiny_tff.data.client_store import ClientStore
from fedtiny_tff.data.preprocessing import Preprocessing
from fedtiny_tff.data.sources import registry as sources
from fedtiny_tff.data.sources.options import SourceOptions
from pipelines.datasets import data_plan
from pipelines.datasets.data_folder import RunData


def records(
  store: ClientStore, first: int = 0, count: int | None = None
) -> list[bytes]:
  """Reads records as they are stored, all of them by default."""
  count = store.num_records if count is None else count
  return [bytes(record) for record in store.read(first, count).numpy()]


def digits(split: str) -> list[bytes]:
  """Returns the records of a split of the digits."""
  dataset = sources.load("digits", SourceOptions())
  (batch,) = dataset.read(split, examples.fail_on_bad_record)
  return [bytes(record) for record in client_store.encode(batch, dataset.info)]


def parts(data: RunData) -> dict[str, list[bytes]]:
  """Returns the records of all places: public, test, and two per client."""
  found = {"public": records(data.public), "test": records(data.test)}
  for client in range(len(data.references)):
    _, first, training, held_out = map(int, data.reference(client))
    found[f"training {client}"] = records(data.clients, first, training)
    found[f"held out {client}"] = records(data.clients, first + training, held_out)
  return found


def toy_plan() -> Any:
  """Returns the `DataPlan` of ten examples of two pixels; example i holds (i, i)."""
  info = examples.DatasetInfo(
    "toy", (2,), "uint8", ("a", "b"), Preprocessing(1.0, (0.0,), (1.0,))
  )

  def read(split, on_bad_record):
    offset = 100 if split == "test" else 0
    pixels = np.arange(offset, offset + 10, dtype=np.uint8)
    yield examples.Batch(np.stack([pixels, pixels], axis=1), np.arange(10) % 2)

  dataset = examples.Dataset(info, read)
  made = federation.Federation(
    public=np.array([4]),
    training=(np.array([0, 9]), np.array([1, 2, 3])),
    development=(np.array([8]), np.array([5, 6])),
    clients=np.arange(2),
  )
  what = data_plan.Unwritten(dataset, scan.scan(dataset), made, "iid", ("0", "1"), {})
  return data_plan.DataPlan(info, 1, np.array([2, 3]), (), what)
