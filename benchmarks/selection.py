"""What adaptive BN selection costs as the pool grows.

`seconds_per_candidate` is the slope and `fixed_seconds` the rest of the straight line
that fits all pools best; `seconds_to_line` tells how near a pool is to it. One round's
client training on the same clients stands beside it.
"""

import time
from typing import Any

import numpy as np

from benchmarks import cifar10, results_file
from benchmarks.rounds_under_test import CONFIG, starting_state, tff_round
from fedtiny_tff.federated.adaptive_selection import selection
from fedtiny_tff.federated.runtimes import runtime
from fedtiny_tff.models import registry
from fedtiny_tff.sparsity import candidates

_MODEL = "resnet8"
_DENSITY = 0.05
_POOLS = (1, 2, 4, 8, 16, 32)
_CLIENTS = 10
_REPEATS = 3


def main() -> None:
  """Measures every pool."""
  cifar10.require()
  found = registry.get_model(_MODEL, (32, 32, 3), 10)
  state = starting_state(found, _DENSITY)
  seconds = []
  with (
    cifar10.federation(_CLIENTS, 320) as (store, clients),
    runtime.LocalRuntime(),
  ):
    round_call = tff_round(found, CONFIG, store, clients, state)
    for pool_size in _POOLS:
      masks = candidates.candidate_masks(
        state.weights.prunable, found.spec, density=_DENSITY, pool_size=pool_size,
        layer_densities="noisy", seed=0,
      )  # fmt: skip
      select = selection.build_selection(
        found, store, candidates=pool_size,
        active_count=int(np.count_nonzero(masks[0])), batch_size=64,
      )  # fmt: skip
      pool = selection.make_pool(state.weights, masks)
      seconds.append(_fastest(lambda s=select, p=pool: s(p, clients)))
    round_seconds = _fastest(round_call)
  slope, fixed = np.polyfit(_POOLS, seconds, 1)
  rows: list[dict[str, Any]] = [
    {
      "model": _MODEL,
      "candidates": pool_size,
      "seconds": measured,
      "seconds_to_line": measured - (fixed + slope * pool_size),
      "fixed_seconds": float(fixed),
      "seconds_per_candidate": float(slope),
      "candidate_to_round": float(slope) / round_seconds,
    }
    for pool_size, measured in zip(_POOLS, seconds, strict=True)
  ]
  results_file.publish("selection", rows)


def _fastest(call: Any) -> float:
  call()
  times = []
  for _ in range(_REPEATS):
    start = time.perf_counter()
    call()
    times.append(time.perf_counter() - start)
  return min(times)


if __name__ == "__main__":
  main()
