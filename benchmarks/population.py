"""Round time and memory when the population grows and the round does not.

Each population is measured in a process of its own: clients with 16 digits each, 10 of
them drawn for every round.
"""

import json
import pathlib
import subprocess
import sys
import tempfile
import time
from typing import Any

import numpy as np

from benchmarks import results_file
from benchmarks.rounds_under_test import CONFIG, starting_state
from fedtiny_tff import seeds
from fedtiny_tff.data import client_store
from fedtiny_tff.data.client_store import ClientReference, ClientStore
from fedtiny_tff.data.examples import TRAIN, Batch, fail_on_bad_record
from fedtiny_tff.data.sources import registry as sources
from fedtiny_tff.data.sources.options import SourceOptions
from fedtiny_tff.federated.runtimes import runtime
from fedtiny_tff.federated.training_rounds import rounds
from fedtiny_tff.models import registry
from fedtiny_tff.strategies import base
from pipelines.apps import process_memory

_POPULATIONS = (10, 1_000, 100_000)
_EXAMPLES = 16
_CLIENTS_PER_ROUND = 10
_ROUNDS = 30
_WARM_UP_ROUNDS = 5
_WRITTEN_AT_A_TIME = 1_024


def write(folder: str, population: int) -> tuple[ClientStore, np.ndarray]:
  """Writes clients of 16 digits each; returns where and how to read them."""
  dataset = sources.load("digits", SourceOptions())
  (digits,) = dataset.read(TRAIN, fail_on_bad_record)
  count = population * _EXAMPLES
  path = pathlib.Path(folder) / "clients.records"
  with path.open("wb") as file:
    writer = client_store.RecordWriter(file, np.arange(count), dataset.info)
    for first in range(0, count, _WRITTEN_AT_A_TIME):
      chosen = np.arange(first, min(first + _WRITTEN_AT_A_TIME, count))
      chosen %= len(digits.labels)
      writer.add(Batch(digits.features[chosen], digits.labels[chosen]))
    writer.finish()
  numbers = np.arange(population, dtype=np.int64)
  full = np.full(population, _EXAMPLES, np.int64)
  index = pathlib.Path(folder) / "clients.npy"
  np.save(index, np.stack([numbers, numbers * _EXAMPLES, full, full * 0], axis=1))
  store = ClientStore(str(path), dataset.info, count)
  return store, np.load(index, mmap_mode="r", allow_pickle=False)


def measure(population: int) -> dict[str, Any]:
  """Runs rounds over one population in this process."""
  found = registry.get_model("digits_cnn", (8, 8, 1), 10)
  state = starting_state(found, 0.1)
  seconds = []
  with tempfile.TemporaryDirectory() as folder, runtime.LocalRuntime():
    store, references = write(folder, population)
    builder = rounds.RoundBuilder(
      found, store, CONFIG, base.Strategy(), (),
      active_count=int(np.count_nonzero(state.mask)), seed=0,
    )  # fmt: skip
    for number in range(_ROUNDS):
      start = time.perf_counter()
      generator = seeds.generator(0, "participants", number)
      drawn = generator.choice(population, _CLIENTS_PER_ROUND, replace=False)
      clients = [ClientReference(*references[client]) for client in sorted(drawn)]
      instruction = builder.instruction(number, 0.05)
      state, _ = builder.computation(number).run(state, clients, instruction)
      seconds.append(time.perf_counter() - start)
    rss_mb = process_memory.ProcessFamily().look().rss_mb
  return {
    "clients": population,
    "seconds_per_round": float(np.median(seconds[_WARM_UP_ROUNDS:])),
    "rss_mb": rss_mb,
  }


def main() -> None:
  """Measures every population, or the one named on the command line."""
  if len(sys.argv) > 1:
    print(json.dumps(measure(int(sys.argv[1]))))
    return
  rows = []
  for population in _POPULATIONS:
    command = [sys.executable, "-m", "benchmarks.population", str(population)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    rows.append(json.loads(done.stdout.splitlines()[-1]))
  results_file.publish("population", rows)


if __name__ == "__main__":
  main()
