"""Resident memory of the driving process and of TFF's worker, by model and data size.

Two rounds of 10 clients with 320 or 2,000 images each; each case is a process of its
own, which knows where the images lie and never holds them.
"""

import json
import subprocess
import sys
from typing import Any

import psutil

from benchmarks import cifar10, results_file
from benchmarks.rounds_under_test import CONFIG, starting_state, tff_round
from fedtiny_tff.federated.runtimes import runtime
from fedtiny_tff.models import registry

# Model, width, images of each client.
_CASES = (
  ("resnet8", 1.0, 320),
  ("resnet8", 1.0, 2_000),
  ("resnet18", 1.0, 320),
  ("resnet18", 0.25, 320),
)
_CLIENTS = 10


def _rss_mb(pid: int) -> float:
  return psutil.Process(pid).memory_info().rss / 1e6


def measure(model: str, width: float, examples: int) -> dict[str, Any]:
  """Runs two rounds in this process."""
  found = registry.get_model(model, (32, 32, 3), 10, width)
  state = starting_state(found, 0.1)
  local = runtime.LocalRuntime()
  with cifar10.federation(_CLIENTS, examples) as (store, clients), local:
    call = tff_round(found, CONFIG, store, clients, state)
    for _ in range(2):
      call()
    worker = sum(_rss_mb(pid) for pid in local.worker_pids)
    driver = _rss_mb(psutil.Process().pid)
  return {
    "model": model,
    "width": width,
    "images": _CLIENTS * examples,
    "driver_rss_mb": driver,
    "worker_rss_mb": worker,
  }


def main() -> None:
  """Measures every case, or the one named on the command line."""
  if len(sys.argv) > 1:
    model, width, examples = sys.argv[1:]
    print(json.dumps(measure(model, float(width), int(examples))))
    return
  cifar10.require()
  rows = []
  for case in _CASES:
    command = [sys.executable, "-m", "benchmarks.memory", *map(str, case)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    rows.append(json.loads(done.stdout.splitlines()[-1]))
  results_file.publish("memory", rows)


if __name__ == "__main__":
  main()
