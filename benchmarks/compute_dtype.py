"""A round that computes in bfloat16 against one in float32."""

import dataclasses
import sys
from typing import Any

from benchmarks import cifar10, results_file
from benchmarks.round_throughput import CASES, Case
from benchmarks.rounds_under_test import (
  CONFIG,
  fastest_seconds,
  starting_state,
  tff_round,
)
from fedtiny_tff.federated.runtimes import runtime
from fedtiny_tff.masked_models import compute_dtypes
from fedtiny_tff.models import registry

_CLIENTS = 10


def _measure(case: Case) -> dict[str, Any]:
  found = registry.get_model(case.model, (32, 32, 3), 10, case.width)
  state = starting_state(found, case.density)
  with (
    cifar10.federation(_CLIENTS, case.examples) as (store, clients),
    runtime.LocalRuntime(),
  ):
    calls = {
      dtype: tff_round(
        found, dataclasses.replace(CONFIG, compute_dtype=dtype), store, clients, state
      )
      for dtype in compute_dtypes.POLICIES
    }
    seconds = fastest_seconds(calls, case.repeats)
  images = _CLIENTS * case.examples
  return {
    "model": case.model,
    "width": case.width,
    "float32_images_per_second": images / seconds["float32"],
    "bfloat16_images_per_second": images / seconds["bfloat16"],
    "ratio": seconds["float32"] / seconds["bfloat16"],
  }


def main() -> None:
  """Measures every case, where the CPU has bfloat16."""
  if not compute_dtypes.cpu_has_bfloat16():
    print("compute_dtype: skipped, this CPU has neither AMX nor AVX512-BF16")
    sys.exit(0)
  cifar10.require()
  results_file.publish("compute_dtype", [_measure(case) for case in CASES])


if __name__ == "__main__":
  main()
