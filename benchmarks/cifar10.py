"""CIFAR-10 cut into clients of equal size, as records that TFF's worker reads."""

import contextlib
import pathlib
import sys
import tempfile
from collections.abc import Iterator

import numpy as np

from fedtiny_tff.data import client_store
from fedtiny_tff.data.client_store import ClientReference, ClientStore
from fedtiny_tff.data.examples import TRAIN, fail_on_bad_record
from fedtiny_tff.data.sources import registry as sources
from fedtiny_tff.data.sources.options import SourceOptions

DATA_DIR = pathlib.Path("../shared/data/cifar10")
_HELD_OUT = 32


def is_available() -> bool:
  """Tells whether the dataset's files are where the benchmarks look for them."""
  return (DATA_DIR / "train.tfrecord").is_file()


def require() -> None:
  """Ends the benchmark with a reason where the dataset's files are absent."""
  if not is_available():
    print(f"skipped: CIFAR-10's train.tfrecord is not in {DATA_DIR}")
    sys.exit(0)


@contextlib.contextmanager
def federation(
  clients: int, examples_per_client: int
) -> Iterator[tuple[ClientStore, list[ClientReference]]]:
  """Writes the first training images to a store that lives as long as the context.

  Args:
    clients: Number of clients.
    examples_per_client: Images each of them trains on; 32 more are held out.
  """
  dataset = sources.load("cifar10", SourceOptions(str(DATA_DIR)))
  size = examples_per_client + _HELD_OUT
  count = clients * size
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / "clients.records"
    with path.open("wb") as file:
      writer = client_store.RecordWriter(file, np.arange(count), dataset.info)
      for batch in dataset.read(TRAIN, fail_on_bad_record):
        writer.add(batch)
      writer.finish()
    references = [
      ClientReference(
        *(np.int64(n) for n in (i, i * size, examples_per_client, _HELD_OUT))
      )
      for i in range(clients)
    ]
    yield ClientStore(str(path), dataset.info, count), references
