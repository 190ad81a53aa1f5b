"""Strong scaling over workers: the same round on one, two and four of them.

What clients compute is simulated by a pause, so that the processors of one machine
suffice; all else is real: every worker is a process of its own, asked over a socket, and
the clients train a small model after the pause.
"""

import contextlib
import tempfile
import time
from typing import Any

from benchmarks import population, results_file, slow_clients
from benchmarks.rounds_under_test import CONFIG, starting_state, tff_round
from fedtiny_tff.data.client_store import ClientReference
from fedtiny_tff.federated.runtimes import remote_runtime, worker_process
from fedtiny_tff.models import registry

_WORKERS = (1, 2, 4)
_CLIENTS = 16
# Before each of the two times that a client reads.
_PAUSE_SECONDS = 2.0
_READS = 2
_FIRST_PORT = 24_100


def _measure(folder: str, workers: int) -> float:
  """Returns the seconds of the second round over so many workers."""
  store, references = population.write(folder, _CLIENTS)
  found = registry.get_model("digits_cnn", (8, 8, 1), 10)
  clients = [ClientReference(*reference) for reference in references]
  slow = slow_clients.slow_store(store, _PAUSE_SECONDS)
  state = starting_state(found, 0.1)
  with contextlib.ExitStack() as stack:
    addresses = [f"127.0.0.1:{_FIRST_PORT + number}" for number in range(workers)]
    for address in addresses:
      stack.enter_context(worker_process.WorkerProcess(1, address))
    stack.enter_context(remote_runtime.RemoteRuntime(addresses))
    run = tff_round(found, CONFIG, slow, clients, state)
    run()
    start = time.perf_counter()
    run()
    spent = time.perf_counter() - start
  return spent


def main() -> None:
  """Runs the round over every number of workers."""
  with tempfile.TemporaryDirectory() as folder:
    seconds = {workers: _measure(folder, workers) for workers in _WORKERS}
  rows: list[dict[str, Any]] = [
    {
      "workers": workers,
      "clients": _CLIENTS,
      "pause_seconds_per_client": _READS * _PAUSE_SECONDS,
      "seconds_per_round": spent,
      "efficiency": seconds[1] / (workers * spent),
    }
    for workers, spent in seconds.items()
  ]
  results_file.publish("worker_scaling", rows)


if __name__ == "__main__":
  main()
