"""The pruning methods by name."""

from fedtiny_tff.errors import InputError
from fedtiny_tff.strategies import (
  base,
  feddst,
  federated_pruning,
  fedmef,
  fedrts,
  fedtiny,
  fl_pqsu,
  lotteryfl,
  prunefl,
  small_dense,
  snip,
  synflow,
)

STRATEGIES: dict[str, type[base.Strategy]] = {
  "fedavg": base.Strategy,
  "fedtiny": fedtiny.FedTiny,
  "prunefl": prunefl.PruneFL,
  "feddst": feddst.FedDST,
  "lotteryfl": lotteryfl.LotteryFL,
  "fedmef": fedmef.FedMef,
  "fedrts": fedrts.FedRTS,
  "fl_pqsu": fl_pqsu.FLPQSU,
  "snip": snip.SNIP,
  "synflow": synflow.SynFlow,
  "small_dense": small_dense.SmallDense,
  "federated_pruning": federated_pruning.FederatedPruning,
}


def get_strategy(name: str) -> base.Strategy:
  """Returns a strategy.

  Raises:
    InputError: When the name is unknown.
  """
  if name not in STRATEGIES:
    raise InputError(f"unknown strategy {name!r}: choose one of {', '.join(STRATEGIES)}")
  return STRATEGIES[name]()
